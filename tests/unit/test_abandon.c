/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Devices that are given up on: their jobs do not wait for them, nobody uses the memory that they may still read or
 * write, and it comes back when they give it back.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <sched.h>
#include <string.h>

#include "client.h"
#include "kcopyd.h"
#include "scripted.h"
#include "world.h"

#define FOR_EVER_MS (3600u * 1000)

static const struct told *find_error(const struct world *world, unsigned int dest)
{
	unsigned int i;

	for (i = 0; i < world->num_told; i++)
		if (world->told[i].kind == TOLD_ERROR && world->told[i].dest == dest)
			return &world->told[i];
	return NULL;
}

/* What it was told to write and the device did, late, is the source's: nobody has used its memory meanwhile. */
static void assert_late_writes_good(const struct world *world, unsigned int dest)
{
	const struct script *script = world->dests[dest];
	unsigned int late = 0;
	sector_t n;

	for (n = 0; n < COUNT; n++) {
		if (world_is_filled(script, on_dest(dest, n), SCRIPT_BLANK))
			continue;
		assert_true(world_is_same(world->source, START + n, script, on_dest(dest, n)));
		late++;
	}
	assert_true(late > 0);
}

/* A job of one destination, again until there are pages for it. */
static void copy_when_there_are_pages(struct world *world, unsigned int dest)
{
	struct io_region from = world_source(world, START, COUNT), to = world_dest(world, dest, START, COUNT);
	struct outcome outcome;

	do {
		outcome = (struct outcome){ .world = world };
		assert_int_equal(kcopyd_copy(world->kc, &from, 1, &to, 0, world_notify, &outcome), 0);
		world_wait(world, &outcome);
	} while (outcome.write_err);
	assert_int_equal(outcome.read_err, 0);
	assert_copied(world, dest, 0, COUNT);
}

static void an_abandoned_destination_is_dropped_and_the_others_go_on(void **state)
{
	static const unsigned int flags[] = { DROP, IGNORE, DROP | SEQ };
	unsigned int i;

	(void)state;
	for (i = 0; i < 3; i++) {
		struct world *world = world_create(PAGES, 3, DISK);
		struct outcome outcome = { 0 };
		const struct told *told;

		kcopyd_device_limit(world->dests[1]->bdev, CHUNK * SECTOR);
		script_add(world->dests[1], holding(LANE_WRITE, 0, 0));
		assert_int_equal(world_start(world, START, COUNT, flags[i], &outcome), 0);
		script_wait_held(world->dests[1], 1);
		kcopyd_device_abandon(world->dests[1]->bdev);
		world_wait(world, &outcome);
		assert_int_equal(outcome.read_err, 0);
		assert_int_equal(outcome.write_err, 1u << 1);
		assert_copied(world, 0, 0, COUNT);
		assert_copied(world, 2, 0, COUNT);
		told = find_error(world, 1);
		assert_non_null(told);
		assert_int_equal(told->error, ETIMEDOUT);
		assert_int_equal(told->contiguous, 0);
		assert_true(told->is_dropped);
		assert_null(find_error(world, 0));
		assert_null(find_error(world, 2));
		assert_contiguous_exact(world, &outcome);
		assert_int_equal(world->dests[1]->most_in_flight, 1);
		script_let_go(world->dests[1]);
		script_wait_done(world->dests[1], 1);
		assert_late_writes_good(world, 1);
		world_destroy(world);
	}
}

static void without_a_flag_an_abandoned_destination_ends_the_job(void **state)
{
	struct world *world = world_create(PAGES, 2, DISK);
	struct outcome outcome = { 0 };

	(void)state;
	script_add(world->dests[0], holding(LANE_WRITE, 0, 0));
	assert_int_equal(world_start(world, START, COUNT, 0, &outcome), 0);
	script_wait_held(world->dests[0], 2);
	kcopyd_device_abandon(world->dests[0]->bdev);
	world_wait(world, &outcome);
	assert_int_equal(outcome.write_err, 1);
	assert_true(world_contiguous(world, &outcome, 1) <= 2 * CHUNK);
	world_destroy(world);
}

/* It is the fault of the one destination, but nothing of the others' can be held in memory. */
static void with_all_pages_stuck_the_job_ends_and_the_pages_come_back_later(void **state)
{
	static const unsigned int pages[] = { 1, 2, PAGES };
	unsigned int i;

	(void)state;
	for (i = 0; i < 3; i++) {
		struct world *world = world_create(pages[i], 2, DISK);
		struct outcome outcome = { 0 };

		script_add(world->dests[0], holding(LANE_WRITE, 0, 0));
		assert_int_equal(world_start(world, START, COUNT, DROP, &outcome), 0);
		script_wait_held(world->dests[0], pages[i] > 1 ? 2 : 1);
		kcopyd_device_abandon(world->dests[0]->bdev);
		world_wait(world, &outcome);
		assert_int_equal(outcome.read_err, 0);
		assert_int_equal(outcome.write_err, 3);
		assert_int_equal(find_error(world, 0)->error, ETIMEDOUT);
		assert_int_equal(find_error(world, 1)->error, ENOBUFS);
		assert_true(find_error(world, 1)->is_dropped);
		assert_int_equal(find_error(world, 1)->contiguous, world_contiguous(world, &outcome, 1));
		assert_copied(world, 1, 0, world_contiguous(world, &outcome, 1));
		script_let_go(world->dests[0]);
		copy_when_there_are_pages(world, 1);
		assert_late_writes_good(world, 0);
		world_destroy(world);
	}
}

static void what_the_device_has_not_got_is_taken_back_even_while_it_hangs_in_a_call(void **state)
{
	struct world *world = world_create(PAGES, 2, DISK);
	struct outcome outcome = { 0 };

	(void)state;
	kcopyd_device_limit(world->dests[0]->bdev, 1); /* one request at a time */
	script_add(world->dests[0], (struct script_rule){ .what = SCRIPT_HANG, .op = LANE_WRITE });
	assert_int_equal(world_start(world, START, COUNT, DROP, &outcome), 0);
	script_wait_hanging(world->dests[0]);
	kcopyd_device_abandon(world->dests[0]->bdev);
	world_wait(world, &outcome);
	assert_int_equal(outcome.write_err, 1);
	assert_copied(world, 1, 0, COUNT);
	assert_true(kcopyd_device_stalled_ms(world->dests[1]->bdev, NULL) == 0);
	script_let_go(world->dests[0]);
	script_wait_done(world->dests[0], 1);
	assert_late_writes_good(world, 0);
	assert_int_equal(script_count(world->dests[0], SCRIPT_ANY), 1);
	world_destroy(world);
}

static void nothing_reaches_a_device_that_was_abandoned(void **state)
{
	struct world *world = world_create(PAGES, 2, DISK);
	struct io_region dests[2] = { world_dest(world, 0, START, COUNT), world_dest(world, 1, START, COUNT) };
	struct outcome copied = { .world = world }, zeroed = { .world = world }, flushed = { .world = world };

	(void)state;
	kcopyd_device_abandon(world->dests[0]->bdev);
	kcopyd_device_abandon(world->dests[0]->bdev);
	assert_int_equal(kcopyd_device_stalled_ms(world->dests[0]->bdev, NULL), 0);
	copy(world, DROP, &copied);
	assert_int_equal(copied.write_err, 1);
	assert_copied(world, 1, 0, COUNT);
	assert_int_equal(kcopyd_zero(world->kc, 2, dests, DROP | SPARSE, world_notify, &zeroed), 0);
	world_wait(world, &zeroed);
	assert_int_equal(zeroed.write_err, 1);
	assert_int_equal(kcopyd_flush(world->kc, 2, dests, world_notify, &flushed), 0);
	world_wait(world, &flushed);
	assert_int_equal(flushed.write_err, 1);
	assert_int_equal(script_count(world->dests[0], SCRIPT_ANY), 0);
	assert_true(world_is_filled(world->dests[0], on_dest(0, 0), SCRIPT_BLANK));
	world_destroy(world);
}

static void a_flush_and_zeroing_do_not_wait_for_an_abandoned_device(void **state)
{
	unsigned int i;

	(void)state;
	for (i = 0; i < 2; i++) {
		struct world *world = world_create(PAGES, 3, DISK);
		struct io_region dests[3] = { world_dest(world, 0, START, COUNT), world_dest(world, 1, START, COUNT),
					      world_dest(world, 2, START, COUNT) };
		struct outcome outcome = { .world = world };

		script_add(world->dests[2], holding(SCRIPT_ANY, 0, 0));
		if (i == 0)
			assert_int_equal(kcopyd_flush(world->kc, 3, dests, world_notify, &outcome), 0);
		else
			assert_int_equal(kcopyd_zero(world->kc, 3, dests, DROP | SPARSE, world_notify, &outcome), 0);
		script_wait_held(world->dests[2], 1);
		kcopyd_device_abandon(world->dests[2]->bdev);
		world_wait(world, &outcome);
		assert_int_equal(outcome.write_err, 1u << 2);
		assert_int_equal(find_error(world, 2)->error, ETIMEDOUT);
		world_destroy(world);
	}
}

/* Its memory is not touched: a device that may still read into it must not decide what destinations get. */
static void an_abandoned_source_ends_the_job_whatever_the_flags(void **state)
{
	static const unsigned int flags[] = { 0, DROP, IGNORE, IGNORE | SEQ };
	unsigned int i;

	(void)state;
	for (i = 0; i < 4; i++) {
		struct world *world = world_create(PAGES, 2, DISK);
		struct outcome outcome = { 0 };

		script_add(world->source, holding(LANE_READ, START + 3 * CHUNK, COUNT));
		assert_int_equal(world_start(world, START, COUNT, flags[i], &outcome), 0);
		script_wait_held(world->source, 2);
		kcopyd_device_abandon(world->source->bdev);
		world_wait(world, &outcome);
		assert_int_equal(outcome.read_err, 1);
		assert_int_equal(outcome.write_err, 0);
		assert_int_equal(world_contiguous(world, &outcome, 0), 3 * CHUNK);
		assert_copied(world, 0, 0, 3 * CHUNK);
		assert_copied(world, 1, 0, 3 * CHUNK);
		assert_true(world_is_filled(world->dests[0], on_dest(0, 3 * CHUNK), SCRIPT_BLANK));
		world_destroy(world);
	}
}

static void neither_a_client_nor_a_device_is_waited_for_when_they_are_closed(void **state)
{
	struct world *world = world_create(PAGES, 2, DISK);
	struct outcome outcome = { 0 };

	(void)state;
	kcopyd_device_limit(world->dests[0]->bdev, CHUNK * SECTOR);
	script_add(world->dests[0], holding(LANE_WRITE, 0, 0));
	assert_int_equal(world_start(world, START, COUNT, DROP, &outcome), 0);
	script_wait_held(world->dests[0], 1);
	kcopyd_device_abandon(world->dests[0]->bdev);
	world_wait(world, &outcome);
	/* The client is destroyed and the device closed before anything is let go. */
	world_destroy(world);
}

static void a_device_that_answers_while_its_client_goes_is_no_trouble(void **state)
{
	unsigned int i;

	(void)state;
	for (i = 0; i < 200; i++) {
		struct world *world = world_create(PAGES, 2, DISK);
		struct outcome outcome = { 0 };

		script_add(world->dests[0], holding(LANE_WRITE, 0, 0));
		assert_int_equal(world_start(world, START, COUNT, DROP, &outcome), 0);
		script_wait_held(world->dests[0], 2);
		kcopyd_device_abandon(world->dests[0]->bdev);
		script_let_go(world->dests[0]);
		world_wait(world, &outcome);
		assert_true(outcome.write_err & 1);
		world_destroy(world);
	}
}

static void every_client_of_a_device_learns_of_it(void **state)
{
	struct world *worlds[2] = { world_create(PAGES, 1, DISK), world_create(PAGES, 1, DISK) };
	struct outcome outcomes[2] = { { .world = worlds[0] }, { .world = worlds[1] } };
	struct script *shared = worlds[0]->dests[0];
	unsigned int i;

	(void)state;
	script_add(shared, holding(LANE_WRITE, 0, 0));
	for (i = 0; i < 2; i++) {
		struct io_region from = world_source(worlds[i], 0, CHUNK);
		struct io_region to = { .bdev = shared->bdev, .sector = i * CHUNK, .count = CHUNK };

		assert_int_equal(kcopyd_copy(worlds[i]->kc, &from, 1, &to, 0, world_notify, &outcomes[i]), 0);
	}
	script_wait_held(shared, 2);
	kcopyd_device_abandon(shared->bdev);
	for (i = 0; i < 2; i++) {
		world_wait(worlds[i], &outcomes[i]);
		assert_int_equal(outcomes[i].write_err, 1);
	}
	world_destroy(worlds[1]);
	world_destroy(worlds[0]);
}

static void nobody_waits_to_try_an_abandoned_device_again(void **state)
{
	unsigned int i;

	(void)state;
	for (i = 0; i < 2; i++) {
		struct world *world = world_create(PAGES, 1, DISK);
		struct outcome outcome = { 0 };
		struct script *script = i == 0 ? world->dests[0] : world->source;

		client_set_retry_wait(world->kc, FOR_EVER_MS);
		script_add(script, failing(SCRIPT_ANY, START, 1 + CHUNK, EIO));
		assert_int_equal(world_start(world, START, COUNT, IGNORE, &outcome), 0);
		script_wait_done(script, 3);
		kcopyd_device_abandon(script->bdev);
		world_wait(world, &outcome);
		assert_int_equal(outcome.read_err, i);
		assert_int_equal(outcome.write_err, !i);
		world_destroy(world);
	}
}

static void an_abandoned_device_at_any_time_leaves_nothing_strange(void **state)
{
	uint64_t seed = script_seed();
	unsigned int round;

	(void)state;
	for (round = 0; round < (script_is_slow() ? 100u : 300u); round++) {
		unsigned int pages = 1 + (unsigned int)(script_random(&seed) % PAGES);
		unsigned int flags = (script_random(&seed) & 1 ? DROP : IGNORE) | (script_random(&seed) & 1 ? SEQ : 0);
		unsigned int victim = (unsigned int)(script_random(&seed) % 3), i;
		struct world *world = world_create(pages, 3, DISK);
		struct outcome outcome = { 0 };

		script_set_order(world->dests[victim], SCRIPT_RANDOM, script_random(&seed));
		if (script_random(&seed) & 1)
			kcopyd_device_limit(world->dests[victim]->bdev, pages * 4096u / 3);
		script_add(world->dests[victim],
			   (struct script_rule){ .what = SCRIPT_HOLD,
						 .op = LANE_WRITE,
						 .skip = (unsigned int)(script_random(&seed) % 8) });
		if (script_random(&seed) % 4 == 0)
			script_add(world->dests[victim], failing(LANE_WRITE, on_dest(victim, 3 * CHUNK + 7), 2, EIO));
		assert_int_equal(world_start(world, START, COUNT, flags, &outcome), 0);
		for (i = (unsigned int)(script_random(&seed) % 64); i > 0; i--)
			sched_yield();
		kcopyd_device_abandon(world->dests[victim]->bdev);
		world_wait(world, &outcome);
		assert_int_equal(outcome.calls, 1);
		assert_int_equal(outcome.read_err, 0);
		for (i = 0; i < 3; i++) {
			const struct told *told = find_error(world, i);

			assert_int_equal(outcome.write_err >> i & 1, told != NULL);
			if (told && i != victim)
				assert_int_equal(told->error, ENOBUFS);
			assert_copied(world, i, 0, told ? world_contiguous(world, &outcome, i) : COUNT);
		}
		assert_contiguous_exact(world, &outcome);
		if (script_random(&seed) & 1)
			script_let_go(world->dests[victim]);
		world_destroy(world);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_abandoned_destination_is_dropped_and_the_others_go_on),
		cmocka_unit_test(without_a_flag_an_abandoned_destination_ends_the_job),
		cmocka_unit_test(with_all_pages_stuck_the_job_ends_and_the_pages_come_back_later),
		cmocka_unit_test(what_the_device_has_not_got_is_taken_back_even_while_it_hangs_in_a_call),
		cmocka_unit_test(nothing_reaches_a_device_that_was_abandoned),
		cmocka_unit_test(a_flush_and_zeroing_do_not_wait_for_an_abandoned_device),
		cmocka_unit_test(an_abandoned_source_ends_the_job_whatever_the_flags),
		cmocka_unit_test(neither_a_client_nor_a_device_is_waited_for_when_they_are_closed),
		cmocka_unit_test(a_device_that_answers_while_its_client_goes_is_no_trouble),
		cmocka_unit_test(every_client_of_a_device_learns_of_it),
		cmocka_unit_test(nobody_waits_to_try_an_abandoned_device_again),
		cmocka_unit_test(an_abandoned_device_at_any_time_leaves_nothing_strange),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
