/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "holes.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <stdatomic.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "device.h"
#include "zeros.h"

/*
 * FUSE asks its server. That has not heard yet of what is still in the page cache, so what it says of holes is believed only
 * of a source that was written back; and some take a hole to be punched for a hint: nbdfuse makes a trim of it, after which
 * there may be anything. So the destination is asked to zero a range, or zeros are written.
 */

/* How many small holes are passed over before an answer is given, so that it comes soon. */
#define MOST_STEPS 64

/* -- the source ---------------------------------------------------------------------------------- */

/* A file that was cut off has no data there either; but what is gone is no hole. */
static bool is_whole(const struct block_device *bdev)
{
	struct stat st;

	return fstat(bdev->fd, &st) == 0 && (uint64_t)st.st_size >= bdev->bytes;
}

/* Where the next data begins, @end at the most. -errno: who knows. */
static int64_t next_data(const struct block_device *bdev, uint64_t offset, uint64_t end)
{
	off_t data = lseek(bdev->fd, (off_t)offset, SEEK_DATA);

	if (data >= (off_t)offset)
		return (uint64_t)data < end ? data : (int64_t)end;
	/* ENXIO: there is none up to the end of the file (lseek(2)). */
	if (data < 0 && errno == ENXIO && is_whole(bdev))
		return (int64_t)end;
	return -EOPNOTSUPP;
}

void holes_find(const struct block_device *bdev, uint64_t offset, uint64_t end, uint64_t *hole_end, uint64_t *data_end)
{
	int64_t data;
	off_t hole;

	*hole_end = offset;
	*data_end = end;
	if (bdev->is_fuse && fdatasync(bdev->fd))
		return;
	data = next_data(bdev, offset, end);
	if (data < 0)
		return;
	if ((uint64_t)data - offset >= bdev->hole_least || (uint64_t)data == end)
		*hole_end = (uint64_t)data;
	for (int step = 0; (uint64_t)data < end; step++) {
		*data_end = (uint64_t)data;
		if (step == MOST_STEPS)
			return;
		*data_end = end;
		hole = lseek(bdev->fd, (off_t)data, SEEK_HOLE);
		if (hole < data || (uint64_t)hole >= end)
			return;
		data = next_data(bdev, (uint64_t)hole, end);
		if (data < 0)
			return;
		if ((uint64_t)data - (uint64_t)hole >= bdev->hole_least) {
			*data_end = (uint64_t)hole;
			return;
		}
	}
}

/* -- the destination ----------------------------------------------------------------------------- */

static int64_t write_zeros(const struct block_device *bdev, uint64_t offset, uint64_t bytes)
{
	int fd = device_is_aligned(bdev, offset, bytes) ? bdev->fd : bdev->buffered_fd;
	uint64_t done = 0;

	while (done < bytes) {
		uint64_t left = bytes - done;
		ssize_t moved =
			pwrite(fd, zeros_memory, left < ZEROS_BYTES ? left : ZEROS_BYTES, (off_t)(offset + done));

		/* A file system that takes O_DIRECT and then refuses. */
		if (moved < 0 && (errno == EINVAL || errno == EOPNOTSUPP) && fd != bdev->buffered_fd) {
			fd = bdev->buffered_fd;
			continue;
		}
		if (moved <= 0)
			return done > 0 ? (int64_t)done : moved < 0 ? -errno : 0;
		done += (uint64_t)moved;
	}
	return (int64_t)done;
}

/*
 * Without sending zeros. On a block device (blkdev_fallocate(), block/fops.c) PUNCH_HOLE is a write-zeroes command that
 * may unmap, or EOPNOTSUPP; never a discard, after which there may be anything. In a file PUNCH_HOLE and ZERO_RANGE read
 * as zeros (fallocate(2)). Both drop what the page cache has of the range.
 */
static int zero_range(struct block_device *bdev, uint64_t offset, uint64_t bytes)
{
	int error = EOPNOTSUPP;

	if (bdev->is_zoned || atomic_load(&bdev->cannot_zero))
		return -EOPNOTSUPP;
	if (!bdev->is_fuse) {
		if (fallocate(bdev->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)bytes) == 0)
			return 0;
		error = errno;
	}
	if (!bdev->is_block && fallocate(bdev->fd, FALLOC_FL_ZERO_RANGE, (off_t)offset, (off_t)bytes) == 0)
		return 0;
	if (error == EOPNOTSUPP || error == ENOSYS || error == ENOTTY)
		atomic_store(&bdev->cannot_zero, true);
	return -error;
}

/*
 * The kernel's zeros are written without ours going through memory, many at a time. Not to zones: a part that fails
 * moves the write pointer, and is not told.
 */
static int64_t send_zeros(const struct block_device *bdev, uint64_t offset, uint64_t bytes)
{
	uint64_t range[2] = { offset, bytes };

	if (bdev->is_block && !bdev->is_zoned && ioctl(bdev->fd, BLKZEROOUT, range) == 0)
		return (int64_t)bytes;
	/* Which also tells how far it went. */
	return write_zeros(bdev, offset, bytes);
}

/*
 * To what offset the file has a hole from byte @offset on; @offset: it has none there, or that cannot be told. Nobody
 * but this lane writes to that range now. Then there is nothing to do, and a punch would wait for all direct I/O on the
 * file (inode_dio_wait()).
 */
static uint64_t find_hole(const struct block_device *bdev, uint64_t offset, uint64_t file_bytes)
{
	off_t data;

	if (bdev->is_fuse)
		return offset;
	data = lseek(bdev->fd, (off_t)offset, SEEK_DATA);
	if (data < 0 && errno == ENXIO && offset < file_bytes)
		return file_bytes;
	return data > (off_t)offset ? (uint64_t)data : offset;
}

/* Zeros behind the end of the file are there when it is long enough. Never cut: others write behind this range. */
static int64_t make_long_enough(const struct block_device *bdev, uint64_t offset, uint64_t end)
{
	uint64_t last = (end - 1) - (end - 1) % KCOPYD_PAGE_BYTES;
	struct stat st;
	int64_t ret;

	if (fstat(bdev->fd, &st))
		return -errno;
	if ((uint64_t)st.st_size >= end)
		return 0;
	if (last < offset)
		last = offset;
	ret = write_zeros(bdev, last, end - last);
	if (ret < 0)
		return ret;
	return (uint64_t)ret == end - last ? 0 : -EAGAIN;
}

static int64_t make_in_file(struct block_device *bdev, uint64_t offset, uint64_t bytes, struct holes_made *made)
{
	uint64_t end = offset + bytes;
	struct stat st;
	int64_t ret;

	if (fstat(bdev->fd, &st))
		return -errno;
	made->zero_end = find_hole(bdev, offset, (uint64_t)st.st_size);
	if (made->zero_end >= end)
		return (int64_t)bytes;
	made->zero_end = 0;
	/* What a file does not have cannot be punched out of it. */
	if (offset < (uint64_t)st.st_size && zero_range(bdev, offset, bytes)) {
		made->is_written = true;
		return send_zeros(bdev, offset, bytes);
	}
	ret = make_long_enough(bdev, offset, end);
	return ret ? ret : (int64_t)bytes;
}

int64_t holes_make(struct block_device *bdev, uint64_t offset, uint64_t bytes, struct holes_made *made)
{
	*made = (struct holes_made){ .is_written = false };
	if (!bdev->is_block)
		return make_in_file(bdev, offset, bytes, made);
	if (zero_range(bdev, offset, bytes) == 0)
		return (int64_t)bytes;
	made->is_written = true;
	return send_zeros(bdev, offset, bytes);
}
