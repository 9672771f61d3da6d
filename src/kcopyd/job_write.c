/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The writing half of a job: who gets a chunk when, what each destination then holds, and what became of those that
 * failed.
 */
#include "job_chunk.h"

#include <assert.h>
#include <errno.h>

#include "pages.h"
#include "throttle.h"
#include "tune.h"

/* Sectors that destination @dest holds without a gap, from its start. */
static sector_t contiguous(const struct job *job, unsigned int dest)
{
	const struct stream *stream = job->stream_of[dest];
	sector_t upto = stream->next < stream->end ? stream->next : stream->end;
	struct list_head *pos;

	list_for_each (pos, &job->in_flight) {
		const struct chunk *chunk = container_of(pos, struct chunk, node);

		if (chunk->dests & ~chunk->written & (uint32_t)1 << dest) {
			sector_t held = chunk->offset;

			/* It failed within: what is in front of that was written. */
			if (job->limit[dest] > held && job->limit[dest] < held + chunk->count)
				held = job->limit[dest];
			if (held < upto)
				upto = held;
			break;
		}
	}
	return job->limit[dest] < upto ? job->limit[dest] : upto;
}

void job_tell_error(const struct job *job, enum kcopyd_op op, unsigned int dest, const struct io_region *region,
		    int error)
{
	struct kcopyd_error told = { .op = op, .dest = dest, .region = *region, .error = -error };

	if (op != KCOPYD_OP_READ) {
		told.contiguous = contiguous(job, dest);
		told.is_dropped = job->dead >> dest & 1;
	}
	if (job->env->observer && job->env->observer->error)
		job->env->observer->error(job->env->observer_context, job->context, &told);
}

static void tell_written(const struct chunk *chunk, unsigned int dest, uint32_t start, uint32_t bytes)
{
	const struct job *job = chunk->job;
	struct io_region to = { .bdev = job->dests[dest].bdev,
				.sector = job->dests[dest].sector + chunk->offset + start / KCOPYD_SECTOR_BYTES,
				.count = bytes / KCOPYD_SECTOR_BYTES };

	if (job->env->observer && job->env->observer->chunk_written)
		job->env->observer->chunk_written(job->env->observer_context, job->context, dest, &to,
						  contiguous(job, dest));
}

static void tell_read(const struct job *job, const struct chunk *chunk)
{
	struct io_region from = { .bdev = job->from.bdev,
				  .sector = job->from.sector + chunk->offset,
				  .count = chunk->count };

	if (job->env->observer && job->env->observer->chunk_read)
		job->env->observer->chunk_read(job->env->observer_context, job->context, &from);
}

/* Destination @dest lacks what begins @bytes behind the start of the chunk. */
static void limit_to(const struct chunk *chunk, unsigned int dest, uint32_t bytes)
{
	struct job *job = chunk->job;
	sector_t upto = chunk->offset + bytes / KCOPYD_SECTOR_BYTES;

	if (upto < job->limit[dest])
		job->limit[dest] = upto;
}

/* In bytes. Nothing is known of what comes behind one of several copies. */
static uint64_t to_end(const struct chunk *chunk)
{
	const struct job *job = chunk->job;

	return *job->env->num_copies == 1 ? (job->count - chunk->offset) * KCOPYD_SECTOR_BYTES : 0;
}

/*
 * How many bytes a destination's device may have: not all that is in use, so that, where devices complete what they have got
 * in batches, something that was read is there to be written when a batch comes back.
 */
static uint64_t write_room(const struct job *job)
{
	uint64_t pages = job->env->tune->shape.pages;

	if (job->kind != JOB_COPY || pages / job->chunk_pages < 4 || job_alternates(job))
		return 0;
	return (pages - pages / 4) * KCOPYD_PAGE_BYTES;
}

void chunk_submit(struct chunk *chunk, struct chunk_request *request, uint32_t start, uint64_t bytes)
{
	const struct job_env *env = chunk->job->env;
	bool has_buffer;

	request->lane.offset += start;
	request->lane.bytes = bytes;
	has_buffer = request->lane.op == LANE_READ || request->lane.op == LANE_WRITE;
	request->lane.buffer = has_buffer ? chunk->buffer + start : NULL;
	request->lane.done = 0;
	request->lane.error = 0;
	request->lane.stalls = 0;
	request->lane.zero_end = 0;
	request->lane.data_end = 0;
	request->lane.is_written = false;
	request->lane.to_end = to_end(chunk);
	request->lane.room = request->lane.op == LANE_WRITE ? write_room(chunk->job) : 0;
	assert(!request->is_outstanding && !request->is_orphan);
	request->is_outstanding = true;
	throttle_io_begin(env->throttle);
	env->submit(env, &request->lane, bytes);
}

void chunk_write_range(struct chunk *chunk, unsigned int dest, uint32_t start, uint32_t bytes)
{
	struct job *job = chunk->job;
	struct chunk_request *request = &chunk->requests[dest];

	request->lane.op = chunk->buffer ? LANE_WRITE : LANE_ZERO;
	request->lane.offset = (job->dests[dest].sector + chunk->offset) * KCOPYD_SECTOR_BYTES;
	chunk_submit(chunk, request, start, bytes);
}

static void flush(struct chunk *chunk, unsigned int dest)
{
	struct chunk_request *request = &chunk->requests[dest];

	request->lane.op = LANE_FLUSH;
	request->lane.offset = 0;
	request->lane.is_last = *chunk->job->env->num_copies == 0;
	chunk_submit(chunk, request, 0, 0);
}

static void write_to(struct chunk *chunk, unsigned int dest)
{
	chunk->writing |= (uint32_t)1 << dest;
	chunk->pending++;
	chunk->job->num_writing[dest]++;
	idle_begin(&chunk->job->idles[dest]);
	if (chunk->job->kind == JOB_FLUSH)
		flush(chunk, dest);
	else
		chunk_start_pieces(chunk, dest);
}

static void settle(struct chunk *chunk, unsigned int dest)
{
	chunk->writing &= ~((uint32_t)1 << dest);
	chunk->job->num_writing[dest]--;
	idle_end(&chunk->job->idles[dest]);
	chunk_put(chunk);
}

/*
 * May the chunk be written to @dest now? Nothing behind a failed chunk is written before it is settled: a device that
 * fails has enough to do, and may be about to be dropped. With WRITE_SEQ a write waits until everything before it is on
 * its destination, or never will be.
 */
static bool has_turn(const struct chunk *chunk, unsigned int dest)
{
	const struct job *job = chunk->job;
	struct list_head *pos;

	if (job->flags & KCOPYD_WRITE_SEQ)
		return job_first_unsettled(job, dest) == chunk;
	if (job->narrowings[dest].num_failed == 0)
		return true;
	list_for_each (pos, &job->in_flight) {
		const struct chunk *other = container_of(pos, struct chunk, node);

		if (other == chunk)
			return true;
		if (other->failed >> dest & 1)
			return false;
	}
	assert(!"a chunk that is written is in flight");
	return false;
}

void chunk_put(struct chunk *chunk)
{
	struct job *job = chunk->job;

	if (--chunk->pending > 0 || chunk->unwritten)
		return;
	if (chunk->num_pages) {
		pages_put(job->env->pages, chunk->first_page, chunk->num_pages);
		tune_count(job->env->tune, (uint64_t)chunk->num_pages * KCOPYD_PAGE_BYTES);
	}
	chunk->state = CHUNK_FREE;
	list_move_tail(&chunk->node, &job->free);
}

/* The kernel tells a lost write to one flush of a descriptor only: a device that is named twice is flushed once. */
static bool is_flushed_already(const struct job *job, unsigned int dest)
{
	for (unsigned int i = 0; job->kind == JOB_FLUSH && i < dest; i++)
		if (job->dests[i].bdev == job->dests[dest].bdev)
			return true;
	return false;
}

/* Nobody is to have it any more. */
static bool is_left_out(const struct chunk *chunk)
{
	return chunk->job->is_ended || chunk->offset >= chunk->stream->end || chunk->count == 0;
}

/* Hands a chunk's write to every destination that can have it now. Those in @held have something to wait for. */
static void hand_out(struct chunk *chunk, uint32_t held)
{
	struct job *job = chunk->job;
	bool is_dropped = is_left_out(chunk);

	chunk->pending++; /* ours, so that no write can finish the chunk meanwhile */
	for (unsigned int dest = 0; dest < job->num_dests; dest++) {
		uint32_t bit = (uint32_t)1 << dest;

		if (!(chunk->unwritten & bit))
			continue;
		if (is_flushed_already(job, dest)) {
			chunk->unwritten &= ~bit; /* see flush_done() */
		} else if (is_dropped || (job->dead & bit)) {
			chunk->unwritten &= ~bit;
			limit_to(chunk, dest, 0);
		} else if (!(held & bit) && has_turn(chunk, dest)) {
			chunk->unwritten &= ~bit;
			write_to(chunk, dest);
		}
	}
	chunk_put(chunk);
}

/* Those that nothing is written to now. */
static uint32_t find_held(const struct job *job)
{
	if (job_alternates(job) && job->num_reading > 0)
		return job_dest_mask(job);
	return job_full_dests(job);
}

/* Nothing is written behind what is not read yet, if that could turn out to be the end. */
void job_hand_out_waiting(struct job *job)
{
	uint32_t held = find_held(job); /* and those with a chunk that is not read yet */
	struct list_head *pos, *next;

	for (pos = job->in_flight.next; pos != &job->in_flight; pos = next) {
		struct chunk *chunk = container_of(pos, struct chunk, node);

		next = pos->next;
		if (chunk->state == CHUNK_WRITING) {
			if (!chunk->unwritten)
				continue;
			hand_out(chunk, held);
			held |= job_full_dests(job);
		} else if (job_ends_at_read_errors(job) && !is_left_out(chunk)) {
			held |= chunk->dests;
		}
		/* Of a chunk that somebody was to have who was left behind the pages may come back. */
		if (held == job_dest_mask(job) && !job->dead)
			break;
	}
}

void chunk_start_writing(struct chunk *chunk)
{
	struct job *job = chunk->job;

	chunk->state = CHUNK_WRITING;
	chunk->unwritten = chunk->dests;
	chunk->writing = 0;
	chunk->written = 0;
	if (job->kind == JOB_COPY && chunk->count > 0 && chunk->buffer)
		tell_read(job, chunk);
	chunk_find_zeros(chunk);
	if (job_ends_at_read_errors(job))
		job_hand_out_waiting(job); /* those that waited for this one's read, too */
	else
		hand_out(chunk, find_held(job));
}

void job_drop_dest(struct job *job, unsigned int dest)
{
	job->write_err |= (uint32_t)1 << dest;
	job->dead |= (uint32_t)1 << dest;
	if (!(job->flags & (KCOPYD_IGNORE_ERROR | KCOPYD_DROP_FAILED)) || job->dead == job_dest_mask(job))
		job->is_ended = true;
}

bool chunk_write_bad(struct chunk *chunk, unsigned int dest, uint32_t start, bool is_gone)
{
	struct job *job = chunk->job;

	limit_to(chunk, dest, start);
	job->write_err |= (uint32_t)1 << dest;
	/* Behind a place that was left out a zone cannot be written. */
	if (job->flags & KCOPYD_IGNORE_ERROR && !is_gone && !job->dests[dest].bdev->is_zoned)
		return true;
	job_drop_dest(job, dest);
	return false;
}

bool job_starve(struct job *job)
{
	if (!list_is_empty(&job->in_flight))
		return false;
	for (unsigned int dest = 0; dest < job->num_dests; dest++) {
		uint32_t bit = (uint32_t)1 << dest;
		const struct stream *stream = job->stream_of[dest];
		struct io_region rest = job->dests[dest];

		if ((job->dead & bit) || !stream_has_more(job, stream))
			continue;
		rest.sector += stream->next;
		rest.count = stream->end - stream->next;
		if (stream->next < job->limit[dest])
			job->limit[dest] = stream->next;
		job->write_err |= bit;
		job->dead |= bit;
		job_tell_error(job, KCOPYD_OP_WRITE, dest, &rest, -ENOBUFS);
	}
	job->is_ended = true;
	return true;
}

void chunk_write_good(struct chunk *chunk, unsigned int dest, uint32_t start, uint32_t bytes)
{
	if (bytes == chunk_bytes(chunk))
		chunk->written |= (uint32_t)1 << dest;
	tell_written(chunk, dest, start, bytes);
}

void chunk_write_given_up(struct chunk *chunk, unsigned int dest, uint32_t start)
{
	struct job *job = chunk->job;

	limit_to(chunk, dest, start);
	/* Not told, but nothing is written behind it either. */
	if (job->is_cancelled && !(job->flags & KCOPYD_IGNORE_ERROR))
		job->dead |= (uint32_t)1 << dest;
}

void chunk_write_settled(struct chunk *chunk, unsigned int dest)
{
	settle(chunk, dest);
}

/*
 * What holds for a device holds for every destination on it. Never tried again: the kernel tells of a lost write once.
 */
static void flush_done(struct chunk *chunk, const struct chunk_request *request)
{
	struct job *job = chunk->job;

	for (unsigned int dest = 0; request->error && dest < job->num_dests; dest++) {
		struct io_region region = { .bdev = job->dests[dest].bdev };

		if (region.bdev != job->dests[request->operand].bdev)
			continue;
		limit_to(chunk, dest, 0);
		job->write_err |= (uint32_t)1 << dest;
		job_tell_error(job, KCOPYD_OP_FLUSH, dest, &region, request->error);
	}
}

void chunk_write_done(struct chunk *chunk, struct chunk_request *request)
{
	struct job *job = chunk->job;
	unsigned int dest = request->operand;

	if (job->kind == JOB_FLUSH) {
		flush_done(chunk, request);
		settle(chunk, dest);
		return;
	}
	chunk_piece_done(chunk, request);
	if (request->error) {
		chunk_failed(chunk, dest);
		return;
	}
	narrow_alive(&job->narrowings[dest].narrow);
	/* A destination that was dropped meanwhile gets no further piece. */
	if (!(job->dead >> dest & 1) && chunk_write_next(chunk, dest))
		return;
	if (request->reached < chunk_bytes(chunk))
		limit_to(chunk, dest, request->reached);
	chunk_write_good(chunk, dest, 0, request->reached);
	settle(chunk, dest);
}
