/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A copy that runs: clone.c's inner half. The main thread starts jobs and waits; the engine's callbacks only note what
 * has ended.
 */
#ifndef KCOPY_CLONE_COPY_H
#define KCOPY_CLONE_COPY_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "guard.h"
#include "json.h"
#include "kcopyd.h"
#include "options.h"
#include "pace.h"
#include "progress.h"
#include "report.h"
#include "resume.h"
#include "stall.h"

/* Pieces of one copy that are under way at a time, where a map has gaps. */
#define CLONE_MAX_JOBS KCOPYD_MAX_DESTS

enum job_state { JOB_FREE, JOB_RUNNING, JOB_DONE };

struct clone_job {
	struct report_job report; /* first: the engine's observer gets a pointer to it */
	struct clone *clone;
	unsigned int num_dests;
	struct io_region dests[KCOPYD_MAX_DESTS];
	uint32_t failed;   /* bit N-1: destination N failed in it; valid when it is done, as is ... */
	bool is_cancelled; /* ... whether it did not get through */
	_Atomic(enum job_state) state;
};

/* A device's flush, again and again. */
struct clone_flush {
	struct clone_job job;
	struct block_device *bdev; /* borrowed */
	uint32_t numbers;	   /* the destinations on it, bit N-1 */
	uint32_t asked;		   /* of these: whose map the one that is under way is for */
	uint32_t flushed;	   /* by the last one that ended */
	bool has_failed;
	bool is_whole;	 /* when the last one began, its destinations had all that they are to get ... */
	uint64_t writes; /* ... and so often had been written to them, see report_count_writes() */
	bool is_last;	 /* the one behind the copy */
	uint64_t due_ms; /* the next one beside it; CLOCK_MONOTONIC; 0: not known yet */
};

struct clone {
	const struct options *options; /* borrowed */
	struct guard guard;
	struct report *report; /* owned */
	struct resume *resume; /* owned; NULL: there is no map */
	struct kcopyd_client *client;
	struct progress progress;
	struct clone_job jobs[CLONE_MAX_JOBS]; /* a copy is one; zeroing may be one per destination */
	struct clone_flush flushes[KCOPYD_MAX_DESTS];
	unsigned int num_flushes;
	int done_fd; /* an eventfd: each job's callback adds 1 */
	atomic_int read_err;
	atomic_uint write_err;			   /* bit N-1: destination N */
	atomic_bool is_stopped;			   /* by the first error: nothing is started any more */
	bool is_cancelled;			   /* by a signal */
	bool is_flushing;			   /* nothing is left to copy */
	struct json_file json;			   /* where the report goes; open while there is one to write */
	bool has_json;				   /* it is open */
	uint64_t begin_ms;			   /* CLOCK_MONOTONIC */
	struct stall stalls[KCOPYD_MAX_DESTS + 1]; /* by operand */
	uint64_t looked_ms;			   /* at them; CLOCK_MONOTONIC */
	struct pace pace;
};

bool clone_has_failed(const struct clone *clone, unsigned int number);

/* A failure that is not the engine's. @error: positive errno. */
void clone_add_failure(struct clone *clone, unsigned int number, const char *what, int error);

/*
 * Copies, or writes zeros; returns when everything that was started has ended. 0, or -errno: nothing was started, and
 * why was printed.
 */
int clone_copy(struct clone *clone, unsigned int pages);

/* Waits until something happens, or some time is over. */
void clone_wait(struct clone *clone);

/* -- clone_job.c --------------------------------------------------------------------------------- */

void clone_job_begin(struct clone *clone, struct clone_job *job);

/* @skip: so many sectors of its region are another piece's; @count of them are this one's. */
void clone_job_add(struct clone *clone, struct clone_job *job, unsigned int number, sector_t skip, sector_t count);

/* In the engine's callback. */
void clone_job_end(struct clone_job *job, int read_err, unsigned int write_err);

/* -- clone_flush.c ------------------------------------------------------------------------------- */

/* Before the first job: which flushes there are. */
void clone_flush_prepare(struct clone *clone);

/*
 * Flushes @numbers (bit N-1) of its destinations, not none; all that may be written to meanwhile, asked or not: what is
 * lost is told to this flush. Its job is JOB_DONE at once if that cannot be started.
 */
void clone_flush_begin(struct clone *clone, struct clone_flush *flush, uint32_t numbers);

/* Its job is done: the maps learn of it, and are saved; if it failed, nothing more is written there. */
void clone_flush_end(struct clone *clone, struct clone_flush *flush);

/*
 * Flushes a device, unless that was begun already, if all of its destinations have all that they are to get. False: they
 * have not, or it has lost data.
 */
bool clone_flush_whole(struct clone *clone, struct clone_flush *flush);

/*
 * At the end, and nothing is called off any more: flushes what is worth it and is not flushed yet, and saves the map of
 * each destination when its own flush is through. Returns the destinations (bit N-1) that have not failed and are on
 * stable storage.
 */
uint32_t clone_flush(struct clone *clone);

/* -- clone_map.c --------------------------------------------------------------------------------- */

/* Saves what has changed of these maps (bit N-1). What cannot be saved is told, also by the report at the end. */
void clone_map_save(struct clone *clone, uint32_t numbers);

/* While it runs: starts and ends flushes, of who is complete and for the maps, and saves these. Often called. */
void clone_flush_tick(struct clone *clone);

/* -- clone_stall.c ------------------------------------------------------------------------------- */

/* Before the first job: of a reserve of @pages, leaves something for the others if destinations are dropped. */
void clone_stall_prepare(struct clone *clone, unsigned int pages);

/* Names the devices that do not answer, and drops destinations that do not for too long. Often called. */
void clone_stall_tick(struct clone *clone);

/* For who waits for the process: its result, and the devices that the kernel may make it wait for now. */
void clone_stall_tell_result(const struct clone *clone, int status, int signal);

#endif
