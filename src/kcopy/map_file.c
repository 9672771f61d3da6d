/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Resume maps in files: an old one is replaced by a new one that is complete and on stable storage, or stays. All that
 * waits for a disk is here. Knows nothing of what is in them.
 */
#include "map.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_LINKS 40   /* as the kernel follows */
#define MAX_TRIES 100u /* for a temporary name that is not taken */
#define TEMP_CHARS sizeof(".kcopy-map.0123456789abcdef")

struct place {
	char *path; /* owned */
	char *name; /* in path: behind the last slash */
	int dir;    /* open, or -1 */
};

/* -- where to write ------------------------------------------------------------------------------ */

static char *last_name(char *path)
{
	char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

/* What a link in @path's directory means; to be freed. */
static char *join(const char *path, const char *name, const char *target)
{
	char *joined;

	if (*target == '/')
		return strdup(target);
	if (asprintf(&joined, "%.*s%s", (int)(name - path), path, target) < 0)
		return NULL;
	return joined;
}

/* @place's path is led to what is no symbolic link, which need not exist. */
static int follow_links(struct place *place)
{
	char target[PATH_MAX], *path;
	unsigned int links;
	ssize_t length;

	for (links = 0; links <= MAX_LINKS; links++) {
		length = readlink(place->path, target, sizeof(target) - 1);
		if (length < 0)
			return errno == EINVAL || errno == ENOENT ? 0 : -errno;
		target[length] = '\0';
		path = join(place->path, last_name(place->path), target);
		if (!path)
			return -ENOMEM;
		free(place->path);
		place->path = path;
	}
	return -ELOOP;
}

static void close_place(struct place *place)
{
	if (place->dir >= 0)
		close(place->dir);
	free(place->path);
}

static int open_place(const char *path, struct place *place)
{
	char *dir;
	int ret;

	place->dir = -1;
	place->path = strdup(path);
	if (!place->path)
		return -ENOMEM;
	ret = follow_links(place);
	if (ret)
		return ret;
	place->name = last_name(place->path);
	if (!*place->name)
		return *place->path ? -EISDIR : -ENOENT;
	dir = place->name == place->path ? strdup(".") : strndup(place->path, (size_t)(place->name - place->path));
	if (!dir)
		return -ENOMEM;
	place->dir = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	ret = place->dir < 0 ? -errno : 0;
	free(dir);
	return ret;
}

/* -- writing ------------------------------------------------------------------------------------- */

/* A new file beside the other; O_EXCL follows nothing that somebody put there. Its descriptor, or -errno. */
static int create_temp(int dir, mode_t mode, char name[TEMP_CHARS])
{
	unsigned long long number;
	unsigned int tries;
	int fd = -1;

	for (tries = 0; tries < MAX_TRIES && fd < 0; tries++) {
		if (getrandom(&number, sizeof(number), 0) != (ssize_t)sizeof(number))
			return -errno;
		snprintf(name, TEMP_CHARS, ".kcopy-map.%016llx", number);
		fd = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
		if (fd < 0 && errno != EEXIST)
			return -errno;
	}
	return fd < 0 ? -EEXIST : fd;
}

/* As far as it is allowed and can be done here; 0600 is what it has till then. */
static void keep_owner(int fd, const struct stat *old)
{
	mode_t mode = old->st_mode & 0777;

	if (fchown(fd, old->st_uid, old->st_gid) && fchown(fd, (uid_t)-1, old->st_gid))
		mode &= ~(mode_t)070 | ((mode & 07) << 3); /* another group: no more than all others */
	fchmod(fd, mode);
}

static int write_all(int fd, const char *text, size_t bytes)
{
	ssize_t done;

	while (bytes) {
		done = write(fd, text, bytes);
		if (done < 0 && errno == EINTR)
			continue;
		if (done < 0)
			return -errno;
		if (done == 0)
			return -EIO;
		text += done;
		bytes -= (size_t)done;
	}
	return fsync(fd) ? -errno : 0;
}

/* Some file systems cannot do this to a directory, and say so. */
static int sync_dir(int dir)
{
	return fsync(dir) && errno != EINVAL && errno != ENOTSUP ? -errno : 0;
}

static int replace(const struct place *place, const struct stat *old, const char *text, size_t bytes)
{
	char temp[TEMP_CHARS];
	int ret, fd = create_temp(place->dir, old ? 0600 : 0666, temp);

	if (fd < 0)
		return fd;
	if (old)
		keep_owner(fd, old);
	ret = write_all(fd, text, bytes);
	if (close(fd) && !ret)
		ret = -errno;
	if (!ret && renameat(place->dir, temp, place->dir, place->name))
		ret = -errno;
	if (ret) {
		unlinkat(place->dir, temp, 0);
		return ret;
	}
	return sync_dir(place->dir);
}

int map_write(const char *text, size_t bytes, const char *path)
{
	struct place place;
	struct stat old;
	int ret;

	if (bytes > MAP_MAX_BYTES)
		return -EFBIG;
	ret = open_place(path, &place);
	if (!ret && fstatat(place.dir, place.name, &old, AT_SYMLINK_NOFOLLOW)) {
		ret = errno == ENOENT ? replace(&place, NULL, text, bytes) : -errno;
	} else if (!ret) {
		/* To rename over a device's node would lose it. */
		ret = S_ISREG(old.st_mode)   ? replace(&place, &old, text, bytes)
		      : S_ISDIR(old.st_mode) ? -EISDIR
					     : -ENOTSUP;
	}
	close_place(&place);
	return ret;
}

int map_save(const struct map *map, const struct map_owner *owner, const char *path)
{
	size_t bytes;
	char *text = map_format(map, owner, &bytes);
	int ret = text ? map_write(text, bytes, path) : -ENOMEM;

	free(text);
	return ret;
}

/* -- reading ------------------------------------------------------------------------------------- */

static int refuse(char **message, const char *reason)
{
	*message = strdup(reason);
	return *message ? -EINVAL : -ENOMEM;
}

/* All of it; @text is to be freed, whatever comes back. */
static int read_all(int fd, size_t most, char **text, size_t *bytes)
{
	ssize_t done = 1;

	*bytes = 0;
	*text = malloc(most);
	if (!*text)
		return -ENOMEM;
	while (done && *bytes < most) {
		done = read(fd, *text + *bytes, most - *bytes);
		if (done < 0 && errno != EINTR)
			return -errno;
		if (done > 0)
			*bytes += (size_t)done;
	}
	return 0;
}

static int load(struct map *map, const struct map_owner *owner, int fd, char **message)
{
	char *text = NULL;
	struct stat st;
	size_t bytes;
	int ret;

	if (fstat(fd, &st))
		return -errno;
	if (!S_ISREG(st.st_mode))
		return refuse(message, "is no regular file");
	if ((uintmax_t)st.st_size > MAP_MAX_BYTES)
		return refuse(message, "is larger than any map (64 MiB)");
	ret = read_all(fd, (size_t)st.st_size + 1, &text, &bytes);
	if (!ret && bytes > (size_t)st.st_size)
		ret = refuse(message, "grows while it is read");
	else if (!ret)
		ret = map_parse(map, owner, text, bytes, message);
	free(text);
	return ret;
}

int map_load(struct map *map, const struct map_owner *owner, const char *path, char **message)
{
	int ret, fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

	*message = NULL;
	if (fd < 0)
		return -errno;
	ret = load(map, owner, fd, message);
	close(fd);
	return ret;
}
