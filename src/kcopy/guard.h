/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Pre-flight: everything that may forbid the copy, for all operands, before the first write to any of them. Prints
 * every problem.
 */
#ifndef KCOPY_GUARD_H
#define KCOPY_GUARD_H

#include "operand.h"

/* operands[0] is the source (unused if there is none), operands[1 ... num_dests] the destinations. */
struct guard {
	bool has_source;
	unsigned int num_dests;
	struct operand *operands; /* owned */
};

/*
 * @specs: as the user wrote them, the source first unless @has_source is false.
 * 0: all operands are open, placed, created and long enough. -EINVAL: refused; nothing has changed. guard_close() is
 * due in both cases.
 */
int guard_check(const char **specs, unsigned int num_specs, bool has_source, struct guard *guard);

/* Removes and shortens what guard_check() created and extended: nothing was written after all. */
void guard_undo(struct guard *guard);

void guard_close(struct guard *guard);

#endif
