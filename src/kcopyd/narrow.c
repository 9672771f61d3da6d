/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "narrow.h"

#include <assert.h>
#include <limits.h>

#define SAMPLES 3u

static struct narrow_span *top(struct narrow *narrow)
{
	assert(narrow->depth > 0);
	return &narrow->stack[narrow->depth - 1];
}

/* The end of a range may be part of a block; it is tried like one. */
static uint32_t count_blocks(const struct narrow *narrow, const struct narrow_span *span)
{
	return span->bytes / narrow->block + (span->bytes % narrow->block != 0);
}

static void push(struct narrow *narrow, uint32_t start, uint32_t bytes, bool has_sibling)
{
	assert(narrow->depth < NARROW_DEPTH);
	narrow->stack[narrow->depth++] = (struct narrow_span){
		.start = start,
		.bytes = bytes,
		.has_sibling = has_sibling,
	};
}

/* What is known of a single block is known of it among others; alone it gets a try of its own. */
static void set_bad(struct narrow *narrow, struct narrow_span *span)
{
	span->is_bad = count_blocks(narrow, span) > 1;
}

void narrow_init(struct narrow *narrow, uint32_t block, unsigned int retries, bool is_ordered)
{
	narrow->block = block;
	narrow->retries = retries;
	narrow->is_ordered = is_ordered;
	narrow->run = 0;
	narrow->tries = 0;
	narrow->sample = 0;
	narrow->depth = 0;
}

void narrow_start(struct narrow *narrow, uint32_t start, uint32_t bytes)
{
	assert(narrow->depth == 0);
	push(narrow, start, bytes, false);
}

void narrow_alive(struct narrow *narrow)
{
	narrow->run = 0;
}

void narrow_stop(struct narrow *narrow)
{
	narrow->tries = 0;
	narrow->sample = 0;
	narrow->depth = 0;
}

uint32_t narrow_stop_at(struct narrow *narrow, uint64_t good)
{
	uint32_t start = top(narrow)->start;

	if (!narrow->sample)
		start += (uint32_t)(good - good % narrow->block);
	narrow_stop(narrow);
	return start;
}

static void split(struct narrow *narrow)
{
	struct narrow_span span = *top(narrow);
	uint32_t blocks = count_blocks(narrow, &span);
	uint32_t left = (blocks - blocks / 2) * narrow->block;

	narrow->depth--;
	push(narrow, span.start + left, span.bytes - left, false);
	push(narrow, span.start, left, true);
}

/* The last one comes first: where a bad area ends within the range, that shows it. */
static void find_sample(const struct narrow *narrow, const struct narrow_span *span, uint32_t *start, uint32_t *bytes)
{
	uint32_t last = (count_blocks(narrow, span) - 1) * narrow->block;

	*start = span->start;
	*bytes = narrow->block;
	if (narrow->sample == 1) {
		*start += last;
		*bytes = span->bytes - last;
	} else if (narrow->sample == 3) {
		*start += last / narrow->block / 2 * narrow->block;
	}
}

bool narrow_next(struct narrow *narrow, uint32_t *start, uint32_t *bytes)
{
	if (narrow->depth == 0)
		return false;
	while (top(narrow)->is_bad)
		split(narrow);
	*start = top(narrow)->start;
	*bytes = top(narrow)->bytes;
	if (narrow->sample)
		find_sample(narrow, top(narrow), start, bytes);
	return true;
}

void narrow_good(struct narrow *narrow)
{
	bool has_sibling = top(narrow)->has_sibling;

	narrow->tries = 0;
	if (narrow->sample) {
		/* The span is looked at closely, but most of it is bad: no retries yet. */
		narrow->run = NARROW_RUN_RETRIES;
		narrow->sample = 0;
		set_bad(narrow, top(narrow));
		return;
	}
	narrow->run = 0;
	narrow->depth--;
	/* The whole was bad and this half is not: no need to try the other as a whole. */
	if (has_sibling)
		set_bad(narrow, top(narrow));
}

/* The span on top is bad, all of it. */
static bool call_bad(struct narrow *narrow, uint32_t *start, uint32_t *bytes)
{
	const struct narrow_span *span = top(narrow);
	uint32_t blocks = count_blocks(narrow, span);

	*start = span->start;
	*bytes = span->bytes;
	narrow->run = blocks < UINT_MAX - narrow->run ? narrow->run + blocks : UINT_MAX;
	narrow->tries = 0;
	narrow->sample = 0;
	narrow->depth--;
	return true;
}

bool narrow_bad(struct narrow *narrow, uint64_t good, uint32_t *start, uint32_t *bytes)
{
	struct narrow_span *span = top(narrow);

	if (narrow->sample)
		return narrow->sample++ == SAMPLES && call_bad(narrow, start, bytes);
	if (count_blocks(narrow, span) > 1) {
		/* Nothing is known of its other half any more, if it had one. */
		span->has_sibling = false;
		good -= good % narrow->block;
		span->start += (uint32_t)good;
		span->bytes -= (uint32_t)good;
		if (good)
			narrow->run = 0;
	}
	if (count_blocks(narrow, span) > 1) {
		if (narrow->run >= NARROW_RUN_SAMPLE && !narrow->is_ordered && count_blocks(narrow, span) > SAMPLES)
			narrow->sample = 1;
		else
			span->is_bad = true;
		return false;
	}
	if (narrow->tries < (narrow->run < NARROW_RUN_RETRIES ? narrow->retries : 0)) {
		narrow->tries++;
		return false;
	}
	return call_bad(narrow, start, bytes);
}
