/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the queue of a device is like, as the kernel tells it, and what follows from it for the length of chunks. Does
 * no I/O. A copy asks when it begins, unless it is so short that asking would be dear.
 *
 * Virtual disks, and loop devices over them, say that they rotate: whether they do is for the caller to measure.
 */
#ifndef KCOPYD_QUEUE_H
#define KCOPYD_QUEUE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "kcopyd.h"

/* Of the whole disk; of a file: of its file system's. All zero: nobody knows. */
struct queue {
	uint32_t optimal_bytes; /* optimal I/O size: a RAID's full stripe. 0: unknown, or not believed */
	uint32_t max_bytes;	/* of one request; 0: unknown */
	unsigned int num_requests;
	bool is_rotational;
	bool takes_at_once; /* its driver queues requests, as many as it has numbers for, and never waits with them */
};

/* Fills @bdev->queue, the first time. Some 30 us. Any thread. */
const struct queue *queue_ask(struct block_device *bdev);

/* The same of a device number, of logical blocks of @block bytes. From /sys; for tests, from a directory like it. */
void queue_read(const char *sysfs, dev_t rdev, unsigned int block, struct queue *queue);

/*
 * Do both stand on one rotating disk, whatever is between: partitions, device-mapper, md, loop devices, file systems
 * on them? Then its head goes to and fro. Any thread, after queue_ask() of both. False if it cannot be told: a file
 * system of several disks.
 */
bool queue_shares_spindle(const struct block_device *a, const struct block_device *b);
bool queue_shares_spindle_sysfs(const char *sysfs, const struct block_device *a, const struct block_device *b);

/* What follows is of devices that were asked. */

/* Do all of them take requests of QUEUE_SHORT_BYTES without anybody having to wait for them? */
bool queue_takes_at_once(const struct io_region *from, const struct io_region *dests, unsigned int num_dests);
#define QUEUE_SHORT_BYTES (512u << 10)

/*
 * A chunk, in pages: 1 MiB, or QUEUE_SHORT_BYTES if all @takes_at_once (devices are faster with more and shorter ones,
 * as long as nobody has to be woken for them), or half of the reserve; and a multiple of the destinations' optimal I/O sizes, so that a
 * RAID writes full stripes and reads nothing for them. A size of which the reserve does not hold four is passed over; if
 * that is only so of their least common multiple, the largest one counts.
 */
unsigned int queue_chunk_pages(const struct io_region *dests, unsigned int num_dests, unsigned int num_pages,
			       bool takes_at_once);

/*
 * How long, in sectors, the first of such chunks is to be, a whole one at the most: then those that follow begin at
 * multiples of the optimal I/O size on the first destination that has one. So do all that begin where (offset - first) is
 * a multiple of the chunk. Chunks begin at multiples of @block bytes only, the largest logical block of the copy's
 * devices. The whole chunk if there is no such length, or none is wanted.
 */
sector_t queue_first_sectors(const struct io_region *dests, unsigned int num_dests, unsigned int chunk_pages,
			     unsigned int block);

#endif
