/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "narrow.h"

#include <assert.h>

static void push(struct narrow *narrow, uint32_t start, uint32_t bytes, bool is_bad, bool has_sibling)
{
	struct narrow_span *span;

	assert(narrow->depth < NARROW_DEPTH);
	span = &narrow->stack[narrow->depth++];
	span->start = start;
	span->bytes = bytes;
	/* What is known of a single block is known of it among others; alone it gets a try of its own. */
	span->is_bad = is_bad && bytes > narrow->block;
	span->has_sibling = has_sibling;
}

void narrow_start(struct narrow *narrow, uint32_t start, uint32_t bytes, uint32_t block)
{
	narrow->block = block;
	narrow->depth = 0;
	push(narrow, start, bytes, true, false);
}

bool narrow_next(struct narrow *narrow, uint32_t *start, uint32_t *bytes)
{
	if (narrow->depth == 0)
		return false;
	while (narrow->stack[narrow->depth - 1].is_bad) {
		struct narrow_span span = narrow->stack[--narrow->depth];
		uint32_t blocks = span.bytes / narrow->block;
		uint32_t left = (blocks - blocks / 2) * narrow->block;

		push(narrow, span.start + left, span.bytes - left, false, false);
		push(narrow, span.start, left, false, true);
	}
	*start = narrow->stack[narrow->depth - 1].start;
	*bytes = narrow->stack[narrow->depth - 1].bytes;
	return true;
}

void narrow_good(struct narrow *narrow)
{
	bool has_sibling = narrow->stack[--narrow->depth].has_sibling;

	/* The whole was bad and this half is not: no need to try the other as a whole. */
	if (has_sibling) {
		struct narrow_span *sibling = &narrow->stack[narrow->depth - 1];

		sibling->is_bad = sibling->bytes > narrow->block;
	}
}

bool narrow_bad(struct narrow *narrow, uint32_t good)
{
	struct narrow_span span = narrow->stack[--narrow->depth];

	if (span.bytes <= narrow->block)
		return true;
	good -= good % narrow->block;
	push(narrow, span.start + good, span.bytes - good, true, false);
	return false;
}
