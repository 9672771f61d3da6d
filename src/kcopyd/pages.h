/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The reserve: one arena of pages, set aside at create, from which runs of adjacent pages are taken. It never grows and never
 * waits; whoever gets too little comes back after a put. Client thread only.
 *
 * Of up to 16 MiB only 2 to 4 are populated at create, the rest before it is first taken: populating all of it takes 2 ms on
 * a machine that has the memory, and 40 ms on a virtual one that gets it from its host, while nothing is copied yet. What
 * cannot be had then is left out of the reserve.
 */
#ifndef KCOPYD_PAGES_H
#define KCOPYD_PAGES_H

#include <stdbool.h>

struct pages;

/* -EINVAL: none wanted. -ENOMEM: not to be had, now or without taking what others need. */
int pages_create(unsigned int num_pages, struct pages **result);

/*
 * Populates a step of the last @num pages, where whole chunks are taken from, or the first step, where others are, before
 * anybody waits for it. False: they are.
 */
bool pages_prepare(struct pages *pages, unsigned int num);

/* Every page must be back. */
void pages_destroy(struct pages *pages);

/*
 * Takes a run of @want adjacent pages, or if there is none the longest there is down to @min, a multiple of @min.
 * Returns its length (0: nothing taken) and its first page's number. Whole chunks (@from_top) and small runs are taken
 * from opposite ends, so that small jobs leave the large runs whole.
 */
unsigned int pages_get(struct pages *pages, unsigned int want, unsigned int min, int from_top, unsigned int *first);
void pages_put(struct pages *pages, unsigned int first, unsigned int count);

/*
 * A hold keeps the pages of a run out of the reserve beside whoever took it, and longer: somebody may still read or write
 * them (up to 255 at once). They are free when they were put and nobody holds them any more.
 */
void pages_hold(struct pages *pages, unsigned int first, unsigned int count);
void pages_release(struct pages *pages, unsigned int first, unsigned int count);

/* Pages that were taken and not put yet. */
unsigned int pages_taken(const struct pages *pages);

/* The memory of page @first; its followers are adjacent. Valid until pages_destroy(). */
char *pages_address(const struct pages *pages, unsigned int first);
unsigned int pages_free(const struct pages *pages);

#endif
