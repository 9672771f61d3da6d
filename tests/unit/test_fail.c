/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Devices that their user says have failed: nothing more is written to them, and the others go on.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>

#include "client.h"
#include "kcopyd.h"
#include "scripted.h"
#include "world.h"

#define FOR_EVER_MS (3600u * 1000)

/* The reserve is of two chunks: what was under way, and nothing behind it. */
static void assert_little_written(const struct world *world, unsigned int dest)
{
	for (sector_t n = 2 * (sector_t)CHUNK; n < COUNT; n++)
		assert_true(world_is_filled(world->dests[dest], on_dest(dest, n), SCRIPT_BLANK));
}

static void a_failed_destination_is_dropped_and_the_others_go_on(void **state)
{
	static const unsigned int flags[] = { DROP, IGNORE, DROP | SEQ, IGNORE | SEQ };

	(void)state;
	for (unsigned int i = 0; i < 4; i++) {
		struct world *world = world_create(PAGES, 3, DISK);
		struct outcome outcome = { 0 };

		script_add(world->dests[1], holding(LANE_WRITE, 0, 0));
		assert_int_equal(world_start(world, START, COUNT, flags[i], &outcome), 0);
		script_wait_held(world->dests[1], 1);
		kcopyd_device_fail(world->dests[1]->bdev);
		script_let_go(world->dests[1]);
		world_wait(world, &outcome);
		assert_int_equal(outcome.read_err, 0);
		assert_int_equal(outcome.write_err, 1u << 1);
		assert_int_equal(world_errors(world, &outcome, KCOPYD_OP_WRITE, 1), 0);
		assert_little_written(world, 1);
		assert_copied(world, 1, 0, world_contiguous(world, &outcome, 1));
		assert_copied(world, 0, 0, COUNT);
		assert_copied(world, 2, 0, COUNT);
		assert_contiguous_exact(world, &outcome);
		world_destroy(world);
	}
}

static void without_a_flag_it_ends_the_job_and_so_does_the_last_one(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < 2; i++) {
		struct world *world = world_create(PAGES, 2, DISK);
		struct outcome outcome = { 0 };

		script_add(world->dests[0], holding(LANE_WRITE, 0, 0));
		assert_int_equal(world_start(world, START, COUNT, i ? DROP : 0, &outcome), 0);
		script_wait_held(world->dests[0], 2);
		kcopyd_device_fail(world->dests[0]->bdev);
		if (i)
			kcopyd_device_fail(world->dests[1]->bdev);
		script_let_go(world->dests[0]);
		world_wait(world, &outcome);
		assert_int_equal(outcome.read_err, 0);
		assert_int_equal(outcome.write_err, i ? 3 : 1);
		assert_little_written(world, 0);
		assert_little_written(world, 1);
		assert_true(script_count(world->source, LANE_READ) <= 3);
		world_destroy(world);
	}
}

static void in_later_jobs_it_has_failed_before_anything_is_written(void **state)
{
	struct world *world = world_create(PAGES, 2, DISK);
	struct io_region region = world_dest(world, 0, START, COUNT), to = world_dest(world, 1, START, COUNT);
	struct outcome outcome = { 0 }, zeroed = { .world = world }, flushed = zeroed, read = zeroed;

	(void)state;
	kcopyd_device_fail(world->dests[0]->bdev);
	copy(world, DROP, &outcome);
	assert_int_equal(outcome.write_err, 1);
	assert_copied(world, 1, 0, COUNT);
	assert_int_equal(kcopyd_zero(world->kc, 1, &region, 0, world_notify, &zeroed), 0);
	world_wait(world, &zeroed);
	assert_int_equal(zeroed.write_err, 1);
	assert_int_equal(script_count(world->dests[0], SCRIPT_ANY), 0);

	/* But it may still be flushed and read. */
	assert_int_equal(kcopyd_flush(world->kc, 1, &region, world_notify, &flushed), 0);
	world_wait(world, &flushed);
	assert_int_equal(flushed.write_err, 0);
	assert_int_equal(kcopyd_copy(world->kc, &region, 1, &to, 0, world_notify, &read), 0);
	world_wait(world, &read);
	assert_int_equal(read.read_err, 0);
	assert_int_equal(read.write_err, 0);
	assert_true(world_is_filled(world->dests[1], on_dest(1, 0), SCRIPT_BLANK));
	world_destroy(world);
}

static void nobody_waits_to_try_it_again(void **state)
{
	struct world *world = world_create(PAGES, 2, DISK);
	struct outcome outcome = { 0 };

	(void)state;
	client_set_retry_wait(world->kc, FOR_EVER_MS);
	script_add(world->dests[0], failing(LANE_WRITE, on_dest(0, 0), 1, EIO));
	assert_int_equal(world_start(world, START, COUNT, IGNORE, &outcome), 0);
	/* The chunk, its halves down to the bad sector. */
	script_wait_done(world->dests[0], 6);
	kcopyd_device_fail(world->dests[0]->bdev);
	world_wait(world, &outcome);
	assert_int_equal(outcome.write_err, 1);
	assert_copied(world, 1, 0, COUNT);
	world_destroy(world);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_failed_destination_is_dropped_and_the_others_go_on),
		cmocka_unit_test(without_a_flag_it_ends_the_job_and_so_does_the_last_one),
		cmocka_unit_test(in_later_jobs_it_has_failed_before_anything_is_written),
		cmocka_unit_test(nobody_waits_to_try_it_again),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
