/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A client with scripted disks, and a record of everything it told: for the tests of jobs. One job's outcome is judged here
 * against the disks' contents and rules, so that every test asserts all of it.
 */
#ifndef TEST_WORLD_H
#define TEST_WORLD_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "kcopyd.h"
#include "scripted.h"

#define SECTOR 512u
#define MAX_TOLD 65536u

enum told_kind { TOLD_READ, TOLD_WRITTEN, TOLD_ZEROED, TOLD_ERROR };

struct told {
	enum told_kind kind;
	void *context;
	enum kcopyd_op op; /* of an error */
	unsigned int dest;
	struct io_region region;
	sector_t contiguous;
	int error;
	bool is_dropped;
};

/* What a job came to; its context. Guarded by the world's lock. */
struct outcome {
	unsigned int calls;
	unsigned int rank; /* the how many-th callback of all */
	int read_err;
	unsigned int write_err;
	struct world *world;
	void (*then)(struct outcome *outcome); /* or NULL; in the callback, without the lock */
	void *arg;
};

struct world {
	struct kcopyd_client *kc;
	struct script *source;
	struct script *dests[KCOPYD_MAX_DESTS];
	unsigned int num_dests;

	pthread_mutex_t lock; /* guards the rest */
	pthread_cond_t changed;
	struct told *told; /* owned */
	unsigned int num_told;
	unsigned int num_callbacks;
	pthread_t thread; /* of the callbacks */
	bool has_thread;
	bool is_inside; /* a callback or the observer runs */
};

/* All disks have @bytes and 512-byte logical blocks. */
struct world *world_create(unsigned int num_pages, unsigned int num_dests, uint64_t bytes);
void world_destroy(struct world *world);

void world_notify(int read_err, unsigned int write_err, void *outcome);
void world_wait(struct world *world, const struct outcome *outcome);
bool world_is_done(struct world *world, const struct outcome *outcome);

/* Starts a copy of @count sectors from @sector to @sector + 8 * (1 + i) of each destination. */
int world_start(struct world *world, sector_t sector, sector_t count, unsigned int flags, struct outcome *outcome);
struct io_region world_source(const struct world *world, sector_t sector, sector_t count);
struct io_region world_dest(const struct world *world, unsigned int dest, sector_t sector, sector_t count);

/* Of what was told: errors of @op (and @dest), in sectors; and the largest contiguous of @dest. */
sector_t world_errors(const struct world *world, const void *context, enum kcopyd_op op, unsigned int dest);
bool world_is_told_bad(const struct world *world, const void *context, enum kcopyd_op op, unsigned int dest,
		       sector_t sector);
sector_t world_contiguous(const struct world *world, const void *context, unsigned int dest);

/* In each chunk_written, contiguous is the sectors from @to's start that were told written so far, no more and no fewer. */
void world_assert_contiguous_exact(const struct world *world, const void *context, unsigned int dest,
				   const struct io_region *to);

bool world_is_same(const struct script *a, sector_t a_sector, const struct script *b, sector_t b_sector);
bool world_is_filled(const struct script *script, sector_t sector, char byte);

/*
 * The usual job, of the tests that need no other: COUNT sectors from START, with a reserve of PAGES and disks of DISK bytes.
 * Its helpers have short names, as the flags do, since most lines of these tests are made of them.
 */
#define PAGES 8u  /* two chunks of ... */
#define CHUNK 32u /* ... so many sectors */
#define DISK (512u << 10)
#define START 16u
#define COUNT (10 * CHUNK + 5) /* the last chunk is a short one */

#define IGNORE KCOPYD_IGNORE_ERROR
#define SEQ KCOPYD_WRITE_SEQ
#define DROP KCOPYD_DROP_FAILED
#define SPARSE KCOPYD_SPARSE

/* Rules for @count sectors from @sector, or for all with a @count of 0. */
struct script_rule failing(int op, sector_t sector, sector_t count, int error);
struct script_rule holding(int op, sector_t sector, sector_t count);

/* Runs it to its end. */
void copy(struct world *world, unsigned int flags, struct outcome *outcome);

/* The sector of destination @dest that has its sector @n. */
sector_t on_dest(unsigned int dest, sector_t n);

/* Sectors @first to @end, exclusive, of the job: destination @dest has the source's. */
void assert_copied(const struct world *world, unsigned int dest, sector_t first, sector_t end);
void assert_outside_untouched(const struct world *world, unsigned int dest);
void assert_contiguous_exact(const struct world *world, const struct outcome *outcome);

/* With SEQ in @flags: one write at a time, and none at a place before the last one's. */
void assert_write_order(const struct script *script, unsigned int flags);

#endif
