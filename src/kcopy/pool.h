/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Open operands for many copies: each device or file is opened, claimed, locked and looked at once, and stays open as
 * long as there is room. What is asked of a destination is asked of all of it, before the first write to it. Main thread
 * only.
 */
#ifndef KCOPY_POOL_H
#define KCOPY_POOL_H

#include <stdbool.h>
#include <stdint.h>

#include "guard.h"
#include "kcopyd.h"
#include "stall.h"

/* So many sources, and so many destinations, are open at a time. */
#define POOL_SLOTS 64u
#define POOL_MOST (2 * POOL_SLOTS)

/* Of entries, by their index. */
struct pool_set {
	uint64_t bits[POOL_MOST / 64];
};

void pool_set_put(struct pool_set *set, unsigned int index, bool is_in);

struct pool_entry {
	struct operand *operand; /* owned by the pool: all of the device or file */
	unsigned int index;	 /* of all entries */
	unsigned int group;	 /* the same for those of one device or file; others may have the same */
	unsigned int users;	 /* copies; while there are any it stays open */
	unsigned long gets;	 /* how often it was asked for */
	unsigned long used;	 /* when it was asked for last */
	bool is_begun;		 /* written to ... */
	sector_t first, end;	 /* ... in these sectors */
	bool is_trusted;	 /* what it holds is, at least partly, ours: it was closed meanwhile */
	struct stall stall;	 /* for whoever looks */
};

struct pool;

/* @options is borrowed. 0 or -ENOMEM. */
int pool_create(const struct guard_options *options, struct pool **result);

/* Nobody uses an entry any more. NULL is allowed. */
void pool_destroy(struct pool *pool);

/* All that will be read was read: sources' devices are closed, side by side, as that takes some time. */
void pool_close_sources(struct pool *pool);

/* A file that must be no operand, open as @fd, which is borrowed; @what it is is static. */
void pool_forbid(struct pool *pool, int fd, const char *what);

/* What names files have was asked for a moment ago, and may have changed since: after each wait, and whatever was read. */
void pool_doubt_names(struct pool *pool);

/*
 * Reads @text as operand @number of a copy, and finds or opens what it names. @operand, zeroed, is filled as for a guard,
 * but for its region. Both are the caller's until pool_put(), which is due whatever comes back; @entry only after 0, else NULL.
 * -EINVAL: refused, which was printed, and is in @operand. -EINTR: a signal. -EAGAIN: later, when other entries have been put.
 * -ENOENT, of a source: it is to be created by a copy that was asked for, and has not been yet.
 */
int pool_get(struct pool *pool, struct operand *operand, unsigned int number, const char *text,
	     struct pool_entry **entry);
void pool_put(struct pool_entry *entry, struct operand *operand);

/* No destination may keep more than its share of a client's reserve: see kcopyd_device_limit(). */
void pool_share(struct pool *pool, uint64_t reserve_bytes);

/*
 * Before a write to @operand, of @entry, whose region is set: does it overwrite something? 0, or -EINVAL, and that was
 * printed. By what was there when the entry was opened. -EAGAIN, if reserves are shared: that must be asked of a device that
 * does not answer.
 */
int pool_check_contents(struct pool *pool, const struct pool_entry *entry, struct operand *operand);

/* Right before that write: creates and extends. 0, or -EINVAL, which was printed. */
int pool_begin(struct pool *pool, struct pool_entry *entry, struct operand *operand);

/* By the index of another entry: may any sector of it be one of this entry's? Of its own, too. */
const bool *pool_overlaps(const struct pool *pool, const struct pool_entry *entry);

/* The same, but for those of the same device or file, for which the sectors alone say it. */
const struct pool_set *pool_others(const struct pool *pool, const struct pool_entry *entry);

/* Those that are open, one after the other, by @index from 0; NULL: none, at this one. */
struct pool_entry *pool_at(struct pool *pool, unsigned int index);

#endif
