/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Inside a lane, for lane.c, its thread, and lane_start.c, what others do without it, alone.
 */
#ifndef KCOPYD_LANE_PARTS_H
#define KCOPYD_LANE_PARTS_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "lane.h"
#include "lane_aio.h"

/* Requests that are taken, or events that are looked at, at a time: as many as an engine can have. */
#define LANE_BATCH LANE_AIO_DEPTH

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

	struct lane_collector *collector; /* borrowed: who has started something here */
	struct list_head collector_node;  /* one of its lanes; its thread's, as is_listed */
	bool is_listed;

	/* They grow with the lock held only. */
	atomic_uint in_flight;	       /* with the engine, or about to be */
	atomic_ullong in_flight_bytes; /* the same */
	atomic_uint num_started;       /* those that were started for the collector */

	atomic_bool is_stalled; /* the engine took nothing: wait for a completion before asking again */
};

/* -- lane.c -------------------------------------------------------------------------------------- */

/* They are under way from here on. Before the thread can see them. */
void lane_count_in(struct lane *lane, const struct list_head *requests);

/* With the lock held: may the engine have this one, too? Then it counts as with it until lane_leave_engine(). */
bool lane_has_room(const struct lane *lane, const struct lane_request *request);
void lane_enter_engine(struct lane *lane, const struct lane_request *request);
void lane_leave_engine(struct lane *lane, struct lane_request *request);

/* What became of one attempt, which the engine has not any more: finished, then it is on @done; or to be continued. */
void lane_settle(struct lane *lane, const struct lane_event *event, struct list_head *done);

/* Back to their owners, who may free them at once. */
void lane_give_back(struct list_head *requests);

/* The same of what the device did not do, and never will. */
void lane_give_up(struct lane *lane, struct list_head *requests);

/* With the lock held: is there something for its thread, which does not know? It is to be woken then. */
bool lane_must_wake(struct lane *lane);

/* Wakes the thread if @must_wake. Without the lock: under it, it would only wait again. */
void lane_wake(struct lane *lane, bool must_wake);

#endif
