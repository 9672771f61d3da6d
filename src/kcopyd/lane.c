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

#define BATCH LANE_AIO_DEPTH
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

	atomic_ullong most_bytes; /* with the engine */
	atomic_bool is_abandoned; /* set with the lock held */

	pthread_mutex_t lock;	/* guards the rest of this block */
	struct list_head queue; /* to be given to the engine, in order; empty once it was abandoned */
	bool is_sleeping;	/* the thread waits in reap(), or is about to */
	bool is_closing;
	void (*then)(void *arg); /* of lane_leave(); NULL: lane_destroy() waits for the thread */
	void *then_arg;		 /* borrowed */

	/* The thread's own. */
	unsigned int in_flight;	  /* with the engine */
	uint64_t in_flight_bytes; /* the same */
	bool is_stalled;	  /* the engine took nothing: wait for a completion before asking again */
	struct list_head done;	  /* finished, to be told to their owners */
};

/* The coarse clock costs no more than a load from memory, and is exact enough for seconds. */
static uint64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static void end_request(struct lane *lane, struct lane_request *request, int error)
{
	atomic_fetch_sub(&lane->outstanding[request->op], 1);
	request->error = error;
}

/* Back to their owners, who may free them at once. */
static void give_back(struct list_head *requests)
{
	while (!list_is_empty(requests)) {
		void (*complete)(struct list_head *) = list_first(requests, struct lane_request, node)->complete;
		struct list_head same, *pos, *next;

		list_init(&same);
		for (pos = requests->next; pos != requests; pos = next) {
			next = pos->next;
			if (container_of(pos, struct lane_request, node)->complete == complete)
				list_move_tail(pos, &same);
		}
		complete(&same);
	}
}

/* On the lane's thread: told with the others of its batch. */
static void finish(struct lane *lane, struct lane_request *request, int error)
{
	/* First, so that what is submitted next to an idle lane, and not this, begins a new wait. */
	atomic_store(&lane->moved_ms, now_ms());
	end_request(lane, request, error);
	list_add_tail(&request->node, &lane->done);
}

/* The device did not do these, and never will. */
static void give_up(struct lane *lane, struct list_head *requests)
{
	struct list_head *pos;

	list_for_each (pos, requests)
		end_request(lane, container_of(pos, struct lane_request, node), -ETIMEDOUT);
	give_back(requests);
}

/* To be given to the engine (again): behind the others, or in front of them all. */
static void put_back(struct lane *lane, struct lane_request *request, bool is_first)
{
	bool is_abandoned;

	pthread_mutex_lock(&lane->lock);
	is_abandoned = atomic_load(&lane->is_abandoned);
	if (!is_abandoned)
		list_add_tail(&request->node, is_first ? lane->queue.next : &lane->queue);
	pthread_mutex_unlock(&lane->lock);
	if (!is_abandoned)
		return;
	end_request(lane, request, -ETIMEDOUT);
	list_add_tail(&request->node, &lane->done);
}

/* An attempt moved nothing, and that was not the device's last word. */
static void stall(struct lane *lane, struct lane_request *request)
{
	/* With others in flight it is their completion that is waited for. */
	if (lane->in_flight == 0 && ++request->stalls > MAX_STALLS) {
		finish(lane, request, -EAGAIN);
		return;
	}
	put_back(lane, request, false);
	lane->is_stalled = true;
}

/* What of the request goes through memory of its owner's. */
static uint64_t buffer_bytes(const struct lane_request *request)
{
	return request->buffer ? request->bytes - request->done : 0;
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
	lane->in_flight_bytes -= buffer_bytes(request);
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
	put_back(lane, request, false);
}

/* May the engine have this one, too, beside @count others of @bytes that are about to be given to it? */
static bool has_room(const struct lane *lane, const struct lane_request *request, unsigned int count, uint64_t bytes)
{
	uint64_t with_it = lane->in_flight_bytes + bytes + buffer_bytes(request);

	if (lane->in_flight + count >= lane->depth)
		return false;
	if (lane->in_flight + count == 0)
		return true;
	return with_it <= atomic_load(&lane->most_bytes) && (!request->room || with_it <= request->room);
}

/* With the lock held. */
static bool can_submit(const struct lane *lane)
{
	return !lane->is_stalled && !list_is_empty(&lane->queue) &&
	       has_room(lane, list_first(&lane->queue, struct lane_request, node), 0, 0);
}

static unsigned int take_batch(struct lane *lane, struct lane_request **batch)
{
	unsigned int count = 0;
	uint64_t bytes = 0;

	pthread_mutex_lock(&lane->lock);
	while (count < BATCH && !list_is_empty(&lane->queue)) {
		struct lane_request *request = list_first(&lane->queue, struct lane_request, node);

		if (!has_room(lane, request, count, bytes))
			break;
		bytes += buffer_bytes(request);
		list_del(&request->node);
		batch[count++] = request;
	}
	pthread_mutex_unlock(&lane->lock);
	return count;
}

/* Gives the engine as much as it takes. */
static void submit_pending(struct lane *lane)
{
	struct lane_request *batch[BATCH];
	unsigned int count, taken;

	while (!lane->is_stalled && (count = take_batch(lane, batch)) > 0) {
		int ret = lane->ops->submit(lane->engine, batch, count);
		unsigned int first = 0; /* of those that are to be given to it again */

		assert(ret <= (int)count);
		taken = ret > 0 ? (unsigned int)ret : 0;
		if (ret == 0 || ret == -EAGAIN || ret == -EINTR) {
			if (lane->in_flight > 0 || ++batch[0]->stalls <= MAX_STALLS)
				lane->is_stalled = true;
			else
				finish(lane, batch[first++], -EAGAIN);
		} else if (ret < 0) {
			finish(lane, batch[first++], ret);
		}
		for (; first < taken; first++)
			lane->in_flight_bytes += buffer_bytes(batch[first]);
		lane->in_flight += taken;
		while (count > first)
			put_back(lane, batch[--count], true);
		give_back(&lane->done); /* what could not be started does not wait for what may hang */
	}
}

/* False: there is nothing left to do, ever. @is_idle: nothing but to wait for the engine or for requests. */
static bool look_ahead(struct lane *lane, bool *is_idle)
{
	bool go_on;

	pthread_mutex_lock(&lane->lock);
	*is_idle = !can_submit(lane);
	lane->is_sleeping = *is_idle;
	go_on = !lane->is_closing || lane->in_flight > 0 || !list_is_empty(&lane->queue);
	pthread_mutex_unlock(&lane->lock);
	return go_on;
}

/* Its thread has nothing left to do. */
static void free_lane(struct lane *lane)
{
	lane->ops->close(lane->engine);
	pthread_mutex_destroy(&lane->lock);
	free(lane);
}

static void *lane_main(void *arg)
{
	struct lane *lane = arg;
	struct lane_event events[BATCH];
	void (*then)(void *arg);
	void *then_arg;
	bool is_idle;

	while (look_ahead(lane, &is_idle)) {
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
		give_back(&lane->done);
	}
	then = lane->then;
	then_arg = lane->then_arg;
	if (then) {
		free_lane(lane);
		then(then_arg);
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
	list_init(&lane->done);
	atomic_init(&lane->most_bytes, UINT64_MAX);
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
	static const enum lane_op slowest_first[LANE_OPS] = { LANE_FLUSH, LANE_ZERO, LANE_WRITE, LANE_READ,
							      LANE_EXTENT };
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
	bool was_sleeping = false;

	count_in(lane, requests);
	pthread_mutex_lock(&lane->lock);
	if (!atomic_load(&lane->is_abandoned)) {
		list_splice_tail(requests, &lane->queue);
		was_sleeping = lane->is_sleeping;
		lane->is_sleeping = false;
	}
	pthread_mutex_unlock(&lane->lock);
	wake(lane, was_sleeping);
	/* Only if it was abandoned there are some left here. */
	give_up(lane, requests);
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
	free_lane(lane);
}

void lane_leave(struct lane *lane, void (*then)(void *arg), void *arg)
{
	assert(lane_is_abandoned(lane));
	pthread_mutex_lock(&lane->lock);
	lane->is_closing = true;
	lane->then = then;
	lane->then_arg = arg;
	pthread_detach(lane->thread);
	/* Under the lock: without it the thread may be through, and all this gone. */
	lane->ops->wake(lane->engine);
	pthread_mutex_unlock(&lane->lock);
}

void lane_abandon(struct lane *lane)
{
	struct list_head taken_back;

	list_init(&taken_back);
	pthread_mutex_lock(&lane->lock);
	atomic_store(&lane->is_abandoned, true);
	list_splice_tail(&lane->queue, &taken_back);
	pthread_mutex_unlock(&lane->lock);
	give_up(lane, &taken_back);
}

bool lane_is_abandoned(const struct lane *lane)
{
	return atomic_load(&lane->is_abandoned);
}

void lane_limit(struct lane *lane, uint64_t bytes)
{
	atomic_store(&lane->most_bytes, bytes);
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
