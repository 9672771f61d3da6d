/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * operand_look(): what an operand's path names, or whether a file of that name can be created. Opens nothing but the
 * directory for a new file.
 */
#include "operand.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define NO_DEVICE "no such device, and kcopy does not create files among device nodes; check the name"

/* Is the directory @path (with @st) the place of device nodes? A file there is always a slip of the keyboard. */
static bool is_device_directory(const char *path, const struct stat *st)
{
	struct stat dev, root;
	char *real;
	bool is_below;

	if (stat("/dev", &dev) || stat("/", &root) || st->st_dev != dev.st_dev)
		return false;
	if (dev.st_dev != root.st_dev)
		return true; /* devtmpfs, wherever it is mounted */
	real = realpath(path, NULL);
	is_below = real && (strcmp(real, "/dev") == 0 || strncmp(real, "/dev/", 5) == 0);
	free(real);
	return is_below;
}

/* The directory that a path's last component is in; to be freed. */
static char *directory_of(const char *path)
{
	const char *slash = strrchr(path, '/');

	if (!slash)
		return strdup(".");
	return slash == path ? strdup("/") : strndup(path, (size_t)(slash - path));
}

static int open_directory(const char *path)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	/* Writable but not readable: good enough to create in, though not to flush. */
	if (fd < 0 && errno == EACCES)
		fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	return fd;
}

/* A destination that does not exist: can it be created? */
static void look_at_new(struct operand *operand, const char *directory)
{
	const char *slash = strrchr(operand->path, '/');
	const char *leaf = slash ? slash + 1 : operand->path;
	struct stat st;

	if (operand->number == 0) {
		operand_problem(operand, "does not exist");
		return;
	}
	if (lstat(operand->path, &st) == 0 && S_ISLNK(st.st_mode)) {
		operand_problem(operand, "is a symbolic link to nothing; create its target or remove the link");
		return;
	}
	if (!*leaf) {
		operand_problem(operand, "does not exist, and a directory cannot be a destination");
		return;
	}
	operand->dir_fd = open_directory(directory);
	if (operand->dir_fd < 0 && errno == ENOENT && strncmp(directory, "/dev/", 5) == 0) {
		operand_problem(operand, NO_DEVICE);
		return;
	}
	if (operand->dir_fd < 0 || fstat(operand->dir_fd, &st)) {
		operand_problem(operand, "cannot be created: its directory: %s", strerror(errno));
		return;
	}
	if (is_device_directory(directory, &st)) {
		operand_problem(operand, NO_DEVICE);
		return;
	}
	if (faccessat(operand->dir_fd, ".", W_OK | X_OK, AT_EACCESS)) {
		operand_problem(operand, "cannot be created in its directory: %s", strerror(errno));
		return;
	}
	operand->leaf = strdup(leaf);
	if (!operand->leaf)
		operand_problem(operand, "%s", strerror(ENOMEM));
	operand->is_new = operand->leaf;
}

static const char *describe_kind(mode_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFDIR:
		return "a directory";
	case S_IFIFO:
		return "a pipe";
	case S_IFSOCK:
		return "a socket";
	case S_IFCHR:
		return "a character device";
	default:
		return "of an unknown kind";
	}
}

static void look_at_existing(struct operand *operand, const struct stat *st)
{
	char *real, *directory;
	struct stat dir;

	if (S_ISBLK(st->st_mode)) {
		operand->is_block = true;
		operand->rdev = st->st_rdev;
		return;
	}
	if (!S_ISREG(st->st_mode)) {
		operand_problem(operand, "is %s; only block devices and regular files can be copied",
				describe_kind(st->st_mode));
		return;
	}
	operand->file_dev = st->st_dev;
	operand->file_inode = st->st_ino;
	if (operand->number == 0)
		return;
	real = realpath(operand->path, NULL); /* where it is, not where a link to it is */
	directory = directory_of(real ? real : operand->path);
	if (!directory)
		operand_problem(operand, "cannot be looked at: %s", strerror(errno));
	else if (stat(directory, &dir) == 0 && dir.st_dev == st->st_dev && is_device_directory(directory, &dir))
		operand_problem(
			operand,
			"is a regular file among device nodes, most likely left by a slip; remove it and check the name");
	free(directory);
	free(real);
}

void operand_look(struct operand *operand)
{
	char *directory;
	struct stat st;

	if (operand->is_bad)
		return;
	directory = directory_of(operand->path);
	if (!directory)
		operand_problem(operand, "%s", strerror(ENOMEM));
	else if (stat(operand->path, &st) == 0)
		look_at_existing(operand, &st);
	else if (errno == ENOENT)
		look_at_new(operand, directory);
	else
		operand_problem(operand, "cannot be looked at: %s", strerror(errno));
	free(directory);
}
