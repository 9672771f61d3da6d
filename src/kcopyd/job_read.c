/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The reading half of a job: a chunk's read, and what becomes of the blocks that cannot be read.
 */
#include "job_chunk.h"

#include <string.h>

#include "throttle.h"
#include "tune.h"

void chunk_read_range(struct chunk *chunk, uint32_t start, uint32_t bytes)
{
	struct job *job = chunk->job;
	struct chunk_request *request = &chunk->requests[job->num_dests];

	idle_begin(&job->idles[job->num_dests]);
	request->lane.op = LANE_READ;
	request->lane.offset = (job->from.sector + chunk->offset) * KCOPYD_SECTOR_BYTES;
	throttle_read(job->env->throttle, bytes);
	chunk_submit(chunk, request, start, bytes);
}

/*
 * Ends the data at @start of this chunk: what is before it is copied, and nothing behind it. Whole logical blocks
 * only: a destination whose blocks are larger than the source's could not write the rest, and is not to be blamed for
 * it.
 */
static void cut(struct chunk *chunk, uint32_t start)
{
	chunk->count = (start - start % chunk->job->block) / KCOPYD_SECTOR_BYTES;
	chunk_end_source(chunk);
}

bool chunk_read_bad(struct chunk *chunk, uint32_t start, uint32_t bytes)
{
	struct job *job = chunk->job;
	bool is_abandoned = job_has_abandoned(job, job->num_dests);

	/* Never what the buffer held before. Nor what it will hold: an abandoned device may still read into it. */
	if (!is_abandoned)
		memset(chunk->buffer + start, 0, bytes);
	job->read_err = 1;
	if (job->flags & KCOPYD_IGNORE_ERROR && !is_abandoned)
		return true;
	cut(chunk, start);
	return false;
}

static void finish(struct chunk *chunk)
{
	chunk_start_writing(chunk);
	chunk_put(chunk);
}

void chunk_read_settled(struct chunk *chunk, uint32_t end)
{
	if (end < chunk_bytes(chunk))
		cut(chunk, end);
	finish(chunk);
}

void chunk_read_lost(struct chunk *chunk)
{
	chunk->unwritten = chunk->dests;
	chunk->pending = 1;
	chunk->state = CHUNK_NARROWING;
	chunk_failed(chunk, chunk->job->num_dests);
}

void chunk_read_done(struct chunk *chunk, const struct chunk_request *request)
{
	struct job *job = chunk->job;

	if (request->error) {
		chunk->state = CHUNK_NARROWING;
		chunk_failed(chunk, job->num_dests);
		return;
	}
	narrow_alive(&job->narrowings[job->num_dests].narrow);
	tune_count_read(job->env->tune, chunk_bytes(chunk));
	finish(chunk);
}
