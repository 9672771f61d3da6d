/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A client with a limit or a throttle, over scripted disks: what it starts and what it does not hold up. How exact both are
 * is test_throttle's affair. A limit of one byte a second is as good as a stop behind the first chunk.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

#include "client.h"
#include "kcopyd.h"
#include "scripted.h"
#include "world.h"

#define PAGE 8u		  /* sectors: the smallest chunk */
#define BIG_RESERVE 4096u /* pages: chunks are larger than this file's jobs */
#define FIRST_BURST 128u  /* sectors that a throttle lets through before it has learned anything, in four chunks */
#define LONG (6u * 2048)  /* sectors: more than four chunks can be in flight */
#define LONG_DISK ((uint64_t)8 << 20)

/* Sectors that were read. */
static uint64_t count_read(struct script *script)
{
	uint64_t bytes = 0;

	pthread_mutex_lock(&script->lock);
	for (size_t i = 0; i < script->num_entries; i++)
		if (script->record[i].is_end && script->record[i].op == LANE_READ)
			bytes += (uint64_t)script->record[i].result;
	pthread_mutex_unlock(&script->lock);
	return bytes / SECTOR;
}

/* Everything that the client could do it has done: a flush of @dest got through, and what came of it. */
static void let_settle(struct world *world, unsigned int dest)
{
	struct io_region region = world_dest(world, dest, 0, 0);

	for (unsigned int i = 0; i < 3; i++) {
		struct outcome flush = { .world = world };

		assert_int_equal(kcopyd_flush(world->kc, 1, &region, world_notify, &flush), 0);
		world_wait(world, &flush);
		assert_int_equal(flush.write_err, 0);
	}
}

static void assert_whole(struct world *world, const struct outcome *outcome)
{
	assert_int_equal(outcome->calls, 1);
	assert_int_equal(outcome->read_err, 0);
	assert_int_equal(outcome->write_err, 0);
	for (unsigned int i = 0; i < world->num_dests; i++)
		assert_copied(world, i, 0, COUNT);
}

/* -- the limit ----------------------------------------------------------------------------------- */

static void a_limit_holds_the_next_chunk_and_nothing_else(void **state)
{
	struct world *world = world_create(BIG_RESERVE, 2, DISK);
	struct outcome outcome = { 0 };

	(void)state;
	kcopyd_client_set_limit(world->kc, 1);
	assert_int_equal(world_start(world, START, COUNT, 0, &outcome), 0);
	script_wait_done(world->dests[0], 1);
	script_wait_done(world->dests[1], 1);
	let_settle(world, 0);
	assert_int_equal(count_read(world->source), PAGE);
	assert_false(world_is_done(world, &outcome));
	assert_int_equal(world_contiguous(world, &outcome, 0), PAGE);
	assert_int_equal(kcopyd_device_stalled_ms(world->source->bdev, NULL), 0); /* nobody waits for it */
	assert_int_equal(kcopyd_device_stalled_ms(world->dests[0]->bdev, NULL), 0);

	kcopyd_client_set_limit(world->kc, 0);
	world_wait(world, &outcome);
	assert_whole(world, &outcome);
	world_destroy(world);
}

static void jobs_share_their_clients_limit(void **state)
{
	struct world *world = world_create(BIG_RESERVE, 1, DISK);
	struct outcome one = { 0 }, two = { 0 };

	(void)state;
	kcopyd_client_set_limit(world->kc, 1);
	assert_int_equal(world_start(world, START, COUNT, 0, &one), 0);
	assert_int_equal(world_start(world, START + COUNT, COUNT, 0, &two), 0);
	script_wait_done(world->dests[0], 1);
	let_settle(world, 0);
	assert_int_equal(count_read(world->source), PAGE);
	kcopyd_client_set_limit(world->kc, UINT64_MAX);
	world_wait(world, &one);
	world_wait(world, &two);
	assert_whole(world, &one);
	assert_int_equal(two.read_err, 0);
	world_destroy(world);
}

static void a_job_that_waits_for_its_limit_can_be_cancelled(void **state)
{
	struct world *world = world_create(BIG_RESERVE, 1, DISK);
	struct outcome outcome = { 0 }, queued = { 0 };

	(void)state;
	kcopyd_client_set_limit(world->kc, 1);
	assert_int_equal(world_start(world, START, COUNT, 0, &outcome), 0);
	script_wait_done(world->dests[0], 1);
	assert_int_equal(world_start(world, START, COUNT, 0, &queued), 0);
	kcopyd_client_cancel(world->kc);
	world_wait(world, &outcome);
	world_wait(world, &queued);
	assert_int_equal(outcome.read_err, -ECANCELED);
	assert_int_equal(outcome.write_err, 0);
	assert_int_equal(queued.read_err, -ECANCELED);
	assert_copied(world, 0, 0, PAGE);
	assert_true(world_is_filled(world->dests[0], on_dest(0, PAGE), SCRIPT_BLANK));
	world_destroy(world);
}

static void an_abandoned_source_ends_a_job_that_waits_for_its_limit(void **state)
{
	struct world *world = world_create(BIG_RESERVE, 1, DISK);
	struct outcome outcome = { 0 };

	(void)state;
	kcopyd_client_set_limit(world->kc, 1);
	script_add(world->source, holding(LANE_READ, 0, 0));
	assert_int_equal(world_start(world, START, COUNT, 0, &outcome), 0);
	script_wait_held(world->source, 1);
	kcopyd_device_abandon(world->source->bdev);
	world_wait(world, &outcome);
	assert_int_equal(outcome.read_err, 1);
	world_destroy(world);
}

static void zeroing_is_not_limited(void **state)
{
	struct world *world = world_create(BIG_RESERVE, 1, DISK);
	struct outcome outcome = { .world = world };
	struct io_region to = world_dest(world, 0, START, COUNT);

	(void)state;
	kcopyd_client_set_limit(world->kc, 1);
	assert_int_equal(kcopyd_zero(world->kc, 1, &to, SPARSE, world_notify, &outcome), 0);
	world_wait(world, &outcome);
	assert_int_equal(outcome.write_err, 0);
	assert_int_equal(script_count(world->dests[0], LANE_ZERO), 1);
	for (sector_t n = 0; n < COUNT; n++)
		assert_true(world_is_filled(world->dests[0], on_dest(0, n), '\0'));
	world_destroy(world);
}

static void what_failed_is_read_again_whatever_the_limit(void **state)
{
	struct world *world = world_create(BIG_RESERVE, 1, DISK);
	struct script_rule rule = failing(LANE_READ, START, 1, EIO);
	struct outcome outcome = { 0 };

	(void)state;
	rule.times = 2;
	script_add(world->source, rule);
	client_set_retry_wait(world->kc, 1);
	kcopyd_client_set_limit(world->kc, 1);
	assert_int_equal(world_start(world, START, PAGE, 0, &outcome), 0);
	world_wait(world, &outcome);
	assert_int_equal(outcome.read_err, 0);
	assert_int_equal(outcome.write_err, 0);
	assert_copied(world, 0, 0, PAGE);
	world_destroy(world);
}

/* -- the throttle -------------------------------------------------------------------------------- */

static void a_throttle_is_a_percentage(void **state)
{
	struct world *world = world_create(PAGES, 1, DISK);
	struct outcome outcome = { 0 };

	(void)state;
	assert_int_equal(kcopyd_client_set_throttle(world->kc, 0), -EINVAL);
	assert_int_equal(kcopyd_client_set_throttle(world->kc, 101), -EINVAL);
	assert_int_equal(kcopyd_client_set_throttle(world->kc, 1), 0);
	copy(world, 0, &outcome);
	assert_whole(world, &outcome);
	world_destroy(world);
}

static void while_a_burst_is_in_flight_no_other_begins(void **state)
{
	struct world *world = world_create(BIG_RESERVE, 1, LONG_DISK);
	struct outcome outcome = { 0 };

	(void)state;
	script_add(world->dests[0], holding(LANE_WRITE, 0, 0));
	kcopyd_client_set_throttle(world->kc, 50);
	assert_int_equal(world_start(world, START, LONG, 0, &outcome), 0);
	script_wait_held(world->dests[0], 4);
	let_settle(world, 0);
	assert_int_equal(count_read(world->source), FIRST_BURST);
	script_let_go(world->dests[0]);
	world_wait(world, &outcome);
	assert_int_equal(outcome.read_err, 0);
	assert_int_equal(outcome.write_err, 0);
	assert_copied(world, 0, 0, LONG);
	world_destroy(world);
}

static void a_throttle_that_is_taken_away_holds_nothing_any_more(void **state)
{
	struct world *world = world_create(BIG_RESERVE, 1, LONG_DISK);
	struct outcome outcome = { 0 };

	(void)state;
	script_add(world->dests[0], holding(LANE_WRITE, 0, 0));
	kcopyd_client_set_throttle(world->kc, 50);
	assert_int_equal(world_start(world, START, LONG, 0, &outcome), 0);
	script_wait_held(world->dests[0], 4);
	kcopyd_client_set_throttle(world->kc, 100);
	script_wait_held(world->dests[0], 5);
	script_let_go(world->dests[0]);
	world_wait(world, &outcome);
	assert_int_equal(outcome.read_err, 0);
	assert_int_equal(outcome.write_err, 0);
	assert_copied(world, 0, 0, LONG);
	world_destroy(world);
}

/* What it never answered counts as I/O for as long as it is waited for, and no longer. */
static void an_abandoned_device_does_not_hold_the_throttle(void **state)
{
	struct world *world = world_create(BIG_RESERVE, 2, LONG_DISK);
	struct outcome outcome = { 0 };

	(void)state;
	script_add(world->dests[1], holding(LANE_WRITE, 0, 0));
	kcopyd_client_set_throttle(world->kc, 50);
	assert_int_equal(world_start(world, START, LONG, DROP, &outcome), 0);
	script_wait_held(world->dests[1], 4);
	kcopyd_device_abandon(world->dests[1]->bdev);
	world_wait(world, &outcome);
	assert_int_equal(outcome.read_err, 0);
	assert_int_equal(outcome.write_err, 2);
	assert_copied(world, 0, 0, LONG);
	world_destroy(world);
}

static void zeroing_is_throttled_and_flushing_is_not(void **state)
{
	struct world *world = world_create(BIG_RESERVE, 1, DISK);
	struct outcome outcome = { .world = world };
	struct io_region to = world_dest(world, 0, START, COUNT);

	(void)state;
	script_add(world->dests[0], holding(LANE_ZERO, 0, 0));
	kcopyd_client_set_throttle(world->kc, 50);
	assert_int_equal(kcopyd_zero(world->kc, 1, &to, SPARSE, world_notify, &outcome), 0);
	script_wait_held(world->dests[0], 1);
	let_settle(world, 0);
	assert_false(world_is_done(world, &outcome));
	script_let_go(world->dests[0]);
	world_wait(world, &outcome);
	assert_int_equal(outcome.write_err, 0);
	assert_true(script_count(world->dests[0], LANE_ZERO) > 1); /* in parts, though one chunk could hold it */
	for (sector_t n = 0; n < COUNT; n++)
		assert_true(world_is_filled(world->dests[0], on_dest(0, n), '\0'));
	world_destroy(world);
}

/* -- both ---------------------------------------------------------------------------------------- */

struct turner {
	struct world *world;
	atomic_bool is_over;
};

static void *turn(void *arg)
{
	struct turner *turner = arg;
	uint64_t seed = (uint64_t)(uintptr_t)&seed;

	while (!atomic_load(&turner->is_over)) {
		kcopyd_client_set_limit(turner->world->kc, script_random(&seed) % 100000);
		kcopyd_client_set_throttle(turner->world->kc, (unsigned int)(1 + script_random(&seed) % 100));
		sched_yield();
	}
	return NULL;
}

static void both_may_be_changed_by_any_thread_while_jobs_run(void **state)
{
	struct world *world = world_create(PAGES, 1, DISK);
	struct turner turner = { .world = world };
	pthread_t threads[2];

	(void)state;
	for (unsigned int i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, turn, &turner), 0);
	for (unsigned int i = 0; i < 3; i++) {
		struct outcome outcome = { 0 };

		assert_int_equal(world_start(world, START, COUNT, 0, &outcome), 0);
		if (i == 2) { /* not in the time that those limits would take */
			atomic_store(&turner.is_over, true);
			pthread_join(threads[0], NULL);
			pthread_join(threads[1], NULL);
			kcopyd_client_set_limit(world->kc, 0);
			kcopyd_client_set_throttle(world->kc, 100);
		} else {
			script_wait_done(world->dests[0], 1 + i);
			kcopyd_client_cancel(world->kc);
		}
		world_wait(world, &outcome);
		assert_int_equal(outcome.write_err, 0);
		if (i == 2)
			assert_whole(world, &outcome);
	}
	world_destroy(world);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_limit_holds_the_next_chunk_and_nothing_else),
		cmocka_unit_test(jobs_share_their_clients_limit),
		cmocka_unit_test(a_job_that_waits_for_its_limit_can_be_cancelled),
		cmocka_unit_test(an_abandoned_source_ends_a_job_that_waits_for_its_limit),
		cmocka_unit_test(zeroing_is_not_limited),
		cmocka_unit_test(what_failed_is_read_again_whatever_the_limit),
		cmocka_unit_test(a_throttle_is_a_percentage),
		cmocka_unit_test(while_a_burst_is_in_flight_no_other_begins),
		cmocka_unit_test(a_throttle_that_is_taken_away_holds_nothing_any_more),
		cmocka_unit_test(an_abandoned_device_does_not_hold_the_throttle),
		cmocka_unit_test(zeroing_is_throttled_and_flushing_is_not),
		cmocka_unit_test(both_may_be_changed_by_any_thread_while_jobs_run),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
