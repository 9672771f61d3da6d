/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What became of the copy: it listens to the engine on the client's thread and tells the user on the main thread.
 * Everything it says was completed, never only submitted.
 */
#ifndef KCOPY_REPORT_H
#define KCOPY_REPORT_H

#include <stdbool.h>

#include "guard.h"
#include "kcopyd.h"
#include "resume.h"

struct report;

/* A job's context for the engine: which of its dests is which destination (numbers from 1). */
struct report_job {
	struct report *report;
	unsigned int numbers[KCOPYD_MAX_DESTS];
};

enum {
	REPORT_IGNORING = 1, /* errors do not end anything, zeros stand for what cannot be read */
	REPORT_KEEPING = 2,  /* every error is kept for report_ask_source() and report_ask_dest() */
	REPORT_TERSE = 4,    /* what is good is a detail: of many copies */
};

/* @guard and @resume, the maps or NULL, are borrowed until report_destroy(). */
int report_create(const struct guard *guard, struct resume *resume, unsigned int flags, struct report **result);
void report_destroy(struct report *report);

/* Before the first job: 1 is written to @fd, an eventfd, whenever a destination has all that it is to get and others have not. */
void report_wake(struct report *report, int fd);

/* To be set on the client, with no context of its own: jobs are started with a struct report_job. */
extern const struct kcopyd_observer report_observer;

/* A failure that the engine does not know of. @error: positive errno. Main thread. */
void report_add_failure(struct report *report, unsigned int number, const char *what, int error);

/* How far it is: what every live destination has, in bytes; and all it should have. Any thread. */
void report_ask_progress(struct report *report, uint64_t *done_bytes, uint64_t *total_bytes);

/* Was every sector of destination @number written? Any thread. */
bool report_is_complete(struct report *report, unsigned int number);

/*
 * Has destination @number all that it is to get, flushed or not? It may still be written again, where blocks are of which
 * it had a part: then report_count_writes() is another one. Any thread.
 */
bool report_is_written(struct report *report, unsigned int number);

/* How often destination @number was written to so far, or could not be. Any thread. */
uint64_t report_count_writes(struct report *report, unsigned int number);

/* With a map: a job was started that copies so many sectors of the source. Any thread. */
void report_add_asked(struct report *report, sector_t count);

/* All that was written to destination @number is flushed now. Any thread. */
void report_add_flushed(struct report *report, unsigned int number);

/* Prints what was learned since the last call: read errors; who is complete, for who wants to know. Main thread. */
void report_print_news(struct report *report);

/* All has ended. @flushed: bit N-1, destination N's flush succeeded. Before the calls below; main thread, as they are. */
void report_end(struct report *report, uint32_t flushed, bool is_interrupted);

/* One line per destination. */
void report_print(struct report *report);

/* -- for who reports to programs ----------------------------------------------------------------- */

/* A failure, or neighbours of one kind. */
struct report_area {
	enum kcopyd_op op; /* valid if there is a count, or no @what */
	sector_t sector;   /* of the device or file */
	sector_t count;	   /* 0: it has no place */
	int error;	   /* a positive errno */
	const char *what;  /* static: a failure that the engine does not know of, or NULL */
};

/* In ascending order, borrowed; without a place last. */
struct report_areas {
	struct report_area *items;
	size_t num;
	size_t room;
	sector_t untold; /* sectors of those that there was no memory for */
};

enum report_state {
	REPORT_COMPLETE, /* all that the source holds is there, and flushed */
	REPORT_FAILED,
	REPORT_INCOMPLETE, /* it did not fail, but the copy did not get through, or the source could not be read */
	REPORT_INTERRUPTED /* the same, because of a signal */
};

struct report_source {
	sector_t read;	/* as often as it was, but not again after an error */
	sector_t holes; /* that were not read; valid if ... */
	bool has_holes; /* ... it is known how many */
	sector_t unreadable;
	const struct report_areas *areas;
};

struct report_dest {
	enum report_state state;
	sector_t written;    /* sectors, wherever they are */
	sector_t resumed;    /* of these, how many were there already, by the map */
	sector_t zeroed;     /* of those written in this run: without sending zeros */
	sector_t contiguous; /* sectors, from the start */
	sector_t failed;     /* sectors */
	bool is_dropped;
	bool is_flushed;
	int64_t written_ms; /* from report_create() until all was written; -1: it was not, or before */
	int64_t flushed_ms; /* likewise, until all that was written was flushed; -1: it is not */
	const struct report_areas *areas;
};

void report_ask_source(const struct report *report, struct report_source *source);
void report_ask_dest(const struct report *report, unsigned int number, struct report_dest *dest);

#endif
