/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Pre-flight: everything that may forbid the copy, for all operands, before the first write to any of them. Prints
 * every problem.
 */
#ifndef KCOPY_GUARD_H
#define KCOPY_GUARD_H

#include "expect.h"
#include "lock.h"
#include "operand.h"

struct guard_options {
	bool is_forced;	  /* destinations may hold something */
	bool is_dry;	  /* nothing is opened for writing, or changed */
	bool wants_disks; /* operand->disk is filled, whatever else is asked for */
	enum lock_mode lock_mode;
	unsigned int num_expects;
	struct expect *expects; /* owned by whoever filled it */
};

/* operands[0] is the source (unused if there is none), operands[1 ... num_dests] the destinations. */
struct guard {
	const struct guard_options *options; /* borrowed */
	bool has_source;
	unsigned int num_dests;
	struct operand *operands; /* owned */
	struct locks *locks;	  /* owned */
	bool is_unexpected;	  /* --expect names an operand that is not there */
	bool is_unreportable;	  /* set by who cannot report where that was asked for */
	bool is_interrupted;	  /* by a signal, while it waited for a lock */
};

/*
 * Opens, locks and places all operands and finds what is wrong with them, but for what destinations hold; prints it, and
 * goes on. Nothing is changed. @options is borrowed until guard_close(), which is due whatever comes back.
 * @specs: as the user wrote them, the source first unless @has_source is false. 0 or -ENOMEM.
 */
int guard_open(const struct guard_options *options, const char **specs, unsigned int num_specs, bool has_source,
	       struct guard *guard);

/*
 * The rest. 0: destinations are created and long enough (unless is_dry). -EINVAL: refused, by this or guard_open();
 * nothing has changed.
 */
int guard_check(struct guard *guard);

/* -- steps of these, for who opens operands in another way ----------------------------------------- */

/* Where their regions are, and whether they overlap. Of what is bad already nothing is said. */
void guard_place(struct guard *guard);

/* What we say must not end up on what we copy. */
void guard_check_output(struct operand *operand);

/* Tells what came of a wish to lock the operand's disk. */
void guard_tell_lock(struct operand *operand, const struct lock_wish *wish);

bool guard_is_refused(const struct guard *guard);

/* -------------------------------------------------------------------------------------------------- */

/* Removes and shortens what guard_check() created and extended: nothing was written after all. */
void guard_undo(struct guard *guard);

void guard_close(struct guard *guard);

#endif
