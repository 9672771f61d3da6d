/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Maps while a copy runs: every half a minute its destinations are flushed, beside the copy, and what was written
 * before that is then claimed by the maps and these saved. Never the other way round.
 */
#include "clone_copy.h"

#include <time.h>

#define SAVE_INTERVAL_MS 30000

static uint64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static void finish(struct clone *clone)
{
	clone_end_flush(clone);
	clone->is_unsaved = resume_save(clone->resume);
	clone->next_save_ms = now_ms() + SAVE_INTERVAL_MS;
}

static void begin(struct clone *clone)
{
	uint32_t live = clone->options->on_error == ON_ERROR_IGNORE ? ~0u : ~atomic_load(&clone->write_err);

	clone->next_save_ms = now_ms() + SAVE_INTERVAL_MS;
	clone->asked = resume_begin_flush(clone->resume, live);
	if (clone->asked)
		clone_start_flush(clone, clone->asked);
}

void clone_map_tick(struct clone *clone)
{
	if (!clone->resume)
		return;
	switch (atomic_load(&clone->flush_job.state)) {
	case JOB_DONE:
		finish(clone);
		break;
	case JOB_FREE:
		if (clone->next_save_ms == 0)
			clone->next_save_ms = now_ms() + SAVE_INTERVAL_MS;
		else if (now_ms() >= clone->next_save_ms && !clone->is_cancelled)
			begin(clone);
		break;
	case JOB_RUNNING:
		break;
	}
}

void clone_map_settle(struct clone *clone)
{
	while (atomic_load(&clone->flush_job.state) == JOB_RUNNING)
		clone_wait(clone, true);
	if (atomic_load(&clone->flush_job.state) == JOB_DONE)
		finish(clone);
}
