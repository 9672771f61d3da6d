/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Options to engine calls to a result.
 */
#ifndef KCOPY_CLONE_H
#define KCOPY_CLONE_H

#include "options.h"

/* kcopy's exit status: see kcopy(8). */
#define CLONE_REFUSED 128

struct clone_result {
	int status; /* 0, the bitmask over the operands, or CLONE_REFUSED */
	int signal; /* that ended it, or 0; then it goes before status */
};

void clone_run(const struct options *options, struct clone_result *result);

#endif
