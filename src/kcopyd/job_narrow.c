/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What failed in a job: which blocks of a chunk a device cannot transfer. They are narrowed down, tried again after a
 * wait, and told, one entry for each bad area; a device that has vanished is not asked again. What follows
 * from a bad block is the affair of job_read.c and job_write.c.
 */
#include "job_chunk.h"

#include <assert.h>
#include <errno.h>

/* Each wait for a retry is twice the last one, up to this. */
#define RETRY_MOST_MS 5000u

static bool is_source(const struct narrowing *narrowing)
{
	return narrowing->operand == narrowing->job->num_dests;
}

static const struct io_region *region_of(const struct narrowing *narrowing)
{
	return job_region(narrowing->job, narrowing->operand);
}

/*
 * What narrowing down ends with. For a file's writes it is what direct I/O needs: a part of it would go to the page
 * cache, which takes it and fails later.
 */
static uint32_t find_block(const struct narrowing *narrowing)
{
	const struct block_device *bdev = region_of(narrowing)->bdev;

	if (!is_source(narrowing) && bdev->is_direct && bdev->direct_align > bdev->logical_block)
		return bdev->direct_align;
	return bdev->logical_block;
}

void narrowing_init(struct narrowing *narrowing, struct job *job, unsigned int operand)
{
	bool is_ordered = operand < job->num_dests && (job->flags & KCOPYD_WRITE_SEQ);

	narrowing->job = job;
	narrowing->operand = operand;
	list_init(&narrowing->timer.node);
	narrowing->timer.job = job;
	if (region_of(narrowing)->bdev)
		narrow_init(&narrowing->narrow, find_block(narrowing), job->env->retries, is_ordered);
}

void chunk_failed(struct chunk *chunk, unsigned int operand)
{
	chunk->failed |= (uint64_t)1 << operand;
	chunk->job->narrowings[operand].num_failed++;
	chunk->job->num_failed++;
}

bool chunk_is_narrowed(const struct chunk *chunk, unsigned int operand)
{
	return chunk->job->narrowings[operand].chunk == chunk;
}

/* -- the device ---------------------------------------------------------------------------------- */

/* The errors of a device that is not there any more: asking it for single blocks tells nothing new. */
static bool is_gone_error(int error)
{
	return error == -ENODEV || error == -ENXIO || error == -ENOMEDIUM || error == -ESHUTDOWN || error == -EBADF;
}

/* -- areas --------------------------------------------------------------------------------------- */

/* Without IGNORE_ERROR one place of the source is told; another stream may come to the same one. */
static bool is_told(struct job *job, sector_t sector)
{
	bool is_told = job->has_told_bad && job->told_bad == sector;

	if (!job_ends_at_read_errors(job))
		return false;
	job->has_told_bad = true;
	job->told_bad = sector;
	return is_told;
}

static void tell_bad_area(struct narrowing *narrowing)
{
	static const enum kcopyd_op ops[] = { [JOB_COPY] = KCOPYD_OP_WRITE, [JOB_ZERO] = KCOPYD_OP_ZERO };
	struct job *job = narrowing->job;
	struct io_region region = *region_of(narrowing);

	if (narrowing->bad_bytes == 0)
		return;
	region.sector += narrowing->chunk->offset + narrowing->bad_start / KCOPYD_SECTOR_BYTES;
	region.count = narrowing->bad_bytes / KCOPYD_SECTOR_BYTES;
	narrowing->bad_bytes = 0;
	if (is_source(narrowing) && is_told(job, region.sector))
		return;
	job_tell_error(job, is_source(narrowing) ? KCOPYD_OP_READ : ops[job->kind], narrowing->operand, &region,
		       narrowing->bad_error);
}

static void note_bad_area(struct narrowing *narrowing, uint32_t start, uint32_t bytes)
{
	if (narrowing->bad_bytes && narrowing->bad_start + narrowing->bad_bytes == start &&
	    narrowing->bad_error == narrowing->error) {
		narrowing->bad_bytes += bytes;
		return;
	}
	tell_bad_area(narrowing);
	narrowing->bad_start = start;
	narrowing->bad_bytes = bytes;
	narrowing->bad_error = narrowing->error;
}

static void tell_good_area(struct narrowing *narrowing, uint32_t end)
{
	if (!is_source(narrowing) && end > narrowing->told)
		chunk_write_good(narrowing->chunk, narrowing->operand, narrowing->told, end - narrowing->told);
	narrowing->told = end;
}

static void add_bad(struct narrowing *narrowing, uint32_t start, uint32_t bytes, bool is_gone)
{
	struct chunk *chunk = narrowing->chunk;
	bool goes_on;

	narrowing->has_bad = true;
	if (is_source(narrowing))
		goes_on = chunk_read_bad(chunk, start, bytes);
	else
		goes_on = chunk_write_bad(chunk, narrowing->operand, start, is_gone);
	tell_good_area(narrowing, start);
	note_bad_area(narrowing, start, bytes);
	narrowing->told = start + bytes;
	if (!goes_on) {
		narrow_stop(&narrowing->narrow);
		narrowing->end = narrowing->told;
	}
}

/* -- one step after the other -------------------------------------------------------------------- */

static void attempt_failed(struct narrowing *narrowing, const struct chunk_request *request)
{
	bool is_abandoned = job_has_abandoned(narrowing->job, narrowing->operand);
	uint32_t start, bytes;

	narrowing->error = request->error;
	/* A device that was removed answers every transfer with EIO or ENOSPC. */
	if (!is_abandoned && !is_gone_error(request->error) && device_is_absent(region_of(narrowing)->bdev))
		narrowing->error = -ENODEV;
	if (is_abandoned || is_gone_error(narrowing->error)) {
		start = narrow_stop_at(&narrowing->narrow, request->done);
		add_bad(narrowing, start, chunk_bytes(narrowing->chunk) - start, true);
	} else if (narrow_bad(&narrowing->narrow, request->done, &start, &bytes)) {
		add_bad(narrowing, start, bytes, false);
	}
}

static void try_next(struct narrowing *narrowing)
{
	if (is_source(narrowing))
		chunk_read_range(narrowing->chunk, narrowing->start, narrowing->bytes);
	else
		chunk_write_range(narrowing->chunk, narrowing->operand, narrowing->start, narrowing->bytes);
}

static void wait_to_try(struct narrowing *narrowing)
{
	const struct job_env *env = narrowing->job->env;
	unsigned int ms = env->retry_ms;

	for (unsigned int i = 1; i < narrowing->narrow.tries && ms < RETRY_MOST_MS; i++)
		ms = ms < RETRY_MOST_MS / 2 ? ms * 2 : RETRY_MOST_MS;
	env->wait(env, &narrowing->timer, ms);
}

static bool is_wanted(const struct narrowing *narrowing)
{
	const struct job *job = narrowing->job;

	if (job->is_cancelled)
		return false;
	/* Also when the job has ended: what is bad is told exactly. */
	if (is_source(narrowing))
		return narrowing->chunk->offset < narrowing->chunk->stream->end;
	return !(job->dead >> narrowing->operand & 1);
}

/*
 * Nobody wants the rest any more, which begins where the last attempt failed after @good bytes. Of a block that failed
 * alone that is told, though it was not tried as often as it could have been; of a larger range nobody knows which of
 * its blocks are bad.
 */
static void give_up(struct narrowing *narrowing, uint64_t good)
{
	struct job *job = narrowing->job;
	bool has_failed_alone = narrowing->narrow.tries > 0;
	uint32_t start = narrow_stop_at(&narrowing->narrow, good);

	job->is_short |= job->is_cancelled;
	if (job->is_cancelled && has_failed_alone)
		add_bad(narrowing, narrowing->start, narrowing->bytes, false);
	if (!is_source(narrowing))
		chunk_write_given_up(narrowing->chunk, narrowing->operand, start);
	narrowing->end = start;
}

static void finish(struct narrowing *narrowing)
{
	struct chunk *chunk = narrowing->chunk;
	uint32_t end = narrowing->end;

	if (end > narrowing->told)
		tell_good_area(narrowing, end);
	tell_bad_area(narrowing);
	narrowing->chunk = NULL;
	narrowing->num_failed--;
	chunk->job->num_failed--;
	chunk->failed &= ~((uint64_t)1 << narrowing->operand);
	if (is_source(narrowing))
		chunk_read_settled(chunk, end);
	else
		chunk_write_settled(chunk, narrowing->operand);
}

static void go_on(struct narrowing *narrowing)
{
	if (narrow_next(&narrowing->narrow, &narrowing->start, &narrowing->bytes)) {
		if (!is_wanted(narrowing))
			give_up(narrowing, 0);
		else if (narrowing->narrow.tries > 0)
			wait_to_try(narrowing);
		else
			try_next(narrowing);
	}
	/* Else an answer is waited for. */
	if (narrowing->narrow.depth == 0)
		finish(narrowing);
}

void chunk_narrow_done(struct chunk *chunk, const struct chunk_request *request)
{
	struct narrowing *narrowing = &chunk->job->narrowings[request->operand];

	if (request->error)
		attempt_failed(narrowing, request);
	else
		narrow_good(&narrowing->narrow);
	go_on(narrowing);
}

bool narrowing_start_next(struct narrowing *narrowing)
{
	const struct chunk_request *request;
	struct chunk *chunk;

	if (narrowing->chunk || narrowing->num_failed == 0)
		return false;
	chunk = is_source(narrowing) ? job_first_unreadable(narrowing->job)
				     : job_first_unsettled(narrowing->job, narrowing->operand);
	if (!chunk || !(chunk->failed >> narrowing->operand & 1))
		return false;
	narrowing->chunk = chunk;
	narrowing->told = 0;
	narrowing->end = chunk_bytes(chunk);
	narrowing->has_bad = false;
	narrow_start(&narrowing->narrow, 0, chunk_bytes(chunk));
	request = &chunk->requests[narrowing->operand];
	narrowing->error = request->error;
	if (is_wanted(narrowing))
		attempt_failed(narrowing, request);
	else
		give_up(narrowing, request->done);
	go_on(narrowing);
	return !narrowing->chunk;
}

void narrowing_end_wait(struct narrowing *narrowing)
{
	if (is_wanted(narrowing))
		try_next(narrowing);
	else
		go_on(narrowing);
}
