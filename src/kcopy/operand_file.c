/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Destination files: those that are created, and those that are made longer. The only changes that pre-flight makes,
 * which is why they come last and can be undone.
 */
#include "operand.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "log.h"

int operand_lock_file(struct operand *operand, int fd)
{
	char path[48], *holder;
	int ret;

	if (operand->is_block)
		return 0;
	/* Nothing is written in a dry run, and a descriptor for reading cannot lock more on every file system. */
	ret = lock_fd(fd, operand->number > 0 && !operand->is_dry, operand->lock_mode);
	if (ret == 0 && operand->number > 0 && !operand->is_dry && lock_record(fd) == -EWOULDBLOCK) {
		holder = lock_find_record_lock(fd);
		operand_problem(operand, "is in use: it is locked by %s; release it first",
				holder ? holder : "another program");
		free(holder);
		return -EWOULDBLOCK;
	}
	if (ret == -EINTR) {
		operand->is_bad = true; /* the signal says it all */
		return ret;
	}
	if (ret != -EWOULDBLOCK) {
		if (ret)
			log_detail("%s: cannot be locked against other programs: %s", operand->name, strerror(-ret));
		return 0;
	}
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	holder = lock_holder(path);
	operand_problem(operand, "is in use: it is locked by %s; --lock=yes waits for it",
			holder ? holder : "another program");
	free(holder);
	return ret;
}

static void create(struct operand *operand)
{
	int fd = openat(operand->dir_fd, operand->leaf, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOCTTY, 0666);
	int ret;

	if (fd < 0 && errno == EEXIST) {
		operand_problem(operand,
				"came into being meanwhile: it is named twice, or another program makes it, too");
		return;
	}
	if (fd < 0) {
		operand_problem(operand, "cannot be created: %s", strerror(errno));
		return;
	}
	/* If another kcopy was faster to lock it, the file is now that one's: it must not be removed under it. */
	ret = operand_lock_file(operand, fd);
	operand->is_created = ret != -EWOULDBLOCK;
	if (ret) {
		close(fd);
		return;
	}
	ret = kcopyd_device_open_fd(fd, &operand->bdev);
	if (ret) {
		operand_problem(operand, "cannot be used: %s", strerror(-ret));
		close(fd);
		return;
	}
	operand->region.bdev = operand->bdev;
}

/* To its final length at once: writes into a file are asynchronous, writes that make it longer are not. */
static void extend(struct operand *operand)
{
	uint64_t end = (operand->region.sector + operand->region.count) * KCOPYD_SECTOR_BYTES;
	int fd = kcopyd_device_fd(operand->bdev);
	struct stat st;

	/* As it is now: another operand may be a further range of the same file. */
	if (fstat(fd, &st)) {
		operand_problem(operand, "cannot be looked at: %s", strerror(errno));
		return;
	}
	if (end <= (uint64_t)st.st_size)
		return;
	operand->old_bytes = (uint64_t)st.st_size;
	if (TEMP_FAILURE_RETRY(ftruncate(fd, (off_t)end)))
		operand_problem(operand, "cannot be made %" PRIu64 " bytes long: %s", end, strerror(errno));
	else
		operand->is_extended = true;
}

void operand_prepare(struct operand *operand)
{
	if (operand->is_new)
		create(operand);
	if (!operand->is_bad && !operand->is_block)
		extend(operand);
}

void operand_undo(struct operand *operand)
{
	struct stat ours, there;

	if (operand->is_created) {
		/* Only what is still ours: the name may be somebody else's by now. */
		if (!operand->bdev || (fstat(kcopyd_device_fd(operand->bdev), &ours) == 0 &&
				       fstatat(operand->dir_fd, operand->leaf, &there, AT_SYMLINK_NOFOLLOW) == 0 &&
				       ours.st_dev == there.st_dev && ours.st_ino == there.st_ino))
			unlinkat(operand->dir_fd, operand->leaf, 0);
	} else if (operand->is_extended) {
		if (ftruncate(kcopyd_device_fd(operand->bdev), (off_t)operand->old_bytes))
			log_warning("%s: is longer than before: %s", operand->name, strerror(errno));
	}
	operand->is_created = false;
	operand->is_extended = false;
}

/* Where an existing file is. Best effort: whoever may not read the directory did not create it either. */
static int flush_directory(const struct operand *operand)
{
	char *real = realpath(operand->path, NULL), *slash = real ? strrchr(real, '/') : NULL;
	int fd = -1, ret = 0;

	if (slash) {
		slash[slash == real] = '\0';
		fd = open(real, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	}
	if (fd >= 0) {
		if (TEMP_FAILURE_RETRY(fsync(fd)) && errno != EINVAL)
			ret = -errno;
		close(fd);
	}
	free(real);
	return ret;
}

static int flush_created(const struct operand *operand)
{
	if (TEMP_FAILURE_RETRY(fsync(operand->dir_fd)) == 0)
		return 0;
	/* The directory could not be opened for reading, or its file system cannot flush one alone. */
	if (errno != EBADF && errno != EINVAL)
		return -errno;
	return TEMP_FAILURE_RETRY(syncfs(kcopyd_device_fd(operand->bdev))) ? -errno : 0;
}

int operand_flush_name(struct operand *operand)
{
	int ret;

	if (operand->is_block || operand->has_safe_name)
		return 0;
	ret = operand->is_created ? flush_created(operand) : flush_directory(operand);
	operand->has_safe_name = ret == 0;
	return ret;
}
