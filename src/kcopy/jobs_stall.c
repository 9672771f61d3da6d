/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Devices that do not answer, while jobs run: as for one copy (clone_stall.c), but for all that are open. A destination that
 * was dropped stays open, and whatever is to be written to it fails. Main thread only.
 */
#include "jobs_run.h"

#include <stdio.h>

#include "log.h"
#include "supervise.h"

#define WARN_MS 10000u
/* When nobody looked for so long nothing is known of meanwhile. */
#define GAP_MS 1000u

static bool is_source(const struct pool_entry *entry)
{
	return entry->operand->number == 0;
}

static void tell_stall(const struct pool_entry *entry, enum kcopyd_op op, unsigned int ms)
{
	const char *name = entry->operand->name;
	unsigned int seconds = ms / 1000;

	if (op == KCOPYD_OP_FLUSH)
		log_warning("%s: has been flushing for %u s; a large cache may need longer", name, seconds);
	else if (is_source(entry))
		log_warning("%s: the source has not answered for %u s", name, seconds);
	else
		log_warning("%s: has completed nothing for %u s", name, seconds);
}

static void drop(struct pool_entry *entry, enum kcopyd_op op, unsigned int ms)
{
	log_warning("%s: has %s for %u s: dropped", entry->operand->name,
		    op == KCOPYD_OP_FLUSH ? "been flushing" : "completed nothing", ms / 1000);
	entry->is_abandoned = true;
	entry->is_told = true;
	kcopyd_device_abandon(entry->operand->bdev);
}

/* Whom we wait for: they were told, and have not answered since. */
static void find_names(struct jobs *jobs, char *names, size_t size)
{
	size_t length = 0;

	names[0] = '\0';
	for (unsigned int i = 0; jobs->pool && i < POOL_MOST; i++) {
		const struct pool_entry *entry = pool_at(jobs->pool, i);
		int put;

		if (!entry || !entry->is_told || kcopyd_device_stalled_ms(entry->operand->bdev, NULL) == 0)
			continue;
		put = snprintf(names + length, size - length, "%s%s", length ? ", " : "", entry->operand->name);
		length += put > 0 && (size_t)put < size - length ? (size_t)put : 0;
	}
}

static void look_at(const struct jobs *jobs, struct pool_entry *entry, unsigned int gap_ms)
{
	unsigned int timeout_ms = jobs->options->stall_timeout * 1000, warn_ms = WARN_MS;
	enum kcopyd_op op = KCOPYD_OP_READ;
	unsigned int ms = kcopyd_device_stalled_ms(entry->operand->bdev, &op);

	if (entry->is_told && ms < entry->stalled_ms)
		log_info("%s: goes on, after %u s", entry->operand->name, entry->stalled_ms / 1000);
	if (ms < entry->stalled_ms || entry->stalled_ms == 0) {
		entry->is_told = false;
		entry->gaps_ms = 0;
	}
	entry->stalled_ms = ms;
	if (ms > 0)
		entry->gaps_ms += gap_ms;
	ms = ms > entry->gaps_ms ? ms - entry->gaps_ms : 0;
	if (!is_source(entry) && timeout_ms && ms >= timeout_ms) {
		drop(entry, op, ms);
		return;
	}
	if (timeout_ms && timeout_ms < warn_ms)
		warn_ms = timeout_ms;
	if (ms < warn_ms || entry->is_told)
		return;
	entry->is_told = true;
	tell_stall(entry, op, ms);
}

void jobs_stall_tick(struct jobs *jobs)
{
	char names[SUPERVISE_NAMES_BYTES];
	uint64_t now = jobs_now_ms();
	unsigned int gap_ms = 0;
	bool has_changed = false;

	if (jobs->looked_ms && now - jobs->looked_ms > GAP_MS)
		gap_ms = (unsigned int)(now - jobs->looked_ms);
	jobs->looked_ms = now;
	for (unsigned int i = 0; i < POOL_MOST; i++) {
		struct pool_entry *entry = pool_at(jobs->pool, i);
		bool was_told = entry && entry->is_told;

		if (!entry || entry->is_abandoned)
			continue;
		look_at(jobs, entry, gap_ms);
		has_changed |= entry->is_told != was_told;
	}
	if (has_changed) {
		find_names(jobs, names, sizeof(names));
		supervise_tell_waiting(names);
	}
}

void jobs_stall_tell_result(struct jobs *jobs, const struct clone_result *result)
{
	char names[SUPERVISE_NAMES_BYTES];

	find_names(jobs, names, sizeof(names));
	supervise_tell_result(result->status, result->signal, names);
}

void jobs_stall_describe(const struct line *line, struct report_facts *facts)
{
	for (unsigned int number = 1; number <= line->guard.num_dests; number++) {
		const struct pool_entry *entry = line->extents[number].entry;

		facts->stalled |= (uint32_t)entry->is_told << (number - 1);
		facts->abandoned |= (uint32_t)entry->is_abandoned << (number - 1);
	}
}
