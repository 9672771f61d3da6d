/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "pages.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#define PAGE_BYTES ((size_t)4096)
#define HUGE_BYTES ((size_t)2 << 20)
/* From this size on, what the machine has left is asked first: reading /proc costs more than a small reserve does. */
#define ASK_FIRST_BYTES ((size_t)64 << 20)
/* What is populated at a time: a huge page. */
#define STEP_PAGES 512u
/*
 * Whoever is given more than that by default asked for it, and is told now if it is too much: later it would be the
 * kernel that takes back memory from whom it likes.
 */
#define MOST_LATER_PAGES 4096u

struct pages {
	char *arena; /* owned, 2 MiB-aligned */
	size_t arena_bytes;
	unsigned int count;
	unsigned int free;
	unsigned int taken;
	unsigned int lacking;
	struct page {
		bool is_there;	 /* populated; or it was tried */
		bool is_lacking; /* in vain */
		bool is_taken;
		unsigned char holds;
	} pages[]; /* by page number; free: none of the last three */
};

/* What the kernel thinks can still be had without swapping; SIZE_MAX where it does not say. */
static size_t available_bytes(void)
{
	char line[128];
	unsigned long long kib;
	size_t bytes = SIZE_MAX;
	FILE *file = fopen("/proc/meminfo", "re");

	if (!file)
		return bytes;
	while (fgets(line, sizeof(line), file)) {
		if (sscanf(line, "MemAvailable: %llu kB", &kib) == 1) {
			bytes = kib > SIZE_MAX / 1024 ? SIZE_MAX : (size_t)kib * 1024;
			break;
		}
	}
	fclose(file);
	return bytes;
}

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23 /* Linux 5.14 */
#endif

/* Faults every page in now: one that is not to be had is no crash then. */
static int populate(struct pages *pages, unsigned int first, unsigned int count)
{
	if (madvise(pages->arena + first * PAGE_BYTES, count * PAGE_BYTES, MADV_POPULATE_WRITE) == 0)
		return 0;
	return errno == EINVAL ? -EOPNOTSUPP : -ENOMEM; /* EINVAL: a kernel that is older */
}

static void touch(struct pages *pages)
{
	for (unsigned int i = 0; i < pages->count; i++)
		*(volatile char *)(pages->arena + i * PAGE_BYTES) = 0;
}

static int map_arena(struct pages *pages)
{
	size_t bytes = (size_t)pages->count * PAGE_BYTES;
	size_t mapped = bytes + HUGE_BYTES;
	size_t head;
	char *map;

	map = mmap(NULL, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (map == MAP_FAILED)
		return -ENOMEM;
	head = (HUGE_BYTES - ((uintptr_t)map & (HUGE_BYTES - 1))) & (HUGE_BYTES - 1);
	if (head)
		munmap(map, head);
	munmap(map + head + bytes, HUGE_BYTES - head);
	pages->arena = map + head;
	pages->arena_bytes = bytes;
	/* Advice only: fewer segments per request, 1.9 instead of 1.2 to 1.6 GiB/s between loop devices. */
	madvise(pages->arena, bytes, MADV_HUGEPAGE);
	madvise(pages->arena, bytes, MADV_DONTDUMP);
	return 0;
}

static void note_there(struct pages *pages, unsigned int first, unsigned int count)
{
	for (unsigned int i = first; i < first + count; i++)
		pages->pages[i].is_there = true;
}

/* So much is certain to be there, however little the machine has later: 2 MiB and more, or all. */
static int populate_first(struct pages *pages)
{
	unsigned int first = 0;
	int ret;

	if (pages->count > STEP_PAGES && pages->count <= MOST_LATER_PAGES)
		first = pages->count - STEP_PAGES;
	first -= first % STEP_PAGES;
	ret = populate(pages, first, pages->count - first);
	if (ret == -EOPNOTSUPP) {
		/* Touching what is not to be had is the crash: now or never. */
		touch(pages);
		first = 0;
		ret = 0;
	}
	if (ret == 0)
		note_there(pages, first, pages->count - first);
	return ret;
}

/* The step that page @page is in. False: the machine has no memory for it, and the reserve has not got it either from now on. */
static bool populate_step(struct pages *pages, unsigned int page)
{
	unsigned int first = page - page % STEP_PAGES;
	unsigned int count = pages->count - first < STEP_PAGES ? pages->count - first : STEP_PAGES;
	bool is_there = populate(pages, first, count) == 0;

	note_there(pages, first, count);
	for (unsigned int i = first; i < first + count && !is_there; i++) {
		pages->pages[i].is_lacking = true;
		pages->free--;
		pages->lacking++;
	}
	return is_there;
}

int pages_create(unsigned int num_pages, struct pages **result)
{
	struct pages *pages;
	size_t bytes;
	int ret;

	if (num_pages == 0)
		return -EINVAL;
	if (__builtin_mul_overflow(num_pages, PAGE_BYTES, &bytes) || bytes > SIZE_MAX - HUGE_BYTES)
		return -ENOMEM;
	if (bytes >= ASK_FIRST_BYTES && bytes > available_bytes())
		return -ENOMEM;
	pages = calloc(1, sizeof(*pages) + num_pages * sizeof(pages->pages[0]));
	if (!pages)
		return -ENOMEM;
	pages->count = num_pages;
	pages->free = num_pages;
	ret = map_arena(pages);
	if (ret == 0)
		ret = populate_first(pages);
	if (ret) {
		if (pages->arena)
			munmap(pages->arena, pages->arena_bytes);
		free(pages);
		return ret;
	}
	*result = pages;
	return 0;
}

void pages_destroy(struct pages *pages)
{
	if (!pages)
		return;
	assert(pages->free + pages->lacking == pages->count);
	munmap(pages->arena, pages->arena_bytes);
	free(pages);
}

static bool is_free(const struct page *page)
{
	return !page->is_taken && page->holds == 0 && !page->is_lacking;
}

/* The run of free pages that begins at the @nth page from one end and goes on away from it, @most at the most. */
static unsigned int run_length(const struct pages *pages, unsigned int nth, unsigned int most, bool from_top)
{
	unsigned int length = 0;

	while (length < most && nth + length < pages->count) {
		unsigned int page = from_top ? pages->count - 1 - (nth + length) : nth + length;

		if (!is_free(&pages->pages[page]))
			break;
		length++;
	}
	return length;
}

/* The longest run, up to @want. Returns its length. */
static unsigned int find_run(const struct pages *pages, unsigned int want, bool from_top, unsigned int *first)
{
	unsigned int best = 0, best_nth = 0, nth = 0;

	while (nth < pages->count && best < want) {
		unsigned int length = run_length(pages, nth, want, from_top);

		if (length > best) {
			best = length;
			best_nth = nth;
		}
		nth += length + 1;
	}
	*first = from_top ? pages->count - best_nth - best : best_nth;
	return best;
}

/* False: not all of it could be. */
static bool populate_run(struct pages *pages, unsigned int first, unsigned int count)
{
	for (unsigned int i = first; i < first + count; i += STEP_PAGES - i % STEP_PAGES)
		if (!pages->pages[i].is_there && !populate_step(pages, i))
			return false;
	return true;
}

unsigned int pages_get(struct pages *pages, unsigned int want, unsigned int min, int from_top, unsigned int *first)
{
	unsigned int best;

	assert(min > 0 && want >= min);
	do {
		if (pages->free < min)
			return 0;
		best = find_run(pages, want, from_top, first);
		if (best < want) {
			*first += from_top ? best % min : 0;
			best -= best % min;
		}
	} while (!populate_run(pages, *first, best));
	for (unsigned int i = *first; i < *first + best; i++)
		pages->pages[i].is_taken = true;
	pages->free -= best;
	pages->taken += best;
	return best;
}

bool pages_prepare(struct pages *pages, unsigned int num)
{
	for (unsigned int nth = 1; nth <= num && nth <= pages->count; nth++) {
		if (!pages->pages[pages->count - nth].is_there) {
			populate_step(pages, pages->count - nth);
			return true;
		}
	}
	if (pages->pages[0].is_there)
		return false;
	populate_step(pages, 0);
	return true;
}

void pages_put(struct pages *pages, unsigned int first, unsigned int count)
{
	assert(first + count <= pages->count);
	for (unsigned int i = first; i < first + count; i++) {
		assert(pages->pages[i].is_taken);
		pages->pages[i].is_taken = false;
		pages->free += is_free(&pages->pages[i]);
	}
	pages->taken -= count;
}

void pages_hold(struct pages *pages, unsigned int first, unsigned int count)
{
	assert(first + count <= pages->count);
	for (unsigned int i = first; i < first + count; i++) {
		assert(pages->pages[i].is_taken && pages->pages[i].holds < UCHAR_MAX);
		pages->pages[i].holds++;
	}
}

void pages_release(struct pages *pages, unsigned int first, unsigned int count)
{
	assert(first + count <= pages->count);
	for (unsigned int i = first; i < first + count; i++) {
		assert(pages->pages[i].holds > 0);
		pages->pages[i].holds--;
		pages->free += is_free(&pages->pages[i]);
	}
}

char *pages_address(const struct pages *pages, unsigned int first)
{
	assert(first < pages->count);
	return pages->arena + first * PAGE_BYTES;
}

unsigned int pages_taken(const struct pages *pages)
{
	return pages->taken;
}

unsigned int pages_free(const struct pages *pages)
{
	return pages->free;
}
