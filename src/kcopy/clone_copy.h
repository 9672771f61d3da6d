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
#include "progress.h"
#include "report.h"
#include "resume.h"

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

/* What is known of an operand that does not answer. */
struct clone_stall {
	unsigned int ms;      /* when it was looked at last; 0: it does */
	unsigned int gaps_ms; /* of these, nobody looked for so long */
	bool is_told;
	bool is_abandoned;
};

struct clone {
	const struct options *options; /* borrowed */
	struct guard guard;
	struct report *report; /* owned */
	struct resume *resume; /* owned; NULL: there is no map */
	struct kcopyd_client *client;
	struct progress progress;
	struct clone_job jobs[CLONE_MAX_JOBS]; /* a copy is one; zeroing may be one per destination */
	struct clone_job flush_job;
	int done_fd; /* an eventfd: each job's callback adds 1 */
	atomic_int read_err;
	atomic_uint write_err;	/* bit N-1: destination N */
	atomic_bool is_stopped; /* by the first error: nothing is started any more */
	bool is_cancelled;	/* by a signal */
	uint32_t asked;		/* bit N-1: the flush that is under way is for destination N's map, too */
	uint64_t next_save_ms;	/* when the maps are due; CLOCK_MONOTONIC */
	bool is_unsaved;	/* the last attempt to save the maps failed */
	struct json_file json;	/* where the report goes; open while there is one to write */
	bool has_json;		/* it is open */
	uint64_t begin_ms;	/* CLOCK_MONOTONIC */
	struct clone_stall stalls[KCOPYD_MAX_DESTS + 1]; /* by operand */
	uint64_t looked_ms;				 /* at them; CLOCK_MONOTONIC */
};

bool clone_has_failed(const struct clone *clone, unsigned int number);

/* A failure that is not the engine's. @error: positive errno. */
void clone_add_failure(struct clone *clone, unsigned int number, const char *what, int error);

/*
 * Copies, or writes zeros; returns when everything that was started has ended. 0, or -errno: nothing was started, and
 * why was printed.
 */
int clone_copy(struct clone *clone, unsigned int pages);

/* Flushes what is worth it. Returns the destinations (bit N-1) that have not failed and are on stable storage. */
uint32_t clone_flush(struct clone *clone);

/* -- clone_map.c: maps while it runs ------------------------------------------------------------- */

/* Starts and ends flushes for the maps, and saves them, when it is time. Often called. */
void clone_map_tick(struct clone *clone);

/* Ends one that is under way. */
void clone_map_settle(struct clone *clone);

/* For clone_map.c: flushes these destinations (bit N-1). 0 or -errno. */
int clone_start_flush(struct clone *clone, uint32_t numbers);

/*
 * The destinations of the flush, which is done, that it succeeded for; their names are on stable storage, too. The maps
 * learn of it.
 */
uint32_t clone_end_flush(struct clone *clone);

/* Waits until something happens, or some time is over. */
void clone_wait(struct clone *clone, bool is_flushing);

/* -- clone_stall.c ------------------------------------------------------------------------------- */

/* Before the first job: of a reserve of @pages, leaves something for the others if destinations are dropped. */
void clone_stall_prepare(struct clone *clone, unsigned int pages);

/* Names the devices that do not answer, and drops destinations that do not for too long. Often called. */
void clone_stall_tick(struct clone *clone);

/* For who waits for the process: its result, and the devices that the kernel may make it wait for now. */
void clone_stall_tell_result(const struct clone *clone, int status, int signal);

#endif
