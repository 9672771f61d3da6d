/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "guard_use.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/major.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "alias.h"
#include "log.h"
#include "use.h"

/* How many loop devices may stand on one another; libkcopyd has the same bound. */
#define MAX_LOOPS 16

/* More sectors than any file can have: a file is looked at as a whole. */
#define ALL_SECTORS ((sector_t)1 << 54)

#define UNCERTAIN "%s: whether its storage is in use by another name cannot be told in full: %s"

/* Is @rdev a loop device, or a partition of one, that stands on the operand's disk or file, at whatever depth? */
static bool stands_on(dev_t rdev, const struct operand *operand)
{
	dev_t own = operand->is_block ? alias_whole_disk(operand->rdev) : 0, disk = alias_whole_disk(rdev);
	struct loop_info64 info;

	if (operand->is_block && disk == own)
		return false;
	for (int level = 0; level < MAX_LOOPS && major(disk) == LOOP_MAJOR; level++) {
		if (alias_ask_loop(disk, &info))
			return false;
		if (!info.lo_rdevice)
			return !operand->is_block && info.lo_device == operand->file_dev &&
			       info.lo_inode == operand->file_inode;
		disk = alias_whole_disk((dev_t)info.lo_rdevice);
		if (operand->is_block && disk == own)
			return true;
	}
	return false;
}

/* What is an operand itself is a matter of overlap. */
static bool is_operand(const struct guard *guard, dev_t rdev)
{
	for (unsigned int i = guard->has_source ? 0 : 1; i <= guard->num_dests; i++)
		if (guard->operands[i].is_block && guard->operands[i].rdev == rdev)
			return true;
	return false;
}

/*
 * Does our own claim on a destination keep others from this device, so that it looks busy? A claim of a disk is one of all
 * its partitions; a claim of a partition is one of the disk, but of no other partition.
 */
static bool is_claimed_by_us(const struct guard *guard, dev_t rdev)
{
	dev_t disk = alias_whole_disk(rdev);

	for (unsigned int i = 1; i <= guard->num_dests; i++) {
		const struct operand *operand = &guard->operands[i];

		if (operand->is_block && operand->bdev &&
		    (operand->rdev == rdev || operand->rdev == disk || alias_whole_disk(operand->rdev) == rdev))
			return true;
	}
	return false;
}

static bool is_busy(const struct alias *alias)
{
	int fd = alias_open(alias->path, alias->rdev, O_EXCL);

	if (fd >= 0)
		close(fd);
	return fd == -EBUSY;
}

/* Another name of a destination's sectors. */
static void look_at_alias(const struct guard *guard, struct operand *operand, const struct alias *alias)
{
	char *own = NULL, *all = NULL, *advice = NULL;

	if (is_operand(guard, alias->rdev))
		return;
	if (stands_on(alias->rdev, operand)) {
		own = use_describe_own(alias->rdev);
		operand_problem(operand, "is in use: it backs %s%s%s; release it first (losetup -d)", alias->path,
				own ? ", " : "", own ? own : "");
	} else if (!is_claimed_by_us(guard, alias->rdev) && is_busy(alias)) {
		int held = operand->is_block ? alias_ask_holders(alias->rdev, operand->rdev)
					     : alias_ask_holders(alias->rdev, 0);

		own = use_describe_own(alias->rdev);
		all = own ? NULL : use_describe(alias->rdev);
		if (!own && !all)
			all = use_describe(alias_whole_disk(alias->rdev));
		/*
		 * Held for the destination's sake; or in use through a partition, which is looked at by itself if it
		 * matters.
		 */
		advice = use_advise(own ? own : all, alias->path);
		if (own || held < 0 || (held == 0 && !all))
			operand_problem(operand, "is in use: it is %s, too, which is %s; %s", alias->path,
					own   ? own
					: all ? all
					      : "held by another program",
					advice ? advice : "release it first");
	}
	free(advice);
	free(own);
	free(all);
}

/* By a record lock, as qemu has them on the images and disks of running machines. To be freed; NULL: by nobody. */
static char *describe_record_lock(int fd)
{
	char *holder = lock_find_record_lock(fd), *use = NULL;

	if (holder && asprintf(&use, "it is locked by %s", holder) < 0)
		use = NULL;
	free(holder);
	return use;
}

/* The file at the bottom of a destination's loop devices, open for reading. -ENOENT: there is none. */
static int open_backing(const struct operand *operand)
{
	dev_t disk = alias_whole_disk(operand->rdev);
	struct loop_info64 info = { 0 };
	struct stat st;
	char *path;
	int fd;

	for (int level = 0; level < MAX_LOOPS && major(disk) == LOOP_MAJOR; level++) {
		if (alias_ask_loop(disk, &info))
			return -ENOENT;
		if (info.lo_rdevice) {
			disk = alias_whole_disk((dev_t)info.lo_rdevice);
			continue;
		}
		path = use_backing_path(disk);
		fd = path ? open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY) : -1;
		free(path);
		if (fd >= 0 && fstat(fd, &st) == 0 && st.st_dev == info.lo_device && st.st_ino == info.lo_inode)
			return fd;
		if (fd >= 0)
			close(fd);
		return -ENOENT;
	}
	return -ENOENT;
}

/* Several operands may be in one file, or be that: it is locked once. */
static bool is_locked_by_us(const struct guard *guard, int fd)
{
	struct stat st, other;

	if (fstat(fd, &st))
		return false;
	for (unsigned int i = 0; i <= guard->num_dests; i++) {
		const struct operand *operand = &guard->operands[i];

		if (operand->bdev && !operand->is_block && operand->file_dev == st.st_dev &&
		    operand->file_inode == st.st_ino)
			return true;
		if (operand->backing_fd >= 0 && fstat(operand->backing_fd, &other) == 0 && other.st_dev == st.st_dev &&
		    other.st_ino == st.st_ino)
			return true;
	}
	return false;
}

/*
 * What the file behind a destination's loop device is used for beside that; and it is locked, as a destination file is,
 * against another kcopy to the file itself. To be freed; NULL: for nothing.
 */
static char *describe_backing(const struct guard *guard, struct operand *operand)
{
	int fd = open_backing(operand);
	struct stat st;
	char *use;

	if (fd < 0)
		return NULL;
	if (is_locked_by_us(guard, fd)) {
		close(fd);
		return NULL;
	}
	operand->backing_fd = fd;
	use = fstat(fd, &st) ? NULL : use_describe_swap_file(st.st_dev, st.st_ino);
	if (!use)
		use = describe_record_lock(fd);
	if (!use && lock_fd(fd, true, operand->lock_mode) == -EWOULDBLOCK)
		use = strdup("the file behind it is locked by another program");
	return use;
}

/* Of the operand itself, beside its aliases. To be freed; NULL: by nobody. */
static char *describe_use(const struct guard *guard, struct operand *operand)
{
	char *use = operand->is_block ? describe_backing(guard, operand)
				      : use_describe_file(operand->file_dev, operand->file_inode);

	return use ? use : describe_record_lock(kcopyd_device_fd(operand->bdev));
}

/* A destination file grows, and what stands on it has it all. */
static struct io_region region_of(const struct operand *operand, bool is_source)
{
	struct io_region region = operand->region;

	if (!is_source && !operand->is_block) {
		region.sector = 0;
		region.count = ALL_SECTORS;
	}
	return region;
}

/* @loops: of regions, the operand's is the @index-th. */
static void check_destination(const struct guard *guard, struct operand *operand, const struct alias_loops *loops,
			      unsigned int index)
{
	struct io_region region = region_of(operand, false);
	char *use = describe_use(guard, operand), *advice;
	int ret;

	if (use) {
		advice = use_advise(use, operand->name);
		operand_problem(operand, "is in use: %s; %s", use, advice ? advice : "release it first");
		free(advice);
		free(use);
		return;
	}
	ret = aliases_find(&region, loops, index, &operand->aliases);
	for (size_t i = 0; i < operand->aliases.num; i++)
		look_at_alias(guard, operand, &operand->aliases.items[i]);
	if (ret == 0)
		return;
	/* An ordinary user may not ask loop devices; of most, sysfs has said that they stand on other files. */
	if ((ret == -EACCES || ret == -EPERM || ret == -ENOENT) && !operand->is_block)
		log_detail(UNCERTAIN, operand->name, strerror(-ret));
	else
		log_warning(UNCERTAIN, operand->name, strerror(-ret));
}

/* -- the source ---------------------------------------------------------------------------------- */

/* @use: by whom, or NULL; freed here. @name: of what, if not of the source itself. */
static void warn_of_writers(struct operand *operand, const char *name, char *use)
{
	operand->may_change |= use != NULL;
	if (use && strcmp(use, "active swap") == 0)
		log_warning("%s: %s%s%s and changes while it is read: the copy is of no use; swapoff it first",
			    operand->name, name ? name : "", name ? " is " : "is ", use);
	else if (use)
		log_warning(
			"%s: %s%s%s and may change while it is read: the copy may not be consistent; "
			"copy a snapshot, or keep its writers away until kcopy ends (fsfreeze -f, mount -o remount,ro)",
			operand->name, name ? name : "", name ? " is " : "is ", use);
	free(use);
}

static void check_source(struct operand *operand, const struct alias_loops *loops)
{
	struct aliases aliases;

	if (operand->is_block)
		warn_of_writers(operand, NULL, use_describe_writing(operand->rdev));
	else
		warn_of_writers(operand, NULL, use_describe_swap_file(operand->file_dev, operand->file_inode));
	aliases_find(&operand->region, loops, 0, &aliases);
	for (size_t i = 0; i < aliases.num; i++)
		warn_of_writers(operand, aliases.items[i].path, use_describe_writing(aliases.items[i].rdev));
	aliases_free(&aliases);
}

void guard_check_use(struct guard *guard)
{
	struct io_region regions[KCOPYD_MAX_DESTS + 1] = { { .bdev = NULL } };
	struct alias_loops loops;

	for (unsigned int i = 0; i <= guard->num_dests; i++)
		regions[i] = region_of(&guard->operands[i], i == 0);
	alias_ask_loops(regions, guard->num_dests + 1, &loops);
	if (guard->has_source && guard->operands[0].region.bdev)
		check_source(&guard->operands[0], &loops);
	for (unsigned int i = 1; i <= guard->num_dests; i++)
		if (guard->operands[i].region.bdev)
			check_destination(guard, &guard->operands[i], &loops, i);
	alias_free_loops(&loops);
}

void guard_check_destination(const struct guard *guard, struct operand *operand)
{
	struct io_region region = region_of(operand, false);
	struct alias_loops loops;

	alias_ask_loops(&region, 1, &loops);
	check_destination(guard, operand, &loops, 0);
	alias_free_loops(&loops);
}

void guard_check_source(struct operand *operand)
{
	struct alias_loops loops;

	alias_ask_loops(&operand->region, 1, &loops);
	check_source(operand, &loops);
	alias_free_loops(&loops);
}
