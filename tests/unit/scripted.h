/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A lane engine for tests: a 'disk' of memory that does what a list of rules says, in the order the test wants,
 * and records what it was asked to do. The test owns it; the lane that is given it only uses it. Any thread.
 */
#ifndef TEST_SCRIPTED_H
#define TEST_SCRIPTED_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "device.h"
#include "lane.h"

#define SCRIPT_ANY (-1)	     /* every operation */
#define SCRIPT_POISON '\xdb' /* what a buffer holds that was not read into */
#define SCRIPT_BLANK '\xee'  /* what a new disk holds */

enum script_what {
	SCRIPT_FAIL,	/* an attempt that touches the range fails altogether with @error, nothing is moved */
	SCRIPT_FAIL_AT, /* what is before the first logical block of the range is moved, then the attempt on it fails */
	SCRIPT_SHORT,	/* at most @length bytes are moved; 0: no progress */
	SCRIPT_REFUSE,	/* submit() returns -@error if the first request matches; 0: takes none of them */
	SCRIPT_HOLD,	/* it is done only when the test lets it go */
	SCRIPT_HANG,	/* submit() does not return before the test lets it go, if the first request matches */
};

struct script_rule {
	enum script_what what;
	int op;			/* enum lane_op or SCRIPT_ANY */
	uint64_t offset, bytes; /* what an attempt must touch; 0 bytes: every attempt. A flush touches everything */
	unsigned int skip;	/* that many matches go well first ... */
	unsigned int times;	/* ... then that many do not; 0: for ever */
	int error;		/* a positive errno */
	uint64_t length;
};

enum script_order { SCRIPT_IN_ORDER, SCRIPT_REVERSE, SCRIPT_RANDOM };

/* One attempt, when it starts and when it is done. */
struct script_entry {
	uint64_t when; /* one clock for all disks: who was first */
	bool is_end;
	enum lane_op op;
	uint64_t offset, bytes; /* of this attempt */
	int64_t result;		/* at the end */
};

#define SCRIPT_MAX_RULES 64u
#define SCRIPT_MAX_DEPTH 64u

struct script {
	struct block_device *bdev; /* owned; NULL for a disk without a device */
	char *data;		   /* owned */
	uint64_t bytes;		   /* of data */
	uint64_t read_end;	   /* reads are short there, as at a file's end */
	unsigned int logical_block;
	unsigned int depth;
	bool has_known_zeros; /* zeroing tells how far there were zeros already, and leaves them alone */
	bool writes_zeros;    /* zeroing is writing, as the first try tells */
	bool is_startable;  /* reads and writes can be started without the lane's thread; of '..._started', at first */
	unsigned int waits; /* every so-manieth of those would have to wait; 0: none */

	pthread_mutex_t lock; /* guards what follows, and data while requests are in flight */
	pthread_cond_t changed;
	struct script_rule rules[SCRIPT_MAX_RULES];
	unsigned int num_rules;
	enum script_order order;
	uint64_t seed;
	unsigned int max_batch; /* what submit() takes at once; 0: all */
	struct lane_request *in_flight[SCRIPT_MAX_DEPTH];
	bool is_held[SCRIPT_MAX_DEPTH];
	int event_fds[SCRIPT_MAX_DEPTH]; /* of those that were started; -1: of the others */
	unsigned int num_started;	 /* ever, if some would have to wait */
	unsigned int num_by_thread;	 /* reads and writes that were submitted by a lane's thread, ever */
	unsigned int num_in_flight, num_held;
	unsigned int most_in_flight, most_writes;
	unsigned int num_hanging; /* submit() hangs */
	bool is_woken, is_closed;
	struct script_entry *record; /* owned */
	size_t num_entries, room;
};

extern const struct lane_engine_ops script_ops;

/* A disk without a device; for lane_create(&script_ops, script, ...). */
struct script *script_create(uint64_t bytes, unsigned int logical_block);

/* A disk and a device over it, which script_destroy() closes; @depth as for a lane. */
struct script *script_open(uint64_t bytes, unsigned int logical_block, bool is_zoned, unsigned int depth);
/* Of an abandoned device's, all that is held is let go after it was closed. */
void script_destroy(struct script *script);

/* From now on it is a file with holes, where zeros of @hole_least bytes and more are
 * a hole, but for what a rule for reads touches. Before the first job. */
void script_make_file(struct script *script, uint64_t hole_least);

/* Zeros. */
void script_clear(struct script *script, uint64_t offset, uint64_t bytes);

/* Contents that differ in every 16 bytes and from seed to seed. */
void script_fill(struct script *script, uint64_t seed);

void script_add(struct script *script, struct script_rule rule);
void script_set_order(struct script *script, enum script_order order, uint64_t seed);

/* Takes every SCRIPT_HOLD and SCRIPT_HANG away and lets all go that is held; or only the one that was held last, and the rules stay. */
void script_let_go(struct script *script);
void script_let_go_last(struct script *script);

/* Waits until submit() hangs. */
void script_wait_hanging(struct script *script);

/* Waits until so many attempts are held, or are done altogether. */
void script_wait_held(struct script *script, unsigned int count);
void script_wait_done(struct script *script, unsigned int count);

/* Attempts in the record that ended, of @op or SCRIPT_ANY. */
unsigned int script_count(struct script *script, int op);

uint64_t script_random(uint64_t *state);
/* Is every step dear (memcheck, $KCOPY_VALGRIND; the thread sanitizer)? Then a sample of what is tried otherwise will do. */
bool script_is_slow(void);
/* $KCOPY_TEST_SEED or the clock; printed. */
uint64_t script_seed(void);

#endif
