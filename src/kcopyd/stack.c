/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "stack.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <linux/major.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "dm_table.h"

/* How many devices may stand on one another; partitions do not count. */
#define MAX_LEVELS 16

/* One line of an attribute; @dir is of a device. */
static int read_text(int dir, const char *name, char *text, size_t size)
{
	int fd = openat(dir, name, O_RDONLY | O_CLOEXEC), ret = 0;
	ssize_t length;

	if (fd < 0)
		return -errno;
	length = read(fd, text, size - 1);
	if (length < 0)
		ret = -errno;
	else
		text[length] = '\0';
	close(fd);
	return ret;
}

static int read_sector(int dir, const char *name, sector_t *sector)
{
	char text[32];
	unsigned long long number;
	int ret = read_text(dir, name, text, sizeof(text));

	if (ret)
		return ret;
	if (sscanf(text, "%llu", &number) != 1)
		return -EIO;
	*sector = number;
	return 0;
}

static int read_number(int dir, const char *name, dev_t *rdev)
{
	char text[32];
	unsigned int major, minor;
	int ret = read_text(dir, name, text, sizeof(text));

	if (ret)
		return ret;
	if (sscanf(text, "%u:%u", &major, &minor) != 2)
		return -EIO;
	*rdev = makedev(major, minor);
	return 0;
}

/*
 * Each of these adds what the device @rdev is, @level devices below the one that was opened. Whatever keeps us from
 * knowing is an error: an overlap that is not seen destroys data.
 */
static int find(dev_t rdev, int fd, unsigned int level, struct identity *identity);

/* @fd: on the device that the leg stands on, or -1. */
static int follow(const struct piece *leg, int fd, unsigned int level, struct identity *identity)
{
	struct identity below = { 0 };
	int ret = find(leg->disk, fd, level, &below);

	if (ret == 0)
		ret = identity_add_through(identity, leg, &below);
	identity_release(&below);
	return ret;
}

/* Its 'start', 'size', and, in its parent directory, the disk's 'dev'. */
static int find_partition(int dir, int fd, unsigned int level, struct identity *identity)
{
	struct piece leg = { .is_exact = true };
	int ret;

	ret = read_sector(dir, "start", &leg.base_sector);
	if (ret == 0)
		ret = read_sector(dir, "size", &leg.count);
	if (ret == 0)
		ret = read_number(dir, "../dev", &leg.disk);
	if (ret)
		return ret;
	leg.base_count = leg.count;
	return follow(&leg, fd, level, identity);
}

/* The loop device of that number, to ask it. */
static int open_loop(dev_t rdev)
{
	char link[64], target[256], path[300];
	struct stat st;
	ssize_t length;
	int fd;

	snprintf(link, sizeof(link), "/sys/dev/block/%u:%u", major(rdev), minor(rdev));
	length = readlink(link, target, sizeof(target) - 1);
	if (length < 0)
		return -errno;
	target[length] = '\0';
	if (!strrchr(target, '/'))
		return -ENOENT;
	snprintf(path, sizeof(path), "/dev%s", strrchr(target, '/'));
	fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) == 0 && S_ISBLK(st.st_mode) && st.st_rdev == rdev)
		return fd;
	close(fd);
	return -ENODEV;
}

/* What @info says of sectors that begin at @sector of what backs the loop device. */
static int add_backing(const struct loop_info64 *info, sector_t sector, unsigned int level, struct identity *identity)
{
	sector_t count = info->lo_sizelimit ? info->lo_sizelimit / KCOPYD_SECTOR_BYTES : PIECE_TO_END;
	struct piece leg = { .count = count, .base_sector = sector, .base_count = count, .is_exact = true };

	if (info->lo_rdevice) {
		leg.disk = (dev_t)info->lo_rdevice;
		return follow(&leg, -1, level + 1, identity);
	}
	leg.disk = (dev_t)info->lo_device;
	leg.inode = (ino_t)info->lo_inode;
	return identity_add(identity, &leg);
}

static int find_loop(dev_t rdev, int fd, unsigned int level, struct identity *identity)
{
	struct loop_info64 info = { 0 }; /* valgrind does not know the call */
	int asked = fd >= 0 ? fd : open_loop(rdev), ret = 0;
	sector_t sector;

	if (asked < 0)
		return asked;
	if (ioctl(asked, LOOP_GET_STATUS64, &info))
		ret = -errno;
	if (asked != fd)
		close(asked);
	if (ret == -ENXIO && level == 0)
		return identity_add_whole(identity, rdev, 0); /* nothing is attached: it is what it is, and empty */
	if (ret)
		return ret;
	sector = info.lo_offset / KCOPYD_SECTOR_BYTES;
	ret = add_backing(&info, sector, level, identity);
	if (ret == 0 && info.lo_offset % KCOPYD_SECTOR_BYTES)
		ret = add_backing(&info, sector + 1, level, identity);
	return ret;
}

/* @leg: opaque; it stands on every device in 'slaves' (a symbolic link each), on all of it. */
static int find_slaves(int dir, struct piece leg, unsigned int level, struct identity *identity)
{
	int slaves = openat(dir, "slaves", O_RDONLY | O_DIRECTORY | O_CLOEXEC), ret = 0;
	char path[NAME_MAX + 8];
	struct dirent *entry;
	DIR *list;

	if (slaves < 0)
		return errno == ENOENT ? 0 : -errno;
	list = fdopendir(slaves);
	if (!list) {
		ret = -errno;
		close(slaves);
		return ret;
	}
	leg.base_sector = 0;
	leg.base_count = PIECE_TO_END;
	while (ret == 0 && (errno = 0, entry = readdir(list))) {
		if (entry->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "%s/dev", entry->d_name);
		ret = read_number(slaves, path, &leg.disk);
		if (ret == 0)
			ret = follow(&leg, -1, level + 1, identity);
	}
	if (ret == 0)
		ret = -errno;
	closedir(list);
	return ret;
}

static int find_target(dev_t rdev, int dir, const struct dm_target *target, unsigned int level,
		       struct identity *identity)
{
	struct piece leg;
	int ret;

	for (unsigned int n = 0; (ret = dm_target_leg(target, n, &leg)) > 0; n++) {
		leg.holder = rdev;
		ret = follow(&leg, -1, level + 1, identity);
		if (ret)
			return ret;
	}
	if (ret == 0)
		return 0;
	leg = (struct piece){ .sector = target->sector, .count = target->count, .holder = rdev };
	return find_slaves(dir, leg, level, identity);
}

static int find_mapped(dev_t rdev, int dir, unsigned int level, struct identity *identity)
{
	struct piece leg = { .count = PIECE_TO_END, .holder = rdev, .is_uncertain = true };
	struct dm_table table;
	struct dm_target target;
	int ret;

	ret = identity_add_whole(identity, rdev, 0);
	if (ret)
		return ret;
	if (dm_table_read(rdev, &table))
		return find_slaves(dir, leg, level, identity);
	while ((ret = dm_table_next(&table, &target)) > 0) {
		ret = find_target(rdev, dir, &target, level, identity);
		if (ret)
			break;
	}
	dm_table_free(&table);
	return ret;
}

/* A disk, or one that is made of others: md, bcache. */
static int find_whole(dev_t rdev, int dir, unsigned int level, struct identity *identity)
{
	struct piece leg = { .count = PIECE_TO_END, .holder = rdev };
	int ret = identity_add_whole(identity, rdev, 0);

	return ret ? ret : find_slaves(dir, leg, level, identity);
}

static int find(dev_t rdev, int fd, unsigned int level, struct identity *identity)
{
	char path[48];
	int dir, ret;

	if (level > MAX_LEVELS)
		return -ELOOP;
	snprintf(path, sizeof(path), "/sys/dev/block/%u:%u", major(rdev), minor(rdev));
	dir = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return -errno;
	if (faccessat(dir, "partition", F_OK, 0) == 0)
		ret = find_partition(dir, fd, level, identity);
	else if (errno != ENOENT)
		ret = -errno;
	else if (major(rdev) == LOOP_MAJOR)
		ret = find_loop(rdev, fd, level, identity);
	else if (faccessat(dir, "dm", F_OK, 0) == 0)
		ret = find_mapped(rdev, dir, level, identity);
	else if (errno != ENOENT)
		ret = -errno;
	else
		ret = find_whole(rdev, dir, level, identity);
	close(dir);
	return ret;
}

int stack_find(int fd, dev_t rdev, struct identity *identity)
{
	return find(rdev, fd, 0, identity);
}
