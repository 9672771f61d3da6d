/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "clone_copy.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "log.h"
#include "signals.h"

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

static unsigned int sparse_flags(const struct clone *clone)
{
	return clone->options->writes_zeros ? 0 : KCOPYD_SPARSE;
}

bool clone_has_failed(const struct clone *clone, unsigned int number)
{
	return atomic_load(&clone->write_err) >> (number - 1) & 1;
}

void clone_add_failure(struct clone *clone, unsigned int number, const char *what, int error)
{
	report_add_failure(clone->report, number, what, error);
	atomic_fetch_or(&clone->write_err, 1u << (number - 1));
}

/* -- jobs ---------------------------------------------------------------------------------------- */

/* The client's thread. */
static void job_done(int read_err, unsigned int write_err, void *context)
{
	struct clone_job *job = context;
	struct clone *clone = job->clone;

	if (read_err > 0)
		atomic_store(&clone->read_err, 1);
	if (write_err && clone->options->on_error == ON_ERROR_STOP) {
		atomic_store(&clone->is_stopped, true);
		kcopyd_client_cancel(clone->client);
	}
	clone_job_end(job, read_err, write_err);
}

/* Jobs that have ended since the last call. */
static unsigned int collect(struct clone *clone)
{
	unsigned int num = 0;

	for (unsigned int i = 0; i < CLONE_MAX_JOBS; i++) {
		if (atomic_load(&clone->jobs[i].state) == JOB_DONE) {
			atomic_store(&clone->jobs[i].state, JOB_FREE);
			num++;
		}
	}
	return num;
}

void clone_wait(struct clone *clone)
{
	struct pollfd fds[] = {
		{ .fd = clone->done_fd, .events = POLLIN },
		{ .fd = clone->is_cancelled ? -1 : signals_fd(), .events = POLLIN },
		{ .fd = pace_fd(&clone->pace), .events = POLLIN },
	};
	uint64_t done_bytes, total_bytes, count;

	log_keep(false); /* something was started: what goes wrong from now on is no refusal */
	if (poll(fds, sizeof(fds) / sizeof(fds[0]), PROGRESS_INTERVAL_MS) < 0)
		fds[0].revents = 0;
	if (signals_pending() && !clone->is_cancelled) {
		clone->is_cancelled = true;
		if (!clone->is_flushing)
			kcopyd_client_cancel(clone->client);
		log_warning("%s: ending in order; once more to end at once", strsignal(signals_pending()));
	}
	if (fds[0].revents)
		(void)!read(clone->done_fd, &count, sizeof(count));
	report_print_news(clone->report);
	clone_stall_tick(clone);
	pace_tick(&clone->pace);
	report_ask_progress(clone->report, &done_bytes, &total_bytes);
	progress_update(&clone->progress, done_bytes, total_bytes, clone->is_flushing);
}

/* Until one of the jobs has ended, or more. */
static unsigned int wait_for_jobs(struct clone *clone)
{
	unsigned int num;

	while ((num = collect(clone)) == 0) {
		clone_wait(clone);
		clone_flush_tick(clone);
	}
	return num;
}

/* -- copying ------------------------------------------------------------------------------------- */

static bool is_ignoring(const struct clone *clone)
{
	return clone->options->on_error == ON_ERROR_IGNORE;
}

static bool next_piece(struct clone *clone, enum resume_pass pass, sector_t skip, struct resume_piece *piece)
{
	sector_t count = clone->guard.operands[0].region.count;
	uint32_t live = is_ignoring(clone) ? ~0u : ~atomic_load(&clone->write_err);

	if (clone->resume)
		return resume_next(clone->resume, pass, skip, live, piece);
	*piece = (struct resume_piece){ .count = count, .dests = live };
	return skip == 0;
}

static int start_piece(struct clone *clone, const struct resume_piece *piece)
{
	struct io_region source = clone->guard.operands[0].region;
	unsigned int flags = policy_flags(clone->options->on_error);
	struct clone_job *job = clone->jobs;
	int ret;

	while (atomic_load(&job->state) != JOB_FREE)
		job++;
	clone_job_begin(clone, job);
	source.sector += piece->skip;
	source.count = piece->count;
	for (unsigned int number = 1; number <= clone->guard.num_dests; number++)
		if (piece->dests >> (number - 1) & 1)
			clone_job_add(clone, job, number, piece->skip, piece->count);
	/* What could be read once and cannot now is not to be lost: such a block is written as a whole, or not at all. */
	if (piece->is_partial && is_ignoring(clone))
		flags = KCOPYD_DROP_FAILED;
	flags |= sparse_flags(clone);
	ret = kcopyd_copy(clone->client, &source, job->num_dests, job->dests, flags, job_done, job);
	if (ret)
		atomic_store(&job->state, JOB_FREE);
	else
		report_add_asked(clone->report, piece->count);
	return ret;
}

static bool has_zoned(const struct clone *clone)
{
	for (unsigned int number = 1; number <= clone->guard.num_dests; number++)
		if (kcopyd_device_is_zoned(clone->guard.operands[number].bdev))
			return true;
	return false;
}

/*
 * Where an error ends the copy, or a destination's part in it, nothing behind it may be under way; and a zoned device is
 * written in order.
 */
static unsigned int most_jobs(const struct clone *clone)
{
	return is_ignoring(clone) && !has_zoned(clone) ? CLONE_MAX_JOBS : 1;
}

/* Is it over, whatever is still to be done? */
static bool has_ended(const struct clone *clone)
{
	return clone->is_cancelled || atomic_load(&clone->is_stopped) ||
	       (atomic_load(&clone->read_err) && !is_ignoring(clone));
}

/* No memory: what was to be copied is missing on all. */
static void give_up(struct clone *clone, int error)
{
	for (unsigned int number = 1; number <= clone->guard.num_dests; number++)
		clone_add_failure(clone, number, "copying", error);
	atomic_store(&clone->is_stopped, true);
}

/* -errno: the very first piece was not accepted, so nothing was written. */
static int copy_pass(struct clone *clone, enum resume_pass pass, bool *has_started)
{
	unsigned int running = 0, most = most_jobs(clone);
	struct resume_piece piece = { .skip = 0 };
	int ret;

	for (;;) {
		while (running < most && !has_ended(clone) &&
		       next_piece(clone, pass, piece.skip + piece.count, &piece)) {
			ret = start_piece(clone, &piece);
			if (ret && !*has_started)
				return ret;
			*has_started = true;
			if (ret) {
				give_up(clone, -ret);
				break;
			}
			running++;
		}
		if (running == 0)
			return 0;
		running -= wait_for_jobs(clone);
	}
}

/* With a map, what is known to be bad waits until all else is safe: a failing disk may not live that long. */
static int copy_pieces(struct clone *clone)
{
	bool has_started = false;
	int ret;

	if (!clone->resume || !is_ignoring(clone) || has_zoned(clone))
		return copy_pass(clone, RESUME_ALL, &has_started);
	ret = copy_pass(clone, RESUME_MISSING, &has_started);
	return ret ? ret : copy_pass(clone, RESUME_BAD, &has_started);
}

/* Destinations of different lengths are jobs of their own. */
static int zero_all(struct clone *clone)
{
	unsigned int running = 0;
	int ret = 0, error;

	for (unsigned int number = 1; number <= clone->guard.num_dests && !atomic_load(&clone->is_stopped); number++) {
		struct clone_job *job = &clone->jobs[running];

		clone_job_begin(clone, job);
		clone_job_add(clone, job, number, 0, clone->guard.operands[number].region.count);
		error = kcopyd_zero(clone->client, 1, job->dests,
				    policy_flags(clone->options->on_error) | sparse_flags(clone), job_done, job);
		if (error == 0) {
			running++;
			continue;
		}
		atomic_store(&job->state, JOB_FREE);
		ret = error;
		clone_add_failure(clone, number, "zeroing", -error);
	}
	if (running == 0)
		return ret;
	/* A job that was accepted just behind the first failure missed its cancel. */
	if (atomic_load(&clone->is_stopped))
		kcopyd_client_cancel(clone->client);
	while (running > 0)
		running -= wait_for_jobs(clone);
	return 0;
}

int clone_copy(struct clone *clone, unsigned int pages)
{
	int ret = clone->guard.has_source ? copy_pieces(clone) : zero_all(clone);

	if (ret == -EINVAL && clone->guard.has_source)
		log_error("a reserve of %u pages holds no logical block of these devices; use a larger --pages", pages);
	else if (ret)
		log_error("the copy cannot be started: %s", strerror(-ret));
	return ret;
}
