/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a map and a zone's write pointer say together: where a copy to a zoned destination can go on. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "resume_zones.h"

#define FIRST ((sector_t)5000) /* of the source */
#define REGION ((sector_t)300) /* of the destination, in its fourth zone */
#define ZONE ((sector_t)100)
#define SECTORS ((sector_t)250) /* zones 3 and 4, and half of the next */

/* Nothing here reads devices. */
void operand_problem(struct operand *operand, const char *format, ...)
{
	(void)format;
	operand->is_bad = true;
}

int contents_read(const struct io_region *region, uint64_t offset, void *buffer, size_t bytes)
{
	(void)region;
	(void)offset;
	memset(buffer, 0, bytes);
	return -EIO;
}

/* A map in which each letter of @text is ten sectors: '+', '-' or '?'. */
static struct map *create(const char *text)
{
	struct map *map;

	assert_int_equal(map_create(FIRST, SECTORS, &map), 0);
	assert_int_equal(strlen(text), SECTORS / 10);
	for (sector_t i = 0; i < SECTORS / 10; i++)
		if (text[i] != '?')
			assert_int_equal(map_set(map, FIRST + i * 10, 10, text[i] == '+' ? MAP_FLUSHED : MAP_BAD), 0);
	return map;
}

/* Of the zone @number, written up to @written, the verdict is about @at in it, and @count sectors from there on. */
static void assert_verdict(const char *text, sector_t number, sector_t written, enum zone_verdict expected, sector_t at,
			   sector_t count)
{
	struct map *map = create(text);
	struct io_region region = { .sector = REGION, .count = SECTORS };
	struct kcopyd_zone zone = {
		.sector = number * ZONE, .count = ZONE, .capacity = ZONE, .is_sequential = true, .written = written
	};
	sector_t found_at, found_count;

	assert_int_equal(resume_judge_zone(map, &region, &zone, &found_at, &found_count), expected);
	assert_int_equal(found_at, number * ZONE + at);
	assert_int_equal(found_count, count);
	map_destroy(map);
}

static void it_goes_on_at_the_write_pointer(void **state)
{
	(void)state;
	assert_verdict("+++???????"
		       "??????????"
		       "?????",
		       3, 30, ZONE_FITS, 30, 0);
	assert_verdict("++++++++++"
		       "??????????"
		       "?????",
		       3, 100, ZONE_FITS, 100, 0);
	assert_verdict("++++++++++"
		       "??????????"
		       "?????",
		       4, 0, ZONE_FITS, 0, 0);
	assert_verdict("??????????"
		       "??????????"
		       "?????",
		       3, 0, ZONE_FITS, 0, 0);
	assert_verdict("++++++++++"
		       "++++++++++"
		       "++???",
		       5, 20, ZONE_FITS, 20, 0);
	/* Others may have written what lies behind the region. */
	assert_verdict("++++++++++"
		       "++++++++++"
		       "+++++",
		       5, 50, ZONE_FITS, 50, 0);
	assert_verdict("++++++++++"
		       "++++++++++"
		       "+++++",
		       5, 80, ZONE_FITS, 50, 0);
}

static void what_was_written_after_the_map_was_saved_is_to_be_compared(void **state)
{
	(void)state;
	assert_verdict("+++???????"
		       "??????????"
		       "?????",
		       3, 37, ZONE_AHEAD, 30, 7);
	assert_verdict("??????????"
		       "??????????"
		       "?????",
		       3, 100, ZONE_AHEAD, 0, 100);
	assert_verdict("??????????"
		       "??????????"
		       "?????",
		       5, 80, ZONE_AHEAD, 0, 50);
}

static void a_zone_that_does_not_hold_what_the_map_claims_has_lost_it(void **state)
{
	(void)state;
	assert_verdict("+++???????"
		       "??????????"
		       "?????",
		       3, 29, ZONE_LOST, 30, 0);
	assert_verdict("+++???????"
		       "??????????"
		       "?????",
		       3, 0, ZONE_LOST, 30, 0);
	assert_verdict("++++++++++"
		       "++++++++++"
		       "+++++",
		       5, 49, ZONE_LOST, 50, 0);
}

/* A region may begin in the middle of a zone. */
static void a_zone_that_is_not_written_up_to_the_region_cannot_be(void **state)
{
	struct map *map = create("??????????"
				 "??????????"
				 "?????");
	struct io_region region = { .sector = REGION + 40, .count = SECTORS };
	struct kcopyd_zone zone = { .sector = REGION, .count = ZONE, .is_sequential = true, .written = 39 };
	sector_t at, count;

	(void)state;
	assert_int_equal(resume_judge_zone(map, &region, &zone, &at, &count), ZONE_LOST);
	assert_int_equal(at, REGION + 40);
	zone.written = 40;
	assert_int_equal(resume_judge_zone(map, &region, &zone, &at, &count), ZONE_FITS);
	zone.written = 43;
	assert_int_equal(resume_judge_zone(map, &region, &zone, &at, &count), ZONE_AHEAD);
	assert_int_equal(at, REGION + 40);
	assert_int_equal(count, 3);
	map_destroy(map);
}

static void what_was_unreadable_can_be_written_only_at_the_write_pointer(void **state)
{
	(void)state;
	assert_verdict("+++-??????"
		       "??????????"
		       "?????",
		       3, 30, ZONE_FITS, 30, 0);
	assert_verdict("+++-++++++"
		       "++++++++++"
		       "+++++",
		       3, 100, ZONE_UNREADABLE, 30, 0);
	assert_verdict("+++??"
		       "-????"
		       "??????????"
		       "?????",
		       3, 60, ZONE_UNREADABLE, 50, 0);
	assert_verdict("+++??"
		       "-????"
		       "??????????"
		       "?????",
		       3, 50, ZONE_AHEAD, 30, 20);
}

static void what_lies_behind_a_gap_cannot_be_there(void **state)
{
	(void)state;
	assert_verdict("+++??+????"
		       "??????????"
		       "?????",
		       3, 30, ZONE_GAP, 30, 0);
	assert_verdict("+++??+????"
		       "??????????"
		       "?????",
		       3, 60, ZONE_GAP, 30, 0);
	/* In another zone it can. */
	assert_verdict("+++???????"
		       "+?????????"
		       "?????",
		       3, 30, ZONE_FITS, 30, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(it_goes_on_at_the_write_pointer),
		cmocka_unit_test(what_was_written_after_the_map_was_saved_is_to_be_compared),
		cmocka_unit_test(a_zone_that_does_not_hold_what_the_map_claims_has_lost_it),
		cmocka_unit_test(a_zone_that_is_not_written_up_to_the_region_cannot_be),
		cmocka_unit_test(what_was_unreadable_can_be_written_only_at_the_write_pointer),
		cmocka_unit_test(what_lies_behind_a_gap_cannot_be_there),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
