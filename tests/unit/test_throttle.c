/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The throttle by a clock of the test's own: how many bytes it lets through, and for what share of the time there is I/O,
 * over devices of all speeds. No real time passes.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>

#include "scripted.h"
#include "throttle.h"

#define MS UINT64_C(1000000)
#define S UINT64_C(1000000000)
#define MIB ((uint64_t)1 << 20)
#define DEPTH 16u /* chunks that the reserve holds */

static uint64_t clock_ns;

static uint64_t read_clock(void)
{
	return clock_ns;
}

/* A device that does one chunk after the other. */
struct model {
	uint64_t rate;	     /* bytes a second */
	uint64_t latency_ns; /* of each chunk */
	uint64_t most_late;  /* ns: so late may somebody wake up */
	bool is_zeroing;

	struct throttle throttle;
	uint64_t random;
	uint64_t done_ns[DEPTH], done_bytes[DEPTH]; /* of what is in flight, a ring */
	unsigned int first, num;
	uint64_t bytes;	  /* let through */
	uint64_t busy_ns; /* with I/O */
	uint64_t largest; /* chunk */
};

static void model_init(struct model *model)
{
	clock_ns = 1000 * S;
	throttle_init(&model->throttle, read_clock);
	model->random = 42;
}

static void pass_until(struct model *model, uint64_t ns)
{
	if (ns < clock_ns)
		return;
	if (model->num > 0)
		model->busy_ns += ns - clock_ns;
	clock_ns = ns;
}

static void start(struct model *model, uint64_t bytes)
{
	uint64_t begin_ns = clock_ns;
	unsigned int last = (model->first + model->num) % DEPTH;

	if (bytes > MIB)
		bytes = MIB;
	if (bytes > model->largest)
		model->largest = bytes;
	if (model->num > 0)
		begin_ns = model->done_ns[(last + DEPTH - 1) % DEPTH];
	model->done_ns[last] = begin_ns + model->latency_ns + bytes * S / model->rate;
	model->done_bytes[last] = bytes;
	model->num++;
	model->bytes += bytes;
	throttle_start(&model->throttle, bytes);
	if (!model->is_zeroing)
		throttle_read(&model->throttle, bytes);
	throttle_io_begin(&model->throttle);
}

/* As the client's thread: starts what it may, then sleeps until something is due. */
static void run(struct model *model, uint64_t ns)
{
	uint64_t end_ns = clock_ns + ns;

	while (clock_ns < end_ns) {
		uint64_t due_ns = UINT64_MAX, most = 1;

		while (model->num < DEPTH && (most = throttle_ask(&model->throttle, !model->is_zeroing, &due_ns)) > 0)
			start(model, most);
		if (due_ns < UINT64_MAX) {
			assert_true(due_ns > clock_ns); /* or it would spin */
			due_ns += model->most_late ? script_random(&model->random) % model->most_late : 0;
		}
		if (model->num > 0 && model->done_ns[model->first] <= due_ns) {
			if (model->done_ns[model->first] > end_ns)
				break;
			pass_until(model, model->done_ns[model->first]);
			throttle_io_end(&model->throttle);
			model->first = (model->first + 1) % DEPTH;
			model->num--;
		} else {
			assert_true(due_ns < UINT64_MAX); /* or nobody would ever wake up */
			pass_until(model, due_ns < end_ns ? due_ns : end_ns);
		}
	}
	pass_until(model, end_ns);
}

static void assert_within_3_percent(uint64_t is, uint64_t wanted)
{
	if (is * 100 < wanted * 97 || is * 100 > wanted * 103)
		fail_msg("%llu instead of %llu", (unsigned long long)is, (unsigned long long)wanted);
}

/* -- the limit ----------------------------------------------------------------------------------- */

static void as_many_bytes_are_let_through_as_the_limit_says(void **state)
{
	static const uint64_t limits[] = { 30000, 100000, 7000000, 300000000, 2000000000, 9999999999 };

	(void)state;
	for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++) {
		struct model model = { .rate = 20000000000, .latency_ns = 10000, .most_late = 5 * MS };

		model_init(&model);
		throttle_set_limit(&model.throttle, limits[i]);
		run(&model, 10 * S);
		assert_within_3_percent(model.bytes, limits[i] * 10);
		run(&model, 10 * S);
		assert_within_3_percent(model.bytes, limits[i] * 20);
	}
}

static void a_low_limit_makes_small_chunks(void **state)
{
	struct model model = { .rate = 100000000 };

	(void)state;
	model_init(&model);
	throttle_set_limit(&model.throttle, 1000000);
	run(&model, S);
	assert_true(model.largest <= 50000);
	model_init(&model);
	throttle_set_limit(&model.throttle, 1);
	model.largest = 0;
	model.bytes = 0;
	run(&model, 8191 * S);
	assert_int_equal(model.largest, 4096);
	assert_int_equal(model.bytes, 2 * 4096);
}

static void what_a_device_was_too_slow_for_is_not_made_up_for(void **state)
{
	struct model model = { .rate = 1000000 };
	uint64_t before;

	(void)state;
	model_init(&model);
	throttle_set_limit(&model.throttle, 10000000);
	run(&model, 60 * S);
	model.rate = 1000000000;
	run(&model, model.done_ns[(model.first + model.num - 1) % DEPTH] - clock_ns);
	before = model.bytes;
	run(&model, 10 * S);
	assert_within_3_percent(model.bytes - before, 10 * 10000000);
}

static void zeroing_reads_nothing_so_it_is_not_limited(void **state)
{
	struct model model = { .rate = 1000 * MIB, .is_zeroing = true };

	(void)state;
	model_init(&model);
	throttle_set_limit(&model.throttle, 1);
	run(&model, S);
	assert_within_3_percent(model.bytes, 1000 * MIB);
	assert_int_equal(model.largest, MIB);
}

static void what_is_read_again_counts(void **state)
{
	struct model model = { .rate = 1000000000 };

	(void)state;
	model_init(&model);
	throttle_set_limit(&model.throttle, 1000000);
	throttle_read(&model.throttle, 5000000);
	run(&model, 10 * S);
	assert_within_3_percent(model.bytes, 5000000);
}

static void a_new_limit_holds_from_its_moment_on(void **state)
{
	struct model model = { .rate = 10000000000, .most_late = MS };
	uint64_t before;

	(void)state;
	model_init(&model);
	throttle_set_limit(&model.throttle, 300000000);
	run(&model, 10 * S);
	before = model.bytes;
	throttle_set_limit(&model.throttle, 1000000);
	run(&model, 40 * S);
	assert_within_3_percent(model.bytes - before, 39500000); /* what is owed may cost a second */
	before = model.bytes;
	throttle_set_limit(&model.throttle, 50000000);
	run(&model, 10 * S);
	assert_within_3_percent(model.bytes - before, 500000000);
	before = model.bytes;
	throttle_set_limit(&model.throttle, 0);
	run(&model, S);
	assert_within_3_percent(model.bytes - before, 10000000000);
}

static void a_limit_that_is_set_all_the_time_is_still_one(void **state)
{
	struct model model = { .rate = 10000000000 };

	(void)state;
	model_init(&model);
	for (unsigned int i = 0; i < 1000; i++) {
		throttle_set_limit(&model.throttle, i % 2 ? 50000000 : 50000001);
		run(&model, 10 * MS);
	}
	assert_within_3_percent(model.bytes, 500000000);
}

/* -- the throttle -------------------------------------------------------------------------------- */

static void io_is_in_flight_for_the_share_of_the_time_that_was_asked_for(void **state)
{
	static const unsigned int percents[] = { 1, 2, 10, 50, 90, 99 };
	/* An SD card, a stick, a hard disk that seeks, an SSD, memory. */
	static const struct model devices[] = {
		{ .rate = 3000000, .latency_ns = 10 * MS, .most_late = 2 * MS },
		{ .rate = 30000000, .latency_ns = MS, .most_late = 2 * MS },
		{ .rate = 200000000, .latency_ns = 5 * MS, .most_late = 2 * MS },
		{ .rate = 3000000000, .latency_ns = MS / 10, .most_late = 2 * MS },
		{ .rate = 20000000000, .latency_ns = 1000, .most_late = 2 * MS },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(percents) / sizeof(percents[0]); i++) {
		for (size_t j = 0; j < sizeof(devices) / sizeof(devices[0]); j++) {
			struct model model = devices[j];
			uint64_t seconds = percents[i] < 10 ? 100 : 10;

			model_init(&model);
			throttle_set_percent(&model.throttle, percents[i]);
			run(&model, seconds * S);
			assert_within_3_percent(model.busy_ns, seconds * S / 100 * percents[i]);
		}
	}
}

static void a_device_that_becomes_slow_is_not_asked_for_more_than_its_share(void **state)
{
	struct model model = { .rate = 5000000000 };
	uint64_t before;

	(void)state;
	model_init(&model);
	throttle_set_percent(&model.throttle, 20);
	run(&model, 10 * S);
	before = model.busy_ns;
	model.rate = 10000000;
	run(&model, 20 * S);
	assert_within_3_percent(model.busy_ns - before, 4 * S);
}

static void idle_time_is_not_saved_up(void **state)
{
	struct model model = { .rate = 1000000000 };

	(void)state;
	model_init(&model);
	throttle_set_percent(&model.throttle, 50);
	pass_until(&model, clock_ns + 3600 * S); /* nobody had anything to do */
	run(&model, 10 * S);
	assert_within_3_percent(model.busy_ns, 5 * S);
}

static void a_request_that_took_for_ever_is_not_paid_for_for_ever(void **state)
{
	struct model model = { .rate = 1000000000 };
	uint64_t due_ns = 0;

	(void)state;
	model_init(&model);
	throttle_set_percent(&model.throttle, 10);
	throttle_io_begin(&model.throttle);
	clock_ns += 24 * 3600 * S;
	throttle_io_end(&model.throttle);
	assert_int_equal(throttle_ask(&model.throttle, true, &due_ns), 0);
	assert_true(due_ns <= clock_ns + 11 * S);
}

static void a_throttle_can_be_changed_while_there_is_io(void **state)
{
	struct model model = { .rate = 1000000000, .latency_ns = MS };
	uint64_t before;

	(void)state;
	model_init(&model);
	run(&model, S);
	assert_int_equal(model.busy_ns, S);
	throttle_set_percent(&model.throttle, 10);
	before = model.busy_ns;
	run(&model, 20 * S);
	assert_within_3_percent(model.busy_ns - before, 2 * S);
	throttle_set_percent(&model.throttle, 80);
	before = model.busy_ns;
	run(&model, 10 * S);
	assert_within_3_percent(model.busy_ns - before, 8 * S);
	throttle_set_percent(&model.throttle, 100);
	run(&model, MS); /* ends the pause */
	before = model.busy_ns;
	run(&model, S);
	assert_within_3_percent(model.busy_ns - before, S);
}

static void limit_and_throttle_both_hold(void **state)
{
	struct model model = { .rate = 100000000 };

	(void)state;
	model_init(&model);
	throttle_set_percent(&model.throttle, 50);
	throttle_set_limit(&model.throttle, 10000000);
	run(&model, 10 * S);
	assert_within_3_percent(model.bytes, 100000000);
	model_init(&model);
	model.busy_ns = 0;
	throttle_set_percent(&model.throttle, 5);
	throttle_set_limit(&model.throttle, 10000000);
	run(&model, 10 * S);
	assert_within_3_percent(model.busy_ns, S / 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(as_many_bytes_are_let_through_as_the_limit_says),
		cmocka_unit_test(a_low_limit_makes_small_chunks),
		cmocka_unit_test(what_a_device_was_too_slow_for_is_not_made_up_for),
		cmocka_unit_test(zeroing_reads_nothing_so_it_is_not_limited),
		cmocka_unit_test(what_is_read_again_counts),
		cmocka_unit_test(a_new_limit_holds_from_its_moment_on),
		cmocka_unit_test(a_limit_that_is_set_all_the_time_is_still_one),
		cmocka_unit_test(io_is_in_flight_for_the_share_of_the_time_that_was_asked_for),
		cmocka_unit_test(a_device_that_becomes_slow_is_not_asked_for_more_than_its_share),
		cmocka_unit_test(idle_time_is_not_saved_up),
		cmocka_unit_test(a_request_that_took_for_ever_is_not_paid_for_for_ever),
		cmocka_unit_test(a_throttle_can_be_changed_while_there_is_io),
		cmocka_unit_test(limit_and_throttle_both_hold),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
