/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The reading half of a job: a chunk's read, and, if it fails, which blocks it is that cannot be read.
 */
#include "job_chunk.h"

#include <errno.h>
#include <string.h>

#include "device.h"

void chunk_read_range(struct chunk *chunk, uint32_t start, uint32_t bytes)
{
	struct job *job = chunk->job;
	struct chunk_request *request = &chunk->requests[job->num_dests];

	request->lane.op = LANE_READ;
	request->lane.offset = (job->from.sector + chunk->offset) * KCOPYD_SECTOR_BYTES + start;
	request->lane.bytes = bytes;
	request->lane.buffer = chunk->buffer + start;
	chunk_submit(chunk, request, job->from.bdev);
}

/*
 * Ends the job's data at @start of this chunk: what is before it is copied, and nothing behind it. Whole logical blocks
 * only: a destination whose blocks are larger than the source's could not write the rest, and is not to be blamed for
 * it.
 */
static void cut(struct chunk *chunk, uint32_t start)
{
	struct job *job = chunk->job;

	chunk->count = (start - start % job->block) / KCOPYD_SECTOR_BYTES;
	if (chunk->offset + chunk->count < job->end)
		job->end = chunk->offset + chunk->count;
}

static void tell_bad_area(struct chunk *chunk)
{
	struct job *job = chunk->job;
	struct io_region region = { .bdev = job->from.bdev,
				    .sector = job->from.sector + chunk->offset + chunk->bad_start / KCOPYD_SECTOR_BYTES,
				    .count = chunk->bad_bytes / KCOPYD_SECTOR_BYTES };

	if (chunk->bad_bytes)
		job_tell_error(job, KCOPYD_OP_READ, 0, &region, chunk->bad_error);
	chunk->bad_bytes = 0;
}

/* Never what the buffer held before. */
static void add_bad(struct chunk *chunk, uint32_t start, uint32_t bytes, int error)
{
	memset(chunk->buffer + start, 0, bytes);
	chunk->has_bad = true;
	chunk->job->read_err = 1;
	if (chunk->bad_bytes && chunk->bad_start + chunk->bad_bytes == start && chunk->bad_error == error) {
		chunk->bad_bytes += bytes;
		return;
	}
	tell_bad_area(chunk);
	chunk->bad_start = start;
	chunk->bad_bytes = bytes;
	chunk->bad_error = error;
}

static void narrow_on(struct chunk *chunk)
{
	struct job *job = chunk->job;
	uint32_t start, bytes;

	if (narrow_next(&chunk->narrow, &start, &bytes)) {
		/* Also when the job has ended: what was unreadable is told exactly. */
		if (!job->is_cancelled && chunk->offset < job->end) {
			chunk_read_range(chunk, start, bytes);
			return;
		}
		/* Nobody wants the rest any more. If nothing bad was found in it yet, that it could not be read as a
		 * whole is true all the same. */
		job->is_short |= job->is_cancelled;
		if (chunk->offset < job->end && !chunk->has_bad)
			add_bad(chunk, start, (uint32_t)(chunk->count * KCOPYD_SECTOR_BYTES) - start,
				chunk->last_error);
		cut(chunk, start);
	}
	tell_bad_area(chunk);
	chunk_start_writing(chunk);
}

/* The device is not there any more: asking it for single blocks tells nothing new. */
static bool is_gone(int error)
{
	return error == -ENODEV || error == -ENXIO || error == -ENOMEDIUM || error == -ESHUTDOWN;
}

static void read_failed(struct chunk *chunk, const struct lane_request *request)
{
	struct job *job = chunk->job;
	uint32_t total = (uint32_t)(chunk->count * KCOPYD_SECTOR_BYTES);
	uint32_t start = (uint32_t)(request->buffer - chunk->buffer), bytes = (uint32_t)request->bytes;
	uint32_t block = job->from.bdev->logical_block, good = (uint32_t)(request->done - request->done % block);
	bool is_found = false;

	chunk->last_error = request->error;
	if (is_gone(request->error)) {
		start += good;
		bytes = total - start;
		is_found = true;
		chunk->narrow.depth = 0;
	} else if (chunk->state == CHUNK_NARROWING) {
		is_found = narrow_bad(&chunk->narrow, good);
	} else {
		narrow_start(&chunk->narrow, start + good, bytes - good, block);
	}
	chunk->state = CHUNK_NARROWING;
	if (is_found) {
		add_bad(chunk, start, bytes, request->error);
		if (!(job->flags & KCOPYD_IGNORE_ERROR)) {
			cut(chunk, start);
			chunk->narrow.depth = 0;
		}
	}
}

void chunk_read_done(struct chunk *chunk, const struct lane_request *request)
{
	bool was_narrowing = chunk->state == CHUNK_NARROWING;

	if (request->error)
		read_failed(chunk, request);
	else if (was_narrowing)
		narrow_good(&chunk->narrow);
	if (chunk->state == CHUNK_NARROWING)
		narrow_on(chunk);
	else
		chunk_start_writing(chunk);
	chunk_put(chunk);
}
