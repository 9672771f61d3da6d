/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "progress.h"

#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "log.h"
#include "units.h"

/* The rate follows the last seconds, not the last tick and not the whole run. */
#define SMOOTHING_SECONDS 5.0
#define NS_PER_SECOND 1000000000.0

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * (uint64_t)NS_PER_SECOND + (uint64_t)now.tv_nsec;
}

void progress_start(struct progress *progress, bool is_wanted)
{
	*progress = (struct progress){ .is_shown = is_wanted && isatty(STDERR_FILENO) };
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

/* A line that is longer than the terminal is wide wraps, and is not overwritten by the next one. */
static void fit(char *line)
{
	struct winsize size;

	if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 && strlen(line) >= size.ws_col)
		line[size.ws_col - 1] = '\0';
}

/* A job in the background does not write over what its user types. Of another terminal than ours nothing is known. */
static bool is_in_background(void)
{
	pid_t foreground = tcgetpgrp(STDERR_FILENO);

	return foreground >= 0 && foreground != getpgrp();
}

void progress_update(struct progress *progress, uint64_t done_bytes, uint64_t total_bytes, bool is_flushing)
{
	char done[UNITS_SIZE_CHARS], total[UNITS_SIZE_CHARS], rate[UNITS_SIZE_CHARS], left[32], line[160];
	unsigned int percent;

	if (!progress->is_shown || !total_bytes)
		return;
	measure(progress, done_bytes);
	if (is_in_background())
		return;
	/* Written is not stored: 100 % is only ever said by the lines at the end. */
	percent = (unsigned int)((double)done_bytes / (double)total_bytes * 100);
	if (percent > 99)
		percent = 99;
	units_format_bytes(done_bytes, done);
	units_format_bytes(total_bytes, total);
	if (is_flushing) {
		snprintf(line, sizeof(line), "%3u %%  %s of %s, flushing", percent, done, total);
	} else if (progress->rate < 1) {
		snprintf(line, sizeof(line), "%3u %%  %s of %s", percent, done, total);
	} else {
		units_format_bytes((uint64_t)progress->rate, rate);
		format_duration((double)(total_bytes - done_bytes) / progress->rate, left, sizeof(left));
		snprintf(line, sizeof(line), "%3u %%  %s of %s, %s/s, %s left", percent, done, total, rate, left);
	}
	fit(line);
	log_status(line);
}
