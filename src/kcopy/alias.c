/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "alias.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/major.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

/* Devices that may have something to do with one another; the overlap is looked at later. */
struct family {
	dev_t *members; /* owned */
	size_t num, room;
	int error; /* -ENOMEM */
};

static void add(struct family *family, dev_t rdev)
{
	dev_t *members;

	for (size_t i = 0; i < family->num; i++)
		if (family->members[i] == rdev)
			return;
	if (family->num == family->room) {
		members = reallocarray(family->members, family->room + 32, sizeof(members[0]));
		if (!members) {
			family->error = -ENOMEM;
			return;
		}
		family->members = members;
		family->room += 32;
	}
	family->members[family->num++] = rdev;
}

/* The device number in a file of sysfs, in a directory's entry, or 0. */
static dev_t read_number(const char *directory, const char *entry, const char *file)
{
	unsigned int major_number, minor_number;
	char path[600];
	FILE *stream;
	dev_t ret = 0;

	snprintf(path, sizeof(path), "%s/%s/%s", directory, entry, file);
	stream = fopen(path, "re");
	if (!stream)
		return 0;
	if (fscanf(stream, "%u:%u", &major_number, &minor_number) == 2)
		ret = makedev(major_number, minor_number);
	fclose(stream);
	return ret;
}

/* The devices that links in a directory of sysfs mean. */
static void add_links(struct family *family, const char *directory)
{
	struct dirent *entry;
	DIR *dir = opendir(directory);

	while (dir && (entry = readdir(dir))) {
		dev_t rdev = entry->d_name[0] == '.' ? 0 : read_number(directory, entry->d_name, "dev");

		if (rdev)
			add(family, rdev);
	}
	if (dir)
		closedir(dir);
}

dev_t alias_whole_disk(dev_t rdev)
{
	char path[96], partition[128];
	dev_t disk = 0;

	snprintf(path, sizeof(path), "/sys/dev/block/%u:%u", major(rdev), minor(rdev));
	snprintf(partition, sizeof(partition), "%s/partition", path);
	if (access(partition, F_OK) == 0)
		disk = read_number(path, "..", "dev");
	return disk ? disk : rdev;
}

/* The device's name in sysfs, in @target. NULL: there is none. */
static const char *find_name(dev_t rdev, char target[512])
{
	const char *slash;
	char link[64];
	ssize_t length;

	snprintf(link, sizeof(link), "/sys/dev/block/%u:%u", major(rdev), minor(rdev));
	length = readlink(link, target, 511);
	if (length < 0)
		return NULL;
	target[length] = '\0';
	slash = strrchr(target, '/');
	return slash ? slash + 1 : target;
}

void alias_walk_partitions(dev_t disk, struct alias_walk *walk)
{
	char target[512];
	const char *name = find_name(disk, target);

	snprintf(walk->path, sizeof(walk->path), "/sys/dev/block/%u:%u", major(disk), minor(disk));
	snprintf(walk->disk, sizeof(walk->disk), "%s", name ? name : "");
	walk->dir = opendir(walk->path);
}

const char *alias_next_partition(struct alias_walk *walk)
{
	struct dirent *entry;
	char path[600];

	while (walk->dir && (entry = readdir(walk->dir))) {
		/* disk->disk_name "%s%d" or "%sp%d", in the kernel's partitions/core.c; most entries are something else. */
		if (entry->d_name[0] == '.' || strncmp(entry->d_name, walk->disk, strlen(walk->disk)) != 0)
			continue;
		snprintf(path, sizeof(path), "%s/%s/partition", walk->path, entry->d_name);
		if (access(path, F_OK) == 0)
			return entry->d_name;
	}
	return NULL;
}

void alias_end_walk(struct alias_walk *walk)
{
	if (walk->dir)
		closedir(walk->dir);
	walk->dir = NULL;
}

static void add_partitions(struct family *family, dev_t disk)
{
	struct alias_walk walk = { .dir = NULL };
	const char *name;

	alias_walk_partitions(disk, &walk);
	while ((name = alias_next_partition(&walk))) {
		dev_t rdev = read_number(walk.path, name, "dev");

		if (rdev)
			add(family, rdev);
	}
	alias_end_walk(&walk);
}

char *alias_path(dev_t rdev)
{
	char target[512], *path = NULL;
	const char *name = find_name(rdev, target);

	if (!name || asprintf(&path, "/dev/%s", name) < 0)
		return NULL;
	for (char *bang = strchr(path, '!'); bang; bang = strchr(bang, '!'))
		*bang = '/'; /* as the kernel writes cciss/c0d0 */
	return path;
}

int alias_open(const char *path, dev_t rdev, int flags)
{
	struct stat st;
	int fd = open(path, flags | O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);

	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) == 0 && S_ISBLK(st.st_mode) && st.st_rdev == rdev)
		return fd;
	close(fd);
	return -ENOENT;
}

int alias_ask_loop(dev_t rdev, struct loop_info64 *info)
{
	char *path = alias_path(rdev);
	int fd = path ? alias_open(path, rdev, 0) : -ENXIO, ret;

	free(path);
	if (fd < 0)
		return fd;
	ret = ioctl(fd, LOOP_GET_STATUS64, info) ? -errno : 0;
	close(fd);
	return ret;
}

/* What @upper stands on, and itself. */
static void add_below(struct family *family, dev_t upper)
{
	add(family, upper);
	for (size_t i = 0; i < family->num; i++) {
		dev_t rdev = family->members[i], disk = alias_whole_disk(rdev);
		struct loop_info64 info = { 0 };
		char path[96];

		add(family, disk);
		snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/slaves", major(disk), minor(disk));
		add_links(family, path);
		if (major(disk) == LOOP_MAJOR && alias_ask_loop(disk, &info) == 0 && info.lo_rdevice)
			add(family, (dev_t)info.lo_rdevice);
	}
}

static void add_holders(struct family *family, dev_t rdev)
{
	char path[96];

	snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/holders", major(rdev), minor(rdev));
	add_links(family, path);
}

int alias_ask_holders(dev_t rdev, dev_t upper)
{
	struct family holders = { .members = NULL }, below = { .members = NULL };
	int ret = 0;

	add_holders(&holders, rdev);
	add_holders(&holders, alias_whole_disk(rdev));
	if (holders.num > 0) {
		ret = -EBUSY;
		add_below(&below, upper);
	}
	for (size_t i = 0; i < holders.num; i++)
		for (size_t j = 0; j < below.num; j++)
			if (holders.members[i] == below.members[j])
				ret = 1;
	free(holders.members);
	free(below.members);
	return ret;
}

/* A partition's disk, a disk's partitions, what is below and above. sysfs does not say what is below a loop device. */
static void add_relatives(struct family *family, dev_t rdev)
{
	dev_t disk = alias_whole_disk(rdev);
	struct loop_info64 info = { 0 };
	char path[96], below[128];
	int ret;

	if (major(disk) == LOOP_MAJOR) {
		ret = alias_ask_loop(disk, &info);
		if (ret == 0 && info.lo_rdevice)
			add(family, (dev_t)info.lo_rdevice);
		else if (ret && ret != -ENXIO && !family->error)
			family->error = ret;
	}

	add(family, disk);
	snprintf(path, sizeof(path), "/sys/dev/block/%u:%u", major(rdev), minor(rdev));
	if (disk == rdev)
		add_partitions(family, disk);
	snprintf(below, sizeof(below), "%s/slaves", path);
	add_links(family, below);
	snprintf(below, sizeof(below), "%s/holders", path);
	add_links(family, below);
}

/*
 * A loop device that we may not open: sysfs names its file for everybody. True: that is a regular file, and another than
 * the region's, and the region is not on a loop device itself.
 */
static bool is_elsewhere(const struct io_region *region, dev_t rdev)
{
	char path[96], name[PATH_MAX] = "";
	struct stat own, st;
	FILE *file;

	snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/loop/backing_file", major(rdev), minor(rdev));
	file = fopen(path, "re");
	if (!file)
		return false;
	if (fgets(name, sizeof(name), file))
		name[strcspn(name, "\n")] = '\0';
	fclose(file);
	if (fstat(kcopyd_device_fd(region->bdev), &own) || stat(name, &st) || !S_ISREG(st.st_mode))
		return false;
	if (S_ISBLK(own.st_mode))
		return major(own.st_rdev) != LOOP_MAJOR;
	return own.st_dev != st.st_dev || own.st_ino != st.st_ino;
}

/* An empty drive, or a loop device that stands on nothing any more. */
static bool is_empty_error(int error)
{
	return error == -ENXIO || error == -ENOMEDIUM || error == -ENODEV;
}

/* Not ours to ask: an ordinary user's, or a container's that has no node of it. */
static bool is_not_ours_error(int error)
{
	return error == -EACCES || error == -EPERM || error == -ENOENT;
}

/* 1: it is another name of the region's; 0: it is not, or holds nothing (an empty drive). @path: owned by the caller. */
static int ask_member(const struct io_region *region, dev_t rdev, char **path)
{
	int fd, ret;

	*path = alias_path(rdev);
	if (!*path)
		return 0; /* it has gone */
	fd = alias_open(*path, rdev, 0);
	if (is_empty_error(fd) || (is_not_ours_error(fd) && is_elsewhere(region, rdev)))
		return 0;
	if (fd < 0)
		return fd;
	ret = kcopyd_region_is_behind(region, fd);
	close(fd);
	return ret == -ENXIO ? 0 : ret;
}

static int add_alias(struct aliases *aliases, dev_t rdev, char *path)
{
	struct alias *items = reallocarray(aliases->items, aliases->num + 1, sizeof(items[0]));

	if (!items) {
		free(path);
		return -ENOMEM;
	}
	aliases->items = items;
	items[aliases->num++] = (struct alias){ .path = path, .rdev = rdev };
	return 0;
}

/* -- loop devices -------------------------------------------------------------------------------- */

/* Most stand on a file with which nobody has anything to do, and that is cheap to see. */
static bool is_on_other_file(const struct io_region *regions, unsigned int num, const char *name)
{
	struct loop_info64 info = { 0 }; /* valgrind does not know the call */
	char path[300], own[32];
	int fd;
	bool ret;

	snprintf(path, sizeof(path), "/dev/%s", name);
	fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
	if (fd < 0)
		return false;
	ret = ioctl(fd, LOOP_GET_STATUS64, &info) == 0 && !info.lo_rdevice && info.lo_inode;
	close(fd);
	snprintf(own, sizeof(own), "loop%u", info.lo_number);
	ret = ret && strcmp(name, own) == 0;
	for (unsigned int i = 0; ret && i < num; i++)
		ret = !regions[i].bdev || !kcopyd_device_is_on_file(regions[i].bdev, info.lo_device, info.lo_inode);
	return ret;
}

/*
 * Those that may stand on one of the regions. They are virtual devices all; and to ask for their attributes there takes
 * less than half of the time that it takes by the links in /sys/block. There may be hundreds, most of them unused.
 */
static void find_loops(const struct io_region *regions, unsigned int num, struct family *loops)
{
	const char *directory = "/sys/devices/virtual/block";
	struct dirent *entry;
	char path[NAME_MAX + 32];
	DIR *dir = opendir(directory);

	if (!dir) {
		directory = "/sys/block";
		dir = opendir(directory);
	}
	while (dir && (entry = readdir(dir))) {
		dev_t rdev;

		if (strncmp(entry->d_name, "loop", 4) != 0)
			continue;
		snprintf(path, sizeof(path), "%s/loop/backing_file", entry->d_name);
		if (faccessat(dirfd(dir), path, F_OK, 0) || is_on_other_file(regions, num, entry->d_name))
			continue;
		rdev = read_number(directory, entry->d_name, "dev");
		if (rdev)
			add(loops, rdev);
	}
	if (dir)
		closedir(dir);
}

static void ask_loop(const struct io_region *regions, unsigned int num, struct alias_loop *loop)
{
	char *path = alias_path(loop->rdev);
	int fd = path ? alias_open(path, loop->rdev, 0) : -ENXIO; /* it has gone */

	free(path);
	if (is_empty_error(fd))
		return;
	loop->error = fd < 0 ? fd : kcopyd_regions_are_behind(regions, num, fd, &loop->behind);
	if (fd >= 0)
		close(fd);
	if (loop->error == 0 || loop->error == -ENXIO)
		return;
	for (unsigned int i = 0; i < num; i++)
		if (regions[i].bdev && !(is_not_ours_error(fd) && is_elsewhere(&regions[i], loop->rdev)))
			loop->unknown |= (uint64_t)1 << i;
}

/* A loop device says what it stands on, but nothing says which loop devices stand on it: each of them is asked. */
void alias_ask_loops(const struct io_region *regions, unsigned int num, struct alias_loops *loops)
{
	struct family found = { .members = NULL };

	*loops = (struct alias_loops){ .items = NULL };
	find_loops(regions, num, &found);
	loops->error = found.error;
	loops->items = found.num ? calloc(found.num, sizeof(loops->items[0])) : NULL;
	if (found.num && !loops->items)
		loops->error = -ENOMEM;
	for (size_t i = 0; loops->items && i < found.num; i++) {
		loops->items[i].rdev = found.members[i];
		ask_loop(regions, num, &loops->items[i]);
		loops->num++;
	}
	free(found.members);
}

void alias_free_loops(struct alias_loops *loops)
{
	free(loops->items);
	*loops = (struct alias_loops){ .items = NULL };
}

static int add_loops(struct family *family, const struct alias_loops *loops, unsigned int index)
{
	int ret = 0;

	for (size_t i = 0; i < loops->num; i++) {
		const struct alias_loop *loop = &loops->items[i];

		if (loop->behind >> index & 1)
			add(family, loop->rdev);
		else if ((loop->unknown >> index & 1) && ret == 0)
			ret = loop->error;
	}
	return ret ? ret : loops->error;
}

/* ------------------------------------------------------------------------------------------------ */

int aliases_find(const struct io_region *region, const struct alias_loops *loops, unsigned int index,
		 struct aliases *aliases)
{
	struct family family = { .members = NULL };
	struct stat st;
	int ret, error;
	dev_t own;

	*aliases = (struct aliases){ .items = NULL };
	if (fstat(kcopyd_device_fd(region->bdev), &st))
		return -errno;
	own = S_ISBLK(st.st_mode) ? st.st_rdev : 0;
	if (own)
		add(&family, own);
	ret = add_loops(&family, loops, index);
	for (size_t i = 0; i < family.num; i++)
		add_relatives(&family, family.members[i]);
	for (size_t i = 0; i < family.num; i++) {
		char *path = NULL;

		if (family.members[i] == own)
			continue;
		error = ask_member(region, family.members[i], &path);
		if (error == 1) {
			error = add_alias(aliases, family.members[i], path);
			path = NULL;
		}
		free(path);
		if (error && ret == 0)
			ret = error;
	}
	free(family.members);
	return ret ? ret : family.error;
}

void aliases_free(struct aliases *aliases)
{
	for (size_t i = 0; i < aliases->num; i++)
		free(aliases->items[i].path);
	free(aliases->items);
	*aliases = (struct aliases){ .items = NULL };
}
