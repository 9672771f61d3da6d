/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Zeros in memory: which pages of a buffer hold nothing else, and into which pieces, to be written or to be zeroed, a
 * destination's transfer is cut for it. Pure: no device, no thread.
 */
#ifndef KCOPYD_ZEROS_H
#define KCOPYD_ZEROS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kcopyd.h"

/* So many zeros, aligned for direct I/O: to be written from, never to. */
#define ZEROS_BYTES ((size_t)1 << 20)
extern char zeros_memory[ZEROS_BYTES];

/* Of any alignment. At the speed of memory on zeros; the first byte that is none ends it. True for 0 bytes. */
bool zeros_fill(const void *data, size_t bytes);

#define ZEROS_MAP_PAGES 64u /* of a word of a map */

static inline size_t zeros_map_words(size_t pages)
{
	return (pages + ZEROS_MAP_PAGES - 1) / ZEROS_MAP_PAGES;
}

/*
 * Sets bit N of @map for each page N of @data that holds zeros only; the last page may be short. How many there are. Of
 * runs of fewer than @least bytes some may be left out: to know that there is no longer one, few pages have to be looked at.
 */
size_t zeros_find(const void *data, size_t bytes, size_t least, uint64_t *map);

/* What a destination wants of its pieces, in bytes. */
struct zeros_rules {
	uint32_t align; /* of a piece's ends on the destination, unless they are the buffer's: a multiple of a page */
	uint32_t least; /* zeros that are fewer are written */
};

/*
 * Cuts the first piece off what begins at byte @start (0, or the end of the piece before) of a buffer of @bytes with
 * @map, which goes to byte @offset of the destination and its further ones. Returns its length, > 0; @is_zero: it is to
 * be zeroed. All that is not is written in as few pieces as possible.
 */
uint32_t zeros_cut(const uint64_t *map, uint32_t bytes, uint32_t start, uint64_t offset,
		   const struct zeros_rules *rules, bool *is_zero);

#endif
