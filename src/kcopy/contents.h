/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What stands in a region that is to be overwritten: file systems, swap, RAID and LVM members, encrypted volumes,
 * partition tables and the partitions of them. Reads only.
 */
#ifndef KCOPY_CONTENTS_H
#define KCOPY_CONTENTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "kcopyd.h"

struct content {
	char *text; /* owned, as are the others: for people, printable: /dev/sdc1 (ext4 "backup", 500 GiB) */
	char *node; /* a partition's device node, or NULL */
	unsigned int partition; /* its number, or 0 */
	char *type;		/* as libblkid calls it; NULL: a partition that holds nothing known */
	char *label, *uuid;	/* or NULL; as found, not printable */
	uint64_t offset, bytes; /* where it stands on the device or file; its room there, or 0: not known */
	bool is_table;		/* a partition table */
	bool is_damaged;	/* its checksum is wrong */
	bool is_foreign;	/* whoever asked knows that it is no part of the copy that was begun here */
};

struct contents {
	struct content *items; /* owned */
	size_t num;
};

/*
 * Before contents_find(), at best some time before: what the page cache holds of the device may be old and goes, and what
 * will be read is asked for, whichever part of it the region is. @rdev: 0 for a file, for which there is nothing to do.
 */
void contents_begin(const struct io_region *region, dev_t rdev);

/*
 * @region's device is open; @rdev is its number, 0 for a file. 0, or -errno if it cannot be read: then nobody knows
 * what is there. contents_free() is due in both cases.
 */
int contents_find(const struct io_region *region, dev_t rdev, struct contents *contents);
void contents_free(struct contents *contents);

/* Would a copy to @region overwrite this one of the contents of the whole device or file? What it holds is not read again. */
bool contents_is_hit(const struct content *item, const struct io_region *region);

/*
 * Only what begins just where the region begins, whatever a table says; the rest as contents_find(), which finds it, too.
 */
int contents_find_start(const struct io_region *region, struct contents *contents);

/* @bytes of @region's device or file, at @offset in it, by the way that contents_find() reads. -EIO: it is shorter. */
int contents_read(const struct io_region *region, uint64_t offset, void *buffer, size_t bytes);

#endif
