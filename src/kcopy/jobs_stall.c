/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Devices that do not answer, while jobs run: as for one copy (clone_stall.c), but for all that are open. A destination that
 * was dropped stays open, and whatever is to be written to it fails. Main thread only.
 */
#include "jobs_run.h"
#include "stall.h"

/* Whom we wait for. */
static struct stall_names find_names(struct jobs *jobs)
{
	struct stall_names names = { .length = 0 };

	for (unsigned int i = 0; jobs->pool && i < POOL_MOST; i++) {
		const struct pool_entry *entry = pool_at(jobs->pool, i);

		if (entry)
			stall_add_name(&names, &entry->stall, entry->operand);
	}
	return names;
}

void jobs_stall_tick(struct jobs *jobs)
{
	unsigned int gap_ms = stall_gap(&jobs->looked_ms, jobs_now_ms());
	struct stall_names names;
	bool has_changed = false;

	for (unsigned int i = 0; i < POOL_MOST; i++) {
		struct pool_entry *entry = pool_at(jobs->pool, i);

		if (entry)
			has_changed |= stall_look(&entry->stall, entry->operand, jobs->options->stall_timeout, gap_ms);
	}
	if (!has_changed)
		return;
	names = find_names(jobs);
	supervise_tell_waiting(names.text);
}

void jobs_stall_tell_result(struct jobs *jobs, const struct clone_result *result)
{
	struct stall_names names = find_names(jobs);

	supervise_tell_result(result->status, result->signal, names.text);
}

void jobs_stall_describe(const struct line *line, struct report_facts *facts)
{
	for (unsigned int number = 1; number <= line->guard.num_dests; number++) {
		const struct pool_entry *entry = line->extents[number].entry;

		facts->stalled |= (uint32_t)entry->stall.is_told << (number - 1);
		facts->abandoned |= (uint32_t)entry->stall.is_abandoned << (number - 1);
	}
}
