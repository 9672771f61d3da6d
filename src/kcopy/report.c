/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "report.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

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
	bool is_split_off, is_split_off_told; /* the others are too far ahead of it */
	uint64_t writes;		      /* how often something was, or could not be */
	uint64_t complete_ms;		      /* when all was written; 0: it is not */
	uint64_t flushed_ms;		      /* when all that was written was flushed; 0: it is not */
	bool is_complete_told, is_flushed_told;
	struct kcopyd_error first; /* the error with the lowest sector; valid if errors */
	const char *what;	   /* static: a failure of our own, or NULL */
	struct report_areas areas; /* all of them, if they are kept */
};

/* As far back as the neighbour of a bad area is looked for: chunks end almost in order. */
#define NEIGHBOURS 64

/* Bad areas are printed when none has grown for so long, so that each is one line; but none waits for longer than that. */
#define SETTLED_MS 1000
#define LONGEST_WAIT_MS 3000

struct report {
	const struct guard *guard; /* borrowed */
	struct resume *resume;	   /* borrowed; NULL: there is no map */
	bool is_ignoring;
	bool is_keeping;
	bool is_terse;
	int wake_fd; /* borrowed: see report_wake(); -1: nobody */
	uint64_t begin_ms;
	pthread_mutex_t lock;	   /* guards the rest */
	struct report_areas areas; /* unreadable: to be printed, or all; merged with their neighbours */
	size_t num_told;	   /* of these, so many were printed */
	bool is_unsorted;
	uint64_t grown_ms;   /* when the last of them was added or grew */
	uint64_t waiting_ms; /* valid if some are still to be printed: since when the oldest of these is */
	sector_t asked;	     /* with a map: of the source, by all jobs; a destination may have lacked less */
	sector_t read;	     /* without holes; what was unreadable and stands as zeros is counted, too */
	sector_t unreadable;
	uint32_t flushed;
	bool is_interrupted;
	struct dest_result dests[]; /* as many as there are */
};

static uint64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

int report_create(const struct guard *guard, struct resume *resume, unsigned int flags, struct report **result)
{
	struct report *report = calloc(1, sizeof(*report) + guard->num_dests * sizeof(report->dests[0]));

	if (!report)
		return -ENOMEM;
	report->guard = guard;
	report->resume = resume;
	report->is_ignoring = flags & REPORT_IGNORING;
	report->is_keeping = flags & REPORT_KEEPING;
	report->is_terse = flags & REPORT_TERSE;
	report->wake_fd = -1;
	report->begin_ms = now_ms();
	pthread_mutex_init(&report->lock, NULL);
	for (unsigned int number = 1; resume && number <= guard->num_dests; number++) {
		report->dests[number - 1].resumed =
			resume_count(resume, number, MAP_FLUSHED) + resume_count(resume, number, MAP_WRITTEN);
		report->dests[number - 1].written = report->dests[number - 1].resumed;
	}
	*result = report;
	return 0;
}

void report_wake(struct report *report, int fd)
{
	report->wake_fd = fd;
}

void report_destroy(struct report *report)
{
	if (!report)
		return;
	pthread_mutex_destroy(&report->lock);
	for (unsigned int i = 0; i < report->guard->num_dests; i++)
		free(report->dests[i].areas.items);
	free(report->areas.items);
	free(report);
}

/* -- what the engine says (client's thread) ------------------------------------------------------ */

/* The sector of the source that a destination's holds. */
static sector_t on_source(const struct report *report, unsigned int number, sector_t sector)
{
	return sector - report->guard->operands[number].region.sector + report->guard->operands[0].region.sector;
}

/* With the lock. */
static bool has_all(const struct report *report, unsigned int number)
{
	sector_t count = report->guard->operands[number].region.count;

	if (!report->resume)
		return report->dests[number - 1].contiguous == count;
	/* Blocks may be written again of which it had a part. */
	return report->dests[number - 1].written >= count &&
	       resume_count(report->resume, number, MAP_WRITTEN) + resume_count(report->resume, number, MAP_FLUSHING) +
			       resume_count(report->resume, number, MAP_FLUSHED) ==
		       count;
}

/* With the lock. Who is the last one need not wake anybody: the job ends. */
static void note_complete(struct report *report, unsigned int number)
{
	uint64_t one = 1;

	report->dests[number - 1].complete_ms = now_ms();
	for (unsigned int i = 0; report->wake_fd >= 0 && i < report->guard->num_dests; i++) {
		if (report->dests[i].complete_ms)
			continue;
		(void)!write(report->wake_fd, &one, sizeof(one));
		return;
	}
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
	result->writes++;
	if (has_all(report, job->numbers[dest]))
		note_complete(report, job->numbers[dest]);
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

/* False: there is no memory for it. */
static bool append(struct report_areas *areas, const struct report_area *area)
{
	if (areas->num == areas->room) {
		size_t room = areas->room ? areas->room * 2 : 16;
		struct report_area *items = realloc(areas->items, room * sizeof(items[0]));

		if (!items) {
			areas->untold += area->count;
			return false;
		}
		areas->items = items;
		areas->room = room;
	}
	areas->items[areas->num++] = *area;
	return true;
}

static struct report_area area_of(const struct kcopyd_error *error)
{
	return (struct report_area){
		.op = error->op, .sector = error->region.sector, .count = error->region.count, .error = error->error
	};
}

/* Does @next go on where @area ends, with the same error? */
static bool goes_on(const struct report_area *area, const struct report_area *next)
{
	return area->op == next->op && area->error == next->error && area->what == next->what && next->count &&
	       area->sector + area->count == next->sector;
}

/* Chunks end in any order; an area next to one that is still to be printed joins it. */
static void add_unreadable(struct report *report, const struct kcopyd_error *error)
{
	struct report_areas *areas = &report->areas;
	struct report_area area = area_of(error);

	/* Chunks that were in flight behind the one where the copy ends have their errors, too; they say nothing. */
	if (!report->is_ignoring && areas->num > 0) {
		if (area.sector < areas->items[0].sector) {
			areas->items[0] = area;
			report->unreadable = area.count;
		}
		return;
	}
	report->unreadable += area.count;
	report->grown_ms = now_ms();
	if (report->num_told == areas->num)
		report->waiting_ms = report->grown_ms;
	for (size_t i = areas->num; i > report->num_told && i + NEIGHBOURS > areas->num; i--) {
		if (goes_on(&areas->items[i - 1], &area)) {
			areas->items[i - 1].count += area.count;
			return;
		}
	}
	report->is_unsorted |= append(areas, &area);
}

/* The engine tells a destination's errors in ascending order: what continues one, in the next chunk, joins it. */
static void keep_failed(struct report_areas *areas, const struct report_area *area)
{
	if (areas->num > 0 && goes_on(&areas->items[areas->num - 1], area))
		areas->items[areas->num - 1].count += area->count;
	else
		append(areas, area);
}

static void add_failed(const struct report *report, struct dest_result *result, const struct kcopyd_error *error)
{
	const struct report_area area = area_of(error), before = area_of(&result->first);
	struct kcopyd_error *first = &result->first;

	if (report->is_keeping)
		keep_failed(&result->areas, &area);
	result->failed += error->region.count;
	result->is_dropped |= error->is_dropped;
	if (result->errors > 0 && goes_on(&before, &area)) {
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
		add_unreadable(job->report, error);
	} else {
		result = &job->report->dests[job->numbers[error->dest] - 1];
		if (error->op != KCOPYD_OP_FLUSH) {
			result->contiguous = error->contiguous;
			result->writes++;
		}
		add_failed(job->report, result, error);
	}
	pthread_mutex_unlock(&job->report->lock);
}

static void observe_split_off(void *observer, void *context, unsigned int dest)
{
	const struct report_job *job = context;

	(void)observer;
	pthread_mutex_lock(&job->report->lock);
	job->report->dests[job->numbers[dest] - 1].is_split_off = true;
	pthread_mutex_unlock(&job->report->lock);
}

const struct kcopyd_observer report_observer = {
	.chunk_read = observe_read,
	.chunk_written = observe_written,
	.zeroed = observe_zeroed,
	.error = observe_error,
	.split_off = observe_split_off,
};

/* -- what the user sees (main thread) ------------------------------------------------------------ */

void report_add_failure(struct report *report, unsigned int number, const char *what, int error)
{
	struct dest_result *result = &report->dests[number - 1];
	const struct report_area area = { .error = error, .what = what };

	pthread_mutex_lock(&report->lock);
	if (report->is_keeping)
		keep_failed(&result->areas, &area);
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

bool report_is_written(struct report *report, unsigned int number)
{
	bool ret;

	pthread_mutex_lock(&report->lock);
	ret = has_all(report, number);
	pthread_mutex_unlock(&report->lock);
	return ret;
}

uint64_t report_count_writes(struct report *report, unsigned int number)
{
	uint64_t ret;

	pthread_mutex_lock(&report->lock);
	ret = report->dests[number - 1].writes;
	pthread_mutex_unlock(&report->lock);
	return ret;
}

void report_add_asked(struct report *report, sector_t count)
{
	pthread_mutex_lock(&report->lock);
	report->asked += count;
	pthread_mutex_unlock(&report->lock);
}

void report_add_flushed(struct report *report, unsigned int number)
{
	pthread_mutex_lock(&report->lock);
	report->dests[number - 1].flushed_ms = now_ms();
	pthread_mutex_unlock(&report->lock);
}

/* What has no place comes last. */
static int compare_areas(const void *a, const void *b)
{
	const struct report_area *x = a, *y = b;

	if (!x->count != !y->count)
		return x->count ? -1 : 1;
	return (x->sector > y->sector) - (x->sector < y->sector);
}

static void sort(struct report_areas *areas, size_t first)
{
	if (areas->num - first > 1)
		qsort(areas->items + first, areas->num - first, sizeof(areas->items[0]), compare_areas);
}

/* The next area to print, if there is one. */
static bool take_area(struct report *report, struct report_area *area)
{
	struct report_areas *areas = &report->areas;
	bool ret;

	pthread_mutex_lock(&report->lock);
	if (report->is_unsorted)
		sort(areas, report->num_told);
	report->is_unsorted = false;
	ret = report->num_told < areas->num;
	if (ret)
		*area = areas->items[report->num_told++];
	if (report->num_told == areas->num && !report->is_keeping) {
		report->num_told = 0;
		areas->num = 0;
	}
	pthread_mutex_unlock(&report->lock);
	return ret;
}

/* How many areas can be printed. */
static size_t count_settled(struct report *report)
{
	uint64_t now;
	size_t ret = 0;

	pthread_mutex_lock(&report->lock);
	now = now_ms();
	if (now - report->grown_ms >= SETTLED_MS || now - report->waiting_ms >= LONGEST_WAIT_MS)
		ret = report->areas.num - report->num_told;
	pthread_mutex_unlock(&report->lock);
	return ret;
}

static void print_area(const struct report *report, const struct report_area *area)
{
	log_error("%s: read of %" PRIu64 " sector%s at sector %" PRIu64 ": %s", report->guard->operands[0].name,
		  area->count, area->count == 1 ? "" : "s", area->sector, strerror(area->error));
}

static void tell_time(const struct report *report, unsigned int number, const char *what, uint64_t at_ms)
{
	uint64_t ms = at_ms - report->begin_ms;

	log_detail("%s: all %s after %" PRIu64 ".%02" PRIu64 " s", report->guard->operands[number].name, what,
		   ms / 1000, ms % 1000 / 10);
}

/* For who wants to know. Without the lock: standard error may be slow. */
static void print_milestones(struct report *report, unsigned int number)
{
	struct dest_result *result = &report->dests[number - 1];
	bool is_split_off, is_complete, is_flushed;
	uint64_t complete_ms, flushed_ms;

	pthread_mutex_lock(&report->lock);
	is_split_off = result->is_split_off && !result->is_split_off_told;
	is_complete = result->complete_ms && !result->is_complete_told;
	result->is_split_off_told |= is_split_off;
	is_flushed = result->flushed_ms && !result->is_flushed_told && !result->errors && has_all(report, number);
	result->is_complete_told |= is_complete;
	result->is_flushed_told |= is_flushed;
	complete_ms = result->complete_ms;
	flushed_ms = result->flushed_ms;
	pthread_mutex_unlock(&report->lock);
	if (is_split_off)
		log_detail("%s: slower than the others; the source is read for it apart from here on",
			   report->guard->operands[number].name);
	if (is_complete)
		tell_time(report, number, "written", complete_ms);
	if (is_flushed)
		tell_time(report, number, "flushed", flushed_ms);
}

void report_print_news(struct report *report)
{
	struct report_area area;

	for (unsigned int number = 1; number <= report->guard->num_dests && log_is_ready(); number++)
		print_milestones(report, number);

	/* While nobody reads they wait here; the copy does not. If the first ends it, there is time to see which is the
	 * first. */
	if (!report->is_ignoring)
		return;
	for (size_t num = count_settled(report); num > 0 && log_is_ready() && take_area(report, &area); num--)
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

static bool is_flushed(const struct report *report, unsigned int number)
{
	return report->flushed >> (number - 1) & 1;
}

static void print_good(const struct report *report, unsigned int number)
{
	const struct dest_result *result = &report->dests[number - 1];
	sector_t held = count_held(report, number, is_flushed(report, number));
	sector_t unreadable = report->resume ? resume_count(report->resume, number, MAP_BAD) : 0;
	const struct operand *operand = &report->guard->operands[number];
	const char *flushed = is_flushed(report, number) ? "flushed" : "NOT flushed";
	char size[UNITS_SIZE_CHARS], total[UNITS_SIZE_CHARS], where[48] = "", before[64] = "";

	if (result->resumed)
		snprintf(before, sizeof(before), ", %" PRIu64 " of them before", result->resumed);
	if (result->contiguous == operand->region.count && is_flushed(report, number)) {
		/* Said only where it is not the start: a name like backup-12:30 is a range that was not meant as one.
		 */
		if (operand->region.sector)
			snprintf(where, sizeof(where), ", from sector %" PRIu64 " on", operand->region.sector);
		(report->is_terse ? log_detail : log_info)(
			"%s: %" PRIu64 " sector%s (%s) written and flushed%s%s", operand->name, result->contiguous,
			result->contiguous == 1 ? "" : "s",
			units_format_bytes(result->contiguous * KCOPYD_SECTOR_BYTES, size), before, where);
		return;
	}
	if (unreadable)
		snprintf(before, sizeof(before), ", %" PRIu64 " were unreadable", unreadable);
	log_error("%s: %s: %" PRIu64 " of %" PRIu64 " sectors (%s of %s) written and %s%s", operand->name,
		  report->is_interrupted ? "interrupted" : "INCOMPLETE", held, operand->region.count,
		  units_format_bytes(held * KCOPYD_SECTOR_BYTES, size),
		  units_format_bytes(operand->region.count * KCOPYD_SECTOR_BYTES, total), flushed, before);
}

/* Where the copy went on past them, chunks were told as read with what is unreadable in them. */
static sector_t count_read(const struct report *report)
{
	return report->is_ignoring ? report->read - report->unreadable : report->read;
}

static void tell_transfers(const struct report *report)
{
	const struct guard *guard = report->guard;
	char size[UNITS_SIZE_CHARS];

	if (guard->has_source)
		log_detail("source: %" PRIu64 " sectors (%s) read", count_read(report),
			   units_format_bytes(count_read(report) * KCOPYD_SECTOR_BYTES, size));
	for (unsigned int number = 1; number <= guard->num_dests; number++)
		log_detail("destination %u: %" PRIu64 " sectors (%s) zeroed without sending zeros", number,
			   report->dests[number - 1].zeroed,
			   units_format_bytes(report->dests[number - 1].zeroed * KCOPYD_SECTOR_BYTES, size));
}

/* What the maps are worth, and what they are good for. */
static void print_maps(const struct report *report)
{
	bool is_saved = true, is_short = false;
	int error;

	for (unsigned int number = 1; number <= report->guard->num_dests; number++) {
		is_short |= report->dests[number - 1].contiguous < report->guard->operands[number].region.count;
		if (resume_is_saved(report->resume, number, &error))
			continue;
		is_saved = false;
		log_error(
			"%s: its map %s is NOT saved: %s; with what stands there, more is copied again than has to be",
			report->guard->operands[number].name, resume_name(report->resume, number), strerror(error));
	}
	if (is_saved && is_short)
		log_info("the same command goes on where this one ended, by its map%s",
			 report->guard->num_dests == 1 ? "" : "s");
}

void report_end(struct report *report, uint32_t flushed, bool is_interrupted)
{
	pthread_mutex_lock(&report->lock);
	report->flushed = flushed;
	report->is_interrupted = is_interrupted;
	for (unsigned int number = 1; number <= report->guard->num_dests; number++)
		if (is_flushed(report, number) && !report->dests[number - 1].flushed_ms)
			report->dests[number - 1].flushed_ms = now_ms();
	/* A job knows its own piece only. */
	for (unsigned int number = 1; report->resume && number <= report->guard->num_dests; number++)
		report->dests[number - 1].contiguous = resume_contiguous(report->resume, number);
	pthread_mutex_unlock(&report->lock);
}

/* Has somebody written what another one could not read any more later? */
static bool is_ahead(const struct report *report)
{
	const struct guard *guard = report->guard;

	for (unsigned int i = 0; i < guard->num_dests && report->areas.num > 0; i++)
		if (guard->operands[0].region.sector + report->dests[i].contiguous > report->areas.items[0].sector)
			return true;
	return false;
}

void report_print(struct report *report)
{
	const struct guard *guard = report->guard;
	struct report_area area;

	log_status(NULL);
	while (take_area(report, &area))
		print_area(report, &area);
	pthread_mutex_lock(&report->lock);
	if (report->unreadable)
		log_error("%s: READ ERROR: %" PRIu64 " sector%s could not be read%s%s", guard->operands[0].name,
			  report->unreadable, report->unreadable == 1 ? "" : "s",
			  report->areas.untold ? ", not all of them told above" : "",
			  report->is_interrupted ? ""
			  : report->is_ignoring	 ? "; zeros stand for them"
			  : is_ahead(report)	 ? "; the copy ends at the first, for those that had not got past it"
						 : "; the copy ends at the first, and nothing behind it was written");
	for (unsigned int number = 1; number <= guard->num_dests; number++) {
		if (report->dests[number - 1].errors)
			print_failed(report, number);
		else
			print_good(report, number);
	}
	tell_transfers(report);
	if (report->resume)
		print_maps(report);
	pthread_mutex_unlock(&report->lock);
	sort(&report->areas, 0);
	for (unsigned int i = 0; i < guard->num_dests; i++)
		sort(&report->dests[i].areas, 0);
}

/* -- for who reports to programs ----------------------------------------------------------------- */

/*
 * What the jobs were to copy and nobody read. Not known if something was read twice, or if a job may have ended early: of
 * jobs with all destinations one that is complete proves that it did not.
 */
static bool find_holes(const struct report *report, sector_t *holes)
{
	const struct guard *guard = report->guard;
	unsigned int num_complete = 0;

	*holes = (report->resume ? report->asked : guard->operands[0].region.count) - report->read;
	for (unsigned int number = 1; number <= guard->num_dests; number++) {
		if (report->dests[number - 1].is_split_off)
			return false;
		num_complete += has_all(report, number);
	}
	return num_complete >= (report->resume ? guard->num_dests : 1);
}

void report_ask_source(const struct report *report, struct report_source *source)
{
	*source = (struct report_source){ .read = count_read(report),
					  .unreadable = report->unreadable,
					  .areas = &report->areas };
	source->has_holes = find_holes(report, &source->holes);
}

static enum report_state state_of(const struct report *report, unsigned int number)
{
	const struct dest_result *result = &report->dests[number - 1];

	if (result->errors)
		return REPORT_FAILED;
	if (result->contiguous == report->guard->operands[number].region.count && is_flushed(report, number) &&
	    report->unreadable == 0)
		return REPORT_COMPLETE;
	return report->is_interrupted ? REPORT_INTERRUPTED : REPORT_INCOMPLETE;
}

static int64_t since(const struct report *report, uint64_t ms)
{
	return ms ? (int64_t)(ms - report->begin_ms) : -1;
}

void report_ask_dest(const struct report *report, unsigned int number, struct report_dest *dest)
{
	const struct dest_result *result = &report->dests[number - 1];

	*dest = (struct report_dest){
		.state = state_of(report, number),
		.written = result->written,
		.resumed = result->resumed,
		.zeroed = result->zeroed,
		.contiguous = result->contiguous,
		.failed = result->failed,
		.is_dropped = result->is_dropped,
		.is_flushed = is_flushed(report, number),
		.written_ms = since(report, result->complete_ms),
		.flushed_ms = since(report, is_flushed(report, number) ? result->flushed_ms : 0),
		.areas = &result->areas,
	};
}
