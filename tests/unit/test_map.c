/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The runs of a resume map: by hand where a bug would hide, and against an array with a status for each sector. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "map.h"

static bool is_out_of_memory;

/* Instead of the C library's: a map grows by nothing else. */
void *reallocarray(void *old, size_t num, size_t bytes)
{
	if (is_out_of_memory) {
		errno = ENOMEM;
		return NULL;
	}
	return realloc(old, num * bytes);
}

static struct map *create(sector_t sector, sector_t count)
{
	struct map *map;

	assert_int_equal(map_create(sector, count, &map), 0);
	return map;
}

static void set(struct map *map, sector_t sector, sector_t count, enum map_status status)
{
	assert_int_equal(map_set(map, sector, count, status), 0);
}

/* "10?5+": runs, each with its sectors and a character. */
static void assert_runs(const struct map *map, const char *want)
{
	static const char letters[] = "?-wf+";
	sector_t sector = map_sector(map), end = sector + map_sectors(map), count, counts[5] = { 0 };
	char got[400] = "";
	size_t num = 0, i;

	for (; sector < end; sector += count, num++) {
		enum map_status status = map_get(map, sector, &count);
		size_t length = strlen(got);

		counts[status] += count;
		snprintf(got + length, sizeof(got) - length, "%" PRIu64 "%c", count, letters[status]);
	}
	assert_string_equal(got, want);
	assert_int_equal(sector, end);
	assert_int_equal(map_num_runs(map), num);
	for (i = 0; i < 5; i++)
		assert_int_equal(map_count(map, (enum map_status)i), counts[i]);
}

static void a_fresh_map_is_one_run_of_what_is_missing(void **state)
{
	struct map *map = create(2048, 100);

	(void)state;
	assert_int_equal(map_sector(map), 2048);
	assert_int_equal(map_sectors(map), 100);
	assert_runs(map, "100?");
	map_destroy(map);
	map = create(0, MAP_MAX_SECTORS);
	assert_runs(map, "18014398509481984?");
	set(map, MAP_MAX_SECTORS - 1, 1, MAP_BAD);
	assert_runs(map, "18014398509481983?1-");
	map_destroy(map);
	map_destroy(NULL);
}

static void what_is_set_stands_between_what_was_there(void **state)
{
	struct map *map = create(10, 100);

	(void)state;
	set(map, 20, 10, MAP_BAD);
	assert_runs(map, "10?10-80?");
	set(map, 10, 1, MAP_FLUSHED); /* the region's first sector */
	assert_runs(map, "1+9?10-80?");
	set(map, 109, 1, MAP_FLUSHED); /* and its last */
	assert_runs(map, "1+9?10-79?1+");
	set(map, 24, 2, MAP_WRITTEN); /* in the middle of a run */
	assert_runs(map, "1+9?4-2w4-79?1+");
	set(map, 24, 2, MAP_WRITTEN); /* again */
	assert_runs(map, "1+9?4-2w4-79?1+");
	set(map, 10, 100, MAP_FLUSHING); /* all of it */
	assert_runs(map, "100f");
	map_destroy(map);
}

static void neighbours_of_one_status_become_one_run(void **state)
{
	struct map *map = create(0, 100);

	(void)state;
	set(map, 10, 10, MAP_BAD);
	set(map, 20, 10, MAP_BAD); /* right behind it */
	assert_runs(map, "10?20-70?");
	set(map, 5, 5, MAP_BAD); /* right before it */
	assert_runs(map, "5?25-70?");
	set(map, 40, 10, MAP_BAD);
	set(map, 30, 10, MAP_BAD); /* between two */
	assert_runs(map, "5?45-50?");
	set(map, 0, 100, MAP_MISSING);
	assert_runs(map, "100?");
	set(map, 10, 10, MAP_BAD);
	set(map, 30, 10, MAP_WRITTEN);
	set(map, 50, 10, MAP_BAD);
	set(map, 15, 40, MAP_BAD); /* from within one to within another, over a third */
	assert_runs(map, "10?50-40?");
	set(map, 5, 50, MAP_MISSING); /* from its like into the middle of another */
	assert_runs(map, "55?5-40?");
	set(map, 57, 20, MAP_MISSING); /* and back again */
	assert_runs(map, "55?2-43?");
	map_destroy(map);
}

static void a_flush_turns_what_was_written_before_it_into_what_is_safe(void **state)
{
	struct map *map = create(0, 100);

	(void)state;
	map_replace(map, MAP_WRITTEN, MAP_FLUSHING);
	assert_runs(map, "100?");
	set(map, 0, 10, MAP_FLUSHED);
	set(map, 10, 10, MAP_WRITTEN);
	set(map, 30, 10, MAP_WRITTEN);
	set(map, 40, 10, MAP_BAD);
	map_replace(map, MAP_WRITTEN, MAP_FLUSHING);
	assert_runs(map, "10+10f10?10f10-50?");
	set(map, 20, 5, MAP_WRITTEN); /* while it is under way */
	assert_runs(map, "10+10f5w5?10f10-50?");
	map_replace(map, MAP_FLUSHING, MAP_FLUSHED);
	assert_runs(map, "20+5w5?10+10-50?");
	map_replace(map, MAP_WRITTEN, MAP_MISSING); /* the next flush failed */
	assert_runs(map, "20+10?10+10-50?");
	map_replace(map, MAP_BAD, MAP_BAD);
	map_replace(map, MAP_BAD, MAP_FLUSHED);
	map_replace(map, MAP_MISSING, MAP_FLUSHED);
	assert_runs(map, "100+");
	map_destroy(map);
}

static void without_memory_a_map_stays_as_it_is(void **state)
{
	struct map *map = create(0, 100);
	sector_t sector;

	(void)state;
	is_out_of_memory = true;
	for (sector = 1; map_set(map, sector, 1, MAP_BAD) == 0; sector += 2)
		assert_in_range(sector, 0, 90);
	assert_int_equal(map_set(map, sector, 1, MAP_BAD), -ENOMEM);
	assert_int_equal(map_count(map, MAP_BAD), sector / 2);
	assert_int_equal(map_num_runs(map), sector);
	set(map, 1, 1, MAP_BAD); /* is so already */
	map_replace(map, MAP_BAD, MAP_MISSING);
	assert_runs(map, "100?");
	is_out_of_memory = false;
	set(map, sector, 1, MAP_BAD);
	map_destroy(map);
}

static void two_maps_can_be_exchanged(void **state)
{
	struct map *a = create(0, 100), *b = create(1000, 50);

	(void)state;
	set(b, 1010, 5, MAP_BAD);
	map_swap(a, b);
	assert_runs(a, "10?5-35?");
	assert_int_equal(map_sector(a), 1000);
	assert_runs(b, "100?");
	map_destroy(a);
	map_destroy(b);
}

/* If this hangs, a run costs as much as there are runs. */
static void hundreds_of_thousands_of_runs_are_no_trouble(void **state)
{
	const sector_t runs = 400000;
	struct map *map = create(0, runs * 4);
	sector_t sector, count;

	(void)state;
	for (sector = 0; sector < runs * 4; sector += 4) { /* a disk with as many bad sectors */
		set(map, sector, 3, MAP_WRITTEN);
		set(map, sector + 3, 1, MAP_BAD);
	}
	assert_int_equal(map_num_runs(map), 2 * runs);
	map_replace(map, MAP_WRITTEN, MAP_FLUSHED);
	for (sector = 0; sector < runs * 4; sector += 4) { /* and all of them could be read after all, but one in ten */
		assert_int_equal(map_get(map, sector + 3, &count), MAP_BAD);
		assert_int_equal(count, 1);
		if (sector % 40)
			set(map, sector + 3, 1, MAP_WRITTEN);
	}
	map_replace(map, MAP_WRITTEN, MAP_FLUSHED);
	assert_int_equal(map_num_runs(map), 2 * runs / 10 + 1);
	assert_int_equal(map_count(map, MAP_BAD), runs / 10);
	for (sector = runs * 4; sector; sector -= 4) /* backwards */
		set(map, sector - 1, 1, MAP_BAD);
	assert_int_equal(map_num_runs(map), 2 * runs);
	map_destroy(map);
}

/* -- the model ----------------------------------------------------------------------------------- */

#define FIRST ((sector_t)1000)
#define SECTORS 300u

struct model {
	uint64_t seed;
	unsigned char status[SECTORS];
};

static unsigned int below(struct model *model, unsigned int n)
{
	model->seed ^= model->seed << 13;
	model->seed ^= model->seed >> 7;
	model->seed ^= model->seed << 17;
	return (unsigned int)((model->seed >> 11) % n);
}

static void assert_like_model(const struct map *map, const struct model *model)
{
	sector_t counts[5] = { 0 }, count;
	size_t runs = 0;
	unsigned int first, n;

	for (first = 0; first < SECTORS; first = n, runs++) {
		for (n = first; n < SECTORS && model->status[n] == model->status[first]; n++)
			counts[model->status[n]]++;
		assert_int_equal(map_get(map, FIRST + first, &count), model->status[first]);
		assert_int_equal(count, n - first);
		assert_int_equal(map_get(map, FIRST + n - 1, &count), model->status[first]);
		assert_int_equal(count, 1);
	}
	assert_int_equal(map_num_runs(map), runs);
	for (n = 0; n < 5; n++)
		assert_int_equal(map_count(map, (enum map_status)n), counts[n]);
}

static void any_changes_leave_what_an_array_of_sectors_holds(void **state)
{
	const char *env = getenv("KCOPY_TEST_SEED");
	struct model model = { .seed = env ? strtoull(env, NULL, 0) : (uint64_t)time(NULL) };
	struct map *map = create(FIRST, SECTORS);
	unsigned int step, sector = 0, count, n;

	(void)state;
	print_message("seed %" PRIu64 "\n", model.seed);
	model.seed |= 1;
	for (step = 0; step < 20000; step++) {
		enum map_status status = (enum map_status)below(&model, 5);

		if (below(&model, 50) == 0) {
			enum map_status from = (enum map_status)below(&model, 5);

			map_replace(map, from, status);
			for (n = 0; n < SECTORS; n++)
				if (model.status[n] == from)
					model.status[n] = (unsigned char)status;
		} else {
			/* Mostly little, and mostly where the last one was. */
			if (below(&model, 4) == 0 || sector >= SECTORS)
				sector = below(&model, SECTORS);
			count = 1 + below(&model, below(&model, 10) ? 4 : SECTORS);
			if (count > SECTORS - sector)
				count = SECTORS - sector;
			set(map, FIRST + sector, count, status);
			memset(model.status + sector, (int)status, count);
			sector += count;
		}
		assert_like_model(map, &model);
	}
	map_destroy(map);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_fresh_map_is_one_run_of_what_is_missing),
		cmocka_unit_test(what_is_set_stands_between_what_was_there),
		cmocka_unit_test(neighbours_of_one_status_become_one_run),
		cmocka_unit_test(a_flush_turns_what_was_written_before_it_into_what_is_safe),
		cmocka_unit_test(without_memory_a_map_stays_as_it_is),
		cmocka_unit_test(two_maps_can_be_exchanged),
		cmocka_unit_test(hundreds_of_thousands_of_runs_are_no_trouble),
		cmocka_unit_test(any_changes_leave_what_an_array_of_sectors_holds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
