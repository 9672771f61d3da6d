/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "lane_aio.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "aio_context.h"
#include "device.h"
#include "lane_sync.h"

/* Whoever takes longer for a transfer needs many requests to the end, or has time enough. */
#define QUICK_BYTES_A_SECOND ((uint64_t)100 << 20)
#define QUICK_NS 1000000u
/*
 * Enough to keep such a device busy. Less of reads, and only of devices that take them at once: what could be read is not to
 * wait for what cannot, of a source that hangs.
 */
#define WRITE_TOGETHER_BYTES ((uint64_t)4 << 20)
#define READ_TOGETHER_BYTES ((uint64_t)2 << 20)
/* Taking a context down takes that long, at 100 ticks a second; so much before the end it is begun. */
#define DROPPING_MS 45u
#define LEAST_END_BYTES ((uint64_t)32 << 20)
#define MOST_END_BYTES ((uint64_t)96 << 20)
/* A source of which only every so many bytes are not in the page cache needs no context for them, as long as they are few. */
#define MOSTLY_CACHED 8u
#define MOST_MISSING_BYTES ((uint64_t)16 << 20)

struct lane_aio {
	struct block_device *bdev;  /* borrowed */
	struct aio_context context; /* opened when it is needed */
	bool is_refused;	    /* there is none to be had: blocking calls do it all, one by one */
	bool is_used;		    /* something was transferred since the last flush */
	bool is_quick;		    /* the first transfer was */
	atomic_ullong begin_ns;	    /* when it was begun; 0: nothing was asked of it yet */
	uint64_t cached;	    /* bytes that the page cache had */
	atomic_ullong end_bytes;    /* how much of the end is done by blocking calls; 0: it is not near */
	uint64_t rate;		    /* in bytes a second, until then */
	bool has_tried;		    /* such a call, for as long as the end is near */
	bool is_flushed;	    /* nothing was since a flush: the end, most likely */
	bool was_end;		    /* a flush was taken for it, and the context given away */
	bool goes_on;		    /* and it was not: only flushes that are said to be the last one are */
	int event_fd;		    /* owned: counts completions and wakes, so that one read() waits for both */
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
	aio_context_init(&aio->context, bdev);
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
	if ((request->op != LANE_READ && request->op != LANE_WRITE) || request->is_refused)
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
	return request->to_end > 0 && request->to_end <= atomic_load(&aio->end_bytes) && aio->is_quick &&
	       can_be_direct(aio, request);
}

static uint64_t bytes_a_second(uint64_t bytes, uint64_t since_ns)
{
	uint64_t ns = now_ns() - since_ns;

	return (uint64_t)((double)bytes * 1e9 / (double)(ns ? ns : 1));
}

static uint64_t find_end_bytes(uint64_t rate)
{
	uint64_t bytes = rate / 1000 * DROPPING_MS;

	if (bytes < LEAST_END_BYTES)
		bytes = LEAST_END_BYTES;
	return bytes < MOST_END_BYTES ? bytes : MOST_END_BYTES;
}

/* How much is copied while a context is taken down, at the rate so far. */
static void find_end(struct lane_aio *aio, const struct lane_request *request)
{
	uint64_t moved;

	if (request->to_end > MOST_END_BYTES) {
		atomic_store(&aio->end_bytes, 0);
		aio->has_tried = false;
	}
	if (atomic_load(&aio->end_bytes) > 0 || request->to_end == 0 || request->to_end > MOST_END_BYTES)
		return;
	moved = aio_context_moved(&aio->context);
	if (moved == 0)
		return;
	aio->rate = bytes_a_second(moved, atomic_load(&aio->begin_ns));
	atomic_store(&aio->end_bytes, find_end_bytes(aio->rate));
}

/* The source is, but the next @direct bytes are not: what is missing here and there, of a device that is asked quickly. */
static bool is_mostly_cached(struct lane_aio *aio, const struct lane_request *request, uint64_t *direct)
{
	uint64_t missing;

	if (request->op != LANE_READ || aio_context_is_open(&aio->context) || !aio->is_quick || aio->cached == 0)
		return false;
	if (page_cache_has(&aio->cache, request, direct))
		return false;
	missing = aio_context_moved(&aio->context) - aio->cached + *direct;
	return missing <= MOST_MISSING_BYTES && missing * MOSTLY_CACHED <= aio->cached;
}

static void want_context(struct lane_aio *aio)
{
	aio->is_flushed = false;
	if (aio_context_is_open(&aio->context) || aio->is_refused)
		return;
	aio->goes_on |= aio->was_end;
	queue_ask(aio->bdev);
	aio->is_refused = aio_context_open(&aio->context) < 0;
}

static bool is_asynchronous(const struct lane_aio *aio, const struct lane_request *request)
{
	return aio_context_is_open(&aio->context) && can_be_direct(aio, request) && !is_ending(aio, request);
}

/* What a blocking call made of a request, to be reaped. */
static void finish(struct lane_aio *aio, struct lane_request *request, int64_t result)
{
	struct lane_event *event;

	assert(aio->num_ready < LANE_AIO_DEPTH);
	event = &aio->ready[aio->num_ready++];
	event->request = request;
	event->result = result;
	if (request->buffer && result > 0)
		aio_context_count(&aio->context, (uint64_t)result);
}

/* Behind a flush comes nothing any more, most likely: what takes time for nothing has its time meanwhile. */
static void execute(struct lane_aio *aio, struct lane_request *request)
{
	aio->is_flushed = request->op == LANE_FLUSH && (request->is_last || !aio->goes_on);
	if (aio->is_flushed)
		aio->was_end |= aio_context_begin_dropping(&aio->context);
	finish(aio, request, lane_sync_execute(aio->bdev, request));
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
	aio->is_quick = now_ns() - begin_ns <= QUICK_NS + bytes * 1000 / (QUICK_BYTES_A_SECOND / 1000000);
}

/* As far as that was asked; for a short copy it is not. */
static bool takes_at_once(const struct block_device *bdev)
{
	return bdev->is_block && atomic_load(&bdev->has_queue) && bdev->queue.takes_at_once;
}

/* How many of them, from the first on, one call can do. */
static unsigned int count_together(const struct lane_aio *aio, struct lane_request **requests, unsigned int count)
{
	uint64_t end = requests[0]->offset + requests[0]->done, bytes = 0;
	uint64_t most = WRITE_TOGETHER_BYTES;
	unsigned int num;

	if (requests[0]->op == LANE_READ)
		most = takes_at_once(aio->bdev) ? READ_TOGETHER_BYTES : 0;
	for (num = 0; num < count; num++) {
		const struct lane_request *request = requests[num];

		if (num > 0 && (request->op != requests[0]->op || request->offset + request->done != end ||
				bytes + bytes_left(request) > most || !is_ending(aio, request)))
			break;
		bytes += bytes_left(request);
		end += bytes_left(request);
	}
	return num;
}

/* Blocking calls at the end: as many of the requests as make sense by one of them. Returns how many. */
static int execute_together(struct lane_aio *aio, struct lane_request **requests, unsigned int count)
{
	struct iovec vector[LANE_AIO_DEPTH];
	unsigned int num = count_together(aio, requests, count);
	off_t offset = (off_t)(requests[0]->offset + requests[0]->done);
	uint64_t left;
	ssize_t moved = -1;

	for (unsigned int i = 0; i < num; i++) {
		vector[i].iov_base = requests[i]->buffer + requests[i]->done;
		vector[i].iov_len = bytes_left(requests[i]);
	}
	if (num > 1 && requests[0]->op == LANE_WRITE)
		moved = pwritev(aio->bdev->fd, vector, (int)num, offset);
	else if (num > 1)
		moved = preadv(aio->bdev->fd, vector, (int)num, offset);
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

/*
 * What is fast only with many requests at once is not to be asked for them one by one: so the first call says, alone, whether
 * the rest of the end is worth it.
 */
static int execute_end(struct lane_aio *aio, struct lane_request **requests, unsigned int count)
{
	unsigned int ready = aio->num_ready;
	uint64_t begin_ns = now_ns(), bytes = 0, rate;
	int taken;

	if (!aio->has_tried && aio_context_is_busy(&aio->context))
		return 0;
	if (aio->has_tried)
		aio_context_begin_dropping(&aio->context);
	taken = execute_together(aio, requests, count);
	if (aio->has_tried)
		return taken;
	aio->has_tried = true;
	for (; ready < aio->num_ready; ready++)
		bytes += aio->ready[ready].result > 0 ? (uint64_t)aio->ready[ready].result : 0;
	rate = bytes_a_second(bytes, begin_ns);
	if (rate < aio->rate / 2)
		atomic_store(&aio->end_bytes, find_end_bytes(2 * rate));
	return taken;
}

static void note_begin(struct lane_aio *aio)
{
	if (atomic_load(&aio->begin_ns) == 0)
		atomic_store(&aio->begin_ns, now_ns());
}

/* Near the end there are other ways, which is its thread's business. */
static bool can_start(const struct lane_aio *aio, const struct lane_request *request)
{
	uint64_t end = atomic_load(&aio->end_bytes);

	return can_be_direct(aio, request) && (request->to_end == 0 || request->to_end > (end ? end : MOST_END_BYTES));
}

static unsigned int aio_start(void *engine, struct lane_request **requests, unsigned int count, int event_fd)
{
	struct lane_aio *aio = engine;
	unsigned int num = 0;

	note_begin(aio);
	while (num < count && can_start(aio, requests[num]))
		num++;
	return num > 0 ? aio_context_start(&aio->context, requests, num, event_fd) : 0;
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

/* As many of them as can be done without a blocking call, and make sense together; and how much of each. */
static unsigned int choose_batch(struct lane_aio *aio, struct lane_request **requests, unsigned int count,
				 uint64_t *bytes)
{
	unsigned int num;

	for (num = 0; num < count && is_asynchronous(aio, requests[num]); num++)
		/* What is to be had at once is not to hold up what is not. */
		if (page_cache_has(&aio->cache, requests[num], &bytes[num]) && num > 0)
			break;
	return num;
}

static int aio_submit(void *engine, struct lane_request **requests, unsigned int count)
{
	struct lane_aio *aio = engine;
	uint64_t direct, bytes[LANE_AIO_DEPTH];
	unsigned int num;
	int taken, ret;

	note_begin(aio);
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
		if (is_ending(aio, requests[0]))
			return execute_end(aio, requests, count);
		if (is_mostly_cached(aio, requests[0], &direct)) {
			if (aio->num_ready > 0)
				return 0;
			execute_part(aio, requests[0], direct);
			return 1;
		}
		want_context(aio);
	}
	num = choose_batch(aio, requests, count, bytes);
	if (num == 0) {
		/* One blocking call, then its completion: the next may find others to overlap with. */
		if (aio->num_ready > 0)
			return 0;
		execute(aio, requests[0]);
		return 1;
	}
	taken = aio_context_submit(&aio->context, requests, bytes, num, aio->event_fd);
	if (taken >= 0)
		return taken;
	if (taken == -EAGAIN || taken == -EINTR)
		return 0;
	/* The first one cannot be done this way (a file system that takes O_DIRECT and then refuses): the blocking call
	 * has the last word. */
	execute(aio, requests[0]);
	return 1;
}

/* What comes next is another copy. */
static void begin_anew(struct lane_aio *aio)
{
	aio->was_end |= aio_context_begin_dropping(&aio->context);
	aio->is_used = false;
	aio->is_flushed = false;
	aio->has_tried = false;
	atomic_store(&aio->begin_ns, 0);
	aio->cached = 0;
	atomic_store(&aio->end_bytes, 0);
	aio_context_count_anew(&aio->context);
}

static void wait_for_event(const struct lane_aio *aio, int timeout_ms)
{
	struct pollfd pollfd = { .fd = aio->event_fd, .events = POLLIN };
	uint64_t events;

	if (timeout_ms > 0 && poll(&pollfd, 1, timeout_ms) <= 0)
		return;
	(void)!read(aio->event_fd, &events, sizeof(events));
}

static unsigned int collect(struct lane_aio *aio, struct lane_event *events, unsigned int max)
{
	unsigned int count = aio_context_collect(&aio->context, events, max);

	for (unsigned int i = 0; i < count; i++) {
		struct lane_event *event = &events[i];

		/* Refused as direct I/O, only not at once. */
		if (aio_context_is_refusal(event->result))
			event->result = lane_sync_execute(aio->bdev, event->request);
		else
			event->result = lane_sync_count_done(aio->bdev, event->request, event->result);
	}
	return count;
}

/* On another thread, which must not wait: what was refused is the lane's again. */
static int aio_collect(void *engine, struct lane_event *events, unsigned int max)
{
	struct lane_aio *aio = engine;
	unsigned int count = aio_context_collect(&aio->context, events, max);

	for (unsigned int i = 0; i < count; i++) {
		if (!aio_context_is_refusal(events[i].result))
			continue;
		events[i].request->is_refused = true;
		events[i].result = -EAGAIN;
	}
	return (int)count;
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
	if (aio->is_flushed)
		begin_anew(aio);
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

	aio_context_release(&aio->context);
	close(aio->event_fd);
	free(aio);
}

const struct lane_engine_ops lane_aio_ops = {
	.submit = aio_submit,
	.reap = aio_reap,
	.wake = aio_wake,
	.close = aio_close,
};

static const struct lane_engine_ops start_ops = {
	.submit = aio_submit,
	.reap = aio_reap,
	.wake = aio_wake,
	.close = aio_close,
	.start = aio_start,
	.collect = aio_collect,
};

const struct lane_engine_ops *lane_aio_find_ops(const struct block_device *bdev)
{
	/* Of a failed write to a zone more is asked than another thread could wait for. */
	return bdev->is_block && !bdev->is_zoned ? &start_ops : &lane_aio_ops;
}
