/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "resume.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "log.h"
#include "map.h"
#include "resume_doubt.h"
#include "resume_side.h"
#include "resume_zones.h"
#include "text.h"

struct resume_dest {
	struct map *map; /* owned */
	struct resume_side side;
	char *path;	 /* owned: the map's file ... */
	char *name;	 /* ... that, printable ... */
	char *real;	 /* ... and without symbolic links */
	bool is_frozen;	 /* a flush failed: nothing that was written since the one before it is certain */
	bool is_fresh;	 /* the file did not exist ... */
	bool is_saved;	 /* ... and now it does */
	int error;	 /* why the last attempt to save it failed, or 0: a positive errno */
	bool is_changed; /* since it was saved last */
};

struct resume {
	struct guard *guard; /* borrowed */
	struct resume_side source;
	sector_t block;	      /* the largest logical block of all operands, in sectors */
	pthread_mutex_t lock; /* guards the maps */
	struct map *bad;      /* owned: what was unreadable in this run */
	unsigned int num_dests;
	struct resume_dest dests[KCOPYD_MAX_DESTS];
};

void resume_destroy(struct resume *resume)
{
	if (!resume)
		return;
	for (unsigned int i = 0; i < KCOPYD_MAX_DESTS; i++) {
		map_destroy(resume->dests[i].map);
		resume_side_destroy(&resume->dests[i].side);
		free(resume->dests[i].path);
		free(resume->dests[i].name);
		free(resume->dests[i].real);
	}
	map_destroy(resume->bad);
	resume_side_destroy(&resume->source);
	pthread_mutex_destroy(&resume->lock);
	free(resume);
}

/* -- before the copy ----------------------------------------------------------------------------- */

static struct map_owner owner_of(const struct resume *resume, const struct resume_dest *dest)
{
	return (struct map_owner){ .source = resume->source.map, .dest = dest->side.map };
}

static bool is_same_file(const char *a, const char *b)
{
	struct stat first, second;

	if (strcmp(a, b) == 0)
		return true;
	return stat(a, &first) == 0 && stat(b, &second) == 0 && S_ISREG(first.st_mode) &&
	       first.st_dev == second.st_dev && first.st_ino == second.st_ino;
}

/* A map must not be where the data comes from or goes, nor where another map is. */
static const char *find_other_use(const struct resume *resume, const struct resume_dest *dest)
{
	if (is_same_file(dest->real, resume->source.path))
		return "an operand";
	for (unsigned int i = 0; i < resume->num_dests; i++) {
		if (is_same_file(dest->real, resume->dests[i].side.path))
			return "an operand";
		if (&resume->dests[i] < dest && is_same_file(dest->real, resume->dests[i].real))
			return "another destination's map";
	}
	return NULL;
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

static void load(struct resume *resume, struct resume_dest *dest, struct operand *operand)
{
	const struct map_owner owner = owner_of(resume, dest);
	char *message = NULL;
	int ret = map_load(dest->map, &owner, dest->path, &message);

	dest->is_fresh = ret == -ENOENT;
	if (ret == 0 && check_claim(dest, operand))
		operand->trust =
			operand->is_block && (operand->disk.serial || operand->disk.wwn) ? TRUST_NAMED : TRUST_COPIED;
	else if (ret && ret != -ENOENT)
		operand_problem(operand, "its map %s cannot be used: %s", dest->name,
				message ? message : strerror(-ret));
	free(message);
	if (ret == 0 && !operand->is_bad && operand->bdev && kcopyd_device_is_zoned(operand->bdev))
		resume_check_zones(resume->guard, dest->map, dest->name, operand);
}

/* 0 or -errno; a path that leads nowhere is a problem of the operand. */
static int name_map(struct resume *resume, unsigned int number, const char *path)
{
	struct operand *operand = &resume->guard->operands[number];
	struct resume_dest *dest = &resume->dests[number - 1];
	int ret;

	if (resume->num_dests == 1)
		dest->path = strdup(path);
	else if (asprintf(&dest->path, "%s.%u", path, number) < 0)
		dest->path = NULL;
	dest->name = dest->path ? text_printable(dest->path) : NULL;
	if (!dest->name)
		return -ENOMEM;
	ret = map_create(map_sector(resume->bad), map_sectors(resume->bad), &dest->map);
	if (!ret)
		ret = resume_side_create(operand, &dest->side);
	if (ret)
		return ret;
	dest->real = resume_real_path(dest->path);
	if (!dest->real)
		operand_problem(operand, "its map %s: %s", dest->name, strerror(errno));
	return 0;
}

static void open_map(struct resume *resume, unsigned int number)
{
	struct operand *operand = &resume->guard->operands[number];
	struct resume_dest *dest = &resume->dests[number - 1];
	const char *use;

	if (!dest->real)
		return;
	use = find_other_use(resume, dest);
	if (use)
		operand_problem(operand, "its map %s is %s, too; name another file", dest->name, use);
	else
		load(resume, dest, operand);
}

/* Pieces begin and end with one, whatever a map says. */
static sector_t largest_block(const struct guard *guard)
{
	unsigned int most = KCOPYD_SECTOR_BYTES;

	for (unsigned int i = 0; i <= guard->num_dests; i++) {
		const struct block_device *bdev = guard->operands[i].bdev;

		if (bdev && kcopyd_device_logical_block(bdev) > most)
			most = kcopyd_device_logical_block(bdev);
	}
	return most / KCOPYD_SECTOR_BYTES;
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
	resume->block = largest_block(guard);
	ret = resume_side_create(&guard->operands[0], &resume->source);
	if (ret == 0)
		ret = map_create(source->sector, source->count, &resume->bad);
	for (unsigned int number = 1; ret == 0 && number <= resume->num_dests; number++)
		ret = name_map(resume, number, path);
	for (unsigned int number = 1; ret == 0 && number <= resume->num_dests; number++)
		open_map(resume, number);
out:
	if (ret) {
		log_error("--map: %s", strerror(-ret));
		guard->operands[1].is_bad = true;
	}
	if (ret || has_problem(guard)) {
		resume_destroy(resume);
		return -EINVAL;
	}
	*result = resume;
	return 0;
}

void resume_doubt(struct resume *resume)
{
	for (unsigned int i = 0; i < resume->num_dests; i++) {
		struct resume_dest *dest = &resume->dests[i];
		const struct operand *operands = resume->guard->operands;

		if (!resume_is_overwritten(dest->map, &operands[0], &operands[i + 1]))
			continue;
		log_warning("%s: is not any more what its map %s says: all of it is copied again", operands[i + 1].name,
			    dest->name);
		map_replace(dest->map, MAP_FLUSHED, MAP_MISSING);
		dest->is_changed = true;
	}
}

void resume_undo(struct resume *resume)
{
	for (unsigned int i = 0; i < resume->num_dests; i++)
		if (resume->dests[i].is_fresh && resume->dests[i].is_saved)
			unlink(resume->dests[i].real); /* a link stays, as it was there before */
}

/* -- what is to be done -------------------------------------------------------------------------- */

/* Is @dest to have the sectors at @sector in this pass? @count: for how many from there on the answer is the same. */
static bool is_wanted(const struct resume *resume, const struct resume_dest *dest, enum resume_pass pass,
		      sector_t sector, sector_t *count)
{
	enum map_status status = map_get(dest->map, sector, count);
	sector_t again;

	if (status == MAP_MISSING)
		return pass != RESUME_BAD;
	if (status != MAP_BAD || pass == RESUME_MISSING)
		return false;
	if (pass == RESUME_ALL)
		return true;
	/* Once in a run: what was found unreadable in it is not tried again. */
	status = map_get(resume->bad, sector, &again);
	if (again < *count)
		*count = again;
	return status != MAP_BAD;
}

/* Does @dest want any of the range? @has_some: does it hold any of it? */
static bool wants_of(const struct resume *resume, const struct resume_dest *dest, enum resume_pass pass,
		     sector_t sector, sector_t count, bool *has_some)
{
	sector_t end = sector + count, run;
	bool ret = false;

	*has_some = false;
	for (; sector < end; sector += run) {
		enum map_status status = map_get(dest->map, sector, &run);

		*has_some |= status != MAP_MISSING && status != MAP_BAD;
		ret |= is_wanted(resume, dest, pass, sector, &run);
	}
	return ret;
}

/* Who wants what is at @at, and for how many sectors that is so. */
static uint32_t find_wanting(const struct resume *resume, enum resume_pass pass, uint32_t live, sector_t at,
			     sector_t *count)
{
	sector_t first = map_sector(resume->bad), run;
	uint32_t dests = 0;

	*count = map_sectors(resume->bad) - at;
	for (unsigned int i = 0; i < resume->num_dests; i++) {
		if (!(live >> i & 1))
			continue;
		if (is_wanted(resume, &resume->dests[i], pass, first + at, &run))
			dests |= 1u << i;
		if (run < *count)
			*count = run;
	}
	return dests;
}

/* A block of which it is not the same everywhere: for all who want any of it. */
static void find_block(const struct resume *resume, enum resume_pass pass, uint32_t live, struct resume_piece *piece)
{
	bool has_some;

	for (unsigned int i = 0; i < resume->num_dests; i++) {
		if (!(live >> i & 1) || !wants_of(resume, &resume->dests[i], pass,
						  map_sector(resume->bad) + piece->skip, piece->count, &has_some))
			continue;
		piece->dests |= 1u << i;
		piece->is_partial |= has_some;
	}
}

bool resume_next(struct resume *resume, enum resume_pass pass, sector_t skip, uint32_t live, struct resume_piece *piece)
{
	sector_t total = map_sectors(resume->bad), block = resume->block, run;

	*piece = (struct resume_piece){ .skip = skip };
	pthread_mutex_lock(&resume->lock);
	for (; piece->skip < total && !piece->dests; piece->skip += piece->dests ? 0 : piece->count) {
		piece->dests = find_wanting(resume, pass, live, piece->skip, &run);
		piece->count = piece->skip + run == total ? run : run / block * block;
		if (piece->count > 0)
			continue;
		piece->count = total - piece->skip < block ? total - piece->skip : block;
		piece->dests = 0;
		find_block(resume, pass, live, piece);
	}
	pthread_mutex_unlock(&resume->lock);
	return piece->dests;
}

sector_t resume_count(struct resume *resume, unsigned int number, enum map_status status)
{
	sector_t ret;

	pthread_mutex_lock(&resume->lock);
	ret = map_count(resume->dests[number - 1].map, status);
	pthread_mutex_unlock(&resume->lock);
	return ret;
}

sector_t resume_contiguous(struct resume *resume, unsigned int number)
{
	const struct map *map = resume->dests[number - 1].map;
	sector_t first = map_sector(map), at = 0, count;
	enum map_status status;

	pthread_mutex_lock(&resume->lock);
	while (at < map_sectors(map)) {
		status = map_get(map, first + at, &count);
		if (status == MAP_MISSING || status == MAP_BAD)
			break;
		at += count;
	}
	pthread_mutex_unlock(&resume->lock);
	return at;
}

/* -- while it runs ------------------------------------------------------------------------------- */

/* There is no memory to note what must not be claimed: then nothing more is. */
static void freeze(struct resume_dest *dest)
{
	dest->is_frozen = true;
	dest->is_changed = true;
	map_replace(dest->map, MAP_WRITTEN, MAP_MISSING);
	map_replace(dest->map, MAP_FLUSHING, MAP_MISSING);
}

/*
 * Where the source is unreadable, zeros were written, and it is still to be copied. What there is no memory to note as
 * written stays missing: it is copied again, and no more.
 */
void resume_written(struct resume *resume, unsigned int number, sector_t sector, sector_t count)
{
	struct resume_dest *dest = &resume->dests[number - 1];
	sector_t end = sector + count, run;

	pthread_mutex_lock(&resume->lock);
	dest->is_changed = true;
	for (; sector < end; sector += run) {
		bool is_bad = map_get(resume->bad, sector, &run) == MAP_BAD;

		if (run > end - sector)
			run = end - sector;
		if (map_set(dest->map, sector, run, is_bad ? MAP_BAD : MAP_WRITTEN) && is_bad)
			freeze(dest);
	}
	pthread_mutex_unlock(&resume->lock);
}

void resume_unwritten(struct resume *resume, unsigned int number, sector_t sector, sector_t count)
{
	struct resume_dest *dest = &resume->dests[number - 1];
	sector_t end = sector + count, run;

	pthread_mutex_lock(&resume->lock);
	dest->is_changed = true;
	for (; sector < end; sector += run) {
		enum map_status status = map_get(dest->map, sector, &run);

		if (run > end - sector)
			run = end - sector;
		if (status == MAP_BAD || status == MAP_MISSING || map_set(dest->map, sector, run, MAP_MISSING) == 0)
			continue;
		freeze(dest);
		map_replace(dest->map, MAP_FLUSHED, MAP_MISSING);
	}
	pthread_mutex_unlock(&resume->lock);
}

void resume_unreadable(struct resume *resume, sector_t sector, sector_t count)
{
	bool is_noted;

	pthread_mutex_lock(&resume->lock);
	is_noted = map_set(resume->bad, sector, count, MAP_BAD) == 0;
	for (unsigned int i = 0; i < resume->num_dests; i++) {
		struct resume_dest *dest = &resume->dests[i];
		sector_t at, end = sector + count, run;

		dest->is_changed = true;
		if (!is_noted)
			freeze(dest);
		for (at = sector; at < end; at += run) {
			enum map_status status = map_get(dest->map, at, &run);

			if (run > end - at)
				run = end - at;
			if (status == MAP_MISSING)
				(void)!map_set(dest->map, at, run, MAP_BAD);
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

		/*
		 * A failed flush is told once: what a later one says of these sectors is nothing, nor of what was
		 * written meanwhile.
		 */
		dest->is_frozen |= failed >> i & 1;
		if (!(asked >> i & 1))
			continue;
		dest->is_changed = true;
		map_replace(dest->map, MAP_FLUSHING,
			    dest->is_frozen    ? MAP_MISSING
			    : flushed >> i & 1 ? MAP_FLUSHED
					       : MAP_WRITTEN);
	}
	pthread_mutex_unlock(&resume->lock);
}

static int save(struct resume *resume, struct resume_dest *dest)
{
	const struct map_owner owner = owner_of(resume, dest);
	size_t bytes;
	char *text;
	int ret;

	pthread_mutex_lock(&resume->lock);
	dest->is_changed = false;
	text = map_format(dest->map, &owner, &bytes);
	pthread_mutex_unlock(&resume->lock);
	ret = text ? map_write(text, bytes, dest->path) : -ENOMEM;
	free(text);
	return ret;
}

/* If it has not been, or has changed since. */
static bool is_worth_saving(struct resume *resume, const struct resume_dest *dest)
{
	bool ret;

	pthread_mutex_lock(&resume->lock);
	ret = dest->is_changed || dest->error || !dest->is_saved;
	pthread_mutex_unlock(&resume->lock);
	return ret;
}

uint32_t resume_save(struct resume *resume, uint32_t numbers)
{
	uint32_t unsaved = 0;

	for (unsigned int i = 0; i < resume->num_dests; i++) {
		struct resume_dest *dest = &resume->dests[i];
		int ret;

		if ((numbers >> i & 1) && is_worth_saving(resume, dest)) {
			ret = save(resume, dest);
			if (ret && !dest->error)
				log_warning("%s: the map cannot be saved: %s", dest->name, strerror(-ret));
			else if (!ret && dest->error)
				log_warning("%s: the map could be saved again", dest->name);
			dest->error = -ret;
			dest->is_saved |= !ret;
		}
		unsaved |= (uint32_t)(dest->error != 0) << i;
	}
	return unsaved;
}

const char *resume_path(const struct resume *resume, unsigned int number)
{
	return resume->dests[number - 1].path;
}

const char *resume_name(const struct resume *resume, unsigned int number)
{
	return resume->dests[number - 1].name;
}

bool resume_is_saved(const struct resume *resume, unsigned int number, int *error)
{
	*error = resume->dests[number - 1].error;
	return resume->dests[number - 1].is_saved && !*error;
}
