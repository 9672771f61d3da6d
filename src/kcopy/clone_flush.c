/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Flushes: a job for each device, so that one that hangs keeps no other from its flush, nor its map from being saved.
 * Destinations on the same device have one together: the kernel tells a lost write to one flush only. Main thread only,
 * but for the callback.
 */
#include "clone_copy.h"

static bool is_ignoring(const struct clone *clone)
{
	return clone->options->on_error == ON_ERROR_IGNORE;
}

void clone_flush_prepare(struct clone *clone)
{
	struct operand *operands = clone->guard.operands;

	clone->num_flushes = 0;
	for (unsigned int number = 1; number <= clone->guard.num_dests; number++) {
		struct clone_flush *flush = clone->flushes;

		while (flush < clone->flushes + clone->num_flushes && flush->bdev != operands[number].bdev)
			flush++;
		if (flush == clone->flushes + clone->num_flushes) {
			*flush = (struct clone_flush){ .bdev = operands[number].bdev };
			clone->num_flushes++;
		}
		flush->numbers |= 1u << (number - 1);
	}
}

/* The client's thread. */
static void flush_done(int read_err, unsigned int write_err, void *context)
{
	clone_job_end(context, read_err, write_err);
}

/* What is not told by the engine. */
static void add_failures(struct clone *clone, struct clone_flush *flush, const char *what, int error)
{
	for (unsigned int i = 0; i < flush->job.num_dests; i++)
		clone_add_failure(clone, flush->job.report.numbers[i], what, error);
	flush->job.failed |= flush->numbers;
}

void clone_flush_begin(struct clone *clone, struct clone_flush *flush, uint32_t numbers)
{
	struct clone_job *job = &flush->job;
	int ret;

	flush->is_whole = false;
	clone_job_begin(clone, job);
	for (unsigned int number = 1; number <= clone->guard.num_dests; number++)
		if (numbers >> (number - 1) & 1)
			clone_job_add(clone, job, number, 0, clone->guard.operands[number].region.count);
	ret = kcopyd_flush(clone->client, job->num_dests, job->dests, flush_done, job);
	if (ret == 0)
		return;
	add_failures(clone, flush, "flush", -ret);
	atomic_store(&job->state, JOB_DONE);
}

/* The destinations of the job that it brought to stable storage, with their names. */
static uint32_t find_flushed(struct clone *clone, struct clone_flush *flush)
{
	struct clone_job *job = &flush->job;
	uint32_t flushed = 0;

	for (unsigned int i = 0; i < job->num_dests && !job->is_cancelled && !job->failed; i++) {
		unsigned int number = job->report.numbers[i];
		int ret = operand_flush_name(&clone->guard.operands[number]);

		if (ret)
			add_failures(clone, flush, "flush of its directory", -ret);
		flushed |= 1u << (number - 1);
	}
	return job->failed ? 0 : flushed;
}

/* What a device has lost is not known, nor what it loses next: without ignore nothing more is written to it. */
static void end_copy(struct clone *clone, const struct clone_flush *flush)
{
	switch (clone->options->on_error) {
	case ON_ERROR_STOP:
		atomic_store(&clone->is_stopped, true);
		kcopyd_client_cancel(clone->client);
		break;
	case ON_ERROR_DROP:
		kcopyd_device_fail(flush->bdev);
		break;
	case ON_ERROR_IGNORE:
		break;
	}
}

void clone_flush_end(struct clone *clone, struct clone_flush *flush)
{
	flush->flushed = find_flushed(clone, flush);
	flush->is_whole &= !flush->job.is_cancelled;
	for (unsigned int number = 1; number <= clone->guard.num_dests; number++)
		if ((flush->is_whole || flush->is_last) && (flush->flushed >> (number - 1) & 1))
			report_add_flushed(clone->report, number);
	if (clone->resume) {
		resume_end_flush(clone->resume, flush->asked, flush->flushed, flush->job.failed);
		clone_map_save(clone, flush->numbers);
	}
	flush->asked = 0;
	flush->has_failed |= flush->job.failed != 0;
	atomic_store(&flush->job.state, JOB_FREE);
	if (flush->job.failed && !clone->is_flushing)
		end_copy(clone, flush);
}

/* -- the last one -------------------------------------------------------------------------------- */

static uint64_t count_writes(const struct clone *clone, const struct clone_flush *flush)
{
	uint64_t writes = 0;

	for (unsigned int number = 1; number <= clone->guard.num_dests; number++)
		if (flush->numbers >> (number - 1) & 1)
			writes += report_count_writes(clone->report, number);
	return writes;
}

/* Is the one that was begun last behind everything that was ever written there? */
static bool is_behind_all(const struct clone *clone, const struct clone_flush *flush)
{
	return flush->is_whole && count_writes(clone, flush) == flush->writes;
}

bool clone_flush_whole(struct clone *clone, struct clone_flush *flush)
{
	uint64_t writes = count_writes(clone, flush);

	if (is_behind_all(clone, flush))
		return true;
	if (flush->has_failed && !is_ignoring(clone))
		return false;
	for (unsigned int number = 1; number <= clone->guard.num_dests; number++)
		if ((flush->numbers >> (number - 1) & 1) && !report_is_written(clone->report, number))
			return false;
	if (clone->resume)
		flush->asked = resume_begin_flush(clone->resume, flush->numbers);
	clone_flush_begin(clone, flush, flush->numbers);
	flush->is_whole = true;
	flush->writes = writes;
	return true;
}

/* The destinations that it is worth it for. */
static uint32_t find_wanting(const struct clone *clone, const struct clone_flush *flush)
{
	uint32_t numbers = flush->numbers;

	if (is_ignoring(clone))
		return numbers;
	/* Nothing was written since, and what another flush says is nothing. */
	if (flush->has_failed)
		return 0;
	/* What a failed destination holds is worth nothing, unless its map tells what it is. */
	return clone->resume ? numbers : numbers & ~atomic_load(&clone->write_err);
}

/* False: it is over. */
static bool go_on(struct clone *clone, struct clone_flush *flush)
{
	uint32_t numbers;

	switch (atomic_load(&flush->job.state)) {
	case JOB_RUNNING:
		return true;
	case JOB_DONE:
		clone_flush_end(clone, flush);
		break;
	case JOB_FREE:
		break;
	}
	if (flush->is_last)
		return false;
	/* One beside the copy was under way, or none. */
	flush->is_last = true;
	if (is_behind_all(clone, flush))
		return false;
	flush->flushed = 0;
	numbers = find_wanting(clone, flush);
	if (numbers == 0)
		return false;
	if (clone->resume)
		flush->asked = resume_begin_flush(clone->resume, numbers);
	clone_flush_begin(clone, flush, numbers);
	return true;
}

uint32_t clone_flush(struct clone *clone)
{
	uint32_t flushed = 0;
	unsigned int running;

	clone->is_flushing = true;
	for (;;) {
		running = 0;
		for (unsigned int i = 0; i < clone->num_flushes; i++)
			running += go_on(clone, &clone->flushes[i]);
		if (running == 0)
			break;
		if (!clone->has_json)					 /* it is still to be described */
			operand_close_device(&clone->guard.operands[0]); /* takes some time; the flush does too */
		clone_wait(clone);
	}
	report_print_news(clone->report);
	for (unsigned int i = 0; i < clone->num_flushes; i++)
		flushed |= clone->flushes[i].flushed;
	return flushed & ~atomic_load(&clone->write_err);
}
