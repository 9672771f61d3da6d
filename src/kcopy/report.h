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

/* @guard and @resume, the maps or NULL, are borrowed until report_destroy(). @is_ignoring: errors do not end anything, zeros stand for what cannot be
 * read. */
int report_create(const struct guard *guard, struct resume *resume, bool is_ignoring, struct report **result);
void report_destroy(struct report *report);

/* To be set on the client, with no context of its own: jobs are started with a struct report_job. */
extern const struct kcopyd_observer report_observer;

/* A failure that the engine does not know of. @error: positive errno. Main thread. */
void report_add_failure(struct report *report, unsigned int number, const char *what, int error);

/* How far it is: what every live destination has, in bytes; and all it should have. Any thread. */
void report_ask_progress(struct report *report, uint64_t *done_bytes, uint64_t *total_bytes);

/* Was every sector of destination @number written? Any thread. */
bool report_is_complete(struct report *report, unsigned int number);

/* Prints the read errors that were learned since the last call. Main thread. */
void report_print_news(struct report *report);

/* At the end: one line per destination. @flushed: bit N-1, destination N's flush succeeded. Main thread. */
void report_print(struct report *report, uint32_t flushed, bool is_interrupted);

#endif
