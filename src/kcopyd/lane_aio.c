/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "lane_aio.h"

#include <assert.h>
#include <errno.h>
#include <libaio.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "device.h"
#include "lane_sync.h"

/* Whoever takes longer for a transfer needs many requests to the end, or has time enough. */
#define QUICK_BYTES_A_SECOND ((uint64_t)100 << 20)
#define QUICK_NS 1000000u
/* Enough to keep such a device busy. */
#define TOGETHER_BYTES ((uint64_t)4 << 20)
/* Taking a context down takes that long, at 100 ticks a second; so much before the end it is begun. */
#define DROPPING_MS 45u
#define LEAST_END_BYTES ((uint64_t)32 << 20)
#define MOST_END_BYTES ((uint64_t)96 << 20)
/* A source of which only every so many bytes are not in the page cache needs no context for them, as long as they are few. */
#define MOSTLY_CACHED 8u
#define MOST_MISSING_BYTES ((uint64_t)16 << 20)

struct lane_aio {
	struct block_device *bdev; /* borrowed */
	io_context_t context;	   /* NULL: not needed yet, or not to be had */
	bool is_refused;	   /* not to be had: blocking calls do it all, one by one */
	bool is_used;		   /* something was transferred since the last flush */
	bool is_quick;		   /* the first transfer was */
	uint64_t first_rate;	   /* of that, in bytes a second */
	uint64_t begin_ns;	   /* when it was begun; 0: nothing was asked of it yet */
	uint64_t moved;		   /* bytes since then */
	uint64_t cached;	   /* bytes that the page cache had */
	uint64_t end_bytes;	   /* how much of the end is done by blocking calls; 0: it is not near */
	bool is_flushed;	   /* nothing was since a flush: the end, most likely */
	bool is_dropping;	   /* dropper takes the context down: it is nobody else's any more */
	pthread_t dropper;
	int event_fd;		/* owned: counts completions and wakes, so that one read() waits for both */
	unsigned int in_flight; /* in the kernel's hands */
	struct iocb iocbs[LANE_AIO_DEPTH];
	struct iocb *free_iocbs[LANE_AIO_DEPTH];
	unsigned int num_free;
	struct page_cache cache;
	struct lane_event ready[LANE_AIO_DEPTH]; /* what the blocking calls finished, not yet reaped */
	unsigned int num_ready;
};

int lane_aio_create(struct block_device *bdev, void **engine)
{
	struct lane_aio *aio = calloc(1, sizeof(*aio));
	int ret;

	if (!aio)
		return -ENOMEM;
	aio->bdev = bdev;
	aio->cache.bdev = bdev;
	aio->event_fd = eventfd(0, EFD_CLOEXEC);
	if (aio->event_fd < 0) {
		ret = -errno;
		free(aio);
		return ret;
	}
	for (unsigned int i = 0; i < LANE_AIO_DEPTH; i++)
		aio->free_iocbs[aio->num_free++] = &aio->iocbs[i];
	*engine = aio;
	return 0;
}

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static uint64_t bytes_left(const struct lane_request *request)
{
	return request->bytes - request->done;
}

static bool can_be_direct(const struct lane_aio *aio, const struct lane_request *request)
{
	if (request->op != LANE_READ && request->op != LANE_WRITE)
		return false;
	return device_is_aligned(aio->bdev, request->offset + request->done, bytes_left(request));
}

/*
 * A context costs nothing to make and 30 ms to take down (io_destroy() waits for RCU twice). So the first transfer is a
 * blocking call, and the second one asks for a context: a copy of one chunk never has any. And if the first one was quick,
 * towards the end everything is done by blocking calls again, several writes by each, while the context is taken down:
 * a small copy never has one either. A device that takes its time needs many requests to the last.
 */
static bool is_ending(const struct lane_aio *aio, const struct lane_request *request)
{
	return request->to_end > 0 && request->to_end <= aio->end_bytes && aio->is_quick && can_be_direct(aio, request);
}

static uint64_t bytes_a_second(uint64_t bytes, uint64_t since_ns)
{
	uint64_t ns = now_ns() - since_ns;

	return (uint64_t)((double)bytes * 1e9 / (double)(ns ? ns : 1));
}

/*
 * How much is copied while a context is taken down, at the rate so far; but what is fast only with many requests at once
 * would not be in the end, so no more than twice what the first one was alone.
 */
static void find_end(struct lane_aio *aio, const struct lane_request *request)
{
	uint64_t rate;

	if (request->to_end > MOST_END_BYTES)
		aio->end_bytes = 0;
	if (aio->end_bytes > 0 || request->to_end == 0 || request->to_end > MOST_END_BYTES || aio->moved == 0)
		return;
	rate = bytes_a_second(aio->moved, aio->begin_ns);
	if (rate > 2 * aio->first_rate)
		rate = 2 * aio->first_rate;
	aio->end_bytes = rate / 1000 * DROPPING_MS;
	if (aio->end_bytes < LEAST_END_BYTES)
		aio->end_bytes = LEAST_END_BYTES;
	if (aio->end_bytes > MOST_END_BYTES)
		aio->end_bytes = MOST_END_BYTES;
}

/* The source is, but the next @direct bytes are not: what is missing here and there, of a device that is asked quickly. */
static bool is_mostly_cached(const struct lane_aio *aio, const struct lane_request *request, uint64_t *direct)
{
	uint64_t missing;

	if (request->op != LANE_READ || aio->context || !aio->is_quick || aio->cached == 0)
		return false;
	if (page_cache_has(&aio->cache, request, direct))
		return false;
	missing = aio->moved - aio->cached + *direct;
	return missing <= MOST_MISSING_BYTES && missing * MOSTLY_CACHED <= aio->cached;
}

static void want_context(struct lane_aio *aio)
{
	aio->is_flushed = false;
	if (!aio->context && !aio->is_refused)
		aio->is_refused = io_setup((int)LANE_AIO_DEPTH, &aio->context) < 0;
}

static bool is_asynchronous(const struct lane_aio *aio, const struct lane_request *request)
{
	return aio->context && can_be_direct(aio, request) && !is_ending(aio, request);
}

static void *drop(void *context)
{
	io_destroy(context);
	return NULL;
}

/* Behind a flush comes nothing any more, most likely: what takes time for nothing has its time meanwhile. */
static void begin_dropping(struct lane_aio *aio)
{
	if (!aio->context || aio->in_flight > 0 || aio->is_dropping)
		return;
	aio->is_dropping = pthread_create(&aio->dropper, NULL, drop, aio->context) == 0;
	if (aio->is_dropping)
		aio->context = NULL;
}

static void end_dropping(struct lane_aio *aio)
{
	if (aio->is_dropping)
		pthread_join(aio->dropper, NULL);
	aio->is_dropping = false;
}

static void count_moved(struct lane_aio *aio, const struct lane_request *request, int64_t result)
{
	if (request->buffer && result > 0)
		aio->moved += (uint64_t)result;
}

/* What a blocking call made of a request, to be reaped. */
static void finish(struct lane_aio *aio, struct lane_request *request, int64_t result)
{
	struct lane_event *event;

	assert(aio->num_ready < LANE_AIO_DEPTH);
	event = &aio->ready[aio->num_ready++];
	event->request = request;
	event->result = result;
	count_moved(aio, request, result);
}

static void execute(struct lane_aio *aio, struct lane_request *request)
{
	if (request->op == LANE_FLUSH)
		begin_dropping(aio);
	finish(aio, request, lane_sync_execute(aio->bdev, request));
	aio->is_flushed = request->op == LANE_FLUSH;
}

/* The first @bytes of what is left of it. */
static void execute_part(struct lane_aio *aio, struct lane_request *request, uint64_t bytes)
{
	struct lane_request part = *request;

	part.bytes = request->done + bytes;
	finish(aio, request, lane_sync_execute(aio->bdev, &part));
}

/* It says what the device is like. */
static void execute_first(struct lane_aio *aio, struct lane_request *request)
{
	uint64_t begin_ns = now_ns(), bytes = bytes_left(request);

	execute(aio, request);
	aio->is_used = true;
	aio->first_rate = bytes_a_second(bytes, begin_ns);
	aio->is_quick = now_ns() - begin_ns <= QUICK_NS + bytes * 1000 / (QUICK_BYTES_A_SECOND / 1000000);
}

/*
 * How many of them, from the first on, one call can do. Reads are done one by one: what could be read is
 * not to wait for what cannot, of a source that hangs or fails.
 */
static unsigned int count_together(const struct lane_aio *aio, struct lane_request **requests, unsigned int count)
{
	uint64_t end = requests[0]->offset + requests[0]->done, bytes = 0;
	unsigned int num;

	for (num = 0; num < count; num++) {
		const struct lane_request *request = requests[num];

		if (num > 0 && (request->op != LANE_WRITE || request->offset + request->done != end ||
				bytes + bytes_left(request) > TOGETHER_BYTES || !is_ending(aio, request)))
			break;
		bytes += bytes_left(request);
		end += bytes_left(request);
	}
	return requests[0]->op == LANE_WRITE ? num : 1;
}

/* Blocking calls at the end: as many of the requests as make sense by one of them. Returns how many. */
static int execute_together(struct lane_aio *aio, struct lane_request **requests, unsigned int count)
{
	struct iovec vector[LANE_AIO_DEPTH];
	unsigned int num = count_together(aio, requests, count);
	uint64_t left;
	ssize_t moved = -1;

	for (unsigned int i = 0; i < num; i++) {
		vector[i].iov_base = requests[i]->buffer + requests[i]->done;
		vector[i].iov_len = bytes_left(requests[i]);
	}
	if (num > 1)
		moved = pwritev(aio->bdev->fd, vector, (int)num, (off_t)(requests[0]->offset + requests[0]->done));
	/* Which of them failed, and how, they tell one by one. */
	if (moved <= 0) {
		/* Not each of them with all behind it: a bad disk takes seconds for every time that it is asked. */
		if (num > 1)
			aio->is_quick = false;
		execute(aio, requests[0]);
		return 1;
	}
	left = (uint64_t)moved;
	for (num = 0; left > 0; num++) {
		uint64_t bytes = left < vector[num].iov_len ? left : vector[num].iov_len;

		finish(aio, requests[num], (int64_t)bytes);
		left -= bytes;
	}
	return (int)num;
}

static struct iocb *prepare(struct lane_aio *aio, struct lane_request *request, size_t bytes)
{
	struct iocb *iocb = aio->free_iocbs[--aio->num_free];
	char *buffer = request->buffer + request->done;
	long long offset = (long long)(request->offset + request->done);

	if (request->op == LANE_READ)
		io_prep_pread(iocb, aio->bdev->fd, buffer, bytes, offset);
	else
		io_prep_pwrite(iocb, aio->bdev->fd, buffer, bytes, offset);
	iocb->data = request;
	io_set_eventfd(iocb, aio->event_fd);
	return iocb;
}

/* 1: it was; 0: not before what is ready was reaped; -1: it has to be read from the disk. */
static int read_cached(struct lane_aio *aio, struct lane_request *request)
{
	uint64_t direct, bytes = page_cache_has(&aio->cache, request, &direct);
	int64_t moved;

	if (bytes == 0)
		return -1;
	if (aio->num_ready > 0)
		return 0;
	moved = page_cache_read(&aio->cache, request, bytes);
	if (moved == 0)
		return -1;
	finish(aio, request, moved);
	aio->cached += (uint64_t)moved;
	return 1;
}

static int aio_submit(void *engine, struct lane_request **requests, unsigned int count)
{
	struct lane_aio *aio = engine;
	struct iocb *batch[LANE_AIO_DEPTH];
	unsigned int prepared = 0;
	uint64_t direct;
	int taken, ret;

	if (count > 0 && aio->begin_ns == 0)
		aio->begin_ns = now_ns();
	ret = count > 0 ? read_cached(aio, requests[0]) : 0;
	if (ret >= 0)
		return ret;
	if (can_be_direct(aio, requests[0])) {
		find_end(aio, requests[0]);
		if (aio->num_ready > 0 && (!aio->is_used || is_ending(aio, requests[0])))
			return 0;
		if (!aio->is_used) {
			execute_first(aio, requests[0]);
			return 1;
		}
		if (is_ending(aio, requests[0])) {
			begin_dropping(aio);
			return execute_together(aio, requests, count);
		}
		if (is_mostly_cached(aio, requests[0], &direct)) {
			if (aio->num_ready > 0)
				return 0;
			execute_part(aio, requests[0], direct);
			return 1;
		}
		want_context(aio);
	}
	while (prepared < count && aio->num_free > 0 && is_asynchronous(aio, requests[prepared])) {
		/* What is to be had at once is not to hold up what is not. */
		if (page_cache_has(&aio->cache, requests[prepared], &direct) && prepared > 0)
			break;
		batch[prepared] = prepare(aio, requests[prepared], direct);
		prepared++;
	}
	if (prepared == 0) {
		/* One blocking call, then its completion: the next may find others to overlap with. */
		if (aio->num_ready > 0 || is_asynchronous(aio, requests[0]))
			return 0;
		execute(aio, requests[0]);
		return 1;
	}
	taken = io_submit(aio->context, (long)prepared, batch);
	for (unsigned int i = prepared; i > 0 && (taken < 0 || i > (unsigned int)taken); i--)
		aio->free_iocbs[aio->num_free++] = batch[i - 1];
	if (taken >= 0) {
		aio->in_flight += (unsigned int)taken;
		return taken;
	}
	if (taken == -EAGAIN || taken == -EINTR)
		return 0;
	/* The first one cannot be done this way (a file system that takes O_DIRECT and then refuses): the blocking call
	 * has the last word. */
	execute(aio, requests[0]);
	return 1;
}

/* While the others still flush, and not when the device is closed: contexts are taken down side by side. */
static void drop_context(struct lane_aio *aio)
{
	end_dropping(aio);
	if (aio->context)
		io_destroy(aio->context);
	aio->context = NULL;
	aio->is_used = false;
	aio->is_flushed = false;
	aio->begin_ns = 0;
	aio->moved = 0;
	aio->cached = 0;
	aio->end_bytes = 0;
}

static void wait_for_event(const struct lane_aio *aio, int timeout_ms)
{
	struct pollfd pollfd = { .fd = aio->event_fd, .events = POLLIN };
	uint64_t events;

	if (timeout_ms > 0 && poll(&pollfd, 1, timeout_ms) <= 0)
		return;
	(void)!read(aio->event_fd, &events, sizeof(events));
}

/* What the kernel has finished, without waiting. */
static unsigned int collect(struct lane_aio *aio, struct lane_event *events, unsigned int max)
{
	struct io_event done[LANE_AIO_DEPTH];
	struct timespec at_once = { 0, 0 };
	unsigned int count = 0;
	int reaped;

	if (aio->in_flight == 0)
		return 0;
	if (max > LANE_AIO_DEPTH)
		max = LANE_AIO_DEPTH;
	reaped = io_getevents(aio->context, 0, (long)max, done, &at_once);
	for (int i = 0; i < reaped; i++) {
		struct lane_request *request = done[i].data;
		int64_t result = (long)done[i].res;

		aio->in_flight--;
		aio->free_iocbs[aio->num_free++] = done[i].obj;
		/* Refused as direct I/O, only not at once. */
		if (result == -EINVAL || result == -EOPNOTSUPP)
			result = lane_sync_execute(aio->bdev, request);
		else
			result = lane_sync_count_done(aio->bdev, request, result);
		count_moved(aio, request, result);
		events[count].request = request;
		events[count++].result = result;
	}
	return count;
}

static int aio_reap(void *engine, struct lane_event *events, unsigned int max, int timeout_ms)
{
	struct lane_aio *aio = engine;
	unsigned int count = 0;

	while (count < max && aio->num_ready > 0)
		events[count++] = aio->ready[--aio->num_ready];
	/* Always before waiting: one read() of the eventfd may have counted more completions than were collected then.
	 * And blocking calls do not keep what is finished from being told. */
	count += collect(aio, events + count, max - count);
	if (count > 0 || timeout_ms == 0)
		return (int)count;
	if (aio->is_flushed && aio->in_flight == 0)
		drop_context(aio);
	wait_for_event(aio, timeout_ms);
	return (int)collect(aio, events, max);
}

static void aio_wake(void *engine)
{
	const struct lane_aio *aio = engine;
	uint64_t one = 1;

	(void)!write(aio->event_fd, &one, sizeof(one));
}

static void aio_close(void *engine)
{
	struct lane_aio *aio = engine;

	drop_context(aio);
	close(aio->event_fd);
	free(aio);
}

const struct lane_engine_ops lane_aio_ops = {
	.submit = aio_submit,
	.reap = aio_reap,
	.wake = aio_wake,
	.close = aio_close,
};
