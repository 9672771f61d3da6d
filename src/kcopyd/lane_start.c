/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What is submitted to a lane: to its thread, or started at once, and collected, without it.
 */
#include "lane_parts.h"

/*
 * With the lock held: what of @requests is to be started for @collector, and counts as started from here on. A device that
 * may have to be given up is left to its thread: who hangs, whatever an engine promises, must not be its client.
 */
static bool may_start(const struct lane *lane, const struct lane_collector *collector)
{
	return collector && lane->ops->start && (!lane->collector || lane->collector == collector) &&
	       atomic_load(&lane->most_bytes) == UINT64_MAX && !atomic_load(&lane->is_stalled);
}

static unsigned int take_to_start(struct lane *lane, struct list_head *requests, struct lane_collector *collector,
				  struct lane_request **batch)
{
	unsigned int count = 0;

	if (!may_start(lane, collector))
		return 0;
	while (count < LANE_BATCH && !list_is_empty(requests)) {
		struct lane_request *request = list_first(requests, struct lane_request, node);

		/* Others' are not to come back to this one, which may be gone before they do. */
		if (request->collector != collector || !lane_has_room(lane, request))
			break;
		lane_enter_engine(lane, request);
		list_del(&request->node);
		request->is_started = true;
		batch[count++] = request;
	}
	atomic_fetch_add(&lane->num_started, count);
	if (count > 0)
		lane->collector = collector;
	return count;
}

/* What the engine does not start is the thread's. */
static void start(struct lane *lane, struct lane_collector *collector, struct lane_request **batch, unsigned int count)
{
	unsigned int started = lane->ops->start(lane->engine, batch, count, collector->event_fd);
	struct list_head left;
	bool was_sleeping;

	if (started > 0 && !lane->is_listed) {
		lane->is_listed = true;
		list_add_tail(&lane->collector_node, &collector->lanes);
	}
	if (started == count)
		return;
	list_init(&left);
	for (unsigned int i = started; i < count; i++) {
		lane_leave_engine(lane, batch[i]);
		list_add_tail(&batch[i]->node, &left);
	}
	pthread_mutex_lock(&lane->lock);
	if (!atomic_load(&lane->is_abandoned)) {
		/* In front of what came meanwhile. */
		list_splice_tail(&lane->queue, &left);
		list_splice_tail(&left, &lane->queue);
	}
	if (!lane->is_listed)
		lane->collector = NULL;
	was_sleeping = lane_must_wake(lane);
	pthread_mutex_unlock(&lane->lock);
	lane_wake(lane, was_sleeping);
	lane_give_up(lane, &left);
}

void lane_submit(struct lane *lane, struct list_head *requests, struct lane_collector *collector)
{
	struct lane_request *batch[LANE_BATCH];
	struct list_head *pos;
	unsigned int count = 0;
	bool was_sleeping = false;

	list_for_each (pos, requests) {
		struct lane_request *request = container_of(pos, struct lane_request, node);

		request->collector = collector;
		request->is_started = false;
		request->is_refused = false;
	}
	lane_count_in(lane, requests);
	pthread_mutex_lock(&lane->lock);
	if (!atomic_load(&lane->is_abandoned)) {
		if (list_is_empty(&lane->queue))
			count = take_to_start(lane, requests, collector, batch);
		list_splice_tail(requests, &lane->queue);
		was_sleeping = lane_must_wake(lane);
	}
	pthread_mutex_unlock(&lane->lock);
	lane_wake(lane, was_sleeping);
	if (count > 0)
		start(lane, collector, batch, count);
	/* Only if it was abandoned there are some left here. */
	lane_give_up(lane, requests);
}

static void collect(struct lane *lane, struct lane_collector *collector)
{
	struct lane_event events[LANE_BATCH];
	struct lane_request *batch[LANE_BATCH];
	struct list_head done;
	unsigned int num = 0;
	bool was_sleeping;
	int count;

	count = lane->ops->collect(lane->engine, events, LANE_BATCH);
	if (count <= 0)
		return;
	list_init(&done);
	for (int i = 0; i < count; i++)
		lane_settle(lane, &events[i], &done);
	pthread_mutex_lock(&lane->lock);
	if (!atomic_load(&lane->is_abandoned))
		num = take_to_start(lane, &lane->queue, collector, batch);
	was_sleeping = lane_must_wake(lane);
	pthread_mutex_unlock(&lane->lock);
	lane_wake(lane, was_sleeping);
	if (num > 0)
		start(lane, collector, batch, num);
	lane_give_back(&done);
}

void lane_collect(struct lane_collector *collector)
{
	struct list_head *pos;

	list_for_each (pos, &collector->lanes)
		collect(container_of(pos, struct lane, collector_node), collector);
}

void lane_forget(struct lane_collector *collector)
{
	struct list_head *pos, *next;

	for (pos = collector->lanes.next; pos != &collector->lanes; pos = next) {
		struct lane *lane = container_of(pos, struct lane, collector_node);

		next = pos->next;
		if (atomic_load(&lane->num_started) > 0 && !lane_is_abandoned(lane))
			continue;
		pthread_mutex_lock(&lane->lock);
		list_del(pos);
		lane->is_listed = false;
		lane->collector = NULL;
		pthread_mutex_unlock(&lane->lock);
	}
}
