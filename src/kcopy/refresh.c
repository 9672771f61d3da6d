/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the kernel remembers of a destination device beside the engine's writes: page caches, one for each name of the
 * sectors, and partitions. Never fails a copy: what could not be done is said. clone calls it, around the copy.
 */
#include "refresh.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/major.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#include "alias.h"
#include "kcopyd.h"
#include "log.h"

/* Partition tables: a GPT has the first 34 and the last 33 logical blocks. */
#define TABLE_BLOCKS 34

#define RETRY_MS 50
#define MAX_RETRIES (1000 / RETRY_MS)

/*
 * BLKFLSBUF of a ramdisk frees its contents (brd.c, until Linux 5.9), and device-mapper hands the call on to what it
 * stands on.
 */
static bool can_flush_buffers(dev_t rdev)
{
	char path[64];

	snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/dm", major(rdev), minor(rdev));
	return major(rdev) != RAMDISK_MAJOR && access(path, F_OK) != 0;
}

/* Clean pages go; BLKFLSBUF writes dirty ones first. 0 or -errno. */
static int drop_cache(int fd, dev_t rdev)
{
	if (can_flush_buffers(rdev) && ioctl(fd, BLKFLSBUF, 0) == 0)
		return 0;
	return -posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
}

static void settle(const struct operand *operand, const struct alias *alias)
{
	int fd = alias_open(alias->path, alias->rdev, 0);

	if (fd < 0) {
		log_warning("%s: %s has the same sectors and cannot be opened (%s): if something is still to be "
			    "written from its cache, it may come after the copy",
			    operand->name, alias->path, strerror(-fd));
		return;
	}
	/* Not BLKFLSBUF alone: only a flush gets through a loop device, into and out of the cache of what is under it. */
	if (fsync(fd))
		log_warning("%s: what others left in the cache of %s cannot be written: %s", operand->name, alias->path,
			    strerror(errno));
	drop_cache(fd, alias->rdev);
	close(fd);
}

static void drop(const struct operand *operand, const struct alias *alias)
{
	int fd = alias_open(alias->path, alias->rdev, 0), ret = fd;

	if (fd >= 0) {
		ret = drop_cache(fd, alias->rdev);
		close(fd);
	}
	if (ret < 0)
		log_detail("%s: the cache of %s cannot be dropped: %s", operand->name, alias->path, strerror(-ret));
}

static bool is_concerned(const struct operand *operand)
{
	return operand->number > 0 && operand->is_block && !operand->is_dry && operand->bdev;
}

void refresh_before(const struct operand *operand)
{
	for (size_t i = 0; is_concerned(operand) && i < operand->aliases.num; i++)
		settle(operand, &operand->aliases.items[i]);
}

/* -- partition tables ---------------------------------------------------------------------------- */

static bool covers_table(const struct operand *operand)
{
	sector_t sectors = kcopyd_device_sectors(operand->bdev), count = operand->region.count;
	sector_t table = kcopyd_device_logical_block(operand->bdev) / KCOPYD_SECTOR_BYTES * TABLE_BLOCKS;
	sector_t last = sectors > table ? sectors - table : 0;

	return alias_whole_disk(operand->rdev) == operand->rdev && count > 0 &&
	       (operand->region.sector < table || operand->region.sector + count > last);
}

/* EBUSY may be for a moment: somebody, such as udev, looks at one of the partitions. */
static int reread(int fd)
{
	const struct timespec step = { .tv_nsec = RETRY_MS * 1000000 };

	for (int i = 0;; i++) {
		if (ioctl(fd, BLKRRPART, 0) == 0)
			return 0;
		if (errno != EBUSY || i == MAX_RETRIES || nanosleep(&step, NULL))
			return errno == EINTR ? -EBUSY : -errno;
	}
}

static bool has_partitions(dev_t rdev)
{
	struct alias_walk walk = { .dir = NULL };
	bool ret;

	alias_walk_partitions(rdev, &walk);
	ret = alias_next_partition(&walk);
	alias_end_walk(&walk);
	return ret;
}

static void reread_table(const struct operand *operand)
{
	int ret = reread(kcopyd_device_fd(operand->bdev));

	/* Who may not ask is told so even of a device that has no partitions. */
	if (ret == 0 || ((ret == -EACCES || ret == -EPERM) && !has_partitions(operand->rdev)))
		return;
	if (ret != -EINVAL && ret != -ENOTTY) {
		log_warning(
			"%s: was written, but the kernel could not re-read its partition table: %s; until it has, it "
			"uses the old one: when nothing uses the disk's partitions, run 'blockdev --rereadpt' on "
			"it, or restart the machine",
			operand->name, strerror(-ret));
		return;
	}
	/* The kernel reads no partition table of this device; still it may have been given partitions (partx -a). */
	if (has_partitions(operand->rdev))
		log_warning("%s: was written, but the kernel's partitions of it were given to it by a program and are "
			    "the old ones: run 'partx --update' or 'partx --delete' on it",
			    operand->name);
}

void refresh_after(const struct operand *operand)
{
	int ret;

	if (!is_concerned(operand))
		return;
	for (size_t i = 0; i < operand->aliases.num; i++)
		drop(operand, &operand->aliases.items[i]);
	ret = drop_cache(kcopyd_device_fd(operand->bdev), operand->rdev);
	if (ret)
		log_detail("%s: its cache cannot be dropped: %s", operand->name, strerror(-ret));
	if (covers_table(operand))
		reread_table(operand);
}
