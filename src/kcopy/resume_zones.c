/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "resume_zones.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "contents.h"
#include "signals.h"

#define COMPARE_BYTES ((size_t)1 << 20)
#define ADVICE "; to begin anew, reset its zones (blkzone reset) and remove the map"

/* A sector of the device, in the map. */
static sector_t on_map(const struct map *map, const struct io_region *region, sector_t sector)
{
	return sector - region->sector + map_sector(map);
}

/* The first sector from @sector to @end that the map has as @status, or not (!is); @end: none. */
static sector_t find(const struct map *map, const struct io_region *region, sector_t sector, sector_t end,
		     enum map_status status, bool is)
{
	sector_t count;

	while (sector < end) {
		if ((map_get(map, on_map(map, region, sector), &count) == status) == is)
			return sector;
		sector = count < end - sector ? sector + count : end;
	}
	return end;
}

enum zone_verdict resume_judge_zone(const struct map *map, const struct io_region *region,
				    const struct kcopyd_zone *zone, sector_t *at, sector_t *count)
{
	sector_t first = zone->sector > region->sector ? zone->sector : region->sector;
	sector_t end = zone->sector + zone->count, pointer = zone->sector + zone->written, last, bad;

	if (end > region->sector + region->count)
		end = region->sector + region->count;
	*count = 0;
	*at = find(map, region, first, end, MAP_FLUSHED, false);
	if (pointer < *at)
		return ZONE_LOST;
	if (*at == end)
		return ZONE_FITS;
	last = pointer < end ? pointer : end;
	bad = find(map, region, *at, last, MAP_BAD, true);
	if (bad < last) {
		*at = bad;
		return ZONE_UNREADABLE;
	}
	if (find(map, region, *at, end, MAP_FLUSHED, true) < end)
		return ZONE_GAP;
	*count = last - *at;
	return *count > 0 ? ZONE_AHEAD : ZONE_FITS;
}

/* -- what was written after the map was saved ----------------------------------------------------- */

/* What the source has for @bytes at @offset of the region, with zeros behind its end. */
static int read_source(const struct io_region *source, uint64_t offset, char *buffer, size_t bytes)
{
	uint64_t start = source->sector * KCOPYD_SECTOR_BYTES + offset, size = kcopyd_device_bytes(source->bdev);
	size_t there = start >= size ? 0 : bytes < size - start ? bytes : (size_t)(size - start);

	memset(buffer + there, 0, bytes - there);
	return there ? contents_read(source, start, buffer, there) : 0;
}

/* From the device, not from the page cache. */
static int read_dest(const struct io_region *dest, uint64_t offset, char *buffer, size_t bytes)
{
	ssize_t done = TEMP_FAILURE_RETRY(pread(kcopyd_device_fd(dest->bdev), buffer, bytes,
						(off_t)(dest->sector * KCOPYD_SECTOR_BYTES + offset)));

	return done < 0 ? -errno : (size_t)done < bytes ? -EIO : 0;
}

/* Both, @sector sectors from the regions' starts. Whether they are equal is told by @buffers, @bytes of each. */
static bool read_both(struct guard *guard, struct operand *operand, sector_t sector, char *buffers, size_t bytes)
{
	struct operand *source = &guard->operands[0];
	int ret = read_source(&source->region, sector * KCOPYD_SECTOR_BYTES, buffers, bytes);

	if (ret == 0) {
		ret = read_dest(&operand->region, sector * KCOPYD_SECTOR_BYTES, buffers + bytes, bytes);
		source = operand;
	}
	if (ret == 0)
		return true;
	operand_problem(operand,
			"what was written after its map was saved cannot be compared: %s: read at sector %" PRIu64
			": %s" ADVICE,
			source->name, source->region.sector + sector, strerror(-ret));
	return false;
}

/* A piece of what was written, @sector sectors from the regions' starts. */
static bool is_equal(struct guard *guard, struct operand *operand, sector_t sector, char *buffers, size_t bytes)
{
	size_t same = 0;

	if (!read_both(guard, operand, sector, buffers, bytes))
		return false;
	while (same < bytes && buffers[same] == buffers[bytes + same])
		same++;
	if (same == bytes)
		return true;
	operand_problem(operand,
			"sector %" PRIu64 " was written after its map was saved, and is not what the source holds; it "
			"cannot be written again" ADVICE,
			operand->region.sector + sector + same / KCOPYD_SECTOR_BYTES);
	return false;
}

/* @at: of the device. True: it is what the source holds, and is noted as written. */
static bool compare(struct guard *guard, struct map *map, struct operand *operand, sector_t at, sector_t count)
{
	const sector_t most = COMPARE_BYTES / KCOPYD_SECTOR_BYTES;
	sector_t sector = at - operand->region.sector, end = sector + count, some;
	char *buffers = NULL;
	bool ret = posix_memalign((void **)&buffers, KCOPYD_PAGE_BYTES, 2 * COMPARE_BYTES) == 0;

	if (!ret || map_set(map, on_map(map, &operand->region, at), count, MAP_WRITTEN)) {
		operand_problem(operand, "%s", strerror(ENOMEM));
		ret = false;
	}
	for (; ret && sector < end; sector += some) {
		some = end - sector < most ? end - sector : most;
		guard->is_interrupted |= signals_pending() != 0;
		ret = !guard->is_interrupted &&
		      is_equal(guard, operand, sector, buffers, (size_t)some * KCOPYD_SECTOR_BYTES);
	}
	free(buffers);
	return ret;
}

/* -- all its zones ------------------------------------------------------------------------------- */

/* False: it cannot go on. */
static bool check_zone(struct guard *guard, struct map *map, const char *name, struct operand *operand,
		       const struct kcopyd_zone *zone)
{
	sector_t at, count;

	switch (resume_judge_zone(map, &operand->region, zone, &at, &count)) {
	case ZONE_FITS:
		return true;
	case ZONE_AHEAD:
		return compare(guard, map, operand, at, count);
	case ZONE_LOST:
		operand_problem(operand,
				"its map %s goes on at sector %" PRIu64 ", but the zone there is written up to %" PRIu64
				" only" ADVICE,
				name, at, zone->sector + zone->written);
		return false;
	case ZONE_UNREADABLE:
		operand_problem(operand,
				"sector %" PRIu64 ", which could not be read, cannot be written again, as its zone is "
				"written up to %" PRIu64 ADVICE,
				at, zone->sector + zone->written);
		return false;
	case ZONE_GAP:
		operand_problem(
			operand,
			"by its map %s sector %" PRIu64
			" is missing, and others behind it in its zone are not; a zone is written in order" ADVICE,
			name, at);
		return false;
	}
	return false;
}

void resume_check_zones(struct guard *guard, struct map *map, const char *name, struct operand *operand)
{
	sector_t at = operand->region.sector, end = at + operand->region.count;
	struct kcopyd_zone zone;

	while (at < end) {
		int ret = kcopyd_device_zone(operand->bdev, at, &zone);

		if (ret) {
			operand_problem(operand, "its zone at sector %" PRIu64 " %s: %s", at,
					ret == -EROFS ? "cannot be written any more" : "cannot be asked for",
					strerror(-ret));
			return;
		}
		if (zone.is_sequential && !check_zone(guard, map, name, operand, &zone))
			return;
		at = zone.sector + zone.count;
	}
}
