/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * To compare a line with all that are under way takes longer than to copy 4 KiB. So what they have is counted, in cells of
 * their devices and files, and they are compared only if one of the line's cells is in use.
 */
#include "jobs_flight.h"

#define CELL_SECTORS 32u
#define MAX_CELLS 8u

static bool is_wide(const struct line_extent *extent)
{
	return (extent->end - 1) / CELL_SECTORS - extent->sector / CELL_SECTORS >= MAX_CELLS;
}

static size_t cell_at(unsigned int group, uint64_t number)
{
	return (number + ((uint64_t)group << 48)) * UINT64_C(0x9e3779b97f4a7c15) >> 32 >> (32 - FLIGHT_CELL_BITS);
}

static void count_operand(struct flight *flight, const struct line_extent *extent, bool is_source, uint32_t change)
{
	uint16_t *cells = is_source ? flight->sources : flight->dests;

	flight->num_of[extent->entry->index] += change;
	pool_set_put(&flight->active, extent->entry->index, flight->num_of[extent->entry->index] > 0);
	if (is_wide(extent)) {
		flight->num_wide += change;
		return;
	}
	if (is_source)
		flight->num_sources[extent->group] += change;
	for (uint64_t at = extent->sector / CELL_SECTORS; at <= (extent->end - 1) / CELL_SECTORS; at++)
		cells[cell_at(extent->group, at)] = (uint16_t)(cells[cell_at(extent->group, at)] + change);
}

static void count_line(struct flight *flight, const struct line *line, uint32_t change)
{
	for (unsigned int i = 0; i <= line->guard.num_dests; i++)
		count_operand(flight, &line->extents[i], i == 0, change);
}

void flight_put(struct flight *flight, struct line *line)
{
	for (unsigned int i = 0; i <= line->guard.num_dests; i++)
		line->extents[i].group = line->extents[i].entry->group;
	line->slot = flight->num;
	flight->lines[flight->num++] = line;
	flight->bytes += line_bytes(line);
	count_line(flight, line, 1);
}

void flight_take(struct flight *flight, struct line *line)
{
	flight->lines[line->slot] = flight->lines[--flight->num];
	flight->lines[line->slot]->slot = line->slot;
	flight->bytes -= line_bytes(line);
	count_line(flight, line, UINT32_MAX); /* one less */
}

/* Is nothing known that keeps the operand from having a sector in common with what is under way? */
static bool may_meet(const struct flight *flight, const struct pool *pool, const struct line_extent *extent,
		     bool is_source)
{
	const struct pool_set *others = pool_others(pool, extent->entry);
	unsigned int group = extent->entry->group;

	for (unsigned int i = 0; i < POOL_MOST / 64; i++)
		if (others->bits[i] & flight->active.bits[i])
			return true;
	if (is_wide(extent))
		return true;
	for (uint64_t at = extent->sector / CELL_SECTORS; at <= (extent->end - 1) / CELL_SECTORS; at++) {
		size_t cell = cell_at(group, at);

		if (flight->dests[cell] || (!is_source && flight->num_sources[group] && flight->sources[cell]))
			return true;
	}
	return false;
}

struct line *flight_find_blocker(const struct flight *flight, const struct pool *pool, const struct line *line)
{
	bool may = line->is_zoned || flight->num_wide > 0;

	for (unsigned int i = 0; !may && i <= line->guard.num_dests; i++)
		may = may_meet(flight, pool, &line->extents[i], i == 0);
	for (unsigned int i = 0; may && i < flight->num; i++)
		if (line_must_wait(pool, line, flight->lines[i]))
			return flight->lines[i];
	return NULL;
}
