/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * While jobs run: waiting, signals, devices that do not answer, and who asks for another speed.
 */
#include "jobs_run.h"

#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "log.h"
#include "signals.h"

#define WARN_MS 10000u

static void look_at_stalls(struct jobs *jobs)
{
	for (unsigned int i = 0; i < POOL_MOST; i++) {
		struct pool_entry *entry = pool_at(jobs->pool, i);
		unsigned int ms = entry ? kcopyd_device_stalled_ms(entry->operand->bdev, NULL) : 0;

		if (!entry)
			continue;
		if (entry->is_told && ms < entry->stalled_ms) {
			log_info("%s: goes on, after %u s", entry->operand->name, entry->stalled_ms / 1000);
			entry->is_told = false;
		}
		entry->stalled_ms = ms;
		if (ms < WARN_MS || entry->is_told)
			continue;
		entry->is_told = true;
		log_warning("%s: has completed nothing for %u s", entry->operand->name, ms / 1000);
	}
}

/* Everything that was started ends soon, and nothing is started any more. */
static void cancel(struct jobs *jobs)
{
	jobs->is_cancelled = true;
	if (jobs->client)
		kcopyd_client_cancel(jobs->client);
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
	look_at_stalls(jobs);
	progress_update(&jobs->progress, jobs->done_bytes, jobs->total_bytes, false);
}
