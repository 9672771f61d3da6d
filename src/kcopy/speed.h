/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * --limit and --throttle: their values, from text and for people. No system calls, no state.
 */
#ifndef KCOPY_SPEED_H
#define KCOPY_SPEED_H

#include <stdbool.h>
#include <stdint.h>

struct speed {
	bool has_limit; /* it was asked for, as ... */
	bool has_throttle;
	uint64_t limit;	       /* bytes read a second; 0: any number */
	unsigned int throttle; /* percent; 100: none */
};

/* 0 or -errno; @reason: what is wrong, static. */
int speed_parse_limit(const char *text, struct speed *speed, const char **reason);
int speed_parse_throttle(const char *text, struct speed *speed, const char **reason);

/* "limit 50 MiB/s, throttle 20 %". Returns @buffer. */
#define SPEED_CHARS 64
const char *speed_format(const struct speed *speed, char buffer[SPEED_CHARS]);

#endif
