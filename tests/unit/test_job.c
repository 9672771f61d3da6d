/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Jobs over scripted disks: what is where afterwards, who is said to have failed, and what was told on the way. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kcopyd.h"
#include "scripted.h"
#include "world.h"

#define PAGES 8u  /* two chunks of ... */
#define CHUNK 32u /* ... so many sectors */
#define DISK (512u << 10)
#define START 16u
#define COUNT (10 * CHUNK + 5) /* the last chunk is a short one */

#define NO_FLAGS 0u
#define IGNORE KCOPYD_IGNORE_ERROR
#define SEQ KCOPYD_WRITE_SEQ
#define DROP KCOPYD_DROP_FAILED

static struct script_rule failing(int op, sector_t sector, sector_t count, int error)
{
	return (struct script_rule){
		.what = SCRIPT_FAIL, .op = op, .offset = sector * SECTOR, .bytes = count * SECTOR, .error = error
	};
}

static struct script_rule holding(int op, sector_t sector, sector_t count)
{
	return (struct script_rule){
		.what = SCRIPT_HOLD, .op = op, .offset = sector * SECTOR, .bytes = count * SECTOR
	};
}

static void copy(struct world *world, unsigned int flags, struct outcome *outcome)
{
	assert_int_equal(world_start(world, START, COUNT, flags, outcome), 0);
	world_wait(world, outcome);
	assert_int_equal(outcome->calls, 1);
}

/* The sector of destination @dest that has sector @n of a job of world_start(). */
static sector_t on_dest(unsigned int dest, sector_t n)
{
	return START + 8 * (1 + dest) + n;
}

static void assert_outside_untouched(const struct world *world, unsigned int dest)
{
	sector_t n;

	for (n = 0; n < DISK / SECTOR; n++)
		if (n < on_dest(dest, 0) || n >= on_dest(dest, COUNT))
			assert_true(world_is_filled(world->dests[dest], n, SCRIPT_BLANK));
}

static void assert_copied(const struct world *world, unsigned int dest, sector_t first, sector_t end)
{
	sector_t n;

	for (n = first; n < end; n++)
		if (!world_is_same(world->source, START + n, world->dests[dest], on_dest(dest, n)))
			fail_msg("destination %u: sector %" PRIu64 " is not the source's", dest + 1, n);
}

static void assert_blank_or_copied(const struct world *world, unsigned int dest, sector_t first, sector_t end)
{
	sector_t n;

	for (n = first; n < end; n++)
		if (!world_is_same(world->source, START + n, world->dests[dest], on_dest(dest, n)) &&
		    !world_is_filled(world->dests[dest], on_dest(dest, n), SCRIPT_BLANK))
			fail_msg("destination %u: sector %" PRIu64 " holds something strange", dest + 1, n);
}

static void assert_contiguous_exact(const struct world *world, const struct outcome *outcome)
{
	unsigned int i;

	for (i = 0; i < world->num_dests; i++) {
		struct io_region to = world_dest(world, i, START, COUNT);

		world_assert_contiguous_exact(world, outcome, i, &to);
	}
}

/* -- what goes well ------------------------------------------------------------------------------ */

static void a_copy_reaches_every_destination_in_full(void **state)
{
	static const unsigned int flags[] = { 0, IGNORE, SEQ, DROP, IGNORE | SEQ | DROP };
	unsigned int n, i;

	(void)state;
	for (n = 0; n < 5; n++) {
		struct world *world = world_create(PAGES, 3, DISK);
		struct outcome outcome = { 0 };

		copy(world, flags[n], &outcome);
		assert_int_equal(outcome.read_err, 0);
		assert_int_equal(outcome.write_err, 0);
		for (i = 0; i < 3; i++) {
			assert_copied(world, i, 0, COUNT);
			assert_outside_untouched(world, i);
			assert_int_equal(world_contiguous(world, &outcome, i), COUNT);
		}
		assert_contiguous_exact(world, &outcome);
		world_destroy(world);
	}
}

static void the_whole_source_is_read_once_whatever_the_number_of_destinations(void **state)
{
	struct world *world = world_create(PAGES, 3, DISK);
	struct outcome outcome = { 0 };
	uint64_t bytes = 0;
	sector_t told = 0;
	unsigned int i;
	size_t n;

	(void)state;
	copy(world, 0, &outcome);
	for (n = 0; n < world->source->num_entries; n++)
		if (world->source->record[n].is_end)
			bytes += world->source->record[n].bytes;
	assert_int_equal(bytes, COUNT * SECTOR);
	for (i = 0; i < world->num_told; i++) {
		assert_ptr_equal(world->told[i].context, &outcome);
		if (world->told[i].kind == TOLD_READ) {
			assert_ptr_equal(world->told[i].region.bdev, world->source->bdev);
			told += world->told[i].region.count;
		}
	}
	assert_int_equal(told, COUNT);
	world_destroy(world);
}

static void every_size_of_reserve_works(void **state)
{
	static const unsigned int pages[] = { 1, 2, 3, 5, 16, 511, 513, 4096 };
	unsigned int n, i;

	(void)state;
	for (n = 0; n < sizeof(pages) / sizeof(pages[0]); n++) {
		struct world *world = world_create(pages[n], 2, DISK);
		struct outcome outcome = { 0 };
		size_t entry;

		script_set_order(world->source, SCRIPT_REVERSE, 0);
		copy(world, n % 2 ? SEQ : 0, &outcome);
		assert_int_equal(outcome.read_err, 0);
		assert_int_equal(outcome.write_err, 0);
		for (i = 0; i < 2; i++)
			assert_copied(world, i, 0, COUNT);
		for (entry = 0; entry < world->source->num_entries; entry++)
			assert_true(world->source->record[entry].bytes <= pages[n] * 4096);
		if (pages[n] > 1) /* double-buffered at the least */
			assert_true(world->source->record[0].bytes <= (pages[n] + 1) / 2 * 4096);
		world_destroy(world);
	}
}

static void a_count_of_0_succeeds_on_the_clients_thread(void **state)
{
	struct world *world = world_create(1, 2, DISK);
	struct outcome outcome = { 0 };

	(void)state;
	assert_int_equal(world_start(world, START, 0, 0, &outcome), 0);
	world_wait(world, &outcome);
	assert_int_equal(outcome.read_err, 0);
	assert_int_equal(outcome.write_err, 0);
	assert_false(pthread_equal(world->thread, pthread_self()));
	assert_int_equal(script_count(world->source, SCRIPT_ANY), 0);
	assert_int_equal(script_count(world->dests[0], SCRIPT_ANY), 0);
	world_destroy(world);
}

static void thirty_two_destinations_are_written(void **state)
{
	struct world *world = world_create(PAGES, 32, DISK);
	struct outcome outcome = { 0 };
	unsigned int i;

	(void)state;
	script_add(world->dests[0], failing(LANE_WRITE, on_dest(0, 0), COUNT, EIO));
	script_add(world->dests[31], failing(LANE_WRITE, on_dest(31, 3 * CHUNK), 1, EIO));
	copy(world, DROP, &outcome);
	assert_int_equal(outcome.read_err, 0);
	assert_int_equal(outcome.write_err, 0x80000001u);
	for (i = 1; i < 31; i++)
		assert_copied(world, i, 0, COUNT);
	assert_copied(world, 31, 0, 3 * CHUNK);
	world_destroy(world);
}

static void short_and_interrupted_transfers_are_nobodys_error(void **state)
{
	struct world *world = world_create(PAGES, 3, DISK);
	struct outcome outcome = { 0 };
	unsigned int i;

	(void)state;
	script_add(world->source, (struct script_rule){ .what = SCRIPT_SHORT, .op = LANE_READ, .length = 1000 });
	script_add(world->dests[0], (struct script_rule){ .what = SCRIPT_SHORT, .op = LANE_WRITE, .length = 4097 });
	script_add(world->dests[1],
		   (struct script_rule){ .what = SCRIPT_FAIL, .op = LANE_WRITE, .times = 20, .error = EINTR });
	script_add(world->dests[2],
		   (struct script_rule){ .what = SCRIPT_REFUSE, .op = LANE_WRITE, .times = 20, .error = EAGAIN });
	copy(world, 0, &outcome);
	assert_int_equal(outcome.read_err, 0);
	assert_int_equal(outcome.write_err, 0);
	for (i = 0; i < 3; i++)
		assert_copied(world, i, 0, COUNT);
	assert_int_equal(world_errors(world, &outcome, KCOPYD_OP_READ, 0), 0);
	world_destroy(world);
}

/* -- errors -------------------------------------------------------------------------------------- */

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
			assert_true(world_is_filled(world->dests[i], on_dest(i, fault.first), SCRIPT_BLANK));
			for (n = fault.first; n < end; n++)
				assert_true(world_is_filled(world->dests[i], on_dest(i, n), SCRIPT_BLANK));
			assert_blank_or_copied(world, i, end, COUNT);
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
		if (i != bad && goes_on)
			assert_int_equal(prefix, COUNT);
		if (fault.what == SCRIPT_FAIL ||
		    i != bad) /* else a part of a chunk was written, which is told with the error */
			assert_int_equal(world_contiguous(world, outcome, i), prefix);
		if (i != bad)
			assert_int_equal(world_errors(world, outcome, KCOPYD_OP_WRITE, i), 0);
	}
	for (n = fault.first; n < fault.first + fault.count; n++)
		assert_true(world_is_filled(world->dests[bad], on_dest(bad, n), SCRIPT_BLANK));
	assert_true(world_errors(world, outcome, KCOPYD_OP_WRITE, bad) > 0);
	/* What was not told as bad is there; what was told is in chunks that hold bad sectors. */
	for (n = 0; n < COUNT; n++) {
		bool is_told = world_is_told_bad(world, outcome, KCOPYD_OP_WRITE, bad, on_dest(bad, n));

		if (fault.flags & IGNORE && !is_told)
			assert_copied(world, bad, n, n + 1);
		if (is_told)
			assert_true(n / CHUNK >= fault.first / CHUNK &&
				    n / CHUNK <= (fault.first + fault.count - 1) / CHUNK);
		if (is_told && fault.what == SCRIPT_FAIL_AT)
			assert_true(n >= fault.first);
	}
}

static void assert_write_order(const struct script *script, unsigned int flags)
{
	uint64_t next = 0;
	size_t n;

	if (!(flags & SEQ))
		return;
	assert_true(script->most_writes <= 1);
	for (n = 0; n < script->num_entries; n++) {
		if (script->record[n].is_end)
			continue;
		assert_true(script->record[n].offset >= next);
		next = script->record[n].offset; /* a short one is continued further on */
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
		is_known = true;
	}
	assert_true(is_known);
	if (fault.what == SCRIPT_FAIL || fault.operand < 0)
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
	unsigned int flags, place, order, what;

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

	(void)state;
	script_add(world->dests[0], failing(LANE_WRITE, on_dest(0, 0), 1, EIO));
	copy(world, DROP, &outcome);
	assert_int_equal(outcome.write_err, 1);
	assert_copied(world, 1, 0, COUNT);
	assert_true(script_count(world->dests[0], LANE_WRITE) <= 2);
	world_destroy(world);
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

/* -- order --------------------------------------------------------------------------------------- */

static void write_seq_writes_in_order_though_reads_come_back_reversed(void **state)
{
	struct world *world = world_create(64, 3, DISK);
	struct outcome outcome = { 0 };
	unsigned int i;

	(void)state;
	script_set_order(world->source, SCRIPT_REVERSE, 0);
	script_set_order(world->dests[1], SCRIPT_RANDOM, 5);
	copy(world, SEQ, &outcome);
	assert_int_equal(outcome.read_err, 0);
	assert_int_equal(outcome.write_err, 0);
	for (i = 0; i < 3; i++) {
		assert_copied(world, i, 0, COUNT);
		assert_int_equal(world->dests[i]->most_writes, 1);
		assert_write_order(world->dests[i], SEQ);
	}
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

static void a_zoned_destination_forces_write_seq(void **state)
{
	struct world *world = world_create(64, 1, DISK);
	struct script *zoned = script_open(DISK, SECTOR, true, 8);
	struct io_region from = world_source(world, START, COUNT);
	struct io_region dests[2] = { world_dest(world, 0, START, COUNT), { .bdev = zoned->bdev, .count = COUNT } };
	struct outcome copied = { .world = world }, zeroed = { .world = world };

	(void)state;
	script_set_order(world->source, SCRIPT_REVERSE, 0);
	script_add(zoned, holding(LANE_WRITE, 0, 0));
	assert_int_equal(kcopyd_copy(world->kc, &from, 2, dests, 0, world_notify, &copied), 0);
	script_wait_held(zoned, 1);
	script_wait_done(world->dests[0], 2); /* which is not held back: so a second one could be written */
	script_let_go(zoned);
	world_wait(world, &copied);
	assert_int_equal(copied.read_err, 0);
	assert_int_equal(copied.write_err, 0);
	assert_int_equal(zoned->most_writes, 1);
	assert_write_order(zoned, SEQ);
	dests[1].sector = COUNT;
	assert_int_equal(kcopyd_zero(world->kc, 1, dests + 1, 0, world_notify, &zeroed), 0);
	world_wait(world, &zeroed);
	assert_int_equal(zoned->most_writes, 1);
	script_destroy(zoned);
	world_destroy(world);
}

static void reads_run_ahead_while_one_destination_is_held_back(void **state)
{
	struct world *world = world_create(8 * PAGES, 2, 4 * DISK);
	struct outcome outcome = { 0 };
	unsigned int chunks;

	(void)state;
	script_add(world->dests[1], holding(LANE_WRITE, 0, 0));
	assert_int_equal(world_start(world, 0, 2000, 0, &outcome), 0);
	script_wait_held(world->dests[1], 1);
	script_wait_done(world->source, 2);
	script_wait_done(world->dests[0], 2);
	script_wait_held(world->dests[1], 2);
	assert_false(world_is_done(world, &outcome));
	chunks = script_count(world->source, LANE_READ);
	assert_true(chunks >= 2 &&
		    chunks * world->source->record[0].bytes <= 8 * PAGES * 4096); /* the reserve is the bound */
	script_let_go(world->dests[1]);
	world_wait(world, &outcome);
	assert_int_equal(outcome.write_err, 0);
	world_destroy(world);
}

/* With the default reserve: as many reads as there are chunks in it, though nothing was written yet. */
static void the_whole_reserve_is_used_before_anybody_waits(void **state)
{
	enum { CHUNKS = 4096 / 256 };
	struct world *world = world_create(4096, 1, 64 << 20);
	struct outcome outcome = { 0 };

	(void)state;
	script_add(world->dests[0], holding(LANE_WRITE, 0, 0));
	assert_int_equal(world_start(world, 0, 100000, 0, &outcome), 0);
	script_wait_done(world->source, CHUNKS);
	script_wait_held(world->dests[0], CHUNKS);
	assert_int_equal(script_count(world->source, LANE_READ), CHUNKS);
	script_let_go(world->dests[0]);
	world_wait(world, &outcome);
	assert_int_equal(outcome.write_err, 0);
	world_destroy(world);
}

static void source_and_destinations_are_busy_at_once(void **state)
{
	struct world *world = world_create(PAGES, 2, DISK);
	struct outcome outcome = { 0 };

	(void)state;
	script_add(world->source, holding(LANE_READ, START + CHUNK, 1)); /* the second chunk's read is under way ... */
	script_add(world->dests[0], holding(LANE_WRITE, on_dest(0, 0), 1));
	script_add(world->dests[1], holding(LANE_WRITE, on_dest(1, 0), 1));
	assert_int_equal(world_start(world, START, COUNT, 0, &outcome), 0);
	script_wait_held(world->source, 1);
	script_wait_held(world->dests[0], 1); /* ... while the first one is written to both */
	script_wait_held(world->dests[1], 1);
	script_let_go(world->source);
	script_let_go(world->dests[0]);
	script_let_go(world->dests[1]);
	world_wait(world, &outcome);
	assert_copied(world, 0, 0, COUNT);
	assert_copied(world, 1, 0, COUNT);
	world_destroy(world);
}

/* -- what is refused ----------------------------------------------------------------------------- */

static void never(int read_err, unsigned int write_err, void *context)
{
	(void)read_err;
	(void)write_err;
	(void)context;
	abort();
}

#define REGION(disk, first, n) ((struct io_region){ .bdev = (disk)->bdev, .sector = (first), .count = (n) })

static void check_refused(struct world *world, int want, struct io_region from, unsigned int num,
			  struct io_region *dests)
{
	assert_int_equal(kcopyd_copy(world->kc, &from, num, dests, 0, never, NULL), want);
}

#define assert_refused(want, from, ...)                                                                          \
	check_refused(world, want, from, sizeof((struct io_region[]){ __VA_ARGS__ }) / sizeof(struct io_region), \
		      (struct io_region[]){ __VA_ARGS__ })

static void wrong_arguments_are_refused_and_nobody_is_called(void **state)
{
	struct world *world = world_create(PAGES, 2, DISK);
	struct script *s = world->source, *a = world->dests[0], *b = world->dests[1];
	struct script *block4k = script_open(DISK, 4096, false, 8), *block64k = script_open(DISK, 65536, false, 8);
	struct io_region from = REGION(s, 0, 8), dests[33];
	sector_t all = DISK / SECTOR;
	unsigned int i;

	(void)state;
	for (i = 0; i < 33; i++)
		dests[i] = REGION(a, 8 * i, 8);
	assert_int_equal(kcopyd_copy(world->kc, &from, 0, dests, 0, never, NULL), -EINVAL);
	assert_int_equal(kcopyd_copy(world->kc, &from, 33, dests, 0, never, NULL), -EINVAL);
	assert_int_equal(kcopyd_copy(world->kc, &from, UINT32_MAX, dests, 0, never, NULL), -EINVAL);
	assert_int_equal(kcopyd_zero(world->kc, 0, dests, 0, never, NULL), -EINVAL);
	assert_int_equal(kcopyd_zero(world->kc, 33, dests, 0, never, NULL), -EINVAL);
	assert_int_equal(kcopyd_flush(world->kc, 0, dests, never, NULL), -EINVAL);
	assert_int_equal(kcopyd_flush(world->kc, 33, dests, never, NULL), -EINVAL);
	for (i = 0; i < 32; i++)
		if (!((IGNORE | SEQ | DROP) >> i & 1)) {
			assert_int_equal(kcopyd_copy(world->kc, &from, 1, dests, 1u << i, never, NULL), -EINVAL);
			assert_int_equal(kcopyd_zero(world->kc, 1, dests, 1u << i, never, NULL), -EINVAL);
		}

	assert_refused(-EINVAL, from, REGION(a, 0, 7));
	assert_refused(-EINVAL, from, REGION(a, 0, 8), REGION(b, 0, 9));
	assert_refused(-EINVAL, REGION(s, 0, 0), REGION(a, 0, 8));
	assert_refused(-EINVAL, REGION(s, all - 7, 8), REGION(a, 0, 8));
	assert_refused(-EINVAL, REGION(s, all + 1, 0), REGION(a, 0, 0));
	assert_refused(-EINVAL, from, REGION(a, all - 7, 8));
	assert_refused(-EINVAL, from, REGION(a, 0, 8), REGION(b, all, 8));
	assert_refused(-EINVAL, REGION(s, UINT64_MAX, 8), REGION(a, 0, 8));
	assert_refused(-EINVAL, REGION(s, 8, UINT64_MAX), REGION(a, 0, UINT64_MAX));
	assert_refused(-EINVAL, from, REGION(a, UINT64_MAX - 7, 8));
	assert_refused(-EINVAL, from, REGION(a, UINT64_C(1) << 55, 8));

	assert_refused(-EINVAL, REGION(s, 0, 8), REGION(block4k, 4, 8));
	assert_refused(-EINVAL, REGION(s, 0, 4), REGION(block4k, 8, 4));
	assert_refused(-EINVAL, REGION(block4k, 1, 8), REGION(a, 0, 8));
	assert_refused(-EINVAL, REGION(s, 0, 128), REGION(block64k, 0, 128)); /* 16 pages, a chunk has 4 */
	assert_refused(-EINVAL, REGION(block64k, 0, 128), REGION(a, 0, 128));

	a->bdev->can_write = false;
	s->bdev->can_read = false;
	assert_refused(-EBADF, from, REGION(b, 0, 8));
	assert_refused(-EBADF, REGION(b, 0, 8), REGION(a, 0, 8));
	assert_int_equal(kcopyd_zero(world->kc, 1, dests, 0, never, NULL), -EBADF);
	assert_int_equal(script_count(s, SCRIPT_ANY) + script_count(a, SCRIPT_ANY) + script_count(b, SCRIPT_ANY), 0);
	script_destroy(block4k);
	script_destroy(block64k);
	world_destroy(world);
}

static void overlaps_are_refused_and_neighbours_are_not(void **state)
{
	struct world *world = world_create(PAGES, 2, DISK);
	struct script *s = world->source, *a = world->dests[0], *b = world->dests[1];
	struct io_region from = REGION(s, 100, 50), to[2] = { REGION(s, 150, 50), REGION(s, 50, 50) };
	struct outcome outcome = { .world = world };
	unsigned int n;

	(void)state;
	assert_refused(-EINVAL, from, REGION(s, 100, 50));
	assert_refused(-EINVAL, from, REGION(s, 149, 50));
	assert_refused(-EINVAL, from, REGION(s, 51, 50));
	assert_refused(-EINVAL, from, REGION(a, 0, 50), REGION(s, 120, 50));
	assert_refused(-EINVAL, from, REGION(a, 0, 50), REGION(a, 49, 50));
	assert_refused(-EINVAL, from, REGION(a, 0, 50), REGION(b, 0, 50), REGION(a, 0, 50));
	assert_int_equal(
		kcopyd_zero(world->kc, 2, (struct io_region[]){ REGION(a, 0, 50), REGION(a, 20, 50) }, 0, never, NULL),
		-EINVAL);
	assert_true(kcopyd_regions_overlap(&from, &from));
	assert_false(kcopyd_regions_overlap(&REGION(s, 0, 8), &REGION(a, 0, 8)));
	assert_false(kcopyd_regions_overlap(&REGION(s, 4, 0), &REGION(s, 0, 8)));

	assert_int_equal(kcopyd_copy(world->kc, &from, 2, to, 0, world_notify, &outcome), 0);
	world_wait(world, &outcome);
	assert_int_equal(outcome.read_err, 0);
	assert_int_equal(outcome.write_err, 0);
	for (n = 0; n < 50; n++)
		assert_true(world_is_same(s, 100 + n, s, 150 + n) && world_is_same(s, 100 + n, s, 50 + n));
	world_destroy(world);
}

static void a_client_without_pages_is_refused(void **state)
{
	struct kcopyd_client *kc = NULL;

	(void)state;
	assert_int_equal(kcopyd_client_create(0, &kc), -EINVAL);
	assert_null(kc);
	kcopyd_client_destroy(NULL);
	kcopyd_device_close(NULL);
}

static void a_client_that_had_no_jobs_is_destroyed(void **state)
{
	struct kcopyd_client *kc;
	unsigned int i;

	(void)state;
	for (i = 0; i < 20; i++) {
		assert_int_equal(kcopyd_client_create(1 + i, &kc), 0);
		kcopyd_client_destroy(kc);
	}
}

/* -- cancel -------------------------------------------------------------------------------------- */

static void a_cancelled_job_finishes_what_is_in_flight_and_starts_nothing(void **state)
{
	struct world *world = world_create(PAGES, 2, DISK);
	struct outcome first = { 0 }, queued = { 0 }, later = { 0 };
	sector_t done;
	unsigned int i;

	(void)state;
	script_add(world->source, holding(LANE_READ, START + 3 * CHUNK, COUNT));
	assert_int_equal(world_start(world, START, COUNT, 0, &first), 0);
	script_wait_held(world->source, 2); /* the whole reserve */
	assert_int_equal(world_start(world, START, COUNT, 0, &queued), 0);
	kcopyd_client_cancel(world->kc);
	script_let_go(world->source);
	world_wait(world, &first);
	world_wait(world, &queued);
	assert_int_equal(first.read_err, -ECANCELED);
	assert_int_equal(first.write_err, 0);
	assert_int_equal(queued.read_err, -ECANCELED);
	assert_int_equal(queued.write_err, 0);
	for (i = 0; i < 2; i++) {
		done = world_contiguous(world, &first, i);
		assert_int_equal(done, 5 * CHUNK); /* what was in flight was finished */
		assert_copied(world, i, 0, done);
		assert_true(world_is_filled(world->dests[i], on_dest(i, done), SCRIPT_BLANK));
		assert_int_equal(world_contiguous(world, &queued, i), 0);
	}
	assert_contiguous_exact(world, &first);

	assert_int_equal(world_start(world, START, COUNT, 0, &later), 0);
	world_wait(world, &later);
	assert_int_equal(later.read_err, 0);
	assert_int_equal(later.write_err, 0);
	assert_copied(world, 0, 0, COUNT);
	world_destroy(world);
}

static void a_job_that_is_through_with_its_reads_is_not_cancelled(void **state)
{
	struct world *world = world_create(PAGES, 1, DISK);
	struct outcome outcome = { .world = world }, empty = { 0 };
	struct io_region from = world_source(world, START, CHUNK), to = world_dest(world, 0, START, CHUNK);

	(void)state;
	script_add(world->dests[0], holding(LANE_WRITE, 0, 0));
	assert_int_equal(kcopyd_copy(world->kc, &from, 1, &to, 0, world_notify, &outcome), 0);
	script_wait_held(world->dests[0], 1);
	kcopyd_client_cancel(world->kc);
	assert_int_equal(world_start(world, START, 0, 0, &empty), 0);
	world_wait(world, &empty); /* so that the cancel was seen */
	assert_int_equal(empty.read_err, 0);
	script_let_go(world->dests[0]);
	world_wait(world, &outcome);
	assert_int_equal(outcome.read_err, 0);
	assert_int_equal(outcome.write_err, 0);
	assert_copied(world, 0, 0, CHUNK);
	world_destroy(world);
}

static void cancelling_nothing_does_nothing(void **state)
{
	struct world *world = world_create(PAGES, 1, DISK);
	struct outcome outcome = { 0 };

	(void)state;
	kcopyd_client_cancel(world->kc);
	kcopyd_client_cancel(world->kc);
	copy(world, 0, &outcome);
	assert_int_equal(outcome.read_err, 0);
	assert_copied(world, 0, 0, COUNT);
	world_destroy(world);
}

static void a_cancel_reaches_a_source_that_is_all_bad(void **state)
{
	struct world *world = world_create(512, 1, DISK);
	struct outcome outcome = { 0 };

	(void)state;
	script_add(world->source, failing(LANE_READ, 0, 0, EIO));
	script_add(world->source, holding(LANE_READ, START + 30, 1));
	assert_int_equal(world_start(world, START, COUNT, IGNORE, &outcome), 0);
	script_wait_held(world->source, 1);
	kcopyd_client_cancel(world->kc);
	script_let_go(world->source);
	world_wait(world, &outcome);
	assert_int_equal(outcome.read_err != 0, 1); /* 1 or -ECANCELED: how far it got before is a matter of luck */
	assert_int_equal(outcome.write_err, 0);
	assert_contiguous_exact(world, &outcome);
	world_destroy(world);
}

/* -- callbacks, threads, the end ----------------------------------------------------------------- */

struct chain {
	struct world *world;
	struct outcome links[100];
	unsigned int next; /* the callback's own */
};

static void start_next(struct outcome *outcome)
{
	struct chain *chain = outcome->arg;
	unsigned int n = chain->next++;

	if (n == 100)
		return;
	chain->links[n].then = start_next;
	chain->links[n].arg = chain;
	if (world_start(chain->world, n, 3, 0, &chain->links[n]))
		abort();
}

static void a_callback_may_start_jobs(void **state)
{
	struct chain *chain = calloc(1, sizeof(*chain));
	unsigned int n;

	(void)state;
	chain->world = world_create(1, 2, DISK);
	chain->next = 1;
	chain->links[0] = (struct outcome){ .then = start_next, .arg = chain };
	assert_int_equal(world_start(chain->world, 0, 3, 0, &chain->links[0]), 0);
	world_wait(chain->world, &chain->links[99]);
	for (n = 0; n < 100; n++) {
		assert_int_equal(chain->links[n].calls, 1);
		assert_int_equal(chain->links[n].rank, n + 1);
		assert_int_equal(chain->links[n].read_err, 0);
		assert_int_equal(chain->links[n].write_err, 0);
	}
	for (n = 0; n < 102; n++)
		assert_true(world_is_same(chain->world->source, n, chain->world->dests[0], 8 + n));
	world_destroy(chain->world);
	free(chain);
}

/* Also what callbacks start while destroy waits. */
static void destroy_waits_for_every_callback(void **state)
{
	struct chain *chain = calloc(1, sizeof(*chain));
	struct world *world = world_create(2, 2, DISK);
	unsigned int n;

	(void)state;
	chain->world = world;
	chain->next = 1;
	chain->links[0] = (struct outcome){ .then = start_next, .arg = chain };
	assert_int_equal(world_start(world, 0, 3, 0, &chain->links[0]), 0);
	kcopyd_client_destroy(world->kc);
	world->kc = NULL;
	for (n = 0; n < 100; n++)
		assert_int_equal(chain->links[n].calls, 1);
	world_destroy(world);
	free(chain);
}

static void *destroy_client(void *arg)
{
	struct world *world = arg;

	kcopyd_client_destroy(world->kc);
	pthread_mutex_lock(&world->lock);
	world->kc = NULL;
	pthread_mutex_unlock(&world->lock);
	return NULL;
}

static void destroy_waits_for_a_device_that_hangs(void **state)
{
	struct world *world = world_create(PAGES, 2, DISK);
	struct outcome outcome = { 0 };
	pthread_t thread;

	(void)state;
	script_add(world->dests[1], holding(LANE_WRITE, on_dest(1, COUNT - 1), 1));
	assert_int_equal(world_start(world, START, COUNT, 0, &outcome), 0);
	script_wait_held(world->dests[1], 1);
	assert_int_equal(pthread_create(&thread, NULL, destroy_client, world), 0);
	script_wait_done(world->dests[0], COUNT / CHUNK + 1);
	pthread_mutex_lock(&world->lock);
	assert_non_null(world->kc);
	pthread_mutex_unlock(&world->lock);
	assert_false(world_is_done(world, &outcome));
	script_let_go(world->dests[1]);
	pthread_join(thread, NULL);
	assert_int_equal(outcome.calls, 1);
	assert_copied(world, 1, 0, COUNT);
	world_destroy(world);
}

static void destroy_inside(int read_err, unsigned int write_err, void *context)
{
	(void)read_err;
	(void)write_err;
	kcopyd_client_destroy(context);
}

static void destroy_from_a_callback_is_an_assert(void **state)
{
	int status;
	pid_t child = fork();

	(void)state;
#ifdef NDEBUG
	skip();
#endif
	assert_true(child >= 0);
	if (!child) {
		struct rlimit no_core = { 0, 0 };
		struct world *world;
		struct io_region dest;

		setrlimit(RLIMIT_CORE, &no_core);
		signal(SIGABRT, SIG_DFL);
		if (!freopen("/dev/null", "w", stderr))
			_exit(2);
		world = world_create(1, 1, DISK);
		dest = world_dest(world, 0, 0, 0);
		kcopyd_zero(world->kc, 1, &dest, 0, destroy_inside, world->kc);
		for (;;)
			pause();
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}

struct starter {
	struct world *world;
	unsigned int number;
	struct outcome outcomes[25];
};

static void *start_many(void *arg)
{
	struct starter *starter = arg;
	unsigned int n;

	for (n = 0; n < 25; n++)
		if (world_start(starter->world, starter->number * 200 + n * 8, 8, 0, &starter->outcomes[n]))
			abort();
	return NULL;
}

static void many_threads_may_start_jobs(void **state)
{
	struct world *world = world_create(3, 2, DISK);
	struct starter starters[4];
	pthread_t threads[4];
	unsigned int i, n;

	(void)state;
	memset(starters, 0, sizeof(starters));
	for (i = 0; i < 4; i++) {
		starters[i].world = world;
		starters[i].number = i;
		assert_int_equal(pthread_create(&threads[i], NULL, start_many, &starters[i]), 0);
	}
	for (i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	for (i = 0; i < 4; i++)
		for (n = 0; n < 25; n++) {
			world_wait(world, &starters[i].outcomes[n]);
			assert_int_equal(starters[i].outcomes[n].calls, 1);
			assert_int_equal(starters[i].outcomes[n].read_err, 0);
			assert_int_equal(starters[i].outcomes[n].write_err, 0);
		}
	for (n = 0; n < 800; n++) {
		assert_true(world_is_same(world->source, n, world->dests[0], 8 + n));
		assert_true(world_is_same(world->source, n, world->dests[1], 16 + n));
	}
	world_destroy(world);
}

static void a_client_without_an_observer_works(void **state)
{
	static const struct kcopyd_observer none = { NULL, NULL, NULL };
	struct world *world = world_create(PAGES, 2, DISK);
	struct outcome outcome = { 0 }, again = { 0 };

	(void)state;
	kcopyd_client_set_observer(world->kc, NULL, NULL);
	script_add(world->source, failing(LANE_READ, START + 40, 1, EIO));
	script_add(world->dests[0], failing(LANE_WRITE, on_dest(0, 60), 1, EIO));
	copy(world, IGNORE, &outcome);
	assert_int_equal(outcome.read_err, 1);
	assert_int_equal(outcome.write_err, 1);
	kcopyd_client_set_observer(world->kc, &none, NULL);
	copy(world, IGNORE, &again);
	assert_int_equal(again.read_err, 1);
	assert_int_equal(again.write_err, 1);
	assert_int_equal(world->num_told, 0);
	world_destroy(world);
}

/* -- several jobs -------------------------------------------------------------------------------- */

/* The big one is stopped twice: until the small ones wait behind it, and again while it still has most of its way to go. */
static void a_big_job_does_not_starve_small_ones(void **state)
{
	enum { SMALL = 20 };
	struct world *world = world_create(PAGES, 1, 8 << 20);
	struct outcome big = { 0 }, small[SMALL];
	struct script_rule first = holding(LANE_READ, 0, 2 * CHUNK); /* the whole reserve */
	unsigned int i;

	(void)state;
	memset(small, 0, sizeof(small));
	first.times = 2;
	script_add(world->source, first);
	script_add(world->source, holding(LANE_READ, 100 * CHUNK, 200 * CHUNK));
	assert_int_equal(world_start(world, 0, 300 * CHUNK, 0, &big), 0);
	script_wait_held(world->source, 2);
	for (i = 0; i < SMALL; i++)
		assert_int_equal(world_start(world, 10000 + 8 * i, 3, 0, &small[i]), 0);
	script_let_go_last(world->source);
	script_let_go_last(world->source);
	for (i = 0; i < SMALL; i++)
		world_wait(world, &small[i]);
	assert_false(world_is_done(world, &big));
	script_let_go(world->source);
	world_wait(world, &big);
	assert_int_equal(big.read_err, 0);
	world_destroy(world);
}

struct crowd {
	struct world *world;
	struct outcome outcomes[4];
	unsigned int started; /* in callbacks, one at a time */
	bool is_over;	      /* guarded by the world's lock */
};

static void start_again(struct outcome *outcome)
{
	struct crowd *crowd = outcome->arg;
	bool is_over;

	pthread_mutex_lock(&crowd->world->lock);
	is_over = crowd->is_over;
	pthread_mutex_unlock(&crowd->world->lock);
	if (!is_over && world_start(crowd->world, 10000 + 8 * (crowd->started++ % 100), 4, 0, outcome))
		abort();
}

static void end_crowd(struct outcome *outcome)
{
	struct crowd *crowd = outcome->arg;

	pthread_mutex_lock(&crowd->world->lock);
	crowd->is_over = true;
	pthread_mutex_unlock(&crowd->world->lock);
}

static void small_jobs_that_never_stop_coming_do_not_starve_a_big_one(void **state)
{
	struct world *world = world_create(4, 1, 8 << 20);
	struct crowd crowd = { .world = world };
	struct outcome big = { .then = end_crowd, .arg = &crowd };
	unsigned int i;

	(void)state;
	for (i = 0; i < 4; i++) {
		crowd.outcomes[i].then = start_again;
		crowd.outcomes[i].arg = &crowd;
		assert_int_equal(world_start(world, 10000 + 8 * i, 4, 0, &crowd.outcomes[i]), 0);
	}
	assert_int_equal(world_start(world, 0, 100 * CHUNK, 0, &big), 0);
	world_wait(world, &big); /* where it is starved, for ever */
	assert_int_equal(big.read_err, 0);
	assert_int_equal(big.write_err, 0);
	kcopyd_client_destroy(world->kc);
	world->kc = NULL;
	world_destroy(world);
}

static void two_clients_do_not_share_anything(void **state)
{
	struct world *one = world_create(2, 1, DISK), *two = world_create(2, 1, DISK);
	struct outcome stuck = { 0 }, free_one = { 0 };

	(void)state;
	script_add(one->source, holding(LANE_READ, 0, 0));
	assert_int_equal(world_start(one, START, COUNT, 0, &stuck), 0);
	script_wait_held(one->source, 1);
	copy(two, 0, &free_one);
	assert_int_equal(free_one.read_err, 0);
	assert_copied(two, 0, 0, COUNT);
	script_let_go(one->source);
	world_wait(one, &stuck);
	world_destroy(one);
	world_destroy(two);
}

/* -- zero and flush ------------------------------------------------------------------------------ */

static int zero(struct world *world, sector_t count, unsigned int flags, struct outcome *outcome)
{
	struct io_region dests[KCOPYD_MAX_DESTS];
	unsigned int i;

	for (i = 0; i < world->num_dests; i++)
		dests[i] = world_dest(world, i, START, count);
	outcome->world = world;
	return kcopyd_zero(world->kc, world->num_dests, dests, flags, world_notify, outcome);
}

static void zeros_are_written_to_every_destination(void **state)
{
	enum { SECTORS = 70000 }; /* more than one piece */
	struct world *world = world_create(1, 3, 40 << 20);
	struct outcome outcome = { 0 }, empty = { 0 };
	unsigned int i;
	sector_t n;

	(void)state;
	assert_int_equal(zero(world, SECTORS, SEQ, &outcome), 0);
	world_wait(world, &outcome);
	assert_int_equal(outcome.read_err, 0);
	assert_int_equal(outcome.write_err, 0);
	for (i = 0; i < 3; i++) {
		struct io_region to = world_dest(world, i, START, SECTORS);

		assert_true(world_is_filled(world->dests[i], to.sector - 1, SCRIPT_BLANK));
		for (n = 0; n < SECTORS; n++)
			assert_true(world_is_filled(world->dests[i], to.sector + n, 0));
		assert_true(world_is_filled(world->dests[i], to.sector + SECTORS, SCRIPT_BLANK));
		assert_int_equal(world_contiguous(world, &outcome, i), SECTORS);
		assert_int_equal(world->dests[i]->most_writes, 1);
		assert_int_equal(script_count(world->dests[i], LANE_WRITE), 0);
		world_assert_contiguous_exact(world, &outcome, i, &to);
	}
	assert_int_equal(zero(world, 0, 0, &empty), 0);
	world_wait(world, &empty);
	assert_int_equal(empty.read_err, 0);
	assert_int_equal(empty.write_err, 0);
	world_destroy(world);
}

static void zeroing_that_fails_is_told_and_the_others_go_on(void **state)
{
	static const unsigned int flags[] = { IGNORE, DROP };
	unsigned int n, i;
	sector_t at;

	(void)state;
	for (n = 0; n < 2; n++) {
		struct world *world = world_create(1, 3, DISK);
		struct outcome outcome = { 0 };

		script_add(world->dests[1], failing(LANE_ZERO, on_dest(1, 200), 1, EREMOTEIO));
		assert_int_equal(zero(world, COUNT, flags[n], &outcome), 0);
		world_wait(world, &outcome);
		assert_int_equal(outcome.read_err, 0);
		assert_int_equal(outcome.write_err, 2);
		assert_true(world_is_told_bad(world, &outcome, KCOPYD_OP_ZERO, 1, on_dest(1, 200)));
		for (i = 0; i < 3; i += 2)
			for (at = 0; at < COUNT; at++)
				assert_true(world_is_filled(world->dests[i], on_dest(i, at), 0));
		for (i = 0; i < world->num_told; i++)
			if (world->told[i].kind == TOLD_ERROR)
				assert_int_equal(world->told[i].error, EREMOTEIO);
		world_destroy(world);
	}
}

static void zeroing_takes_no_pages(void **state)
{
	struct world *world = world_create(2, 1, DISK);
	struct script *other = script_open(DISK, SECTOR, false, 8);
	struct io_region dest = REGION(other, 0, 100);
	struct outcome stuck = { 0 }, zeroed = { .world = world };

	(void)state;
	script_add(world->source, holding(LANE_READ, 0, 0)); /* has the whole reserve */
	assert_int_equal(world_start(world, START, COUNT, 0, &stuck), 0);
	script_wait_held(world->source, 2);
	assert_int_equal(kcopyd_zero(world->kc, 1, &dest, 0, world_notify, &zeroed), 0);
	world_wait(world, &zeroed);
	assert_int_equal(zeroed.write_err, 0);
	assert_false(world_is_done(world, &stuck));
	script_let_go(world->source);
	world_wait(world, &stuck);
	script_destroy(other);
	world_destroy(world);
}

static int flush(struct world *world, struct outcome *outcome)
{
	struct io_region dests[KCOPYD_MAX_DESTS];
	unsigned int i;

	for (i = 0; i < world->num_dests; i++) /* ranges are ignored */
		dests[i] = (struct io_region){ .bdev = world->dests[i]->bdev, .sector = UINT64_MAX, .count = i };
	outcome->world = world;
	return kcopyd_flush(world->kc, world->num_dests, dests, world_notify, outcome);
}

static void flushes_run_in_parallel_and_each_fails_for_itself(void **state)
{
	struct world *world = world_create(1, 4, DISK);
	struct outcome outcome = { 0 };
	unsigned int i, errors = 0;

	(void)state;
	for (i = 0; i < 4; i++)
		script_add(world->dests[i], holding(LANE_FLUSH, 0, 0));
	script_add(world->dests[0], failing(LANE_FLUSH, 0, 0, EIO));
	script_add(world->dests[2], failing(LANE_FLUSH, 0, 0, ENOSPC));
	assert_int_equal(flush(world, &outcome), 0);
	for (i = 0; i < 4; i++)
		script_wait_held(world->dests[i], 1); /* all at once */
	for (i = 0; i < 4; i++)
		script_let_go(world->dests[i]);
	world_wait(world, &outcome);
	assert_int_equal(outcome.read_err, 0);
	assert_int_equal(outcome.write_err, 5);
	for (i = 0; i < world->num_told; i++) {
		const struct told *told = &world->told[i];

		assert_int_equal(told->kind, TOLD_ERROR);
		assert_int_equal(told->op, KCOPYD_OP_FLUSH);
		assert_int_equal(told->region.count, 0);
		assert_ptr_equal(told->region.bdev, world->dests[told->dest]->bdev);
		assert_int_equal(told->error, told->dest ? ENOSPC : EIO);
		errors |= 1u << told->dest;
	}
	assert_int_equal(world->num_told, 2);
	assert_int_equal(errors, 5);
	for (i = 0; i < 4; i++)
		assert_int_equal(script_count(world->dests[i], LANE_FLUSH), 1);
	world_destroy(world);
}

static void a_copy_sends_no_flush_and_a_flush_nothing_else(void **state)
{
	struct world *world = world_create(PAGES, 2, DISK);
	struct outcome copied = { 0 }, flushed = { 0 };
	unsigned int i, before;

	(void)state;
	copy(world, 0, &copied);
	for (i = 0; i < 2; i++)
		assert_int_equal(script_count(world->dests[i], LANE_FLUSH), 0);
	before = script_count(world->dests[0], SCRIPT_ANY);
	assert_int_equal(flush(world, &flushed), 0);
	world_wait(world, &flushed);
	assert_int_equal(flushed.write_err, 0);
	assert_int_equal(script_count(world->dests[0], SCRIPT_ANY), before + 1);
	assert_int_equal(script_count(world->dests[0], LANE_FLUSH), 1);
	assert_int_equal(script_count(world->source, LANE_FLUSH), 0);
	world_destroy(world);
}

static void any_device_can_be_flushed_however_large_its_blocks(void **state)
{
	struct world *world = world_create(1, 0, DISK);
	struct outcome outcome = { 0 };

	(void)state;
	world->dests[0] = script_open(DISK, 65536, false, 8);
	world->num_dests = 1;
	assert_int_equal(flush(world, &outcome), 0);
	world_wait(world, &outcome);
	assert_int_equal(outcome.read_err, 0);
	assert_int_equal(outcome.write_err, 0);
	assert_int_equal(script_count(world->dests[0], LANE_FLUSH), 1);
	world_destroy(world);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_copy_reaches_every_destination_in_full),
		cmocka_unit_test(the_whole_source_is_read_once_whatever_the_number_of_destinations),
		cmocka_unit_test(every_size_of_reserve_works),
		cmocka_unit_test(a_count_of_0_succeeds_on_the_clients_thread),
		cmocka_unit_test(thirty_two_destinations_are_written),
		cmocka_unit_test(short_and_interrupted_transfers_are_nobodys_error),
		cmocka_unit_test_teardown(a_bad_source_is_exact_under_every_flag, print_fault),
		cmocka_unit_test_teardown(a_bad_first_destination_is_exact_under_every_flag, print_fault),
		cmocka_unit_test_teardown(a_bad_second_destination_is_exact_under_every_flag, print_fault),
		cmocka_unit_test_teardown(a_bad_third_destination_is_exact_under_every_flag, print_fault),
		cmocka_unit_test(scattered_bad_sectors_are_each_found),
		cmocka_unit_test(errors_after_odd_short_reads_are_narrowed_in_whole_blocks),
		cmocka_unit_test(an_error_that_goes_away_is_no_error),
		cmocka_unit_test(a_source_that_is_gone_is_not_asked_sector_by_sector),
		cmocka_unit_test(errors_of_source_and_destinations_are_told_apart),
		cmocka_unit_test(the_job_ends_when_every_destination_was_dropped),
		cmocka_unit_test(a_dropped_destination_is_left_alone),
		cmocka_unit_test(a_bad_source_sector_does_not_break_a_destination_with_larger_blocks),
		cmocka_unit_test(bad_places_are_logical_blocks_of_the_source),
		cmocka_unit_test(write_seq_writes_in_order_though_reads_come_back_reversed),
		cmocka_unit_test(what_a_destination_holds_when_another_ends_the_job_is_told_in_full),
		cmocka_unit_test(a_zoned_destination_forces_write_seq),
		cmocka_unit_test(reads_run_ahead_while_one_destination_is_held_back),
		cmocka_unit_test(the_whole_reserve_is_used_before_anybody_waits),
		cmocka_unit_test(source_and_destinations_are_busy_at_once),
		cmocka_unit_test(wrong_arguments_are_refused_and_nobody_is_called),
		cmocka_unit_test(overlaps_are_refused_and_neighbours_are_not),
		cmocka_unit_test(a_client_without_pages_is_refused),
		cmocka_unit_test(a_client_that_had_no_jobs_is_destroyed),
		cmocka_unit_test(a_cancelled_job_finishes_what_is_in_flight_and_starts_nothing),
		cmocka_unit_test(a_job_that_is_through_with_its_reads_is_not_cancelled),
		cmocka_unit_test(cancelling_nothing_does_nothing),
		cmocka_unit_test(a_cancel_reaches_a_source_that_is_all_bad),
		cmocka_unit_test(a_callback_may_start_jobs),
		cmocka_unit_test(destroy_waits_for_every_callback),
		cmocka_unit_test(destroy_waits_for_a_device_that_hangs),
		cmocka_unit_test(destroy_from_a_callback_is_an_assert),
		cmocka_unit_test(many_threads_may_start_jobs),
		cmocka_unit_test(a_client_without_an_observer_works),
		cmocka_unit_test(a_big_job_does_not_starve_small_ones),
		cmocka_unit_test(small_jobs_that_never_stop_coming_do_not_starve_a_big_one),
		cmocka_unit_test(two_clients_do_not_share_anything),
		cmocka_unit_test(zeros_are_written_to_every_destination),
		cmocka_unit_test(zeroing_that_fails_is_told_and_the_others_go_on),
		cmocka_unit_test(zeroing_takes_no_pages),
		cmocka_unit_test(flushes_run_in_parallel_and_each_fails_for_itself),
		cmocka_unit_test(a_copy_sends_no_flush_and_a_flush_nothing_else),
		cmocka_unit_test(any_device_can_be_flushed_however_large_its_blocks),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
