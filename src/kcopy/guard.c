/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "guard.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "log.h"

static bool is_refused(const struct guard *guard)
{
	for (unsigned int i = 0; i <= guard->num_dests; i++)
		if (guard->operands[i].is_bad)
			return true;
	return false;
}

/* Claims of others are asked for before we make our own: on one disk ours would look the same. */
static void ask_busy(struct guard *guard)
{
	unsigned int blocks = 0;

	for (unsigned int i = 1; i <= guard->num_dests; i++)
		blocks += guard->operands[i].is_block;
	for (unsigned int i = 1; blocks > 1 && i <= guard->num_dests; i++)
		operand_ask_busy(&guard->operands[i]);
}

static void open_all(struct guard *guard)
{
	unsigned int first = guard->has_source ? 0 : 1;

	for (unsigned int i = first; i <= guard->num_dests; i++)
		operand_look(&guard->operands[i]);
	ask_busy(guard);
	for (unsigned int i = first; i <= guard->num_dests; i++)
		operand_open(&guard->operands[i], guard->operands);
}

static void place_all(struct guard *guard)
{
	sector_t count = 0;

	if (guard->has_source) {
		operand_place(&guard->operands[0], 0);
		if (guard->operands[0].is_bad)
			return; /* without a count, nothing can be said of the others */
		count = guard->operands[0].region.count;
	}
	for (unsigned int i = 1; i <= guard->num_dests; i++)
		operand_place(&guard->operands[i], count);
}

static void check_pair(struct operand *a, struct operand *b)
{
	if (!a->region.bdev || !b->region.bdev || !kcopyd_regions_overlap(&a->region, &b->region))
		return;
	if (a->number == 0)
		operand_problem(b, "destination %u overlaps the source, %s; nothing is copied onto itself", b->number,
				a->name);
	else
		operand_problem(b, "destination %u overlaps destination %u, %s", b->number, a->number, a->name);
}

static void check_overlap(struct guard *guard)
{
	for (unsigned int i = guard->has_source ? 0 : 1; i <= guard->num_dests; i++)
		for (unsigned int j = i + 1; j <= guard->num_dests; j++)
			check_pair(&guard->operands[i], &guard->operands[j]);
}

/* What we say must not end up on what we copy: kcopy a b 2>b */
static void check_output(struct operand *operand)
{
	static const char *const names[] = { [STDOUT_FILENO] = "output", [STDERR_FILENO] = "error" };

	for (int fd = STDOUT_FILENO; operand->bdev && fd <= STDERR_FILENO; fd++)
		if (kcopyd_device_is_behind(operand->bdev, fd))
			operand_problem(operand, "standard %s goes there too; send it elsewhere", names[fd]);
}

/* What reads as zeros behind the end of a source, or is added to a file that is zeroed to its end. */
static void tell_padding(const struct operand *operand)
{
	uint64_t bytes, rest;

	bytes = kcopyd_device_bytes(operand->bdev);
	rest = bytes % KCOPYD_SECTOR_BYTES;
	if (rest && operand->region.sector + operand->region.count == kcopyd_device_sectors(operand->bdev))
		log_info("%s: its length of %" PRIu64
			 " bytes is no whole number of sectors; the last one is padded with %" PRIu64 " zero bytes",
			 operand->name, bytes, KCOPYD_SECTOR_BYTES - rest);
}

static void prepare_all(struct guard *guard)
{
	for (unsigned int i = 1; i <= guard->num_dests && !is_refused(guard); i++)
		operand_prepare(&guard->operands[i]);
	if (is_refused(guard))
		guard_undo(guard);
}

int guard_check(const char **specs, unsigned int num_specs, bool has_source, struct guard *guard)
{
	unsigned int first = has_source ? 0 : 1;

	guard->has_source = has_source;
	guard->num_dests = 0;
	guard->operands = calloc(num_specs + first, sizeof(guard->operands[0]));
	if (!guard->operands) {
		log_error("%s", strerror(ENOMEM));
		return -EINVAL;
	}
	guard->num_dests = num_specs + first - 1;
	guard->operands[0].dir_fd = -1;
	for (unsigned int i = first; i <= guard->num_dests; i++)
		operand_parse(&guard->operands[i], i, specs[i - first]);
	open_all(guard);
	place_all(guard);
	check_overlap(guard);
	for (unsigned int i = first; i <= guard->num_dests; i++)
		check_output(&guard->operands[i]);
	if (!is_refused(guard))
		prepare_all(guard);
	if (is_refused(guard)) {
		log_error("nothing was written");
		return -EINVAL;
	}
	for (unsigned int i = first; i <= (has_source ? 0 : guard->num_dests); i++)
		tell_padding(&guard->operands[i]);
	return 0;
}

void guard_undo(struct guard *guard)
{
	for (unsigned int i = guard->num_dests; i > 0; i--)
		operand_undo(&guard->operands[i]);
}

void guard_close(struct guard *guard)
{
	for (unsigned int i = guard->num_dests + 1; guard->operands && i > 0; i--)
		operand_close(&guard->operands[i - 1]);
	free(guard->operands);
	guard->operands = NULL;
}
