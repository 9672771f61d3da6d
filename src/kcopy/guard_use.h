/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Pre-flight's part that asks who else uses what is to be written or read, by all its names. Devices that are open
 * are claimed already (O_EXCL): this finds what the claim does not reach.
 */
#ifndef KCOPY_GUARD_USE_H
#define KCOPY_GUARD_USE_H

#include "guard.h"

/* All operands are open and placed. Prints what forbids the copy, of destinations; and warns, of the source. */
void guard_check_use(struct guard *guard);

/* The same for one: a destination of @guard, which has all that we have open; or a source, whatever else is open. */
void guard_check_destination(const struct guard *guard, struct operand *operand);
void guard_check_source(struct operand *operand);

#endif
