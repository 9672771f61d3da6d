/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A job: one region copied to (or zeroed, or flushed on) its destinations, chunk by chunk. Owns the chunks, their
 * states and the error accounting. Everything here belongs to the client's thread, unless it says otherwise.
 *
 * A chunk goes READING (NARROWING, if that failed) -> WRITING -> free. It holds its pages from before its read is
 * submitted until the last of its writes is settled: completed, or failed for good. With KCOPYD_SPARSE one is ASKING, with
 * no sectors, while its source is asked for the next hole; and a part of a hole is a chunk without pages, WRITING at once.
 */
#ifndef KCOPYD_JOB_H
#define KCOPYD_JOB_H

#include "kcopyd.h"
#include "list.h"

struct job;
struct pages;
struct throttle;
struct lane_request;

/* A wait that a job has asked for. The client's thread alone. */
struct job_timer {
	struct list_head node; /* the client's list, while it runs; of itself: it does not */
	uint64_t due_ms;       /* the client's: of the monotonic clock */
	struct job *job;       /* whose it is */
};

/* What all jobs of a client share. Constant while jobs exist. */
struct job_env {
	struct pages *pages;	   /* borrowed: the reserve */
	struct throttle *throttle; /* borrowed: learns what is read and what is in flight */
	unsigned int num_pages;	   /* in the reserve */
	unsigned int chunk_pages;  /* a chunk's at most, unless the job's devices want another length */
	struct tune *tune;	   /* borrowed: how many of them are in use at a time */
	unsigned int *reading;	   /* borrowed: pages of chunks that are read, the client's thread's */
	unsigned long *num_copies; /* borrowed: jobs that the thread has and that are no flushes; the same */
	unsigned int retries;	   /* further tries before a place is called bad */
	uint64_t max_lag;	   /* as for kcopyd_client_set_max_lag() */
	unsigned int retry_ms;	   /* how long the first of them is waited for; each further one longer */
	const struct kcopyd_observer *observer;
	void *observer_context;
	void (*complete)(struct list_head *requests); /* of every request, on its lane's thread */
	/* To be submitted: a transfer of @bytes. Soon, with others of its lane. Client's thread. */
	void (*submit)(const struct job_env *env, struct lane_request *request, uint64_t bytes);
	/* Starts @timer, for job_timer_due() to be called. Client's thread. */
	void (*wait)(const struct job_env *env, struct job_timer *timer, unsigned int ms);
};

enum job_kind { JOB_COPY, JOB_ZERO, JOB_FLUSH };

/* The arguments, valid already; the regions are copied. */
struct job_args {
	enum job_kind kind;
	const struct io_region *from; /* JOB_COPY only */
	unsigned int num_dests;
	const struct io_region *dests;
	unsigned int flags;
	kcopyd_notify_fn fn;
	void *context;
	/* JOB_COPY only. See queue.h for the first two. */
	unsigned int chunk_pages;
	sector_t first_sectors;
	bool shares_spindle; /* its source has one with a destination, or so it seems */
	bool takes_at_once;  /* see queue_takes_at_once() */
};

/* From any thread. Everything that the job will ever need is allocated here. */
int job_create(const struct job_env *env, const struct job_args *args, struct job **result);

/* The client's list node, and back. */
struct list_head *job_node(struct job *job);
struct job *job_of_node(struct list_head *node);
struct job *job_of_request(struct lane_request *request);
struct job *job_of_timer(struct job_timer *timer);

/* From any thread. */
const struct job_env *job_env_of_request(const struct lane_request *request);

/* Of the device that it is for. */
struct lane *job_lane_of_request(const struct lane_request *request);

/* Between places on one disk that rotates, or says so. */
bool job_shares_spindle(const struct job *job);

/* Nobody has to wait for its devices to take requests. */
bool job_takes_at_once(const struct job *job);

/* In use, so that chunks of it are read while others are written. */
unsigned int job_fewest_pages(const struct job *job);

/* Has a chunk that could be started, if there were pages. */
bool job_can_start(const struct job *job);

/* For its next chunk. Zeroing and flushing do not, nor do holes. */
bool job_needs_pages(const struct job *job);

/* Flushing is not: nothing is copied by it. */
bool job_is_throttled(const struct job *job);

/*
 * Starts the next chunk, of @most_bytes at the most, or a page or logical block if that is more. False: not enough pages.
 */
bool job_start_chunk(struct job *job, uint64_t most_bytes);

/* A request of it completed. */
void job_request_done(struct job *job, struct lane_request *request);

/*
 * Devices were abandoned: requests that one of them has count as failed with -ETIMEDOUT, and are orphans. Returns how
 * many new ones there are.
 */
unsigned int job_abandon(struct job *job);

/* Destinations on devices that have failed (kcopyd_device_fail()) are dropped. */
void job_drop_failed(struct job *job);

/* The shape that env->tune says is another one: what was held back for the last one goes on. */
void job_shape_changed(struct job *job);

/*
 * A request that came back: was it an orphan? Then its pages return to the reserve, and the last one of a job that was
 * called back frees it.
 */
bool job_take_orphan(struct lane_request *request);

/*
 * No pages for it will ever come: its destinations fail with -ENOBUFS, and it ends. False: not yet, something of it that
 * needs no pages is still in flight.
 */
bool job_starve(struct job *job);

/* A wait is over; @timer is on no list any more. */
void job_timer_due(struct job *job, struct job_timer *timer);

/* No new chunks, and no waits. */
void job_cancel(struct job *job);

/* Nothing in flight, nothing more to start. */
bool job_is_finished(const struct job *job);

/* Frees the job, unless it has orphans, then tells its owner. */
void job_call_back(struct job *job);

#endif
