/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The streams of a job: who reads next, where each of them ends, and who is too far behind the others and gets the
 * source at its own pace from there on. Nothing is taken from a stream but destinations: what was handed to them in it
 * they still write, and what was not is read again for them.
 */
#include "job_chunk.h"

#include <assert.h>
#include <limits.h>
#include <time.h>

#include "kcopyd.h"
#include "throttle.h"
#include "tune.h"

/* A stream that others run ahead of has so many chunks at the least: one is read while another is written. */
#define STREAM_CHUNKS 2u
/* With fewer in the reserve nobody is split off. */
#define FEWEST_CHUNKS 8u
/* Of the reserve: those that were split off get so much of it together, and each of them so much. */
#define SHARE_OF_ALL 2u
#define SHARE_OF_ONE 4u
/* For so long a device is watched before it is called idle or not. */
#define IDLE_WATCH_MS 100u

static uint32_t live_dests(const struct job *job, const struct stream *stream)
{
	return stream->dests & ~job->dead;
}

static bool has_several(uint32_t dests)
{
	return dests & (dests - 1);
}

/* Of what of the reserve is in use at a time; as if there were no other jobs. */
static unsigned int reserve_chunks(const struct job *job)
{
	return job->env->tune->shape.pages / job->chunk_pages;
}

/* Chunks: who is further behind is split off. */
static unsigned int most_behind(const struct job *job)
{
	unsigned int most = reserve_chunks(job) / 2;

	return job->lag < most ? job->lag : most;
}

/*
 * Chunks that a destination is given to write at a time. If nobody asked for it, that must cost nothing where nobody is
 * slow: only what the others need to go on is kept from one that hangs.
 */
static unsigned int most_writing(const struct job *job)
{
	return job->env->max_lag == KCOPYD_LAG_AUTO ? reserve_chunks(job) - STREAM_CHUNKS : most_behind(job);
}

static void init_stream(const struct job *job, struct stream *stream, uint32_t dests, sector_t next, sector_t end)
{
	*stream = (struct stream){
		.dests = dests,
		.next = next,
		.end = end,
		.data_end = job_has_extents(job) ? next : job->count,
	};
}

void job_init_streams(struct job *job, struct stream *streams)
{
	uint64_t lag = job->env->max_lag / KCOPYD_PAGE_BYTES / job->chunk_pages;

	init_stream(job, &streams[0], job_dest_mask(job), 0, job->count);
	job->streams = streams;
	job->num_streams = 1;
	list_init(&job->watch.node);
	job->watch.job = job;
	for (unsigned int i = 0; i < job->num_dests; i++)
		job->stream_of[i] = &streams[0];
	/* With IGNORE_ERROR a failing source is read to its end, which takes long enough once. */
	if (job->env->max_lag == 0 || !job_ends_at_read_errors(job) || job->num_dests == 1 ||
	    job->env->num_pages / job->chunk_pages < FEWEST_CHUNKS)
		return;
	job->lag = lag < UINT_MAX ? (unsigned int)lag : UINT_MAX;
	if (job->lag < STREAM_CHUNKS)
		job->lag = STREAM_CHUNKS;
	for (unsigned int i = 0; i <= job->num_dests && job->env->max_lag == KCOPYD_LAG_AUTO; i++)
		job->idles[i].is_wanted = true;
}

bool stream_has_more(const struct job *job, const struct stream *stream)
{
	return stream->next < stream->end && live_dests(job, stream);
}

static unsigned int count_with_more(const struct job *job)
{
	unsigned int count = 0;

	for (unsigned int i = 0; i < job->num_streams; i++)
		count += stream_has_more(job, &job->streams[i]);
	return count;
}

/* Chunks that only this one waits for: its own, and those that it has left to do of another's. */
static unsigned int count_held(const struct job *job, const struct stream *stream)
{
	unsigned int count = 0;
	struct list_head *pos;

	list_for_each (pos, &job->in_flight) {
		const struct chunk *chunk = container_of(pos, struct chunk, node);
		uint32_t unsettled = chunk->unwritten | chunk->writing;

		count += chunk->stream == stream || (unsettled && !(unsettled & ~stream->dests));
	}
	return count;
}

/* May its next chunk be started, if its share is large enough? */
static bool is_ready(const struct job *job, const struct stream *stream)
{
	return stream_has_more(job, stream) && !stream->is_asking;
}

/* How many chunks those may have at a time that were split off; the others of the job have the rest. */
static unsigned int find_share(const struct job *job, unsigned int with_more)
{
	unsigned int share;

	if (!stream_has_more(job, &job->streams[0])) /* there are no others any more */
		return reserve_chunks(job) / with_more;
	share = reserve_chunks(job) / SHARE_OF_ALL / (with_more - 1);
	return share < reserve_chunks(job) / SHARE_OF_ONE ? share : reserve_chunks(job) / SHARE_OF_ONE;
}

/*
 * Those that were split off come first, each with its share: a slow device needs no more to be kept busy. So neither
 * can they keep the others from going on, nor the others them.
 */
struct stream *job_next_stream(const struct job *job)
{
	unsigned int with_more = job->num_streams > 1 ? count_with_more(job) : 1, share;

	for (unsigned int i = job->num_streams - 1; i > 0 && with_more > 1; i--) {
		share = find_share(job, with_more);
		if (is_ready(job, &job->streams[i]) && count_held(job, &job->streams[i]) < share)
			return &job->streams[i];
	}
	if (with_more > 1)
		return is_ready(job, &job->streams[0]) ? &job->streams[0] : NULL;
	for (unsigned int i = 0; i < job->num_streams; i++)
		if (is_ready(job, &job->streams[i]))
			return &job->streams[i];
	return NULL;
}

void chunk_end_source(const struct chunk *chunk)
{
	struct job *job = chunk->job;
	sector_t end = chunk->offset + chunk->count;

	for (unsigned int i = 0; i < job->num_streams; i++) {
		struct stream *stream = &job->streams[i];

		if (stream != chunk->stream && stream->next > end)
			continue; /* it has read this already, or sees for itself */
		if (end < stream->end)
			stream->end = end;
	}
}

static bool is_full(const struct job *job, unsigned int dest)
{
	return job->num_writing[dest] >= most_writing(job) && has_several(live_dests(job, job->stream_of[dest]));
}

uint32_t job_full_dests(const struct job *job)
{
	uint32_t full = 0;

	for (unsigned int dest = 0; job->lag > 0 && dest < job->num_dests; dest++)
		full |= (uint32_t)is_full(job, dest) << dest;
	return full;
}

/* -- idle devices -------------------------------------------------------------------------------- */

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* The time up to now is over: was it idle for most of it? */
static void look(struct idle *idle, uint64_t now)
{
	if (now - idle->since < (uint64_t)IDLE_WATCH_MS * 1000000)
		return;
	if (idle->under_way > 0) {
		idle->busy += now - idle->busy_since;
		idle->busy_since = now;
	}
	idle->was_idle = idle->busy < (now - idle->since) / 2;
	idle->busy = 0;
	idle->since = now;
}

void idle_begin(struct idle *idle)
{
	uint64_t now;

	if (!idle->is_wanted || idle->under_way++ > 0)
		return;
	now = now_ns();
	if (idle->since == 0)
		idle->since = now;
	look(idle, now);
	idle->busy_since = now;
}

void idle_end(struct idle *idle)
{
	uint64_t now;

	if (!idle->is_wanted || --idle->under_way > 0)
		return;
	now = now_ns();
	idle->busy += now - idle->busy_since;
	look(idle, now);
}

static bool is_idle(struct idle *idle)
{
	look(idle, now_ns());
	return idle->was_idle;
}

/* -- splitting ----------------------------------------------------------------------------------- */

/* The first chunk of the first stream that @dest was not handed, from @pos on: where it begins. */
static sector_t find_not_handed(const struct job *job, unsigned int dest, const struct list_head *pos)
{
	for (; pos != &job->in_flight; pos = pos->next) {
		const struct chunk *chunk = container_of(pos, struct chunk, node);

		if (chunk->stream == &job->streams[0] && (chunk->unwritten >> dest & 1))
			return chunk->offset;
	}
	return job->streams[0].next;
}

/*
 * Who has not written a chunk of the first stream that another one has, and so many before it neither? The one that is
 * furthest behind; num_dests: nobody. @from: where what it was not handed begins, at that chunk or behind it.
 */
static unsigned int find_laggard(const struct job *job, sector_t *from)
{
	const struct stream *stream = &job->streams[0];
	uint32_t live = live_dests(job, stream);
	unsigned int behind[KCOPYD_MAX_DESTS] = { 0 }, most = most_behind(job);
	struct list_head *pos;

	list_for_each (pos, &job->in_flight) {
		const struct chunk *chunk = container_of(pos, struct chunk, node);
		uint32_t unsettled = (chunk->unwritten | chunk->writing) & live;
		bool is_written = chunk->stream == stream && (chunk->dests & live & ~unsettled);

		for (unsigned int dest = 0; dest < job->num_dests && unsettled; dest++) {
			if (!(unsettled >> dest & 1) || ++behind[dest] <= most)
				continue;
			if (is_written) {
				*from = find_not_handed(job, dest, pos);
				return dest;
			}
		}
	}
	return job->num_dests;
}

/* Cheaply: it takes one that has so much to write, and one that has not. */
static bool can_have_laggard(const struct job *job)
{
	uint32_t live = live_dests(job, &job->streams[0]), behind = 0;

	if (job->flags & KCOPYD_WRITE_SEQ)
		return has_several(live);
	for (unsigned int dest = 0; dest < job->num_dests; dest++)
		behind |= (uint32_t)(job->num_writing[dest] >= most_behind(job)) << dest;
	return (behind & live) != 0 && (behind & live) != live;
}

/* It is not to have what it was not handed yet of the first stream from @from on. */
static void take_back(struct job *job, unsigned int dest, sector_t from)
{
	struct list_head *pos, *next;
	uint32_t bit = (uint32_t)1 << dest;

	for (pos = job->in_flight.next; pos != &job->in_flight; pos = next) {
		struct chunk *chunk = container_of(pos, struct chunk, node);

		next = pos->next;
		if (chunk->stream != &job->streams[0] || chunk->offset < from || !(chunk->dests & bit))
			continue;
		assert(chunk->unwritten & bit);
		chunk->dests &= ~bit;
		chunk->unwritten &= ~bit;
		chunk->pending++;
		chunk_put(chunk);
	}
}

static void split_off(struct job *job, unsigned int dest, sector_t from)
{
	struct stream *stream = &job->streams[job->num_streams++];
	uint32_t bit = (uint32_t)1 << dest;

	init_stream(job, stream, bit, from, job->streams[0].end);
	job->streams[0].dests &= ~bit;
	job->stream_of[dest] = stream;
	take_back(job, dest, from);
	/* Each of them needs a share of its own from now on. */
	tune_off(job->env->tune);
	if (job->env->observer && job->env->observer->split_off)
		job->env->observer->split_off(job->env->observer_context, job->context, dest);
}

/* Not while the source has failed: that may be the end for all. */
static bool may_split(const struct job *job)
{
	if (job->is_ended || job->is_cancelled || job->narrowings[job->num_dests].num_failed > 0 ||
	    !stream_has_more(job, &job->streams[0]))
		return false;
	return reserve_chunks(job) / SHARE_OF_ALL >= STREAM_CHUNKS * count_with_more(job);
}

/*
 * Whatever it costs, or only if that is little, and if another one would gain by it? Where reads are limited they are
 * dear, however idle the source is.
 */
static bool is_worth_it(struct job *job, unsigned int laggard)
{
	const struct throttle *throttle = job->env->throttle;
	uint32_t others = live_dests(job, &job->streams[0]) & ~((uint32_t)1 << laggard);

	if (job->env->max_lag != KCOPYD_LAG_AUTO)
		return true;
	if (throttle->limit > 0 || throttle->percent != THROTTLE_NONE || !is_idle(&job->idles[job->num_dests]))
		return false;
	for (unsigned int dest = 0; dest < job->num_dests; dest++)
		if ((others >> dest & 1) && is_idle(&job->idles[dest]))
			return true;
	return false;
}

void job_split_streams(struct job *job)
{
	while (may_split(job) && can_have_laggard(job)) {
		sector_t from = 0;
		unsigned int dest = find_laggard(job, &from);

		if (dest == job->num_dests)
			return;
		if (!is_worth_it(job, dest)) {
			/* Those who are far behind need not do anything any more that would bring us here. */
			if (list_is_empty(&job->watch.node))
				job->env->wait(job->env, &job->watch, IDLE_WATCH_MS);
			return;
		}
		split_off(job, dest, from);
	}
}
