/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Devices that do not answer, while a copy runs. Main thread only.
 */
#include "clone_copy.h"

#include <time.h>

static uint64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* Whom we wait for, at the end of the process at the latest. */
static struct stall_names find_names(const struct clone *clone)
{
	struct stall_names names = { .length = 0 };

	for (unsigned int number = 0; clone->guard.operands && number <= clone->guard.num_dests; number++)
		stall_add_name(&names, &clone->stalls[number], &clone->guard.operands[number]);
	return names;
}

void clone_stall_prepare(struct clone *clone, unsigned int pages)
{
	uint64_t share = (uint64_t)pages * KCOPYD_PAGE_BYTES / (clone->guard.num_dests + 1);

	/* Every chunk goes to every destination: one that hangs would soon have the whole reserve. */
	for (unsigned int number = 1; clone->options->stall_timeout && number <= clone->guard.num_dests; number++)
		kcopyd_device_limit(clone->guard.operands[number].bdev, share);
	/* The source is never given up, but must not hold up the client itself, which would drop nobody then. */
	if (clone->options->stall_timeout && clone->guard.operands[0].bdev)
		kcopyd_device_limit(clone->guard.operands[0].bdev, (uint64_t)pages * KCOPYD_PAGE_BYTES);
}

void clone_stall_tick(struct clone *clone)
{
	unsigned int gap_ms = stall_gap(&clone->looked_ms, now_ms());
	struct stall_names names;
	bool has_changed = false;

	for (unsigned int number = clone->guard.has_source ? 0 : 1; number <= clone->guard.num_dests; number++)
		has_changed |= stall_look(&clone->stalls[number], &clone->guard.operands[number],
					  clone->options->stall_timeout, gap_ms);
	if (!has_changed)
		return;
	names = find_names(clone);
	supervise_tell_waiting(names.text);
}

void clone_stall_tell_result(const struct clone *clone, int status, int signal)
{
	struct stall_names names = find_names(clone);

	supervise_tell_result(status, signal, names.text);
}
