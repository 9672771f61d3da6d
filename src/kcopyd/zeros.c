/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "zeros.h"

#include <string.h>

/* Takes no memory while it is only read: the kernel has one page of zeros for all of it. */
char zeros_memory[ZEROS_BYTES] __attribute__((aligned(KCOPYD_PAGE_BYTES)));

/* What one load takes. The compiler makes of it what the machine has; memcpy(), as no alignment is known. */
typedef uint64_t lanes __attribute__((vector_size(16)));

#define STRIDE (16 * sizeof(lanes))

static inline uint64_t word_at(const char *data)
{
	uint64_t word;

	memcpy(&word, data, sizeof(word));
	return word;
}

static inline lanes lanes_at(const char *data)
{
	lanes value;

	memcpy(&value, data, sizeof(value));
	return value;
}

bool zeros_fill(const void *data, size_t bytes)
{
	const char *pos = data;
	uint64_t rest = 0;

	/* Data shows it here, nearly always; before anything is set up for more. */
	if (bytes >= sizeof(rest) && word_at(pos))
		return false;
	for (; bytes >= STRIDE; pos += STRIDE, bytes -= STRIDE) {
		lanes all = lanes_at(pos);

		/* One test for a stride: a branch for each load would be what it waits for. */
		for (size_t i = sizeof(lanes); i < STRIDE; i += sizeof(lanes))
			all |= lanes_at(pos + i);
		if (all[0] | all[1])
			return false;
	}
	for (; bytes >= sizeof(rest); pos += sizeof(rest), bytes -= sizeof(rest))
		rest |= word_at(pos);
	for (; bytes > 0; pos++, bytes--)
		rest |= (unsigned char)*pos;
	return rest == 0;
}

struct pages_of {
	const char *data;
	size_t bytes;
	size_t pages;
};

static bool is_zero_page(const struct pages_of *of, size_t page)
{
	size_t start = page * KCOPYD_PAGE_BYTES, left = of->bytes - start;

	return zeros_fill(of->data + start, left < KCOPYD_PAGE_BYTES ? left : KCOPYD_PAGE_BYTES);
}

static void set_bits(uint64_t *map, size_t first, size_t end)
{
	for (size_t page = first; page < end; page++)
		map[page / ZEROS_MAP_PAGES] |= (uint64_t)1 << page % ZEROS_MAP_PAGES;
}

size_t zeros_find(const void *data, size_t bytes, size_t least, uint64_t *map)
{
	struct pages_of of = { data, bytes, (bytes + KCOPYD_PAGE_BYTES - 1) / KCOPYD_PAGE_BYTES };
	size_t step = least > KCOPYD_PAGE_BYTES ? least / KCOPYD_PAGE_BYTES : 1;
	size_t seen = 0, found = 0, page = step - 1; /* none in front of @seen is looked at again */

	memset(map, 0, zeros_map_words(of.pages) * sizeof(map[0]));
	/* A run that is long enough has one of every @step pages in it; only around those that are zeros the others are read. */
	while (page < of.pages) {
		size_t first = page, end = page;

		if (is_zero_page(&of, page)) {
			while (first > seen && is_zero_page(&of, first - 1))
				first--;
			do
				end++;
			while (end < of.pages && is_zero_page(&of, end));
			set_bits(map, first, end);
			found += end - first;
		}
		seen = end + 1;
		page = end + step;
	}
	return found;
}

/* The first page from @page on whose bit is @is_set; @pages: none. */
static uint32_t next_page(const uint64_t *map, uint32_t pages, uint32_t page, bool is_set)
{
	while (page < pages) {
		uint64_t word = is_set ? map[page / ZEROS_MAP_PAGES] : ~map[page / ZEROS_MAP_PAGES];

		word >>= page % ZEROS_MAP_PAGES;
		if (word) {
			page += (uint32_t)__builtin_ctzll(word);
			break;
		}
		page += ZEROS_MAP_PAGES - page % ZEROS_MAP_PAGES;
	}
	return page < pages ? page : pages;
}

/* The next zeros from byte @start on that a piece can be made of. False: there are none. */
static bool find_zeros(const uint64_t *map, uint32_t bytes, uint32_t start, uint64_t offset,
		       const struct zeros_rules *rules, uint32_t *first, uint32_t *end)
{
	uint32_t pages = (bytes + KCOPYD_PAGE_BYTES - 1) / KCOPYD_PAGE_BYTES;
	uint32_t page = start / KCOPYD_PAGE_BYTES;

	while ((page = next_page(map, pages, page, true)) < pages) {
		uint64_t from = (uint64_t)page * KCOPYD_PAGE_BYTES, to;

		page = next_page(map, pages, page, false);
		to = (uint64_t)page * KCOPYD_PAGE_BYTES;
		if (from < start)
			from = start;
		if (from > 0)
			from += (rules->align - (offset + from) % rules->align) % rules->align;
		if (to < bytes)
			to -= (offset + to) % rules->align;
		else
			to = bytes;
		if (from < to && to <= bytes && to - from >= rules->least) {
			*first = (uint32_t)from;
			*end = (uint32_t)to;
			return true;
		}
	}
	return false;
}

uint32_t zeros_cut(const uint64_t *map, uint32_t bytes, uint32_t start, uint64_t offset,
		   const struct zeros_rules *rules, bool *is_zero)
{
	uint32_t first, end;

	*is_zero = false;
	if (!find_zeros(map, bytes, start, offset, rules, &first, &end))
		return bytes - start;
	if (first > start)
		return first - start;
	*is_zero = true;
	return end - start;
}
