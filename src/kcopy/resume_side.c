/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "resume_side.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define MAX_LINKS 40 /* as the kernel follows */

/* -- devices without a serial number ------------------------------------------------------------- */

/* A file of sysfs without its newline; to be freed. NULL: there is none, or it is empty. */
static char *read_attribute(const char *directory, const char *name)
{
	char path[PATH_MAX], text[PATH_MAX];
	FILE *file;
	size_t length;

	snprintf(path, sizeof(path), "%s/%s", directory, name);
	file = fopen(path, "re");
	if (!file)
		return NULL;
	length = fread(text, 1, sizeof(text) - 1, file);
	fclose(file);
	if (length > 0 && text[length - 1] == '\n')
		length--;
	text[length] = '\0';
	return length > 0 ? strdup(text) : NULL;
}

char *resume_find_origin(const char *sysfs)
{
	char *backing = read_attribute(sysfs, "loop/backing_file"), *offset = read_attribute(sysfs, "loop/offset");
	char *uuid = read_attribute(sysfs, "dm/uuid"), *name = read_attribute(sysfs, "dm/name"), *ret = NULL;
	int length = 0;

	if (backing && offset && strcmp(offset, "0") != 0)
		length = asprintf(&ret, "loop %s at %s", backing, offset);
	else if (backing)
		length = asprintf(&ret, "loop %s", backing);
	else if (uuid || name)
		length = asprintf(&ret, "dm %s", uuid ? uuid : name);
	free(backing);
	free(offset);
	free(uuid);
	free(name);
	return length < 0 ? NULL : ret;
}

/* -- paths --------------------------------------------------------------------------------------- */

static char *join(char *directory, const char *leaf)
{
	char *ret = NULL;

	if (directory && asprintf(&ret, "%s/%s", strcmp(directory, "/") ? directory : "", leaf) < 0)
		ret = NULL;
	free(directory);
	return ret;
}

/* @path, which is no file yet, by the real name of its directory. */
static char *real_name(const char *path)
{
	const char *slash = strrchr(path, '/');
	char *directory = slash ? strndup(path, (size_t)(slash - path) + 1) : strdup(".");
	char *real = directory ? realpath(directory, NULL) : NULL;

	free(directory);
	return join(real, slash ? slash + 1 : path);
}

char *resume_real_path(const char *path)
{
	char *real = realpath(path, NULL), *name = real ? NULL : strdup(path), *slash, target[PATH_MAX];
	ssize_t length;

	if (real || errno != ENOENT)
		goto out;
	/* Links to what is no file yet are followed, as map_save() does. */
	for (int links = 0; name && links < MAX_LINKS; links++) {
		real = real_name(name);
		free(name);
		name = NULL;
		length = real ? readlink(real, target, sizeof(target) - 1) : -1;
		if (length < 0)
			break;
		target[length] = '\0';
		slash = strrchr(real, '/');
		slash[1] = '\0';
		if (asprintf(&name, "%s%s", target[0] == '/' ? "" : real, target) < 0)
			name = NULL;
		free(real);
		real = NULL;
	}
out:
	free(name);
	return real;
}

static char *absolute_path(const struct operand *operand)
{
	char directory[48];

	if (!operand->is_new)
		return realpath(operand->path, NULL);
	snprintf(directory, sizeof(directory), "/proc/self/fd/%d", operand->dir_fd);
	return join(realpath(directory, NULL), operand->leaf);
}

/* -- both ---------------------------------------------------------------------------------------- */

int resume_side_create(const struct operand *operand, struct resume_side *side)
{
	const struct disk *disk = &operand->disk;
	char sysfs[64];

	*side = (struct resume_side){ .map = { .sector = operand->region.sector } };
	side->path = absolute_path(operand);
	if (!side->path)
		return errno ? -errno : -ENOMEM;
	side->map.path = side->path;
	/* A destination file may grow, and is no other one for that. */
	if (operand->bdev && (operand->is_block || operand->number == 0))
		side->map.bytes = kcopyd_device_bytes(operand->bdev);
	if (!operand->is_block)
		return 0;
	side->map.serial = disk->serial;
	side->map.wwn = disk->wwn;
	side->map.partition = disk->partition;
	if (!disk->serial && !disk->wwn && disk->whole) {
		snprintf(sysfs, sizeof(sysfs), "/sys/dev/block/%u:%u", major(disk->whole), minor(disk->whole));
		side->origin = resume_find_origin(sysfs);
		side->map.serial = side->origin;
	}
	return 0;
}

void resume_side_destroy(struct resume_side *side)
{
	free(side->path);
	free(side->origin);
	*side = (struct resume_side){ .path = NULL };
}
