/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "job.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "device.h"
#include "lane.h"
#include "narrow.h"
#include "pages.h"

#define PAGE_SECTORS (KCOPYD_PAGE_BYTES / KCOPYD_SECTOR_BYTES)
/* Zeroing moves no data: larger pieces, fewer calls, and still short enough to be cancelled between two. */
#define ZERO_CHUNK_SECTORS ((sector_t)16 << 11)
#define ZERO_CHUNKS 2u

struct chunk_request {
	struct lane_request lane;
	struct chunk *chunk;
	unsigned int dest; /* meaningless for the read */
};

enum chunk_state { CHUNK_FREE, CHUNK_READING, CHUNK_NARROWING, CHUNK_WRITING };

struct chunk {
	struct list_head node; /* its job's free list, or in_flight in ascending order */
	struct job *job;
	enum chunk_state state;
	sector_t offset; /* from the regions' starts */
	sector_t count;
	unsigned int first_page, num_pages;
	char *buffer;		  /* of those pages */
	unsigned int outstanding; /* requests on lanes, and one for whoever hands them out */
	uint32_t unwritten;	  /* destinations that its write was not handed out to yet */
	uint32_t written;	  /* destinations that hold it */
	struct narrow narrow;
	uint32_t bad_start, bad_bytes; /* the bad area that narrowing is in, not told yet; bytes 0: none */
	int bad_error;
	bool has_bad;			/* something of it could not be read */
	int last_error;			/* of a read */
	struct chunk_request *requests; /* num_dests writes, then the read */
};

struct job {
	struct list_head node; /* one of the client's lists */
	const struct job_env *env;
	enum job_kind kind;
	unsigned int flags;
	unsigned int num_dests;
	kcopyd_notify_fn fn;
	void *context;
	struct io_region from;
	struct io_region dests[KCOPYD_MAX_DESTS];
	unsigned int block;	  /* bytes: the largest logical block of all */
	unsigned int align_pages; /* the same: a chunk is a multiple of it */

	sector_t next; /* chunks were started up to here */
	sector_t end;  /* what begins behind it is not written: the count, or the first unreadable sector */
	bool is_ended; /* by an error: nothing new is started, read or written */
	bool is_cancelled;
	bool is_short; /* because it was cancelled, a chunk was given up */
	int read_err;
	uint32_t write_err;
	uint32_t dead;			  /* destinations left behind */
	sector_t limit[KCOPYD_MAX_DESTS]; /* the first sector of each that failed or was left out */

	struct list_head free;	    /* chunks */
	struct list_head in_flight; /* chunks, ascending */
	unsigned int num_chunks;
	struct chunk chunks[]; /* followed by their requests */
};

static uint32_t all_dests(const struct job *job)
{
	return (uint32_t)(((uint64_t)1 << job->num_dests) - 1);
}

static sector_t chunk_sectors(const struct job *job)
{
	if (job->kind != JOB_COPY) /* no pages, so no relation to the reserve either */
		return ZERO_CHUNK_SECTORS;
	return (sector_t)(job->env->chunk_pages - job->env->chunk_pages % job->align_pages) * PAGE_SECTORS;
}

/* How many chunks of this job can be in flight at once: as many as the reserve holds, no more than there are. */
static unsigned int count_chunks(const struct job *job)
{
	sector_t sectors = chunk_sectors(job);
	sector_t needed = job->end / sectors + (job->end % sectors != 0);
	unsigned int most = job->kind == JOB_ZERO ? ZERO_CHUNKS : job->env->num_pages / job->env->chunk_pages;

	return needed < most ? (unsigned int)needed : most;
}

/* The largest logical block, in bytes: what every transfer of the job must begin and end at. */
static unsigned int find_block(const struct job_args *args)
{
	unsigned int bytes = KCOPYD_SECTOR_BYTES;

	for (unsigned int i = 0; i < args->num_dests; i++)
		if (args->dests[i].bdev->logical_block > bytes)
			bytes = args->dests[i].bdev->logical_block;
	if (args->from && args->from->bdev->logical_block > bytes)
		bytes = args->from->bdev->logical_block;
	return bytes;
}

static void init_chunk(struct job *job, struct chunk *chunk, struct chunk_request *requests)
{
	chunk->job = job;
	chunk->requests = requests;
	for (unsigned int i = 0; i <= job->num_dests; i++) {
		requests[i].chunk = chunk;
		requests[i].dest = i;
		requests[i].lane.complete = job->env->complete;
		list_init(&requests[i].lane.node);
	}
	list_init(&chunk->node);
	list_add_tail(&chunk->node, &job->free);
}

int job_create(const struct job_env *env, const struct job_args *args, struct job **result)
{
	struct job head = { .env = env, .kind = args->kind, .num_dests = args->num_dests };
	struct chunk_request *requests;
	struct job *job;
	size_t per_chunk = sizeof(struct chunk) + (args->num_dests + 1) * sizeof(struct chunk_request);

	head.block = find_block(args);
	head.align_pages = (head.block + KCOPYD_PAGE_BYTES - 1) / KCOPYD_PAGE_BYTES;
	head.end = args->kind == JOB_FLUSH ? 1 : args->dests[0].count;
	head.num_chunks = count_chunks(&head);
	job = calloc(1, sizeof(*job) + head.num_chunks * per_chunk);
	if (!job)
		return -ENOMEM;
	*job = head;
	job->flags = args->flags;
	job->fn = args->fn;
	job->context = args->context;
	if (args->from)
		job->from = *args->from;
	for (unsigned int i = 0; i < job->num_dests; i++) {
		job->dests[i] = args->dests[i];
		job->limit[i] = job->end;
	}
	list_init(&job->node);
	list_init(&job->free);
	list_init(&job->in_flight);
	requests = (struct chunk_request *)(void *)&job->chunks[job->num_chunks];
	for (unsigned int i = 0; i < job->num_chunks; i++)
		init_chunk(job, &job->chunks[i], requests + (size_t)i * (job->num_dests + 1));
	*result = job;
	return 0;
}

struct list_head *job_node(struct job *job)
{
	return &job->node;
}

struct job *job_of_node(struct list_head *node)
{
	return container_of(node, struct job, node);
}

struct job *job_of_request(struct lane_request *request)
{
	return container_of(request, struct chunk_request, lane)->chunk->job;
}

const struct job_env *job_env_of_request(const struct lane_request *request)
{
	return container_of(request, const struct chunk_request, lane)->chunk->job->env;
}

static bool has_more(const struct job *job)
{
	return !job->is_ended && !job->is_cancelled && job->next < job->end;
}

bool job_can_start(const struct job *job)
{
	return has_more(job) && !list_is_empty(&job->free);
}

bool job_needs_pages(const struct job *job)
{
	return job->kind == JOB_COPY;
}

bool job_is_finished(const struct job *job)
{
	return !has_more(job) && list_is_empty(&job->in_flight);
}

void job_cancel(struct job *job)
{
	job->is_cancelled = true;
}

void job_call_back(struct job *job)
{
	kcopyd_notify_fn fn = job->fn;
	void *context = job->context;
	int read_err = job->read_err;
	uint32_t write_err = job->write_err;

	if (read_err == 0 && job->is_cancelled && (job->next < job->end || job->is_short))
		read_err = -ECANCELED;
	free(job);
	fn(read_err, write_err, context);
}

/* -- errors and what holds what ------------------------------------------------------------------ */

/* Sectors that destination @dest holds without a gap, from its start. */
static sector_t contiguous(const struct job *job, unsigned int dest)
{
	sector_t upto = job->next < job->end ? job->next : job->end;
	struct list_head *pos;

	list_for_each (pos, &job->in_flight) {
		const struct chunk *chunk = container_of(pos, struct chunk, node);

		if (!(chunk->written & (uint32_t)1 << dest)) {
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

static void tell_error(const struct job *job, enum kcopyd_op op, unsigned int dest, const struct io_region *region,
		       int error)
{
	struct kcopyd_error told = { .op = op, .dest = dest, .region = *region, .error = -error };

	if (op != KCOPYD_OP_READ)
		told.contiguous = contiguous(job, dest);

	if (job->env->observer && job->env->observer->error)
		job->env->observer->error(job->env->observer_context, job->context, &told);
}

static void tell_written(const struct job *job, const struct chunk *chunk, unsigned int dest)
{
	struct io_region to = { .bdev = job->dests[dest].bdev,
				.sector = job->dests[dest].sector + chunk->offset,
				.count = chunk->count };

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

static void write_failed(struct job *job, const struct chunk *chunk, const struct chunk_request *request)
{
	static const enum kcopyd_op ops[] = {
		[JOB_COPY] = KCOPYD_OP_WRITE, [JOB_ZERO] = KCOPYD_OP_ZERO, [JOB_FLUSH] = KCOPYD_OP_FLUSH
	};
	unsigned int dest = request->dest;
	sector_t done = request->lane.done / KCOPYD_SECTOR_BYTES;
	struct io_region region = { .bdev = job->dests[dest].bdev };

	if (job->kind != JOB_FLUSH) {
		region.sector = job->dests[dest].sector + chunk->offset + done;
		region.count = chunk->count - done;
	}
	if (chunk->offset + done < job->limit[dest])
		job->limit[dest] = chunk->offset + done;
	job->write_err |= (uint32_t)1 << dest;
	if (!(job->flags & KCOPYD_IGNORE_ERROR)) {
		job->dead |= (uint32_t)1 << dest;
		if (!(job->flags & KCOPYD_DROP_FAILED) || job->dead == all_dests(job))
			job->is_ended = true;
	}
	tell_error(job, ops[job->kind], dest, &region, request->lane.error);
}

/* -- writing ------------------------------------------------------------------------------------- */

static void submit(struct chunk *chunk, struct chunk_request *request, struct block_device *bdev)
{
	struct list_head one;

	chunk->outstanding++;
	request->lane.done = 0;
	request->lane.error = 0;
	request->lane.stalls = 0;
	list_init(&one);
	list_add_tail(&request->lane.node, &one);
	lane_submit(bdev->lane, &one);
}

static void write_to(struct chunk *chunk, unsigned int dest)
{
	static const enum lane_op ops[] = { [JOB_COPY] = LANE_WRITE, [JOB_ZERO] = LANE_ZERO, [JOB_FLUSH] = LANE_FLUSH };
	struct job *job = chunk->job;
	struct chunk_request *request = &chunk->requests[dest];

	request->lane.op = ops[job->kind];
	request->lane.buffer = chunk->buffer;
	request->lane.offset = (job->dests[dest].sector + chunk->offset) * KCOPYD_SECTOR_BYTES;
	request->lane.bytes = job->kind == JOB_FLUSH ? 0 : chunk->count * KCOPYD_SECTOR_BYTES;
	submit(chunk, request, job->dests[dest].bdev);
}

/* With WRITE_SEQ a write waits until everything before it is on its destination, or never will be. */
static bool is_first_for(const struct chunk *chunk, unsigned int dest)
{
	struct list_head *pos;

	list_for_each (pos, &chunk->job->in_flight) {
		const struct chunk *other = container_of(pos, struct chunk, node);
		bool is_settled = other->state == CHUNK_WRITING && !(other->unwritten & (uint32_t)1 << dest) &&
				  !other->requests[dest].lane.bytes;

		if (other == chunk)
			return true;
		if (!is_settled)
			return false;
	}
	assert(!"a chunk that is written is in flight");
	return false;
}

/* Drops a reference; the last one gives the pages back and frees the chunk, once no destination waits for it any more. */
static void chunk_put(struct chunk *chunk)
{
	struct job *job = chunk->job;

	if (--chunk->outstanding > 0 || chunk->unwritten)
		return;
	if (chunk->num_pages)
		pages_put(job->env->pages, chunk->first_page, chunk->num_pages);
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

/* Hands a chunk's write to every destination that can have it now. */
static void hand_out(struct chunk *chunk)
{
	struct job *job = chunk->job;
	bool is_dropped = job->is_ended || chunk->offset >= job->end || chunk->count == 0;

	chunk->outstanding++; /* ours, so that no write can finish the chunk meanwhile */
	for (unsigned int dest = 0; dest < job->num_dests; dest++) {
		uint32_t bit = (uint32_t)1 << dest;

		if (!(chunk->unwritten & bit))
			continue;
		if (is_flushed_already(job, dest)) {
			chunk->unwritten &= ~bit; /* see flush_done() */
		} else if (is_dropped || (job->dead & bit)) {
			chunk->unwritten &= ~bit;
			if (chunk->offset < job->limit[dest])
				job->limit[dest] = chunk->offset;
		} else if (!(job->flags & KCOPYD_WRITE_SEQ) || is_first_for(chunk, dest)) {
			chunk->unwritten &= ~bit;
			write_to(chunk, dest);
		}
	}
	chunk_put(chunk);
}

/* With WRITE_SEQ, something that others waited for has settled. */
static void hand_out_waiting(struct job *job)
{
	struct list_head *pos, *next;

	for (pos = job->in_flight.next; pos != &job->in_flight; pos = next) {
		struct chunk *chunk = container_of(pos, struct chunk, node);

		next = pos->next;
		if (chunk->state == CHUNK_WRITING && chunk->unwritten)
			hand_out(chunk);
	}
}

static void start_writing(struct chunk *chunk)
{
	struct job *job = chunk->job;

	chunk->state = CHUNK_WRITING;
	chunk->unwritten = all_dests(job);
	chunk->written = 0;
	for (unsigned int dest = 0; dest < job->num_dests; dest++)
		chunk->requests[dest].lane.bytes = 0;
	if (job->kind == JOB_COPY && chunk->count > 0)
		tell_read(job, chunk);
	hand_out(chunk);
}

/* What holds for a device holds for every destination on it. */
static void flush_done(struct chunk *chunk, const struct chunk_request *request)
{
	struct job *job = chunk->job;

	for (unsigned int dest = 0; request->lane.error && dest < job->num_dests; dest++) {
		if (job->dests[dest].bdev != job->dests[request->dest].bdev)
			continue;
		chunk->requests[dest].lane.error = request->lane.error;
		write_failed(job, chunk, &chunk->requests[dest]);
	}
}

static void write_done(struct chunk *chunk, struct chunk_request *request)
{
	struct job *job = chunk->job;

	request->lane.bytes = 0; /* settled: see is_first_for() */
	if (job->kind == JOB_FLUSH) {
		flush_done(chunk, request);
	} else if (request->lane.error) {
		write_failed(job, chunk, request);
	} else {
		chunk->written |= (uint32_t)1 << request->dest;
		tell_written(job, chunk, request->dest);
	}
	chunk_put(chunk);
	if (job->flags & KCOPYD_WRITE_SEQ)
		hand_out_waiting(job);
}

/* -- reading ------------------------------------------------------------------------------------- */

static void read_range(struct chunk *chunk, uint32_t start, uint32_t bytes)
{
	struct job *job = chunk->job;
	struct chunk_request *request = &chunk->requests[job->num_dests];

	request->lane.op = LANE_READ;
	request->lane.offset = (job->from.sector + chunk->offset) * KCOPYD_SECTOR_BYTES + start;
	request->lane.bytes = bytes;
	request->lane.buffer = chunk->buffer + start;
	submit(chunk, request, job->from.bdev);
}

/*
 * Ends the job's data at @start of this chunk: what is before it is copied, and nothing behind it. Whole logical blocks only: a
 * destination whose blocks are larger than the source's could not write the rest, and is not to be blamed for it.
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
		tell_error(job, KCOPYD_OP_READ, 0, &region, chunk->bad_error);
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
			read_range(chunk, start, bytes);
			return;
		}
		/* Nobody wants the rest any more. If nothing bad was found in it yet, that it could not be read as a whole is true all the same. */
		job->is_short |= job->is_cancelled;
		if (chunk->offset < job->end && !chunk->has_bad)
			add_bad(chunk, start, (uint32_t)(chunk->count * KCOPYD_SECTOR_BYTES) - start,
				chunk->last_error);
		cut(chunk, start);
	}
	tell_bad_area(chunk);
	start_writing(chunk);
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

static void read_done(struct chunk *chunk, const struct lane_request *request)
{
	bool was_narrowing = chunk->state == CHUNK_NARROWING;

	if (request->error)
		read_failed(chunk, request);
	else if (was_narrowing)
		narrow_good(&chunk->narrow);
	if (chunk->state == CHUNK_NARROWING)
		narrow_on(chunk);
	else
		start_writing(chunk);
	chunk_put(chunk);
}

/* -- the client's calls -------------------------------------------------------------------------- */

void job_request_done(struct job *job, struct lane_request *request)
{
	struct chunk_request *done = container_of(request, struct chunk_request, lane);
	struct chunk *chunk = done->chunk;

	switch (chunk->state) {
	case CHUNK_READING:
	case CHUNK_NARROWING:
		read_done(chunk, request);
		/* With WRITE_SEQ, a chunk that ended empty or was dropped may have been waited for. */
		if (job->flags & KCOPYD_WRITE_SEQ)
			hand_out_waiting(job);
		break;
	case CHUNK_WRITING:
		write_done(chunk, done);
		break;
	case CHUNK_FREE:
		assert(!"a free chunk has no requests");
		break;
	}
}

/* Pages for the next chunk, in sectors; 0: not now. */
static sector_t take_pages(struct job *job, struct chunk *chunk, sector_t most)
{
	unsigned int want, min;

	want = (unsigned int)((most + PAGE_SECTORS - 1) / PAGE_SECTORS);
	/*
	 * A job that has chunks in flight waits for a whole run: it will come. One that has none takes what there is, so that
	 * those who hold the rest cannot keep it from going on.
	 */
	min = list_is_empty(&job->in_flight) ? job->align_pages : want;
	chunk->num_pages = pages_get(job->env->pages, want, min, want == job->env->chunk_pages, &chunk->first_page);
	if (!chunk->num_pages)
		return 0;
	chunk->buffer = pages_address(job->env->pages, chunk->first_page);
	return (sector_t)chunk->num_pages * PAGE_SECTORS;
}

bool job_start_chunk(struct job *job)
{
	struct chunk *chunk = list_first(&job->free, struct chunk, node);
	sector_t most = chunk_sectors(job), room;

	assert(job_can_start(job));
	if (job->end - job->next < most)
		most = job->end - job->next;
	if (job->kind == JOB_COPY) {
		room = take_pages(job, chunk, most);
		if (room == 0)
			return false;
		if (room < most)
			most = room;
	}
	chunk->offset = job->next;
	chunk->count = most;
	chunk->bad_bytes = 0;
	chunk->has_bad = false;
	chunk->outstanding = 0;
	chunk->unwritten = all_dests(job); /* to come: nothing may free it before */
	chunk->written = 0;
	job->next += most;
	list_move_tail(&chunk->node, &job->in_flight);
	if (job->kind == JOB_COPY) {
		chunk->state = CHUNK_READING;
		read_range(chunk, 0, (uint32_t)(most * KCOPYD_SECTOR_BYTES));
	} else {
		start_writing(chunk);
	}
	return true;
}
