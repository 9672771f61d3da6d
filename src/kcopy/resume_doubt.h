/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Is what a map claims still there? With --force a copy goes on over whatever the destination holds by now. Reads devices;
 * called by resume, before the copy.
 */
#ifndef KCOPY_RESUME_DOUBT_H
#define KCOPY_RESUME_DOUBT_H

#include <stdbool.h>

#include "map.h"
#include "operand.h"

/*
 * Holds the destination, where its map claims the source's data, something else: what pre-flight found there and called
 * foreign? True also if that cannot be read; not if the source cannot.
 */
bool resume_is_overwritten(const struct map *map, const struct operand *source, const struct operand *operand);

#endif
