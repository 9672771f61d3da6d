/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How many pages are found to be best, by a clock of the test's own and devices that are a formula. No real time passes.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "kcopyd.h"
#include "scripted.h"
#include "tune.h"

#define S UINT64_C(1000000000)
#define MIB ((uint64_t)1 << 20)
#define CHUNK MIB
#define FEW TUNE_FEW_PAGES

static uint64_t clock_ns;

static uint64_t read_clock(void)
{
	return clock_ns;
}

struct model {
	struct tune tune;
	uint64_t (*rate)(const struct model *model); /* bytes a second, with the shape it has */
	unsigned int noise;			     /* percent, up and down */
	uint64_t random;
	unsigned int changes; /* of the shape */
};

/* Every device's rate, and the ways in which the number of pages matters. */
static uint64_t same(const struct model *model)
{
	(void)model;
	return 1500 * MIB;
}

static uint64_t far(const struct model *model)
{
	return (uint64_t)model->tune.shape.pages * KCOPYD_PAGE_BYTES * 20; /* 50 ms there and back */
}

static uint64_t far_up_to_32_mib(const struct model *model)
{
	return model->tune.shape.pages > 8192 ? 640 * MIB : far(model);
}

static uint64_t cached(const struct model *model)
{
	return model->tune.shape.pages > FEW ? 1300 * MIB : 1500 * MIB;
}

static uint64_t slow(const struct model *model)
{
	(void)model;
	return 24 * MIB;
}

static uint64_t one_head(const struct model *model)
{
	return (model->tune.shape.alternates ? 65 : 30) * MIB;
}

static uint64_t fast_alternating(const struct model *model)
{
	return (model->tune.shape.alternates ? 3000 : 1500) * MIB;
}

static void begin(struct model *model, unsigned int num_pages, uint64_t (*rate)(const struct model *))
{
	clock_ns = 1000 * S;
	tune_init(&model->tune, num_pages, read_clock);
	model->rate = rate;
	model->random = 42;
}

static void copy(struct model *model, uint64_t bytes)
{
	for (; bytes >= CHUNK; bytes -= CHUNK) {
		struct tune_shape before = model->tune.shape;
		uint64_t rate = model->rate(model);

		if (model->noise)
			rate = rate / 100 *
			       (100 - model->noise + script_random(&model->random) % (2 * model->noise + 1));
		clock_ns += CHUNK * S / rate;
		tune_count(&model->tune, CHUNK);
		tune_look(&model->tune);
		assert_true(model->tune.shape.pages > 0 && model->tune.shape.pages <= model->tune.num_pages);
		model->changes +=
			before.pages != model->tune.shape.pages || before.alternates != model->tune.shape.alternates;
	}
}

static void a_small_reserve_is_used_as_a_whole(void **state)
{
	static const unsigned int sizes[] = { 1, 2, 255, FEW - 1, FEW };

	(void)state;
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct model model = { .changes = 0 };

		begin(&model, sizes[i], far);
		tune_may_alternate(&model.tune);
		copy(&model, 1024 * MIB);
		assert_int_equal(model.tune.shape.pages, sizes[i]);
		assert_int_equal(model.changes, 0);
	}
}

static void where_more_do_not_help_few_are_used(void **state)
{
	uint64_t (*rates[])(const struct model *) = { same, cached, slow };

	(void)state;
	for (size_t i = 0; i < sizeof(rates) / sizeof(rates[0]); i++) {
		struct model model = { .changes = 0 };

		begin(&model, 4096, rates[i]);
		assert_int_equal(model.tune.shape.pages, FEW);
		copy(&model, 16384 * MIB);
		assert_int_equal(model.tune.kept.pages, FEW);
		assert_false(model.tune.kept.alternates);
	}
}

static void a_distant_device_gets_all_that_helps(void **state)
{
	struct model all = { .changes = 0 }, some = { .changes = 0 }, odd = { .changes = 0 };

	(void)state;
	begin(&all, 4096, far);
	copy(&all, 512 * MIB);
	assert_int_equal(all.tune.shape.pages, 4096);
	begin(&some, 65536, far_up_to_32_mib);
	copy(&some, 4096 * MIB);
	assert_int_equal(some.tune.kept.pages, 8192);
	begin(&odd, 5000, far);
	copy(&odd, 1024 * MIB);
	assert_int_equal(odd.tune.shape.pages, 5000);
}

static void trials_cost_little(void **state)
{
	struct model model = { .changes = 0 };
	uint64_t begin_ns, best_ns;

	(void)state;
	begin(&model, 4096, cached);
	begin_ns = clock_ns;
	copy(&model, 1024 * MIB);
	best_ns = 1024 * S / 1500;
	assert_in_range(clock_ns - begin_ns, best_ns, best_ns + best_ns / 150);
	begin_ns = clock_ns;
	copy(&model, 65536 * MIB);
	best_ns = 65536 * S / 1500;
	assert_in_range(clock_ns - begin_ns, best_ns, best_ns + best_ns / 200);
}

static void noise_is_not_taken_for_a_gain(void **state)
{
	struct model model = { .noise = 30 };

	(void)state;
	begin(&model, 65536, same);
	copy(&model, 65536 * MIB);
	assert_true(model.changes > 4); /* it did try */
	assert_int_equal(model.tune.kept.pages, FEW);
}

static void a_device_that_becomes_another_is_found_again(void **state)
{
	struct model model = { .changes = 0 };

	(void)state;
	begin(&model, 4096, same);
	copy(&model, 4096 * MIB);
	assert_int_equal(model.tune.kept.pages, FEW);
	model.rate = far;
	copy(&model, 16384 * MIB);
	assert_int_equal(model.tune.kept.pages, 4096);
	model.rate = cached;
	copy(&model, 131072 * MIB);
	assert_int_equal(model.tune.kept.pages, FEW);
}

static void a_disk_that_moves_its_head_is_read_and_written_in_turns(void **state)
{
	struct model model = { .changes = 0 };

	(void)state;
	begin(&model, 4096, one_head);
	tune_may_alternate(&model.tune);
	copy(&model, 1024 * MIB);
	assert_true(model.tune.kept.alternates);
	assert_int_equal(model.tune.kept.pages, 4096);
	model.rate = same;
	copy(&model, 16384 * MIB);
	assert_false(model.tune.kept.alternates);
}

static void only_what_can_have_a_head_is_read_and_written_in_turns(void **state)
{
	struct model other = { .changes = 0 }, fast = { .changes = 0 }, stick = { .changes = 0 };

	(void)state;
	begin(&other, 4096, one_head);
	copy(&other, 1024 * MIB);
	assert_false(other.tune.kept.alternates);
	/* A virtual disk says that it rotates. */
	begin(&fast, 4096, fast_alternating);
	tune_may_alternate(&fast.tune);
	assert_true(fast.tune.shape.alternates);
	copy(&fast, 8 * MIB);
	assert_false(fast.tune.shape.alternates);
	copy(&fast, 16384 * MIB);
	assert_false(fast.tune.kept.alternates);
	/* Its first read tells. */
	begin(&fast, 4096, same);
	tune_may_alternate(&fast.tune);
	clock_ns += 2 * S / 1000;
	assert_false(tune_look(&fast.tune));
	tune_count_read(&fast.tune, MIB);
	assert_true(tune_look(&fast.tune));
	assert_false(fast.tune.shape.alternates);
	/* What only the first read was fast of is still found out. */
	fast.rate = one_head;
	copy(&fast, 1024 * MIB);
	assert_true(fast.tune.kept.alternates);
	/* And the first alone: the others come in batches. */
	begin(&fast, 4096, same);
	tune_may_alternate(&fast.tune);
	clock_ns += 3 * S / 1000;
	tune_count_read(&fast.tune, MIB);
	assert_false(tune_look(&fast.tune));
	tune_count_read(&fast.tune, 7 * MIB);
	assert_false(tune_look(&fast.tune));
	assert_true(fast.tune.shape.alternates);
	begin(&stick, 4096, slow);
	tune_may_alternate(&stick.tune);
	copy(&stick, 1024 * MIB);
	assert_false(stick.tune.kept.alternates);
}

/* Where nothing is in between, a first read that takes some milliseconds at the most. */
static void what_is_near_is_content_with_less(void **state)
{
	struct model near = { .changes = 0 }, distant = { .changes = 0 }, head = { .changes = 0 },
		     late = { .changes = 0 };

	(void)state;
	begin(&near, 4096, same);
	tune_may_begin_with_least(&near.tune);
	assert_int_equal(near.tune.shape.pages, FEW);
	clock_ns += 4 * S / 1000;
	tune_count_read(&near.tune, MIB / 2);
	assert_true(tune_look(&near.tune));
	assert_int_equal(near.tune.shape.pages, TUNE_LEAST_PAGES);
	near.changes = 0;
	copy(&near, 1024 * MIB);
	assert_int_equal(near.changes, 0); /* it is content */
	copy(&near, 1024 * MIB);
	assert_true(near.changes > 0); /* for a second */
	copy(&near, 16384 * MIB);
	assert_int_equal(near.tune.kept.pages, TUNE_LEAST_PAGES);
	near.rate = far;
	copy(&near, 16384 * MIB);
	assert_int_equal(near.tune.kept.pages, 4096);
	/* Its first read is not quick. */
	begin(&distant, 4096, same);
	tune_may_begin_with_least(&distant.tune);
	clock_ns += 20 * S / 1000;
	tune_count_read(&distant.tune, MIB / 2);
	tune_look(&distant.tune);
	assert_int_equal(distant.tune.shape.pages, FEW);
	/* It may have a head. */
	begin(&head, 4096, one_head);
	tune_may_alternate(&head.tune);
	tune_may_begin_with_least(&head.tune);
	clock_ns += 3 * S / 1000;
	tune_count_read(&head.tune, MIB / 2);
	assert_false(tune_look(&head.tune));
	assert_true(head.tune.shape.alternates);
	copy(&head, 1024 * MIB);
	assert_true(head.tune.kept.alternates);
	/* It needs more than that. */
	begin(&near, 4096, same);
	tune_may_begin_with_least(&near.tune);
	tune_need(&near.tune, 1792);
	clock_ns += 4 * S / 1000;
	tune_count_read(&near.tune, MIB / 2);
	tune_look(&near.tune);
	assert_int_equal(near.tune.shape.pages, 1792);
	/* Something is copied already. */
	begin(&late, 4096, same);
	copy(&late, 64 * MIB);
	tune_may_begin_with_least(&late.tune);
	tune_count_read(&late.tune, 64 * MIB);
	copy(&late, 1024 * MIB);
	assert_int_equal(late.tune.kept.pages, FEW);
}

static void never_fewer_than_a_job_needs_are_used(void **state)
{
	struct model model = { 0 };

	(void)state;
	begin(&model, 16 * FEW, cached);
	copy(&model, 100 * MIB);
	tune_need(&model.tune, 3 * FEW);
	assert_true(tune_look(&model.tune));
	assert_int_equal(model.tune.shape.pages, 3 * FEW);
	tune_need(&model.tune, FEW);
	for (unsigned int i = 0; i < 1000; i++) {
		copy(&model, 32 * MIB);
		assert_true(model.tune.shape.pages >= 3 * FEW);
	}
	tune_need(&model.tune, 100 * FEW);
	assert_true(tune_look(&model.tune));
	assert_int_equal(model.tune.shape.pages, 16 * FEW);
}

static void switched_off_it_uses_all(void **state)
{
	struct model model = { .changes = 0 };

	(void)state;
	begin(&model, 4096, cached);
	copy(&model, 100 * MIB);
	tune_off(&model.tune);
	tune_look(&model.tune);
	assert_int_equal(model.tune.shape.pages, 4096);
	model.changes = 0;
	copy(&model, 16384 * MIB);
	assert_int_equal(model.changes, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_small_reserve_is_used_as_a_whole),
		cmocka_unit_test(where_more_do_not_help_few_are_used),
		cmocka_unit_test(a_distant_device_gets_all_that_helps),
		cmocka_unit_test(trials_cost_little),
		cmocka_unit_test(noise_is_not_taken_for_a_gain),
		cmocka_unit_test(a_device_that_becomes_another_is_found_again),
		cmocka_unit_test(a_disk_that_moves_its_head_is_read_and_written_in_turns),
		cmocka_unit_test(only_what_can_have_a_head_is_read_and_written_in_turns),
		cmocka_unit_test(what_is_near_is_content_with_less),
		cmocka_unit_test(never_fewer_than_a_job_needs_are_used),
		cmocka_unit_test(switched_off_it_uses_all),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
