/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The progress line on a terminal: percent, bytes, rate, time left; on a narrow one without some of these. Main thread
 * only.
 */
#ifndef KCOPY_PROGRESS_H
#define KCOPY_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

struct progress {
	bool is_shown;
	uint64_t start_ns;
	uint64_t last_ns;    /* of the last sample */
	uint64_t last_bytes; /* at the last sample */
	double rate;	     /* bytes a second, smoothed; 0: not known yet */
};

/* How often a line is worth drawing. */
#define PROGRESS_INTERVAL_MS 200

/*
 * Shown if standard error is a terminal and @is_wanted, and while this is in its foreground. @done_bytes: what was there
 * before, and says nothing of the rate.
 */
void progress_start(struct progress *progress, bool is_wanted, uint64_t done_bytes);
void progress_update(struct progress *progress, uint64_t done_bytes, uint64_t total_bytes, bool is_flushing);

#endif
