/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Whose map is it? What a map says of its devices, and when it is taken for one of these. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "map.h"

#define COUNT ((sector_t)16)

/* Nothing known but the paths: a source of 1 MiB, a file as destination. */
static const struct map_owner plain = {
	.source = { .path = "/dev/sda", .bytes = 1 << 20 },
	.dest = { .path = "/tmp/image" },
};

/* Of @writer's map what @reader is told: 0, or its message, to be freed. */
static char *ask(const struct map_owner *writer, const struct map_owner *reader)
{
	struct map *map, *again;
	char *text, *message;
	size_t bytes;
	int ret;

	assert_int_equal(map_create(writer->source.sector, COUNT, &map), 0);
	assert_int_equal(map_create(reader->source.sector, COUNT, &again), 0);
	text = map_format(map, writer, &bytes);
	assert_non_null(text);
	ret = map_parse(again, reader, text, bytes, &message);
	assert_int_equal(ret, message ? -EINVAL : 0);
	free(text);
	map_destroy(map);
	map_destroy(again);
	return message;
}

static void assert_same(const struct map_owner *writer, const struct map_owner *reader)
{
	char *message = ask(writer, reader);

	if (message)
		fail_msg("said '%s'", message);
}

static void assert_other(const struct map_owner *writer, const struct map_owner *reader, const char *want)
{
	char *message = ask(writer, reader);

	assert_non_null(message);
	assert_string_equal(message, want);
	free(message);
}

static void where_nothing_better_is_known_the_path_must_be_the_same(void **state)
{
	struct map_owner other = plain;

	(void)state;
	assert_same(&plain, &plain);
	other.source.path = "/dev/sdb";
	assert_other(&plain, &other,
		     "line 2: belongs to another copy: the source's path is '/dev/sda' there, and '/dev/sdb' here");
	other = plain;
	other.dest.path = "/tmp/imag\x1b";
	assert_other(&other, &plain,
		     "line 5: belongs to another copy: the destination's path is '/tmp/imag\\x1b' there, and "
		     "'/tmp/image' here");
	/* Known on one side only, it proves nothing. */
	other = plain;
	other.source.serial = "S";
	other.source.partition = 1;
	assert_same(&plain, &other);
	assert_same(&other, &plain);
	other.source.path = "/dev/sdb";
	assert_other(&plain, &other,
		     "line 2: belongs to another copy: the source's path is '/dev/sda' there, and '/dev/sdb' here");
	other.source.serial = ""; /* not known */
	other.source.partition = 0;
	other.source.path = "/dev/sda";
	assert_same(&other, &other);
}

static void a_disk_is_the_same_under_another_name(void **state)
{
	struct map_owner then = plain, now = plain;

	(void)state;
	then.source.serial = now.source.serial = "S1";
	now.source.path = "/dev/sdc";
	assert_same(&then, &now);
	then.source.wwn = "0x5000"; /* known then, and not any more */
	assert_same(&then, &now);
	then.source.serial = NULL;
	now.source.wwn = "0x5000";
	assert_same(&then, &now);
	then.dest.wwn = now.dest.wwn = "0x6000";
	now.dest.path = "/dev/sdd";
	assert_same(&then, &now);
}

static void another_disk_is_another_one_under_the_same_name(void **state)
{
	struct map_owner then = plain, now = plain;

	(void)state;
	then.source.serial = "S1";
	now.source.serial = "S2";
	assert_other(&then, &now, "line 4: belongs to another copy: the source's serial is 'S1' there, and 'S2' here");
	now.source.serial = "S1";
	then.source.wwn = "0x5000";
	now.source.wwn = "0x5001"; /* of all that both know */
	assert_other(&then, &now,
		     "line 5: belongs to another copy: the source's wwn is '0x5000' there, and '0x5001' here");
}

static void partitions_of_one_disk_are_told_apart(void **state)
{
	struct map_owner then = plain, now = plain;

	(void)state;
	then.dest.serial = now.dest.serial = "D1";
	then.dest.partition = 1;
	now.dest.partition = 2;
	assert_other(&then, &now,
		     "line 7: belongs to another copy: the destination's partition is '1' there, and '2' here");
	now.dest.partition = 0;
	assert_other(&then, &now,
		     "line 7: belongs to another copy: the destination's partition is '1' there, and not known here");
	assert_other(&now, &then,
		     "belongs to another copy: it does not say the destination's partition, which is '1' here");
}

static void sizes_and_regions_must_be_the_same(void **state)
{
	struct map_owner now = plain;

	(void)state;
	now.source.bytes += 512;
	assert_other(&plain, &now,
		     "line 3: belongs to another copy: the source's size is '1048576 bytes' there, and "
		     "'1049088 bytes' here");
	now = plain;
	now.dest.bytes = 1 << 20; /* a device where a file was */
	assert_other(&plain, &now,
		     "belongs to another copy: it does not say the destination's size, which is '1048576 bytes' here");
	assert_other(&now, &plain,
		     "line 6: belongs to another copy: the destination's size is '1048576 bytes' there, and "
		     "not known here");
	now = plain;
	now.dest.sector = 1;
	assert_other(&plain, &now,
		     "line 6: belongs to another copy: the destination's region is '0+16 sectors' there, and "
		     "'1+16 sectors' here");
	now = plain;
	now.source.sector = 32; /* and that before what the blocks say */
	assert_other(&plain, &now,
		     "line 4: belongs to another copy: the source's region is '0+16 sectors' there, and "
		     "'32+16 sectors' here");
}

#define SOURCE "# kcopy source path: /dev/sda\n# kcopy source size: 1048576 bytes\n"
#define SOURCE_REGION "# kcopy source region: 0+16 sectors\n"
#define DEST "# kcopy destination path: /tmp/image\n# kcopy destination region: 0+16 sectors\n"
#define BLOCKS "0 ? 1\n0 0x2000 ?\n"

static void assert_refused(const char *text, const char *want)
{
	struct map *map;
	char *message;

	assert_int_equal(map_create(0, COUNT, &map), 0);
	assert_int_equal(map_parse(map, &plain, text, strlen(text), &message), -EINVAL);
	assert_string_equal(message, want);
	free(message);
	map_destroy(map);
}

static void a_map_must_say_whose_it_is(void **state)
{
	static const char form[] = "does not say which devices it belongs to: there is no line '# kcopy %s: ...' "
				   "(ddrescue leaves them out)";
	char want[200];

	(void)state;
	snprintf(want, sizeof(want), form, "source path");
	assert_refused(BLOCKS, want);
	assert_refused(DEST SOURCE_REGION BLOCKS, want);
	assert_refused("# kcopy source serial: S1\n" BLOCKS, want);
	snprintf(want, sizeof(want), form, "source region");
	assert_refused(SOURCE DEST BLOCKS, want);
	snprintf(want, sizeof(want), form, "destination path");
	assert_refused(SOURCE SOURCE_REGION BLOCKS, want);
}

static void a_header_that_makes_no_sense_is_refused(void **state)
{
	static const char escape[] = "line 1: a control character, or a backslash that stands for nothing";

	(void)state;
	assert_refused(SOURCE SOURCE_REGION "# kcopy source path: /dev/sda\n" DEST BLOCKS,
		       "line 4: the source's path again; line 1 has it already");
	assert_refused("# kcopy source disk: x\n" SOURCE SOURCE_REGION DEST BLOCKS,
		       "line 1: a line '# kcopy ...' that this version of kcopy does not know");
	assert_refused("# kcopy src path: x\n",
		       "line 1: a line '# kcopy ...' that this version of kcopy does not know");
	assert_refused("# kcopy source path\n",
		       "line 1: a line '# kcopy ...' that this version of kcopy does not know");
	assert_refused("# kcopy source path: \n", "line 1: there is nothing after the colon");
	assert_refused("# kcopy source path: /a\\\n", escape);
	assert_refused("# kcopy source path: /a\\q\n", escape);
	assert_refused("# kcopy source path: /a\\x\n", escape);
	assert_refused("# kcopy source path: /a\\x4\n", escape);
	assert_refused("# kcopy source path: /a\\x4g\n", escape);
	assert_refused("# kcopy source path: /a\\x00\n", escape);
	assert_refused("# kcopy source path: /a\tb\n", escape);
	assert_refused("# kcopy source path: /a\r\n", escape);
}

static void assert_path_comes_back(const char *path)
{
	struct map_owner owner = plain;
	struct map *map;
	char *text, *c;
	size_t bytes, lines = 0;

	owner.dest.path = path;
	owner.dest.wwn = path;
	assert_same(&owner, &owner);
	assert_int_equal(map_create(0, COUNT, &map), 0);
	text = map_format(map, &owner, &bytes);
	for (c = text; *c; c++) {
		lines += *c == '\n';
		assert_true(*c == '\n' || (unsigned char)*c >= 0x20);
	}
	assert_int_equal(lines, 11);
	free(text);
	map_destroy(map);
}

static void a_path_is_one_line_whatever_is_in_it(void **state)
{
	const char *env = getenv("KCOPY_TEST_SEED");
	uint64_t seed = env ? strtoull(env, NULL, 0) : (uint64_t)time(NULL), x = seed | 1;
	unsigned int round, i;
	char path[4096];

	(void)state;
	print_message("seed %" PRIu64 "\n", seed);
	assert_path_comes_back("/a\n0x0 0x2000 +\n");
	assert_path_comes_back("/\\n\\\\ # kcopy source path: /x ");
	assert_path_comes_back(" \xff\xe2\x80\xae\xc3\xa4\t");
	for (round = 0; round < 300; round++) {
		for (i = 0; i < 1 + round % 30; i++) {
			x ^= x << 13;
			x ^= x >> 7;
			x ^= x << 17;
			path[i] = (char)(1 + (x >> 11) % 255);
		}
		path[i] = '\0';
		assert_path_comes_back(path);
	}
	memset(path, '\x01', sizeof(path) - 1); /* the longest */
	path[sizeof(path) - 1] = '\0';
	assert_path_comes_back(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(where_nothing_better_is_known_the_path_must_be_the_same),
		cmocka_unit_test(a_disk_is_the_same_under_another_name),
		cmocka_unit_test(another_disk_is_another_one_under_the_same_name),
		cmocka_unit_test(partitions_of_one_disk_are_told_apart),
		cmocka_unit_test(sizes_and_regions_must_be_the_same),
		cmocka_unit_test(a_map_must_say_whose_it_is),
		cmocka_unit_test(a_header_that_makes_no_sense_is_refused),
		cmocka_unit_test(a_path_is_one_line_whatever_is_in_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
