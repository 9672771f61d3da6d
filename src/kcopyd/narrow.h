/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which blocks of a range that cannot be transferred as a whole are bad: bisection, in ascending order. Pure
 * arithmetic: it says what to try next and is told what came of it. A good block succeeds once; a block is called bad
 * only after an attempt at it alone and as many further ones as there are retries.
 *
 * Where nothing succeeds any more it asks less: after NARROW_RUN_RETRIES bad blocks in a row there are no further
 * tries, and after NARROW_RUN_SAMPLE a range that fails as a whole is called bad as a whole if its last, its first and
 * its middle block fail, too. So an area that is bad throughout is found exactly, and a dead device costs no try per
 * block. A success ends this; one of a sample has what was sampled looked at block by block.
 */
#ifndef KCOPYD_NARROW_H
#define KCOPYD_NARROW_H

#include <stdbool.h>
#include <stdint.h>

/* A range of 2^32 bytes in blocks of 512 splits 23 times; each split leaves one span waiting. */
#define NARROW_DEPTH 26

#define NARROW_RUN_RETRIES 16u
#define NARROW_RUN_SAMPLE 256u

struct narrow {
	uint32_t block;	      /* bytes */
	unsigned int retries; /* of a block that failed alone */
	bool is_ordered;      /* nothing may be tried that lies before what was tried already: no samples */
	unsigned int run;     /* blocks called bad since something last succeeded; kept from range to range */
	unsigned int tries;   /* so often the block that comes next has failed alone */
	unsigned int sample;  /* which block of the span on top is tried for all of it; 0: no sample */
	unsigned int depth;
	struct narrow_span {
		uint32_t start; /* bytes */
		uint32_t bytes;
		bool is_bad;	  /* as a whole: splitting it is all that is left to do */
		bool has_sibling; /* the other half waits below it on the stack */
	} stack[NARROW_DEPTH];
};

/* Once for a device. */
void narrow_init(struct narrow *narrow, uint32_t block, unsigned int retries, bool is_ordered);

/*
 * The range from @start is to be transferred, and was attempted as a whole: to be answered like any other attempt. Only
 * its end need not be a multiple of the block.
 */
void narrow_start(struct narrow *narrow, uint32_t start, uint32_t bytes);

/*
 * What to try next; false: everything is known. To be answered by narrow_good() or narrow_bad(). If narrow->tries is
 * not 0, it failed the last time, and waiting may help.
 */
bool narrow_next(struct narrow *narrow, uint32_t *start, uint32_t *bytes);
void narrow_good(struct narrow *narrow);

/* It failed after @good bytes. True: the range from @start is bad, and that is the last word. */
bool narrow_bad(struct narrow *narrow, uint64_t good, uint32_t *start, uint32_t *bytes);

/* Something outside of the range succeeded. */
void narrow_alive(struct narrow *narrow);

/* Nothing more is to be tried. */
void narrow_stop(struct narrow *narrow);

/* The same, instead of narrow_bad(): returns where what was not good begins. */
uint32_t narrow_stop_at(struct narrow *narrow, uint64_t good);

#endif
