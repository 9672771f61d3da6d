/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "zones.h"

#include <errno.h>
#include <linux/blkzoned.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define COMPARE_BYTES ((size_t)64 << 10)

/* What the device says of one zone (struct blk_zone). */
static int understand(const struct blk_zone *zone, sector_t capacity, struct kcopyd_zone *result)
{
	*result = (struct kcopyd_zone){ .sector = zone->start, .count = zone->len, .capacity = capacity };
	/* Those that only prefer to be written in order can be written anywhere. */
	result->is_sequential = zone->type == BLK_ZONE_TYPE_SEQWRITE_REQ;
	if (!result->is_sequential)
		return 0;
	switch (zone->cond) {
	case BLK_ZONE_COND_READONLY:
	case BLK_ZONE_COND_OFFLINE:
		return -EROFS;	 /* and has no write pointer */
	case BLK_ZONE_COND_FULL: /* neither has that */
		result->written = capacity;
		return 0;
	default:
		if (zone->wp < zone->start || zone->wp - zone->start > zone->len)
			return -EIO;
		result->written = zone->wp - zone->start;
		return 0;
	}
}

int kcopyd_device_zone(const struct block_device *bdev, sector_t sector, struct kcopyd_zone *zone)
{
	struct {
		struct blk_zone_report head;
		struct blk_zone zone;
	} report = { .head = { .sector = sector, .nr_zones = 1 } };

	if (!bdev->is_zoned || bdev->fd < 0)
		return -ENOTTY;
	if (ioctl(bdev->fd, BLKREPORTZONE, &report))
		return -errno;
	if (report.head.nr_zones != 1 || report.zone.start > sector || sector - report.zone.start >= report.zone.len)
		return -ENXIO;
	/* Before Linux 5.9 none could take less than its length. */
	return understand(&report.zone,
			  report.head.flags & BLK_ZONE_REP_CAPACITY ? report.zone.capacity : report.zone.len, zone);
}

/* Bytes from @offset on, at most @bytes, that are before the write pointers of their zones, which are sequential ones. */
static uint64_t find_passed(const struct block_device *bdev, uint64_t offset, uint64_t bytes)
{
	uint64_t done = 0, pointer;
	struct kcopyd_zone zone;

	while (done < bytes) {
		if (kcopyd_device_zone(bdev, (offset + done) / KCOPYD_SECTOR_BYTES, &zone) || !zone.is_sequential)
			break;
		pointer = (zone.sector + zone.written) * KCOPYD_SECTOR_BYTES;
		if (pointer <= offset + done)
			break;
		done = pointer - offset;
		if (zone.written < zone.count)
			break;
	}
	return done < bytes ? done : bytes;
}

/* @data NULL: zeros */
static size_t count_equal(const char *found, const char *data, size_t bytes)
{
	size_t same = 0;

	while (same < bytes && found[same] == (data ? data[same] : 0))
		same++;
	return same;
}

uint64_t zones_find_written(const struct block_device *bdev, uint64_t offset, uint64_t bytes, const char *data)
{
	char found[COMPARE_BYTES] __attribute__((aligned(KCOPYD_PAGE_BYTES)));
	uint64_t passed, done = 0;

	/* What the page cache would tell is nothing. */
	if (!bdev->is_zoned || !bdev->is_direct || !bdev->can_read)
		return 0;
	passed = find_passed(bdev, offset, bytes);
	while (done < passed) {
		size_t some = passed - done < COMPARE_BYTES ? (size_t)(passed - done) : COMPARE_BYTES, same;
		ssize_t moved = pread(bdev->fd, found, some, (off_t)(offset + done));

		if (moved <= 0)
			break;
		same = count_equal(found, data ? data + done : NULL, (size_t)moved);
		done += same;
		if (same < some)
			break;
	}
	return done - done % bdev->logical_block;
}
