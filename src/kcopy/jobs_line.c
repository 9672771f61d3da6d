/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "jobs_line.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "log.h"
#include "text.h"

#define PAGE_SECTORS (KCOPYD_PAGE_BYTES / KCOPYD_SECTOR_BYTES)
/* The page cache may keep so much together. */
#define NEAR_SECTORS 128u

/* -- what the engine says (client's thread) ------------------------------------------------------ */

static void observe_read(void *observer, void *context, const struct io_region *from)
{
	if (report_observer.chunk_read)
		report_observer.chunk_read(observer, ((struct jobs_context *)context)->job, from);
}

static void observe_written(void *observer, void *context, unsigned int dest, const struct io_region *to,
			    sector_t contiguous)
{
	report_observer.chunk_written(observer, ((struct jobs_context *)context)->job, dest, to, contiguous);
}

static void observe_error(void *observer, void *context, const struct kcopyd_error *error)
{
	struct jobs_context *own = context;

	if (own->job)
		report_observer.error(observer, own->job, error);
	else
		own->on_error(own, error);
}

static void observe_zeroed(void *observer, void *context, unsigned int dest, const struct io_region *to)
{
	if (report_observer.zeroed)
		report_observer.zeroed(observer, ((struct jobs_context *)context)->job, dest, to);
}

static void observe_split_off(void *observer, void *context, unsigned int dest)
{
	if (report_observer.split_off)
		report_observer.split_off(observer, ((struct jobs_context *)context)->job, dest);
}

const struct kcopyd_observer line_observer = {
	.chunk_read = observe_read,
	.chunk_written = observe_written,
	.zeroed = observe_zeroed,
	.split_off = observe_split_off,
	.error = observe_error,
};

/* -- from words to operands ---------------------------------------------------------------------- */

static bool check_number(const struct words *words)
{
	char *source;

	if (words->num >= 2 && words->num <= KCOPYD_MAX_DESTS + 1)
		return true;
	source = text_printable(words->items[0]);
	if (words->num < 2)
		log_error("%s: a source without a destination; a line is SOURCE DEST [DEST...]", source ? source : "?");
	else
		log_error("%zu destinations: %u are the most that can be written at once", words->num - 1,
			  KCOPYD_MAX_DESTS);
	free(source);
	return false;
}

/* Not by calloc(), which does not look at what was freed just before. */
static struct line *allocate(unsigned long number, size_t num)
{
	size_t more = num * (sizeof(struct line_extent) + sizeof(struct operand));
	struct line *line = malloc(sizeof(*line) + more);

	if (!line)
		return NULL;
	*line = (struct line){ .number = number, .guard = { .has_source = true } };
	memset(line->extents, 0, more);
	line->guard.operands = (struct operand *)(void *)&line->extents[num];
	for (size_t i = 0; i < num; i++) {
		line->guard.operands[i].dir_fd = -1;
		line->guard.operands[i].backing_fd = -1;
	}
	return line;
}

void line_destroy(struct line *line)
{
	if (!line)
		return;
	report_destroy(line->report);
	for (unsigned int i = 0; i <= line->guard.num_dests; i++)
		pool_put(line->extents[i].entry, &line->guard.operands[i]);
	free(line);
}

/* The source is to be created; by this very line, and no other before it? */
static bool is_own_dest(const struct line *line, unsigned int num_dests)
{
	const char *place = line->guard.operands[0].spec.place;
	const struct pool_entry *own = NULL;
	unsigned long gets = 0;

	for (unsigned int i = 1; i <= num_dests; i++) {
		const struct pool_entry *entry = line->extents[i].entry;

		if (entry && strcmp(entry->operand->spec.place, place) == 0)
			own = entry;
		gets += entry && entry == own;
	}
	return own && own->gets == gets;
}

static int get_source(struct pool *pool, struct line *line, const char *text, unsigned int num_dests, bool is_checking)
{
	int ret = pool_get(pool, &line->guard.operands[0], 0, text, &line->extents[0].entry);

	if (ret != -ENOENT)
		return ret;
	line->is_deferred = is_checking && !is_own_dest(line, num_dests);
	if (line->is_deferred)
		return 0;
	operand_problem(&line->guard.operands[0], "does not exist");
	return -EINVAL;
}

/*
 * All of them are asked for, so that all that is wrong is said. The source comes last: if its file is a destination, too,
 * that one's lock is for both.
 */
static int get_operands(struct pool *pool, struct line *line, const struct words *words, bool is_checking)
{
	unsigned int num_dests = (unsigned int)words->num - 1;
	int ret = 0, error = 0;

	line->guard.num_dests = num_dests;
	for (unsigned int i = 1; i <= num_dests && (error == 0 || error == -EINVAL); i++) {
		error = pool_get(pool, &line->guard.operands[i], i, words->items[i], &line->extents[i].entry);
		ret = error ? error : ret;
	}
	if (ret == 0 || ret == -EINVAL)
		error = get_source(pool, line, words->items[0], num_dests, is_checking);
	return error ? error : ret;
}

/*
 * What begins or ends within a block of its file system goes through the page cache there, and so does the end of the file when
 * it grows. If another job's direct I/O meets that, the kernel calls it an error of the file at its flush (EIO). So nobody
 * else writes near such a region, or behind it, where the file would grow.
 */
static void widen(struct line_extent *extent)
{
	extent->is_uneven = (extent->sector | extent->end) % PAGE_SECTORS;
	if (!extent->is_uneven)
		return;
	extent->sector -= extent->sector % NEAR_SECTORS;
	extent->end = UINT64_MAX;
}

static int check(struct pool *pool, struct line *line)
{
	if (line->is_deferred)
		return 0;
	guard_place(&line->guard);
	for (unsigned int i = 0; i <= line->guard.num_dests; i++) {
		const struct io_region *region = &line->guard.operands[i].region;

		line->extents[i].sector = region->sector;
		line->extents[i].end = region->sector + region->count;
		if (i > 0 && !line->guard.operands[i].is_block)
			widen(&line->extents[i]);
		line->is_zoned |= i > 0 && region->bdev && kcopyd_device_is_zoned(region->bdev);
	}
	for (unsigned int i = 1; i <= line->guard.num_dests; i++) {
		if (!line->extents[i].entry)
			continue;
		/* What is refused anyway need not wait, and what was printed is not to be printed again. */
		if (pool_check_contents(pool, line->extents[i].entry, &line->guard.operands[i]) == -EAGAIN &&
		    !guard_is_refused(&line->guard))
			return -EAGAIN;
	}
	return guard_is_refused(&line->guard) ? -EINVAL : 0;
}

int line_create(struct pool *pool, unsigned long number, const struct words *words, bool is_checking,
		struct line **result)
{
	struct line *line;
	int ret, error = 0;

	*result = NULL;
	if (!check_number(words))
		return -EINVAL;
	line = allocate(number, words->num);
	if (!line)
		return -ENOMEM;
	ret = get_operands(pool, line, words, is_checking);
	if (ret == 0 || ret == -EINVAL)
		error = check(pool, line);
	ret = error ? error : ret;
	if (ret && ret != -EINVAL) {
		line_destroy(line);
		return ret;
	}
	*result = line;
	return ret;
}

/* -- starting ------------------------------------------------------------------------------------ */

static bool overlaps(const bool *may_overlap, const struct line *a, unsigned int i, const struct line *b,
		     unsigned int j)
{
	const struct line_extent *x = &a->extents[i], *y = &b->extents[j];

	if (x->entry == y->entry)
		return (x->sector < y->end && y->sector < x->end) || (i > 0 && j > 0 && a->is_zoned);
	return may_overlap[y->entry->index] &&
	       (x->is_uneven || y->is_uneven ||
		kcopyd_regions_overlap(&a->guard.operands[i].region, &b->guard.operands[j].region));
}

bool line_must_wait(const struct pool *pool, const struct line *line, const struct line *other)
{
	for (unsigned int i = 0; i <= line->guard.num_dests; i++) {
		const bool *may_overlap = pool_overlaps(pool, line->extents[i].entry);

		for (unsigned int j = i == 0; j <= other->guard.num_dests; j++)
			if (overlaps(may_overlap, line, i, other, j))
				return true;
	}
	return false;
}

int line_start(struct pool *pool, struct line *line, struct kcopyd_client *client, unsigned int flags,
	       unsigned int report_flags, kcopyd_notify_fn fn)
{
	struct io_region dests[KCOPYD_MAX_DESTS], source;
	int ret = 0;

	for (unsigned int i = 1; i <= line->guard.num_dests; i++)
		if (pool_begin(pool, line->extents[i].entry, &line->guard.operands[i]))
			ret = -EINVAL;
	if (ret)
		return ret;
	if (report_create(&line->guard, NULL, report_flags, &line->report)) {
		log_error("%s", strerror(ENOMEM));
		return -EINVAL;
	}
	line->job.report = line->report;
	line->context.job = &line->job;
	source = line->guard.operands[0].region;
	for (unsigned int i = 0; i < line->guard.num_dests; i++) {
		line->job.numbers[i] = i + 1;
		dests[i] = line->guard.operands[i + 1].region;
	}
	ret = kcopyd_copy(client, &source, line->guard.num_dests, dests, flags, fn, line);
	if (ret == 0)
		return 0;
	if (ret == -EINVAL)
		log_error("the reserve holds no logical block of these devices; use a larger --pages");
	else
		log_error("the copy cannot be started: %s", strerror(-ret));
	report_destroy(line->report);
	line->report = NULL;
	return -EINVAL;
}

uint64_t line_bytes(const struct line *line)
{
	uint64_t sum = 0;

	for (unsigned int i = 1; i <= line->guard.num_dests; i++)
		sum += line->guard.operands[i].region.count * KCOPYD_SECTOR_BYTES;
	return sum;
}

uint64_t line_written_bytes(const struct line *line)
{
	uint64_t sum = 0;
	struct report_dest dest;

	for (unsigned int i = 1; line->report && i <= line->guard.num_dests; i++) {
		report_ask_dest(line->report, i, &dest);
		sum += dest.written * KCOPYD_SECTOR_BYTES;
	}
	return sum;
}
