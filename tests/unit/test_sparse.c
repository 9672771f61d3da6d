/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Jobs with KCOPYD_SPARSE over scripted disks: what is not read, what is not sent, in how few requests, and what becomes of
 * zeroing that fails. Content and errors at random are test_random's.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>

#include "kcopyd.h"
#include "scripted.h"
#include "world.h"

#define PAGE_SECTORS 8u

/* Sectors of the job that the source has zeros in. */
static void clear(const struct world *world, sector_t first, sector_t count)
{
	script_clear(world->source, (START + first) * SECTOR, count * SECTOR);
}

/* Disks as files, where a hole is no less than a chunk. */
static struct world *files(unsigned int num_pages, unsigned int num_dests)
{
	struct world *world = world_create(num_pages, num_dests, DISK);

	script_make_file(world->source, (uint64_t)CHUNK * SECTOR);
	for (unsigned int i = 0; i < num_dests; i++)
		script_make_file(world->dests[i], 0);
	return world;
}

/* Sectors that were told zeroed. */
static sector_t zeroed(const struct world *world, const void *context, unsigned int dest)
{
	sector_t sum = 0;

	for (unsigned int i = 0; i < world->num_told; i++)
		if (world->told[i].kind == TOLD_ZEROED && world->told[i].context == context &&
		    world->told[i].dest == dest)
			sum += world->told[i].region.count;
	return sum;
}

/* Sectors that attempts of @op moved. */
static sector_t moved(const struct script *script, enum lane_op op)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < script->num_entries; i++)
		if (script->record[i].is_end && script->record[i].op == op && script->record[i].result > 0)
			sum += (uint64_t)script->record[i].result;
	return sum / SECTOR;
}

static void assert_all_copied(const struct world *world, const struct outcome *outcome)
{
	assert_int_equal(outcome->read_err, 0);
	assert_int_equal(outcome->write_err, 0);
	for (unsigned int i = 0; i < world->num_dests; i++) {
		assert_copied(world, i, 0, COUNT);
		assert_outside_untouched(world, i);
		assert_int_equal(world_contiguous(world, outcome, i), COUNT);
	}
	assert_contiguous_exact(world, outcome);
}

/* -- holes --------------------------------------------------------------------------------------- */

static void holes_are_not_read_and_each_is_asked_for_once(void **state)
{
	static const unsigned int reserves[] = { 1, 2, PAGES, 64 };

	(void)state;
	for (unsigned int i = 0; i < 8; i++) {
		struct world *world = files(reserves[i / 2], 2);
		struct outcome outcome = { 0 };

		clear(world, 2 * PAGE_SECTORS, 3 * CHUNK);
		clear(world, 5 * CHUNK + PAGE_SECTORS, 2 * CHUNK);
		copy(world, SPARSE | DROP | (i % 2 ? SEQ : 0), &outcome);
		assert_all_copied(world, &outcome);
		assert_int_equal(moved(world->source, LANE_READ), COUNT - 5 * CHUNK);
		assert_int_equal(script_count(world->source, LANE_EXTENT), 3);
		for (unsigned int dest = 0; dest < 2; dest++) {
			assert_int_equal(zeroed(world, &outcome, dest), 5 * CHUNK);
			assert_int_equal(moved(world->dests[dest], LANE_ZERO), 5 * CHUNK);
			assert_int_equal(moved(world->dests[dest], LANE_WRITE), COUNT - 5 * CHUNK);
			assert_int_equal(script_count(world->dests[dest], LANE_ZERO), 2);
			assert_write_order(world->dests[dest], i % 2 ? SEQ : 0);
		}
		world_destroy(world);
	}
}

static void a_hole_at_the_start_or_the_end_or_everywhere(void **state)
{
	static const sector_t holes[][2] = { { 0, 100 }, { COUNT - 100, 100 }, { 0, COUNT } };

	(void)state;
	for (unsigned int i = 0; i < 3; i++) {
		struct world *world = files(PAGES, 1);
		struct outcome outcome = { 0 };
		sector_t first = (holes[i][0] + PAGE_SECTORS - 1) / PAGE_SECTORS * PAGE_SECTORS;
		sector_t end = holes[i][0] + holes[i][1];

		if (end < COUNT)
			end -= end % PAGE_SECTORS;
		clear(world, holes[i][0], holes[i][1]);
		copy(world, SPARSE, &outcome);
		assert_all_copied(world, &outcome);
		assert_int_equal(moved(world->source, LANE_READ), COUNT - (end - first));
		assert_int_equal(zeroed(world, &outcome, 0), end - first);
		world_destroy(world);
	}
}

static void without_the_flag_everything_is_read_and_written(void **state)
{
	struct world *world = files(PAGES, 1);
	struct outcome outcome = { 0 };

	(void)state;
	clear(world, 0, COUNT / 2);
	copy(world, DROP, &outcome);
	assert_all_copied(world, &outcome);
	assert_int_equal(moved(world->source, LANE_READ), COUNT);
	assert_int_equal(moved(world->dests[0], LANE_WRITE), COUNT);
	assert_int_equal(script_count(world->source, LANE_EXTENT), 0);
	assert_int_equal(zeroed(world, &outcome, 0), 0);
	world_destroy(world);
}

static void a_block_device_is_not_asked_for_holes(void **state)
{
	struct world *world = world_create(PAGES, 1, DISK);
	struct outcome outcome = { 0 };

	(void)state;
	clear(world, 0, COUNT);
	copy(world, SPARSE, &outcome);
	assert_all_copied(world, &outcome);
	assert_int_equal(moved(world->source, LANE_READ), COUNT);
	assert_int_equal(script_count(world->source, LANE_EXTENT), 0);
	world_destroy(world);
}

static void a_source_that_cannot_tell_is_data(void **state)
{
	struct world *world = files(PAGES, 1);
	struct outcome outcome = { 0 };

	(void)state;
	clear(world, CHUNK, 3 * CHUNK);
	script_add(world->source, failing(LANE_EXTENT, 0, 0, EIO));
	copy(world, SPARSE, &outcome);
	assert_all_copied(world, &outcome);
	assert_int_equal(moved(world->source, LANE_READ), COUNT);
	assert_int_equal(script_count(world->source, LANE_EXTENT), 1);
	world_destroy(world);
}

static void a_job_that_waits_for_an_answer_can_be_cancelled(void **state)
{
	struct world *world = files(PAGES, 1);
	struct outcome outcome = { 0 };

	(void)state;
	script_add(world->source, holding(LANE_EXTENT, 0, 0));
	assert_int_equal(world_start(world, START, COUNT, SPARSE, &outcome), 0);
	script_wait_held(world->source, 1);
	kcopyd_client_cancel(world->kc);
	assert_false(world_is_done(world, &outcome));
	script_let_go(world->source);
	world_wait(world, &outcome);
	assert_int_equal(outcome.read_err, -ECANCELED);
	assert_int_equal(outcome.write_err, 0);
	world_destroy(world);
}

static void a_source_that_is_abandoned_when_it_is_asked_ends_the_job(void **state)
{
	static const unsigned int flags[] = { 0, DROP, IGNORE, IGNORE | SEQ };

	(void)state;
	for (unsigned int i = 0; i < 8; i++) {
		struct world *world = files(i % 2 ? 1 : PAGES, 1);
		struct outcome outcome = { 0 };

		script_add(world->source, holding(LANE_EXTENT, 0, 0));
		assert_int_equal(world_start(world, START, COUNT, SPARSE | flags[i / 2], &outcome), 0);
		script_wait_held(world->source, 1);
		kcopyd_device_abandon(world->source->bdev);
		world_wait(world, &outcome);
		assert_int_equal(outcome.read_err, 1);
		assert_int_equal(outcome.write_err, 0);
		assert_int_equal(script_count(world->dests[0], SCRIPT_ANY), 0);
		script_let_go(world->source);
		world_destroy(world);
	}
}

static void nothing_behind_an_unreadable_sector_is_zeroed(void **state)
{
	struct world *world = files(64, 1);
	struct outcome outcome = { 0 };

	(void)state;
	clear(world, CHUNK, COUNT - CHUNK);
	script_add(world->source, failing(LANE_READ, START + 3, 1, EIO));
	script_add(world->source, holding(LANE_READ, START, 1));
	assert_int_equal(world_start(world, START, COUNT, SPARSE | DROP, &outcome), 0);
	script_wait_held(world->source, 1);
	script_let_go(world->source);
	world_wait(world, &outcome);
	assert_int_equal(outcome.read_err, 1);
	assert_copied(world, 0, 0, 3);
	for (sector_t n = 3; n < COUNT; n++)
		assert_true(world_is_filled(world->dests[0], on_dest(0, n), SCRIPT_BLANK));
	assert_int_equal(script_count(world->dests[0], LANE_ZERO), 0);
	world_destroy(world);
}

/* -- zeros in what was read ---------------------------------------------------------------------- */

/* Chunk 1: data, zeros of two pages, data; chunk 2: zeros; chunk 3: zeros, data, zeros. */
static void clear_runs(const struct world *world)
{
	clear(world, CHUNK + PAGE_SECTORS, 2 * PAGE_SECTORS);
	clear(world, 2 * CHUNK, CHUNK);
	clear(world, 3 * CHUNK, PAGE_SECTORS);
	clear(world, 3 * CHUNK + 2 * PAGE_SECTORS, 2 * PAGE_SECTORS);
}

#define RUN_SECTORS (9u * PAGE_SECTORS)

static struct world *with_runs(unsigned int num_dests)
{
	struct world *world = files(PAGES, num_dests);

	world->source->bdev->hole_least = 0;
	clear_runs(world);
	return world;
}

static void runs_of_zeros_are_zeroed_and_the_rest_is_written_in_one_piece_each(void **state)
{
	static const unsigned int flags[] = { 0, SEQ, IGNORE, DROP | SEQ };

	(void)state;
	for (unsigned int i = 0; i < 4; i++) {
		struct world *world = with_runs(2);
		struct outcome outcome = { 0 };

		copy(world, SPARSE | flags[i], &outcome);
		assert_all_copied(world, &outcome);
		assert_int_equal(moved(world->source, LANE_READ), COUNT);
		for (unsigned int dest = 0; dest < 2; dest++) {
			assert_int_equal(moved(world->dests[dest], LANE_ZERO), RUN_SECTORS);
			assert_int_equal(zeroed(world, &outcome, dest), RUN_SECTORS);
			assert_int_equal(moved(world->dests[dest], LANE_WRITE), COUNT - RUN_SECTORS);
			assert_int_equal(script_count(world->dests[dest], LANE_ZERO), 4);
			/* 11 chunks, of which one has no data and one has it in two pieces */
			assert_int_equal(script_count(world->dests[dest], LANE_WRITE), 11);
			assert_write_order(world->dests[dest], flags[i]);
		}
		world_destroy(world);
	}
}

static void a_device_is_spared_short_runs(void **state)
{
	struct world *world = with_runs(1);
	struct outcome outcome = { 0 };

	(void)state;
	world->dests[0]->bdev->zeros = (struct zeros_rules){ .align = PAGE_SECTORS * SECTOR, .least = CHUNK * SECTOR };
	copy(world, SPARSE, &outcome);
	assert_all_copied(world, &outcome);
	assert_int_equal(moved(world->dests[0], LANE_ZERO), CHUNK);
	assert_int_equal(script_count(world->dests[0], LANE_WRITE), 10);
	world_destroy(world);
}

static void a_destination_that_cannot_zero_is_tried_once_and_the_others_go_on(void **state)
{
	struct world *world = with_runs(3);
	struct outcome outcome = { 0 };

	(void)state;
	world->dests[1]->writes_zeros = true;
	copy(world, SPARSE | SEQ, &outcome);
	assert_all_copied(world, &outcome);
	assert_int_equal(script_count(world->dests[1], LANE_ZERO), 1);
	assert_int_equal(zeroed(world, &outcome, 1), 0);
	for (unsigned int dest = 0; dest < 3; dest += 2)
		assert_int_equal(zeroed(world, &outcome, dest), RUN_SECTORS);
	world_destroy(world);
}

static void a_zoned_destination_has_zeros_written(void **state)
{
	struct world *world = with_runs(2);
	struct outcome outcome = { 0 };

	(void)state;
	world->dests[1]->bdev->is_zoned = true;
	copy(world, SPARSE, &outcome);
	assert_all_copied(world, &outcome);
	assert_int_equal(script_count(world->dests[1], LANE_ZERO), 0);
	assert_int_equal(zeroed(world, &outcome, 0), RUN_SECTORS);
	assert_write_order(world->dests[1], SEQ);
	world_destroy(world);
}

static void zeros_that_are_there_need_no_request(void **state)
{
	struct world *world = files(PAGES, 1);
	struct outcome outcome = { 0 };

	(void)state;
	world->source->bdev->hole_least = 0;
	for (unsigned int page = 0; page < COUNT / PAGE_SECTORS; page += 2)
		clear(world, page * PAGE_SECTORS, PAGE_SECTORS);
	script_clear(world->dests[0], 0, DISK);
	world->dests[0]->has_known_zeros = true;
	copy(world, SPARSE, &outcome);
	assert_copied(world, 0, 0, COUNT);
	assert_int_equal(zeroed(world, &outcome, 0), COUNT / 2 - COUNT / 2 % PAGE_SECTORS);
	/* The first of each chunk's; the last chunk is data. */
	assert_int_equal(script_count(world->dests[0], LANE_ZERO), COUNT / CHUNK);
	world_destroy(world);
}

static void zeros_that_are_there_in_part_are_made_for_the_rest(void **state)
{
	struct world *world = files(PAGES, 1);
	struct outcome outcome = { 0 };

	(void)state;
	world->source->bdev->hole_least = 0;
	clear(world, 0, PAGE_SECTORS);
	clear(world, 2 * PAGE_SECTORS, PAGE_SECTORS);
	/* Up to the second run, of which the last sector is missing. */
	script_clear(world->dests[0], on_dest(0, 0) * SECTOR, (3 * PAGE_SECTORS - 1) * SECTOR);
	world->dests[0]->has_known_zeros = true;
	copy(world, SPARSE, &outcome);
	assert_all_copied(world, &outcome);
	assert_int_equal(script_count(world->dests[0], LANE_ZERO), 2);
	world_destroy(world);
}

static void unreadable_sectors_may_be_zeroed_and_are_told_as_ever(void **state)
{
	struct world *world = with_runs(1);
	struct outcome outcome = { 0 };

	(void)state;
	script_add(world->source, failing(LANE_READ, START + 5 * CHUNK, PAGE_SECTORS, ENODATA));
	copy(world, SPARSE | IGNORE, &outcome);
	assert_int_equal(outcome.read_err, 1);
	assert_int_equal(outcome.write_err, 0);
	assert_int_equal(world_errors(world, &outcome, KCOPYD_OP_READ, 0), PAGE_SECTORS);
	assert_int_equal(zeroed(world, &outcome, 0), RUN_SECTORS + PAGE_SECTORS);
	assert_int_equal(world_contiguous(world, &outcome, 0), COUNT);
	assert_copied(world, 0, 0, 5 * CHUNK);
	for (sector_t n = 0; n < PAGE_SECTORS; n++)
		assert_true(world_is_filled(world->dests[0], on_dest(0, 5 * CHUNK + n), 0));
	world_destroy(world);
}

/* -- errors -------------------------------------------------------------------------------------- */

static void zeros_that_cannot_be_zeroed_but_written_are_no_error(void **state)
{
	struct world *world = with_runs(2);
	struct outcome outcome = { 0 };

	(void)state;
	script_add(world->dests[1], failing(LANE_ZERO, on_dest(1, 2 * CHUNK + 5), 1, EIO));
	script_add(world->dests[1], failing(LANE_ZERO, on_dest(1, 3 * CHUNK + 2 * PAGE_SECTORS), 1, EIO));
	copy(world, SPARSE, &outcome);
	assert_all_copied(world, &outcome);
	world_destroy(world);
}

/* Sector @bad of the job can neither be zeroed nor written on destination 1, and is told so, and nothing else is. */
static void check_bad_zero(struct world *world, sector_t bad, unsigned int flags)
{
	struct outcome outcome = { 0 };

	script_add(world->dests[0], failing(LANE_ZERO, on_dest(0, bad), 1, EREMOTEIO));
	script_add(world->dests[0], failing(LANE_WRITE, on_dest(0, bad), 1, EREMOTEIO));
	copy(world, SPARSE | flags, &outcome);
	assert_int_equal(outcome.read_err, 0);
	assert_int_equal(outcome.write_err, 1);
	assert_int_equal(world_errors(world, &outcome, KCOPYD_OP_WRITE, 0), 1);
	assert_true(world_is_told_bad(world, &outcome, KCOPYD_OP_WRITE, 0, on_dest(0, bad)));
	assert_copied(world, 0, 0, bad);
	assert_true(world_is_filled(world->dests[0], on_dest(0, bad), SCRIPT_BLANK));
	for (sector_t n = bad + 1; n < COUNT; n++)
		if (!(flags & IGNORE))
			assert_true(world_is_filled(world->dests[0], on_dest(0, n), SCRIPT_BLANK) ||
				    world_is_same(world->source, START + n, world->dests[0], on_dest(0, n)));
	if (flags & IGNORE)
		assert_copied(world, 0, bad + 1, COUNT);
	assert_int_equal(world_contiguous(world, &outcome, 0), bad);
	if (flags & (IGNORE | DROP))
		assert_copied(world, 1, 0, COUNT);
	assert_contiguous_exact(world, &outcome);
	world_destroy(world);
}

static void a_bad_sector_among_zeros_is_told_exactly(void **state)
{
	static const unsigned int flags[] = { 0, DROP, IGNORE, IGNORE | SEQ };
	static const sector_t bad[] = { CHUNK + PAGE_SECTORS, CHUNK + 2 * PAGE_SECTORS + 3, 2 * CHUNK + 9,
					3 * CHUNK + 4 * PAGE_SECTORS - 1 };

	(void)state;
	for (unsigned int i = 0; i < 16; i++)
		check_bad_zero(with_runs(2), bad[i / 4], flags[i % 4]);
}

static void a_bad_sector_in_a_hole_is_told_exactly(void **state)
{
	static const unsigned int flags[] = { 0, DROP, IGNORE, IGNORE | SEQ };

	(void)state;
	for (unsigned int i = 0; i < 8; i++) {
		struct world *world = files(PAGES, 2);

		clear(world, CHUNK, 4 * CHUNK);
		check_bad_zero(world, i / 4 ? CHUNK : 3 * CHUNK + 5, flags[i % 4]);
	}
}

static void a_destination_that_is_abandoned_while_it_zeroes_is_dropped(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < 2; i++) {
		struct world *world = i ? files(PAGES, 2) : with_runs(2);
		struct outcome outcome = { 0 };

		if (i)
			clear(world, CHUNK, 4 * CHUNK);
		script_add(world->dests[0], holding(LANE_ZERO, 0, 0));
		assert_int_equal(world_start(world, START, COUNT, SPARSE | DROP, &outcome), 0);
		script_wait_held(world->dests[0], 1);
		kcopyd_device_abandon(world->dests[0]->bdev);
		world_wait(world, &outcome);
		assert_int_equal(outcome.read_err, 0);
		assert_int_equal(outcome.write_err, 1);
		assert_copied(world, 1, 0, COUNT);
		script_let_go(world->dests[0]);
		world_destroy(world);
	}
}

static void a_destination_that_is_dropped_gets_no_further_piece(void **state)
{
	struct world *world = with_runs(2);
	struct outcome outcome = { 0 }, empty = { 0 };
	struct script *disk = world->dests[0];

	(void)state;
	script_add(disk, holding(LANE_WRITE, on_dest(0, CHUNK), PAGE_SECTORS));
	assert_int_equal(world_start(world, START, COUNT, SPARSE | DROP, &outcome), 0);
	script_wait_held(disk, 1);
	kcopyd_device_fail(disk->bdev);
	/* When this is called back, the client has heard of it. */
	assert_int_equal(world_start(world, START, 0, 0, &empty), 0);
	world_wait(world, &empty);
	script_let_go(disk);
	world_wait(world, &outcome);
	assert_int_equal(outcome.write_err, 1);
	assert_copied(world, 0, 0, CHUNK + PAGE_SECTORS);
	for (sector_t n = CHUNK + PAGE_SECTORS; n < 2 * CHUNK; n++)
		assert_true(world_is_filled(disk, on_dest(0, n), SCRIPT_BLANK));
	assert_int_equal(world_contiguous(world, &outcome, 0), CHUNK + PAGE_SECTORS);
	assert_copied(world, 1, 0, COUNT);
	assert_contiguous_exact(world, &outcome);
	world_destroy(world);
}

/* Abandoned devices have all pages; what needs none is still under way, and the job ends after it. */
static void a_hole_that_is_under_way_when_no_pages_are_left_is_waited_for(void **state)
{
	struct world *world = files(PAGES, 2);
	struct outcome outcome = { 0 };

	(void)state;
	clear(world, 2 * CHUNK, 2 * CHUNK);
	script_add(world->dests[0], holding(LANE_WRITE, 0, 0));
	script_add(world->dests[1], holding(LANE_ZERO, 0, 0));
	assert_int_equal(world_start(world, START, COUNT, SPARSE | DROP, &outcome), 0);
	script_wait_held(world->dests[0], 2);
	script_wait_done(world->dests[1], 2);
	kcopyd_device_abandon(world->dests[0]->bdev);
	script_wait_held(world->dests[1], 1);
	script_let_go(world->dests[1]);
	world_wait(world, &outcome);
	assert_int_equal(outcome.read_err, 0);
	assert_int_equal(outcome.write_err, 3);
	assert_int_equal(world_contiguous(world, &outcome, 1), 4 * CHUNK);
	assert_copied(world, 1, 0, 4 * CHUNK);
	for (unsigned int i = 0; i < world->num_told; i++)
		if (world->told[i].kind == TOLD_ERROR && world->told[i].dest == 1)
			assert_int_equal(world->told[i].contiguous, 4 * CHUNK); /* and nothing is written after it */
	assert_contiguous_exact(world, &outcome);
	world_destroy(world);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(holes_are_not_read_and_each_is_asked_for_once),
		cmocka_unit_test(a_hole_at_the_start_or_the_end_or_everywhere),
		cmocka_unit_test(without_the_flag_everything_is_read_and_written),
		cmocka_unit_test(a_block_device_is_not_asked_for_holes),
		cmocka_unit_test(a_source_that_cannot_tell_is_data),
		cmocka_unit_test(a_job_that_waits_for_an_answer_can_be_cancelled),
		cmocka_unit_test(a_source_that_is_abandoned_when_it_is_asked_ends_the_job),
		cmocka_unit_test(nothing_behind_an_unreadable_sector_is_zeroed),
		cmocka_unit_test(runs_of_zeros_are_zeroed_and_the_rest_is_written_in_one_piece_each),
		cmocka_unit_test(a_device_is_spared_short_runs),
		cmocka_unit_test(a_destination_that_cannot_zero_is_tried_once_and_the_others_go_on),
		cmocka_unit_test(a_zoned_destination_has_zeros_written),
		cmocka_unit_test(zeros_that_are_there_need_no_request),
		cmocka_unit_test(zeros_that_are_there_in_part_are_made_for_the_rest),
		cmocka_unit_test(unreadable_sectors_may_be_zeroed_and_are_told_as_ever),
		cmocka_unit_test(zeros_that_cannot_be_zeroed_but_written_are_no_error),
		cmocka_unit_test(a_bad_sector_among_zeros_is_told_exactly),
		cmocka_unit_test(a_bad_sector_in_a_hole_is_told_exactly),
		cmocka_unit_test(a_destination_that_is_abandoned_while_it_zeroes_is_dropped),
		cmocka_unit_test(a_destination_that_is_dropped_gets_no_further_piece),
		cmocka_unit_test(a_hole_that_is_under_way_when_no_pages_are_left_is_waited_for),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
