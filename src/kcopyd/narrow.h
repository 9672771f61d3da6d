/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which blocks of a range that cannot be transferred as a whole are bad: bisection, in ascending order. Pure
 * arithmetic: it says what to try next and is told what came of it. A good block succeeds once; a block is called bad
 * only after an attempt at it alone.
 */
#ifndef KCOPYD_NARROW_H
#define KCOPYD_NARROW_H

#include <stdbool.h>
#include <stdint.h>

/* A range of 2^32 bytes in blocks of 512 splits 23 times; each split leaves one span waiting. */
#define NARROW_DEPTH 26

struct narrow {
	uint32_t block; /* bytes */
	unsigned int depth;
	struct narrow_span {
		uint32_t start; /* bytes */
		uint32_t bytes;
		bool is_bad;	  /* as a whole: splitting it is all that is left to do */
		bool has_sibling; /* the other half waits below it on the stack */
	} stack[NARROW_DEPTH];
};

/* The range from @start (both multiples of @block) failed as a whole. */
void narrow_start(struct narrow *narrow, uint32_t start, uint32_t bytes, uint32_t block);

/* What to try next; false: everything is known. To be answered by narrow_good() or narrow_bad(). */
bool narrow_next(struct narrow *narrow, uint32_t *start, uint32_t *bytes);
void narrow_good(struct narrow *narrow);

/* It failed after @good bytes. True: it was a single block, and that one is bad. */
bool narrow_bad(struct narrow *narrow, uint32_t good);

#endif
