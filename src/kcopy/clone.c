/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "clone.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "guard.h"
#include "kcopyd.h"
#include "log.h"
#include "plan.h"
#include "progress.h"
#include "refresh.h"
#include "report.h"
#include "signals.h"
#include "units.h"

#define PAGE_SECTORS (KCOPYD_PAGE_BYTES / KCOPYD_SECTOR_BYTES)
/* Destinations from the 6th on share the highest bit of the exit status. */
#define STATUS_MAX_DEST 6u

struct clone_job {
	struct report_job report; /* first: the engine's observer gets a pointer to it */
	struct clone *clone;
	unsigned int num_dests;
	struct io_region dests[KCOPYD_MAX_DESTS];
};

struct clone {
	const struct options *options; /* borrowed */
	struct guard guard;
	struct report *report; /* owned */
	struct kcopyd_client *client;
	struct progress progress;
	struct clone_job jobs[KCOPYD_MAX_DESTS]; /* a copy is one; zeroing may be one per destination */
	int done_fd;				 /* an eventfd: each job's callback adds 1 */
	atomic_int read_err;
	atomic_uint write_err;	/* bit N-1: destination N */
	atomic_bool is_stopped; /* by the first error: nothing is started any more */
	bool is_cancelled;	/* by a signal */
};

/* See log_set_patience(): the copy does not wait for a reader. */
static int while_copying(void)
{
	return 0;
}

static unsigned int policy_flags(enum on_error policy)
{
	switch (policy) {
	case ON_ERROR_STOP:
		return 0;
	case ON_ERROR_IGNORE:
		return KCOPYD_IGNORE_ERROR;
	case ON_ERROR_DROP:
		break;
	}
	return KCOPYD_DROP_FAILED;
}

/* The client's thread. */
static void job_done(int read_err, unsigned int write_err, void *context)
{
	struct clone_job *job = context;
	struct clone *clone = job->clone;
	uint64_t one = 1;

	if (read_err > 0)
		atomic_store(&clone->read_err, 1);
	for (unsigned int i = 0; i < job->num_dests; i++)
		if (write_err >> i & 1)
			atomic_fetch_or(&clone->write_err, 1u << (job->report.numbers[i] - 1));
	if (write_err && clone->options->on_error == ON_ERROR_STOP) {
		atomic_store(&clone->is_stopped, true);
		kcopyd_client_cancel(clone->client);
	}
	(void)!write(clone->done_fd, &one, sizeof(one));
}

static void start_job(struct clone *clone, struct clone_job *job)
{
	job->report.report = clone->report;
	job->clone = clone;
	job->num_dests = 0;
}

static void add_dest(struct clone *clone, struct clone_job *job, unsigned int number)
{
	job->report.numbers[job->num_dests] = number;
	job->dests[job->num_dests++] = clone->guard.operands[number].region;
}

/* Until @jobs callbacks came: looks after signals, news and the progress line. */
static void wait_for_jobs(struct clone *clone, unsigned int jobs, bool is_flushing)
{
	uint64_t done_bytes, total_bytes, count;

	while (jobs > 0) {
		struct pollfd fds[] = {
			{ .fd = clone->done_fd, .events = POLLIN },
			{ .fd = clone->is_cancelled ? -1 : signals_fd(), .events = POLLIN },
		};

		if (poll(fds, 2, PROGRESS_INTERVAL_MS) < 0)
			fds[0].revents = 0;
		if (signals_pending() && !clone->is_cancelled) {
			clone->is_cancelled = true;
			if (!is_flushing)
				kcopyd_client_cancel(clone->client);
			log_warning("%s: ending in order; once more to end at once", strsignal(signals_pending()));
		}
		if (fds[0].revents && read(clone->done_fd, &count, sizeof(count)) == (ssize_t)sizeof(count))
			jobs -= (unsigned int)count;
		report_print_news(clone->report);
		report_ask_progress(clone->report, &done_bytes, &total_bytes);
		progress_update(&clone->progress, done_bytes, total_bytes, is_flushing);
	}
}

static bool has_failed(const struct clone *clone, unsigned int number)
{
	return atomic_load(&clone->write_err) >> (number - 1) & 1;
}

/* A failure that is not the engine's. @error: positive errno. */
static void add_failure(struct clone *clone, unsigned int number, const char *what, int error)
{
	report_add_failure(clone->report, number, what, error);
	atomic_fetch_or(&clone->write_err, 1u << (number - 1));
}

static int start_copy(struct clone *clone)
{
	struct clone_job *job = &clone->jobs[0];

	start_job(clone, job);
	for (unsigned int number = 1; number <= clone->guard.num_dests; number++)
		add_dest(clone, job, number);
	return kcopyd_copy(clone->client, &clone->guard.operands[0].region, job->num_dests, job->dests,
			   policy_flags(clone->options->on_error), job_done, job);
}

/* Destinations of different lengths are jobs of their own. Returns how many were started. */
static unsigned int start_zero(struct clone *clone, int *error)
{
	unsigned int started = 0;

	for (unsigned int number = 1; number <= clone->guard.num_dests && !atomic_load(&clone->is_stopped); number++) {
		struct clone_job *job = &clone->jobs[started];
		int ret;

		start_job(clone, job);
		add_dest(clone, job, number);
		ret = kcopyd_zero(clone->client, 1, job->dests, policy_flags(clone->options->on_error), job_done, job);
		if (ret == 0) {
			started++;
			continue;
		}
		*error = ret;
		add_failure(clone, number, "zeroing", -ret);
	}
	/* A job that was accepted just behind the first failure missed its cancel. */
	if (atomic_load(&clone->is_stopped))
		kcopyd_client_cancel(clone->client);
	return started;
}

static void flush_name(struct clone *clone, unsigned int number)
{
	int ret = operand_flush_name(&clone->guard.operands[number]);

	if (ret)
		add_failure(clone, number, "flush of its directory", -ret);
}

/* Flushes what is worth it: all that still stands. Returns the destinations (bit N-1) that are on stable storage. */
static uint32_t flush(struct clone *clone)
{
	struct clone_job *job = &clone->jobs[0];
	uint32_t flushed = 0;
	bool is_ignoring = clone->options->on_error == ON_ERROR_IGNORE;
	int ret;

	start_job(clone, job);
	for (unsigned int number = 1; number <= clone->guard.num_dests; number++)
		if (is_ignoring || !has_failed(clone, number))
			add_dest(clone, job, number);
	if (job->num_dests == 0)
		return 0;
	ret = kcopyd_flush(clone->client, job->num_dests, job->dests, job_done, job);
	operand_close_device(&clone->guard.operands[0]); /* takes some time; the flush does too */
	if (ret == 0)
		wait_for_jobs(clone, 1, true);
	for (unsigned int i = 0; i < job->num_dests; i++) {
		unsigned int number = job->report.numbers[i];

		if (ret)
			add_failure(clone, number, "flush", -ret);
		if (!has_failed(clone, number))
			flush_name(clone, number);
		if (!has_failed(clone, number))
			flushed |= 1u << (number - 1);
	}
	return flushed;
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
		if (has_failed(clone, number))
			status |= 1 << (number < STATUS_MAX_DEST ? number : STATUS_MAX_DEST);
	return status;
}

/* Nothing went wrong, so everything must be there. Counted, not concluded: 0 is never said of less. */
static void check_complete(struct clone *clone, uint32_t flushed)
{
	for (unsigned int number = 1; number <= clone->guard.num_dests; number++)
		if (!(flushed >> (number - 1) & 1) || !report_is_complete(clone->report, number))
			add_failure(clone, number, "accounting", EIO);
}

/* A device that has failed may not answer any more: its caches are left to themselves. */
static void refresh(struct clone *clone, void (*fn)(const struct operand *operand))
{
	for (unsigned int number = 1; number <= clone->guard.num_dests; number++)
		if (!has_failed(clone, number))
			fn(&clone->guard.operands[number]);
}

/* Pre-flight is over. 0, or -errno: nothing was written. */
static int run_jobs(struct clone *clone)
{
	unsigned int pages = choose_pages(clone), started = 1;
	uint32_t flushed;
	int ret;

	ret = kcopyd_client_create(pages, &clone->client);
	if (ret) {
		log_error("a reserve of %u pages of 4 KiB cannot be set aside: %s; try a smaller --pages", pages,
			  strerror(-ret));
		return ret;
	}
	kcopyd_client_set_observer(clone->client, &report_observer, NULL);
	kcopyd_client_set_retries(clone->client, clone->options->retries);
	tell_plan(clone, pages);
	refresh(clone, refresh_before);
	progress_start(&clone->progress, !clone->options->is_quiet);
	if (clone->guard.has_source)
		ret = start_copy(clone);
	else
		started = start_zero(clone, &ret);
	if (ret == -EINVAL && started > 0 && clone->guard.has_source) {
		log_error("a reserve of %u pages holds no logical block of these devices; use a larger --pages", pages);
		return ret;
	}
	if (started == 0 || (ret && clone->guard.has_source)) {
		log_error("the copy cannot be started: %s", strerror(-ret));
		return ret;
	}
	log_set_patience(while_copying);
	wait_for_jobs(clone, started, false);
	flushed = flush(clone);
	log_set_patience(signals_patience);
	refresh(clone, refresh_after);
	if (status_of(clone) == 0 && !clone->is_cancelled)
		check_complete(clone, flushed);
	report_print(clone->report, flushed, clone->is_cancelled);
	return 0;
}

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

void clone_run(const struct options *options, struct clone_result *result)
{
	struct clone *clone = calloc(1, sizeof(*clone));
	int ret;

	*result = (struct clone_result){ .status = CLONE_REFUSED };
	if (!clone) {
		log_error("%s", strerror(ENOMEM));
		return;
	}
	clone->options = options;
	clone->done_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (clone->done_fd < 0) {
		log_error("%s", strerror(errno));
		goto out;
	}
	if (guard_open(&options->guard, options->operands, options->num_operands, !options->is_zero, &clone->guard))
		goto out;
	ret = guard_check(&clone->guard);
	if (options->guard.is_dry && !clone->guard.is_interrupted)
		result->status = print_plan(clone, ret ? CLONE_REFUSED : 0);
	if (ret || options->guard.is_dry)
		goto out;
	if (report_create(&clone->guard, options->on_error == ON_ERROR_IGNORE, &clone->report)) {
		log_error("%s", strerror(ENOMEM));
		guard_undo(&clone->guard);
		goto out;
	}
	if (signals_pending() || run_jobs(clone))
		guard_undo(&clone->guard);
	else
		result->status = status_of(clone);
out:
	result->signal = signals_pending();
	kcopyd_client_destroy(clone->client);
	guard_close(&clone->guard);
	report_destroy(clone->report);
	if (clone->done_fd >= 0)
		close(clone->done_fd);
	free(clone);
}
