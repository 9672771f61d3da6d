/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A lane: the thread of one open device. Requests go in, in order; each comes back once, finished or failed.
 * It continues short transfers and tries again what was only interrupted; it knows requests, never jobs. How
 * bytes reach the device is its engine's business (lane_aio, lane_sync, or a script in the tests).
 *
 * Why a thread each: io_submit() blocks while the device's queue is full, and behind one submitting thread three
 * shallow devices (USB sticks) each ran at half their own rate.
 */
#ifndef KCOPYD_LANE_H
#define KCOPYD_LANE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "list.h"

struct lane;
struct block_device;

enum lane_op { LANE_READ, LANE_WRITE, LANE_ZERO, LANE_FLUSH, LANE_EXTENT };
#define LANE_OPS 5u

/* Owned by whoever submits it; the lane's from lane_submit() until complete() has it. So is its buffer's memory. */
struct lane_request {
	struct list_head node; /* the lane's queue; the owner's once complete() has it */
	enum lane_op op;
	uint64_t offset;   /* bytes from the device's start */
	uint64_t bytes;	   /* 0 for a flush */
	char *buffer;	   /* borrowed; NULL for all but read and write */
	uint64_t to_end;   /* bytes from its start on that are still to come, most likely; 0: who knows */
	uint64_t room;	   /* how many bytes the engine may have with it, unless it is the only one; 0: any */
	bool is_last;	   /* a flush: nothing is to come, most likely */
	uint64_t done;	   /* bytes transferred so far; all that is known good when it failed */
	int error;	   /* 0 or -errno, valid when complete */
	uint64_t zero_end; /* what a zero or extent request found, see holes.h: zeros up to this byte */
	uint64_t data_end; /* an extent request: data up to this one */
	bool is_written;   /* a zero request: zeros were sent */
	/* The lane's and its engine's. */
	struct lane_collector *collector; /* whose thread may start it; NULL: nobody's but the lane's own */
	bool is_started;		  /* that did */
	bool is_refused;		  /* not in the way that it was tried in: only by a blocking call */
	unsigned int stalls;		  /* the lane's: attempts in a row that moved nothing */
	/*
	 * Takes all of @requests (by their nodes), which have this function: what finished together, since waking somebody for
	 * each of them costs more than a small transfer. On the lane's thread, or that of whoever submits to or abandons a
	 * lane: records and queues, nothing else.
	 */
	void (*complete)(struct list_head *requests);
};

/* What an engine says of one attempt: bytes moved from offset + done on (0 for a flush), or -errno. */
struct lane_event {
	struct lane_request *request;
	int64_t result;
};

/*
 * The seam. An engine serves one lane; all but wake() are called on the lane's thread only. A request is the
 * transfer of what is left of it: bytes - done, at offset + done, from or to buffer + done.
 */
struct lane_engine_ops {
	/*
	 * Starts the first of @requests, as many as it can, and returns how many. -EAGAIN or 0: none now.
	 * Any other -errno: the first one cannot be started and failed with that.
	 */
	int (*submit)(void *engine, struct lane_request **requests, unsigned int count);
	/*
	 * Returns how many of @events it filled. If there are none, waits for one, for wake(), or for
	 * @timeout_ms to pass (-1: for ever, 0: not at all).
	 */
	int (*reap)(void *engine, struct lane_event *events, unsigned int max, int timeout_ms);
	/* Ends a reap() that waits, or the next one. From any thread. */
	void (*wake)(void *engine);
	/*
	 * Both NULL, or: starts the first of @requests, as many as it can without waiting for the device, and returns how many. To
	 * be called by any thread, beside all the others. @event_fd counts them when they are finished, instead of reap()
	 * waiting for them. What would have had to wait is finished with -EAGAIN.
	 */
	unsigned int (*start)(void *engine, struct lane_request **requests, unsigned int count, int event_fd);
	/* What is finished by now, as reap(), which may have it, too. From any thread; never waits. */
	int (*collect)(void *engine, struct lane_event *events, unsigned int max);
	/* Nothing is in flight any more. Frees the engine. */
	void (*close)(void *engine);
};

/*
 * A thread that starts requests on lanes and collects them again, without the lanes' threads, where the engine can do
 * that and nothing has to wait: two threads that wake one another for each request take longer than most of what
 * there is to do. All but @event_fd is that thread's and the lanes'.
 */
struct lane_collector {
	int event_fd;		/* borrowed: an eventfd; readable when there is something to collect */
	struct list_head lanes; /* that have requests which were started for it */
};

/*
 * @depth: requests in flight at most. @read_end: bytes; a read that reaches it is complete, the rest of its last sector
 * zeros (a file whose length is no whole number of sectors). Owns @engine from here, also when it fails.
 */
int lane_create(const struct lane_engine_ops *ops, void *engine, unsigned int depth, uint64_t read_end,
		struct lane **result);

/* Finishes what was submitted, ends the thread, closes the engine. */
void lane_destroy(struct lane *lane);

/*
 * Gives up on the device: what the engine has not got yet, and everything submitted from now on, fails at once with
 * -ETIMEDOUT, also while the engine hangs in a call. What it has got comes back when the device gives it back. From any
 * thread.
 */
void lane_abandon(struct lane *lane);
bool lane_is_abandoned(const struct lane *lane);

/*
 * lane_destroy() without waiting, for a lane that was abandoned: its thread frees it when the engine has given everything
 * back, and then calls @then. If it never does, both stay.
 */
void lane_leave(struct lane *lane, void (*then)(void *arg), void *arg);

/*
 * The engine gets so many bytes of reads and writes at a time at the most, or one request; the rest can be taken back by
 * lane_abandon() however much the engine hangs. For ever much unless this is called. From any thread.
 */
void lane_limit(struct lane *lane, uint64_t bytes);

/*
 * From any thread. Every request on @requests (by its node); the list is empty afterwards. @collector: of the calling thread, or
 * NULL: what can be started at once is, and is to be collected by it; the rest goes to the lane's thread.
 */
void lane_submit(struct lane *lane, struct list_head *requests, struct lane_collector *collector);

/* Gives back what is finished of what was started for it, and starts what waited for that. On its thread. */
void lane_collect(struct lane_collector *collector);

/*
 * Lanes that have nothing more of it, or were abandoned, are forgotten: they may be destroyed then. To be called between
 * learning that a request came back, and telling anybody. On its thread.
 */
void lane_forget(struct lane_collector *collector);

/*
 * For how many milliseconds it has had requests and nothing became of any of them; 0: it has none, or goes on. @op, or NULL:
 * the kind of request that it is waited for, if it has several the one that is most likely to take long. From any
 * thread.
 */
unsigned int lane_stalled_ms(const struct lane *lane, enum lane_op *op);

/* The engine that fits @bdev, which the lane borrows, and a lane over it. */
int lane_open(struct block_device *bdev, struct lane **result);

#endif
