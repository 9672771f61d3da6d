/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * --jobs: many copies over one client, several under way at a time, from a list that is read line by line.
 */
#ifndef KCOPY_JOBS_H
#define KCOPY_JOBS_H

#include "clone.h"
#include "options.h"

/* As clone_run(), for options->jobs_path. */
void jobs_run(const struct options *options, struct clone_result *result);

#endif
