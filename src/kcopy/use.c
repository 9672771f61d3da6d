/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "use.h"

#include <dirent.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "text.h"

/* \ooo, as /proc/self/mountinfo and /proc/swaps write blanks; in place. */
static void unescape(char *text)
{
	char *out = text;

	for (; *text; out++) {
		if (text[0] == '\\' && text[1] >= '0' && text[1] <= '3' && text[2] >= '0' && text[2] <= '7' &&
		    text[3] >= '0' && text[3] <= '7') {
			*out = (char)((text[1] - '0') * 64 + (text[2] - '0') * 8 + text[3] - '0');
			text += 4;
		} else {
			*out = *text++;
		}
	}
	*out = '\0';
}

static bool is_device(const char *path, dev_t rdev)
{
	struct stat st;

	return path[0] == '/' && stat(path, &st) == 0 && S_ISBLK(st.st_mode) && st.st_rdev == rdev;
}

static char *quote(const char *what, char *name)
{
	char *printable, *ret = NULL;

	unescape(name);
	printable = text_printable(name);
	if (!printable || asprintf(&ret, "%s %s", what, printable) < 0)
		ret = NULL;
	free(printable);
	return ret;
}

/*
 * A line of proc(5)'s mountinfo: "id parent major:minor root mount-point options [...] - type source options". The last
 * options are the file system's own: read-only there means that nobody writes, whatever a bind mount says.
 */
static bool is_mount_of(char *line, dev_t rdev, char **mount_point, bool *is_writable)
{
	unsigned int major_number, minor_number;
	char *rest = strstr(line, " - "), *save = NULL, *field = NULL, *source, *options;

	if (!rest || sscanf(line, "%*u %*u %u:%u", &major_number, &minor_number) != 2)
		return false;
	*rest = '\0';
	strtok_r(rest + 3, " ", &save);
	source = strtok_r(NULL, " ", &save);
	options = strtok_r(NULL, " \n", &save);
	*is_writable = !options || strncmp(options, "ro", 2) != 0 || (options[2] && options[2] != ',');
	field = strtok_r(line, " ", &save);
	for (int i = 0; i < 4 && field; i++)
		field = strtok_r(NULL, " ", &save);
	if (!field)
		return false;
	*mount_point = field;
	if (makedev(major_number, minor_number) == rdev)
		return true;
	/* btrfs and others have a number of their own; the source names the device. */
	if (!source)
		return false;
	unescape(source);
	return is_device(source, rdev);
}

/* @only_writable: a file system that is read-only does not count. */
static char *find_mount(dev_t rdev, bool only_writable)
{
	FILE *file = fopen("/proc/self/mountinfo", "re");
	char *line = NULL, *mount_point, *ret = NULL;
	bool is_writable;
	size_t size = 0;

	while (file && !ret && getline(&line, &size, file) > 0)
		if (is_mount_of(line, rdev, &mount_point, &is_writable) && (is_writable || !only_writable))
			ret = quote("mounted on", mount_point);
	free(line);
	if (file)
		fclose(file);
	return ret;
}

static bool is_file(const char *path, dev_t device, ino_t inode)
{
	struct stat st;

	return path[0] == '/' && stat(path, &st) == 0 && S_ISREG(st.st_mode) && st.st_dev == device &&
	       st.st_ino == inode;
}

/* The first of /proc/swaps that is the device @rdev or, with @rdev 0, the file. */
static char *find_swap(dev_t rdev, dev_t device, ino_t inode)
{
	FILE *file = fopen("/proc/swaps", "re");
	char *line = NULL, *ret = NULL;
	size_t size = 0;

	while (file && !ret && getline(&line, &size, file) > 0) {
		line[strcspn(line, " \t\n")] = '\0';
		unescape(line);
		if (rdev ? is_device(line, rdev) : is_file(line, device, inode))
			ret = strdup("active swap");
	}
	free(line);
	if (file)
		fclose(file);
	return ret;
}

static dev_t read_number(const char *path)
{
	unsigned int major_number, minor_number;
	FILE *file = fopen(path, "re");
	dev_t ret = 0;

	if (!file)
		return 0;
	if (fscanf(file, "%u:%u", &major_number, &minor_number) == 2)
		ret = makedev(major_number, minor_number);
	fclose(file);
	return ret;
}

/* A device-mapper device has a name that people know; and what the holder is used for says more. */
static char *name_holder(const char *holder, bool *is_used)
{
	char path[320], name[160] = "", *use = NULL, *printable, *ret = NULL;
	FILE *file;
	dev_t rdev;

	snprintf(path, sizeof(path), "/sys/class/block/%s/dm/name", holder);
	file = fopen(path, "re");
	if (file) {
		if (fgets(name, sizeof(name), file))
			name[strcspn(name, "\n")] = '\0';
		fclose(file);
	}
	snprintf(path, sizeof(path), "/sys/class/block/%s/dev", holder);
	rdev = read_number(path);
	if (rdev)
		use = use_describe_own(rdev);
	*is_used = use;
	printable = text_printable(name);
	if (asprintf(&ret, "held by %s%s%s%s%s%s", holder, name[0] ? " (" : "", printable ? printable : "",
		     name[0] ? ")" : "", use ? ", " : "", use ? use : "") < 0)
		ret = NULL;
	free(printable);
	free(use);
	return ret;
}

/* Of several, one that is used for something. */
static char *find_holder(dev_t rdev)
{
	char path[96], *ret = NULL;
	struct dirent *entry;
	bool is_used = false;
	DIR *dir;

	snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/holders", major(rdev), minor(rdev));
	dir = opendir(path);
	while (dir && !is_used && (entry = readdir(dir))) {
		if (entry->d_name[0] == '.')
			continue;
		free(ret);
		ret = name_holder(entry->d_name, &is_used);
	}
	if (dir)
		closedir(dir);
	return ret;
}

char *use_describe_own(dev_t rdev)
{
	char *ret = find_mount(rdev, false);

	return ret ? ret : find_swap(rdev, 0, 0);
}

char *use_describe_writing(dev_t rdev)
{
	char *ret = find_mount(rdev, true);

	return ret ? ret : find_swap(rdev, 0, 0);
}

static char *describe_one(dev_t rdev)
{
	char *ret = use_describe_own(rdev);

	return ret ? ret : find_holder(rdev);
}

/* The partition @name of a disk; its uses begin with its name. */
static char *describe_partition(const char *disk_path, const char *name)
{
	char path[400], *use = NULL, *ret = NULL;
	dev_t rdev;

	snprintf(path, sizeof(path), "%s/%s/partition", disk_path, name);
	if (access(path, F_OK))
		return NULL;
	snprintf(path, sizeof(path), "%s/%s/dev", disk_path, name);
	rdev = read_number(path);
	if (rdev)
		use = describe_one(rdev);
	if (use && asprintf(&ret, "its partition /dev/%s is %s", name, use) < 0)
		ret = NULL;
	free(use);
	return ret;
}

char *use_describe(dev_t rdev)
{
	char path[96], *ret = describe_one(rdev);
	struct dirent *entry;
	DIR *dir;

	if (ret)
		return ret;
	snprintf(path, sizeof(path), "/sys/dev/block/%u:%u", major(rdev), minor(rdev));
	dir = opendir(path);
	while (dir && !ret && (entry = readdir(dir)))
		if (entry->d_name[0] != '.')
			ret = describe_partition(path, entry->d_name);
	if (dir)
		closedir(dir);
	return ret;
}

/* -- files --------------------------------------------------------------------------------------- */

/* Everybody may read it. */
static char *read_backing_path(const char *loop)
{
	char path[320], *line = NULL;
	size_t size = 0;
	FILE *file;

	snprintf(path, sizeof(path), "%s/loop/backing_file", loop);
	file = fopen(path, "re");
	if (!file)
		return NULL;
	if (getline(&line, &size, file) > 0) {
		line[strcspn(line, "\n")] = '\0';
	} else {
		free(line);
		line = NULL;
	}
	fclose(file);
	return line;
}

char *use_backing_path(dev_t rdev)
{
	char path[96];

	snprintf(path, sizeof(path), "/sys/dev/block/%u:%u", major(rdev), minor(rdev));
	return read_backing_path(path);
}

static bool is_backed_by(const char *loop, dev_t device, ino_t inode)
{
	char path[320], *backing;
	bool ret;

	snprintf(path, sizeof(path), "/sys/block/%s", loop);
	backing = read_backing_path(path);
	ret = backing && is_file(backing, device, inode);
	free(backing);
	return ret;
}

static char *find_loop(dev_t device, ino_t inode)
{
	DIR *dir = opendir("/sys/block");
	struct dirent *entry;
	char *ret = NULL;

	while (dir && !ret && (entry = readdir(dir)))
		if (strncmp(entry->d_name, "loop", 4) == 0 && is_backed_by(entry->d_name, device, inode) &&
		    asprintf(&ret, "it backs /dev/%s", entry->d_name) < 0)
			ret = NULL;
	if (dir)
		closedir(dir);
	return ret;
}

char *use_describe_swap_file(dev_t device, ino_t inode)
{
	return find_swap(0, device, inode);
}

char *use_describe_file(dev_t device, ino_t inode)
{
	char *ret = use_describe_swap_file(device, inode);

	return ret ? ret : find_loop(device, inode);
}

char *use_advise(const char *use, const char *name)
{
	static const char mount[] = "mounted on ", swap[] = "active swap", partition[] = "its partition ";
	const char *where = use ? strstr(use, mount) : NULL;
	size_t length = use ? strlen(use) : 0;
	char *ret;
	int put;

	if (where)
		put = asprintf(&ret, "release it first (umount %s)", where + strlen(mount));
	else if (use && strcmp(use, swap) == 0)
		put = asprintf(&ret, "release it first (swapoff %s)", name);
	else if (use && strncmp(use, partition, strlen(partition)) == 0 && length > strlen(swap) &&
		 strcmp(use + length - strlen(swap), swap) == 0)
		put = asprintf(&ret, "release it first (swapoff %.*s)", (int)strcspn(use + strlen(partition), " "),
			       use + strlen(partition));
	else
		put = asprintf(&ret, "release it first");
	return put < 0 ? NULL : ret;
}
