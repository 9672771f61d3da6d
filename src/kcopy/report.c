/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "report.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "log.h"
#include "units.h"

struct dest_result {
	sector_t written;     /* sectors, wherever they are */
	sector_t resumed;     /* of these, how many were there already, by the map */
	sector_t contiguous;  /* sectors, from the start */
	sector_t zeroed;      /* of those written: without sending zeros */
	unsigned long errors; /* areas that failed, and all that is no area */
	sector_t failed;      /* sectors of those areas */
	bool is_dropped;
	struct kcopyd_error first; /* the error with the lowest sector; valid if errors */
	const char *what;	   /* static: a failure of our own, or NULL */
};

/* As far back as the neighbour of a bad area is looked for: chunks end almost in order. */
#define NEIGHBOURS 64

struct bad_area {
	sector_t sector;
	sector_t count;
	int error;
};

struct report {
	const struct guard *guard; /* borrowed */
	struct resume *resume;	   /* borrowed; NULL: there is no map */
	bool is_ignoring;
	pthread_mutex_t lock; /* guards the rest */
	struct dest_result dests[KCOPYD_MAX_DESTS];
	struct bad_area *areas; /* owned: not printed yet, merged with their neighbours */
	size_t num_areas, num_told, room;
	bool is_unsorted;
	sector_t read; /* without holes */
	sector_t unreadable;
	sector_t untold; /* sectors of areas that there was no memory for */
};

int report_create(const struct guard *guard, struct resume *resume, bool is_ignoring, struct report **result)
{
	struct report *report = calloc(1, sizeof(*report));

	if (!report)
		return -ENOMEM;
	report->guard = guard;
	report->resume = resume;
	report->is_ignoring = is_ignoring;
	pthread_mutex_init(&report->lock, NULL);
	for (unsigned int number = 1; resume && number <= guard->num_dests; number++) {
		report->dests[number - 1].resumed =
			resume_count(resume, number, MAP_FLUSHED) + resume_count(resume, number, MAP_WRITTEN);
		report->dests[number - 1].written = report->dests[number - 1].resumed;
	}
	*result = report;
	return 0;
}

void report_destroy(struct report *report)
{
	if (!report)
		return;
	pthread_mutex_destroy(&report->lock);
	free(report->areas);
	free(report);
}

/* -- what the engine says (client's thread) ------------------------------------------------------ */

/* The sector of the source that a destination's holds. */
static sector_t on_source(const struct report *report, unsigned int number, sector_t sector)
{
	return sector - report->guard->operands[number].region.sector + report->guard->operands[0].region.sector;
}

static void observe_written(void *observer, void *context, unsigned int dest, const struct io_region *to,
			    sector_t contiguous)
{
	const struct report_job *job = context;
	struct report *report = job->report;
	struct dest_result *result = &report->dests[job->numbers[dest] - 1];

	(void)observer;
	if (report->resume)
		resume_written(report->resume, job->numbers[dest], on_source(report, job->numbers[dest], to->sector),
			       to->count);
	pthread_mutex_lock(&report->lock);
	result->written += to->count;
	result->contiguous = contiguous;
	pthread_mutex_unlock(&report->lock);
}

static void observe_read(void *observer, void *context, const struct io_region *from)
{
	const struct report_job *job = context;

	(void)observer;
	pthread_mutex_lock(&job->report->lock);
	job->report->read += from->count;
	pthread_mutex_unlock(&job->report->lock);
}

static void observe_zeroed(void *observer, void *context, unsigned int dest, const struct io_region *to)
{
	const struct report_job *job = context;

	(void)observer;
	pthread_mutex_lock(&job->report->lock);
	job->report->dests[job->numbers[dest] - 1].zeroed += to->count;
	pthread_mutex_unlock(&job->report->lock);
}

/* Chunks end in any order; an area next to one that is still to be printed joins it. */
static void add_area(struct report *report, const struct kcopyd_error *error)
{
	struct bad_area area = { error->region.sector, error->region.count, error->error };

	/* Chunks that were in flight behind the one where the copy ends have their errors, too; they say nothing. */
	if (!report->is_ignoring && report->num_areas > 0) {
		if (area.sector < report->areas[0].sector) {
			report->areas[0] = area;
			report->unreadable = area.count;
		}
		return;
	}
	report->unreadable += area.count;
	for (size_t i = report->num_areas; i > report->num_told && i + NEIGHBOURS > report->num_areas; i--) {
		struct bad_area *other = &report->areas[i - 1];

		if (other->error == area.error && other->sector + other->count == area.sector) {
			other->count += area.count;
			return;
		}
	}
	if (report->num_areas == report->room) {
		size_t room = report->room ? report->room * 2 : 16;
		struct bad_area *areas = realloc(report->areas, room * sizeof(areas[0]));

		if (!areas) {
			report->untold += area.count;
			return;
		}
		report->areas = areas;
		report->room = room;
	}
	report->areas[report->num_areas++] = area;
	report->is_unsorted = true;
}

/* The engine tells a destination's errors in ascending order: what continues the first one, in the next chunk, joins it. */
static void add_failed(struct dest_result *result, const struct kcopyd_error *error)
{
	struct kcopyd_error *first = &result->first;

	result->failed += error->region.count;
	result->is_dropped |= error->is_dropped;
	if (result->errors > 0 && error->op == first->op && error->error == first->error && error->region.count &&
	    error->region.sector == first->region.sector + first->region.count) {
		first->region.count += error->region.count;
		return;
	}
	if (result->errors++ == 0 || (error->op == first->op && error->region.sector < first->region.sector))
		*first = *error;
}

static void observe_error(void *observer, void *context, const struct kcopyd_error *error)
{
	const struct report_job *job = context;
	struct dest_result *result;

	(void)observer;
	if (job->report->resume && error->op == KCOPYD_OP_READ)
		resume_unreadable(job->report->resume, error->region.sector, error->region.count);
	if (job->report->resume && error->op == KCOPYD_OP_WRITE && error->region.count)
		resume_unwritten(job->report->resume, job->numbers[error->dest],
				 on_source(job->report, job->numbers[error->dest], error->region.sector),
				 error->region.count);
	pthread_mutex_lock(&job->report->lock);
	if (error->op == KCOPYD_OP_READ) {
		add_area(job->report, error);
	} else {
		result = &job->report->dests[job->numbers[error->dest] - 1];
		if (error->op != KCOPYD_OP_FLUSH)
			result->contiguous = error->contiguous;
		add_failed(result, error);
	}
	pthread_mutex_unlock(&job->report->lock);
}

const struct kcopyd_observer report_observer = {
	.chunk_read = observe_read,
	.chunk_written = observe_written,
	.zeroed = observe_zeroed,
	.error = observe_error,
};

/* -- what the user sees (main thread) ------------------------------------------------------------ */

void report_add_failure(struct report *report, unsigned int number, const char *what, int error)
{
	struct dest_result *result = &report->dests[number - 1];

	pthread_mutex_lock(&report->lock);
	if (result->errors++ == 0) {
		result->first.error = error;
		result->what = what;
	}
	pthread_mutex_unlock(&report->lock);
}

void report_ask_progress(struct report *report, uint64_t *done_bytes, uint64_t *total_bytes)
{
	const struct guard *guard = report->guard;
	double least = 2;

	*done_bytes = 0;
	*total_bytes = guard->operands[1].region.count * KCOPYD_SECTOR_BYTES;
	pthread_mutex_lock(&report->lock);
	for (unsigned int i = 0; i < guard->num_dests; i++) {
		sector_t count = guard->operands[i + 1].region.count;
		double part = (double)report->dests[i].written / (double)count;

		if ((report->dests[i].errors && !report->is_ignoring) || report->dests[i].is_dropped || part >= least)
			continue;
		least = part;
		*done_bytes = report->dests[i].written * KCOPYD_SECTOR_BYTES;
		*total_bytes = count * KCOPYD_SECTOR_BYTES;
	}
	pthread_mutex_unlock(&report->lock);
}

bool report_is_complete(struct report *report, unsigned int number)
{
	bool ret;

	if (report->resume)
		return resume_count(report->resume, number, MAP_FLUSHED) ==
		       report->guard->operands[number].region.count;

	pthread_mutex_lock(&report->lock);
	ret = report->dests[number - 1].contiguous == report->guard->operands[number].region.count;
	pthread_mutex_unlock(&report->lock);
	return ret;
}

static int compare_areas(const void *a, const void *b)
{
	const struct bad_area *x = a, *y = b;

	return (x->sector > y->sector) - (x->sector < y->sector);
}

/* The next area to print, if there is one. */
static bool take_area(struct report *report, struct bad_area *area)
{
	bool ret;

	pthread_mutex_lock(&report->lock);
	if (report->is_unsorted)
		qsort(report->areas + report->num_told, report->num_areas - report->num_told, sizeof(*area),
		      compare_areas);
	report->is_unsorted = false;
	ret = report->num_told < report->num_areas;
	if (ret)
		*area = report->areas[report->num_told++];
	if (report->num_told == report->num_areas) {
		report->num_told = 0;
		report->num_areas = 0;
	}
	pthread_mutex_unlock(&report->lock);
	return ret;
}

static void print_area(const struct report *report, const struct bad_area *area)
{
	log_error("%s: read of %" PRIu64 " sector%s at sector %" PRIu64 ": %s", report->guard->operands[0].name,
		  area->count, area->count == 1 ? "" : "s", area->sector, strerror(area->error));
}

void report_print_news(struct report *report)
{
	struct bad_area area;

	/* While nobody reads they wait here; the copy does not. If the first ends it, there is time to see which is the
	 * first. */
	while (report->is_ignoring && log_is_ready() && take_area(report, &area))
		print_area(report, &area);
}

static void print_failed(const struct report *report, unsigned int number)
{
	static const char *const verbs[] = { "read", "write", "zeroing", "flush" };
	const struct dest_result *result = &report->dests[number - 1];
	const struct operand *operand = &report->guard->operands[number];
	char where[96] = "", more[64] = "", size[UNITS_SIZE_CHARS];

	if (result->first.region.count)
		snprintf(where, sizeof(where), " of %" PRIu64 " sector%s at sector %" PRIu64,
			 result->first.region.count, result->first.region.count == 1 ? "" : "s",
			 result->first.region.sector);
	if (result->failed > result->first.region.count)
		snprintf(more, sizeof(more), ", and more errors (%" PRIu64 " sectors in all)", result->failed);
	else if (result->errors > 1)
		snprintf(more, sizeof(more), ", and more errors");
	log_error("%s: FAILED: %s%s: %s%s; wrote %" PRIu64 " of %" PRIu64 " sectors (%s) without a gap", operand->name,
		  result->what ? result->what : verbs[result->first.op], where, strerror(result->first.error), more,
		  result->contiguous, operand->region.count,
		  units_format_bytes(result->contiguous * KCOPYD_SECTOR_BYTES, size));
}

/* By its map, a destination holds more than what is before its first gap. */
static sector_t count_held(const struct report *report, unsigned int number, bool is_flushed)
{
	if (report->resume && is_flushed)
		return resume_count(report->resume, number, MAP_FLUSHED);
	return report->dests[number - 1].contiguous;
}

static void print_good(const struct report *report, unsigned int number, bool is_flushed, bool is_interrupted)
{
	const struct dest_result *result = &report->dests[number - 1];
	sector_t held = count_held(report, number, is_flushed);
	sector_t unreadable = report->resume ? resume_count(report->resume, number, MAP_BAD) : 0;
	const struct operand *operand = &report->guard->operands[number];
	const char *flushed = is_flushed ? "flushed" : "NOT flushed";
	char size[UNITS_SIZE_CHARS], total[UNITS_SIZE_CHARS], where[48] = "", before[64] = "";

	if (result->resumed)
		snprintf(before, sizeof(before), ", %" PRIu64 " of them before", result->resumed);
	if (result->contiguous == operand->region.count && is_flushed) {
		/* Said only where it is not the start: a name like backup-12:30 is a range that was not meant as one.
		 */
		if (operand->region.sector)
			snprintf(where, sizeof(where), ", from sector %" PRIu64 " on", operand->region.sector);
		log_info("%s: %" PRIu64 " sector%s (%s) written and flushed%s%s", operand->name, result->contiguous,
			 result->contiguous == 1 ? "" : "s",
			 units_format_bytes(result->contiguous * KCOPYD_SECTOR_BYTES, size), before, where);
		return;
	}
	if (unreadable)
		snprintf(before, sizeof(before), ", %" PRIu64 " were unreadable", unreadable);
	log_error("%s: %s: %" PRIu64 " of %" PRIu64 " sectors (%s of %s) written and %s%s", operand->name,
		  is_interrupted ? "interrupted" : "INCOMPLETE", held, operand->region.count,
		  units_format_bytes(held * KCOPYD_SECTOR_BYTES, size),
		  units_format_bytes(operand->region.count * KCOPYD_SECTOR_BYTES, total), flushed, before);
}

static void tell_transfers(const struct report *report)
{
	const struct guard *guard = report->guard;
	char size[UNITS_SIZE_CHARS];

	if (guard->has_source)
		log_detail("source: %" PRIu64 " sectors (%s) read", report->read,
			   units_format_bytes(report->read * KCOPYD_SECTOR_BYTES, size));
	for (unsigned int number = 1; number <= guard->num_dests; number++)
		log_detail("destination %u: %" PRIu64 " sectors (%s) zeroed without sending zeros", number,
			   report->dests[number - 1].zeroed,
			   units_format_bytes(report->dests[number - 1].zeroed * KCOPYD_SECTOR_BYTES, size));
}

void report_print(struct report *report, uint32_t flushed, bool is_interrupted)
{
	const struct guard *guard = report->guard;
	struct bad_area area;

	log_status(NULL);
	while (take_area(report, &area))
		print_area(report, &area);
	pthread_mutex_lock(&report->lock);
	/* A job knows its own piece only. */
	for (unsigned int number = 1; report->resume && number <= guard->num_dests; number++)
		report->dests[number - 1].contiguous = resume_contiguous(report->resume, number);
	if (report->unreadable)
		log_error("%s: READ ERROR: %" PRIu64 " sector%s could not be read%s%s", guard->operands[0].name,
			  report->unreadable, report->unreadable == 1 ? "" : "s",
			  report->untold ? ", not all of them told above" : "",
			  is_interrupted	? ""
			  : report->is_ignoring ? "; zeros stand for them"
						: "; the copy ends at the first, and nothing behind it was written");
	for (unsigned int number = 1; number <= guard->num_dests; number++) {
		if (report->dests[number - 1].errors)
			print_failed(report, number);
		else
			print_good(report, number, flushed >> (number - 1) & 1, is_interrupted);
	}
	tell_transfers(report);
	pthread_mutex_unlock(&report->lock);
}
