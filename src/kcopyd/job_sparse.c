/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a job need not transfer (KCOPYD_SPARSE): holes of a source file are not read, and zeros are not written. A hole is
 * a chunk without pages; a chunk with zeros in it goes to a destination in pieces, one after the other, so that there is
 * one request of it at a time as ever. Nothing else of the job knows of pieces: what fails is narrowed down by writing.
 */
#include "job_chunk.h"

#include <errno.h>

#define PAGE_SECTORS (KCOPYD_PAGE_BYTES / KCOPYD_SECTOR_BYTES)

/* -- holes --------------------------------------------------------------------------------------- */

/* The source is asked: a file that is large enough to have holes. */
bool job_has_extents(const struct job *job)
{
	return job->kind == JOB_COPY && job->flags & KCOPYD_SPARSE && job->from.bdev->hole_least > 0 &&
	       job->count * KCOPYD_SECTOR_BYTES >= job->from.bdev->hole_least;
}

void job_ask_extent(struct job *job, struct stream *stream, struct chunk *chunk)
{
	struct chunk_request *request = &chunk->requests[job->num_dests];

	chunk->state = CHUNK_ASKING;
	chunk->dests = 0;
	chunk->offset = stream->next;
	chunk->count = 0;
	chunk->unwritten = 0;
	job_put_in_flight(job, chunk);
	stream->is_asking = true;
	idle_begin(&job->idles[job->num_dests]);
	request->lane.op = LANE_EXTENT;
	request->lane.offset = (job->from.sector + chunk->offset) * KCOPYD_SECTOR_BYTES;
	chunk_submit(chunk, request, 0, (stream->end - stream->next) * KCOPYD_SECTOR_BYTES);
}

/* What a chunk may begin and end at, in sectors. */
static sector_t step(const struct job *job)
{
	return (sector_t)job->align_pages * PAGE_SECTORS;
}

/* Sectors from the region's start to byte @position of the source, as far as they are the job's. */
static sector_t to_offset(const struct job *job, uint64_t position, bool is_up)
{
	uint64_t bytes = position - job->from.sector * KCOPYD_SECTOR_BYTES, unit = step(job) * KCOPYD_SECTOR_BYTES;
	sector_t offset;

	offset = (bytes / unit + (is_up && bytes % unit)) * step(job);
	return offset < job->count && bytes < job->count * KCOPYD_SECTOR_BYTES ? offset : job->count;
}

/* The source's lane says what comes next. It may say so of a file that has changed since: there is always some progress. */
static void note_extent(const struct job *job, struct stream *stream, const struct lane_request *answer)
{
	stream->hole_end = to_offset(job, answer->zero_end, false);
	stream->data_end = to_offset(job, answer->data_end, true);
	if (stream->hole_end < stream->next)
		stream->hole_end = stream->next;
	if (stream->data_end <= stream->next)
		stream->data_end = stream->next + step(job);
	if (stream->data_end < stream->hole_end)
		stream->data_end = stream->hole_end;
}

void chunk_extent_told(struct chunk *chunk, struct chunk_request *request)
{
	struct job *job = chunk->job;
	struct stream *stream = chunk->stream;

	stream->is_asking = false;
	if (job_has_abandoned(job, job->num_dests)) {
		/* It is as if its read had failed; nothing more is asked of this device. */
		chunk->dests = stream->dests;
		chunk->count = stream->end - stream->next < step(job) ? stream->end - stream->next : step(job);
		stream->next += chunk->count;
		request->error = -ETIMEDOUT;
		request->done = 0;
		chunk_read_lost(chunk);
		return;
	}
	if (request->error)
		stream->data_end = job->count;
	else
		note_extent(job, stream, &request->lane);
	chunk->state = CHUNK_FREE;
	list_move_tail(&chunk->node, &job->free);
}

/* -- zeros --------------------------------------------------------------------------------------- */

static bool can_zero(const struct job *job, unsigned int dest)
{
	const struct block_device *bdev = job->dests[dest].bdev;

	return !bdev->is_zoned && !atomic_load(&bdev->cannot_zero);
}

void chunk_find_zeros(struct chunk *chunk)
{
	const struct job *job = chunk->job;
	size_t least = SIZE_MAX; /* of those that want them */

	chunk->has_zeros = false;
	if (job->kind != JOB_COPY || !(job->flags & KCOPYD_SPARSE) || !chunk->buffer)
		return;
	for (unsigned int dest = 0; dest < job->num_dests; dest++)
		if ((chunk->dests & ~job->dead) >> dest & 1 && can_zero(job, dest) &&
		    job->dests[dest].bdev->zeros.least < least)
			least = job->dests[dest].bdev->zeros.least;
	if (least < SIZE_MAX)
		chunk->has_zeros = zeros_find(chunk->buffer, chunk_bytes(chunk), least, chunk->zero_pages) > 0;
}

static uint64_t dest_byte(const struct chunk *chunk, unsigned int dest, uint32_t start)
{
	return (chunk->job->dests[dest].sector + chunk->offset) * KCOPYD_SECTOR_BYTES + start;
}

static uint32_t cut(const struct chunk *chunk, unsigned int dest, bool *is_zero)
{
	uint32_t start = chunk->requests[dest].reached;

	*is_zero = !chunk->buffer;
	if (!chunk->has_zeros || !can_zero(chunk->job, dest))
		return chunk_bytes(chunk) - start;
	return zeros_cut(chunk->zero_pages, chunk_bytes(chunk), start, dest_byte(chunk, dest, 0),
			 &chunk->job->dests[dest].bdev->zeros, is_zero);
}

static void tell_zeroed(const struct chunk *chunk, unsigned int dest, uint32_t start, uint32_t bytes)
{
	const struct job *job = chunk->job;
	struct io_region to = { .bdev = job->dests[dest].bdev,
				.sector = dest_byte(chunk, dest, start) / KCOPYD_SECTOR_BYTES,
				.count = bytes / KCOPYD_SECTOR_BYTES };

	if (job->env->observer && job->env->observer->zeroed)
		job->env->observer->zeroed(job->env->observer_context, job->context, dest, &to);
}

bool chunk_write_next(struct chunk *chunk, unsigned int dest)
{
	struct chunk_request *request = &chunk->requests[dest];
	bool is_zero;

	while (request->reached < chunk_bytes(chunk)) {
		uint32_t start = request->reached, bytes = cut(chunk, dest, &is_zero);

		if (is_zero && dest_byte(chunk, dest, start) + bytes <= request->zero_end) {
			tell_zeroed(chunk, dest, start, bytes);
			request->reached += bytes;
			continue;
		}
		request->piece = bytes;
		request->lane.op = is_zero ? LANE_ZERO : LANE_WRITE;
		request->lane.offset = dest_byte(chunk, dest, 0);
		chunk_submit(chunk, request, start, bytes);
		return true;
	}
	return false;
}

void chunk_start_pieces(struct chunk *chunk, unsigned int dest)
{
	chunk->requests[dest].reached = 0;
	chunk->requests[dest].zero_end = 0;
	chunk_write_next(chunk, dest);
}

void chunk_piece_done(struct chunk *chunk, struct chunk_request *request)
{
	if (request->error) {
		request->done += request->reached;
		return;
	}
	if (request->lane.op == LANE_ZERO) {
		if (!request->lane.is_written)
			tell_zeroed(chunk, request->operand, request->reached, request->piece);
		if (request->lane.zero_end > request->zero_end)
			request->zero_end = request->lane.zero_end;
	}
	request->reached += request->piece;
}
