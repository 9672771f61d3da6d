/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "device.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/blkzoned.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "stack.h"

/*
 * Where a file system does not say what direct I/O needs (before Linux 6.1, or FUSE, which needs nothing): the least
 * that any wants. One that wants more answers EINVAL, and lane_aio does that transfer page-cached.
 */
#define LEAST_DIRECT_ALIGN KCOPYD_SECTOR_BYTES

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

/*
 * On a device a request of its own for zeros costs as much as to write so many: data and zeros in turns, over a loop device,
 * took 1.8 times as long with runs of 64 KiB, 1.2 with 128, 1.1 with 256.
 */
#define BLOCK_LEAST_ZEROS ((uint32_t)256 << 10)
#define BLOCK_ALIGN_ZEROS ((uint32_t)64 << 10)
/* What a file system's blocks are at the most; what it calls so and is larger is a good size for a transfer. */
#define FILE_MOST_BLOCK 65536u

static uint32_t larger(uint32_t a, uint32_t b)
{
	return a > b ? a : b;
}

static void set_block_zeros(struct block_device *bdev)
{
	bdev->zeros.align = larger(BLOCK_ALIGN_ZEROS, bdev->logical_block);
	bdev->zeros.least = larger(BLOCK_LEAST_ZEROS, bdev->logical_block);
}

/* To read zeros is faster than to ask for every small hole. */
#define FILE_LEAST_HOLE ((uint64_t)128 << 10)

/* In a file every block counts, that takes no space then. */
static void set_file_zeros(struct block_device *bdev, blksize_t block)
{
	bdev->hole_least = FILE_LEAST_HOLE;
	bdev->zeros.align = larger(KCOPYD_PAGE_BYTES, bdev->direct_align);
	if (block > KCOPYD_PAGE_BYTES && block <= FILE_MOST_BLOCK && (block & (block - 1)) == 0)
		bdev->zeros.align = larger(bdev->zeros.align, (uint32_t)block);
}

static bool is_fuse(int fd)
{
	struct statfs fs;

	return fstatfs(fd, &fs) || fs.f_type == FUSE_SUPER_MAGIC;
}

static int ask_block(struct block_device *bdev, dev_t rdev)
{
	int logical_block = 0;
	uint32_t zone_sectors = 0;

	if (ioctl(bdev->fd, BLKGETSIZE64, &bdev->bytes) < 0 || ioctl(bdev->fd, BLKSSZGET, &logical_block) < 0)
		return -errno;
	if (logical_block < (int)KCOPYD_SECTOR_BYTES || logical_block % (int)KCOPYD_SECTOR_BYTES)
		return -EINVAL;
	bdev->is_block = true;
	bdev->rdev = rdev;
	bdev->logical_block = (unsigned int)logical_block;
	bdev->direct_align = bdev->logical_block;
	set_block_zeros(bdev);
	bdev->is_zoned = ioctl(bdev->fd, BLKGETZONESZ, &zone_sectors) == 0 && zone_sectors > 0;
	bdev->is_direct = set_direct(bdev->fd) == 0 || (clear_direct(bdev->fd), false);
	return stack_find(bdev->fd, rdev, &bdev->identity);
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
	int flags = fcntl(bdev->fd, F_GETFL), ret;

	if (flags < 0)
		return -errno;
	bdev->bytes = (uint64_t)st->st_size;
	bdev->logical_block = KCOPYD_SECTOR_BYTES;
	ret = identity_add_whole(&bdev->identity, st->st_dev, st->st_ino);
	if (ret)
		return ret;
	if (clear_direct(bdev->fd))
		return -errno;
	bdev->direct_align = ask_direct_align(bdev->fd);
	bdev->is_fuse = is_fuse(bdev->fd);
	set_file_zeros(bdev, st->st_blksize);
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
		identity_release(&bdev->identity);
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
	set_block_zeros(bdev);
	if (identity_add_whole(&bdev->identity, makedev(0, 0), atomic_fetch_add(&serial, 1) + 1)) {
		free(bdev);
		return -ENOMEM;
	}
	*result = bdev;
	return 0;
}

void device_release(struct block_device *bdev)
{
	assert(!bdev->lane);
	if (bdev->buffered_fd != bdev->fd)
		close(bdev->buffered_fd);
	identity_release(&bdev->identity);
	free(bdev);
}

void device_destroy(struct block_device *bdev)
{
	int fd = bdev->fd;

	device_release(bdev);
	if (fd >= 0)
		close(fd);
}

/*
 * A disk that was removed has no size any more: del_gendisk() (block/genhd.c) has set_capacity(disk, 0). Its partitions
 * keep theirs, but del_gendisk() takes them from sysfs. Nobody else can while one is open (BLKPG_DEL_PARTITION and
 * BLKRRPART are answered by EBUSY), and its number is given to no other before it is closed.
 */
bool device_is_absent(const struct block_device *bdev)
{
	char path[48];
	uint64_t bytes = 0;

	if (!bdev->is_block || bdev->fd < 0)
		return false;
	if (ioctl(bdev->fd, BLKGETSIZE64, &bytes))
		return errno == ENODEV || errno == ENXIO || errno == ENOMEDIUM;
	if (bytes == 0)
		return true;
	snprintf(path, sizeof(path), "/sys/dev/block/%u:%u", major(bdev->rdev), minor(bdev->rdev));
	return access(path, F_OK) < 0 && errno == ENOENT && access("/sys/dev/block", F_OK) == 0;
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

/* Of any descriptor. 1: @identity is filled, to be released; 0: neither device nor file. -errno: it cannot be told. */
static int identify(int fd, struct identity *identity)
{
	struct stat st;
	int ret;

	*identity = (struct identity){ 0 };
	if (fstat(fd, &st) || (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode)))
		return 0;
	if (S_ISREG(st.st_mode))
		ret = identity_add_whole(identity, st.st_dev, st.st_ino);
	else
		ret = stack_find(fd, st.st_rdev, identity);
	if (ret == 0)
		return 1;
	identity_release(identity);
	return ret;
}

bool kcopyd_device_is_behind(const struct block_device *bdev, int fd)
{
	struct identity other;
	int ret = identify(fd, &other);
	bool is_behind;

	if (ret <= 0)
		return ret < 0; /* an error: who knows */
	is_behind = identity_has_common_base(&bdev->identity, &other);
	identity_release(&other);
	return is_behind;
}

bool kcopyd_device_is_on_file(const struct block_device *bdev, uint64_t device, uint64_t inode)
{
	struct piece piece = { .disk = (dev_t)device, .inode = (ino_t)inode };
	struct identity file = { .pieces = &piece, .num_pieces = 1 };

	return identity_has_common_base(&bdev->identity, &file);
}

int kcopyd_regions_are_behind(const struct io_region *regions, unsigned int num, int fd, uint64_t *behind)
{
	struct identity other;
	int ret = identify(fd, &other);

	*behind = 0;
	if (ret <= 0)
		return ret;
	for (unsigned int i = 0; i < num; i++)
		if (regions[i].bdev && identity_has_overlap(&regions[i].bdev->identity, regions[i].sector,
							    regions[i].count, &other, 0, PIECE_TO_END / 2))
			*behind |= (uint64_t)1 << i;
	identity_release(&other);
	return 0;
}

int kcopyd_region_is_behind(const struct io_region *region, int fd)
{
	uint64_t behind;
	int ret = kcopyd_regions_are_behind(region, 1, fd, &behind);

	return ret ? ret : behind != 0;
}

int kcopyd_device_fd(const struct block_device *bdev)
{
	return bdev->fd;
}

bool kcopyd_regions_overlap(const struct io_region *a, const struct io_region *b)
{
	return identity_has_overlap(&a->bdev->identity, a->sector, a->count, &b->bdev->identity, b->sector, b->count);
}
