/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The lines that are under way, and whether another one must wait for one of them. Main thread only.
 */
#ifndef KCOPY_JOBS_FLIGHT_H
#define KCOPY_JOBS_FLIGHT_H

#include "jobs_line.h"

#define FLIGHT_LINES 256u
#define FLIGHT_CELL_BITS 16
#define FLIGHT_CELLS (1u << FLIGHT_CELL_BITS)

struct flight {
	struct line *lines[FLIGHT_LINES]; /* borrowed, in no order */
	unsigned int num;
	uint64_t bytes;			     /* that they write, all destinations together */
	unsigned int num_wide;		     /* operands of too many cells */
	unsigned int num_of[POOL_MOST];	     /* operands, by the index of their entry ... */
	struct pool_set active;		     /* ... of which these have any */
	unsigned int num_sources[POOL_MOST]; /* by group */
	/* How many operands have sectors there; several places share one. */
	uint16_t sources[FLIGHT_CELLS];
	uint16_t dests[FLIGHT_CELLS];
};

void flight_put(struct flight *flight, struct line *line);
void flight_take(struct flight *flight, struct line *line);

/* One that @line must wait for, or NULL. */
struct line *flight_find_blocker(const struct flight *flight, const struct pool *pool, const struct line *line);

#endif
