/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Jobs over scripted disks that fail: who is said to have failed, which sectors were told and with which errno, what each
 * destination holds, and how far it is contiguous; under every flag.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>

#include "kcopyd.h"
#include "scripted.h"
#include "world.h"

/* -- the matrix ---------------------------------------------------------------------------------- */

static void assert_blank_or_copied(const struct world *world, unsigned int dest, sector_t first, sector_t end)
{
	sector_t n;

	for (n = first; n < end; n++)
		if (!world_is_same(world->source, START + n, world->dests[dest], on_dest(dest, n)) &&
		    !world_is_filled(world->dests[dest], on_dest(dest, n), SCRIPT_BLANK))
			fail_msg("destination %u: sector %" PRIu64 " holds something strange", dest + 1, n);
}

struct fault {
	int operand; /* -1: the source, else the destination */
	sector_t first, count;
	enum script_what what;
	unsigned int flags;
	enum script_order order;
};

static struct fault fault; /* what a failure of the matrix is about */

static void assert_read_fault(const struct world *world, const struct outcome *outcome)
{
	sector_t n, end = fault.first + fault.count;
	unsigned int i;

	assert_int_equal(outcome->read_err, 1);
	assert_int_equal(outcome->write_err, 0);
	for (i = 0; i < world->num_dests; i++) {
		assert_copied(world, i, 0, fault.first);
		if (fault.flags & IGNORE) {
			for (n = fault.first; n < end; n++)
				assert_true(world_is_filled(world->dests[i], on_dest(i, n), 0));
			assert_copied(world, i, end, COUNT);
			assert_int_equal(world_contiguous(world, outcome, i), COUNT);
		} else {
			for (n = fault.first; n < COUNT; n++)
				assert_true(world_is_filled(world->dests[i], on_dest(i, n), SCRIPT_BLANK));
			assert_int_equal(world_contiguous(world, outcome, i), fault.first);
		}
	}
	/* Every bad sector is told once; without IGNORE_ERROR at least the first, and never a good one. */
	if (fault.flags & IGNORE)
		assert_int_equal(world_errors(world, outcome, KCOPYD_OP_READ, 0), fault.count);
	for (n = 0; n < COUNT; n++) {
		bool is_bad = n >= fault.first && n < end;
		bool is_told = world_is_told_bad(world, outcome, KCOPYD_OP_READ, 0, START + n);

		if (!is_bad || n == fault.first || (fault.flags & IGNORE))
			assert_int_equal(is_told, is_bad);
	}
}

static void assert_write_fault(const struct world *world, const struct outcome *outcome)
{
	unsigned int bad = (unsigned int)fault.operand, i;
	bool goes_on = fault.flags & (IGNORE | DROP);
	sector_t n, prefix;

	assert_int_equal(outcome->read_err, 0);
	assert_int_equal(outcome->write_err, 1u << bad);
	for (i = 0; i < world->num_dests; i++) {
		for (prefix = 0; prefix < COUNT; prefix++)
			if (world_is_filled(world->dests[i], on_dest(i, prefix), SCRIPT_BLANK))
				break;
		assert_blank_or_copied(world, i, 0, COUNT);
		if (i == bad)
			assert_int_equal(prefix, fault.first);
		else if (goes_on)
			assert_int_equal(prefix, COUNT);
		assert_int_equal(world_contiguous(world, outcome, i), prefix);
		if (i != bad)
			assert_int_equal(world_errors(world, outcome, KCOPYD_OP_WRITE, i), 0);
	}
	/* With IGNORE_ERROR every bad sector is told once and all others are there; else the first one is told. */
	assert_int_equal(world_errors(world, outcome, KCOPYD_OP_WRITE, bad), fault.flags & IGNORE ? fault.count : 1);
	for (n = 0; n < COUNT; n++) {
		bool is_bad = n >= fault.first && n < fault.first + fault.count;
		bool is_told = world_is_told_bad(world, outcome, KCOPYD_OP_WRITE, bad, on_dest(bad, n));

		assert_int_equal(is_told, fault.flags & IGNORE ? is_bad : n == fault.first);
		if (is_bad)
			assert_true(world_is_filled(world->dests[bad], on_dest(bad, n), SCRIPT_BLANK));
		else if (fault.flags & IGNORE)
			assert_copied(world, bad, n, n + 1);
	}
}

static void run_fault(void)
{
	struct world *world = world_create(PAGES, 3, DISK);
	struct outcome outcome = { 0 };
	struct script_rule rule;
	unsigned int i;
	bool is_known = false;

	script_set_order(world->source, fault.order, fault.first + 1);
	for (i = 0; i < 3; i++)
		script_set_order(world->dests[i], fault.order, fault.first + i);
	rule = fault.operand < 0
		       ? failing(LANE_READ, START + fault.first, fault.count, ENODATA)
		       : failing(LANE_WRITE, on_dest((unsigned int)fault.operand, fault.first), fault.count, EREMOTEIO);
	rule.what = fault.what;
	script_add(fault.operand < 0 ? world->source : world->dests[fault.operand], rule);
	copy(world, fault.flags, &outcome);

	if (fault.operand < 0)
		assert_read_fault(world, &outcome);
	else
		assert_write_fault(world, &outcome);
	for (i = 0; i < 3; i++) {
		assert_outside_untouched(world, i);
		assert_write_order(world->dests[i], fault.flags);
	}
	for (i = 0; i < world->num_told; i++) {
		if (world->told[i].kind != TOLD_ERROR)
			continue;
		assert_int_equal(world->told[i].error, fault.operand < 0 ? ENODATA : EREMOTEIO);
		if (fault.operand >= 0) {
			assert_int_equal(world->told[i].contiguous, fault.first);
			assert_int_equal(world->told[i].is_dropped, !(fault.flags & IGNORE));
		}
		is_known = true;
	}
	assert_true(is_known);
	assert_contiguous_exact(world, &outcome);
	world_destroy(world);
}

static int print_fault(void **state)
{
	(void)state;
	if (fault.count) /* not reset: the test failed there */
		print_message("# operand %d, sectors %" PRIu64 "+%" PRIu64 ", rule %d, flags %#x, order %d\n",
			      fault.operand, fault.first, fault.count, (int)fault.what, fault.flags, (int)fault.order);
	fault.count = 0;
	return 0;
}

/* Each operand, with a fault at the start, in the first, a middle and the last chunk, and over the border of two. */
static void run_matrix(int operand)
{
	static const sector_t places[][2] = { { 0, 1 },
					      { 7, 2 },
					      { CHUNK - 1, 1 },
					      { CHUNK, CHUNK },
					      { 5 * CHUNK + 9, 1 },
					      { 6 * CHUNK - 3, 6 },
					      { 10 * CHUNK, 5 },
					      { COUNT - 1, 1 },
					      { 4 * CHUNK, 3 * CHUNK } };
	unsigned int flags, place, order, what, number = 0, step = script_is_slow() ? 5 : 1;

	for (flags = 0; flags < 8; flags++)
		for (place = 0; place < sizeof(places) / sizeof(places[0]); place++)
			for (order = SCRIPT_IN_ORDER; order <= SCRIPT_RANDOM; order++)
				for (what = SCRIPT_FAIL; what <= SCRIPT_FAIL_AT; what++) {
					fault = (struct fault){
						.operand = operand,
						.first = places[place][0],
						.count = places[place][1],
						.what = (enum script_what)what,
						.flags = (flags & 1 ? IGNORE : 0) | (flags & 2 ? SEQ : 0) |
							 (flags & 4 ? DROP : 0),
						.order = (enum script_order)order,
					};
					if (number++ % step == 0)
						run_fault();
				}
	fault.count = 0;
}

static void a_bad_source_is_exact_under_every_flag(void **state)
{
	(void)state;
	run_matrix(-1);
}

static void a_bad_first_destination_is_exact_under_every_flag(void **state)
{
	(void)state;
	run_matrix(0);
}

static void a_bad_second_destination_is_exact_under_every_flag(void **state)
{
	(void)state;
	run_matrix(1);
}

static void a_bad_third_destination_is_exact_under_every_flag(void **state)
{
	(void)state;
	run_matrix(2);
}

/* -- which sectors ------------------------------------------------------------------------------- */

static void scattered_bad_sectors_are_each_found(void **state)
{
	static const sector_t bad[] = { 0, 2, 3, 7, 31, 32, 33, 100, 163, 324 };
	struct world *world = world_create(PAGES, 1, DISK);
	struct outcome outcome = { 0 };
	unsigned int i;
	sector_t n;

	(void)state;
	for (i = 0; i < 10; i++)
		script_add(world->source, failing(LANE_READ, START + bad[i], 1, EIO));
	copy(world, IGNORE, &outcome);
	assert_int_equal(outcome.read_err, 1);
	assert_int_equal(outcome.write_err, 0);
	assert_int_equal(world_errors(world, &outcome, KCOPYD_OP_READ, 0), 10);
	for (n = 0; n < COUNT; n++) {
		bool is_bad = world_is_told_bad(world, &outcome, KCOPYD_OP_READ, 0, START + n);

		for (i = 0; i < 10 && bad[i] != n; i++)
			;
		assert_int_equal(is_bad, i < 10);
		if (is_bad)
			assert_true(world_is_filled(world->dests[0], on_dest(0, n), 0));
		else
			assert_copied(world, 0, n, n + 1);
	}
	world_destroy(world);
}

/* What is good of an attempt need not end with a logical block; where the next one begins does. */
static void errors_after_odd_short_reads_are_narrowed_in_whole_blocks(void **state)
{
	struct script_rule odd = { .what = SCRIPT_SHORT,
				   .op = LANE_READ,
				   .offset = (START + 9) * SECTOR,
				   .bytes = 1,
				   .times = 1,
				   .length = 700 };
	struct world *world = world_create(PAGES, 1, DISK);
	struct outcome outcome = { 0 };

	(void)state;
	script_add(world->source, odd); /* the chunk's read fails after 700 bytes ... */
	odd.skip = 1;
	script_add(world->source, odd); /* ... and so does the first half of the rest */
	script_add(world->source, failing(LANE_READ, START + 9, 1, EIO));
	copy(world, IGNORE, &outcome);
	assert_int_equal(outcome.read_err, 1);
	assert_int_equal(outcome.write_err, 0);
	assert_int_equal(world_errors(world, &outcome, KCOPYD_OP_READ, 0), 1);
	assert_copied(world, 0, 0, 9);
	assert_true(world_is_filled(world->dests[0], on_dest(0, 9), 0));
	assert_copied(world, 0, 10, COUNT);
	world_destroy(world);
}

static void an_error_that_goes_away_is_no_error(void **state)
{
	struct world *world = world_create(PAGES, 1, DISK);
	struct outcome outcome = { 0 };
	struct script_rule rule = failing(LANE_READ, START + 3 * CHUNK + 5, 1, EIO);

	(void)state;
	rule.times = 1;
	script_add(world->source, rule);
	copy(world, 0, &outcome);
	assert_int_equal(outcome.read_err, 0);
	assert_int_equal(outcome.write_err, 0);
	assert_copied(world, 0, 0, COUNT);
	assert_int_equal(world_errors(world, &outcome, KCOPYD_OP_READ, 0), 0);
	world_destroy(world);
}

static void a_source_that_is_gone_is_not_asked_sector_by_sector(void **state)
{
	static const unsigned int flags[] = { 0, IGNORE };
	unsigned int n;
	sector_t i;

	(void)state;
	for (n = 0; n < 2; n++) {
		struct world *world = world_create(PAGES, 1, DISK);
		struct outcome outcome = { 0 };

		script_add(world->source, failing(LANE_READ, START + 3 * CHUNK, DISK / SECTOR, ENODEV));
		copy(world, flags[n], &outcome);
		assert_int_equal(outcome.read_err, 1);
		assert_int_equal(outcome.write_err, 0);
		assert_copied(world, 0, 0, 3 * CHUNK);
		for (i = 3 * CHUNK; i < COUNT; i++)
			assert_true(world_is_filled(world->dests[0], on_dest(0, i), flags[n] ? 0 : SCRIPT_BLANK));
		assert_true(script_count(world->source, LANE_READ) <= 2 * (COUNT / CHUNK + 1));
		assert_contiguous_exact(world, &outcome);
		world_destroy(world);
	}
}

/* Where a destination's logical block is the larger, a cut in the middle of it must not make its write impossible. */
static void a_bad_source_sector_does_not_break_a_destination_with_larger_blocks(void **state)
{
	struct world *world = world_create(PAGES, 1, DISK);
	struct script *large = script_open(DISK, 4096, false, 8);
	struct io_region from = world_source(world, 0, 320), dests[2];
	struct outcome outcome = { .world = world };
	sector_t n;

	(void)state;
	dests[0] = (struct io_region){ .bdev = large->bdev, .sector = 8, .count = 320 };
	dests[1] = (struct io_region){ .bdev = world->dests[0]->bdev, .sector = 1, .count = 320 };
	script_add(world->source, failing(LANE_READ, 77, 1, EIO));
	assert_int_equal(kcopyd_copy(world->kc, &from, 2, dests, 0, world_notify, &outcome), 0);
	world_wait(world, &outcome);
	assert_int_equal(outcome.read_err, 1);
	assert_int_equal(outcome.write_err, 0);
	for (n = 0; n < 72; n++) {
		assert_true(world_is_same(world->source, n, large, 8 + n));
		assert_true(world_is_same(world->source, n, world->dests[0], 1 + n));
	}
	for (n = 72; n < 80; n++)
		assert_true(world_is_filled(large, 8 + n, SCRIPT_BLANK));
	script_destroy(large);
	world_destroy(world);
}

static void bad_places_are_logical_blocks_of_the_source(void **state)
{
	struct world *world = world_create(PAGES, 1, DISK);
	struct script *large = script_open(DISK, 4096, false, 8);
	struct io_region from = { .bdev = large->bdev, .sector = 8, .count = 320 };
	struct io_region to = world_dest(world, 0, START, 320);
	struct outcome outcome = { .world = world };
	sector_t n;

	(void)state;
	script_fill(large, 3);
	script_add(large, failing(LANE_READ, 8 + 77, 1, EIO)); /* makes the whole block unreadable */
	assert_int_equal(kcopyd_copy(world->kc, &from, 1, &to, IGNORE, world_notify, &outcome), 0);
	world_wait(world, &outcome);
	assert_int_equal(outcome.read_err, 1);
	assert_int_equal(outcome.write_err, 0);
	assert_int_equal(world_errors(world, &outcome, KCOPYD_OP_READ, 0), 8);
	for (n = 0; n < 320; n++) {
		if (n / 8 == 9)
			assert_true(world_is_filled(world->dests[0], on_dest(0, n), 0));
		else
			assert_true(world_is_same(large, 8 + n, world->dests[0], on_dest(0, n)));
	}
	script_destroy(large);
	world_destroy(world);
}

/* -- reads that come back in another order ------------------------------------------------------- */

/* Until @count chunks were read. */
static void wait_read(struct world *world, unsigned int count)
{
	unsigned int i, read;

	pthread_mutex_lock(&world->lock);
	for (;;) {
		for (i = 0, read = 0; i < world->num_told; i++)
			read += world->told[i].kind == TOLD_READ;
		if (read >= count)
			break;
		pthread_cond_wait(&world->changed, &world->lock);
	}
	pthread_mutex_unlock(&world->lock);
}

/* The first chunk's read fails when all others of the reserve have been read; in the end, or the first time. */
static void nothing_is_written_before_all_in_front_of_it_has_been_read(void **state)
{
	enum { CHUNKS = 4, SECTORS = 2048 }; /* of the reserve; of a chunk */
	static const unsigned int flags[] = { 0, SEQ, DROP, SEQ | DROP };
	unsigned int i, dest;
	sector_t n;

	(void)state;
	for (i = 0; i < 8; i++) {
		struct world *world = world_create(CHUNKS * 256, 2, 8 << 20);
		struct script_rule rule = failing(LANE_READ, 100, 1, EIO);
		struct outcome outcome = { 0 };

		rule.times = i % 2 ? 5 : 0;
		script_add(world->source, rule);
		script_add(world->source, holding(LANE_READ, 100, 1));
		assert_int_equal(world_start(world, 0, 6 * SECTORS, flags[i / 2], &outcome), 0);
		wait_read(world, CHUNKS - 1);
		for (dest = 0; dest < 2; dest++)
			assert_int_equal(script_count(world->dests[dest], SCRIPT_ANY), 0);
		script_let_go(world->source);
		world_wait(world, &outcome);
		assert_int_equal(outcome.read_err, i % 2 == 0);
		assert_int_equal(outcome.write_err, 0);
		for (dest = 0; dest < 2; dest++) {
			struct io_region to = world_dest(world, dest, 0, 6 * SECTORS);

			for (n = 0; n < to.count; n++)
				if (n < 100 || i % 2)
					assert_true(world_is_same(world->source, n, world->dests[dest], to.sector + n));
				else
					assert_true(world_is_filled(world->dests[dest], to.sector + n, SCRIPT_BLANK));
			assert_int_equal(world_contiguous(world, &outcome, dest), i % 2 ? to.count : 100);
			world_assert_contiguous_exact(world, &outcome, dest, &to);
		}
		world_destroy(world);
	}
}

/* It goes past every bad place: nobody need wait for what becomes of one. */
static void with_ignore_what_was_read_is_written_at_once(void **state)
{
	struct world *world = world_create(PAGES, 2, DISK);
	struct outcome outcome = { 0 };
	unsigned int i;

	(void)state;
	script_add(world->source, failing(LANE_READ, START + 3, 1, EIO));
	script_add(world->source, holding(LANE_READ, START, 1));
	assert_int_equal(world_start(world, START, COUNT, IGNORE, &outcome), 0);
	for (i = 0; i < 2; i++)
		script_wait_done(world->dests[i], COUNT / CHUNK);
	script_let_go(world->source);
	world_wait(world, &outcome);
	assert_int_equal(outcome.read_err, 1);
	assert_int_equal(outcome.write_err, 0);
	for (i = 0; i < 2; i++) {
		assert_copied(world, i, 0, 3);
		assert_true(world_is_filled(world->dests[i], on_dest(i, 3), 0));
		assert_copied(world, i, 4, COUNT);
	}
	world_destroy(world);
}

/* A destination ends the job: what was read need not wait any more for a read that may take long. */
static void what_waits_for_a_read_is_let_go_when_the_job_has_ended(void **state)
{
	enum { SECTORS = 2048 };
	struct world *world = world_create(4 * 256, 1, 8 << 20);
	struct outcome outcome = { 0 }, other = { 0 };

	(void)state;
	script_add(world->source, holding(LANE_READ, SECTORS, 1));
	script_add(world->dests[0], holding(LANE_WRITE, 8, 1));
	script_add(world->dests[0], failing(LANE_WRITE, 8, 1, EIO));
	assert_int_equal(world_start(world, 0, 4 * SECTORS, 0, &outcome), 0);
	wait_read(world, 3); /* the first, the third and the fourth chunk */
	script_let_go(world->dests[0]);
	script_add(world->dests[0], holding(LANE_WRITE, 8 + 4 * SECTORS, 3 * SECTORS));
	assert_int_equal(world_start(world, 4 * SECTORS, 3 * SECTORS, 0, &other), 0);
	script_wait_held(world->dests[0], 3); /* of the reserve's four chunks */
	script_let_go(world->dests[0]);
	world_wait(world, &other);
	assert_int_equal(other.read_err, 0);
	assert_int_equal(other.write_err, 0);
	assert_false(world_is_done(world, &outcome));
	script_let_go(world->source);
	world_wait(world, &outcome);
	assert_int_equal(outcome.read_err, 0);
	assert_int_equal(outcome.write_err, 1);
	assert_int_equal(script_count(world->source, LANE_READ), 4 + 3);
	world_destroy(world);
}

/* -- which destination --------------------------------------------------------------------------- */

static void errors_of_source_and_destinations_are_told_apart(void **state)
{
	struct world *world = world_create(PAGES, 3, DISK);
	struct outcome outcome = { 0 };

	(void)state;
	script_add(world->source, failing(LANE_READ, START + 40, 1, EIO));
	script_add(world->dests[0], failing(LANE_WRITE, on_dest(0, 70), 1, ENOSPC));
	script_add(world->dests[2], failing(LANE_WRITE, on_dest(2, 200), 1, EROFS));
	copy(world, IGNORE, &outcome);
	assert_int_equal(outcome.read_err, 1);
	assert_int_equal(outcome.write_err, 5);
	assert_true(world_is_filled(world->dests[1], on_dest(1, 40), 0));
	assert_copied(world, 1, 0, 40);
	assert_copied(world, 1, 41, COUNT);
	world_destroy(world);
}

static void the_job_ends_when_every_destination_was_dropped(void **state)
{
	struct world *world = world_create(PAGES, 3, DISK);
	struct outcome outcome = { 0 };
	unsigned int i;

	(void)state;
	for (i = 0; i < 3; i++)
		script_add(world->dests[i], failing(LANE_WRITE, on_dest(i, 0), COUNT, EIO));
	copy(world, DROP, &outcome);
	assert_int_equal(outcome.read_err, 0);
	assert_int_equal(outcome.write_err, 7);
	assert_true(script_count(world->source, LANE_READ) < COUNT / CHUNK);
	world_destroy(world);
}

/* A dropped destination has been written to only as far as was in flight when it failed. */
static void a_dropped_destination_is_left_alone(void **state)
{
	struct world *world = world_create(PAGES, 2, DISK);
	struct outcome outcome = { 0 };
	sector_t n;

	(void)state;
	script_add(world->dests[0], failing(LANE_WRITE, on_dest(0, 0), 1, EIO));
	copy(world, DROP, &outcome);
	assert_int_equal(outcome.write_err, 1);
	assert_copied(world, 1, 0, COUNT);
	for (n = 2 * CHUNK; n < COUNT; n++)
		assert_true(world_is_filled(world->dests[0], on_dest(0, n), SCRIPT_BLANK));
	/* Two chunks, five halvings of the first and two retries of its bad block. */
	assert_true(script_count(world->dests[0], LANE_WRITE) <= 2 + 5 + 2);
	world_destroy(world);
}

static bool has_error(struct world *world)
{
	bool ret = false;
	unsigned int i;

	for (i = 0; i < world->num_told; i++)
		ret |= world->told[i].kind == TOLD_ERROR;
	return ret;
}

/* The second destination fails in the first chunk while the first one writes the second chunk, which is then dropped. */
static void what_a_destination_holds_when_another_ends_the_job_is_told_in_full(void **state)
{
	struct world *world = world_create(PAGES, 2, DISK);
	struct outcome outcome = { 0 };

	(void)state;
	script_add(world->dests[0], holding(LANE_WRITE, on_dest(0, CHUNK), 1));
	script_add(world->dests[1], holding(LANE_WRITE, 0, 0));
	script_add(world->dests[1], failing(LANE_WRITE, 0, 0, EIO));
	assert_int_equal(world_start(world, START, COUNT, SEQ, &outcome), 0);
	script_wait_held(world->dests[0], 1);
	script_wait_held(world->dests[1], 1);
	script_let_go(world->dests[1]);
	pthread_mutex_lock(&world->lock);
	while (!has_error(world))
		pthread_cond_wait(&world->changed, &world->lock);
	pthread_mutex_unlock(&world->lock);
	script_let_go(world->dests[0]);
	world_wait(world, &outcome);
	assert_int_equal(outcome.read_err, 0);
	assert_int_equal(outcome.write_err, 2);
	assert_copied(world, 0, 0, 2 * CHUNK);
	assert_true(world_is_filled(world->dests[0], on_dest(0, 2 * CHUNK), SCRIPT_BLANK));
	assert_int_equal(world_contiguous(world, &outcome, 0), 2 * CHUNK);
	assert_contiguous_exact(world, &outcome);
	world_destroy(world);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(a_bad_source_is_exact_under_every_flag, print_fault),
		cmocka_unit_test_teardown(a_bad_first_destination_is_exact_under_every_flag, print_fault),
		cmocka_unit_test_teardown(a_bad_second_destination_is_exact_under_every_flag, print_fault),
		cmocka_unit_test_teardown(a_bad_third_destination_is_exact_under_every_flag, print_fault),
		cmocka_unit_test(scattered_bad_sectors_are_each_found),
		cmocka_unit_test(errors_after_odd_short_reads_are_narrowed_in_whole_blocks),
		cmocka_unit_test(an_error_that_goes_away_is_no_error),
		cmocka_unit_test(a_source_that_is_gone_is_not_asked_sector_by_sector),
		cmocka_unit_test(a_bad_source_sector_does_not_break_a_destination_with_larger_blocks),
		cmocka_unit_test(bad_places_are_logical_blocks_of_the_source),
		cmocka_unit_test(nothing_is_written_before_all_in_front_of_it_has_been_read),
		cmocka_unit_test(with_ignore_what_was_read_is_written_at_once),
		cmocka_unit_test(what_waits_for_a_read_is_let_go_when_the_job_has_ended),
		cmocka_unit_test(errors_of_source_and_destinations_are_told_apart),
		cmocka_unit_test(the_job_ends_when_every_destination_was_dropped),
		cmocka_unit_test(a_dropped_destination_is_left_alone),
		cmocka_unit_test(what_a_destination_holds_when_another_ends_the_job_is_told_in_full),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
