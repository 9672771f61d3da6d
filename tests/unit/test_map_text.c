/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A resume map as text: what is written, what is read, what is refused and with which words, and whose it is. */
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

/* A region in the middle of one disk, to the beginning of another. */
static const struct map_owner middle = {
	.source = { .path = "/dev/sda", .serial = "S1", .wwn = "0x5000c500a1", .bytes = 1 << 20, .sector = 8 },
	.dest = { .path = "/dev/sdb1", .serial = "D1", .partition = 1, .bytes = 1 << 21 },
};

#define SECTOR ((sector_t)8)
#define COUNT ((sector_t)16) /* 0x1000 to 0x3000 */

#define HEADER                                      \
	"# Mapfile. Created by kcopy version 0\n"   \
	"# kcopy source path: /dev/sda\n"           \
	"# kcopy source size: 1048576 bytes\n"      \
	"# kcopy source serial: S1\n"               \
	"# kcopy source wwn: 0x5000c500a1\n"        \
	"# kcopy source region: 8+16 sectors\n"     \
	"# kcopy destination path: /dev/sdb1\n"     \
	"# kcopy destination size: 2097152 bytes\n" \
	"# kcopy destination serial: D1\n"          \
	"# kcopy destination partition: 1\n"        \
	"# kcopy destination region: 0+16 sectors\n"
#define STATUS "0x1000 ? 1\n"		/* line 12 */
#define WHOLE "0x1000 0x2000 +\n"	/* a block that is the region */
#define BODY STATUS "0x1000 0x2000 ?\n" /* the least */

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
	sector_t sector = map_sector(map), end = sector + map_sectors(map), count;
	char got[400] = "";

	for (; sector < end; sector += count) {
		enum map_status status = map_get(map, sector, &count);
		size_t length = strlen(got);

		snprintf(got + length, sizeof(got) - length, "%" PRIu64 "%c", count, "?-wf+"[status]);
	}
	assert_string_equal(got, want);
}

static int parse(struct map *map, const struct map_owner *owner, const char *text, char **message)
{
	/* Without the NUL, so that a sanitizer sees what reads too far. */
	size_t bytes = strlen(text);
	char *copy = malloc(bytes ? bytes : 1);
	int ret;

	assert_non_null(copy);
	memcpy(copy, text, bytes);
	ret = map_parse(map, owner, copy, bytes, message);
	free(copy);
	return ret;
}

static void assert_parses(const char *text, const char *want)
{
	struct map *map = create(SECTOR, COUNT);
	char *message;
	int ret = parse(map, &middle, text, &message);

	if (ret)
		fail_msg("'%s': %s", text, message);
	assert_null(message);
	assert_runs(map, want);
	map_destroy(map);
}

static void assert_refused_bytes(const struct map_owner *owner, const char *text, size_t bytes, const char *want)
{
	struct map *map = create(SECTOR, COUNT);
	char *message;

	set(map, SECTOR + 3, 4, MAP_WRITTEN); /* it is to stay as it was */
	assert_int_equal(map_parse(map, owner, text, bytes, &message), -EINVAL);
	if (strcmp(message, want) != 0)
		fail_msg("\"%.100s\": said '%s', should be '%s'", text, message, want);
	assert_runs(map, "3?4w9?");
	free(message);
	map_destroy(map);
}

static void assert_refused_for(const struct map_owner *owner, const char *text, const char *want)
{
	assert_refused_bytes(owner, text, strlen(text), want);
}

static void assert_refused(const char *text, const char *want)
{
	assert_refused_for(&middle, text, want);
}

static void assert_format(const struct map *map, const struct map_owner *owner, const char *want_tail)
{
	size_t bytes;
	char *text = map_format(map, owner, &bytes), *tail;

	assert_non_null(text);
	assert_int_equal(strlen(text), bytes);
	tail = strstr(text, "# current_pos");
	assert_non_null(tail);
	assert_string_equal(tail, want_tail);
	free(text);
}

/* -- writing ------------------------------------------------------------------------------------- */

static void a_map_is_written_as_ddrescue_writes_it_with_our_header(void **state)
{
	struct map *map = create(SECTOR, COUNT);
	size_t bytes;
	char *text;

	(void)state;
	set(map, SECTOR, 4, MAP_FLUSHED);
	set(map, SECTOR + 4, 1, MAP_BAD);
	text = map_format(map, &middle, &bytes);
	assert_non_null(text);
	assert_string_equal(text, "# Mapfile. Created by kcopy version " PACKAGE_VERSION "\n"
				  "# kcopy source path: /dev/sda\n"
				  "# kcopy source size: 1048576 bytes\n"
				  "# kcopy source serial: S1\n"
				  "# kcopy source wwn: 0x5000c500a1\n"
				  "# kcopy source region: 8+16 sectors\n"
				  "# kcopy destination path: /dev/sdb1\n"
				  "# kcopy destination size: 2097152 bytes\n"
				  "# kcopy destination serial: D1\n"
				  "# kcopy destination partition: 1\n"
				  "# kcopy destination region: 0+16 sectors\n"
				  "# current_pos  current_status  current_pass\n"
				  "0x00001A00     ?               1\n"
				  "#      pos        size  status\n"
				  "0x00001000  0x00000800  +\n"
				  "0x00001800  0x00000200  -\n"
				  "0x00001A00  0x00001600  ?\n");
	free(text);
	map_destroy(map);
}

static void nothing_is_claimed_that_is_not_on_stable_storage(void **state)
{
	struct map *map = create(SECTOR, COUNT);

	(void)state;
	set(map, SECTOR, 4, MAP_FLUSHED);
	set(map, SECTOR + 4, 4, MAP_FLUSHING);
	set(map, SECTOR + 8, 4, MAP_WRITTEN);
	assert_format(map, &middle,
		      "# current_pos  current_status  current_pass\n"
		      "0x00001800     ?               1\n"
		      "#      pos        size  status\n"
		      "0x00001000  0x00000800  +\n"
		      "0x00001800  0x00001800  ?\n");
	map_destroy(map);
}

static void the_status_line_tells_ddrescue_where_to_go_on(void **state)
{
	struct map *map = create(SECTOR, COUNT);

	(void)state;
	set(map, SECTOR, COUNT, MAP_FLUSHED);
	set(map, SECTOR + 4, 1, MAP_BAD);
	assert_format(map, &middle,
		      "# current_pos  current_status  current_pass\n"
		      "0x00001800     -               1\n"
		      "#      pos        size  status\n"
		      "0x00001000  0x00000800  +\n"
		      "0x00001800  0x00000200  -\n"
		      "0x00001A00  0x00001600  +\n");
	set(map, SECTOR + 4, 1, MAP_FLUSHED);
	assert_format(map, &middle,
		      "# current_pos  current_status  current_pass\n"
		      "0x00003000     +               1\n"
		      "#      pos        size  status\n"
		      "0x00001000  0x00002000  +\n");
	map_destroy(map);
}

static void the_last_block_ends_where_the_source_does(void **state)
{
	struct map_owner owner = middle;
	struct map *map = create(SECTOR, COUNT), *again = create(SECTOR, COUNT);
	char *text, *message;
	size_t bytes;

	(void)state;
	owner.source.bytes = 0x3000 - 511;
	set(map, SECTOR + COUNT - 1, 1, MAP_BAD);
	assert_format(map, &owner,
		      "# current_pos  current_status  current_pass\n"
		      "0x00001000     ?               1\n"
		      "#      pos        size  status\n"
		      "0x00001000  0x00001E00  ?\n"
		      "0x00002E00  0x00000001  -\n");
	text = map_format(map, &owner, &bytes);
	assert_int_equal(map_parse(again, &owner, text, bytes, &message), 0);
	assert_runs(again, "15?1-");
	free(text);
	map_destroy(map);
	map_destroy(again);
}

static void a_region_may_end_at_two_to_the_sixtythird(void **state)
{
	struct map_owner owner = { .source = { .path = "/s", .bytes = INT64_MAX, .sector = MAP_MAX_SECTORS - 2 },
				   .dest = { .path = "/d" } };
	struct map *map = create(MAP_MAX_SECTORS - 2, 2), *again = create(MAP_MAX_SECTORS - 2, 2);
	char *text, *message;
	size_t bytes;

	(void)state;
	set(map, MAP_MAX_SECTORS - 1, 1, MAP_FLUSHED);
	text = map_format(map, &owner, &bytes);
	assert_non_null(strstr(text, "\n0x7FFFFFFFFFFFFC00  0x00000200  ?\n0x7FFFFFFFFFFFFE00  0x000001FF  +\n"));
	assert_int_equal(map_parse(again, &owner, text, bytes, &message), 0);
	assert_runs(again, "1?1+");
	free(text);
	map_destroy(map);
	map_destroy(again);
}

/* -- reading ------------------------------------------------------------------------------------- */

static void what_ddrescue_and_ddrescuelog_write_is_understood(void **state)
{
	(void)state;
	assert_parses(HEADER BODY, "16?");
	/* All that ddrescue knows: what it would still try is missing. */
	assert_parses(HEADER "# Command line: ddrescue -d -C /dev/sda /dev/sdb1 map\n"
			     "# Start time:   2015-07-21 09:37:44\n"
			     "# Current time: 2015-07-21 09:38:19\n"
			     "# Copying non-tried blocks... Pass 1 (forwards)\n"
			     "# current_pos  current_status  current_pass\n"
			     "0x00001800     *               5\n"
			     "#      pos        size  status\n"
			     "0x00001000  0x00000200  +\n"
			     "0x00001200  0x00000200  -\n"
			     "0x00001400  0x00000400  /\n"
			     "0x00001800  0x00000800  *\n"
			     "0x00002000  0x00001000  ?\n",
		      "1+1-14?");
	/* --annotate-mapfile; neighbours of one status */
	assert_parses(HEADER "0x00001000     ?               1\t#     4096 B\n"
			     "0x00001000  0x00001000  +\t#      4096 B       4096 B \n"
			     "0x00002000  0x00001000  +\t#      8192 B       4096 B \n",
		      "16+");
	/* Decimal, octal, hexadecimal in both cases. */
	assert_parses(HEADER "4096 ? 1\n4096 01000 +\n0X1200 0x1e00 ?\n", "1+15?");
	assert_parses(HEADER "00 F\n0x1000 0x2000 +\n", "16+"); /* no pass, as before 1.22 */
	assert_parses(HEADER "0x1000 G 1\n" WHOLE, "16+");
}

static void comments_and_blanks_are_where_ddrescue_accepts_them(void **state)
{
	(void)state;
	assert_parses("\n \t\n#\n" BODY HEADER, "16?"); /* our lines need not be first */
	assert_parses(HEADER "  # x\n\t0x1000\t?\v1  #\r\n\n 0x1000  0x2000 + # y\n\f\n", "16+");
	assert_parses(HEADER STATUS "0x1000 0x2000 +", "16+"); /* no newline */
	assert_parses("# kcopying\n#kcopy source path: /x\n # kcopy source path: /x\n" HEADER BODY, "16?");
}

static void what_lies_outside_the_region_may_only_be_untried(void **state)
{
	(void)state;
	/* ddrescue without -C extends the map to the whole source ... */
	assert_parses(HEADER STATUS "0 0x1000 ?\n" WHOLE "0x3000 0xFD000 ?\n", "16+");
	assert_parses(HEADER STATUS "0 0x1200 ?\n0x1200 0xFEE00 ?\n", "16?");
	/* ... or, of an unknown size, as far as it can count. */
	assert_parses(HEADER STATUS WHOLE "0x3000 0x7FFFFFFFFFFFCFFF ?\n", "16+");

	assert_refused(HEADER STATUS "0 0x1000 -\n" WHOLE,
		       "line 13: belongs to another region: there is more than '?' outside: 0x0; "
		       "the region is 0x1000 to 0x3000");
	assert_refused(HEADER STATUS "0x1000 0x2200 +\n",
		       "line 13: belongs to another region: there is more than '?' outside: 0x3200; "
		       "the region is 0x1000 to 0x3000");
	assert_refused(HEADER STATUS WHOLE "0x3000 0x200 /\n0x3200 0x200 +\n",
		       "line 14: belongs to another region: there is more than '?' outside: 0x3200; "
		       "the region is 0x1000 to 0x3000");
	assert_refused(
		HEADER STATUS "0x1200 0x1e00 ?\n",
		"line 13: belongs to another region, which begins later: 0x1200; the region is 0x1000 to 0x3000");
	assert_refused(HEADER STATUS "0x1000 0x1e00 ?\n",
		       "line 13: belongs to another region, or was cut off: ends too early: 0x2E00; "
		       "the region is 0x1000 to 0x3000");
}

static void lines_that_make_no_sense_are_refused_with_number_and_reason(void **state)
{
	(void)state;
	assert_refused("", "is empty");
	assert_refused(HEADER, "line 11: ends without a status line");
	assert_refused(HEADER STATUS, "line 12: ends without a block");
	assert_refused("root:x:0:0:root:/root:/bin/bash\n",
		       "line 1: 'root:x:0:0:root:/root:/bin/bash' alone: a position and a status should be here");
	/* the status line */
	assert_refused(HEADER "0x1000\n", "line 12: '0x1000' alone: a position and a status should be here");
	assert_refused(HEADER "abc ?\n", "line 12: 'abc' is no number");
	assert_refused(HEADER "0x1000 x\n", "line 12: 'x' is no status that ddrescue knows");
	assert_refused(HEADER "0x1000 ??\n", "line 12: '\?\?' is no status that ddrescue knows");
	assert_refused(HEADER "0x1000 ? 0\n", "line 12: '0' is no number of a pass");
	assert_refused(HEADER "0x1000 ? 0x1\n", "line 12: '0x1' is no number of a pass");
	assert_refused(HEADER "0x1000 ? 1234567890\n", "line 12: '1234567890' is no number of a pass");
	assert_refused(HEADER "0x1000 ? 1 1\n", "line 12: '1' is too much");
	/* blocks */
	assert_refused(HEADER STATUS "0x1000\n",
		       "line 13: '0x1000' ends the line: a position, a size and a status should be here");
	assert_refused(HEADER STATUS "0x1000 0x2000\n",
		       "line 13: '0x2000' ends the line: a position, a size and a status should be here");
	assert_refused(HEADER STATUS "0x1000 0x2000 # +\n",
		       "line 13: '0x2000' ends the line: a position, a size and a status should be here");
	assert_refused(HEADER STATUS "0x1000 0x2000 F\n", "line 13: 'F' is no status that ddrescue knows");
	assert_refused(HEADER STATUS "0x1000 0x2000 +#\n", "line 13: '+#' is no status that ddrescue knows");
	assert_refused(HEADER STATUS "0x1000 0x2000 + x\n", "line 13: 'x' is too much");
	assert_refused(HEADER STATUS "0x1000 0 +\n", "line 13: '0' is a size of nothing");
	assert_refused(HEADER BODY "0x2e00 0x200 +\n", "line 14: overlaps the block before it, which ends at 0x3000");
	assert_refused(HEADER BODY "0x3200 0x200 +\n",
		       "line 14: leaves a gap to the block before it, which ends at 0x3000");
}

static void numbers_are_numbers(void **state)
{
	(void)state;
	assert_refused(HEADER STATUS "-1 0x2000 +\n", "line 13: '-1' is no number");
	assert_refused(HEADER STATUS "+4096 0x2000 +\n", "line 13: '+4096' is no number");
	assert_refused(HEADER STATUS "4096a 0x2000 +\n", "line 13: '4096a' is no number");
	assert_refused(HEADER STATUS "08 0x2000 +\n", "line 13: '08' is no number");
	assert_refused(HEADER STATUS "0x 0x2000 +\n", "line 13: '0x' is no number");
	assert_refused(HEADER STATUS "0x1G 0x2000 +\n", "line 13: '0x1G' is no number");
	assert_refused(HEADER STATUS "1e3 0x2000 +\n", "line 13: '1e3' is no number");
	assert_refused(HEADER STATUS "0x8000000000000000 0x2000 +\n", "line 13: '0x8000000000000000' is 2^63 or more");
	assert_refused(HEADER STATUS "9223372036854775808 0x2000 +\n",
		       "line 13: '9223372036854775808' is 2^63 or more");
	assert_refused(HEADER STATUS "0777777777777777777777777 0x2000 +\n",
		       "line 13: '0777777777777777777777777' is 2^63 or more");
	assert_refused(HEADER STATUS "0x7FFFFFFFFFFFFE00 0x200 ?\n",
		       "line 13: '0x200' as a size ends after 2^63 bytes");
	assert_refused(HEADER STATUS "0x1000 0x7FFFFFFFFFFFFFFF ?\n",
		       "line 13: '0x7FFFFFFFFFFFFFFF' as a size ends after 2^63 bytes");
	/* whole sectors */
	assert_refused(HEADER STATUS "0xFFF 0x2001 ?\n",
		       "line 13: no multiple of 512: 0xFFF; the region is 0x1000 to 0x3000");
	assert_refused(HEADER STATUS "0x1000 0x201 +\n0x1201 0x1DFF +\n",
		       "line 13: no multiple of 512, nor the source's end: 0x1201; the region is 0x1000 to 0x3000");
}

static void bytes_that_belong_in_no_map_are_refused(void **state)
{
	static char line[70000];
	char text[sizeof(line) + 2000];

	(void)state;
	assert_refused_bytes(&middle, HEADER "\0" BODY, sizeof(HEADER "\0" BODY) - 1, "line 12: a NUL byte");
	assert_refused_bytes(&middle, HEADER BODY "# \0\n", sizeof(HEADER BODY "# \0\n") - 1, "line 14: a NUL byte");
	assert_refused(HEADER "\xff\x1b[31m?\n",
		       "line 12: '\\xff\\x1b[31m?' alone: a position and a status should be here");
	assert_refused(HEADER "0123456789012345678901234567890123456789xyz ?\n",
		       "line 12: '0123456789012345678901234567890123456789...' is no number");
	memset(line, '#', 65536);
	snprintf(text, sizeof(text), HEADER "%s\n" BODY, line);
	assert_parses(text, "16?");
	line[65536] = 'x';
	snprintf(text, sizeof(text), HEADER "%s\n" BODY, line);
	assert_refused(text, "line 12: longer than 65536 bytes");
}

static void a_map_that_was_cut_off_anywhere_is_refused(void **state)
{
	struct map *map = create(SECTOR, COUNT), *again = create(SECTOR, COUNT);
	size_t bytes, cut;
	char *text, *message;

	(void)state;
	set(map, SECTOR, 4, MAP_FLUSHED);
	set(map, SECTOR + 8, 2, MAP_FLUSHED);
	text = map_format(map, &middle, &bytes);
	for (cut = 0; cut < bytes - 1; cut++) {
		assert_int_equal(map_parse(again, &middle, text, cut, &message), -EINVAL);
		assert_runs(again, "16?");
		free(message);
	}
	assert_int_equal(map_parse(again, &middle, text, cut, &message), 0); /* all but the last newline */
	assert_runs(again, "4+4?2+6?");
	free(text);
	map_destroy(map);
	map_destroy(again);
}

/* -- any map ------------------------------------------------------------------------------------- */

static uint64_t seed;

static unsigned int below(unsigned int n)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return (unsigned int)((seed >> 11) % n);
}

static void any_map_comes_back_as_what_was_safe_in_it(void **state)
{
	const char *env = getenv("KCOPY_TEST_SEED");
	struct map_owner owner = { .source = { .path = "/s" }, .dest = { .path = "/d" } };
	unsigned int round, i;

	(void)state;
	seed = env ? strtoull(env, NULL, 0) : (uint64_t)time(NULL);
	print_message("seed %" PRIu64 "\n", seed);
	seed |= 1;
	for (round = 0; round < 500; round++) {
		sector_t sector = below(2) ? 0 : (sector_t)below(1u << 30) << below(24), count = 1 + below(1000);
		struct map *map = create(sector, count), *again = create(sector, count);
		char *text, *text_again, *message;
		size_t bytes, bytes_again;

		for (i = below(200); i; i--) {
			sector_t first = below((unsigned int)count);

			set(map, sector + first, 1 + below((unsigned int)(count - first)) / (1 + below(20)),
			    (enum map_status)below(5));
		}
		owner.source.sector = sector;
		owner.source.bytes =
			(sector + count) * 512 - (below(2) ? below(512) : 0) + (below(2) ? below(5000) : 0);
		text = map_format(map, &owner, &bytes);
		assert_int_equal(map_parse(again, &owner, text, bytes, &message), 0);
		text_again = map_format(again, &owner, &bytes_again);
		assert_string_equal(text, text_again);
		map_replace(map, MAP_WRITTEN, MAP_MISSING);
		map_replace(map, MAP_FLUSHING, MAP_MISSING);
		assert_int_equal(map_num_runs(map), map_num_runs(again));
		for (i = 0; i < count; i++) {
			sector_t length;

			assert_int_equal(map_get(map, sector + i, &length), map_get(again, sector + i, &length));
		}
		free(text);
		free(text_again);
		map_destroy(map);
		map_destroy(again);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_map_is_written_as_ddrescue_writes_it_with_our_header),
		cmocka_unit_test(nothing_is_claimed_that_is_not_on_stable_storage),
		cmocka_unit_test(the_status_line_tells_ddrescue_where_to_go_on),
		cmocka_unit_test(the_last_block_ends_where_the_source_does),
		cmocka_unit_test(a_region_may_end_at_two_to_the_sixtythird),
		cmocka_unit_test(what_ddrescue_and_ddrescuelog_write_is_understood),
		cmocka_unit_test(comments_and_blanks_are_where_ddrescue_accepts_them),
		cmocka_unit_test(what_lies_outside_the_region_may_only_be_untried),
		cmocka_unit_test(lines_that_make_no_sense_are_refused_with_number_and_reason),
		cmocka_unit_test(numbers_are_numbers),
		cmocka_unit_test(bytes_that_belong_in_no_map_are_refused),
		cmocka_unit_test(a_map_that_was_cut_off_anywhere_is_refused),
		cmocka_unit_test(any_map_comes_back_as_what_was_safe_in_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
