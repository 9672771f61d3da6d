/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The other names of a region's sectors: the whole disk of a partition and its partitions, what a loop, device-mapper
 * or md device stands on, and what stands on it. Found in sysfs, decided by the engine's idea of overlap.
 */
#ifndef KCOPY_ALIAS_H
#define KCOPY_ALIAS_H

#include <linux/loop.h>
#include <stddef.h>
#include <sys/types.h>

#include "kcopyd.h"

struct alias {
	char *path; /* owned: its node */
	dev_t rdev;
};

struct aliases {
	struct alias *items; /* owned */
	size_t num;
};

/*
 * Every block device but the region's own that has a sector in common with it. 0, or -errno of the first that could
 * not be looked at: then those that could are there. Nothing is claimed, nothing read. aliases_free() is due.
 */
int aliases_find(const struct io_region *region, struct aliases *aliases);
void aliases_free(struct aliases *aliases);

/* What the loop device @rdev, a whole one, stands on. 0 or -errno (-ENXIO: on nothing). */
int alias_ask_loop(dev_t rdev, struct loop_info64 *info);

/*
 * Who holds the device @rdev, or its disk, by sysfs: 0: nobody; 1: something that @upper is or stands on, so that it is held
 * for @upper's sake; -EBUSY: others alone.
 */
int alias_ask_holders(dev_t rdev, dev_t upper);

/* A partition's whole disk, by sysfs; any other device's own number. */
dev_t alias_whole_disk(dev_t rdev);

/* The device's node, as devtmpfs names it, to be freed; NULL: there is none, or no memory. */
char *alias_path(dev_t rdev);

/* @path opened for reading with these further flags of open(2), if it is the device @rdev. A descriptor or -errno. */
int alias_open(const char *path, dev_t rdev, int flags);

#endif
