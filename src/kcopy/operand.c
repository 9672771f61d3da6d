/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "operand.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "log.h"
#include "probe.h"
#include "text.h"
#include "units.h"
#include "use.h"

enum operand_kind operand_kind(const struct operand *operand)
{
	if (operand->is_block)
		return operand->disk.partition ? OPERAND_PARTITION : OPERAND_DISK;
	if (operand->is_new)
		return OPERAND_NEW_FILE;
	return operand->bdev || operand->file_inode ? OPERAND_FILE : OPERAND_UNKNOWN;
}

/* Takes @problem, which may be NULL: it was printed, and there is no memory to keep it. */
static void keep_problem(struct operand *operand, char *problem)
{
	char **problems =
		problem ? reallocarray(operand->problems, operand->num_problems + 1, sizeof(problems[0])) : NULL;

	operand->is_bad = true;
	if (!problems) {
		free(problem);
		return;
	}
	operand->problems = problems;
	problems[operand->num_problems++] = problem;
}

void operand_problem(struct operand *operand, const char *format, ...)
{
	char *reason;
	va_list args;

	va_start(args, format);
	if (vasprintf(&reason, format, args) < 0)
		reason = NULL;
	va_end(args);
	log_error("%s: %s", operand->name, reason ? reason : strerror(ENOMEM));
	keep_problem(operand, reason);
}

/* -- text to path -------------------------------------------------------------------------------- */

bool operand_exists(const char *place, void *context)
{
	struct stat st;

	(void)context;
	if (spec_is_tag(place)) {
		char *path, *other;
		int ret = probe_find_tag(place, &path, &other);

		free(path);
		free(other);
		return ret == 0 || ret == -ENOTUNIQ;
	}
	return lstat(place, &st) == 0;
}

/* A message about LABEL=backup has to say which disk that is. */
static void add_device_name(struct operand *operand)
{
	char *device = text_printable(operand->path), *name;

	if (device && asprintf(&name, "%s (%s)", operand->name, device) >= 0) {
		free(operand->name);
		operand->name = name;
	}
	free(device);
}

static void find_tag(struct operand *operand)
{
	char *other;
	int ret = probe_find_tag(operand->spec.place, &operand->path, &other);

	if (ret == -ENOTUNIQ)
		operand_problem(operand, "not unique: at least %s and %s carry it; name the device itself",
				operand->path, other);
	else if (ret == -ENOENT)
		operand_problem(operand, "no device carries it%s",
				geteuid() == 0 ? "" : ", as far as an ordinary user may look");
	else if (ret)
		operand_problem(operand, "cannot be looked up: %s", strerror(-ret));
	else
		add_device_name(operand);
	free(other);
}

void operand_read(struct operand *operand, unsigned int number, const char *text, spec_exists_fn exists, void *context)
{
	char *message = NULL;
	int ret;

	operand->number = number;
	operand->dir_fd = -1;
	operand->backing_fd = -1;
	ret = spec_parse(text, exists ? exists : operand_exists, context, &operand->spec, &message);
	operand->name = text_printable(ret ? text : operand->spec.place);
	if (ret) {
		log_error("%s", message ? message : strerror(-ret));
		keep_problem(operand, message);
		return;
	}
	if (!operand->name) {
		operand->name = strdup("?");
		operand_problem(operand, "%s", strerror(ENOMEM));
		return;
	}
	if (strcmp(operand->spec.place, "-") == 0)
		operand_problem(operand, "pipes cannot be copied from or to; a file of that name is ./-");
}

void operand_find(struct operand *operand)
{
	if (operand->is_bad)
		return;
	if (spec_is_tag(operand->spec.place))
		find_tag(operand);
	else
		operand->path = strdup(operand->spec.place);
	if (!operand->path && !operand->is_bad)
		operand_problem(operand, "%s", strerror(ENOMEM));
}

void operand_parse(struct operand *operand, unsigned int number, const char *text)
{
	operand_read(operand, number, text, NULL, NULL);
	operand_find(operand);
}

/* -- opening ------------------------------------------------------------------------------------- */

void operand_ask_busy(struct operand *operand)
{
	int fd;

	if (operand->is_bad || !operand->is_block)
		return;
	/* Read-only: closing a descriptor that could write makes udev look at the device again. */
	fd = open(operand->path, O_RDONLY | O_EXCL | O_NONBLOCK | O_CLOEXEC);
	operand->was_asked = fd >= 0 || errno == EBUSY;
	operand->is_busy = fd < 0;
	if (fd >= 0)
		close(fd);
}

static bool is_read_only(int fd)
{
	int read_only = 0;

	return fd >= 0 && ioctl(fd, BLKROGET, &read_only) == 0 && read_only;
}

/* The same for a device that could not be opened for writing. */
static bool is_path_read_only(const char *path)
{
	int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	bool ret = is_read_only(fd);

	if (fd >= 0)
		close(fd);
	return ret;
}

/* Is it a part of a disk that one of @others claims, or the disk? Then our own claim is what O_EXCL ran into. */
static bool is_claimed_by_us(const struct operand *operand, const struct operand *others, unsigned int num_dests)
{
	struct io_region whole = { operand->bdev, 0, kcopyd_device_sectors(operand->bdev) };

	for (unsigned int i = 1; i <= num_dests; i++) {
		struct io_region other = { .bdev = others[i].bdev };

		if (i == operand->number || !others[i].is_block || !others[i].bdev)
			continue;
		other.count = kcopyd_device_sectors(other.bdev);
		if (kcopyd_regions_overlap(&whole, &other))
			return true;
	}
	return false;
}

/* @is_claimed: whether O_EXCL made sure that nobody else uses it. */
static int open_destination(const struct operand *operand, bool *is_claimed)
{
	int flags = O_NONBLOCK | O_CLOEXEC | O_NOCTTY | (operand->is_dry ? O_RDONLY : O_RDWR);
	int fd;

	*is_claimed = true;
	if (operand->is_block) {
		fd = open(operand->path, O_EXCL | flags);
		if (fd < 0 && errno == EBUSY && operand->was_asked && !operand->is_busy) {
			*is_claimed = false; /* by us, perhaps: see is_claimed_by_us() */
			fd = open(operand->path, flags);
		}
		return fd;
	}
	fd = open(operand->path, flags);
	if (fd < 0 && errno == EACCES && !operand->is_dry)
		fd = open(operand->path, O_WRONLY | (flags & ~O_ACCMODE));
	return fd;
}

/* What opening it for writing would say; it is open for reading only. 0 or a positive errno. */
static int ask_writable(int fd)
{
	char path[48];

	if (faccessat(fd, "", W_OK, AT_EMPTY_PATH | AT_EACCESS) == 0)
		return 0;
	if (errno != EINVAL && errno != ENOSYS)
		return errno;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return faccessat(AT_FDCWD, path, W_OK, AT_EACCESS) ? errno : 0;
}

static void explain_busy(struct operand *operand)
{
	char *use = use_describe(operand->rdev), *advice = use_advise(use, operand->name);

	operand_problem(operand, "is in use: %s; %s",
			use ? use : "held by another program, or mounted where we cannot see it",
			advice ? advice : "release it first");
	free(advice);
	free(use);
}

static void explain_open(struct operand *operand, int error)
{
	if (error == EBUSY)
		explain_busy(operand);
	else if (operand->number > 0 && operand->is_block && (error == EROFS || is_path_read_only(operand->path)))
		operand_problem(operand, "is read-only (see blockdev --setrw)");
	else
		operand_problem(operand, "cannot be opened for %s: %s", operand->number ? "writing" : "reading",
				strerror(error));
}

static bool is_same(const struct operand *a, const struct operand *b)
{
	if (a->is_block != b->is_block)
		return false;
	return a->is_block ? a->rdev == b->rdev : a->file_dev == b->file_dev && a->file_inode == b->file_inode;
}

/* The device or file is one that another operand has open: then that is used. */
static bool share(struct operand *operand, struct operand *others, unsigned int num_dests)
{
	for (unsigned int i = 1; i <= num_dests; i++) {
		if (i == operand->number || !others[i].bdev || !is_same(operand, &others[i]))
			continue;
		operand->bdev = others[i].bdev;
		operand->is_shared = true;
		return true;
	}
	return false;
}

/* What was opened must be what was looked at: a path can change in between. */
static bool is_as_seen(const struct operand *operand, int fd)
{
	struct stat st;

	if (fstat(fd, &st))
		return false;
	if (operand->is_block)
		return S_ISBLK(st.st_mode) && st.st_rdev == operand->rdev;
	return S_ISREG(st.st_mode) && st.st_dev == operand->file_dev && st.st_ino == operand->file_inode;
}

void operand_open(struct operand *operand, struct operand *others, unsigned int num_dests)
{
	bool is_claimed = true;
	int fd, ret;

	if (operand->is_bad || operand->is_new || (operand->number && share(operand, others, num_dests)))
		return;
	if (operand->number == 0)
		fd = open(operand->path, O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
	else
		fd = open_destination(operand, &is_claimed);
	if (fd < 0) {
		bool is_busy = errno == EBUSY;

		explain_open(operand, errno);
		/* It is refused, but everything else that is wrong with it is to be said as well. */
		fd = is_busy && operand->is_block ? open(operand->path, O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY)
						  : -1;
		if (fd < 0)
			return;
	}
	if (!is_as_seen(operand, fd)) {
		operand_problem(operand, "changed while it was looked at");
		close(fd);
		return;
	}
	if (operand->number > 0 && operand->is_dry && ask_writable(fd)) {
		explain_open(operand, errno);
		close(fd);
		return;
	}
	if (operand_lock_file(operand, fd)) {
		close(fd);
		return;
	}
	ret = kcopyd_device_open_fd(fd, &operand->bdev);
	if (ret) {
		operand_problem(operand, "cannot be used: %s",
				ret == -ENOENT ? "sysfs does not say which disk it is on; is /sys mounted?"
					       : strerror(-ret));
		close(fd);
		return;
	}
	if (!is_claimed && !is_claimed_by_us(operand, others, num_dests))
		explain_open(operand, EBUSY);
	if (operand->number > 0 && operand->is_block && is_read_only(kcopyd_device_fd(operand->bdev)))
		operand_problem(operand, "is read-only (see blockdev --setrw)");
}

/* -- region -------------------------------------------------------------------------------------- */

static void tell_too_small(struct operand *operand, sector_t room)
{
	char has[UNITS_SIZE_CHARS], needs[UNITS_SIZE_CHARS], from[48] = "";

	if (operand->region.sector)
		snprintf(from, sizeof(from), " from sector %" PRIu64 " on", operand->region.sector);
	operand_problem(operand, "is too small: %s (%" PRIu64 " sector%s)%s, %s (%" PRIu64 " sector%s) are needed",
			units_format_bytes(room * KCOPYD_SECTOR_BYTES, has), room, room == 1 ? "" : "s", from,
			units_format_bytes(operand->region.count * KCOPYD_SECTOR_BYTES, needs), operand->region.count,
			operand->region.count == 1 ? "" : "s");
}

/* Where the device's end is a wall: a destination file grows. */
static bool check_end(struct operand *operand)
{
	sector_t size = operand->bdev ? kcopyd_device_sectors(operand->bdev) : 0;
	sector_t end;

	if (__builtin_add_overflow(operand->region.sector, operand->region.count, &end) ||
	    end > INT64_MAX / KCOPYD_SECTOR_BYTES) {
		operand_problem(operand, "sector %" PRIu64 " + %" PRIu64 " is beyond what any file can hold",
				operand->region.sector, operand->region.count);
		return false;
	}
	if ((operand->number > 0 && !operand->is_block) || end <= size)
		return true;
	if (operand->region.sector >= size)
		operand_problem(operand, "has %" PRIu64 " sectors; none at %" PRIu64, size, operand->region.sector);
	else if (operand->number > 0 && !operand->spec.has_count)
		tell_too_small(operand, size - operand->region.sector);
	else
		operand_problem(operand, "has %" PRIu64 " sectors; sectors %" PRIu64 " to %" PRIu64 " are out of range",
				size, operand->region.sector, end - 1);
	return false;
}

static void check_alignment(struct operand *operand)
{
	unsigned int bytes = operand->bdev ? kcopyd_device_logical_block(operand->bdev) : KCOPYD_SECTOR_BYTES;
	sector_t block = bytes / KCOPYD_SECTOR_BYTES;

	if (operand->region.sector % block)
		operand_problem(operand,
				"sector %" PRIu64 " is not aligned to its logical blocks of %u bytes (%" PRIu64
				" sectors)",
				operand->region.sector, bytes, block);
	else if (operand->region.count % block)
		operand_problem(operand,
				"%" PRIu64 " sectors are no whole number of its logical blocks of %u bytes (%" PRIu64
				" sectors)",
				operand->region.count, bytes, block);
}

void operand_place(struct operand *operand, sector_t count)
{
	sector_t size;

	if (!operand->bdev && !operand->is_new)
		return; /* why was told */
	size = operand->bdev ? kcopyd_device_sectors(operand->bdev) : 0;
	operand->region.bdev = operand->bdev;
	operand->region.sector = operand->spec.start;
	if (operand->spec.has_count && count && operand->spec.count != count) {
		operand_problem(operand,
				"its count of %" PRIu64 " sectors differs from the source's %" PRIu64 "; leave it out",
				operand->spec.count, count);
		return;
	}
	if (operand->spec.has_count) {
		operand->region.count = operand->spec.count;
	} else if (count) {
		operand->region.count = count;
	} else if (operand->is_new) {
		operand_problem(operand, "does not exist, so it has no end: write START+COUNT");
		return;
	} else if (size == 0) {
		operand_problem(operand, "is empty: nothing to %s", operand->number ? "zero" : "copy");
		return;
	} else if (operand->region.sector >= size) {
		operand_problem(operand, "has %" PRIu64 " sectors; none at %" PRIu64, size, operand->region.sector);
		return;
	} else {
		operand->region.count = size - operand->region.sector;
	}
	if (check_end(operand))
		check_alignment(operand);
}

void operand_close_device(struct operand *operand)
{
	if (!operand->is_shared)
		kcopyd_device_close(operand->bdev);
	operand->bdev = NULL;
	operand->region.bdev = NULL;
}

void operand_close(struct operand *operand)
{
	operand_close_device(operand);
	aliases_free(&operand->aliases);
	contents_free(&operand->contents);
	disk_free(&operand->disk);
	if (operand->backing_fd >= 0)
		close(operand->backing_fd);
	if (operand->dir_fd >= 0)
		close(operand->dir_fd);
	for (size_t i = 0; i < operand->num_problems; i++)
		free(operand->problems[i]);
	free(operand->problems);
	free(operand->leaf);
	free(operand->path);
	free(operand->name);
	spec_free(&operand->spec);
}
