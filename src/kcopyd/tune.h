/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How many pages of the reserve are in use at a time, found by trying while a client copies. Few are better where more do not
 * help, since they stay in the processor's caches; a device with a long way to it needs many. What a device says of itself
 * does not tell (virtual disks rotate), so the rate decides: from a few, twice as many are tried, then less if they
 * were right before, again and again, ever more rarely. Where source and destination share a disk that says that it rotates,
 * the reserve is filled before anything is written, which spares such a disk most of its seeks; unless the first turn, or
 * its first read, is too fast for one.
 *
 * A trial is compared with what was in front of it and behind it: a device that only happens to be faster for a while
 * proves nothing. One that is to be faster and begins with a loss ends at once. Knows no jobs and no devices. On the client's thread alone.
 */
#ifndef KCOPYD_TUNE_H
#define KCOPYD_TUNE_H

#include <stdbool.h>
#include <stdint.h>

/* Pages, to begin with: 8 MiB. A smaller reserve is used as a whole, and not tuned. */
#define TUNE_FEW_PAGES 2048u
/* 6 MiB, where no thread has to be woken for a request: that many cover what is not waited for. */
#define TUNE_LEAST_PAGES 1536u

struct tune_shape {
	unsigned int pages; /* in use at the most */
	bool alternates;    /* reads until they are all used, then writes until none is */
};

enum tune_state { TUNE_OFF, TUNE_FIRST_TURN, TUNE_HOLD, TUNE_BEFORE, TUNE_TRIAL, TUNE_AFTER };
enum tune_step { TUNE_MORE, TUNE_ALTERNATE, TUNE_LESS, TUNE_STEPS };

struct tune {
	uint64_t (*now_ns)(void); /* monotonic */
	unsigned int num_pages;	  /* the reserve */
	unsigned int fewest;	  /* in use */
	unsigned int needed;	  /* by a job */
	bool may_alternate;
	bool is_unwanted;
	bool is_near;	    /* nothing is between the devices and the client's thread */
	bool has_seen_read; /* the first one, if it was to tell something */
	bool has_waited;    /* before the first trial, which promised little */
	uint64_t read;	    /* bytes */

	struct tune_shape shape; /* to be used now */
	struct tune_shape kept;	 /* what it is compared with, or nothing better is known */
	enum tune_state state;
	enum tune_step step;
	bool has_gained;	/* since the steps began again */
	bool is_settling;	/* what is in flight is still the last shape's */
	uint64_t bytes;		/* copied in this state */
	uint64_t since_ns;	/* when counting them began */
	uint64_t before, trial; /* bytes a second */
	uint64_t hold_ns;	/* how long nothing is tried: twice as long each time that nothing was gained */
};

/* For a reserve of @num_pages. */
void tune_init(struct tune *tune, unsigned int num_pages, uint64_t (*now_ns)(void));

/* From the next look on all of the reserve is used, whatever that costs. */
void tune_off(struct tune *tune);

/* There is a job that wants so many pages, or all there are, in use from the next look on. */
void tune_need(struct tune *tune, unsigned int pages);

/*
 * There is a job between places on one disk that rotates, or says so; before it starts. Other jobs do not care what the
 * shape says of it.
 */
void tune_may_alternate(struct tune *tune);

/*
 * There is a job whose devices and the client's thread have nothing between them; before it starts. If its first read is quick, too,
 * the least will do.
 */
void tune_may_begin_with_least(struct tune *tune);

/* So many bytes went through: their pages were taken, and are free again. */
static inline void tune_count(struct tune *tune, uint64_t bytes)
{
	tune->bytes += bytes;
}

/* So many bytes were read. The first of them may be enough to tell that nothing rotates, and that nothing is far. */
static inline void tune_count_read(struct tune *tune, uint64_t bytes)
{
	tune->read += bytes;
}

/* Draws conclusions. True: the shape is another one now. It never is otherwise. */
bool tune_look(struct tune *tune);

#endif
