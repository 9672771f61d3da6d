/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Devices that do not answer, while something is copied: who is waited for is named, once each time, and a destination is
 * dropped, if that is wanted. Main thread only.
 */
#ifndef KCOPY_STALL_H
#define KCOPY_STALL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "operand.h"
#include "supervise.h"

/* What is known of an operand that does not answer; all zero to begin with. */
struct stall {
	unsigned int ms;      /* when it was looked at last; 0: it does */
	unsigned int gaps_ms; /* of these, nobody looked for so long */
	bool is_told;
	bool is_abandoned; /* it is not touched any more */
};

/* Those that are waited for, for supervise_tell_waiting(); empty to begin with. */
struct stall_names {
	char text[SUPERVISE_NAMES_BYTES];
	size_t length;
};

/*
 * How long nobody has looked: the process was stopped, or had something else to do, and nothing is known of meanwhile. 0:
 * not for long. @looked_ms: when somebody did last, 0: never yet; CLOCK_MONOTONIC; becomes @now_ms.
 */
unsigned int stall_gap(uint64_t *looked_ms, uint64_t now_ms);

/*
 * Looks at an open operand. Names it after 10 s; after @timeout seconds, if not 0, abandons the device of a destination,
 * and says so. True: is_told is another now.
 */
bool stall_look(struct stall *stall, const struct operand *operand, unsigned int timeout, unsigned int gap_ms);

/* Adds it, if it was named and has not answered since. */
void stall_add_name(struct stall_names *names, const struct stall *stall, const struct operand *operand);

#endif
