/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "stall.h"

#include <stdio.h>

#include "log.h"

#define WARN_MS 10000u
#define GAP_MS 1000u

static bool is_source(const struct operand *operand)
{
	return operand->number == 0;
}

static void tell(const struct operand *operand, enum kcopyd_op op, unsigned int ms)
{
	unsigned int seconds = ms / 1000;

	if (op == KCOPYD_OP_FLUSH)
		log_warning("%s: has been flushing for %u s; a large cache may need longer", operand->name, seconds);
	else if (is_source(operand))
		log_warning("%s: the source has not answered for %u s", operand->name, seconds);
	else
		log_warning("%s: has completed nothing for %u s", operand->name, seconds);
}

static void drop(struct stall *stall, const struct operand *operand, enum kcopyd_op op, unsigned int ms)
{
	log_warning("%s: has %s for %u s: dropped", operand->name,
		    op == KCOPYD_OP_FLUSH ? "been flushing" : "completed nothing", ms / 1000);
	stall->is_abandoned = true;
	stall->is_told = true;
	kcopyd_device_abandon(operand->bdev);
}

unsigned int stall_gap(uint64_t *looked_ms, uint64_t now_ms)
{
	uint64_t gap_ms = *looked_ms ? now_ms - *looked_ms : 0;

	*looked_ms = now_ms;
	return gap_ms > GAP_MS ? (unsigned int)gap_ms : 0;
}

bool stall_look(struct stall *stall, const struct operand *operand, unsigned int timeout, unsigned int gap_ms)
{
	unsigned int timeout_ms = timeout * 1000, warn_ms = WARN_MS;
	enum kcopyd_op op = KCOPYD_OP_READ;
	bool was_told = stall->is_told;
	unsigned int ms;

	if (!operand->bdev || stall->is_abandoned)
		return false;
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
	if (timeout_ms && timeout_ms < warn_ms)
		warn_ms = timeout_ms;
	if (!is_source(operand) && timeout_ms && ms >= timeout_ms) {
		drop(stall, operand, op, ms);
	} else if (ms >= warn_ms && !stall->is_told) {
		stall->is_told = true;
		tell(operand, op, ms);
	}
	return stall->is_told != was_told;
}

void stall_add_name(struct stall_names *names, const struct stall *stall, const struct operand *operand)
{
	size_t room = sizeof(names->text) - names->length;
	int put;

	if (!stall->is_told || !operand->bdev || kcopyd_device_stalled_ms(operand->bdev, NULL) == 0)
		return;
	put = snprintf(names->text + names->length, room, "%s%s", names->length ? ", " : "", operand->name);
	names->length += put > 0 && (size_t)put < room ? (size_t)put : 0;
}
