/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "guard.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "guard_use.h"
#include "log.h"
#include "text.h"

/* As far as what has no UUID is compared. */
#define SAME_BYTES 65536u

bool guard_is_refused(const struct guard *guard)
{
	if (guard->is_unexpected || guard->is_interrupted || guard->is_unreportable)
		return true;
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

/* -- locks --------------------------------------------------------------------------------------- */

void guard_tell_lock(struct operand *operand, const struct lock_wish *wish)
{
	char *printable = wish->whole_path ? text_printable(wish->whole_path) : NULL, *holder = NULL;
	const char *path = printable ? printable : "its disk";
	bool is_itself = strcmp(path, operand->name) == 0;

	switch (wish->error) {
	case 0:
		break;
	case -EINTR:
		operand->is_bad = true; /* the signal says it all */
		break;
	case -EWOULDBLOCK:
		holder = wish->whole_path ? lock_holder(wish->whole_path) : NULL;
		operand_problem(operand, "%s%sis locked by %s; wait for it, or let kcopy wait: --lock=yes",
				is_itself ? "" : path, is_itself ? "" : " ", holder ? holder : "another program");
		break;
	default:
		operand->lock_error = -wish->error; /* told if nothing worse is */
	}
	free(printable);
	free(holder);
}

/* Whole disks, before anything of them is looked at. Files are locked when they are open. */
static void lock_disks(struct guard *guard)
{
	struct lock_wish *wishes = calloc(guard->num_dests + 1, sizeof(wishes[0]));
	struct operand **whose = calloc(guard->num_dests + 1, sizeof(whose[0]));
	unsigned int num = 0;
	int ret = 0;

	if (!wishes || !whose) {
		operand_problem(&guard->operands[1], "%s", strerror(ENOMEM));
		goto out;
	}
	for (unsigned int i = guard->has_source ? 0 : 1; i <= guard->num_dests; i++) {
		if (guard->operands[i].is_bad || !guard->operands[i].is_block)
			continue;
		whose[num] = &guard->operands[i];
		wishes[num++] = (struct lock_wish){ .rdev = guard->operands[i].rdev, .is_exclusive = i > 0 };
	}
	if (num > 0)
		ret = locks_take(wishes, num, guard->options->lock_mode, &guard->locks);
	for (unsigned int i = 0; i < num; i++) {
		if (ret)
			operand_problem(whose[i], "%s", strerror(-ret));
		else
			guard_tell_lock(whose[i], &wishes[i]);
		guard->is_interrupted |= wishes[i].error == -EINTR;
		free(wishes[i].whole_path);
	}
out:
	free(wishes);
	free(whose);
}

/*
 * A source file is locked against another kcopy that writes it. If it is a destination, too, the lock is there already,
 * and would be in our own way.
 */
static void choose_source_lock(struct guard *guard)
{
	struct operand *source = &guard->operands[0];

	for (unsigned int i = 1; guard->has_source && !source->is_block && i <= guard->num_dests; i++)
		if (!guard->operands[i].is_block && guard->operands[i].file_dev == source->file_dev &&
		    guard->operands[i].file_inode == source->file_inode)
			source->lock_mode = LOCK_NO;
}

/* -- opening ------------------------------------------------------------------------------------- */

static bool is_whole_disk(const struct operand *operand)
{
	return operand->number > 0 && operand->is_block && alias_whole_disk(operand->rdev) == operand->rdev;
}

/* A destination's disk reads what it holds while other things are asked. */
static void open_one(struct guard *guard, struct operand *operand)
{
	struct io_region region = { .bdev = NULL };

	operand_open(operand, guard->operands, guard->num_dests);
	region.bdev = operand->bdev;
	if (region.bdev && operand->number > 0 && operand->is_block && !operand->is_shared)
		contents_begin(&region, operand->rdev);
	if (operand->lock_error && !operand->is_bad)
		log_warning("%s: its disk cannot be locked against other programs: %s", operand->name,
			    strerror(operand->lock_error));
}

static void open_all(struct guard *guard)
{
	unsigned int first = guard->has_source ? 0 : 1;

	for (unsigned int i = first; i <= guard->num_dests; i++)
		operand_look(&guard->operands[i]);
	lock_disks(guard);
	if (guard->is_interrupted)
		return;
	ask_busy(guard);
	choose_source_lock(guard);
	/* Whole disks first: a claim of one keeps everybody from all its partitions, and not the other way round. */
	for (int is_part = 0; is_part <= 1; is_part++)
		for (unsigned int i = first; i <= guard->num_dests; i++)
			if (is_whole_disk(&guard->operands[i]) == !is_part)
				open_one(guard, &guard->operands[i]);
	for (unsigned int i = first; i <= guard->num_dests; i++)
		if (guard->operands[i].is_block &&
		    (guard->options->is_dry || guard->options->wants_disks || guard->options->num_expects))
			disk_ask(guard->operands[i].rdev, &guard->operands[i].disk);
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

/* Two new files of one name: which of the two regions would have made it? */
static bool is_same_new(const struct operand *a, const struct operand *b)
{
	struct stat first, second;

	return a->is_new && b->is_new && strcmp(a->leaf, b->leaf) == 0 && fstat(a->dir_fd, &first) == 0 &&
	       fstat(b->dir_fd, &second) == 0 && first.st_dev == second.st_dev && first.st_ino == second.st_ino;
}

static void check_pair(struct operand *a, struct operand *b)
{
	if (is_same_new(a, b))
		operand_problem(b, "destination %u is destination %u, %s, too, and does not exist yet", b->number,
				a->number, a->name);
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

void guard_place(struct guard *guard)
{
	place_all(guard);
	check_overlap(guard);
}

/* What we say must not end up on what we copy: kcopy a b 2>b */
void guard_check_output(struct operand *operand)
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

	if (!operand->bdev)
		return; /* a new file of a dry run */
	bytes = kcopyd_device_bytes(operand->bdev);
	rest = bytes % KCOPYD_SECTOR_BYTES;
	if (rest && operand->region.sector + operand->region.count == kcopyd_device_sectors(operand->bdev))
		log_info("%s: its length of %" PRIu64
			 " bytes is no whole number of sectors; the last one is padded with %" PRIu64 " zero bytes",
			 operand->name, bytes, KCOPYD_SECTOR_BYTES - rest);
}

/* -- identity and contents ----------------------------------------------------------------------- */

static void check_expects(struct guard *guard)
{
	for (unsigned int i = 0; i < guard->options->num_expects; i++) {
		const struct expect *expect = &guard->options->expects[i];
		struct operand *operand;
		char *message;
		bool is_known;

		if (expect->operand > guard->num_dests || (expect->operand == 0 && !guard->has_source)) {
			guard->is_unexpected = true;
			log_error("--expect=%u:%s: there is no operand %u; 0 is the source, 1 the first destination",
				  expect->operand, expect_key_name(expect->key), expect->operand);
			continue;
		}
		operand = &guard->operands[expect->operand];
		if (!operand->bdev && !operand->is_new)
			continue; /* why it is not open was told */
		is_known = operand->bdev;
		if (expect_matches(expect, operand->is_block ? &operand->disk : NULL, is_known,
				   is_known ? kcopyd_device_bytes(operand->bdev) : 0, &message))
			continue;
		operand_problem(operand, "%s", message ? message : strerror(ENOMEM));
		free(message);
	}
}

static bool is_same_text(const char *a, const char *b)
{
	return a == b || (a && b && strcmp(a, b) == 0);
}

/* Does the source hold the same thing at the same place? @distance: from there to here, modulo 2^64. */
static bool is_listed(const struct content *item, const struct contents *source, uint64_t distance)
{
	for (size_t i = 0; i < source->num; i++) {
		const struct content *other = &source->items[i];

		if (other->offset + distance != item->offset)
			continue;
		/* A partition of which the contents, if any, are still to come. */
		if (!item->type && item->partition && other->partition == item->partition &&
		    other->bytes == item->bytes)
			return true;
		if (item->type && item->uuid && is_same_text(other->type, item->type) &&
		    is_same_text(other->uuid, item->uuid))
			return true;
	}
	return false;
}

/* Where on the source what is at @offset here comes from, in bytes. False: it is no part of the copy. */
static bool find_origin(const struct operand *source, const struct operand *operand, uint64_t offset, uint64_t *place,
			uint64_t *most)
{
	uint64_t start = operand->region.sector * KCOPYD_SECTOR_BYTES;
	uint64_t end = start + operand->region.count * KCOPYD_SECTOR_BYTES;

	*place = offset - start + source->region.sector * KCOPYD_SECTOR_BYTES;
	*most = end - offset;
	return offset >= start && offset < end;
}

/*
 * What has no UUID is known again by its first bytes, as far as both regions have them; zeros are like others. The
 * source's are not compared with a UUID's: those of a mounted one change. 1 or 0; -errno: the source cannot be read.
 */
static int has_same_bytes(const struct operand *source, const struct operand *operand, const struct content *item)
{
	static char ours[SAME_BYTES], theirs[SAME_BYTES];
	uint64_t place, most;
	size_t count;
	int ret;

	if (!item->type || !find_origin(source, operand, item->offset, &place, &most))
		return 0;
	count = most < SAME_BYTES ? (size_t)most : SAME_BYTES;
	ret = contents_read(&source->region, place, theirs, count);
	if (ret || item->uuid || contents_read(&operand->region, item->offset, ours, count))
		return ret;
	return memcmp(ours, theirs, count) == 0 && (ours[0] || memcmp(ours, ours + 1, count - 1) != 0);
}

/* Is it, by all that can be known, a part of this very copy? @held: what the source holds. */
static bool is_copied(const struct operand *source, const struct contents *held, const struct operand *operand,
		      const struct content *item)
{
	int ret;

	if (operand->trust == TRUST_NONE)
		return false;
	if (is_listed(item, held, (operand->region.sector - source->region.sector) * KCOPYD_SECTOR_BYTES))
		return true;
	ret = has_same_bytes(source, operand, item);
	return ret > 0 || (ret < 0 && operand->trust == TRUST_NAMED);
}

static void refuse_contents(const struct operand *source, const struct contents *held, struct operand *operand,
			    bool is_forced)
{
	const struct contents *contents = &operand->contents;
	/* Of what is refused anyway nobody should learn to write --force. */
	const char *advice = operand->is_bad ? "" : "; --force to do it anyway";

	for (size_t i = 0; i < contents->num; i++) {
		contents->items[i].is_foreign = !is_copied(source, held, operand, &contents->items[i]);
		if (is_forced || !contents->items[i].is_foreign)
			continue;
		operand_problem(operand, "would overwrite %s%s",
				contents->items[i].text ? contents->items[i].text : strerror(ENOMEM), advice);
	}
	if (operand->contents_error && !is_forced)
		operand_problem(operand, "what would be overwritten is not known, as it cannot be read: %s%s",
				strerror(operand->contents_error), advice);
}

static void tell_contents(const struct operand *operand)
{
	const struct contents *contents = &operand->contents;

	for (size_t i = 0; i < contents->num; i++)
		log_info("%s: overwriting %s", operand->name,
			 contents->items[i].text ? contents->items[i].text : strerror(ENOMEM));
	if (operand->contents_error)
		log_info("%s: overwriting what it holds unseen: it cannot be read: %s", operand->name,
			 strerror(operand->contents_error));
}

static bool has_region(const struct operand *operand)
{
	return operand->region.bdev && operand->region.count > 0;
}

static void check_contents(struct guard *guard)
{
	const struct operand *source = &guard->operands[0];
	struct contents held = { .items = NULL };
	bool has_asked = false;

	for (unsigned int i = 1; i <= guard->num_dests; i++) {
		struct operand *operand = &guard->operands[i];

		if (!has_region(operand))
			continue;
		operand->was_probed = true;
		operand->contents_error =
			-contents_find(&operand->region, operand->is_block ? operand->rdev : 0, &operand->contents);
		if (guard->options->is_forced && operand->trust == TRUST_NONE)
			continue;
		if (operand->trust != TRUST_NONE && operand->contents.num > 0 && !has_asked) {
			contents_begin(&source->region, source->is_block ? source->rdev : 0);
			contents_find(&source->region, source->is_block ? source->rdev : 0, &held);
			has_asked = true;
		}
		refuse_contents(source, &held, operand, guard->options->is_forced);
	}
	contents_free(&held);
}

/* -- all together -------------------------------------------------------------------------------- */

static void prepare_all(struct guard *guard)
{
	for (unsigned int i = 1; i <= guard->num_dests && !guard_is_refused(guard); i++)
		operand_prepare(&guard->operands[i]);
	if (guard_is_refused(guard))
		guard_undo(guard);
}

int guard_open(const struct guard_options *options, const char **specs, unsigned int num_specs, bool has_source,
	       struct guard *guard)
{
	unsigned int first = has_source ? 0 : 1;

	guard->options = options;
	guard->has_source = has_source;
	guard->num_dests = 0;
	guard->operands = calloc(num_specs + first, sizeof(guard->operands[0]));
	if (!guard->operands) {
		log_error("%s", strerror(ENOMEM));
		return -ENOMEM;
	}
	guard->num_dests = num_specs + first - 1;
	guard->operands[0].dir_fd = -1;
	guard->operands[0].backing_fd = -1;
	for (unsigned int i = first; i <= guard->num_dests; i++) {
		guard->operands[i].is_dry = options->is_dry;
		guard->operands[i].lock_mode = options->lock_mode;
		operand_parse(&guard->operands[i], i, specs[i - first]);
	}
	open_all(guard);
	if (guard->is_interrupted)
		return 0;
	place_all(guard);
	check_expects(guard);
	check_overlap(guard);
	guard_check_use(guard);
	for (unsigned int i = first; i <= guard->num_dests; i++)
		guard_check_output(&guard->operands[i]);
	return 0;
}

int guard_check(struct guard *guard)
{
	unsigned int first = guard->has_source ? 0 : 1;

	if (!guard->is_interrupted)
		check_contents(guard);
	if (!guard_is_refused(guard) && !guard->options->is_dry)
		prepare_all(guard);
	if (guard_is_refused(guard)) {
		log_verdict("nothing was written");
		return -EINVAL;
	}
	for (unsigned int i = first; i <= (guard->has_source ? 0 : guard->num_dests); i++)
		tell_padding(&guard->operands[i]);
	for (unsigned int i = 1; i <= guard->num_dests && !guard->options->is_dry; i++)
		if (guard->operands[i].trust == TRUST_NONE)
			tell_contents(&guard->operands[i]);
	return 0;
}

void guard_undo(struct guard *guard)
{
	for (unsigned int i = guard->num_dests; i > 0; i--)
		operand_undo(&guard->operands[i]);
}

void guard_close(struct guard *guard)
{
	/* First: udev looks at a disk when a descriptor that could write is closed, and some of its versions not later. */
	locks_release(guard->locks);
	guard->locks = NULL;
	for (unsigned int i = guard->num_dests + 1; guard->operands && i > 0; i--)
		operand_close(&guard->operands[i - 1]);
	free(guard->operands);
	guard->operands = NULL;
}
