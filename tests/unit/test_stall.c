/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Devices that do not answer: how long, and for what, they are waited for.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <sched.h>
#include <string.h>
#include <time.h>

#include "kcopyd.h"
#include "lane.h"
#include "scripted.h"
#include "world.h"

/* What the engine's clock may be behind the exact one. */
#define TICK_MS 20u

static uint64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static unsigned int stalled_ms(const struct script *script)
{
	return kcopyd_device_stalled_ms(script->bdev, NULL);
}

/* Until the device has been silent for so long. Returns what it is waited for. */
static enum kcopyd_op wait_stalled(const struct script *script, unsigned int ms)
{
	enum kcopyd_op op = KCOPYD_OP_READ;

	while (kcopyd_device_stalled_ms(script->bdev, &op) < ms)
		sched_yield();
	return op;
}

static void a_device_without_requests_is_not_stalled(void **state)
{
	struct world *world = world_create(PAGES, 2, DISK);
	struct outcome outcome = { 0 };

	(void)state;
	assert_int_equal(stalled_ms(world->source), 0);
	copy(world, 0, &outcome);
	assert_int_equal(stalled_ms(world->source), 0);
	assert_int_equal(stalled_ms(world->dests[0]), 0);
	assert_int_equal(stalled_ms(world->dests[1]), 0);
	world_destroy(world);
}

static void what_a_stalled_device_is_waited_for_is_told(void **state)
{
	static const int ops[] = { LANE_READ, LANE_WRITE, LANE_ZERO, LANE_FLUSH };
	static const enum kcopyd_op told[] = { KCOPYD_OP_READ, KCOPYD_OP_WRITE, KCOPYD_OP_ZERO, KCOPYD_OP_FLUSH };
	unsigned int i;

	(void)state;
	for (i = 0; i < 4; i++) {
		struct world *world = world_create(PAGES, 1, DISK);
		struct script *script = ops[i] == LANE_READ ? world->source : world->dests[0];
		struct io_region to = world_dest(world, 0, START, COUNT);
		struct outcome outcome = { .world = world };

		script_add(script, holding(ops[i], 0, 0));
		if (ops[i] == LANE_ZERO)
			assert_int_equal(kcopyd_zero(world->kc, 1, &to, SPARSE, world_notify, &outcome), 0);
		else if (ops[i] == LANE_FLUSH)
			assert_int_equal(kcopyd_flush(world->kc, 1, &to, world_notify, &outcome), 0);
		else
			assert_int_equal(world_start(world, START, COUNT, 0, &outcome), 0);
		assert_int_equal(wait_stalled(script, 2 * TICK_MS), told[i]);
		script_let_go(script);
		world_wait(world, &outcome);
		assert_int_equal(outcome.write_err, 0);
		assert_int_equal(stalled_ms(script), 0);
		world_destroy(world);
	}
}

static void each_completion_begins_the_wait_again(void **state)
{
	struct world *world = world_create(PAGES, 1, DISK);
	struct outcome outcome = { 0 };
	uint64_t begin;

	(void)state;
	script_add(world->dests[0], holding(LANE_WRITE, 0, 0));
	assert_int_equal(world_start(world, START, COUNT, 0, &outcome), 0);
	script_wait_held(world->dests[0], 2);
	wait_stalled(world->dests[0], 10 * TICK_MS);
	begin = now_ms();
	script_let_go_last(world->dests[0]);
	/* Its completion is on the way: the wait is the longer one until it is there. */
	while (stalled_ms(world->dests[0]) > now_ms() - begin + TICK_MS)
		sched_yield();
	wait_stalled(world->dests[0], 2 * TICK_MS);
	script_let_go(world->dests[0]);
	world_wait(world, &outcome);
	world_destroy(world);
}

static void one_stalled_device_says_nothing_of_the_others(void **state)
{
	struct world *world = world_create(PAGES, 2, DISK);
	struct outcome outcome = { 0 };

	(void)state;
	script_add(world->dests[1], holding(LANE_WRITE, 0, 0));
	assert_int_equal(world_start(world, START, COUNT, 0, &outcome), 0);
	wait_stalled(world->dests[1], 10 * TICK_MS);
	/* All that the reserve holds was read and is on the other one. */
	assert_int_equal(stalled_ms(world->source), 0);
	assert_int_equal(stalled_ms(world->dests[0]), 0);
	script_let_go(world->dests[1]);
	world_wait(world, &outcome);
	world_destroy(world);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_device_without_requests_is_not_stalled),
		cmocka_unit_test(what_a_stalled_device_is_waited_for_is_told),
		cmocka_unit_test(each_completion_begins_the_wait_again),
		cmocka_unit_test(one_stalled_device_says_nothing_of_the_others),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
