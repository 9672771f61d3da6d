/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "resume_doubt.h"

#include <string.h>

#include "contents.h"

/* From where something begins; what is looked for is within. */
#define LOOK_SECTORS ((sector_t)256)

/* @sector: of the source; the map claims @count, not more than LOOK_SECTORS. */
static bool differs(const struct operand *source, const struct operand *operand, sector_t sector, sector_t count)
{
	static char ours[LOOK_SECTORS * KCOPYD_SECTOR_BYTES], theirs[sizeof(ours)];
	uint64_t offset = sector * KCOPYD_SECTOR_BYTES, size = kcopyd_device_bytes(source->bdev);
	uint64_t there = sector - source->region.sector + operand->region.sector;
	size_t bytes = (size_t)count * KCOPYD_SECTOR_BYTES;

	/* A file's last sector may be there in part. */
	if (bytes > size - offset)
		bytes = (size_t)(size - offset);
	if (contents_read(&source->region, offset, theirs, bytes))
		return false;
	return contents_read(&operand->region, there * KCOPYD_SECTOR_BYTES, ours, bytes) || memcmp(ours, theirs, bytes);
}

bool resume_is_overwritten(const struct map *map, const struct operand *source, const struct operand *operand)
{
	const struct io_region *region = &operand->region;

	for (size_t i = 0; i < operand->contents.num; i++) {
		const struct content *item = &operand->contents.items[i];
		sector_t first = item->offset / KCOPYD_SECTOR_BYTES, end = first + LOOK_SECTORS, count;

		if (!item->is_foreign)
			continue;
		if (first < region->sector)
			first = region->sector;
		if (end > region->sector + region->count)
			end = region->sector + region->count;
		for (sector_t at = first; at < end; at += count) {
			sector_t sector = at - region->sector + map_sector(map);
			bool is_claimed = map_get(map, sector, &count) == MAP_FLUSHED;

			if (count > end - at)
				count = end - at;
			if (is_claimed && differs(source, operand, sector, count))
				return true;
		}
	}
	return false;
}
