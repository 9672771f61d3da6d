/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where a file has no data, and how a range of a device or file is made to read as zeros without sending it any.
 * Blocking calls: for a lane's thread alone.
 */
#ifndef KCOPYD_HOLES_H
#define KCOPYD_HOLES_H

#include <stdbool.h>
#include <stdint.h>

struct block_device;

/*
 * What a source file has from byte @offset to byte @end: first a hole, up to @hole_end (@offset: none), then data, up to
 * @data_end; what is behind that was not looked at. What cannot be told is data. Both are what the file system says of
 * this moment, not aligned to anything.
 */
void holes_find(const struct block_device *bdev, uint64_t offset, uint64_t end, uint64_t *hole_end, uint64_t *data_end);

/* What became of zeroing. */
struct holes_made {
	bool is_written;   /* it took zeros that were sent */
	uint64_t zero_end; /* bytes: from the range's end up to here there were zeros already */
};

/*
 * Makes @bytes from byte @offset read as zeros, by nothing but the guarantees of what it calls; where the device or file
 * system can do it, they take no space afterwards. What cannot be zeroed is written. A file is as long then as if it had
 * been written. Bytes that are zeros now, counted from @offset, or -errno.
 */
int64_t holes_make(struct block_device *bdev, uint64_t offset, uint64_t bytes, struct holes_made *made);

#endif
