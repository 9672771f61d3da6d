/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Can a copy to a zoned destination go on where its map says? A sequential zone is written at its write pointer and nowhere
 * else, so the map and the zones must tell the same. Reads devices; called by resume, before the copy.
 */
#ifndef KCOPY_RESUME_ZONES_H
#define KCOPY_RESUME_ZONES_H

#include "guard.h"
#include "kcopyd.h"
#include "map.h"
#include "operand.h"

enum zone_verdict {
	ZONE_FITS,  /* what is to be written there comes at the write pointer */
	ZONE_AHEAD, /* @at to the write pointer, @count sectors, was written after the map was saved: to be compared */
	ZONE_LOST,  /* the map claims what is not there, or the pointer is before the region: @at is next, of the map */
	ZONE_UNREADABLE, /* @at was unreadable, zeros are there, and they cannot be written again */
	ZONE_GAP,	 /* the map claims what lies behind @at, which is missing */
};

/* Of a sequential zone and the part of @region that is in it; @at: a sector of the device. */
enum zone_verdict resume_judge_zone(const struct map *map, const struct io_region *region,
				    const struct kcopyd_zone *zone, sector_t *at, sector_t *count);

/*
 * The map of @operand, named @name, was loaded. What was written after it was saved and is what the source holds becomes
 * MAP_WRITTEN; whatever else keeps the copy from going on is a problem of the operand. A signal ends it:
 * @guard->is_interrupted.
 */
void resume_check_zones(struct guard *guard, struct map *map, const char *name, struct operand *operand);

#endif
