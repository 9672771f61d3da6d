/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The runs of a resume map: sorted, contiguous, no two neighbours of one status. They live in a gap buffer: the unused
 * part of the array is where the last change was, so that a copy, which changes its map a little further on each time,
 * moves next to nothing, wherever it is and however many runs there are.
 */
#include "map.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define STATUSES (MAP_FLUSHED + 1)
#define FIRST_CAPACITY ((size_t)16)
#define MOST_ADDED ((size_t)2) /* by one map_set(): a run that is cut out of the middle of another */

struct run {
	sector_t sector; /* up to where the next one begins, or to the map's end */
	enum map_status status;
};

struct map {
	sector_t sector, end;	   /* the region */
	sector_t counts[STATUSES]; /* sectors */
	struct run *runs;	   /* owned */
	size_t num;		   /* runs; never 0 */
	size_t capacity;	   /* of the array */
	size_t gap;		   /* runs before the unused part, which is capacity - num */
};

static struct run *at(const struct map *map, size_t i)
{
	return &map->runs[i < map->gap ? i : i + (map->capacity - map->num)];
}

static sector_t end_of(const struct map *map, size_t i)
{
	return i + 1 < map->num ? at(map, i + 1)->sector : map->end;
}

static void move_gap(struct map *map, size_t to)
{
	struct run *runs = map->runs;
	size_t unused = map->capacity - map->num;

	if (to < map->gap)
		memmove(runs + to + unused, runs + to, (map->gap - to) * sizeof(*runs));
	else
		memmove(runs + map->gap, runs + map->gap + unused, (to - map->gap) * sizeof(*runs));
	map->gap = to;
}

/* Room for one more map_set(). */
static int reserve(struct map *map)
{
	struct run *runs;

	if (map->capacity - map->num >= MOST_ADDED)
		return 0;
	runs = reallocarray(map->runs, map->capacity, 2 * sizeof(*runs));
	if (!runs)
		return -ENOMEM;
	map->runs = runs;
	/* What follows the gap goes to the new end of the array; the new half is larger than it, so they do not overlap. */
	memcpy(runs + 2 * map->capacity - (map->num - map->gap), runs + map->capacity - (map->num - map->gap),
	       (map->num - map->gap) * sizeof(*runs));
	map->capacity *= 2;
	return 0;
}

/* The runs [first, last) make way for @parts. There is room. */
static void splice(struct map *map, size_t first, size_t last, const struct run *parts, size_t num)
{
	move_gap(map, first);
	map->num -= last - first; /* those right after the gap */
	memcpy(map->runs + map->gap, parts, num * sizeof(*parts));
	map->num += num;
	map->gap += num;
}

/* The run that holds @sector, which is mostly the one behind which the last change was made, or the next one. */
static size_t find(const struct map *map, sector_t sector)
{
	size_t low = 0, high = map->num, middle;

	if (map->gap > 0 && at(map, map->gap - 1)->sector <= sector) {
		low = map->gap - 1;
		if (sector < end_of(map, low))
			return low;
	} else if (map->gap > 0) {
		high = map->gap - 1;
	}
	while (high - low > 1) {
		middle = low + (high - low) / 2;
		if (at(map, middle)->sector <= sector)
			low = middle;
		else
			high = middle;
	}
	return low;
}

int map_create(sector_t sector, sector_t count, struct map **result)
{
	struct map *map;

	assert(count > 0 && sector < MAP_MAX_SECTORS && count <= MAP_MAX_SECTORS - sector);
	map = calloc(1, sizeof(*map));
	if (!map)
		return -ENOMEM;
	map->capacity = FIRST_CAPACITY;
	map->runs = calloc(map->capacity, sizeof(*map->runs));
	if (!map->runs) {
		free(map);
		return -ENOMEM;
	}
	map->sector = sector;
	map->end = sector + count;
	map->counts[MAP_MISSING] = count;
	splice(map, 0, 0, &(struct run){ .sector = sector, .status = MAP_MISSING }, 1);
	*result = map;
	return 0;
}

void map_destroy(struct map *map)
{
	if (!map)
		return;
	free(map->runs);
	free(map);
}

sector_t map_sector(const struct map *map)
{
	return map->sector;
}

sector_t map_sectors(const struct map *map)
{
	return map->end - map->sector;
}

/* What the counts say after [sector, end), which begins in run @first and ends in run @last, became @status. */
static void count_change(struct map *map, size_t first, size_t last, sector_t sector, sector_t end,
			 enum map_status status)
{
	sector_t from = sector, to;
	size_t i;

	for (i = first; i <= last; i++) {
		to = i < last ? end_of(map, i) : end;
		map->counts[at(map, i)->status] -= to - from;
		from = to;
	}
	map->counts[status] += end - sector;
}

int map_set(struct map *map, sector_t sector, sector_t count, enum map_status status)
{
	sector_t end = sector + count;
	struct run new = { .sector = sector, .status = status }, parts[1 + MOST_ADDED];
	size_t first, last, num = 0;

	assert(count > 0 && sector >= map->sector && sector < map->end && count <= map->end - sector);
	first = last = find(map, sector);
	while (end_of(map, last) < end)
		last++;
	if (first == last && at(map, first)->status == status)
		return 0;
	if (reserve(map))
		return -ENOMEM;
	count_change(map, first, last, sector, end, status);

	/* What is left of the first run, the new one, what is left of the last; the new one takes in what is like it. */
	if (at(map, first)->sector < sector) {
		if (at(map, first)->status == status)
			new.sector = at(map, first)->sector;
		else
			parts[num++] = *at(map, first);
	} else if (first > 0 && at(map, first - 1)->status == status) {
		new.sector = at(map, --first)->sector;
	}
	parts[num++] = new;
	if (end_of(map, last) > end) {
		if (at(map, last)->status != status)
			parts[num++] = (struct run){ .sector = end, .status = at(map, last)->status };
	} else if (last + 1 < map->num && at(map, last + 1)->status == status) {
		last++;
	}
	splice(map, first, last + 1, parts, num);
	return 0;
}

enum map_status map_get(const struct map *map, sector_t sector, sector_t *count)
{
	size_t i;

	assert(sector >= map->sector && sector < map->end);
	i = find(map, sector);
	*count = end_of(map, i) - sector;
	return at(map, i)->status;
}

void map_replace(struct map *map, enum map_status from, enum map_status to)
{
	size_t i, kept = 0;

	if (from == to || !map->counts[from])
		return;
	map->counts[to] += map->counts[from];
	map->counts[from] = 0;
	move_gap(map, map->num);
	for (i = 0; i < map->num; i++) {
		struct run run = map->runs[i];

		if (run.status == from)
			run.status = to;
		if (kept == 0 || map->runs[kept - 1].status != run.status)
			map->runs[kept++] = run;
	}
	map->num = kept;
	map->gap = kept;
}

sector_t map_count(const struct map *map, enum map_status status)
{
	return map->counts[status];
}

size_t map_num_runs(const struct map *map)
{
	return map->num;
}

void map_swap(struct map *map, struct map *other)
{
	struct map held = *map;

	*map = *other;
	*other = held;
}
