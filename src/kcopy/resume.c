/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "resume.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "log.h"
#include "map.h"
#include "text.h"

struct resume_dest {
	struct map *map; /* owned */
	struct map_owner owner;
	char *path;	/* owned: the map's file ... */
	char *name;	/* ... and that, printable */
	char *absolute; /* owned: the destination's path */
	bool is_frozen; /* a flush failed: nothing that was written since the one before it is certain */
	bool is_unsaved;
};

struct resume {
	struct guard *guard;  /* borrowed */
	char *source_path;    /* owned: absolute */
	pthread_mutex_t lock; /* guards the maps */
	struct map *bad;      /* owned: what is unreadable on the source */
	unsigned int num_dests;
	struct resume_dest dests[KCOPYD_MAX_DESTS];
};

void resume_destroy(struct resume *resume)
{
	if (!resume)
		return;
	for (unsigned int i = 0; i < KCOPYD_MAX_DESTS; i++) {
		map_destroy(resume->dests[i].map);
		free(resume->dests[i].path);
		free(resume->dests[i].name);
		free(resume->dests[i].absolute);
	}
	map_destroy(resume->bad);
	free(resume->source_path);
	pthread_mutex_destroy(&resume->lock);
	free(resume);
}

/* -- before the copy ----------------------------------------------------------------------------- */

/* To be freed; NULL: no memory, or it has gone. */
static char *absolute_path(const struct operand *operand)
{
	char directory[48], *real, *ret = NULL;

	if (!operand->is_new)
		return realpath(operand->path, NULL);
	snprintf(directory, sizeof(directory), "/proc/self/fd/%d", operand->dir_fd);
	real = realpath(directory, NULL);
	if (real && asprintf(&ret, "%s/%s", strcmp(real, "/") ? real : "", operand->leaf) < 0)
		ret = NULL;
	free(real);
	return ret;
}

static void fill_side(struct map_side *side, const struct operand *operand, const char *path)
{
	*side = (struct map_side){ .path = path, .sector = operand->region.sector };
	if (operand->is_block) {
		side->serial = operand->disk.serial;
		side->wwn = operand->disk.wwn;
		side->partition = operand->disk.partition;
	}
	if (operand->bdev && (operand->is_block || operand->number == 0))
		side->bytes = kcopyd_device_bytes(operand->bdev);
}

/* The map must not be where the data goes. */
static bool is_operand(const struct resume *resume, const char *path)
{
	const struct guard *guard = resume->guard;
	struct stat st;
	bool has_file = stat(path, &st) == 0;

	for (unsigned int i = 0; i <= guard->num_dests; i++) {
		const struct operand *operand = &guard->operands[i];

		if (operand->is_new ? !has_file && i > 0 && resume->dests[i - 1].absolute &&
					      strcmp(resume->dests[i - 1].absolute, path) == 0
				    : has_file && S_ISREG(st.st_mode) && !operand->is_block &&
					      operand->file_dev == st.st_dev && operand->file_inode == st.st_ino)
			return true;
	}
	return false;
}

/* The file that does not exist yet by its directory's real name, as absolute_path() has it. */
static char *real_map_path(const char *path)
{
	const char *slash = strrchr(path, '/'), *leaf = slash ? slash + 1 : path;
	char *real = realpath(path, NULL), *directory, *ret = NULL;

	if (real)
		return real;
	directory = slash ? strndup(path, (size_t)(slash - path) + 1) : strdup(".");
	real = directory ? realpath(directory, NULL) : NULL;
	if (real && asprintf(&ret, "%s/%s", strcmp(real, "/") ? real : "", leaf) < 0)
		ret = NULL;
	free(directory);
	free(real);
	return ret;
}

/* What the map says is on the destination must be able to be there. */
static bool check_claim(const struct resume_dest *dest, struct operand *operand)
{
	sector_t sectors = operand->bdev ? kcopyd_device_sectors(operand->bdev) : 0, end = 0, at, count;
	sector_t first = map_sector(dest->map), last = first + map_sectors(dest->map);

	for (at = first; at < last; at += count)
		if (map_get(dest->map, at, &count) == MAP_FLUSHED)
			end = operand->region.sector + (at - first) + count;
	if (end <= sectors)
		return true;
	operand_problem(operand, "is new or shorter than its map %s says; if it is a new one, remove the map",
			dest->name);
	return false;
}

static void load(struct resume_dest *dest, struct operand *operand)
{
	char *message = NULL;
	int ret = map_load(dest->map, &dest->owner, dest->path, &message);

	if (ret == 0) {
		if (!check_claim(dest, operand))
			return;
		operand->trust = !operand->is_block || dest->owner.dest.serial || dest->owner.dest.wwn
					 ? TRUST_FULL
					 : TRUST_IF_COPIED;
	} else if (ret != -ENOENT) {
		operand_problem(operand, "its map %s cannot be used: %s", dest->name,
				message ? message : strerror(-ret));
	}
	free(message);
}

/* 0 or -ENOMEM; everything else is a problem of the operand. */
static int open_map(struct resume *resume, unsigned int number, const char *path)
{
	struct operand *operand = &resume->guard->operands[number];
	struct resume_dest *dest = &resume->dests[number - 1];
	const struct io_region *source = &resume->guard->operands[0].region;
	char *real;
	int ret;

	if (resume->num_dests == 1)
		dest->path = strdup(path);
	else if (asprintf(&dest->path, "%s.%u", path, number) < 0)
		dest->path = NULL;
	dest->name = dest->path ? text_printable(dest->path) : NULL;
	dest->absolute = absolute_path(operand);
	ret = map_create(source->sector, source->count, &dest->map);
	if (ret || !dest->name || !dest->absolute)
		return -ENOMEM;
	fill_side(&dest->owner.source, &resume->guard->operands[0], resume->source_path);
	fill_side(&dest->owner.dest, operand, dest->absolute);
	real = real_map_path(dest->path);
	if (!real)
		operand_problem(operand, "its map %s: %s", dest->name, strerror(errno));
	else if (is_operand(resume, real))
		operand_problem(operand, "its map %s is an operand, too; name another file", dest->name);
	else
		load(dest, operand);
	free(real);
	return 0;
}

static bool has_problem(const struct guard *guard)
{
	for (unsigned int i = 0; i <= guard->num_dests; i++)
		if (guard->operands[i].is_bad)
			return true;
	return false;
}

int resume_create(struct guard *guard, const char *path, struct resume **result)
{
	const struct io_region *source = &guard->operands[0].region;
	struct resume *resume;
	int ret = -ENOMEM;

	/* Without regions there is nothing to compare a map with; it is refused anyway. */
	if (has_problem(guard))
		return -EINVAL;
	resume = calloc(1, sizeof(*resume));
	if (!resume)
		goto out;
	pthread_mutex_init(&resume->lock, NULL);
	resume->guard = guard;
	resume->num_dests = guard->num_dests;
	resume->source_path = absolute_path(&guard->operands[0]);
	if (!resume->source_path)
		goto out;
	ret = map_create(source->sector, source->count, &resume->bad);
	for (unsigned int number = 1; ret == 0 && number <= resume->num_dests; number++)
		ret = open_map(resume, number, path);
out:
	if (ret) {
		log_error("%s", strerror(-ret));
		guard->operands[1].is_bad = true;
	}
	if (ret || has_problem(guard)) {
		resume_destroy(resume);
		return -EINVAL;
	}
	*result = resume;
	return 0;
}

/* -- what is to be done -------------------------------------------------------------------------- */

static bool is_lacking(enum map_status status)
{
	return status == MAP_MISSING || status == MAP_BAD;
}

bool resume_next(struct resume *resume, sector_t from, uint32_t live, struct io_region *range, uint32_t *dests)
{
	const struct io_region *source = &resume->guard->operands[0].region;
	sector_t end = source->sector + source->count;

	*dests = 0;
	*range = (struct io_region){ .bdev = source->bdev, .sector = from };
	pthread_mutex_lock(&resume->lock);
	for (; range->sector < end && !*dests; range->sector += *dests ? 0 : range->count) {
		range->count = end - range->sector;
		for (unsigned int i = 0; i < resume->num_dests; i++) {
			sector_t count;

			if (!(live >> i & 1))
				continue;
			if (is_lacking(map_get(resume->dests[i].map, range->sector, &count)))
				*dests |= 1u << i;
			if (count < range->count)
				range->count = count;
		}
	}
	pthread_mutex_unlock(&resume->lock);
	return *dests;
}

sector_t resume_missing(struct resume *resume, unsigned int number)
{
	const struct map *map = resume->dests[number - 1].map;
	sector_t ret;

	pthread_mutex_lock(&resume->lock);
	ret = map_count(map, MAP_MISSING) + map_count(map, MAP_BAD);
	pthread_mutex_unlock(&resume->lock);
	return ret;
}

sector_t resume_flushed(struct resume *resume, unsigned int number)
{
	sector_t ret;

	pthread_mutex_lock(&resume->lock);
	ret = map_count(resume->dests[number - 1].map, MAP_FLUSHED);
	pthread_mutex_unlock(&resume->lock);
	return ret;
}

sector_t resume_contiguous(struct resume *resume, unsigned int number)
{
	const struct io_region *source = &resume->guard->operands[0].region;
	sector_t at = source->sector, end = source->sector + source->count, count;

	pthread_mutex_lock(&resume->lock);
	while (at < end && !is_lacking(map_get(resume->dests[number - 1].map, at, &count)))
		at += count;
	pthread_mutex_unlock(&resume->lock);
	return at - source->sector;
}

/* -- while it runs ------------------------------------------------------------------------------- */

/* What there is no memory for stays missing: it is copied again, and no more. */
static void set_range(struct map *map, sector_t sector, sector_t count, enum map_status status)
{
	(void)!map_set(map, sector, count, status);
}

void resume_written(struct resume *resume, unsigned int number, sector_t sector, sector_t count)
{
	struct map *map = resume->dests[number - 1].map;
	sector_t end = sector + count, run;

	pthread_mutex_lock(&resume->lock);
	set_range(map, sector, count, MAP_WRITTEN);
	/* Where the source is unreadable, zeros were written, and it is still to be copied. */
	for (; sector < end; sector += run) {
		enum map_status status = map_get(resume->bad, sector, &run);

		if (run > end - sector)
			run = end - sector;
		if (status == MAP_BAD)
			set_range(map, sector, run, MAP_BAD);
	}
	pthread_mutex_unlock(&resume->lock);
}

void resume_unreadable(struct resume *resume, sector_t sector, sector_t count)
{
	pthread_mutex_lock(&resume->lock);
	set_range(resume->bad, sector, count, MAP_BAD);
	for (unsigned int i = 0; i < resume->num_dests; i++) {
		sector_t at, end = sector + count, run;

		for (at = sector; at < end; at += run) {
			enum map_status status = map_get(resume->dests[i].map, at, &run);

			if (run > end - at)
				run = end - at;
			if (status == MAP_MISSING)
				set_range(resume->dests[i].map, at, run, MAP_BAD);
		}
	}
	pthread_mutex_unlock(&resume->lock);
}

/* -- flush and save ------------------------------------------------------------------------------ */

uint32_t resume_begin_flush(struct resume *resume, uint32_t live)
{
	uint32_t asked = 0;

	pthread_mutex_lock(&resume->lock);
	for (unsigned int i = 0; i < resume->num_dests; i++) {
		struct resume_dest *dest = &resume->dests[i];

		if (!(live >> i & 1) || dest->is_frozen || map_count(dest->map, MAP_WRITTEN) == 0)
			continue;
		map_replace(dest->map, MAP_WRITTEN, MAP_FLUSHING);
		asked |= 1u << i;
	}
	pthread_mutex_unlock(&resume->lock);
	return asked;
}

void resume_end_flush(struct resume *resume, uint32_t asked, uint32_t flushed, uint32_t failed)
{
	pthread_mutex_lock(&resume->lock);
	for (unsigned int i = 0; i < resume->num_dests; i++) {
		struct resume_dest *dest = &resume->dests[i];

		if (!(asked >> i & 1))
			continue;
		/* A failed flush is told once: what a later one says of these sectors is nothing. */
		dest->is_frozen |= failed >> i & 1;
		map_replace(dest->map, MAP_FLUSHING,
			    dest->is_frozen    ? MAP_MISSING
			    : flushed >> i & 1 ? MAP_FLUSHED
					       : MAP_WRITTEN);
	}
	pthread_mutex_unlock(&resume->lock);
}

static int save(struct resume *resume, struct resume_dest *dest)
{
	size_t bytes;
	char *text;
	int ret;

	pthread_mutex_lock(&resume->lock);
	text = map_format(dest->map, &dest->owner, &bytes);
	pthread_mutex_unlock(&resume->lock);
	ret = text ? map_write(text, bytes, dest->path) : -ENOMEM;
	free(text);
	return ret;
}

uint32_t resume_save(struct resume *resume)
{
	uint32_t failed = 0;

	for (unsigned int i = 0; i < resume->num_dests; i++) {
		struct resume_dest *dest = &resume->dests[i];
		int ret = save(resume, dest);

		if (ret)
			failed |= 1u << i;
		if (ret && !dest->is_unsaved)
			log_warning("%s: the map cannot be saved: %s", dest->name, strerror(-ret));
		else if (!ret && dest->is_unsaved)
			log_warning("%s: the map could be saved again", dest->name);
		dest->is_unsaved = ret;
	}
	return failed;
}
