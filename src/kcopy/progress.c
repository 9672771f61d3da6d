/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "progress.h"

#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "log.h"
#include "signals.h"
#include "units.h"

/* The rate follows the last seconds, not the last tick and not the whole run. */
#define SMOOTHING_SECONDS 5.0
#define NS_PER_SECOND 1000000000.0
#define LINE_CHARS 160

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * (uint64_t)NS_PER_SECOND + (uint64_t)now.tv_nsec;
}

void progress_start(struct progress *progress, bool is_wanted, uint64_t done_bytes)
{
	*progress = (struct progress){ .is_shown = is_wanted && isatty(STDERR_FILENO), .last_bytes = done_bytes };
	progress->start_ns = now_ns();
	progress->last_ns = progress->start_ns;
}

static void measure(struct progress *progress, uint64_t done_bytes)
{
	uint64_t now = now_ns();
	double seconds = (double)(now - progress->last_ns) / NS_PER_SECOND;
	double rate, weight;

	if (seconds < PROGRESS_INTERVAL_MS / 2000.0 || done_bytes < progress->last_bytes)
		return;
	rate = (double)(done_bytes - progress->last_bytes) / seconds;
	weight = progress->rate > 0 ? seconds / (seconds + SMOOTHING_SECONDS) : 1;
	progress->rate += weight * (rate - progress->rate);
	progress->last_ns = now;
	progress->last_bytes = done_bytes;
}

static void format_duration(double seconds, char *buffer, size_t size)
{
	unsigned long whole = seconds < 1e9 ? (unsigned long)(seconds + 0.5) : 1000000000;

	if (whole >= 360000)
		snprintf(buffer, size, "%lu days", whole / 86400);
	else if (whole >= 3600)
		snprintf(buffer, size, "%lu:%02lu:%02lu", whole / 3600, whole / 60 % 60, whole % 60);
	else
		snprintf(buffer, size, "%lu:%02lu", whole / 60, whole % 60);
}

/* What there is to say beside the percentage; what is empty is not known. */
struct fields {
	char sizes[2 * UNITS_SIZE_CHARS + 8];
	char rate[UNITS_SIZE_CHARS + 8];
	char state[48]; /* what it is about to do, or how long it still takes */
};

/* A line that is longer than this wraps, and is not overwritten by the next one. */
static size_t ask_width(void)
{
	struct winsize size;

	return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col - 1u : LINE_CHARS - 1;
}

static void join(const char *const *fields, size_t num, const char *percent, char *line)
{
	const char *before = "  ";
	int length = snprintf(line, LINE_CHARS, "%s", percent);

	for (size_t i = 0; i < num; i++) {
		if (!fields[i][0])
			continue;
		length += snprintf(line + length, LINE_CHARS - (size_t)length, "%s%s", before, fields[i]);
		before = ", ";
	}
}

/* As much as there is room for, in whole fields: a number that is cut off is another one. */
static void compose(const struct fields *fields, const char *percent, char *line)
{
	const char *const variants[][3] = {
		{ fields->sizes, fields->rate, fields->state },
		{ fields->sizes, fields->state, "" },
		{ fields->state, "", "" },
		{ "", "", "" },
	};
	size_t width = ask_width();

	for (size_t i = 0; i < sizeof(variants) / sizeof(variants[0]); i++) {
		join(variants[i], 3, percent, line);
		if (strlen(line) <= width)
			return;
	}
	line[0] = '\0';
}

/* A job in the background does not write over what its user types. Of another terminal than ours nothing is known. */
static bool is_in_background(void)
{
	pid_t foreground = tcgetpgrp(STDERR_FILENO);

	return foreground >= 0 && foreground != getpgrp();
}

void progress_update(struct progress *progress, uint64_t done_bytes, uint64_t total_bytes, bool is_flushing)
{
	char done[UNITS_SIZE_CHARS], total[UNITS_SIZE_CHARS], rate[UNITS_SIZE_CHARS], left[32], line[LINE_CHARS];
	struct fields fields = { .rate = "" };
	char percent[16];
	unsigned int part;

	if (!progress->is_shown || !total_bytes)
		return;
	measure(progress, done_bytes);
	if (is_in_background())
		return;
	/* Written is not stored: 100 % is only ever said by the lines at the end. */
	part = (unsigned int)((double)done_bytes / (double)total_bytes * 100);
	snprintf(percent, sizeof(percent), "%3u %%", part > 99 ? 99 : part);
	snprintf(fields.sizes, sizeof(fields.sizes), "%s of %s", units_format_bytes(done_bytes, done),
		 units_format_bytes(total_bytes, total));
	if (is_flushing) {
		snprintf(fields.state, sizeof(fields.state), "flushing");
	} else if (signals_pending()) {
		/* The rest is not copied any more. */
		snprintf(fields.state, sizeof(fields.state), "ending");
	} else if (progress->rate >= 1) {
		format_duration((double)(total_bytes - done_bytes) / progress->rate, left, sizeof(left));
		snprintf(fields.rate, sizeof(fields.rate), "%s/s", units_format_bytes((uint64_t)progress->rate, rate));
		snprintf(fields.state, sizeof(fields.state), "%s left", left);
	}
	compose(&fields, percent, line);
	log_status(line);
}
