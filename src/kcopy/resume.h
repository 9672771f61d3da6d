/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The resume maps of a copy, one per destination: loaded before it, told of everything that happens while it runs,
 * saved now and then. A map never claims what was not flushed. Never touches a device.
 */
#ifndef KCOPY_RESUME_H
#define KCOPY_RESUME_H

#include <stdbool.h>
#include <stdint.h>

#include "guard.h"
#include "kcopyd.h"
#include "map.h"

struct resume;

/*
 * The maps of @guard's operands, which are placed: @path, or @path.1 ... of several destinations. What exists is loaded;
 * what is wrong with it is printed (-EINVAL). Tells the operands whether what they hold is this very copy, begun
 * (operand->trust). @guard is borrowed.
 */
int resume_create(struct guard *guard, const char *path, struct resume **result);
void resume_destroy(struct resume *resume); /* NULL is allowed */

/*
 * After pre-flight, when nothing was refused: a destination that holds something else where its map claims the source's
 * data (--force allows that) has none of it, which is printed.
 */
void resume_doubt(struct resume *resume);

/* The copy did not begin: maps that did not exist before are removed again. */
void resume_undo(struct resume *resume);

/* What is to be copied now. Where it goes on past errors, all that was never tried comes before what was unreadable. */
enum resume_pass {
	RESUME_ALL,
	RESUME_MISSING, /* never tried */
	RESUME_BAD,	/* unreadable in an earlier run, and not tried in this one */
};

/* Sectors from the start of the region, in whole logical blocks of every operand, or to its end. */
struct resume_piece {
	sector_t skip, count;
	uint32_t dests;	 /* bit N-1: destination N wants it */
	bool is_partial; /* one block, of which some of them hold a part: zeros must not come there */
};

/* The next piece that the same destinations of @live want, at @skip (whole blocks) or behind it. False: there is none. */
bool resume_next(struct resume *resume, enum resume_pass pass, sector_t skip, uint32_t live,
		 struct resume_piece *piece);

/* Sectors that destination @number has of a status, and how many it holds from its start on without a gap. */
sector_t resume_count(struct resume *resume, unsigned int number, enum map_status status);
sector_t resume_contiguous(struct resume *resume, unsigned int number);

/*
 * What the engine's observer learns, in sectors of the source. Any thread. resume_unreadable() comes before the
 * resume_written() of the zeros for it.
 */
void resume_written(struct resume *resume, unsigned int number, sector_t sector, sector_t count);
void resume_unwritten(struct resume *resume, unsigned int number, sector_t sector, sector_t count); /* failed */
void resume_unreadable(struct resume *resume, sector_t sector, sector_t count);

/*
 * Around a flush: which of @live have something that it would bring to stable storage; and for which of these (@asked)
 * it did, or failed; for the rest it was called off. What is written in between is not claimed. Main thread.
 */
uint32_t resume_begin_flush(struct resume *resume, uint32_t live);
void resume_end_flush(struct resume *resume, uint32_t asked, uint32_t flushed, uint32_t failed);

/*
 * Saves what has changed of the maps @numbers (bit N-1), which may name more than there are. Returns all maps whose last
 * attempt failed, which is printed. Main thread.
 */
uint32_t resume_save(struct resume *resume, uint32_t numbers);

/* Destination @number's map: its file, and that printable; borrowed. */
const char *resume_path(const struct resume *resume, unsigned int number);
const char *resume_name(const struct resume *resume, unsigned int number);

/* Is it saved as it is? @error: 0, or why the last attempt failed, a positive errno. */
bool resume_is_saved(const struct resume *resume, unsigned int number, int *error);

#endif
