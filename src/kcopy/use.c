/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "use.h"

#include <dirent.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

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

/* A line of proc(5)'s mountinfo: "id parent major:minor root mount-point options [...] - type source options". */
static bool is_mount_of(char *line, dev_t rdev, char **mount_point)
{
	unsigned int major_number, minor_number;
	char *rest = strstr(line, " - "), *save = NULL, *field = NULL, *source;

	if (!rest || sscanf(line, "%*u %*u %u:%u", &major_number, &minor_number) != 2)
		return false;
	*rest = '\0';
	strtok_r(rest + 3, " ", &save);
	source = strtok_r(NULL, " ", &save);
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

static char *find_mount(dev_t rdev)
{
	FILE *file = fopen("/proc/self/mountinfo", "re");
	char *line = NULL, *mount_point, *ret = NULL;
	size_t size = 0;

	while (file && !ret && getline(&line, &size, file) > 0)
		if (is_mount_of(line, rdev, &mount_point))
			ret = quote("mounted on", mount_point);
	free(line);
	if (file)
		fclose(file);
	return ret;
}

static char *find_swap(dev_t rdev)
{
	FILE *file = fopen("/proc/swaps", "re");
	char *line = NULL, *ret = NULL;
	size_t size = 0;

	while (file && !ret && getline(&line, &size, file) > 0) {
		line[strcspn(line, " \t\n")] = '\0';
		unescape(line);
		if (is_device(line, rdev))
			ret = strdup("active swap");
	}
	free(line);
	if (file)
		fclose(file);
	return ret;
}

/* A device-mapper device has a name that people know. */
static char *name_holder(const char *holder)
{
	char path[320], name[160] = "", *ret = NULL;
	FILE *file;

	snprintf(path, sizeof(path), "/sys/class/block/%s/dm/name", holder);
	file = fopen(path, "re");
	if (file) {
		if (fgets(name, sizeof(name), file))
			name[strcspn(name, "\n")] = '\0';
		fclose(file);
	}
	if (asprintf(&ret, name[0] ? "held by %s (%s)" : "held by %s", holder, name) < 0)
		ret = NULL;
	return ret;
}

static char *find_holder(dev_t rdev)
{
	char path[96], *ret = NULL;
	struct dirent *entry;
	DIR *dir;

	snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/holders", major(rdev), minor(rdev));
	dir = opendir(path);
	while (dir && !ret && (entry = readdir(dir)))
		if (entry->d_name[0] != '.')
			ret = name_holder(entry->d_name);
	if (dir)
		closedir(dir);
	return ret;
}

static char *describe_one(dev_t rdev)
{
	char *ret = find_mount(rdev);

	if (!ret)
		ret = find_swap(rdev);
	return ret ? ret : find_holder(rdev);
}

/* The partition @name of a disk; its uses begin with its name. */
static char *describe_partition(const char *disk_path, const char *name)
{
	char path[400], *use = NULL, *ret = NULL;
	unsigned int major_number, minor_number;
	FILE *file;

	snprintf(path, sizeof(path), "%s/%s/partition", disk_path, name);
	file = fopen(path, "re");
	if (!file)
		return NULL;
	fclose(file);
	snprintf(path, sizeof(path), "%s/%s/dev", disk_path, name);
	file = fopen(path, "re");
	if (file && fscanf(file, "%u:%u", &major_number, &minor_number) == 2)
		use = describe_one(makedev(major_number, minor_number));
	if (file)
		fclose(file);
	if (use && asprintf(&ret, "its partition %s is %s", name, use) < 0)
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
