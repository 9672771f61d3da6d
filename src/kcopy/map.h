/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A resume map: which sectors of the source's region a destination has on stable storage, and which it has not. Kept
 * as runs, so that it grows with the number of bad areas and never with the size of the copy. Read and written as GNU
 * ddrescue's mapfile (its manual, "Mapfile structure"; kcopy-map(5)): positions in bytes on the source. Not thread-safe.
 */
#ifndef KCOPY_MAP_H
#define KCOPY_MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kcopyd.h"

enum map_status {
	MAP_MISSING,  /* '?': not written */
	MAP_BAD,      /* '-': unreadable on the source */
	MAP_WRITTEN,  /* saved as '?': written, but no flush began since */
	MAP_FLUSHING, /* saved as '?': written before a flush that is under way */
	MAP_FLUSHED,  /* '+': on stable storage */
};

#define MAP_MAX_SECTORS ((sector_t)1 << 54) /* 2^63 bytes: no region ends after it */

struct map;

/* The region of the source, in its sectors, not empty and within MAP_MAX_SECTORS; all of it missing. -ENOMEM. */
int map_create(sector_t sector, sector_t count, struct map **result);
void map_destroy(struct map *map); /* NULL is allowed */

/* What map_create() was given. */
sector_t map_sector(const struct map *map);
sector_t map_sectors(const struct map *map);

/*
 * The range must be within the map's, and not empty (an assert). -ENOMEM: nothing has changed. O(1), amortised, where
 * the last one was set; elsewhere O(log n), and a memmove() of as many runs as are in between.
 */
int map_set(struct map *map, sector_t sector, sector_t count, enum map_status status);

/* The status at @sector, and how many sectors from there on have the same (at least 1). O(log n). */
enum map_status map_get(const struct map *map, sector_t sector, sector_t *count);

/* Everything that is @from becomes @to. Never fails. O(n), or nothing to do. */
void map_replace(struct map *map, enum map_status from, enum map_status to);

/* Sectors that are @status. O(1). */
sector_t map_count(const struct map *map, enum map_status status);

/* The number of runs, which is what it takes in memory. */
size_t map_num_runs(const struct map *map);

/* Each becomes what the other was. */
void map_swap(struct map *map, struct map *other);

#endif
