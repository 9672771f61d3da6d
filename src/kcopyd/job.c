/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "job.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "job_chunk.h"
#include "pages.h"
#include "throttle.h"
#include "tune.h"

#define PAGE_SECTORS (KCOPYD_PAGE_BYTES / KCOPYD_SECTOR_BYTES)
/* Zeroing moves no data: larger pieces, fewer calls, and still short enough to be cancelled between two. */
#define ZERO_CHUNK_SECTORS ((sector_t)16 << 11)
#define ZERO_CHUNKS 2u
/* The same, where zeros have to be written. */
#define WRITE_CHUNKS 8u
/* Two that are read, two that are written. */
#define FEWEST_CHUNKS 4u

/* Zeros are sent, from memory that is not the reserve's. */
static bool sends_zeros(const struct job *job)
{
	return job->kind == JOB_ZERO && !(job->flags & KCOPYD_SPARSE);
}

static sector_t chunk_sectors(const struct job *job)
{
	if (sends_zeros(job))
		return ZEROS_BYTES / KCOPYD_SECTOR_BYTES;
	if (job->kind != JOB_COPY) /* no pages, so no relation to the reserve either */
		return ZERO_CHUNK_SECTORS;
	return (sector_t)(job->chunk_pages - job->chunk_pages % job->align_pages) * PAGE_SECTORS;
}

/* How many chunks of this job can be in flight at once: as many as the reserve holds, no more than there are. */
static unsigned int count_chunks(const struct job *job)
{
	sector_t sectors = chunk_sectors(job);
	sector_t needed = job->count / sectors + (job->count % sectors != 0) + (job->first < sectors);
	unsigned int most = job->env->num_pages / job->chunk_pages;

	if (job->kind == JOB_ZERO)
		most = sends_zeros(job) ? WRITE_CHUNKS : ZERO_CHUNKS;
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
		requests[i].operand = i;
		requests[i].lane.complete = job->env->complete;
		list_init(&requests[i].lane.node);
	}
	list_init(&chunk->node);
	list_add_tail(&chunk->node, &job->free);
}

static void set_zero_pages(struct job *job, uint64_t *maps, size_t map_words)
{
	for (unsigned int i = 0; i < job->num_chunks && map_words > 0; i++)
		job->chunks[i].zero_pages = maps + i * map_words;
}

int job_create(const struct job_env *env, const struct job_args *args, struct job **result)
{
	struct job head = { .env = env, .kind = args->kind, .flags = args->flags, .num_dests = args->num_dests };
	struct chunk_request *requests;
	struct stream *streams;
	struct job *job;
	size_t per_chunk = sizeof(struct chunk) + (args->num_dests + 1) * sizeof(struct chunk_request);
	size_t per_job = sizeof(*job) + (args->num_dests + 1) * sizeof(struct narrowing) +
			 args->num_dests * sizeof(struct stream) + (args->num_dests + 1) * sizeof(struct idle);
	size_t map_words = 0;

	head.block = find_block(args);
	head.align_pages = (head.block + KCOPYD_PAGE_BYTES - 1) / KCOPYD_PAGE_BYTES;
	head.chunk_pages = args->chunk_pages ? args->chunk_pages : env->chunk_pages;
	head.first = args->first_sectors ? args->first_sectors : chunk_sectors(&head);
	head.shares_spindle = args->shares_spindle;
	head.takes_at_once = args->takes_at_once;
	head.count = args->kind == JOB_FLUSH ? 1 : args->dests[0].count;
	head.num_chunks = count_chunks(&head);
	if (args->kind == JOB_COPY && args->flags & KCOPYD_SPARSE)
		map_words = zeros_map_words(head.chunk_pages);
	per_chunk += map_words * sizeof(uint64_t);
	job = calloc(1, per_job + head.num_chunks * per_chunk);
	if (!job)
		return -ENOMEM;
	*job = head;
	job->fn = args->fn;
	job->context = args->context;
	if (args->from)
		job->from = *args->from;
	for (unsigned int i = 0; i < job->num_dests; i++) {
		job->dests[i] = args->dests[i];
		job->limit[i] = job->count;
	}
	list_init(&job->node);
	list_init(&job->free);
	list_init(&job->in_flight);
	requests = (struct chunk_request *)(void *)&job->chunks[job->num_chunks];
	for (unsigned int i = 0; i < job->num_chunks; i++)
		init_chunk(job, &job->chunks[i], requests + (size_t)i * (job->num_dests + 1));
	job->narrowings = (struct narrowing *)(void *)(requests + (size_t)job->num_chunks * (job->num_dests + 1));
	for (unsigned int i = 0; i <= job->num_dests; i++)
		narrowing_init(&job->narrowings[i], job, i);
	streams = (struct stream *)(void *)(job->narrowings + job->num_dests + 1);
	job->idles = (struct idle *)(void *)(streams + job->num_dests);
	job_init_streams(job, streams);
	set_zero_pages(job, (uint64_t *)(void *)(job->idles + job->num_dests + 1), map_words);
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

struct job *job_of_timer(struct job_timer *timer)
{
	return timer->job;
}

const struct job_env *job_env_of_request(const struct lane_request *request)
{
	return container_of(request, const struct chunk_request, lane)->chunk->job->env;
}

struct lane *job_lane_of_request(const struct lane_request *request)
{
	const struct chunk_request *of = container_of(request, const struct chunk_request, lane);

	return job_region(of->chunk->job, of->operand)->bdev->lane;
}

/* That somebody was to have who was not left behind; if all were, that anybody was. */
static bool has_unread(const struct job *job)
{
	for (unsigned int i = 0; i < job->num_streams; i++)
		if (stream_has_more(job, &job->streams[i]) ||
		    (job->is_ended && job->streams[i].next < job->streams[i].end))
			return true;
	return false;
}

static bool has_more(const struct job *job)
{
	return !job->is_ended && !job->is_cancelled && has_unread(job);
}

/* Then all that is read behind it could be of no use, and would only hold pages that others may need. */
static bool has_read_error_waiting(const struct job *job)
{
	return job->narrowings[job->num_dests].num_failed > 0 && !(job->flags & KCOPYD_IGNORE_ERROR);
}

bool job_shares_spindle(const struct job *job)
{
	return job->shares_spindle;
}

bool job_takes_at_once(const struct job *job)
{
	return job->takes_at_once;
}

unsigned int job_fewest_pages(const struct job *job)
{
	uint64_t pages = (uint64_t)FEWEST_CHUNKS * job->chunk_pages;

	if (job->kind != JOB_COPY)
		return 0;
	return pages < job->env->num_pages ? (unsigned int)pages : job->env->num_pages;
}

bool job_alternates(const struct job *job)
{
	return job->shares_spindle && job->num_streams == 1 && job->env->tune->shape.alternates;
}

/* Not while anything is to be written, if it reads and writes in turns. */
static bool has_phase_to_read(const struct job *job)
{
	return !job_alternates(job) || list_is_empty(&job->in_flight) || job->num_reading > 0;
}

bool job_can_start(const struct job *job)
{
	return has_more(job) && !list_is_empty(&job->free) && !has_read_error_waiting(job) && has_phase_to_read(job) &&
	       job_next_stream(job);
}

/* Is its next chunk a part of a hole? */
static bool is_in_hole(const struct stream *stream)
{
	return stream->next < stream->hole_end;
}

static bool must_ask(const struct stream *stream)
{
	return stream->next >= stream->data_end;
}

bool job_needs_pages(const struct job *job)
{
	const struct stream *stream = job_next_stream(job);

	return job->kind == JOB_COPY && (!stream || (!is_in_hole(stream) && !must_ask(stream)));
}

bool job_is_throttled(const struct job *job)
{
	return job->kind != JOB_FLUSH;
}

bool job_is_finished(const struct job *job)
{
	return !has_more(job) && list_is_empty(&job->in_flight);
}

/* For a job that the client's thread has not seen there is nothing to end. */
void job_cancel(struct job *job)
{
	job->is_cancelled = true;
	for (unsigned int i = 0; i <= job->num_dests && job->num_failed > 0; i++) {
		struct job_timer *timer = &job->narrowings[i].timer;

		if (list_is_empty(&timer->node))
			continue;
		list_del(&timer->node);
		narrowing_end_wait(&job->narrowings[i]);
	}
	job_go_on(job);
}

void job_timer_due(struct job *job, struct job_timer *timer)
{
	if (timer == &job->watch) {
		job_split_streams(job);
		return;
	}
	narrowing_end_wait(container_of(timer, struct narrowing, timer));
	job_go_on(job);
}

void job_call_back(struct job *job)
{
	kcopyd_notify_fn fn = job->fn;
	void *context = job->context;
	int read_err = job->read_err;
	uint32_t write_err = job->write_err;

	if (read_err == 0 && job->is_cancelled && (has_unread(job) || job->is_short))
		read_err = -ECANCELED;
	list_del(&job->watch.node);
	job->is_called_back = true;
	if (job->num_orphans == 0)
		free(job);
	fn(read_err, write_err, context);
}

struct chunk *job_first_unsettled(const struct job *job, unsigned int dest)
{
	struct list_head *pos;

	list_for_each (pos, &job->in_flight) {
		struct chunk *chunk = container_of(pos, struct chunk, node);

		if ((chunk->unwritten | chunk->writing) >> dest & 1)
			return chunk;
	}
	return NULL;
}

struct chunk *job_first_unreadable(const struct job *job)
{
	uint32_t unread = 0; /* destinations with a chunk that is not read yet */
	struct list_head *pos;

	list_for_each (pos, &job->in_flight) {
		struct chunk *chunk = container_of(pos, struct chunk, node);

		if (chunk->state == CHUNK_WRITING)
			continue;
		if (chunk->failed >> job->num_dests & 1 && !(chunk->dests & unread))
			return chunk;
		unread |= chunk->dests;
	}
	return NULL;
}

void job_go_on(struct job *job)
{
	bool has_settled;

	do {
		has_settled = false;
		job_hand_out_waiting(job);
		for (unsigned int i = 0; i <= job->num_dests && job->num_failed > 0; i++)
			has_settled |= narrowing_start_next(&job->narrowings[i]);
	} while (has_settled);
}

static void attempt_done(struct job *job, struct chunk_request *done)
{
	struct chunk *chunk = done->chunk;
	bool may_wait = (job->flags & KCOPYD_WRITE_SEQ) || job->num_failed > 0 || job->lag > 0 || job->shares_spindle;

	if (done->operand == job->num_dests)
		idle_end(&job->idles[job->num_dests]);
	switch (chunk->state) {
	case CHUNK_ASKING:
		chunk_extent_told(chunk, done);
		break;
	case CHUNK_READING:
		*job->env->reading -= chunk->num_pages;
		job->num_reading--;
		chunk_read_done(chunk, done);
		break;
	case CHUNK_NARROWING:
		chunk_narrow_done(chunk, done);
		break;
	case CHUNK_WRITING:
		if (chunk_is_narrowed(chunk, done->operand))
			chunk_narrow_done(chunk, done);
		else
			chunk_write_done(chunk, done);
		break;
	case CHUNK_FREE:
		assert(!"a free chunk has no requests");
		break;
	}
	if (may_wait || job->num_failed > 0)
		job_go_on(job);
	if (job->lag > 0)
		job_split_streams(job);
}

void job_request_done(struct job *job, struct lane_request *request)
{
	struct chunk_request *done = container_of(request, struct chunk_request, lane);

	throttle_io_end(job->env->throttle);
	done->is_outstanding = false;
	done->error = request->error;
	done->done = request->done;
	attempt_done(job, done);
}

/* -- abandoned devices --------------------------------------------------------------------------- */

static void make_orphan(struct job *job, struct chunk_request *request)
{
	const struct chunk *chunk = request->chunk;

	throttle_io_end(job->env->throttle);
	request->is_outstanding = false;
	request->is_orphan = true;
	request->first_page = chunk->first_page;
	/* The device cannot touch what it was not given. */
	request->num_pages = request->lane.buffer ? chunk->num_pages : 0;
	if (request->num_pages)
		pages_hold(job->env->pages, request->first_page, request->num_pages);
	job->num_orphans++;
	request->error = -ETIMEDOUT;
	request->done = 0;
	attempt_done(job, request);
}

/* What waits for a retry would only wait to fail. */
static void end_waits_for_abandoned(struct job *job)
{
	for (unsigned int i = 0; i <= job->num_dests && job->num_failed > 0; i++) {
		struct job_timer *timer = &job->narrowings[i].timer;

		if (list_is_empty(&timer->node) || !job_has_abandoned(job, i))
			continue;
		list_del(&timer->node);
		narrowing_end_wait(&job->narrowings[i]);
	}
}

unsigned int job_abandon(struct job *job)
{
	unsigned int before = job->num_orphans;

	for (unsigned int operand = 0; operand <= job->num_dests; operand++) {
		if (!job_region(job, operand)->bdev || !job_has_abandoned(job, operand))
			continue;
		for (unsigned int i = 0; i < job->num_chunks; i++) {
			struct chunk_request *request = &job->chunks[i].requests[operand];

			if (request->is_outstanding)
				make_orphan(job, request);
		}
	}
	end_waits_for_abandoned(job);
	return job->num_orphans - before;
}

void job_drop_failed(struct job *job)
{
	for (unsigned int dest = 0; job->kind != JOB_FLUSH && dest < job->num_dests; dest++) {
		struct job_timer *timer = &job->narrowings[dest].timer;

		if ((job->dead >> dest & 1) || !atomic_load(&job->dests[dest].bdev->is_failed))
			continue;
		job_drop_dest(job, dest);
		if (list_is_empty(&timer->node))
			continue;
		list_del(&timer->node);
		narrowing_end_wait(&job->narrowings[dest]);
	}
	job_go_on(job);
}

void job_shape_changed(struct job *job)
{
	if (job->shares_spindle)
		job_go_on(job);
}

bool job_take_orphan(struct lane_request *request)
{
	struct chunk_request *orphan = container_of(request, struct chunk_request, lane);
	struct job *job = orphan->chunk->job;

	if (!orphan->is_orphan)
		return false;
	orphan->is_orphan = false;
	if (orphan->num_pages)
		pages_release(job->env->pages, orphan->first_page, orphan->num_pages);
	if (--job->num_orphans == 0 && job->is_called_back)
		free(job);
	return true;
}

/* -- starting ------------------------------------------------------------------------------------ */

/*
 * Not all of the reserve is read into at once: devices complete what they have got in batches, so that chunks which were read
 * together are then written together, and each side waits for the other. A read that failed is not counted any more: it
 * may wait for its retries.
 */
static bool has_turn_to_read(const struct job *job, unsigned int pages)
{
	unsigned int most = job->env->tune->shape.pages;

	/* Of few chunks, none is kept from being read. */
	if (most / job->chunk_pages >= 4 && !job_alternates(job))
		most -= most / 4;
	return *job->env->reading == 0 || *job->env->reading + pages <= most;
}

/* Pages for the next chunk, in sectors; 0: not now. */
static sector_t take_pages(struct job *job, struct chunk *chunk, sector_t most)
{
	unsigned int want, min;

	want = (unsigned int)((most + PAGE_SECTORS - 1) / PAGE_SECTORS);
	if (!has_turn_to_read(job, want))
		return 0;
	if (pages_taken(job->env->pages) > 0 && pages_taken(job->env->pages) + want > job->env->tune->shape.pages)
		return 0;
	/*
	 * A job that has chunks in flight waits for a whole run: it will come. One that has none takes what there is, so that
	 * those who hold the rest cannot keep it from going on.
	 */
	min = list_is_empty(&job->in_flight) ? job->align_pages : want;
	chunk->num_pages = pages_get(job->env->pages, want, min, want == job->chunk_pages, &chunk->first_page);
	if (!chunk->num_pages)
		return 0;
	chunk->buffer = pages_address(job->env->pages, chunk->first_page);
	*job->env->reading += chunk->num_pages;
	job->num_reading++;
	return (sector_t)chunk->num_pages * PAGE_SECTORS;
}

void job_put_in_flight(struct job *job, struct chunk *chunk)
{
	struct list_head *pos = job->in_flight.prev;

	while (pos != &job->in_flight && container_of(pos, struct chunk, node)->offset > chunk->offset)
		pos = pos->prev;
	list_del(&chunk->node);
	list_add_tail(&chunk->node, pos->next);
}

/* As much of @sectors as are whole pages and logical blocks, but one of them at least. */
static sector_t fit(const struct job *job, sector_t sectors)
{
	sector_t align = (sector_t)job->align_pages * PAGE_SECTORS;

	return sectors > align ? sectors - sectors % align : align;
}

/* Where the next chunk is to begin, wherever this one does; see queue_first_sectors(). In sectors from here. */
static sector_t to_boundary(const struct job *job, sector_t offset)
{
	sector_t chunk = chunk_sectors(job);

	if (job->kind != JOB_COPY)
		return chunk;
	return offset < job->first ? job->first - offset : chunk - (offset - job->first) % chunk;
}

/* How long the stream's next chunk may be, in sectors; of @most_bytes, if they are a page or logical block. */
static sector_t most_sectors(const struct job *job, const struct stream *stream, uint64_t most_bytes)
{
	sector_t most = is_in_hole(stream) ? ZERO_CHUNK_SECTORS : to_boundary(job, stream->next);
	sector_t end = is_in_hole(stream) ? stream->hole_end : stream->data_end;

	if (most_bytes / KCOPYD_SECTOR_BYTES < most)
		most = fit(job, most_bytes / KCOPYD_SECTOR_BYTES);
	if (end > stream->end)
		end = stream->end;
	return end - stream->next < most ? end - stream->next : most;
}

bool job_start_chunk(struct job *job, uint64_t most_bytes)
{
	struct chunk *chunk = list_first(&job->free, struct chunk, node);
	struct stream *stream = job_next_stream(job);
	bool needs_pages = job_needs_pages(job);
	sector_t most, room;

	assert(job_can_start(job) && stream);
	chunk->stream = stream;
	chunk->buffer = sends_zeros(job) ? zeros_memory : NULL;
	chunk->num_pages = 0;
	chunk->pending = 0;
	chunk->writing = 0;
	chunk->written = 0;
	chunk->failed = 0;
	if (must_ask(stream)) {
		job_ask_extent(job, stream, chunk);
		return true;
	}
	most = most_sectors(job, stream, most_bytes);
	if (needs_pages) {
		room = take_pages(job, chunk, most);
		if (room == 0)
			return false;
		if (room < most)
			most = room;
	}
	chunk->dests = stream->dests;
	chunk->offset = stream->next;
	chunk->count = most;
	chunk->unwritten = chunk->dests; /* to come: nothing may free it before */
	stream->next += most;
	if (job_is_throttled(job))
		throttle_start(job->env->throttle, most * KCOPYD_SECTOR_BYTES);
	job_put_in_flight(job, chunk);
	if (needs_pages) {
		chunk->state = CHUNK_READING;
		chunk->pending++;
		chunk_read_range(chunk, 0, (uint32_t)(most * KCOPYD_SECTOR_BYTES));
	} else {
		chunk_start_writing(chunk);
	}
	return true;
}
