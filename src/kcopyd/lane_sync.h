/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The lane engine over blocking calls, one request at a time: where direct I/O or libaio is not to be had. And the
 * blocking calls themselves, for whatever has no asynchronous form.
 */
#ifndef KCOPYD_LANE_SYNC_H
#define KCOPYD_LANE_SYNC_H

#include <stdbool.h>

#include "lane.h"

extern const struct lane_engine_ops lane_sync_ops;

/* Borrows @bdev until closed. */
int lane_sync_create(struct block_device *bdev, void **engine);

/* One attempt at what is left of @request, here and now: bytes moved (0 for a flush), or -errno. */
int64_t lane_sync_execute(struct block_device *bdev, struct lane_request *request);

/*
 * @result is what an engine got for one attempt: of a write that failed on a zoned device, the bytes that are written all the
 * same (see zones_find_written()), as if it had been short; else just that.
 */
int64_t lane_sync_count_done(const struct block_device *bdev, const struct lane_request *request, int64_t result);

/* A file's pages in the page cache: what one lane knows of them. */
struct page_cache {
	const struct block_device *bdev; /* borrowed */
	unsigned int misses;		 /* what was said to be cached, and was not */
};

/*
 * How much of what is left of @request, from its start on, is in the page cache, so that it need not be read from the disk:
 * bytes, enough to be worth it, which direct I/O can go on behind; or 0, and @direct is how much had better be read from
 * the disk.
 */
uint64_t page_cache_has(const struct page_cache *cache, const struct lane_request *request, uint64_t *direct);

/* Takes those @bytes from there, and nothing that is not there: bytes moved, as above; or 0. */
int64_t page_cache_read(struct page_cache *cache, const struct lane_request *request, uint64_t bytes);

#endif
