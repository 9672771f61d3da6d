/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Flushes beside a copy that runs: of each device once, when all is written to it; and with maps every half a minute. What
 * was written before that is then claimed by its destinations' maps and these saved. Never the other way round.
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

void clone_map_save(struct clone *clone, uint32_t numbers)
{
	if (clone->resume)
		resume_save(clone->resume, numbers);
}

static void begin(struct clone *clone, struct clone_flush *flush)
{
	uint32_t live = clone->options->on_error == ON_ERROR_IGNORE ? ~0u : ~atomic_load(&clone->write_err);

	flush->asked = resume_begin_flush(clone->resume, flush->numbers & live);
	if (flush->asked)
		clone_flush_begin(clone, flush, flush->numbers);
	else
		clone_map_save(clone, flush->numbers); /* what is unreadable */
}

static void tick(struct clone *clone, struct clone_flush *flush)
{
	switch (atomic_load(&flush->job.state)) {
	case JOB_DONE:
		clone_flush_end(clone, flush);
		break;
	case JOB_FREE:
		if (clone->is_cancelled || atomic_load(&clone->is_stopped) || clone_flush_whole(clone, flush))
			return;
		if (!clone->resume || (flush->due_ms && now_ms() < flush->due_ms))
			return;
		if (flush->due_ms)
			begin(clone, flush);
		break;
	case JOB_RUNNING:
		break;
	}
	flush->due_ms = now_ms() + SAVE_INTERVAL_MS;
}

void clone_flush_tick(struct clone *clone)
{
	for (unsigned int i = 0; i < clone->num_flushes; i++)
		tick(clone, &clone->flushes[i]);
}
