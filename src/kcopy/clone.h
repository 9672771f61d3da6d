/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Options to engine calls to a result.
 */
#ifndef KCOPY_CLONE_H
#define KCOPY_CLONE_H

#include "options.h"

/* kcopy's exit status: see kcopy(8). */
#define CLONE_REFUSED 128
#define CLONE_UNREPORTED 200 /* all is well, but for the report, which could not be written */

struct clone_result {
	int status; /* 0, the bitmask over the operands, or one of the above */
	int signal; /* that ended it, or 0; then it goes before status */
};

void clone_run(const struct options *options, struct clone_result *result);

/* Nothing is copied, and why was printed: the report of that, if one was asked for. */
void clone_refuse(const struct options *options);

#endif
