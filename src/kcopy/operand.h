/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One operand: from the user's text to an open device or file and the region of it that is meant. Finds what is wrong
 * with it alone, prints that, and goes on, so that all problems of all operands are seen at once. Writes nothing; files
 * are created and extended only by operand_prepare(), and that can be undone.
 */
#ifndef KCOPY_OPERAND_H
#define KCOPY_OPERAND_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "alias.h"
#include "contents.h"
#include "disk.h"
#include "kcopyd.h"
#include "lock.h"
#include "spec.h"

/* May what a destination holds be overwritten without --force? Only if a map says that this copy was begun, and: */
enum trust {
	TRUST_NONE,
	TRUST_COPIED, /* the source holds the same at the same place */
	TRUST_NAMED, /* or it cannot be read there any more; but the destination's disk is known by its serial number */
};

struct operand {
	unsigned int number; /* 0: the source; N: destination N */
	char *name;	     /* owned: the place, printable */
	struct spec spec;
	char *path;	 /* owned: the place, or the device that carries its tag */
	bool is_bad;	 /* a problem of it was printed ... */
	char **problems; /* owned: ... and these are they, without its name */
	size_t num_problems;
	bool is_dry; /* nothing is opened for writing, or changed: --dry-run */
	enum lock_mode lock_mode;
	int lock_error; /* why its disk could not be locked, if that is no reason to refuse: a positive errno */
	bool is_block;
	bool was_asked;	 /* whether it is in use, before any of ours was opened ... */
	bool is_busy;	 /* ... and it is */
	bool may_change; /* of a source: somebody uses it who may write it meanwhile */
	dev_t file_dev;	 /* of a file that exists, with its inode */
	ino_t file_inode;
	dev_t rdev; /* of a block device */

	struct block_device *bdev; /* owned unless is_shared; NULL until open */
	bool is_shared;		   /* with another operand: one device, opened once */
	int backing_fd;		   /* owned, or -1: the file behind a destination's loop device, locked */
	struct io_region region;
	struct aliases aliases;	  /* of a destination: the other names of its region's sectors */
	struct disk disk;	  /* of a block device, if somebody wants to know: what it is, as far as known */
	struct contents contents; /* of a destination: what stands in its region */
	enum trust trust;
	bool was_probed;    /* somebody looked ... */
	int contents_error; /* ... and this is why they are not known: a positive errno, or 0 */

	bool is_new;	    /* a file that does not exist yet: leaf in dir_fd */
	int dir_fd;	    /* owned, or -1 */
	char *leaf;	    /* owned */
	bool is_created;    /* by us */
	bool has_safe_name; /* operand_flush_name() was done */
	bool is_extended;   /* by us, from old_bytes */
	uint64_t old_bytes;
};

enum operand_kind { OPERAND_UNKNOWN, OPERAND_DISK, OPERAND_PARTITION, OPERAND_FILE, OPERAND_NEW_FILE };

/* As far as pre-flight got. A partition is one only where its disk was asked. */
enum operand_kind operand_kind(const struct operand *operand);

/* Prints "NAME: ..." and remembers that the copy is refused. */
void operand_problem(struct operand *operand, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* @operand is zeroed; it is filled as far as its text makes sense. */
void operand_parse(struct operand *operand, unsigned int number, const char *text);

/*
 * The same in two steps: the text alone, with @exists (see spec.h; NULL: what is there) to tell ranges from names; then,
 * where the place is.
 */
void operand_read(struct operand *operand, unsigned int number, const char *text, spec_exists_fn exists, void *context);
void operand_find(struct operand *operand);

/* Does the place exist, a path or a tag? A spec_exists_fn. */
bool operand_exists(const char *place, void *context);

/* What the path names, without opening it: its kind, or the directory for a new one. */
void operand_look(struct operand *operand);

/* Does somebody else claim the block device? */
void operand_ask_busy(struct operand *operand);

/* @operands: all of them; some may be open already, and a device is opened once. */
void operand_open(struct operand *operand, struct operand *operands, unsigned int num_dests);

/*
 * A destination file is ours alone as long as it is open, a source file not to be written by another kcopy: devices
 * are held by O_EXCL, files would take the writes of two kcopies, and both would say 0. -EWOULDBLOCK: somebody else has
 * it, and that was printed. -EINTR: a signal came. Else 0, also where there are no locks.
 */
int operand_lock_file(struct operand *operand, int fd);

/* Where the region is, @count sectors if it does not say (0: to its end). */
void operand_place(struct operand *operand, sector_t count);

/* Creates what is new and extends what is short. The copy is not refused otherwise any more. */
void operand_prepare(struct operand *operand);

/* Takes that back. */
void operand_undo(struct operand *operand);

/* Brings a file's name to stable storage, once: an earlier run that was killed may have created it. 0 or -errno. */
int operand_flush_name(struct operand *operand);

/* Only the device: its jobs are done. */
void operand_close_device(struct operand *operand);

/* Everything. */
void operand_close(struct operand *operand);

#endif
