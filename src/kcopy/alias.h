/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The other names of a region's sectors: the whole disk of a partition and its partitions, what a loop, device-mapper
 * or md device stands on, and what stands on it. Found in sysfs, decided by the engine's idea of overlap.
 */
#ifndef KCOPY_ALIAS_H
#define KCOPY_ALIAS_H

#include <dirent.h>
#include <limits.h>
#include <linux/loop.h>
#include <stddef.h>
#include <stdint.h>
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

/* A loop device that stands on something, and on which of the regions that were asked for (bit i: region i). */
struct alias_loop {
	dev_t rdev;
	uint64_t behind;
	uint64_t unknown; /* of these it could not be told ... */
	int error;	  /* ... for this reason: -errno */
};

struct alias_loops {
	struct alias_loop *items; /* owned */
	size_t num;
	int error; /* -ENOMEM: not all are there */
};

/* All loop devices, each of which is asked once for all @regions (64 at the most; a bdev of NULL: none). */
void alias_ask_loops(const struct io_region *regions, unsigned int num, struct alias_loops *loops);
void alias_free_loops(struct alias_loops *loops);

/*
 * Every block device but the region's own that has a sector in common with it. @loops: of regions, this is the
 * @index-th. 0, or -errno of the first that could not be looked at: then those that could are there. Nothing is
 * claimed, nothing read. aliases_free() is due.
 */
int aliases_find(const struct io_region *region, const struct alias_loops *loops, unsigned int index,
		 struct aliases *aliases);
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

/* The partitions that the kernel has of a disk, whatever its table says. */
struct alias_walk {
	DIR *dir;		 /* owned; NULL: there are none */
	char path[64];		 /* the disk's directory in sysfs, which has one of each of them */
	char disk[NAME_MAX + 1]; /* its name there: theirs begin with it */
};

void alias_walk_partitions(dev_t disk, struct alias_walk *walk);
const char *alias_next_partition(struct alias_walk *walk); /* its name in sysfs; NULL: that was the last */
void alias_end_walk(struct alias_walk *walk);

/* The device's node, as devtmpfs names it, to be freed; NULL: there is none, or no memory. */
char *alias_path(dev_t rdev);

/* @path opened for reading with these further flags of open(2), if it is the device @rdev. A descriptor or -errno. */
int alias_open(const char *path, dev_t rdev, int flags);

#endif
