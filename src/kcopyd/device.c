/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "device.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/blkzoned.h>
#include <linux/fs.h>
#include <linux/loop.h>
#include <linux/major.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

/*
 * Where a file system does not say what direct I/O needs (before Linux 6.1, or FUSE, which needs nothing): the least
 * that any wants. One that wants more answers EINVAL, and lane_aio does that transfer page-cached.
 */
#define LEAST_DIRECT_ALIGN KCOPYD_SECTOR_BYTES

/* How many loop devices may stand on one another. */
#define MAX_LOOPS 16

/* One decimal number from a sysfs attribute. */
static int read_sysfs(const char *path, unsigned long long *value)
{
	FILE *file = fopen(path, "re");
	int fields;

	if (!file)
		return -errno;
	fields = fscanf(file, "%llu", value);
	fclose(file);
	return fields == 1 ? 0 : -EIO;
}

/*
 * A partition's disk and place on it: /sys/dev/block/M:m has 'partition' and 'start', its parent directory 'dev'. A
 * whole disk has no 'partition'. Whatever keeps us from knowing is an error: an overlap that is not seen destroys data.
 */
static int find_disk(struct block_device *bdev, dev_t rdev)
{
	char path[96];
	unsigned long long number;
	unsigned int disk_major, disk_minor;
	FILE *file;
	int ret;

	bdev->disk = rdev;
	bdev->inode = 0;
	bdev->disk_sector = 0;
	snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/dev", major(rdev), minor(rdev));
	if (access(path, R_OK))
		return -errno;
	snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/partition", major(rdev), minor(rdev));
	ret = read_sysfs(path, &number);
	if (ret)
		return ret == -ENOENT ? 0 : ret;
	snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/start", major(rdev), minor(rdev));
	ret = read_sysfs(path, &number);
	if (ret)
		return ret;
	snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/../dev", major(rdev), minor(rdev));
	file = fopen(path, "re");
	if (!file)
		return -errno;
	if (fscanf(file, "%u:%u", &disk_major, &disk_minor) == 2) {
		bdev->disk = makedev(disk_major, disk_minor);
		bdev->disk_sector = number;
	} else {
		ret = -EIO;
	}
	fclose(file);
	return ret;
}

/* The loop device of that number, to ask it; a whole disk, never a partition. */
static int open_loop(dev_t rdev)
{
	char link[64], target[256], path[300];
	struct stat st;
	ssize_t length;
	int fd;

	snprintf(link, sizeof(link), "/sys/dev/block/%u:%u", major(rdev), minor(rdev));
	length = readlink(link, target, sizeof(target) - 1);
	if (length < 0)
		return -errno;
	target[length] = '\0';
	if (!strrchr(target, '/'))
		return -ENOENT;
	snprintf(path, sizeof(path), "/dev%s", strrchr(target, '/'));
	fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) == 0 && S_ISBLK(st.st_mode) && st.st_rdev == rdev)
		return fd;
	close(fd);
	return -ENODEV;
}

/* From a loop device (bdev->disk, open as @fd) to what is one level below it. */
static int go_below(struct block_device *bdev, int fd)
{
	struct loop_info64 info;
	sector_t sector = bdev->disk_sector;
	int ret;

	if (ioctl(fd, LOOP_GET_STATUS64, &info))
		return -errno;
	if (info.lo_rdevice) {
		ret = find_disk(bdev, (dev_t)info.lo_rdevice);
		if (ret)
			return ret;
	} else {
		bdev->disk = (dev_t)info.lo_device;
		bdev->inode = (ino_t)info.lo_inode;
		bdev->disk_sector = 0;
	}
	bdev->disk_sector += sector + info.lo_offset / KCOPYD_SECTOR_BYTES;
	if (info.lo_offset % KCOPYD_SECTOR_BYTES)
		bdev->disk_skew = 1;
	return 0;
}

/*
 * A loop device is its backing file under another name: its sectors are identified as the file's, or those of the
 * device it is backed by, which may be a loop device again.
 */
static int find_backing(struct block_device *bdev)
{
	int fd = bdev->fd, ret = 0;

	for (int level = 0; ret == 0 && bdev->inode == 0 && major(bdev->disk) == LOOP_MAJOR; level++) {
		if (level == MAX_LOOPS)
			return -ELOOP;
		if (level > 0)
			fd = open_loop(bdev->disk);
		if (fd < 0)
			return fd;
		ret = go_below(bdev, fd);
		if (level > 0)
			close(fd);
		if (ret == -ENXIO && level == 0)
			return 0; /* nothing is attached: it is what it is, and empty */
	}
	return ret;
}

/* O_NONBLOCK served to open without waiting; it has no business in a transfer. */
static int set_direct(int fd)
{
	int flags = fcntl(fd, F_GETFL);

	if (flags < 0 || fcntl(fd, F_SETFL, (flags | O_DIRECT) & ~O_NONBLOCK) < 0)
		return -errno;
	return 0;
}

static int clear_direct(int fd)
{
	int flags = fcntl(fd, F_GETFL);

	if (flags < 0 || fcntl(fd, F_SETFL, flags & ~(O_DIRECT | O_NONBLOCK)) < 0)
		return -errno;
	return 0;
}

static int ask_block(struct block_device *bdev, dev_t rdev)
{
	int logical_block = 0, ret;
	uint32_t zone_sectors = 0;

	if (ioctl(bdev->fd, BLKGETSIZE64, &bdev->bytes) < 0 || ioctl(bdev->fd, BLKSSZGET, &logical_block) < 0)
		return -errno;
	if (logical_block < (int)KCOPYD_SECTOR_BYTES || logical_block % (int)KCOPYD_SECTOR_BYTES)
		return -EINVAL;
	bdev->is_block = true;
	bdev->logical_block = (unsigned int)logical_block;
	bdev->direct_align = bdev->logical_block;
	bdev->is_zoned = ioctl(bdev->fd, BLKGETZONESZ, &zone_sectors) == 0 && zone_sectors > 0;
	bdev->is_direct = set_direct(bdev->fd) == 0 || (clear_direct(bdev->fd), false);
	ret = find_disk(bdev, rdev);
	return ret ? ret : find_backing(bdev);
}

/* What direct I/O on this file must be aligned to, in bytes; 0: it has none. */
static unsigned int ask_direct_align(int fd)
{
#ifdef STATX_DIOALIGN
	struct statx stx;

	if (statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &stx) == 0 && (stx.stx_mask & STATX_DIOALIGN)) {
		/* The reserve is aligned to pages; memory that wants more cannot be given. */
		if (stx.stx_dio_mem_align > KCOPYD_PAGE_BYTES)
			return 0;
		return stx.stx_dio_offset_align;
	}
#endif
	return LEAST_DIRECT_ALIGN;
}

/*
 * A file has two descriptors: the one given, for direct I/O, and a page-cached one of the same inode for what is not
 * aligned (a last partial sector). The second goes through /proc, where no rename can come between; without it, all is
 * page-cached.
 */
static int ask_file(struct block_device *bdev, const struct stat *st)
{
	char path[48];
	int flags = fcntl(bdev->fd, F_GETFL);

	if (flags < 0)
		return -errno;
	bdev->bytes = (uint64_t)st->st_size;
	bdev->logical_block = KCOPYD_SECTOR_BYTES;
	bdev->disk = st->st_dev;
	bdev->inode = st->st_ino;
	if (clear_direct(bdev->fd))
		return -errno;
	bdev->direct_align = ask_direct_align(bdev->fd);
	if (bdev->direct_align == 0 || set_direct(bdev->fd))
		return 0;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", bdev->fd);
	bdev->buffered_fd = open(path, (flags & O_ACCMODE) | O_CLOEXEC | O_NOCTTY);
	if (bdev->buffered_fd < 0) {
		bdev->buffered_fd = bdev->fd;
		return clear_direct(bdev->fd);
	}
	bdev->is_direct = true;
	return 0;
}

int device_create(int fd, struct block_device **result)
{
	struct block_device *bdev;
	struct stat st;
	int access, ret;

	access = fcntl(fd, F_GETFL);
	if (access < 0 || fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISBLK(st.st_mode) && !S_ISREG(st.st_mode))
		return -ENOTBLK;
	bdev = calloc(1, sizeof(*bdev));
	if (!bdev)
		return -ENOMEM;
	bdev->fd = fd;
	bdev->buffered_fd = fd;
	access &= O_ACCMODE;
	bdev->can_read = access != O_WRONLY;
	bdev->can_write = access != O_RDONLY;
	ret = S_ISBLK(st.st_mode) ? ask_block(bdev, st.st_rdev) : ask_file(bdev, &st);
	if (ret) {
		free(bdev);
		return ret;
	}
	*result = bdev;
	return 0;
}

int device_create_virtual(uint64_t bytes, unsigned int logical_block, bool is_zoned, struct block_device **result)
{
	static atomic_uint serial;
	struct block_device *bdev = calloc(1, sizeof(*bdev));

	if (!bdev)
		return -ENOMEM;
	bdev->fd = -1;
	bdev->buffered_fd = -1;
	bdev->is_block = true;
	bdev->is_direct = true;
	bdev->is_zoned = is_zoned;
	bdev->can_read = true;
	bdev->can_write = true;
	bdev->bytes = bytes;
	bdev->logical_block = logical_block;
	bdev->direct_align = logical_block;
	bdev->disk = makedev(0, 0);
	bdev->inode = atomic_fetch_add(&serial, 1) + 1;
	*result = bdev;
	return 0;
}

void device_release(struct block_device *bdev)
{
	assert(!bdev->lane);
	if (bdev->buffered_fd != bdev->fd)
		close(bdev->buffered_fd);
	free(bdev);
}

void device_destroy(struct block_device *bdev)
{
	int fd = bdev->fd;

	device_release(bdev);
	if (fd >= 0)
		close(fd);
}

bool device_is_aligned(const struct block_device *bdev, uint64_t offset, uint64_t bytes)
{
	return bdev->is_direct && (offset | bytes) % bdev->direct_align == 0;
}

uint64_t kcopyd_device_bytes(const struct block_device *bdev)
{
	return bdev->bytes;
}

sector_t kcopyd_device_sectors(const struct block_device *bdev)
{
	return bdev->bytes / KCOPYD_SECTOR_BYTES + (bdev->bytes % KCOPYD_SECTOR_BYTES != 0);
}

unsigned int kcopyd_device_logical_block(const struct block_device *bdev)
{
	return bdev->logical_block;
}

bool kcopyd_device_is_block(const struct block_device *bdev)
{
	return bdev->is_block;
}

bool kcopyd_device_is_direct(const struct block_device *bdev)
{
	return bdev->is_direct;
}

bool kcopyd_device_is_zoned(const struct block_device *bdev)
{
	return bdev->is_zoned;
}

bool kcopyd_device_is_behind(const struct block_device *bdev, int fd)
{
	struct block_device other = { .fd = fd };
	struct stat st;

	if (fstat(fd, &st))
		return false;
	if (S_ISREG(st.st_mode)) {
		other.disk = st.st_dev;
		other.inode = st.st_ino;
	} else if (!S_ISBLK(st.st_mode)) {
		return false;
	} else if (find_disk(&other, st.st_rdev) || find_backing(&other)) {
		return true; /* who knows */
	}
	return other.disk == bdev->disk && other.inode == bdev->inode;
}

int kcopyd_device_fd(const struct block_device *bdev)
{
	return bdev->fd;
}

/* No overflow: a sector count is below 2^55, both for what is asked of a region and for where a partition begins. */
bool kcopyd_regions_overlap(const struct io_region *a, const struct io_region *b)
{
	sector_t a_first = a->bdev->disk_sector + a->sector;
	sector_t b_first = b->bdev->disk_sector + b->sector;

	if (a->bdev->disk != b->bdev->disk || a->bdev->inode != b->bdev->inode)
		return false;
	if (a->count == 0 || b->count == 0)
		return false;
	return a_first < b_first + b->count + b->bdev->disk_skew && b_first < a_first + a->count + a->bdev->disk_skew;
}
