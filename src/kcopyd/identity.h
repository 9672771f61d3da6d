/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where the sectors of an open device or file really are: pieces of whole disks and files, whatever stands between
 * (partitions, loop, device-mapper, md). A list and its arithmetic: it asks nobody anything. device keeps one for as
 * long as it is open, filled by stack.
 */
#ifndef KCOPYD_IDENTITY_H
#define KCOPYD_IDENTITY_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "kcopyd.h"

/* A count: to the end, wherever that is. Any sector of a device plus this does not overflow. */
#define PIECE_TO_END ((sector_t)1 << 60)

/*
 * Some sectors of the device, and those of the base that they are. Exact: sector + i is base_sector + i. Otherwise
 * opaque: each of them may be anywhere in the base's range.
 */
struct piece {
	sector_t sector; /* on the device */
	sector_t count;
	dev_t disk;	      /* the base: a whole disk's number, or the file system's ... */
	ino_t inode;	      /* ... and the file's; 0 for a disk */
	sector_t base_sector; /* on the base */
	sector_t base_count;  /* exact: as count */
	bool is_exact;
	bool is_uncertain; /* the holder's table could not be read */
	bool is_all;	   /* opaque: the holder's sectors fill the range, so that nobody else's are in it */
	dev_t holder;	   /* opaque: the device that makes it so */
};

/* A loop device that begins within a sector is two exact pieces: a sector of it is a part of each of two. */
struct identity {
	struct piece *pieces; /* owned */
	unsigned int num_pieces;
};

/* Zeroed it is empty, and needs no release. */
void identity_release(struct identity *identity);

/* These add to @identity; 0 or -ENOMEM, and then some of it may have been added. */
int identity_add(struct identity *identity, const struct piece *piece);

/* All of a disk (@inode 0) or file, which may grow. */
int identity_add_whole(struct identity *identity, dev_t disk, ino_t inode);

/* @leg is a piece whose base is no disk, but a device that is @below itself: what it is there. */
int identity_add_through(struct identity *identity, const struct piece *leg, const struct identity *below);

/*
 * May a sector of one range be one of the other? What cannot be told counts as yes. Two opaque pieces do not say:
 * volumes of one pool lie side by side in it, and if one stood on the other, that shows at the other's own level.
 * Ranges below 2^55 sectors.
 */
bool identity_has_overlap(const struct identity *a, sector_t a_sector, sector_t a_count, const struct identity *b,
			  sector_t b_sector, sector_t b_count);

/* Has any piece of one the base of any of the other? */
bool identity_has_common_base(const struct identity *a, const struct identity *b);

#endif
