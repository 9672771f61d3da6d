/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Devices that do not answer, while a copy runs: who is waited for is named, once each time, and with --stall-timeout a
 * destination is dropped. Main thread only.
 */
#include "clone_copy.h"

#include <stdio.h>
#include <time.h>

#include "log.h"
#include "supervise.h"

#define WARN_MS 10000u
/* When nobody looked for so long (the process was stopped, or had something else to do), nothing is known of meanwhile. */
#define GAP_MS 1000u

static uint64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static void tell_stall(const struct operand *operand, bool is_source, enum kcopyd_op op, unsigned int ms)
{
	unsigned int seconds = ms / 1000;

	if (op == KCOPYD_OP_FLUSH)
		log_warning("%s: has been flushing for %u s; a large cache may need longer", operand->name, seconds);
	else if (is_source)
		log_warning("%s: the source has not answered for %u s", operand->name, seconds);
	else
		log_warning("%s: has completed nothing for %u s", operand->name, seconds);
}

static void drop(const struct operand *operand, struct clone_stall *stall, enum kcopyd_op op, unsigned int ms)
{
	log_warning("%s: has %s for %u s: dropped", operand->name,
		    op == KCOPYD_OP_FLUSH ? "been flushing" : "completed nothing", ms / 1000);
	stall->is_abandoned = true;
	stall->is_told = true;
	kcopyd_device_abandon(operand->bdev);
}

/* Whom we wait for, at the end of the process at the latest: they were told, and have not answered since. */
static void find_names(const struct clone *clone, char *names, size_t size)
{
	size_t length = 0;

	names[0] = '\0';
	for (unsigned int number = 0; clone->guard.operands && number <= clone->guard.num_dests; number++) {
		const struct operand *operand = &clone->guard.operands[number];
		int put;

		if (!clone->stalls[number].is_told || !operand->bdev ||
		    kcopyd_device_stalled_ms(operand->bdev, NULL) == 0)
			continue;
		put = snprintf(names + length, size - length, "%s%s", length ? ", " : "", operand->name);
		length += put > 0 && (size_t)put < size - length ? (size_t)put : 0;
	}
}

static void look_at(struct clone *clone, unsigned int number, unsigned int gap_ms)
{
	const struct operand *operand = &clone->guard.operands[number];
	struct clone_stall *stall = &clone->stalls[number];
	unsigned int timeout_ms = clone->options->stall_timeout * 1000, warn_ms = WARN_MS;
	enum kcopyd_op op = KCOPYD_OP_READ;
	unsigned int ms;

	if (!operand->bdev || stall->is_abandoned)
		return;
	ms = kcopyd_device_stalled_ms(operand->bdev, &op);
	if (stall->is_told && ms < stall->ms)
		log_info("%s: goes on, after %u s", operand->name, stall->ms / 1000);
	if (ms < stall->ms || stall->ms == 0) {
		stall->is_told = false;
		stall->gaps_ms = 0;
	}
	stall->ms = ms;
	if (ms > 0)
		stall->gaps_ms += gap_ms;
	ms = ms > stall->gaps_ms ? ms - stall->gaps_ms : 0;
	if (number > 0 && timeout_ms && ms >= timeout_ms) {
		drop(operand, stall, op, ms);
		return;
	}
	if (timeout_ms && timeout_ms < warn_ms)
		warn_ms = timeout_ms;
	if (ms < warn_ms || stall->is_told)
		return;
	stall->is_told = true;
	tell_stall(operand, number == 0, op, ms);
}

void clone_stall_prepare(struct clone *clone, unsigned int pages)
{
	uint64_t share = (uint64_t)pages * KCOPYD_PAGE_BYTES / (clone->guard.num_dests + 1);

	/* Every chunk goes to every destination: one that hangs would soon have the whole reserve. */
	for (unsigned int number = 1; clone->options->stall_timeout && number <= clone->guard.num_dests; number++)
		kcopyd_device_limit(clone->guard.operands[number].bdev, share);
}

void clone_stall_tick(struct clone *clone)
{
	char names[SUPERVISE_NAMES_BYTES];
	uint64_t now = now_ms();
	bool was_told, has_changed = false;
	unsigned int gap_ms = 0;

	if (clone->looked_ms && now - clone->looked_ms > GAP_MS)
		gap_ms = (unsigned int)(now - clone->looked_ms);
	clone->looked_ms = now;
	for (unsigned int number = clone->guard.has_source ? 0 : 1; number <= clone->guard.num_dests; number++) {
		was_told = clone->stalls[number].is_told;
		look_at(clone, number, gap_ms);
		has_changed |= clone->stalls[number].is_told != was_told;
	}
	if (has_changed) {
		find_names(clone, names, sizeof(names));
		supervise_tell_waiting(names);
	}
}

void clone_stall_tell_result(const struct clone *clone, int status, int signal)
{
	char names[SUPERVISE_NAMES_BYTES];

	find_names(clone, names, sizeof(names));
	supervise_tell_result(status, signal, names);
}
