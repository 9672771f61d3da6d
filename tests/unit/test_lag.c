/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A destination that is far behind the others is split off: they go on, it gets all that it lacks from reads of its own,
 * and what is true of every job is true of such a one. How fast that is, is no affair of these tests.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <sched.h>
#include <string.h>
#include <unistd.h>

#include "client.h"
#include "kcopyd.h"
#include "scripted.h"
#include "world.h"

#define RESERVE 16u			     /* chunks, */
#define PIECE 8u			     /* each of so many sectors, a page */
#define LAG 4u				     /* chunks */
#define PIECES ((COUNT + PIECE - 1) / PIECE) /* of a job */

static struct world *lag_world(unsigned int num_dests, uint64_t lag)
{
	struct world *world = world_create(RESERVE, num_dests, DISK);

	client_set_chunk_pages(world->kc, 1);
	kcopyd_client_set_max_lag(world->kc, lag);
	return world;
}

static uint64_t lag_bytes(void)
{
	return (uint64_t)LAG * PIECE * SECTOR;
}

static void assert_all_copied(const struct world *world, const struct outcome *outcome)
{
	unsigned int i;

	assert_int_equal(outcome->calls, 1);
	assert_int_equal(outcome->read_err, 0);
	assert_int_equal(outcome->write_err, 0);
	for (i = 0; i < world->num_dests; i++) {
		assert_copied(world, i, 0, COUNT);
		assert_outside_untouched(world, i);
		assert_int_equal(world_contiguous(world, outcome, i), COUNT);
	}
	assert_contiguous_exact(world, outcome);
}

/* The other one cannot be behind; so all is known of what is read. */
static void the_other_gets_through_while_one_does_nothing(void **state)
{
	static const unsigned int flags[] = { 0, DROP, SEQ, SEQ | DROP };
	unsigned int i, slow;

	(void)state;
	for (i = 0; i < 8; i++) {
		struct world *world = lag_world(2, lag_bytes());
		struct outcome outcome = { 0 };

		slow = i % 2;
		script_add(world->dests[slow], holding(LANE_WRITE, 0, 0));
		script_add(world->source, holding(LANE_READ, START + 22 * PIECE, COUNT)); /* so it has more to read */
		assert_int_equal(world_start(world, START, COUNT, flags[i / 2], &outcome), 0);
		script_wait_done(world->dests[1 - slow], 22);
		/* What waits for it is no more than it may be behind: nothing of its own was read yet. */
		pthread_mutex_lock(&world->dests[slow]->lock);
		assert_true(world->dests[slow]->most_in_flight <= LAG);
		pthread_mutex_unlock(&world->dests[slow]->lock);
		assert_int_equal(script_count(world->source, LANE_READ), 22);
		script_let_go(world->source);
		script_wait_done(world->dests[1 - slow], PIECES);
		assert_false(world_is_done(world, &outcome));
		script_let_go(world->dests[slow]);
		world_wait(world, &outcome);
		assert_all_copied(world, &outcome);
		assert_write_order(world->dests[slow], flags[i / 2]);
		assert_true(script_count(world->source, LANE_READ) > PIECES);
		assert_true(script_count(world->source, LANE_READ) <= 2 * PIECES - LAG);
		assert_int_equal(script_count(world->dests[slow], LANE_WRITE), PIECES);
		world_destroy(world);
	}
}

static void several_that_are_slow_are_each_split_off(void **state)
{
	struct world *world = lag_world(4, lag_bytes());
	struct outcome outcome = { 0 };
	unsigned int i;

	(void)state;
	/* The second one gets further than the third before it stops. */
	script_add(world->dests[1], holding(LANE_WRITE, on_dest(1, 12 * PIECE), COUNT));
	script_add(world->dests[2], holding(LANE_WRITE, 0, 0));
	assert_int_equal(world_start(world, START, COUNT, DROP, &outcome), 0);
	script_wait_done(world->dests[0], PIECES);
	script_wait_done(world->dests[3], PIECES);
	assert_false(world_is_done(world, &outcome));
	script_let_go(world->dests[2]);
	script_wait_done(world->dests[2], PIECES);
	assert_false(world_is_done(world, &outcome));
	script_let_go(world->dests[1]);
	world_wait(world, &outcome);
	assert_all_copied(world, &outcome);
	for (i = 0; i < 4; i++)
		assert_int_equal(script_count(world->dests[i], LANE_WRITE), PIECES);
	world_destroy(world);
}

static void without_it_all_go_at_the_pace_of_the_slowest(void **state)
{
	static const struct {
		uint64_t lag;
		unsigned int flags, pages;
	} rounds[] = { { 0, 0, RESERVE }, { 1, IGNORE, RESERVE }, { 1, DROP, 7 }, { 1, 0, 2 } };
	unsigned int i;

	(void)state;
	for (i = 0; i < 4; i++) {
		struct world *world = world_create(rounds[i].pages, 2, DISK);
		struct outcome outcome = { 0 };

		client_set_chunk_pages(world->kc, 1);
		kcopyd_client_set_max_lag(world->kc, rounds[i].lag);
		script_add(world->dests[1], holding(LANE_WRITE, 0, 0));
		assert_int_equal(world_start(world, START, COUNT, rounds[i].flags, &outcome), 0);
		script_wait_done(world->dests[0], rounds[i].pages);
		assert_int_equal(script_count(world->source, LANE_READ), rounds[i].pages);
		script_let_go(world->dests[1]);
		world_wait(world, &outcome);
		assert_all_copied(world, &outcome);
		assert_int_equal(script_count(world->source, LANE_READ), PIECES);
		world_destroy(world);
	}
}

/* Whether its reads are cheap: that is known when it was watched for a while. */
static void by_itself_only_where_the_source_is_idle(void **state)
{
	struct world *world = lag_world(2, KCOPYD_LAG_AUTO);
	struct outcome outcome = { 0 };

	(void)state;
	script_add(world->dests[1], holding(LANE_WRITE, 0, 0));
	assert_int_equal(world_start(world, START, COUNT, 0, &outcome), 0);
	script_wait_done(world->dests[0], PIECES);
	assert_false(world_is_done(world, &outcome));
	script_let_go(world->dests[1]);
	world_wait(world, &outcome);
	assert_all_copied(world, &outcome);
	assert_true(script_count(world->source, LANE_READ) > PIECES);
	world_destroy(world);
}

static void not_by_itself_where_reads_are_limited(void **state)
{
	struct world *world = lag_world(2, KCOPYD_LAG_AUTO);
	struct outcome outcome = { 0 };

	(void)state;
	kcopyd_client_set_limit(world->kc, UINT64_C(1) << 30);
	script_add(world->dests[1], holding(LANE_WRITE, 0, 0));
	assert_int_equal(world_start(world, START, COUNT, 0, &outcome), 0);
	script_wait_done(world->dests[0], RESERVE);
	usleep(300 * 1000); /* it would have been long enough */
	assert_int_equal(script_count(world->source, LANE_READ), RESERVE);
	script_let_go(world->dests[1]);
	world_wait(world, &outcome);
	assert_all_copied(world, &outcome);
	world_destroy(world);
}

/* -- errors -------------------------------------------------------------------------------------- */

#define FAR (20 * PIECE + 3) /* a sector of the job that the others come to when one was split off */

/* Attempts at that sector of the job alone. */
static unsigned int count_tries(struct script *script, sector_t n)
{
	unsigned int count = 0;
	size_t i;

	pthread_mutex_lock(&script->lock);
	for (i = 0; i < script->num_entries; i++)
		count += script->record[i].is_end && script->record[i].offset == (START + n) * SECTOR &&
			 script->record[i].bytes == SECTOR;
	pthread_mutex_unlock(&script->lock);
	return count;
}

static void wait_error(struct world *world)
{
	unsigned int i;
	bool has_error = false;

	pthread_mutex_lock(&world->lock);
	while (!has_error) {
		for (i = 0; i < world->num_told; i++)
			has_error |= world->told[i].kind == TOLD_ERROR;
		if (!has_error)
			pthread_cond_wait(&world->changed, &world->lock);
	}
	pthread_mutex_unlock(&world->lock);
}

/* For ThreadSanitizer: a limit wakes the client's thread, which looks at much. */
static void it_may_be_set_while_the_thread_takes_a_limit(void **state)
{
	struct world *world = world_create(4096, 2, DISK);
	struct outcome outcome = { 0 };

	(void)state;
	kcopyd_client_set_limit(world->kc, UINT64_C(1) << 40);
	kcopyd_client_set_max_lag(world->kc, 4 << 20);
	copy(world, 0, &outcome);
	assert_all_copied(world, &outcome);
	world_destroy(world);
}

/* Chunks as long as a RAID's stripes: only two of them are in use to begin with. */
static void of_long_chunks_some_can_always_be_written(void **state)
{
	static const unsigned int chunk_pages[] = { 512, 768, 1024 };

	(void)state;
	for (size_t i = 0; i < sizeof(chunk_pages) / sizeof(chunk_pages[0]); i++) {
		struct world *world = world_create(8192, 2, 32 << 20);
		struct outcome outcome = { 0 };

		client_set_chunk_pages(world->kc, chunk_pages[i]);
		kcopyd_client_set_max_lag(world->kc, KCOPYD_LAG_AUTO);
		assert_int_equal(world_start(world, 0, 50000, 0, &outcome), 0);
		world_wait(world, &outcome);
		assert_int_equal(outcome.read_err, 0);
		assert_int_equal(outcome.write_err, 0);
		for (unsigned int dest = 0; dest < 2; dest++)
			assert_int_equal(world_contiguous(world, &outcome, dest), 50000);
		world_destroy(world);
	}
}

static void the_first_unreadable_sector_is_the_end_for_all(void **state)
{
	static const unsigned int flags[] = { 0, DROP, SEQ, SEQ | DROP };
	unsigned int i, dest;
	sector_t n;

	(void)state;
	for (i = 0; i < 4; i++) {
		struct world *world = lag_world(2, lag_bytes());
		struct outcome outcome = { 0 };

		script_add(world->source, failing(LANE_READ, START + FAR, 9, EIO));
		script_add(world->dests[1], holding(LANE_WRITE, 0, 0));
		assert_int_equal(world_start(world, START, COUNT, flags[i], &outcome), 0);
		script_wait_done(world->dests[0], FAR / PIECE + 1);
		script_let_go(world->dests[1]);
		world_wait(world, &outcome);
		assert_int_equal(outcome.read_err, 1);
		assert_int_equal(outcome.write_err, 0);
		assert_int_equal(world_errors(world, &outcome, KCOPYD_OP_READ, 0), 1);
		assert_true(world_is_told_bad(world, &outcome, KCOPYD_OP_READ, 0, START + FAR));
		assert_int_equal(count_tries(world->source, FAR), 3); /* it is not asked for again */
		for (dest = 0; dest < 2; dest++) {
			assert_copied(world, dest, 0, FAR);
			for (n = FAR; n < COUNT; n++)
				assert_true(world_is_filled(world->dests[dest], on_dest(dest, n), SCRIPT_BLANK));
			assert_int_equal(world_contiguous(world, &outcome, dest), FAR);
		}
		assert_contiguous_exact(world, &outcome);
		world_destroy(world);
	}
}

/* Both are there when it fails. */
static void a_place_that_two_streams_cannot_read_is_told_once(void **state)
{
	struct world *world = lag_world(2, lag_bytes());
	struct outcome outcome = { 0 };
	unsigned int dest;
	sector_t n;

	(void)state;
	script_add(world->source, failing(LANE_READ, START + FAR, 1, EIO));
	script_add(world->source, holding(LANE_READ, START + FAR, 1));
	script_add(world->dests[1], holding(LANE_WRITE, 0, 0));
	assert_int_equal(world_start(world, START, COUNT, 0, &outcome), 0);
	script_wait_done(world->dests[0], FAR / PIECE);
	script_let_go(world->dests[1]);
	script_wait_held(world->source, 2);
	script_let_go(world->source);
	world_wait(world, &outcome);
	assert_int_equal(outcome.read_err, 1);
	assert_int_equal(outcome.write_err, 0);
	assert_int_equal(world_errors(world, &outcome, KCOPYD_OP_READ, 0), 1);
	for (dest = 0; dest < 2; dest++) {
		assert_copied(world, dest, 0, FAR);
		for (n = FAR; n < COUNT; n++)
			assert_true(world_is_filled(world->dests[dest], on_dest(dest, n), SCRIPT_BLANK));
		assert_int_equal(world_contiguous(world, &outcome, dest), FAR);
	}
	assert_contiguous_exact(world, &outcome);
	world_destroy(world);
}

/* Then the others have it, and go on: it was read for them. */
static void what_can_be_read_only_once_ends_the_copy_of_who_comes_later(void **state)
{
	struct world *world = lag_world(2, lag_bytes());
	struct script_rule later = failing(LANE_READ, START + FAR, 1, EIO);
	struct outcome outcome = { 0 };
	sector_t n;

	(void)state;
	later.skip = 1;
	script_add(world->source, later);
	script_add(world->source, holding(LANE_READ, START + 30 * PIECE, COUNT));
	script_add(world->dests[1], holding(LANE_WRITE, 0, 0));
	assert_int_equal(world_start(world, START, COUNT, DROP, &outcome), 0);
	script_wait_done(world->dests[0], 30);
	script_let_go(world->dests[1]);
	wait_error(world);
	script_let_go(world->source);
	world_wait(world, &outcome);
	assert_int_equal(outcome.read_err, 1);
	assert_int_equal(outcome.write_err, 0);
	assert_int_equal(world_errors(world, &outcome, KCOPYD_OP_READ, 0), 1);
	assert_copied(world, 0, 0, COUNT);
	assert_copied(world, 1, 0, FAR);
	for (n = FAR; n < COUNT; n++)
		assert_true(world_is_filled(world->dests[1], on_dest(1, n), SCRIPT_BLANK));
	assert_int_equal(world_contiguous(world, &outcome, 0), COUNT);
	assert_int_equal(world_contiguous(world, &outcome, 1), FAR);
	assert_contiguous_exact(world, &outcome);
	world_destroy(world);
}

static void one_that_was_split_off_fails_for_itself(void **state)
{
	struct world *world = lag_world(3, lag_bytes());
	struct outcome outcome = { 0 };

	(void)state;
	script_add(world->dests[1], failing(LANE_WRITE, on_dest(1, FAR), 1, EIO));
	script_add(world->dests[1], holding(LANE_WRITE, 0, 0));
	assert_int_equal(world_start(world, START, COUNT, DROP, &outcome), 0);
	script_wait_done(world->dests[0], PIECES);
	script_let_go(world->dests[1]);
	world_wait(world, &outcome);
	assert_int_equal(outcome.read_err, 0);
	assert_int_equal(outcome.write_err, 2);
	assert_copied(world, 0, 0, COUNT);
	assert_copied(world, 1, 0, FAR);
	assert_copied(world, 2, 0, COUNT);
	assert_int_equal(world_contiguous(world, &outcome, 1), FAR);
	assert_contiguous_exact(world, &outcome);
	world_destroy(world);
}

static void one_that_was_split_off_goes_on_when_all_others_have_failed(void **state)
{
	struct world *world = lag_world(3, lag_bytes());
	struct outcome outcome = { 0 };

	(void)state;
	script_add(world->dests[0], failing(LANE_WRITE, on_dest(0, FAR), 1, EIO));
	script_add(world->dests[2], failing(LANE_WRITE, on_dest(2, FAR + PIECE), 1, EIO));
	script_add(world->dests[1], holding(LANE_WRITE, 0, 0));
	assert_int_equal(world_start(world, START, COUNT, DROP, &outcome), 0);
	script_wait_done(world->dests[0], FAR / PIECE + 5);
	script_wait_done(world->dests[2], FAR / PIECE + 5);
	script_let_go(world->dests[1]);
	world_wait(world, &outcome);
	assert_int_equal(outcome.read_err, 0);
	assert_int_equal(outcome.write_err, 5);
	assert_copied(world, 1, 0, COUNT);
	assert_int_equal(world_contiguous(world, &outcome, 1), COUNT);
	assert_contiguous_exact(world, &outcome);
	world_destroy(world);
}

static void one_that_was_split_off_can_be_abandoned(void **state)
{
	struct world *world = lag_world(3, lag_bytes());
	struct outcome outcome = { 0 };

	(void)state;
	script_add(world->dests[1], holding(LANE_WRITE, on_dest(1, FAR), COUNT));
	script_add(world->dests[1], holding(LANE_WRITE, on_dest(1, 0), COUNT));
	assert_int_equal(world_start(world, START, COUNT, DROP, &outcome), 0);
	script_wait_done(world->dests[0], PIECES);
	script_wait_done(world->dests[2], PIECES);
	kcopyd_device_abandon(world->dests[1]->bdev);
	world_wait(world, &outcome);
	assert_int_equal(outcome.read_err, 0);
	assert_int_equal(outcome.write_err, 2);
	assert_copied(world, 0, 0, COUNT);
	assert_copied(world, 2, 0, COUNT);
	assert_contiguous_exact(world, &outcome);
	world_destroy(world);
}

static void a_cancel_ends_every_stream(void **state)
{
	struct world *world = lag_world(2, lag_bytes());
	struct outcome outcome = { 0 };

	(void)state;
	script_add(world->dests[1], holding(LANE_WRITE, 0, 0));
	assert_int_equal(world_start(world, START, COUNT, DROP, &outcome), 0);
	script_wait_done(world->dests[0], PIECES);
	kcopyd_client_cancel(world->kc);
	script_let_go(world->dests[1]);
	world_wait(world, &outcome);
	assert_int_equal(outcome.read_err, -ECANCELED);
	assert_int_equal(outcome.write_err, 0);
	assert_copied(world, 0, 0, COUNT);
	assert_int_equal(world_contiguous(world, &outcome, 0), COUNT);
	assert_true(world_contiguous(world, &outcome, 1) < COUNT);
	assert_contiguous_exact(world, &outcome);
	world_destroy(world);
}

/* -- at random ----------------------------------------------------------------------------------- */

/* Adds none or some of it; returns the first sector of the job that fails, COUNT if none does. */
static sector_t choose_bad(struct script *script, int op, sector_t start, unsigned int most, uint64_t *seed)
{
	unsigned int areas = (unsigned int)(script_random(seed) % (most + 1));
	sector_t first = COUNT;

	for (; areas > 0; areas--) {
		sector_t bad = script_random(seed) % COUNT;
		struct script_rule rule = failing(op, start + bad, 1, EIO);

		if (script_random(seed) & 1)
			rule.what = SCRIPT_FAIL_AT;
		script_add(script, rule);
		rule.op = op == LANE_WRITE ? LANE_ZERO : op;
		script_add(script, rule);
		if (bad < first)
			first = bad;
	}
	return first;
}

/* It had @bad as its first bad sector, the source has @end. */
static void assert_exact(const struct world *world, const struct outcome *outcome, unsigned int dest, sector_t bad,
			 sector_t end)
{
	sector_t upto = bad < end ? bad : end, n;

	assert_int_equal(outcome->write_err >> dest & 1, bad < end);
	assert_int_equal(world_contiguous(world, outcome, dest), upto);
	assert_copied(world, dest, 0, upto);
	for (n = upto; n < COUNT; n++)
		if (n >= end || !world_is_same(world->source, START + n, world->dests[dest], on_dest(dest, n)))
			assert_true(world_is_filled(world->dests[dest], on_dest(dest, n), SCRIPT_BLANK));
	assert_int_equal(world_errors(world, outcome, KCOPYD_OP_WRITE, dest), bad < end);
	assert_outside_untouched(world, dest);
}

/* The source is a file with holes; so are the destinations. */
static void make_sparse(const struct world *world, uint64_t *seed)
{
	unsigned int i;

	for (i = (unsigned int)(script_random(seed) % 5); i > 0; i--) {
		sector_t first = script_random(seed) % COUNT, most = COUNT - first;

		script_clear(world->source, (START + first) * SECTOR,
			     (1 + script_random(seed) % (most < 100 ? most : 100)) * SECTOR);
	}
	script_make_file(world->source, (uint64_t)(1 + script_random(seed) % 3) * PIECE * SECTOR);
	for (i = 0; i < world->num_dests; i++)
		script_make_file(world->dests[i], 0);
}

static void streams_that_come_and_go_at_random_are_exact(void **state)
{
	enum { DESTS = 4 };
	uint64_t seed = script_seed();
	unsigned int round, i, rounds = script_is_slow() ? 60 : 300;

	(void)state;
	for (round = 0; round < rounds; round++) {
		unsigned int flags = DROP | (script_random(&seed) % 3 ? 0 : SEQ);
		struct world *world = world_create(8 + (unsigned int)(script_random(&seed) % 24), DESTS, DISK);
		struct outcome outcome = { 0 };
		sector_t end, bad[DESTS];

		client_set_chunk_pages(world->kc, 1);
		kcopyd_client_set_max_lag(world->kc, script_random(&seed) % (12 * PIECE * SECTOR));
		if (script_random(&seed) & 1) {
			flags |= SPARSE;
			make_sparse(world, &seed);
		}
		end = choose_bad(world->source, LANE_READ, START, (unsigned int)(script_random(&seed) % 3), &seed);
		script_set_order(world->source, (enum script_order)(script_random(&seed) % 3), seed);
		for (i = 0; i < DESTS; i++) {
			struct script_rule hold = holding(LANE_WRITE, 0, 0);

			/* Not the first one, so that never all are dropped. */
			bad[i] = i ? choose_bad(world->dests[i], LANE_WRITE, on_dest(i, 0), 1, &seed) : COUNT;
			script_set_order(world->dests[i], (enum script_order)(script_random(&seed) % 3), seed);
			hold.skip = (unsigned int)(script_random(&seed) % PIECES);
			if (script_random(&seed) & 1)
				script_add(world->dests[i], hold);
		}
		assert_int_equal(world_start(world, START, COUNT, flags, &outcome), 0);
		for (i = 0; i < DESTS; i++) {
			unsigned int yields = (unsigned int)(script_random(&seed) % 100);

			for (; yields > 0; yields--)
				sched_yield();
			script_let_go(world->dests[(round + i) % DESTS]);
		}
		world_wait(world, &outcome);
		assert_int_equal(outcome.calls, 1);
		assert_int_equal(outcome.read_err, end < COUNT);
		assert_int_equal(world_errors(world, &outcome, KCOPYD_OP_READ, 0), end < COUNT);
		for (i = 0; i < DESTS; i++) {
			assert_exact(world, &outcome, i, bad[i], end);
			assert_write_order(world->dests[i], flags);
		}
		assert_contiguous_exact(world, &outcome);
		world_destroy(world);
	}
}

/* Whenever that is, the others get all: what is stuck is never the whole reserve. */
static void one_that_is_abandoned_at_any_time_leaves_pages_for_the_others(void **state)
{
	uint64_t seed = script_seed();
	unsigned int round, i;

	(void)state;
	for (round = 0; round < 200; round++) {
		unsigned int victim = round % 3, flags = DROP | (script_random(&seed) & 1 ? SEQ : 0);
		struct world *world = world_create(8 + (unsigned int)(script_random(&seed) % 24), 3, DISK);
		struct script_rule hold = holding(LANE_WRITE, 0, 0);
		struct outcome outcome = { 0 };

		client_set_chunk_pages(world->kc, 1);
		kcopyd_client_set_max_lag(world->kc, 1 + script_random(&seed) % (12 * PIECE * SECTOR));
		hold.skip = (unsigned int)(script_random(&seed) % PIECES);
		script_add(world->dests[victim], hold);
		assert_int_equal(world_start(world, START, COUNT, flags, &outcome), 0);
		for (i = (unsigned int)(script_random(&seed) % 300); i > 0; i--)
			sched_yield();
		kcopyd_device_abandon(world->dests[victim]->bdev);
		world_wait(world, &outcome);
		assert_int_equal(outcome.read_err, 0);
		assert_int_equal(outcome.write_err & ~(1u << victim), 0);
		for (i = 0; i < 3; i++)
			assert_copied(world, i, 0, i == victim ? world_contiguous(world, &outcome, i) : COUNT);
		assert_contiguous_exact(world, &outcome);
		world_destroy(world);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_other_gets_through_while_one_does_nothing),
		cmocka_unit_test(several_that_are_slow_are_each_split_off),
		cmocka_unit_test(without_it_all_go_at_the_pace_of_the_slowest),
		cmocka_unit_test(by_itself_only_where_the_source_is_idle),
		cmocka_unit_test(not_by_itself_where_reads_are_limited),
		cmocka_unit_test(it_may_be_set_while_the_thread_takes_a_limit),
		cmocka_unit_test(of_long_chunks_some_can_always_be_written),
		cmocka_unit_test(the_first_unreadable_sector_is_the_end_for_all),
		cmocka_unit_test(a_place_that_two_streams_cannot_read_is_told_once),
		cmocka_unit_test(what_can_be_read_only_once_ends_the_copy_of_who_comes_later),
		cmocka_unit_test(one_that_was_split_off_fails_for_itself),
		cmocka_unit_test(one_that_was_split_off_goes_on_when_all_others_have_failed),
		cmocka_unit_test(one_that_was_split_off_can_be_abandoned),
		cmocka_unit_test(a_cancel_ends_every_stream),
		cmocka_unit_test(streams_that_come_and_go_at_random_are_exact),
		cmocka_unit_test(one_that_is_abandoned_at_any_time_leaves_pages_for_the_others),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
