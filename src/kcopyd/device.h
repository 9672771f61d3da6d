/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * An open block device or regular file: its descriptor, size, alignment and identity. Asked once, when it is
 * opened; constant afterwards but for is_failed, cannot_zero and queue, so that any thread may read it. Does no I/O on
 * the contents.
 */
#ifndef KCOPYD_DEVICE_H
#define KCOPYD_DEVICE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "identity.h"
#include "kcopyd.h"
#include "queue.h"
#include "zeros.h"

struct lane;

struct block_device {
	int fd;		 /* owned; O_DIRECT where is_direct. -1: a virtual device */
	int buffered_fd; /* what unaligned transfers use: fd itself, or owned: a file's, without O_DIRECT */
	dev_t rdev;	 /* a block device's number */
	bool is_block;	 /* else a regular file */
	bool is_direct;	 /* transfers aligned to direct_align bypass the page cache */
	bool is_zoned;	 /* host-managed or host-aware zones */
	bool can_read;
	bool can_write;
	uint64_t bytes;		    /* the exact size at open */
	unsigned int logical_block; /* bytes; a file's: 512 */
	unsigned int direct_align;  /* bytes: offset and length of a direct transfer */
	struct zeros_rules zeros;   /* which zeros are worth a request of their own */
	uint64_t hole_least;	    /* bytes: a file's holes that are smaller count as data; 0: it is not asked */
	bool is_fuse;		    /* a file whose server need not mean what it says of holes: see holes.c */
	atomic_bool cannot_zero;    /* learned by its lane: zeros have to be written */
	struct identity identity;   /* where its sectors really are */
	struct queue queue;	    /* once has_queue: see queue_ask() */
	atomic_bool has_queue;
	struct lane *lane;     /* owned; NULL until it has one */
	atomic_bool is_failed; /* see kcopyd_device_fail() */
};

/* @fd is the device's on success. -ENOTBLK: neither block device nor regular file. */
int device_create(int fd, struct block_device **result);

/* For tests: a block device without a descriptor; the caller gives it a lane. */
int device_create_virtual(uint64_t bytes, unsigned int logical_block, bool is_zoned, struct block_device **result);

/* Its lane must be gone. */
void device_destroy(struct block_device *bdev);

/* The same, but the descriptor is its giver's again. */
void device_release(struct block_device *bdev);

/*
 * Was the device, or for a partition its disk, removed from the kernel since it was opened? Asks the kernel alone, so
 * it never waits for the device.
 */
bool device_is_absent(const struct block_device *bdev);

/* Can this transfer (bytes) bypass the page cache? */
bool device_is_aligned(const struct block_device *bdev, uint64_t offset, uint64_t bytes);

#endif
