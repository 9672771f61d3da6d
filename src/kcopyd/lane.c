/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "lane.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "device.h"
#include "lane_aio.h"
#include "lane_sync.h"

#define BATCH 32u
/*
 * A request that only ever hears "try again" is tried so often, with a pause when nothing else is in flight to wait
 * for: some seconds altogether, then it is an error. Without a bound it would be a hang.
 */
#define MAX_STALLS 2000u
#define STALL_PAUSE_MS 2

struct lane {
	const struct lane_engine_ops *ops; /* borrowed, static */
	void *engine;			   /* owned */
	unsigned int depth;
	uint64_t read_end;
	pthread_t thread;

	/* For lane_stalled_ms(). */
	atomic_uint outstanding[LANE_OPS]; /* submitted, not given back */
	atomic_ullong moved_ms;		   /* when it last went on, or got something to do */

	pthread_mutex_t lock;	/* guards the rest of this block */
	struct list_head queue; /* submitted, not yet seen by the thread */
	bool is_sleeping;	/* the thread waits in reap(), or is about to */
	bool is_closing;

	/* The thread's own. */
	struct list_head pending; /* seen, to be given to the engine, in order */
	unsigned int in_flight;
	bool is_stalled; /* the engine took nothing: wait for a completion before asking again */
};

/* The coarse clock costs no more than a load from memory, and is exact enough for seconds. */
static uint64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* Back to its owner, who may free it at once. */
static void finish(struct lane *lane, struct lane_request *request, int error)
{
	/* In this order, so that what is submitted next to an idle lane, and not this, begins a new wait. */
	atomic_store(&lane->moved_ms, now_ms());
	atomic_fetch_sub(&lane->outstanding[request->op], 1);
	request->error = error;
	request->complete(request);
}

/* An attempt moved nothing, and that was not the device's last word. */
static void stall(struct lane *lane, struct lane_request *request)
{
	/* With others in flight it is their completion that is waited for. */
	if (lane->in_flight == 0 && ++request->stalls > MAX_STALLS) {
		finish(lane, request, -EAGAIN);
		return;
	}
	list_add_tail(&request->node, &lane->pending);
	lane->is_stalled = true;
}

/* A file's last sector may be there in part: what is missing of it reads as zeros. True if that was all that was
 * missing. */
static bool fill_past_end(struct lane *lane, struct lane_request *request)
{
	uint64_t missing = request->bytes - request->done;

	if (request->op != LANE_READ || request->offset + request->done < lane->read_end)
		return false;
	if (missing >= KCOPYD_SECTOR_BYTES)
		return false;
	memset(request->buffer + request->done, 0, missing);
	request->done = request->bytes;
	return true;
}

/* What became of one attempt: finished, failed, or to be continued. */
static void settle(struct lane *lane, const struct lane_event *event)
{
	struct lane_request *request = event->request;

	lane->in_flight--;
	lane->is_stalled = false;
	if (event->result == -EINTR || event->result == -EAGAIN) {
		stall(lane, request);
		return;
	}
	if (event->result < 0) {
		finish(lane, request, (int)event->result);
		return;
	}
	assert((uint64_t)event->result <= request->bytes - request->done);
	request->done += (uint64_t)event->result;
	request->stalls = 0;
	if (request->done == request->bytes || fill_past_end(lane, request)) {
		finish(lane, request, 0);
		return;
	}
	if (event->result == 0) {
		finish(lane, request, -EIO); /* zero progress: it would go on for ever */
		return;
	}
	atomic_store(&lane->moved_ms, now_ms());
	list_add_tail(&request->node, &lane->pending);
}

static unsigned int take_batch(struct lane *lane, struct lane_request **batch)
{
	unsigned int room = lane->depth - lane->in_flight, count = 0;
	struct list_head *pos;

	list_for_each (pos, &lane->pending) {
		if (count == BATCH || count == room)
			break;
		batch[count++] = container_of(pos, struct lane_request, node);
	}
	return count;
}

/* Gives the engine as much as it takes. */
static void submit_pending(struct lane *lane)
{
	struct lane_request *batch[BATCH];

	while (!lane->is_stalled && lane->in_flight < lane->depth && !list_is_empty(&lane->pending)) {
		unsigned int count = take_batch(lane, batch);
		int taken = lane->ops->submit(lane->engine, batch, count);

		if (taken == 0 || taken == -EAGAIN || taken == -EINTR) {
			if (lane->in_flight > 0 || ++batch[0]->stalls <= MAX_STALLS) {
				lane->is_stalled = true;
			} else {
				list_del(&batch[0]->node);
				finish(lane, batch[0], -EAGAIN);
			}
			continue;
		}
		if (taken < 0) {
			list_del(&batch[0]->node);
			finish(lane, batch[0], taken);
			continue;
		}
		assert((unsigned int)taken <= count);
		lane->in_flight += (unsigned int)taken;
		for (int i = 0; i < taken; i++)
			list_del(&batch[i]->node);
	}
}

/* Takes over what was submitted meanwhile. False: there is nothing left to do, ever. */
static bool take_queue(struct lane *lane, bool *is_idle)
{
	bool go_on;

	pthread_mutex_lock(&lane->lock);
	list_splice_tail(&lane->queue, &lane->pending);
	*is_idle = lane->is_stalled || lane->in_flight == lane->depth || list_is_empty(&lane->pending);
	lane->is_sleeping = *is_idle;
	go_on = !lane->is_closing || lane->in_flight > 0 || !list_is_empty(&lane->pending);
	pthread_mutex_unlock(&lane->lock);
	return go_on;
}

static void *lane_main(void *arg)
{
	struct lane *lane = arg;
	struct lane_event events[BATCH];
	bool is_idle;

	while (take_queue(lane, &is_idle)) {
		int timeout_ms = is_idle ? -1 : 0;
		int count;

		/* The engine took nothing and has nothing that could finish: only time can help. */
		if (lane->is_stalled && lane->in_flight == 0) {
			timeout_ms = STALL_PAUSE_MS;
			lane->is_stalled = false;
		}
		if (!is_idle)
			submit_pending(lane);
		count = lane->in_flight > 0 || is_idle ? lane->ops->reap(lane->engine, events, BATCH, timeout_ms) : 0;
		for (int i = 0; i < count; i++)
			settle(lane, &events[i]);
	}
	return NULL;
}

static int start_thread(struct lane *lane)
{
	sigset_t all, old;
	int ret;

	/* Signals are the caller's affair: none may end up interrupting a transfer here. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	ret = pthread_create(&lane->thread, NULL, lane_main, lane);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return -ret;
}

int lane_create(const struct lane_engine_ops *ops, void *engine, unsigned int depth, uint64_t read_end,
		struct lane **result)
{
	struct lane *lane = calloc(1, sizeof(*lane));
	int ret = -ENOMEM;

	if (!lane)
		goto err_engine;
	lane->ops = ops;
	lane->engine = engine;
	lane->depth = depth;
	lane->read_end = read_end;
	list_init(&lane->queue);
	list_init(&lane->pending);
	pthread_mutex_init(&lane->lock, NULL);
	ret = start_thread(lane);
	if (ret)
		goto err_lane;
	*result = lane;
	return 0;

err_lane:
	pthread_mutex_destroy(&lane->lock);
	free(lane);
err_engine:
	ops->close(engine);
	return ret;
}

/* Wakes the thread if it waits. Called after the lock was dropped: waking under it would only make the thread wait
 * again. */
static void wake(struct lane *lane, bool was_sleeping)
{
	if (was_sleeping)
		lane->ops->wake(lane->engine);
}

static bool has_nothing(const struct lane *lane)
{
	for (unsigned int op = 0; op < LANE_OPS; op++)
		if (atomic_load(&lane->outstanding[op]) > 0)
			return false;
	return true;
}

/* They are under way from here on. Before the thread can see them. */
static void count_in(struct lane *lane, const struct list_head *requests)
{
	const struct list_head *pos;

	if (has_nothing(lane))
		atomic_store(&lane->moved_ms, now_ms());
	list_for_each (pos, requests)
		atomic_fetch_add(&lane->outstanding[container_of(pos, struct lane_request, node)->op], 1);
}

unsigned int lane_stalled_ms(const struct lane *lane, enum lane_op *op)
{
	static const enum lane_op slowest_first[LANE_OPS] = { LANE_FLUSH, LANE_ZERO, LANE_WRITE, LANE_READ };
	uint64_t since, now;

	for (unsigned int i = 0; i < LANE_OPS; i++) {
		if (atomic_load(&lane->outstanding[slowest_first[i]]) == 0)
			continue;
		if (op)
			*op = slowest_first[i];
		since = atomic_load(&lane->moved_ms);
		now = now_ms();
		if (now <= since)
			return 0;
		return now - since < UINT_MAX ? (unsigned int)(now - since) : UINT_MAX;
	}
	return 0;
}

void lane_submit(struct lane *lane, struct list_head *requests)
{
	bool was_sleeping;

	count_in(lane, requests);
	pthread_mutex_lock(&lane->lock);
	list_splice_tail(requests, &lane->queue);
	was_sleeping = lane->is_sleeping;
	lane->is_sleeping = false;
	pthread_mutex_unlock(&lane->lock);
	wake(lane, was_sleeping);
}

void lane_destroy(struct lane *lane)
{
	if (!lane)
		return;
	pthread_mutex_lock(&lane->lock);
	lane->is_closing = true;
	pthread_mutex_unlock(&lane->lock);
	wake(lane, true);
	pthread_join(lane->thread, NULL);
	lane->ops->close(lane->engine);
	pthread_mutex_destroy(&lane->lock);
	free(lane);
}

int lane_open(struct block_device *bdev, struct lane **result)
{
	void *engine;
	int ret;

	ret = bdev->is_direct ? lane_aio_create(bdev, &engine) : lane_sync_create(bdev, &engine);
	if (ret)
		return ret;
	if (bdev->is_direct)
		return lane_create(&lane_aio_ops, engine, LANE_AIO_DEPTH, bdev->bytes, result);
	return lane_create(&lane_sync_ops, engine, 1, bdev->bytes, result);
}
