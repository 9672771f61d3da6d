/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How fast a client may go: so many bytes read a second, and a share of the time with I/O in flight. Says whether a chunk
 * may start now and how large it may be. Knows no jobs, and never waits: who may not start is told when to ask again. On
 * the client's thread alone.
 *
 * The limit: everything read moves the moment at which it is paid for; a chunk may start when that is not in the future,
 * and it never lies further back than a fifth of a second, so that neither a late answer makes the rate lower nor a long
 * stall a burst.
 *
 * The throttle is kcopyd's (dm-kcopyd.c: io_job_start(), io_job_finish()): time with at least one request in flight is
 * weighed against all time, and nothing is started while its share is too large. Kcopyd looks at that per request and
 * sleeps 100 ms; here I/O comes in bursts, five a second, as many bytes each as the last one took time for, so that what
 * a slow device still has in its queue does not make the share wrong.
 */
#ifndef KCOPYD_THROTTLE_H
#define KCOPYD_THROTTLE_H

#include <stdbool.h>
#include <stdint.h>

#define THROTTLE_NONE 100u /* percent */
#define THROTTLE_ANY UINT64_MAX

struct throttle {
	uint64_t (*now_ns)(void); /* monotonic */

	uint64_t limit;	  /* bytes read a second; 0: any number */
	uint64_t paid_ns; /* when what was read is paid for */

	unsigned int percent;
	unsigned int in_flight; /* requests */
	uint64_t last_ns;	/* up to here time was weighed */
	int64_t skew;		/* ns * percent: above 0 there was too much I/O */
	bool is_closed;		/* the burst is over */
	uint64_t granted, used; /* bytes of this burst */
	uint64_t busy_ns;	/* with I/O, since it began */
};

/* Without a limit, and not throttled. */
void throttle_init(struct throttle *throttle, uint64_t (*now_ns)(void));

void throttle_set_limit(struct throttle *throttle, uint64_t bytes_per_second);
void throttle_set_percent(struct throttle *throttle, unsigned int percent);

/*
 * How many bytes a chunk that starts now should have at the most; THROTTLE_ANY: any number. 0: none may start before
 * @due_ns, or if that is UINT64_MAX before a request ends. @is_reading: not one that only zeroes.
 */
uint64_t throttle_ask(struct throttle *throttle, bool is_reading, uint64_t *due_ns);

/* A chunk has started. */
void throttle_start(struct throttle *throttle, uint64_t bytes);

/* The source is asked for so much, for the first time or again. */
void throttle_read(struct throttle *throttle, uint64_t bytes);

/* A request begins and ends to be in flight. */
void throttle_io_begin(struct throttle *throttle);
void throttle_io_end(struct throttle *throttle);

#endif
