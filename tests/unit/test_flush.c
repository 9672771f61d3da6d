/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A copy's flushes, device by device: whose map they are for, who waits for whom, what follows from one that fails. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "clone_copy.h"
#include "world.h"

#define DESTS 3u
#define SECTORS ((sector_t)1000)
#define ALL ((1u << DESTS) - 1)

struct test {
	struct world *world;
	struct options options;
	struct clone clone;
	unsigned int failures;	  /* that clone_add_failure() was told of */
	unsigned int let_go_when; /* clone_wait(): when the maps of all these are complete, the held flush is let go */
	struct script *held;
	uint32_t complete, flushed; /* as the report has it: bit N-1 */
	uint64_t writes[DESTS];
};

static struct test *test;
static char dir[PATH_MAX];
static char paths[DESTS + 1][PATH_MAX + 16];

/* -- what the code under test needs of the rest -------------------------------------------------- */

void operand_problem(struct operand *operand, const char *format, ...)
{
	(void)format;
	operand->is_bad = true;
}

int operand_flush_name(struct operand *operand)
{
	return operand->leaf ? -EIO : 0;
}

void operand_close_device(struct operand *operand)
{
	(void)operand;
}

int contents_read(const struct io_region *region, uint64_t offset, void *buffer, size_t bytes)
{
	(void)region;
	(void)offset;
	(void)buffer;
	(void)bytes;
	return -EIO;
}

void clone_add_failure(struct clone *clone, unsigned int number, const char *what, int error)
{
	(void)what;
	(void)error;
	test->failures |= 1u << (number - 1);
	atomic_fetch_or(&clone->write_err, 1u << (number - 1));
}

bool report_is_written(struct report *report, unsigned int number)
{
	(void)report;
	return test->complete >> (number - 1) & 1;
}

uint64_t report_count_writes(struct report *report, unsigned int number)
{
	(void)report;
	return test->writes[number - 1];
}

void report_add_flushed(struct report *report, unsigned int number)
{
	(void)report;
	test->flushed |= 1u << (number - 1);
}

void report_print_news(struct report *report)
{
	(void)report;
}

/* Is it said by the map's file? */
static bool is_saved(unsigned int number)
{
	char path[PATH_MAX + 16], text[4096];
	FILE *file;
	size_t bytes;

	snprintf(path, sizeof(path), "%s/map.%u", dir, number);
	file = fopen(path, "r");
	if (!file)
		return false;
	bytes = fread(text, 1, sizeof(text) - 1, file);
	fclose(file);
	text[bytes] = '\0';
	return strstr(text, "  +\n");
}

void clone_wait(struct clone *clone)
{
	struct pollfd fd = { .fd = clone->done_fd, .events = POLLIN };
	uint64_t count;

	for (unsigned int number = 1; test->held && number <= DESTS; number++)
		if ((test->let_go_when >> (number - 1) & 1) && !is_saved(number)) {
			assert_int_equal(poll(&fd, 1, 60000), 1);
			(void)!read(clone->done_fd, &count, sizeof(count));
			return;
		}
	if (test->held)
		script_let_go(test->held);
	test->held = NULL;
	assert_int_equal(poll(&fd, 1, 60000), 1);
	(void)!read(clone->done_fd, &count, sizeof(count));
}

/* ------------------------------------------------------------------------------------------------ */

static int set_up(void **state)
{
	const char *tmp = getenv("TMPDIR");
	char map[PATH_MAX + 16];

	(void)state;
	test = calloc(1, sizeof(*test));
	assert_non_null(test);
	snprintf(dir, sizeof(dir), "%s/kcopy-flush.XXXXXX", tmp ? tmp : "/tmp");
	assert_non_null(mkdtemp(dir));
	test->world = world_create(PAGES, DESTS, DISK);
	test->clone.options = &test->options;
	test->clone.client = test->world->kc;
	test->clone.done_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	test->clone.guard = (struct guard){ .num_dests = DESTS, .has_source = true };
	test->clone.guard.operands = calloc(DESTS + 1, sizeof(struct operand));
	assert_non_null(test->clone.guard.operands);
	for (unsigned int i = 0; i <= DESTS; i++) {
		struct operand *operand = &test->clone.guard.operands[i];
		struct script *script = i ? test->world->dests[i - 1] : test->world->source;
		FILE *file;

		snprintf(paths[i], sizeof(paths[i]), "%s/operand%u", dir, i);
		file = fopen(paths[i], "w");
		assert_non_null(file);
		fclose(file);
		operand->number = i;
		operand->path = paths[i];
		operand->bdev = script->bdev;
		operand->region = (struct io_region){ .bdev = script->bdev, .count = SECTORS };
	}
	snprintf(map, sizeof(map), "%s/map", dir);
	assert_int_equal(resume_create(&test->clone.guard, map, &test->clone.resume), 0);
	return 0;
}

static int tear_down(void **state)
{
	char map[PATH_MAX + 16];

	(void)state;
	world_destroy(test->world);
	resume_destroy(test->clone.resume);
	for (unsigned int i = 0; i <= DESTS; i++) {
		unlink(paths[i]);
		snprintf(map, sizeof(map), "%s/map.%u", dir, i);
		unlink(map);
	}
	assert_int_equal(rmdir(dir), 0);
	close(test->clone.done_fd);
	free(test->clone.guard.operands);
	free(test);
	return 0;
}

/* Every destination's region was written, so far. */
static void write_all(void)
{
	for (unsigned int number = 1; number <= DESTS; number++)
		resume_written(test->clone.resume, number, 0, SECTORS);
}

/* The time for a flush beside the copy has come. */
static void make_due(void)
{
	for (unsigned int i = 0; i < test->clone.num_flushes; i++)
		test->clone.flushes[i].due_ms = 1;
	clone_flush_tick(&test->clone);
}

static bool is_claimed(unsigned int number)
{
	return resume_count(test->clone.resume, number, MAP_FLUSHED) == SECTORS;
}

/* Until the maps of these, and no others, are saved. */
static void wait_saved(uint32_t numbers)
{
	for (unsigned int number = 1; number <= DESTS; number++)
		while ((numbers >> (number - 1) & 1) && !is_saved(number)) {
			clone_wait(&test->clone);
			clone_flush_tick(&test->clone);
		}
	for (unsigned int number = 1; number <= DESTS; number++)
		assert_int_equal(is_saved(number), numbers >> (number - 1) & 1);
}

static void share_device(unsigned int number, unsigned int other)
{
	struct operand *operands = test->clone.guard.operands;

	operands[number].bdev = operands[other].bdev;
	operands[number].region.bdev = operands[other].bdev;
	operands[number].region.sector = SECTORS * number;
}

/* -- beside the copy ----------------------------------------------------------------------------- */

static void test_a_flush_that_hangs_delays_no_other_map(void **state)
{
	(void)state;
	clone_flush_prepare(&test->clone);
	assert_int_equal(test->clone.num_flushes, DESTS);
	write_all();
	script_add(test->world->dests[1], holding(LANE_FLUSH, 0, 0));
	make_due();
	wait_saved(5);
	assert_false(is_claimed(2));

	/* Nor the next one. */
	resume_unwritten(test->clone.resume, 1, 0, SECTORS);
	clone_map_save(&test->clone, 1);
	assert_false(is_saved(1));
	resume_written(test->clone.resume, 1, 0, SECTORS);
	make_due();
	wait_saved(5);
	assert_int_equal(script_count(test->world->dests[1], LANE_FLUSH), 0);
	script_let_go(test->world->dests[1]);
	wait_saved(ALL);
	assert_int_equal(test->clone.write_err, 0);
}

static void test_before_its_time_nothing_is_flushed_and_after_a_signal_neither(void **state)
{
	(void)state;
	clone_flush_prepare(&test->clone);
	write_all();
	clone_flush_tick(&test->clone);
	clone_flush_tick(&test->clone);
	test->clone.is_cancelled = true;
	make_due();
	for (unsigned int i = 0; i < DESTS; i++)
		assert_int_equal(atomic_load(&test->clone.flushes[i].job.state), JOB_FREE);
	wait_saved(0);
}

static void test_destinations_on_one_device_have_one_flush(void **state)
{
	(void)state;
	share_device(3, 1);
	clone_flush_prepare(&test->clone);
	assert_int_equal(test->clone.num_flushes, 2);
	write_all();
	make_due();
	wait_saved(ALL);
	assert_int_equal(script_count(test->world->dests[0], LANE_FLUSH), 1);
	assert_int_equal(script_count(test->world->dests[2], LANE_FLUSH), 0);
}

static void test_a_failed_flush_counts_for_all_on_its_device_asked_or_not(void **state)
{
	(void)state;
	test->options.on_error = ON_ERROR_IGNORE;
	share_device(3, 1);
	clone_flush_prepare(&test->clone);
	resume_written(test->clone.resume, 1, 0, SECTORS);
	script_add(test->world->dests[0],
		   (struct script_rule){ .what = SCRIPT_FAIL, .op = LANE_FLUSH, .times = 1, .error = EIO });
	make_due();
	while (!test->clone.flushes[0].has_failed) {
		clone_wait(&test->clone);
		clone_flush_tick(&test->clone);
	}
	assert_int_equal(test->clone.write_err, 5);
	/* It was told to that flush if what destination 3 wrote meanwhile was lost. */
	write_all();
	assert_int_equal(clone_flush(&test->clone), 2);
	wait_saved(2);
}

static struct outcome outcome;

/* A copy to destinations 1 and 2 that hangs on the latter. */
static void start_copy(unsigned int flags)
{
	outcome = (struct outcome){ 0 };
	script_add(test->world->dests[1], holding(LANE_WRITE, 0, 0));
	assert_int_equal(world_start(test->world, START, COUNT, flags, &outcome), 0);
	script_wait_held(test->world->dests[1], 2);
	resume_written(test->clone.resume, 2, 0, SECTORS);
	script_add(test->world->dests[1],
		   (struct script_rule){ .what = SCRIPT_FAIL, .op = LANE_FLUSH, .times = 1, .error = EIO });
	make_due();
	while (!test->clone.flushes[1].has_failed) {
		clone_wait(&test->clone);
		clone_flush_tick(&test->clone);
	}
	script_let_go(test->world->dests[1]);
	world_wait(test->world, &outcome);
	assert_int_equal(test->clone.write_err, 2);
}

static void test_what_cannot_be_flushed_is_dropped_from_the_copy_that_runs(void **state)
{
	(void)state;
	clone_flush_prepare(&test->clone);
	start_copy(DROP);
	assert_int_equal(outcome.write_err, 2);
	assert_int_equal(outcome.read_err, 0);
	assert_copied(test->world, 0, 0, COUNT);
	assert_true(world_is_filled(test->world->dests[1], on_dest(1, COUNT - 1), SCRIPT_BLANK));
	/* What another one says is nothing. */
	assert_int_equal(clone_flush(&test->clone) & 2, 0);
	assert_int_equal(script_count(test->world->dests[1], LANE_FLUSH), 1);
	assert_false(is_saved(2));
}

static void test_with_stop_it_ends_the_copy(void **state)
{
	(void)state;
	clone_flush_prepare(&test->clone);
	test->options.on_error = ON_ERROR_STOP;
	start_copy(0);
	assert_int_equal(outcome.read_err, -ECANCELED);
	assert_true(atomic_load(&test->clone.is_stopped));
	assert_false(
		world_is_same(test->world->source, START + COUNT - 1, test->world->dests[0], on_dest(0, COUNT - 1)));
}

static void test_with_ignore_it_goes_on(void **state)
{
	(void)state;
	clone_flush_prepare(&test->clone);
	test->options.on_error = ON_ERROR_IGNORE;
	start_copy(IGNORE);
	assert_int_equal(outcome.write_err, 0);
	assert_copied(test->world, 1, 0, COUNT);
	assert_false(is_claimed(2));
}

static void test_what_is_unreadable_is_saved_without_a_flush(void **state)
{
	char path[PATH_MAX + 16];

	(void)state;
	clone_flush_prepare(&test->clone);
	clone_map_save(&test->clone, ALL);
	snprintf(path, sizeof(path), "%s/map.1", dir);
	assert_int_equal(unlink(path), 0);
	make_due();
	assert_int_equal(access(path, F_OK), -1); /* it has not changed */
	resume_unreadable(test->clone.resume, 10, 10);
	make_due();
	assert_int_equal(access(path, F_OK), 0);
	assert_int_equal(script_count(test->world->dests[0], LANE_FLUSH), 0);
}

/* All is written to these. */
static void complete(uint32_t numbers)
{
	for (unsigned int number = 1; number <= DESTS; number++)
		if (numbers >> (number - 1) & 1) {
			resume_written(test->clone.resume, number, 0, SECTORS);
			test->writes[number - 1]++;
		}
	test->complete |= numbers;
	clone_flush_tick(&test->clone);
}

static unsigned int count_flushes(unsigned int number)
{
	return script_count(test->world->dests[number - 1], LANE_FLUSH);
}

static void test_who_is_complete_is_flushed_at_once_and_once(void **state)
{
	(void)state;
	clone_flush_prepare(&test->clone);
	complete(2);
	wait_saved(2);
	assert_int_equal(test->flushed, 2);
	make_due();
	complete(1);
	wait_saved(3);
	assert_int_equal(test->flushed, 3);
	assert_int_equal(clone_flush(&test->clone), ALL);
	assert_int_equal(test->flushed, ALL);
	for (unsigned int number = 1; number <= DESTS; number++)
		assert_int_equal(count_flushes(number), 1);
}

static void test_also_without_maps(void **state)
{
	(void)state;
	resume_destroy(test->clone.resume);
	test->clone.resume = NULL;
	clone_flush_prepare(&test->clone);
	test->complete = 2;
	clone_flush_tick(&test->clone);
	while (test->flushed != 2) {
		clone_wait(&test->clone);
		clone_flush_tick(&test->clone);
	}
	assert_int_equal(clone_flush(&test->clone), ALL);
	for (unsigned int number = 1; number <= DESTS; number++)
		assert_int_equal(count_flushes(number), 1);
}

static void test_who_is_written_to_again_is_flushed_again(void **state)
{
	(void)state;
	clone_flush_prepare(&test->clone);
	complete(ALL);
	wait_saved(ALL);
	test->writes[0]++;
	clone_flush_tick(&test->clone);
	test->writes[1]++;
	assert_int_equal(clone_flush(&test->clone), ALL);
	assert_int_equal(count_flushes(1), 2);
	assert_int_equal(count_flushes(2), 2);
	assert_int_equal(count_flushes(3), 1);
}

static void test_whoever_shares_a_device_is_waited_for(void **state)
{
	(void)state;
	share_device(3, 1);
	clone_flush_prepare(&test->clone);
	complete(1);
	assert_int_equal(atomic_load(&test->clone.flushes[0].job.state), JOB_FREE);
	complete(4);
	wait_saved(5);
	assert_int_equal(clone_flush(&test->clone), ALL);
	assert_int_equal(count_flushes(1), 1);
}

static void test_one_of_who_is_complete_that_fails_is_the_only_one(void **state)
{
	static const enum on_error policies[] = { ON_ERROR_DROP, ON_ERROR_IGNORE };

	(void)state;
	clone_flush_prepare(&test->clone);
	for (unsigned int i = 0; i < 2; i++) {
		test->options.on_error = policies[i];
		script_add(test->world->dests[i],
			   (struct script_rule){ .what = SCRIPT_FAIL, .op = LANE_FLUSH, .times = 1, .error = EIO });
		complete(1u << i);
		while (!test->clone.flushes[i].has_failed) {
			clone_wait(&test->clone);
			clone_flush_tick(&test->clone);
		}
	}
	resume_written(test->clone.resume, 3, 0, SECTORS);
	assert_int_equal(clone_flush(&test->clone), 4);
	assert_int_equal(test->flushed, 4);
	assert_int_equal(test->clone.write_err, 3);
	wait_saved(4);
	assert_int_equal(count_flushes(1), 1);
	assert_int_equal(count_flushes(2), 1);
}

static void test_one_that_was_cancelled_is_made_up_for(void **state)
{
	(void)state;
	clone_flush_prepare(&test->clone);
	complete(1);
	while (atomic_load(&test->clone.flushes[0].job.state) != JOB_DONE)
		clone_wait(&test->clone);
	test->clone.flushes[0].job.is_cancelled = true;
	test->clone.is_cancelled = true;
	clone_flush_tick(&test->clone);
	assert_false(is_saved(1));
	assert_int_equal(test->flushed, 0);
	assert_int_equal(clone_flush(&test->clone), ALL);
	wait_saved(1);
	assert_int_equal(count_flushes(1), 2);
}

static void test_at_the_end_one_that_is_under_way_is_waited_for_and_enough(void **state)
{
	(void)state;
	clone_flush_prepare(&test->clone);
	script_add(test->world->dests[1], holding(LANE_FLUSH, 0, 0));
	complete(ALL);
	test->held = test->world->dests[1];
	test->let_go_when = 5;
	assert_int_equal(clone_flush(&test->clone), ALL);
	wait_saved(ALL);
	for (unsigned int number = 1; number <= DESTS; number++)
		assert_int_equal(count_flushes(number), 1);
}

/* -- behind it ----------------------------------------------------------------------------------- */

static void test_at_the_end_a_map_waits_for_no_flush_but_its_own(void **state)
{
	(void)state;
	clone_flush_prepare(&test->clone);
	write_all();
	script_add(test->world->dests[1], holding(LANE_FLUSH, 0, 0));
	test->held = test->world->dests[1];
	test->let_go_when = 5;
	assert_int_equal(clone_flush(&test->clone), ALL);
	assert_null(test->held);
	wait_saved(ALL);
}

static void test_at_the_end_only_its_own_flush_beside_the_copy_is_waited_for(void **state)
{
	(void)state;
	clone_flush_prepare(&test->clone);
	resume_written(test->clone.resume, 2, 0, SECTORS);
	script_add(test->world->dests[1], holding(LANE_FLUSH, 0, 0));
	make_due();
	write_all();
	test->held = test->world->dests[1];
	test->let_go_when = 5;
	assert_int_equal(clone_flush(&test->clone), ALL);
	wait_saved(ALL);
	/* What was written behind the first is in the second. */
	assert_int_equal(script_count(test->world->dests[1], LANE_FLUSH), 2);
}

static void test_one_that_fails_at_the_end_is_the_only_one(void **state)
{
	(void)state;
	test->options.on_error = ON_ERROR_STOP;
	clone_flush_prepare(&test->clone);
	write_all();
	script_add(test->world->dests[0], failing(LANE_FLUSH, 0, 0, EIO));
	test->clone.guard.operands[3].leaf = paths[0]; /* its directory cannot be flushed */
	assert_int_equal(clone_flush(&test->clone), 2);
	assert_int_equal(test->clone.write_err, 5);
	assert_int_equal(test->failures, 4);
	wait_saved(2);
	assert_false(is_claimed(1));
	assert_false(is_claimed(3));
}

static void test_without_maps_who_has_failed_is_not_flushed(void **state)
{
	(void)state;
	resume_destroy(test->clone.resume);
	test->clone.resume = NULL;
	clone_flush_prepare(&test->clone);
	clone_flush_tick(&test->clone);
	atomic_store(&test->clone.write_err, 1);
	assert_int_equal(clone_flush(&test->clone), 6);
	assert_int_equal(script_count(test->world->dests[0], LANE_FLUSH), 0);
	assert_int_equal(script_count(test->world->dests[1], LANE_FLUSH), 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_a_flush_that_hangs_delays_no_other_map),
		TEST(test_before_its_time_nothing_is_flushed_and_after_a_signal_neither),
		TEST(test_destinations_on_one_device_have_one_flush),
		TEST(test_a_failed_flush_counts_for_all_on_its_device_asked_or_not),
		TEST(test_what_cannot_be_flushed_is_dropped_from_the_copy_that_runs),
		TEST(test_with_stop_it_ends_the_copy),
		TEST(test_with_ignore_it_goes_on),
		TEST(test_what_is_unreadable_is_saved_without_a_flush),
		TEST(test_who_is_complete_is_flushed_at_once_and_once),
		TEST(test_also_without_maps),
		TEST(test_who_is_written_to_again_is_flushed_again),
		TEST(test_whoever_shares_a_device_is_waited_for),
		TEST(test_one_of_who_is_complete_that_fails_is_the_only_one),
		TEST(test_one_that_was_cancelled_is_made_up_for),
		TEST(test_at_the_end_one_that_is_under_way_is_waited_for_and_enough),
		TEST(test_at_the_end_a_map_waits_for_no_flush_but_its_own),
		TEST(test_at_the_end_only_its_own_flush_beside_the_copy_is_waited_for),
		TEST(test_one_that_fails_at_the_end_is_the_only_one),
		TEST(test_without_maps_who_has_failed_is_not_flushed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
