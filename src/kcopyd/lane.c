/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "lane_parts.h"

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

/*
 * A request that only ever hears "try again" is tried so often, with a pause when nothing else is in flight to wait
 * for: some seconds altogether, then it is an error. Without a bound it would be a hang.
 */
#define MAX_STALLS 2000u
#define STALL_PAUSE_MS 2
/* How often it is looked for what others have started and do not collect. */
#define COLLECTOR_PAUSE_MS 100

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
void lane_give_back(struct list_head *requests)
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

/* To be told with the others of its batch. */
static void finish(struct lane *lane, struct lane_request *request, int error, struct list_head *done)
{
	/* First, so that what is submitted next to an idle lane, and not this, begins a new wait. */
	atomic_store(&lane->moved_ms, now_ms());
	end_request(lane, request, error);
	list_add_tail(&request->node, done);
}

/* The device did not do these, and never will. */
void lane_give_up(struct lane *lane, struct list_head *requests)
{
	struct list_head *pos;

	list_for_each (pos, requests)
		end_request(lane, container_of(pos, struct lane_request, node), -ETIMEDOUT);
	lane_give_back(requests);
}

/* To be given to the engine (again): behind the others, or in front of them all. */
static void put_back(struct lane *lane, struct lane_request *request, bool is_first, struct list_head *done)
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
	list_add_tail(&request->node, done);
}

/* An attempt moved nothing, and that was not the device's last word. */
static void stall(struct lane *lane, struct lane_request *request, struct list_head *done)
{
	/* With others in flight it is their completion that is waited for. */
	if (atomic_load(&lane->in_flight) == 0 && ++request->stalls > MAX_STALLS) {
		finish(lane, request, -EAGAIN, done);
		return;
	}
	put_back(lane, request, false, done);
	atomic_store(&lane->is_stalled, true);
}

/* What of the request goes through memory of its owner's. */
static uint64_t buffer_bytes(const struct lane_request *request)
{
	return request->buffer ? request->bytes - request->done : 0;
}

void lane_leave_engine(struct lane *lane, struct lane_request *request)
{
	if (request->is_started)
		atomic_fetch_sub(&lane->num_started, 1);
	request->is_started = false;
	atomic_fetch_sub(&lane->in_flight_bytes, buffer_bytes(request));
	atomic_fetch_sub(&lane->in_flight, 1);
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
void lane_settle(struct lane *lane, const struct lane_event *event, struct list_head *done)
{
	struct lane_request *request = event->request;
	bool was_started = request->is_started;

	lane_leave_engine(lane, request);
	atomic_store(&lane->is_stalled, false);
	if (was_started && event->result == -EAGAIN) {
		/* Not by the device: it would have had to be waited for, which the thread may do. */
		request->collector = NULL;
		put_back(lane, request, true, done);
		return;
	}
	if (event->result == -EINTR || event->result == -EAGAIN) {
		stall(lane, request, done);
		return;
	}
	if (event->result < 0) {
		finish(lane, request, (int)event->result, done);
		return;
	}
	assert((uint64_t)event->result <= request->bytes - request->done);
	request->done += (uint64_t)event->result;
	request->stalls = 0;
	if (request->done == request->bytes || fill_past_end(lane, request)) {
		finish(lane, request, 0, done);
		return;
	}
	if (event->result == 0) {
		finish(lane, request, -EIO, done); /* zero progress: it would go on for ever */
		return;
	}
	atomic_store(&lane->moved_ms, now_ms());
	put_back(lane, request, false, done);
}

/* With the lock held: may the engine have this one, too? */
bool lane_has_room(const struct lane *lane, const struct lane_request *request)
{
	unsigned int in_flight = atomic_load(&lane->in_flight);
	uint64_t with_it = atomic_load(&lane->in_flight_bytes) + buffer_bytes(request);

	if (in_flight >= lane->depth)
		return false;
	if (in_flight == 0)
		return true;
	return with_it <= atomic_load(&lane->most_bytes) && (!request->room || with_it <= request->room);
}

/* With the lock held. */
static bool can_submit(const struct lane *lane)
{
	return !atomic_load(&lane->is_stalled) && !list_is_empty(&lane->queue) &&
	       lane_has_room(lane, list_first(&lane->queue, struct lane_request, node));
}

void lane_enter_engine(struct lane *lane, const struct lane_request *request)
{
	atomic_fetch_add(&lane->in_flight, 1);
	atomic_fetch_add(&lane->in_flight_bytes, buffer_bytes(request));
}

/* For the engine, which has them from here on. */
static unsigned int take_batch(struct lane *lane, struct lane_request **batch)
{
	unsigned int count = 0;

	pthread_mutex_lock(&lane->lock);
	while (count < LANE_BATCH && !list_is_empty(&lane->queue)) {
		struct lane_request *request = list_first(&lane->queue, struct lane_request, node);

		if (!lane_has_room(lane, request))
			break;
		lane_enter_engine(lane, request);
		list_del(&request->node);
		batch[count++] = request;
	}
	pthread_mutex_unlock(&lane->lock);
	return count;
}

/* Gives the engine as much as it takes. */
static void submit_pending(struct lane *lane)
{
	struct lane_request *batch[LANE_BATCH];
	struct list_head done;
	unsigned int count;

	list_init(&done);
	while (!atomic_load(&lane->is_stalled) && (count = take_batch(lane, batch)) > 0) {
		int ret = lane->ops->submit(lane->engine, batch, count);
		unsigned int first = ret > 0 ? (unsigned int)ret : 0; /* of those that it did not take */

		assert(first <= count);
		for (unsigned int i = first; i < count; i++)
			lane_leave_engine(lane, batch[i]);
		if (ret == 0 || ret == -EAGAIN || ret == -EINTR) {
			if (atomic_load(&lane->in_flight) > 0 || ++batch[0]->stalls <= MAX_STALLS)
				atomic_store(&lane->is_stalled, true);
			else
				finish(lane, batch[first++], -EAGAIN, &done);
		} else if (ret < 0) {
			finish(lane, batch[first++], ret, &done);
		}
		while (count > first)
			put_back(lane, batch[--count], true, &done);
		lane_give_back(&done); /* what could not be started does not wait for what may hang */
	}
}

/* False: there is nothing left to do, ever. @is_idle: nothing but to wait for the engine or for requests. */
static bool look_ahead(struct lane *lane, bool *is_idle, int *timeout_ms)
{
	bool go_on;

	pthread_mutex_lock(&lane->lock);
	*is_idle = !can_submit(lane);
	*timeout_ms = *is_idle ? -1 : 0;
	/* What was started is collected by somebody else, sooner or later, if somebody still does. */
	if (*is_idle && atomic_load(&lane->num_started) > 0 &&
	    (lane->is_closing || atomic_load(&lane->is_abandoned) || !list_is_empty(&lane->queue)))
		*timeout_ms = COLLECTOR_PAUSE_MS;
	lane->is_sleeping = *is_idle;
	go_on = !lane->is_closing || atomic_load(&lane->in_flight) > 0 || !list_is_empty(&lane->queue);
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
	struct lane_event events[LANE_BATCH];
	void (*then)(void *arg);
	struct list_head done;
	void *then_arg;
	bool is_idle;
	int timeout_ms;

	list_init(&done);
	while (look_ahead(lane, &is_idle, &timeout_ms)) {
		int count = 0;

		/* The engine took nothing and has nothing that could finish: only time can help. */
		if (atomic_load(&lane->is_stalled) && atomic_load(&lane->in_flight) == 0) {
			timeout_ms = STALL_PAUSE_MS;
			atomic_store(&lane->is_stalled, false);
		}
		if (!is_idle)
			submit_pending(lane);
		if (atomic_load(&lane->in_flight) > 0 || is_idle)
			count = lane->ops->reap(lane->engine, events, LANE_BATCH, timeout_ms);
		for (int i = 0; i < count; i++)
			lane_settle(lane, &events[i], &done);
		lane_give_back(&done);
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

/* With the lock held: is there something for its thread, which does not know? It is to be woken then. */
bool lane_must_wake(struct lane *lane)
{
	bool is_stuck, is_others;

	if (!lane->is_sleeping || list_is_empty(&lane->queue))
		return false;
	is_stuck = atomic_load(&lane->is_stalled) && atomic_load(&lane->in_flight) == 0;
	/* Who collects what is in the way may not do so for a while. */
	is_others = atomic_load(&lane->num_started) > 0 &&
		    list_first(&lane->queue, struct lane_request, node)->collector != lane->collector;
	if (!is_stuck && !is_others && !can_submit(lane))
		return false;
	lane->is_sleeping = false;
	return true;
}

/* Wakes the thread if it waits. Called after the lock was dropped: waking under it would only make the thread wait
 * again. */
void lane_wake(struct lane *lane, bool was_sleeping)
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
void lane_count_in(struct lane *lane, const struct list_head *requests)
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

void lane_destroy(struct lane *lane)
{
	if (!lane)
		return;
	pthread_mutex_lock(&lane->lock);
	lane->is_closing = true;
	pthread_mutex_unlock(&lane->lock);
	lane_wake(lane, true);
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
	/* What was started for others comes back to nobody now. Under the lock, as in lane_leave(). */
	lane->is_sleeping = false;
	lane->ops->wake(lane->engine);
	pthread_mutex_unlock(&lane->lock);
	lane_give_up(lane, &taken_back);
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
		return lane_create(lane_aio_find_ops(bdev), engine, LANE_AIO_DEPTH, bdev->bytes, result);
	return lane_create(&lane_sync_ops, engine, 1, bdev->bytes, result);
}
