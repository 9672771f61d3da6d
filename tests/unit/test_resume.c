/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a map claims, step by step; which pieces follow from it; and what stands for a serial number. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "resume.h"
#include "resume_side.h"

#define SECTORS ((sector_t)1000)
#define FIRST ((sector_t)24) /* of the source's region */

struct test {
	char dir[PATH_MAX];
	char paths[3][PATH_MAX + 16];
	struct operand operands[3];
	struct guard guard;
	struct resume *resume;
};

/* resume.c needs no more of an operand than this. */
void operand_problem(struct operand *operand, const char *format, ...)
{
	(void)format;
	operand->is_bad = true;
}

/* Nor of what resume_zones.c reads, of files. */
int contents_read(const struct io_region *region, uint64_t offset, void *buffer, size_t bytes)
{
	(void)region;
	(void)offset;
	memset(buffer, 0, bytes);
	return -EIO;
}

static int set_up(void **state)
{
	const char *tmp = getenv("TMPDIR");
	struct test *test = calloc(1, sizeof(*test));
	char map[PATH_MAX + 16];

	assert_non_null(test);
	snprintf(test->dir, sizeof(test->dir), "%s/kcopy-resume.XXXXXX", tmp ? tmp : "/tmp");
	assert_non_null(mkdtemp(test->dir));
	for (unsigned int i = 0; i < 3; i++) {
		struct operand *operand = &test->operands[i];

		snprintf(test->paths[i], sizeof(test->paths[i]), "%s/operand%u", test->dir, i);
		operand->number = i;
		operand->path = test->paths[i];
		assert_int_equal(kcopyd_device_open(operand->path, O_RDWR | O_CREAT | O_TRUNC, &operand->bdev), 0);
		assert_int_equal(truncate(operand->path, (FIRST + SECTORS) * KCOPYD_SECTOR_BYTES), 0);
		kcopyd_device_close(operand->bdev);
		assert_int_equal(kcopyd_device_open(operand->path, O_RDWR, &operand->bdev), 0);
		operand->region.bdev = operand->bdev;
		operand->region.sector = i == 0 ? FIRST : 0;
		operand->region.count = SECTORS;
	}
	test->guard = (struct guard){ .operands = test->operands, .num_dests = 2, .has_source = true };
	snprintf(map, sizeof(map), "%s/map", test->dir);
	assert_int_equal(resume_create(&test->guard, map, &test->resume), 0);
	*state = test;
	return 0;
}

static int tear_down(void **state)
{
	struct test *test = *state;
	char map[PATH_MAX + 16];

	resume_destroy(test->resume);
	for (unsigned int i = 0; i < 3; i++) {
		kcopyd_device_close(test->operands[i].bdev);
		unlink(test->paths[i]);
		snprintf(map, sizeof(map), "%s/map.%u", test->dir, i);
		unlink(map);
	}
	assert_int_equal(rmdir(test->dir), 0);
	free(test);
	return 0;
}

static void assert_safe(struct test *test, sector_t first, sector_t second)
{
	assert_int_equal(resume_count(test->resume, 1, MAP_FLUSHED), first);
	assert_int_equal(resume_count(test->resume, 2, MAP_FLUSHED), second);
}

/* -- claims -------------------------------------------------------------------------------------- */

static void test_only_what_was_written_before_a_flush_is_claimed(void **state)
{
	struct test *test = *state;

	resume_written(test->resume, 1, FIRST, 100);
	assert_int_equal(resume_begin_flush(test->resume, ~0u), 1);
	resume_written(test->resume, 1, FIRST + 100, 100);
	assert_safe(test, 0, 0);
	resume_end_flush(test->resume, 1, 1, 0);
	assert_safe(test, 100, 0);
	assert_int_equal(resume_begin_flush(test->resume, ~0u), 1);
	resume_end_flush(test->resume, 1, 1, 0);
	assert_safe(test, 200, 0);
	assert_int_equal(resume_begin_flush(test->resume, ~0u), 0);
}

static void test_a_sector_that_is_written_again_during_a_flush_waits_for_the_next(void **state)
{
	struct test *test = *state;

	resume_written(test->resume, 1, FIRST, 100);
	resume_begin_flush(test->resume, ~0u);
	resume_written(test->resume, 1, FIRST + 10, 10);
	resume_end_flush(test->resume, 1, 1, 0);
	assert_safe(test, 90, 0);
}

static void test_a_flush_that_was_cancelled_claims_nothing_and_loses_nothing(void **state)
{
	struct test *test = *state;

	resume_written(test->resume, 1, FIRST, 100);
	resume_begin_flush(test->resume, ~0u);
	resume_end_flush(test->resume, 1, 0, 0);
	assert_safe(test, 0, 0);
	assert_int_equal(resume_begin_flush(test->resume, ~0u), 1);
	resume_end_flush(test->resume, 1, 1, 0);
	assert_safe(test, 100, 0);
}

static void test_after_a_flush_that_failed_nothing_more_is_claimed(void **state)
{
	struct test *test = *state;

	resume_written(test->resume, 1, FIRST, 100);
	resume_written(test->resume, 2, FIRST, 100);
	assert_int_equal(resume_begin_flush(test->resume, ~0u), 3);
	resume_end_flush(test->resume, 3, 3, 0);
	resume_written(test->resume, 1, FIRST + 100, 100);
	resume_written(test->resume, 2, FIRST + 100, 100);
	resume_begin_flush(test->resume, ~0u);
	resume_written(test->resume, 1, FIRST + 200, 100);
	resume_end_flush(test->resume, 3, 2, 1);
	assert_safe(test, 100, 200);
	assert_int_equal(resume_begin_flush(test->resume, ~0u), 0);
	assert_safe(test, 100, 200);
}

static void test_zeros_for_what_is_unreadable_are_never_claimed(void **state)
{
	struct test *test = *state;

	resume_unreadable(test->resume, FIRST + 50, 3);
	assert_int_equal(resume_count(test->resume, 2, MAP_BAD), 3);
	resume_written(test->resume, 1, FIRST, 100);
	assert_int_equal(resume_begin_flush(test->resume, ~0u), 1);
	resume_end_flush(test->resume, 1, 1, 0);
	assert_safe(test, 97, 0);
	assert_int_equal(resume_count(test->resume, 1, MAP_BAD), 3);
	assert_int_equal(resume_contiguous(test->resume, 1), 50);
}

static void test_a_write_that_fails_takes_the_claim_back(void **state)
{
	struct test *test = *state;

	resume_written(test->resume, 1, FIRST, 100);
	resume_begin_flush(test->resume, ~0u);
	resume_end_flush(test->resume, 1, 1, 0);
	resume_unwritten(test->resume, 1, FIRST + 90, 20);
	assert_safe(test, 90, 0);
	assert_int_equal(resume_count(test->resume, 1, MAP_MISSING), SECTORS - 90);
}

static void test_what_is_saved_is_what_is_claimed(void **state)
{
	struct test *test = *state;
	struct resume *again;
	char map[PATH_MAX + 16];

	resume_unreadable(test->resume, FIRST + 50, 3);
	resume_written(test->resume, 1, FIRST, 100);
	resume_begin_flush(test->resume, ~0u);
	assert_int_equal(resume_save(test->resume, ~0u), 0);
	snprintf(map, sizeof(map), "%s/map", test->dir);
	assert_int_equal(resume_create(&test->guard, map, &again), 0);
	assert_int_equal(resume_count(again, 1, MAP_FLUSHED), 0);
	resume_destroy(again);
	resume_end_flush(test->resume, 1, 1, 0);
	resume_written(test->resume, 1, FIRST + 100, 100);
	assert_int_equal(resume_save(test->resume, ~0u), 0);
	assert_int_equal(resume_create(&test->guard, map, &again), 0);
	assert_int_equal(resume_count(again, 1, MAP_FLUSHED), 97);
	assert_int_equal(resume_count(again, 1, MAP_BAD), 3);
	resume_destroy(again);
}

static void test_maps_that_are_new_go_away_if_the_copy_does_not_begin(void **state)
{
	struct test *test = *state;
	struct resume *again;
	char map[PATH_MAX + 16], first[PATH_MAX + 32], second[PATH_MAX + 32];

	snprintf(map, sizeof(map), "%s/map", test->dir);
	snprintf(first, sizeof(first), "%s.1", map);
	snprintf(second, sizeof(second), "%s.2", map);
	assert_int_equal(resume_save(test->resume, ~0u), 0);
	assert_int_equal(access(first, F_OK), 0);
	assert_int_equal(resume_create(&test->guard, map, &again), 0);
	assert_int_equal(resume_save(again, ~0u), 0);
	resume_undo(again);
	assert_int_equal(access(first, F_OK), 0);
	resume_destroy(again);
	resume_undo(test->resume);
	assert_int_not_equal(access(first, F_OK), 0);

	/* A link to where one is to be was there before. */
	assert_int_equal(symlink(second, first), 0);
	assert_int_equal(resume_create(&test->guard, map, &again), -EINVAL);
	test->operands[1].is_bad = test->operands[2].is_bad = false;
	test->guard.num_dests = 1;
	assert_int_equal(resume_create(&test->guard, first, &again), 0);
	assert_int_equal(resume_save(again, ~0u), 0);
	assert_int_equal(access(second, F_OK), 0);
	resume_undo(again);
	resume_destroy(again);
	assert_int_not_equal(access(second, F_OK), 0);
	assert_int_equal(unlink(first), 0);
}

/* -- pieces -------------------------------------------------------------------------------------- */

static void assert_piece(struct test *test, enum resume_pass pass, sector_t from, sector_t skip, sector_t count,
			 uint32_t dests)
{
	struct resume_piece piece;

	assert_int_equal(resume_next(test->resume, pass, from, ~0u, &piece), dests != 0);
	if (!dests)
		return;
	assert_int_equal(piece.skip, skip);
	assert_int_equal(piece.count, count);
	assert_int_equal(piece.dests, dests);
	assert_false(piece.is_partial);
}

static void test_a_piece_is_what_the_same_destinations_lack(void **state)
{
	struct test *test = *state;
	struct resume_piece piece;

	assert_piece(test, RESUME_ALL, 0, 0, SECTORS, 3);
	resume_written(test->resume, 1, FIRST, 100);
	resume_written(test->resume, 2, FIRST + 50, 100);
	assert_piece(test, RESUME_ALL, 0, 0, 50, 2);
	assert_piece(test, RESUME_ALL, 50, 100, 50, 1);
	assert_piece(test, RESUME_ALL, 150, 150, SECTORS - 150, 3);
	assert_piece(test, RESUME_ALL, SECTORS, 0, 0, 0);
	/* Of destination 2 alone. */
	assert_true(resume_next(test->resume, RESUME_ALL, 50, 2, &piece));
	assert_int_equal(piece.skip, 150);
	assert_int_equal(piece.dests, 2);
	assert_false(resume_next(test->resume, RESUME_ALL, 0, 0, &piece));
}

static void test_what_was_never_tried_comes_first_and_what_is_bad_once_in_a_run(void **state)
{
	struct test *test = *state;
	struct resume *again;
	char map[PATH_MAX + 16];

	resume_unreadable(test->resume, FIRST + 50, 3);
	resume_written(test->resume, 1, FIRST, 100);
	resume_written(test->resume, 2, FIRST, SECTORS);
	assert_int_equal(resume_begin_flush(test->resume, ~0u), 3);
	resume_end_flush(test->resume, 3, 3, 0);
	assert_piece(test, RESUME_MISSING, 0, 100, SECTORS - 100, 1);
	assert_piece(test, RESUME_BAD, 0, 0, 0, 0);
	assert_int_equal(resume_save(test->resume, ~0u), 0);

	snprintf(map, sizeof(map), "%s/map", test->dir);
	assert_int_equal(resume_create(&test->guard, map, &again), 0);
	resume_destroy(test->resume);
	test->resume = again;
	assert_piece(test, RESUME_MISSING, 0, 100, SECTORS - 100, 1);
	assert_piece(test, RESUME_BAD, 0, 50, 3, 3);
	assert_piece(test, RESUME_ALL, 0, 50, 3, 3);
	resume_unreadable(test->resume, FIRST + 51, 1);
	assert_piece(test, RESUME_BAD, 0, 50, 1, 3);
	assert_piece(test, RESUME_BAD, 51, 52, 1, 3);
}

/* -- what stands for a serial number ------------------------------------------------------------- */

static void put(const char *dir, const char *name, const char *text)
{
	char path[PATH_MAX + 64];
	FILE *file;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	file = fopen(path, "w");
	assert_non_null(file);
	fputs(text, file);
	assert_int_equal(fclose(file), 0);
}

static void assert_origin(const char *dir, const char *expected)
{
	char *origin = resume_find_origin(dir);

	if (expected)
		assert_string_equal(origin, expected);
	else
		assert_null(origin);
	free(origin);
}

static void test_a_loop_device_is_what_it_stands_on_and_a_dm_device_its_uuid(void **state)
{
	static const char *const names[] = { "loop/backing_file", "loop/offset", "loop", "dm/uuid", "dm/name", "dm" };
	struct test *test = *state;
	char path[PATH_MAX + 64];

	assert_origin(test->dir, NULL);
	snprintf(path, sizeof(path), "%s/dm", test->dir);
	assert_int_equal(mkdir(path, 0700), 0);
	put(test->dir, "dm/uuid", "\n");
	put(test->dir, "dm/name", "vg-home\n");
	assert_origin(test->dir, "dm vg-home");
	put(test->dir, "dm/uuid", "LVM-abc\n");
	assert_origin(test->dir, "dm LVM-abc");
	snprintf(path, sizeof(path), "%s/loop", test->dir);
	assert_int_equal(mkdir(path, 0700), 0);
	put(test->dir, "loop/backing_file", "/a file\nof two lines\n");
	put(test->dir, "loop/offset", "0\n");
	assert_origin(test->dir, "loop /a file\nof two lines");
	put(test->dir, "loop/offset", "4096\n");
	assert_origin(test->dir, "loop /a file\nof two lines at 4096");
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		snprintf(path, sizeof(path), "%s/%s", test->dir, names[i]);
		assert_int_equal(remove(path), 0);
	}
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_only_what_was_written_before_a_flush_is_claimed),
		TEST(test_a_sector_that_is_written_again_during_a_flush_waits_for_the_next),
		TEST(test_a_flush_that_was_cancelled_claims_nothing_and_loses_nothing),
		TEST(test_after_a_flush_that_failed_nothing_more_is_claimed),
		TEST(test_zeros_for_what_is_unreadable_are_never_claimed),
		TEST(test_a_write_that_fails_takes_the_claim_back),
		TEST(test_what_is_saved_is_what_is_claimed),
		TEST(test_maps_that_are_new_go_away_if_the_copy_does_not_begin),
		TEST(test_a_piece_is_what_the_same_destinations_lack),
		TEST(test_what_was_never_tried_comes_first_and_what_is_bad_once_in_a_run),
		TEST(test_a_loop_device_is_what_it_stands_on_and_a_dm_device_its_uuid),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
