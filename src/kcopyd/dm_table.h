/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A device-mapper device's table: read from the kernel, and what its lines say of where the sectors are. Asks
 * /dev/mapper/control itself, without libdevmapper; never changes anything there. stack is its only user.
 */
#ifndef KCOPYD_DM_TABLE_H
#define KCOPYD_DM_TABLE_H

#include <linux/dm-ioctl.h>

#include "identity.h"

/* A line: these sectors of the device are such a target. */
struct dm_target {
	sector_t sector;
	sector_t count;
	const char *type;   /* borrowed from the table, as are ... */
	const char *params; /* ... its parameters; a crypt target's hold its key */
};

struct dm_table {
	struct dm_ioctl *answer; /* owned */
	uint32_t bytes;		 /* of it */
	uint32_t next;		 /* bytes from the first line to the one that dm_table_next() takes */
	unsigned int num_left;	 /* lines that it has not taken */
};

/* To be freed if it succeeds. -EACCES: needs CAP_SYS_ADMIN. */
int dm_table_read(dev_t rdev, struct dm_table *table);
void dm_table_free(struct dm_table *table);

/* 1: the next line; 0: there is none; -EIO: it makes no sense. */
int dm_table_next(struct dm_table *table, struct dm_target *target);

/*
 * The target's leg @n, counted from 0: a piece that stands on a device (disk; no whole one, perhaps), which is all
 * but its holder. 1: it is filled in; 0: there are no more; -EINVAL: not a target that we know to keep its sectors
 * in places that its line tells. Pure. The lines are those of Linux' Documentation/admin-guide/device-mapper.
 */
int dm_target_leg(const struct dm_target *target, unsigned int n, struct piece *leg);

#endif
