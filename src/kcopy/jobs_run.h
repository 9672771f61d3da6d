/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Jobs that run: the inner half of jobs.c, and what is told of them.
 */
#ifndef KCOPY_JOBS_RUN_H
#define KCOPY_JOBS_RUN_H

#include <pthread.h>
#include <stdatomic.h>

#include "clone.h"
#include "job_list.h"
#include "jobs_flight.h"
#include "jobs_line.h"
#include "json.h"
#include "options.h"
#include "pace.h"
#include "pool.h"
#include "progress.h"
#include "report_json.h"

/* One flush call's destinations; all of them are at most two calls. */
#define JOBS_FLUSHES (POOL_SLOTS / KCOPYD_MAX_DESTS)

struct line_queue {
	struct line *first, **end;
	unsigned int num, num_operands;
};

struct jobs_flush {
	struct jobs_context context; /* first: the engine's observer gets a pointer to it */
	struct jobs *jobs;
	unsigned int num;
	struct io_region dests[KCOPYD_MAX_DESTS];
	struct pool_entry *entries[KCOPYD_MAX_DESTS];
	int errors[KCOPYD_MAX_DESTS]; /* 0, or a positive errno; valid when it is done, as is ... */
	bool is_cancelled;
};

struct jobs {
	const struct options *options; /* borrowed */
	struct job_list *list;	       /* owned, as are the next */
	struct pool *pool;
	struct kcopyd_client *client;
	char context[240];	   /* for log_set_context() */
	unsigned long num_checked; /* jobs, by the first pass ... */
	uint64_t total_bytes;	   /* ... and what they would write, as far as it is known ... */
	sector_t largest;	   /* ... and the largest of them ... */
	bool is_any_deferred;	   /* ... and whether the size of any is not known yet */
	bool is_collecting;	   /* errors of all lines are kept */

	int done_fd;	      /* an eventfd: enough is in done, or a flush has ended */
	pthread_mutex_t lock; /* guards the next block */
	bool has_lock;
	struct line *done, **done_end; /* have ended, in that order */
	unsigned int num_done;
	unsigned int wake_at;	    /* so many are enough; 0: nobody waits for a number */
	const struct line *awaited; /* this one is, whatever the number; NULL: none */

	struct flight flight;
	struct line *held;    /* the next one: it has to wait for others */
	struct line *blocker; /* of those in flight, for this one; NULL: for none */
	char *held_text;      /* owned: or this, which could not be opened for want of room; or NULL */
	unsigned long held_number;
	bool is_at_end;		   /* no line will come */
	bool is_waiting_for_line;  /* none is there yet */
	struct line_queue written; /* not flushed yet */
	uint64_t written_ms;	   /* since when; CLOCK_MONOTONIC */
	struct line_queue flushing;
	struct jobs_flush flushes[JOBS_FLUSHES];
	unsigned int num_flushes;
	atomic_uint flushes_left; /* that have not ended */
	atomic_bool is_stopped;	  /* by the first error: nothing is started any more */
	bool is_cancelled;	  /* by a signal, or that: the client was told */
	unsigned long num_started;

	bool has_read_error; /* of any line, as are the next */
	uint32_t failed;     /* bit N-1 */
	uint64_t done_bytes;
	struct report_totals totals;
	struct progress progress;
	struct pace pace;
	struct json_file json;
	bool has_json; /* it is open */
	bool has_put;  /* a line */
	bool has_lost_report;
	uint64_t begin_ms;
	uint64_t looked_ms; /* by jobs_stall_tick() */
};

uint64_t jobs_now_ms(void);
void jobs_set_context(struct jobs *jobs, unsigned long number);

/*
 * A line's text to a line; none if it is empty. @num_dests: how many it has, as far as can be told. 0; -EINVAL: refused,
 * which was printed, and @line may be there for the report; -EAGAIN: later; -EINTR.
 */
int jobs_parse(struct jobs *jobs, const char *text, unsigned long number, bool is_checking, struct line **line,
	       unsigned int *num_dests);

/* Before jobs_copy() and jobs_wait(); jobs_close() is due whatever comes back. 0 or -errno, which is printed. */
int jobs_open(struct jobs *jobs);
void jobs_close(struct jobs *jobs);

/* All lines of the list. Returns when everything that was started has ended. 0, or -errno: nothing was started. */
int jobs_copy(struct jobs *jobs);
int jobs_status(const struct jobs *jobs);

/* Any thread: something has ended. */
void jobs_ring(struct jobs *jobs);

/* Is there nothing to do yet? Then jobs_ring() comes when there is. */
bool jobs_may_wait(struct jobs *jobs);

/* -- jobs_wait.c --------------------------------------------------------------------------------- */

/* Until something happens, or some time is over. @is_reading: a line of the list is something. */
void jobs_wait(struct jobs *jobs, bool is_reading);

/* -- jobs_stall.c -------------------------------------------------------------------------------- */

/* Names whoever does not answer, and with --stall-timeout drops destinations. Often called. */
void jobs_stall_tick(struct jobs *jobs);

/* The parent process may have to end without us. */
void jobs_stall_tell_result(struct jobs *jobs, const struct clone_result *result);

void jobs_stall_describe(const struct line *line, struct report_facts *facts);

/* -- jobs_flush.c -------------------------------------------------------------------------------- */

void jobs_queue_init(struct line_queue *queue);
void jobs_queue_put(struct line_queue *queue, struct line *line);

/* Ends and starts flushes, when it is time, and finishes the lines of those that ended. Often called. */
void jobs_tick_flush(struct jobs *jobs);

/* -- jobs_report.c ------------------------------------------------------------------------------- */

/* One that was not started; @line may be NULL. */
void jobs_put_line(struct jobs *jobs, unsigned long number, const struct line *line, const char *state,
		   uint32_t failed);

/* One that has ended. @flushed: bit N-1. Prints it, counts it, puts it into the report. */
void jobs_finish_line(struct jobs *jobs, struct line *line, uint32_t flushed);

/* The last words. */
void jobs_print_summary(const struct jobs *jobs);
void jobs_end_report(struct jobs *jobs, struct clone_result *result);
void jobs_drop_report(struct jobs *jobs);

#endif
