/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * While jobs run: waiting, signals, and who asks for another speed.
 */
#include "jobs_run.h"

#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "log.h"
#include "signals.h"

/* Everything that was started ends soon, and nothing is started any more. */
static void cancel(struct jobs *jobs)
{
	jobs->is_cancelled = true;
	if (jobs->client)
		kcopyd_client_cancel(jobs->client);
}

/* Bytes that lines have written which have not ended; of several destinations, what the slowest one has. */
static uint64_t count_under_way(const struct jobs *jobs)
{
	uint64_t sum = 0, done_bytes, total_bytes;

	for (unsigned int i = 0; i < jobs->flight.num; i++) {
		const struct line *line = jobs->flight.lines[i];

		if (!line->report)
			continue;
		report_ask_progress(line->report, &done_bytes, &total_bytes);
		sum += done_bytes * line->guard.num_dests;
	}
	return sum;
}

void jobs_wait(struct jobs *jobs, bool is_reading)
{
	struct pollfd fds[] = {
		{ .fd = jobs->done_fd, .events = POLLIN },
		{ .fd = jobs->is_cancelled ? -1 : signals_fd(), .events = POLLIN },
		{ .fd = is_reading ? job_list_fd(jobs->list) : -1, .events = POLLIN },
		{ .fd = pace_fd(&jobs->pace), .events = POLLIN },
	};
	uint64_t count;

	if (poll(fds, 4, jobs_may_wait(jobs) ? PROGRESS_INTERVAL_MS : 0) < 0)
		fds[0].revents = 0;
	if (fds[0].revents)
		(void)!read(jobs->done_fd, &count, sizeof(count));
	if (signals_pending() && !jobs->is_cancelled) {
		cancel(jobs);
		log_warning("%s: ending in order; once more to end at once", strsignal(signals_pending()));
	}
	/* What was accepted just behind the first failure missed its cancel. */
	if (atomic_load(&jobs->is_stopped) && !jobs->is_cancelled)
		cancel(jobs);
	pool_doubt_names(jobs->pool);
	pace_tick(&jobs->pace);
	jobs_stall_tick(jobs);
	if (jobs->progress.is_shown)
		progress_update(&jobs->progress, jobs->done_bytes + count_under_way(jobs), jobs->total_bytes, false);
}
