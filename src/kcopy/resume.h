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

struct resume;

/*
 * The maps of @guard's operands, which are placed: @path, or @path.1 ... of several destinations. What exists is loaded;
 * what is wrong with it is printed (-EINVAL). Tells the operands whether what they hold is this very copy, begun
 * (operand->trust). @guard is borrowed.
 */
int resume_create(struct guard *guard, const char *path, struct resume **result);
void resume_destroy(struct resume *resume); /* NULL is allowed */

/*
 * The next range of the source's region, in its sectors, at @from or behind it, that the same destinations (bit N-1:
 * destination N) of @live lack. False: there is none.
 */
bool resume_next(struct resume *resume, sector_t from, uint32_t live, struct io_region *range, uint32_t *dests);

/* Sectors that destination @number lacks, does not hold from its start on without a gap, and has on stable storage. */
sector_t resume_missing(struct resume *resume, unsigned int number);
sector_t resume_contiguous(struct resume *resume, unsigned int number);
sector_t resume_flushed(struct resume *resume, unsigned int number);

/* What the engine's observer learns, in sectors of the source. Any thread. */
void resume_written(struct resume *resume, unsigned int number, sector_t sector, sector_t count);
void resume_unreadable(struct resume *resume, sector_t sector, sector_t count);

/*
 * Around a flush: which of @live have something that it would bring to stable storage; and for which of these (@asked)
 * it did, or failed; for the rest it was called off. What is written in between is not claimed. Main thread.
 */
uint32_t resume_begin_flush(struct resume *resume, uint32_t live);
void resume_end_flush(struct resume *resume, uint32_t asked, uint32_t flushed, uint32_t failed);

/* Saves every map. The maps (bit N-1) that could not be saved, which is printed. Main thread. */
uint32_t resume_save(struct resume *resume);

#endif
