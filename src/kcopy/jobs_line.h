/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One job of a list: from its words to a copy that can be started, and what became of it. For jobs.c, on the main
 * thread; only its callback is on the client's.
 */
#ifndef KCOPY_JOBS_LINE_H
#define KCOPY_JOBS_LINE_H

#include <stdbool.h>
#include <stdint.h>

#include "guard.h"
#include "kcopyd.h"
#include "pool.h"
#include "report.h"
#include "words.h"

/* What the engine's observer gets with everything: a job's, or a flush's. */
struct jobs_context {
	void (*on_error)(struct jobs_context *context, const struct kcopyd_error *error);
	struct report_job *job; /* NULL: a flush */
};

/* An operand's sectors, for those who ask often. */
struct line_extent {
	struct pool_entry *entry; /* NULL: refused */
	unsigned int group;	  /* the entry's, when it was begun */
	sector_t sector, end;
	bool is_uneven; /* a destination file's, and not of whole pages of its page cache: see jobs_line.c */
};

struct line {
	struct jobs_context context;
	struct line *next;     /* in whatever list of its owner it is */
	void *owner;	       /* borrowed, for the callback */
	unsigned int slot;     /* its owner's, too */
	unsigned long number;  /* in the list, from 1 */
	struct guard guard;    /* its operands stand behind extents, and do not own what they have open */
	struct report *report; /* owned; NULL: it was not started */
	struct report_job job;
	bool is_done;	     /* guarded by its owner's lock */
	bool is_deferred;    /* its source is to be created by a job before it */
	bool has_read_error; /* valid when it has ended, as are ... */
	bool is_cancelled;
	uint32_t failed;	      /* bit N-1: destination N */
	bool is_zoned;		      /* one of its destinations is */
	struct line_extent extents[]; /* of its operands */
};

/*
 * The job of @words, which are borrowed, and its pre-flight. @is_checking: it is not to be started, and its source may be
 * still to come. 0; -EINVAL: refused, which was printed, and @result is there to be reported; -EAGAIN, -EINTR: as
 * pool_get(); -ENOMEM. Without a result there is nothing to destroy.
 */
int line_create(struct pool *pool, unsigned long number, const struct words *words, bool is_checking,
		struct line **result);
void line_destroy(struct line *line); /* NULL is allowed */

/* Must @line wait for @other, which is under way: is there a sector that one of them writes and the other has? */
bool line_must_wait(const struct pool *pool, const struct line *line, const struct line *other);

/*
 * Creates and extends its files, and starts the copy, if nothing is in its way. @flags: as for kcopyd_copy() and
 * report_create(). 0; -EINVAL: refused, which was printed.
 */
int line_start(struct pool *pool, struct line *line, struct kcopyd_client *client, unsigned int flags,
	       unsigned int report_flags, kcopyd_notify_fn fn);

/* Bytes that are to be written to all destinations. */
uint64_t line_bytes(const struct line *line);

/* Bytes that were. */
uint64_t line_written_bytes(const struct line *line);

extern const struct kcopyd_observer line_observer;

#endif
