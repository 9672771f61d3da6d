/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "lane_sync.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "device.h"
#include "holes.h"
#include "zones.h"

struct lane_sync {
	struct block_device *bdev; /* borrowed */
	int wake_fd;		   /* owned: an eventfd */
	struct lane_event event;   /* finished, not yet reaped; request NULL: none */
};

static int64_t zero(struct block_device *bdev, struct lane_request *request, uint64_t offset, uint64_t bytes)
{
	struct holes_made made;
	int64_t ret = holes_make(bdev, offset, bytes, &made);

	request->is_written |= made.is_written;
	request->zero_end = made.zero_end;
	return ret;
}

int64_t lane_sync_count_done(const struct block_device *bdev, const struct lane_request *request, int64_t result)
{
	uint64_t written;

	if (result >= 0 || !bdev->is_zoned || result == -EINTR || result == -EAGAIN)
		return result;
	if (request->op != LANE_WRITE && request->op != LANE_ZERO)
		return result;
	written = zones_find_written(bdev, request->offset + request->done, request->bytes - request->done,
				     request->buffer ? request->buffer + request->done : NULL);
	return written > 0 ? (int64_t)written : result;
}

static int64_t transfer(int fd, const struct lane_request *request, uint64_t offset, uint64_t bytes)
{
	char *buffer = request->buffer + request->done;
	ssize_t moved;

	if (request->op == LANE_READ)
		moved = pread(fd, buffer, bytes, (off_t)offset);
	else
		moved = pwrite(fd, buffer, bytes, (off_t)offset);
	return moved < 0 ? -errno : moved;
}

int64_t lane_sync_execute(struct block_device *bdev, struct lane_request *request)
{
	uint64_t offset = request->offset + request->done;
	uint64_t bytes = request->bytes - request->done;
	int64_t ret = -EINVAL;

	switch (request->op) {
	case LANE_READ:
	case LANE_WRITE:
		if (device_is_aligned(bdev, offset, bytes))
			ret = transfer(bdev->fd, request, offset, bytes);
		if (ret == -EINVAL || ret == -EOPNOTSUPP)
			ret = transfer(bdev->buffered_fd, request, offset, bytes);
		break;
	case LANE_ZERO:
		ret = zero(bdev, request, offset, bytes);
		break;
	case LANE_FLUSH:
		ret = fsync(bdev->fd) ? -errno : 0;
		break;
	case LANE_EXTENT:
		holes_find(bdev, offset, offset + bytes, &request->zero_end, &request->data_end);
		ret = (int64_t)bytes;
		break;
	}
	return lane_sync_count_done(bdev, request, ret);
}

/* -- the page cache ------------------------------------------------------------------------------ */

#ifndef __NR_cachestat
#define __NR_cachestat 451 /* Linux 6.5; the number is the same everywhere but on alpha */
#endif
/* Where what is cached cannot be told, everything is said to be: then it is not asked any more. */
#define MAX_MISSES 64u
/*
 * A page that an earlier reader's readahead has marked makes whoever reads it start the next one, if a page is missing behind
 * it. So it is looked so far ahead, more than any readahead is: what is cached must go on there.
 */
#define AHEAD_BYTES ((uint64_t)4 << 20)
#define MAX_PAGES (256u + 1024u)
/* What is shorter is not worth two requests more. */
#define MIN_PAGES 16u

/* include/uapi/linux/mman.h, of Linux 6.5. */
struct cachestat_range {
	uint64_t offset, bytes;
};

struct cachestat {
	uint64_t cached, dirty, writeback, evicted, recently_evicted;
};

/*
 * Which of the @pages pages from @offset on, a page's start, are in the cache? Touches none of them. False: none, or it
 * cannot be told.
 */
static bool find_resident(int fd, uint64_t offset, uint64_t pages, unsigned char *residency)
{
	struct cachestat_range range = { offset, pages * KCOPYD_PAGE_BYTES };
	struct cachestat stat;
	void *map;
	int ret;

	/* Cheaper, and mostly it is all or nothing. */
	if (syscall(__NR_cachestat, fd, &range, &stat, 0) == 0) {
		memset(residency, 1, pages);
		if (stat.cached == 0 || stat.cached >= pages)
			return stat.cached > 0;
	} else if (errno != ENOSYS) {
		return false;
	}
	map = mmap(NULL, range.bytes, PROT_READ, MAP_SHARED, fd, (off_t)offset);
	if (map == MAP_FAILED)
		return false;
	ret = mincore(map, range.bytes, residency);
	munmap(map, range.bytes);
	return ret == 0;
}

/* Nothing but what was dropped here and there is missing. */
static bool goes_on(const unsigned char *residency, uint64_t pages)
{
	uint64_t resident = 0;

	for (uint64_t i = 0; i < pages; i++)
		resident += residency[i] & 1;
	return (residency[pages - 1] & 1) && resident >= pages - pages / 16;
}

/* How many pages from @first on are resident, or are not. */
static uint64_t run(const unsigned char *residency, uint64_t first, uint64_t pages, bool is_resident)
{
	uint64_t at = first;

	while (at < pages && (residency[at] & 1) == is_resident)
		at++;
	return at - first;
}

static uint64_t to_pages(uint64_t bytes)
{
	return (bytes + KCOPYD_PAGE_BYTES - 1) / KCOPYD_PAGE_BYTES;
}

uint64_t page_cache_has(const struct page_cache *cache, const struct lane_request *request, uint64_t *direct)
{
	const struct block_device *bdev = cache->bdev;
	uint64_t start = request->offset + request->done, left = request->bytes - request->done;
	uint64_t in_file = start < bdev->bytes ? bdev->bytes - start : 0, pages, ahead, at = 0, length;
	unsigned char residency[MAX_PAGES];

	*direct = left;
	/* Only of files that are just read: what was written is to be read from the disk, if anybody wants to see it. */
	if (request->op != LANE_READ || bdev->is_block || bdev->can_write || cache->misses >= MAX_MISSES)
		return 0;
	if (sysconf(_SC_PAGESIZE) != (long)KCOPYD_PAGE_BYTES || start % KCOPYD_PAGE_BYTES || in_file == 0)
		return 0;
	pages = to_pages(left < in_file ? left : in_file);
	ahead = to_pages(left + AHEAD_BYTES < in_file ? left + AHEAD_BYTES : in_file);
	if (ahead > MAX_PAGES || !find_resident(bdev->buffered_fd, start, ahead, residency) ||
	    !goes_on(residency, ahead))
		return 0;
	length = run(residency, 0, pages, true);
	if (length == pages)
		return left;
	if (length >= MIN_PAGES)
		return length * KCOPYD_PAGE_BYTES;
	/* Up to the next run that is worth it. */
	while (at < pages && length < MIN_PAGES) {
		at += length;
		at += run(residency, at, pages, false);
		length = run(residency, at, pages, true);
	}
	if (at < pages)
		*direct = at * KCOPYD_PAGE_BYTES;
	return 0;
}

int64_t page_cache_read(struct page_cache *cache, const struct lane_request *request, uint64_t bytes)
{
	const struct block_device *bdev = cache->bdev;
	uint64_t start = request->offset + request->done, moved, past;
	struct iovec iov = { request->buffer + request->done, bytes };
	ssize_t ret = preadv2(bdev->buffered_fd, &iov, 1, (off_t)start, RWF_NOWAIT);

	if (ret <= 0) {
		cache->misses++;
		return 0;
	}
	moved = (uint64_t)ret;
	if (moved == bytes || start + moved >= bdev->bytes)
		return ret;
	/* Somebody was faster to drop it. */
	cache->misses++;
	past = (start + moved) % KCOPYD_PAGE_BYTES;
	return past < moved ? (int64_t)(moved - past) : 0;
}

/* -- the engine ---------------------------------------------------------------------------------- */

int lane_sync_create(struct block_device *bdev, void **engine)
{
	struct lane_sync *sync = calloc(1, sizeof(*sync));
	int ret;

	if (!sync)
		return -ENOMEM;
	sync->bdev = bdev;
	sync->wake_fd = eventfd(0, EFD_CLOEXEC);
	if (sync->wake_fd < 0) {
		ret = -errno;
		free(sync);
		return ret;
	}
	*engine = sync;
	return 0;
}

static int sync_submit(void *engine, struct lane_request **requests, unsigned int count)
{
	struct lane_sync *sync = engine;

	if (count == 0 || sync->event.request)
		return 0;
	sync->event.result = lane_sync_execute(sync->bdev, requests[0]);
	sync->event.request = requests[0];
	return 1;
}

static int sync_reap(void *engine, struct lane_event *events, unsigned int max, int timeout_ms)
{
	struct lane_sync *sync = engine;
	struct pollfd pollfd = { .fd = sync->wake_fd, .events = POLLIN };
	uint64_t wakes;

	if (sync->event.request && max > 0) {
		events[0] = sync->event;
		sync->event.request = NULL;
		return 1;
	}
	if (timeout_ms != 0 && poll(&pollfd, 1, timeout_ms) > 0)
		(void)!read(sync->wake_fd, &wakes, sizeof(wakes));
	return 0;
}

static void sync_wake(void *engine)
{
	const struct lane_sync *sync = engine;
	uint64_t one = 1;

	(void)!write(sync->wake_fd, &one, sizeof(one));
}

static void sync_close(void *engine)
{
	struct lane_sync *sync = engine;

	close(sync->wake_fd);
	free(sync);
}

const struct lane_engine_ops lane_sync_ops = {
	.submit = sync_submit,
	.reap = sync_reap,
	.wake = sync_wake,
	.close = sync_close,
};
