/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A libaio context: what of one device the kernel has in its hands. Requests go in on the lane's thread, or on another one if that
 * need not wait, and are collected by either. What it costs to give one back is hidden here, too: a thread does that. Knows
 * nothing of blocking calls, and of requests only what a transfer is.
 */
#ifndef KCOPYD_AIO_CONTEXT_H
#define KCOPYD_AIO_CONTEXT_H

#include <errno.h>
#include <libaio.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "lane.h"

/* Enough for the deepest queue of a single device; 64 contexts of it fit the usual fs.aio-max-nr of 65536 many times
 * over. */
#define AIO_CONTEXT_DEPTH 64u

struct aio_context {
	const struct block_device *bdev; /* borrowed */
	bool is_dropping; /* the lane's thread's: dropper gives one back, which is nobody else's any more */
	pthread_t dropper;

	pthread_mutex_t lock;	/* guards the rest */
	io_context_t id;	/* changed by the lane's thread only; NULL: there is none */
	uint64_t at_once_bytes; /* a transfer of so many is taken by the device without waiting; 0: none is */
	uint64_t num_started;	/* and finished */
	uint64_t num_waited;	/* of those: would have had to wait */
	uint64_t moved;		/* bytes */
	unsigned int in_flight; /* in the kernel's hands, or about to be */
	struct iocb iocbs[AIO_CONTEXT_DEPTH];
	struct iocb *free_iocbs[AIO_CONTEXT_DEPTH];
	unsigned int num_free;
};

/* Borrows @bdev until released. */
void aio_context_init(struct aio_context *aio, const struct block_device *bdev);

/* With nothing in flight. Waits until all is given back. */
void aio_context_release(struct aio_context *aio);

/* What follows is for the lane's thread, unless it says otherwise. */

/* -errno: there is none to be had (fs.aio-max-nr, a kernel without it). */
int aio_context_open(struct aio_context *aio);
static inline bool aio_context_is_open(const struct aio_context *aio)
{
	return aio->id != NULL;
}

/* Gives it back, which takes 30 ms of a thread of its own. False: there is none, or it is in use, or one still is given back. */
bool aio_context_begin_dropping(struct aio_context *aio);

/* Bytes that went through it, and by blocking calls, as far as those were counted; since when it was set to 0. */
void aio_context_count(struct aio_context *aio, uint64_t bytes);
void aio_context_count_anew(struct aio_context *aio);
uint64_t aio_context_moved(struct aio_context *aio);

/* Has the kernel something of it? */
bool aio_context_is_busy(struct aio_context *aio);

/*
 * Starts the next @bytes[i] of each of @requests, direct and aligned. Returns how many the kernel has got, or -errno of the
 * first. @event_fd counts them when they are finished.
 */
int aio_context_submit(struct aio_context *aio, struct lane_request **requests, const uint64_t *bytes,
		       unsigned int count, int event_fd);

/* The same of all that is left of them, as many as can be done without waiting. Any thread. What would have to wait is -EAGAIN. */
unsigned int aio_context_start(struct aio_context *aio, struct lane_request **requests, unsigned int count,
			       int event_fd);

/* What the kernel has finished, without waiting for it. Any thread. */
unsigned int aio_context_collect(struct aio_context *aio, struct lane_event *events, unsigned int max);

/* Is this no error of the device, but direct I/O that is not to be had, or not in this way? */
static inline bool aio_context_is_refusal(int64_t result)
{
	return result == -EINVAL || result == -EOPNOTSUPP;
}

#endif
