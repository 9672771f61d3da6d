/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "clone.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "clone_copy.h"
#include "disk.h"
#include "log.h"
#include "plan.h"
#include "refresh.h"
#include "report_json.h"
#include "signals.h"
#include "units.h"

#define PAGE_SECTORS (KCOPYD_PAGE_BYTES / KCOPYD_SECTOR_BYTES)
/* Destinations from the 6th on share the highest bit of the exit status. */
#define STATUS_MAX_DEST 6u

static uint64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* See log_set_patience(): the copy does not wait for a reader. */
static int while_copying(void)
{
	return 0;
}

/* What a small copy cannot use need not be set aside; a number that the user chose is kept. */
static unsigned int choose_pages(const struct clone *clone)
{
	const struct guard *guard = &clone->guard;
	sector_t most = 0;
	unsigned int block_pages = 1;
	uint64_t needed;

	if (clone->options->has_pages)
		return clone->options->pages;
	for (unsigned int i = 0; i <= guard->num_dests; i++) {
		const struct operand *operand = &guard->operands[i];

		if (operand->region.count > most)
			most = operand->region.count;
		if (operand->bdev && kcopyd_device_logical_block(operand->bdev) / KCOPYD_PAGE_BYTES > block_pages)
			block_pages = kcopyd_device_logical_block(operand->bdev) / KCOPYD_PAGE_BYTES;
	}
	needed = most / PAGE_SECTORS + 1;
	if (!guard->has_source)
		needed = 1; /* zeroing moves no data */
	if (needed < 2 * block_pages)
		needed = 2 * block_pages;
	return needed < clone->options->pages ? (unsigned int)needed : clone->options->pages;
}

/*
 * Not unless the user says so: a head that moves to and fro between two places reads less than half as fast, and of what
 * changes meanwhile not all would get the same.
 */
static uint64_t choose_max_lag(const struct clone *clone)
{
	const struct operand *source = &clone->guard.operands[0];

	if (clone->options->max_lag == KCOPYD_LAG_AUTO && clone->guard.has_source &&
	    (source->may_change || disk_is_rotational(source->is_block ? source->rdev : source->file_dev)))
		return 0;
	return clone->options->max_lag;
}

static void tell_plan(const struct clone *clone, unsigned int pages)
{
	const struct guard *guard = &clone->guard;

	for (unsigned int i = guard->has_source ? 0 : 1; i <= guard->num_dests; i++) {
		const struct operand *operand = &guard->operands[i];
		char size[UNITS_SIZE_CHARS], role[32] = "source";

		if (i > 0)
			snprintf(role, sizeof(role), "destination %u", i);
		log_detail("%s: %s: sectors %" PRIu64 "+%" PRIu64 " (%s) of a %s, logical block %u, %s%s", role,
			   operand->name, operand->region.sector, operand->region.count,
			   units_format_bytes(operand->region.count * KCOPYD_SECTOR_BYTES, size),
			   operand->is_block ? "block device" : "file", kcopyd_device_logical_block(operand->bdev),
			   kcopyd_device_is_direct(operand->bdev) ? "direct I/O" : "page-cached I/O",
			   kcopyd_device_is_zoned(operand->bdev) ? ", zoned" : "");
	}
	log_detail("reserve: %u page%s of 4 KiB", pages, pages == 1 ? "" : "s");
}

static int status_of(const struct clone *clone)
{
	int status = atomic_load(&clone->read_err) ? 1 : 0;

	for (unsigned int number = 1; number <= clone->guard.num_dests; number++)
		if (clone_has_failed(clone, number))
			status |= 1 << (number < STATUS_MAX_DEST ? number : STATUS_MAX_DEST);
	return status;
}

/* Nothing went wrong, so everything must be there. Counted, not concluded: 0 is never said of less. */
static void check_complete(struct clone *clone, uint32_t flushed)
{
	for (unsigned int number = 1; number <= clone->guard.num_dests; number++)
		if (!(flushed >> (number - 1) & 1) || !report_is_complete(clone->report, number))
			clone_add_failure(clone, number, "accounting", EIO);
}

/* A device that has failed may not answer any more: its caches are left to themselves. */
static void refresh(struct clone *clone, void (*fn)(const struct operand *operand))
{
	for (unsigned int number = 1; number <= clone->guard.num_dests; number++)
		if (!clone_has_failed(clone, number))
			fn(&clone->guard.operands[number]);
}

/* While the disks read what is looked at next. What cannot be had now is asked for again, and told, when it is needed. */
static void create_early(struct clone *clone)
{
	if (!clone->options->guard.is_dry && !clone->guard.is_interrupted && !guard_is_refused(&clone->guard))
		(void)!kcopyd_client_create(choose_pages(clone), &clone->client);
}

/* Pre-flight is over. 0, or -errno: nothing was written. */
static int run_jobs(struct clone *clone)
{
	unsigned int pages = choose_pages(clone);
	uint64_t done_bytes, total_bytes;
	uint32_t flushed;
	int ret;

	ret = clone->client ? 0 : kcopyd_client_create(pages, &clone->client);
	if (ret) {
		log_error("a reserve of %u pages of 4 KiB cannot be set aside: %s; try a smaller --pages", pages,
			  strerror(-ret));
		return ret;
	}
	kcopyd_client_set_observer(clone->client, &report_observer, NULL);
	kcopyd_client_set_retries(clone->client, clone->options->retries);
	kcopyd_client_set_max_lag(clone->client, choose_max_lag(clone));
	clone_stall_prepare(clone, pages);
	pace_open(&clone->pace, clone->client, &clone->options->speed);
	clone_flush_prepare(clone);
	report_wake(clone->report, clone->done_fd);
	tell_plan(clone, pages);
	/* Whatever happens from now on, there is a map that says whose data is on the destinations; if it can be. */
	clone_map_save(clone, ~0u);
	refresh(clone, refresh_before);
	report_ask_progress(clone->report, &done_bytes, &total_bytes);
	progress_start(&clone->progress, !clone->options->is_quiet, done_bytes);
	log_set_patience(while_copying);
	ret = clone_copy(clone, pages);
	if (ret) {
		log_set_patience(signals_patience);
		return ret;
	}
	flushed = clone_flush(clone);
	log_set_patience(signals_patience);
	clone_map_save(clone, ~0u); /* what could not be saved then, or has changed since */
	refresh(clone, refresh_after);
	if (status_of(clone) == 0 && !clone->is_cancelled)
		check_complete(clone, flushed);
	report_end(clone->report, flushed, clone->is_cancelled);
	report_print(clone->report);
	return 0;
}

/* -- reports ------------------------------------------------------------------------------------- */

/* Returns the exit status: @status, unless the plan could not be printed in full. */
static int print_plan(const struct clone *clone, int status)
{
	int ret;

	if (!clone->guard.operands)
		return status;
	if (clone->options->has_json)
		ret = plan_print_json(&clone->guard, status, clone->options->json_path);
	else
		ret = plan_print(&clone->guard, status);
	return ret ? CLONE_REFUSED : status;
}

/* Where the report is to go is opened before the copy, so that there will be one. */
static void open_report(struct clone *clone)
{
	const struct options *options = clone->options;
	const char *maps[KCOPYD_MAX_DESTS + 1] = { NULL };

	if (!options->has_json || options->guard.is_dry)
		return;
	for (unsigned int number = 1; clone->resume && number <= clone->guard.num_dests; number++)
		maps[number - 1] = resume_path(clone->resume, number);
	clone->has_json = json_file_open(&clone->json, "report", options->json_path, &clone->guard, maps, NULL) == 0;
	/* An older report must not pass for this one's, whatever becomes of it. */
	if (clone->has_json && json_file_clear(&clone->json)) {
		json_file_abandon(&clone->json);
		clone->has_json = false;
	}
	clone->guard.is_unreportable = !clone->has_json;
}

static int put_report(struct json_file *file, const struct report_facts *facts)
{
	struct json_object *object = report_json_make(facts);
	int ret = json_file_put_object(file, object);

	json_object_put(object);
	if (ret == 0)
		return json_file_close(file);
	json_file_abandon(file);
	return ret;
}

/* @is_begun: something was written. Without a report nothing can be well. */
static void write_report(struct clone *clone, bool is_begun, struct clone_result *result)
{
	struct report_facts facts = {
		.guard = &clone->guard,
		.report = is_begun ? clone->report : NULL,
		.resume = clone->resume,
		.is_dry = clone->options->guard.is_dry,
		.status = result->status,
		.signal = result->signal,
		.elapsed_ms = now_ms() - clone->begin_ms,
		.speed = is_begun ? clone->pace.speed : clone->options->speed,
		.has_read_error = atomic_load(&clone->read_err),
		.failed = atomic_load(&clone->write_err),
	};

	if (!clone->has_json)
		return;
	for (unsigned int number = 1; number <= clone->guard.num_dests; number++) {
		facts.stalled |= (uint32_t)clone->stalls[number].is_told << (number - 1);
		facts.abandoned |= (uint32_t)clone->stalls[number].is_abandoned << (number - 1);
	}
	if (put_report(&clone->json, &facts) && result->status == 0)
		result->status = CLONE_UNREPORTED;
	clone->has_json = false;
	/* A signal that came while nobody read it. */
	if (!result->signal && result->status == CLONE_UNREPORTED)
		result->signal = signals_pending();
}

void clone_refuse(const struct options *options)
{
	const struct guard guard = { .operands = NULL };
	const struct report_facts facts = { .guard = &guard,
					    .is_dry = options->guard.is_dry,
					    .status = CLONE_REFUSED,
					    .signal = signals_pending(),
					    .speed = options->speed };
	struct json_file file;

	if (options->has_json &&
	    json_file_open(&file, "report", options->json_path, &guard, NULL, options->arguments) == 0 &&
	    json_file_clear(&file) == 0)
		put_report(&file, &facts);
}

/* -- all together -------------------------------------------------------------------------------- */

/* Returns whether something was written; then @result has the status. */
static bool run_copy(struct clone *clone, struct clone_result *result)
{
	const struct options *options = clone->options;
	int ret;

	if (guard_open(&options->guard, options->operands, options->num_operands, !options->is_zero, &clone->guard))
		return false;
	if (options->map_path && !clone->guard.is_interrupted)
		resume_create(&clone->guard, options->map_path,
			      &clone->resume); /* what is wrong is a problem of an operand */
	open_report(clone);
	create_early(clone);
	ret = guard_check(&clone->guard);
	if (ret == 0 && clone->resume)
		resume_doubt(clone->resume);
	if (options->guard.is_dry && !clone->guard.is_interrupted)
		result->status = print_plan(clone, ret ? CLONE_REFUSED : 0);
	if (ret || options->guard.is_dry)
		return false;
	if (report_create(&clone->guard, clone->resume,
			  (options->on_error == ON_ERROR_IGNORE ? REPORT_IGNORING : 0) |
				  (options->has_json ? REPORT_KEEPING : 0),
			  &clone->report)) {
		log_error("%s", strerror(ENOMEM));
		guard_undo(&clone->guard);
		return false;
	}
	if (signals_pending() || run_jobs(clone)) {
		if (clone->resume)
			resume_undo(clone->resume);
		guard_undo(&clone->guard);
		return false;
	}
	result->status = status_of(clone);
	return true;
}

void clone_run(const struct options *options, struct clone_result *result)
{
	struct clone *clone = calloc(1, sizeof(*clone));
	bool is_begun;

	*result = (struct clone_result){ .status = CLONE_REFUSED };
	if (!clone) {
		log_error("%s", strerror(ENOMEM));
		clone_refuse(options);
		return;
	}
	clone->options = options;
	clone->begin_ms = now_ms();
	clone->done_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (clone->done_fd < 0) {
		log_error("%s", strerror(errno));
		clone_refuse(options);
		goto out;
	}
	is_begun = run_copy(clone, result);
	pace_close(&clone->pace);
	result->signal = signals_pending();
	write_report(clone, is_begun, result);
	clone_stall_tell_result(clone, result->status, result->signal);
out:
	kcopyd_client_destroy(clone->client);
	guard_close(&clone->guard);
	report_destroy(clone->report);
	resume_destroy(clone->resume);
	if (clone->done_fd >= 0)
		close(clone->done_fd);
	free(clone);
}
