/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "names.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

/* Larger ones are not read: to ask for each name is cheaper. */
#define MAX_NAMES 4096u
#define MAX_QUESTIONS 128u
/* The clock of a file system's times goes in steps of up to 10 ms: two changes may have one time. */
#define SETTLED_MS 100

static int64_t ms_of(const struct timespec *time)
{
	return (int64_t)time->tv_sec * 1000 + time->tv_nsec / 1000000;
}

/* Its last change was long enough ago that the next one has another time. */
static bool is_settled(const struct stat *st)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return ms_of(&now) - ms_of(&st->st_ctim) > SETTLED_MS;
}

/* Nothing but what is done here makes names in it, and each new name changes its time. */
static bool is_local(int fd)
{
	struct statfs fs;

	if (fstatfs(fd, &fs))
		return false;
	switch ((unsigned long)fs.f_type) {
	case TMPFS_MAGIC: /* and devtmpfs */
	case EXT4_SUPER_MAGIC:
	case XFS_SUPER_MAGIC:
	case BTRFS_SUPER_MAGIC:
		return true;
	default:
		return false;
	}
}

static const char *path_of(const struct names_directory *directory)
{
	return directory->length ? directory->path : ".";
}

static bool is_as_before(const struct names_directory *directory)
{
	struct stat st;

	return directory->is_known && stat(path_of(directory), &st) == 0 && st.st_dev == directory->dev &&
	       st.st_ino == directory->inode && st.st_ctim.tv_sec == directory->changed.tv_sec &&
	       st.st_ctim.tv_nsec == directory->changed.tv_nsec;
}

/* Or may it have one? */
static bool has_colon(DIR *stream)
{
	struct dirent *entry;

	for (unsigned int num = 0; num < MAX_NAMES; num++) {
		errno = 0;
		entry = readdir(stream);
		if (!entry)
			return errno;
		if (strchr(entry->d_name, ':'))
			return true;
	}
	return true;
}

static void look(struct names_directory *directory)
{
	int fd = open(path_of(directory), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct stat st;
	DIR *stream;

	directory->is_known = false;
	if (fd < 0)
		return;
	if (fstat(fd, &st) || !is_settled(&st) || !is_local(fd) || !(stream = fdopendir(fd))) {
		close(fd);
		return;
	}
	directory->has_colon = has_colon(stream);
	closedir(stream);
	directory->dev = st.st_dev;
	directory->inode = st.st_ino;
	directory->changed = st.st_ctim;
	directory->is_known = true;
}

/* NULL: no memory. */
static struct names_directory *find(struct names *names, const char *path, size_t length)
{
	struct names_directory *directory;
	char *copy;

	for (directory = names->directories; directory < names->directories + NAMES_DIRECTORIES; directory++)
		if (directory->path && directory->length == length && memcmp(directory->path, path, length) == 0)
			return directory;
	copy = strndup(path, length);
	if (!copy)
		return NULL;
	directory = &names->directories[names->next++ % NAMES_DIRECTORIES];
	free(directory->path);
	*directory = (struct names_directory){ .path = copy, .length = length };
	return directory;
}

bool names_may_exist(struct names *names, const char *path)
{
	const char *slash = strrchr(path, '/'), *leaf = slash ? slash + 1 : path;
	struct names_directory *directory;

	if (!strchr(leaf, ':'))
		return true;
	directory = find(names, path, (size_t)(leaf - path));
	if (!directory)
		return true;
	if (directory->left == 0) {
		if (!is_as_before(directory))
			look(directory);
		directory->left = MAX_QUESTIONS;
	}
	directory->left--;
	return !directory->is_known || directory->has_colon;
}

void names_doubt(struct names *names)
{
	for (unsigned int i = 0; i < NAMES_DIRECTORIES; i++)
		names->directories[i].left = 0;
}

void names_free(struct names *names)
{
	for (unsigned int i = 0; i < NAMES_DIRECTORIES; i++)
		free(names->directories[i].path);
	*names = (struct names){ .next = 0 };
}
