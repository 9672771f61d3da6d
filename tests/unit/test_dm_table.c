/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Device-mapper's lines: what they say of where the sectors are, and that nothing is believed that is not understood. */
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
#include <sys/sysmacros.h>

#include "dm_table.h"

#define SDA makedev(8, 0)
#define SDB makedev(8, 16)

static int leg_of(const char *type, const char *params, unsigned int n, struct piece *leg)
{
	struct dm_target target = { .sector = 1000, .count = 600, .type = type, .params = params };

	return dm_target_leg(&target, n, leg);
}

static void assert_one_to_one(const char *type, const char *params, dev_t disk, sector_t sector)
{
	struct piece leg;

	if (leg_of(type, params, 0, &leg) != 1 || leg_of(type, params, 1, &(struct piece){ 0 }) != 0)
		fail_msg("%s %s: has not one leg", type, params);
	if (!leg.is_exact || leg.is_uncertain || leg.inode || leg.disk != disk || leg.base_sector != sector)
		fail_msg("%s %s: %u:%u at %" PRIu64, type, params, major(leg.disk), minor(leg.disk), leg.base_sector);
	assert_int_equal(leg.sector, 1000);
	assert_int_equal(leg.count, 600);
	assert_int_equal(leg.base_count, 600);
}

static void assert_unknown(const char *type, const char *params)
{
	struct piece leg;

	if (leg_of(type, params, 0, &leg) != -EINVAL)
		fail_msg("%s %s: was understood", type, params);
}

static void one_to_one_targets_say_where_they_are(void **state)
{
	(void)state;
	assert_one_to_one("linear", "8:0 2048", SDA, 2048);
	assert_one_to_one("linear", "259:1048575 0", makedev(259, 1048575), 0);
	assert_one_to_one("linear", " 8:16  36028797018963967 ", SDB, ((sector_t)1 << 55) - 1);
	assert_one_to_one("crypt", "aes-xts-plain64 0011223344556677 0 8:16 4096", SDB, 4096);
	assert_one_to_one("crypt", "aes-xts-plain64 :64:logon:cryptsetup:uuid-d0 7 8:16 4096 1 allow_discards", SDB,
			  4096);
	assert_one_to_one("crypt", "cipher_null-ecb - 0 8:0 16", SDA, 16);
	assert_one_to_one("flakey", "8:0 8 1000 1 1 error_writes", SDA, 8);
	assert_one_to_one("dust", "8:0 8 512", SDA, 8);
}

static void a_delay_is_one_to_one_if_all_it_does_goes_to_one_place(void **state)
{
	(void)state;
	assert_one_to_one("delay", "8:0 8 100", SDA, 8);
	assert_one_to_one("delay", "8:0 8 0 8:0 8 100", SDA, 8);
	assert_one_to_one("delay", "8:0 8 0 8:0 8 100 8:0 8 5", SDA, 8);
	assert_unknown("delay", "8:0 8 0 8:16 8 100");
	assert_unknown("delay", "8:0 8 0 8:0 9 100");
	assert_unknown("delay", "8:0 8 0 8:0 8 100 8:16 8 5");
	assert_unknown("delay", "8:0 8 0 sda 8 100");
}

static void stripes_are_ranges_in_which_anything_may_be(void **state)
{
	struct piece leg;

	(void)state;
	assert_int_equal(leg_of("striped", "3 8 8:0 2048 8:16 0 253:4 512", 1, &leg), 1);
	assert_false(leg.is_exact);
	assert_true(leg.disk == SDB);
	assert_int_equal(leg.base_sector, 0);
	assert_int_equal(leg.base_count, 200);
	assert_int_equal(leg.sector, 1000);
	assert_int_equal(leg.count, 600);
	assert_int_equal(leg_of("striped", "3 8 8:0 2048 8:16 0 253:4 512", 2, &leg), 1);
	assert_true(leg.disk == makedev(253, 4));
	assert_int_equal(leg.base_sector, 512);
	assert_int_equal(leg_of("striped", "3 8 8:0 2048 8:16 0 253:4 512", 3, &leg), 0);
	assert_unknown("striped", "0 8");
	assert_unknown("striped", "7 8 8:0 0 8:16 0"); /* 600 sectors are not seven shares */
	assert_unknown("striped", "2 8");
	assert_int_equal(leg_of("striped", "2 8 8:0 0", 1, &leg), -EINVAL);
}

static void targets_without_sectors_have_no_legs(void **state)
{
	struct piece leg;

	(void)state;
	assert_int_equal(leg_of("zero", "", 0, &leg), 0);
	assert_int_equal(leg_of("error", "", 0, &leg), 0);
	assert_int_equal(leg_of("error", "8:0 0", 0, &leg), 0);
}

static void what_is_not_understood_is_said_to_be_so(void **state)
{
	static const char *const places[] = { "",
					      "8:0",
					      "8:0 ",
					      "8 0",
					      "8:0x 0",
					      "8:0 0x",
					      "8:0 -1",
					      "-8:0 1",
					      "8: 0 0",
					      "/dev/sda 0",
					      "sda 0",
					      "8:0:1 0",
					      "4096:0 0",
					      "8:1048576 0",
					      "8:0 36028797018963968",
					      "8:0 99999999999999999999999999" };
	static const char *const types[] = {
		"mirror",    "raid",   "thin",	    "thin-pool",  "snapshot", "snapshot-origin", "cache",  "clone",
		"multipath", "verity", "integrity", "writecache", "era",      "linear2",	 "Linear", ""
	};
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		assert_unknown("linear", places[i]);
		assert_unknown("dust", places[i]);
		assert_unknown("delay", places[i]);
	}
	for (i = 0; i < sizeof(types) / sizeof(types[0]); i++)
		assert_unknown(types[i], "8:0 0");
	assert_unknown("crypt", "aes-xts-plain64 00 0 8:16");
	assert_unknown("crypt", "aes-xts-plain64 :64:logon:a description with blanks 7 8:16 4096");
}

/* What the kernel would have answered: @num lines of 64 bytes. */
static struct dm_table make_table(unsigned int num)
{
	struct dm_table table = { .bytes = (uint32_t)sizeof(struct dm_ioctl) + 64 * num, .num_left = num };

	table.answer = calloc(1, table.bytes);
	assert_non_null(table.answer);
	table.answer->data_start = sizeof(struct dm_ioctl);
	for (unsigned int i = 0; i < num; i++) {
		struct dm_target_spec spec = {
			.sector_start = i * 100u, .length = 100, .next = 64 * (i + 1), .target_type = "linear"
		};
		char *line = (char *)(table.answer + 1) + i * 64u;

		memcpy(line, &spec, sizeof(spec));
		snprintf(line + sizeof(spec), 64 - sizeof(spec), "8:0 %u", i);
	}
	return table;
}

static void a_table_is_read_line_by_line(void **state)
{
	struct dm_table table = make_table(3);
	struct dm_target target;
	char params[16];

	(void)state;
	for (unsigned int i = 0; i < 3; i++) {
		assert_int_equal(dm_table_next(&table, &target), 1);
		snprintf(params, sizeof(params), "8:0 %u", i);
		assert_int_equal(target.sector, i * 100);
		assert_int_equal(target.count, 100);
		assert_string_equal(target.type, "linear");
		assert_string_equal(target.params, params);
	}
	assert_int_equal(dm_table_next(&table, &target), 0);
	dm_table_free(&table);
	table = make_table(0);
	assert_int_equal(dm_table_next(&table, &target), 0);
	dm_table_free(&table);
}

static void a_table_that_leaves_its_buffer_is_an_error(void **state)
{
	struct dm_target_spec *spec;
	struct dm_table table;
	struct dm_target target;

	(void)state;
	table = make_table(1); /* a line more than there is room for */
	table.num_left = 2;
	assert_int_equal(dm_table_next(&table, &target), 1);
	assert_int_equal(dm_table_next(&table, &target), -EIO);
	dm_table_free(&table);

	table = make_table(2); /* the next line is far away */
	((struct dm_target_spec *)(table.answer + 1))->next = UINT32_MAX;
	assert_int_equal(dm_table_next(&table, &target), 1);
	assert_int_equal(dm_table_next(&table, &target), -EIO);
	dm_table_free(&table);

	table = make_table(1); /* no end of the parameters */
	memset((char *)(table.answer + 1) + sizeof(*spec), 'x', 64 - sizeof(*spec));
	assert_int_equal(dm_table_next(&table, &target), -EIO);
	dm_table_free(&table);

	table = make_table(1); /* no end of the type */
	spec = (struct dm_target_spec *)(table.answer + 1);
	memset(spec->target_type, 'x', sizeof(spec->target_type));
	assert_int_equal(dm_table_next(&table, &target), -EIO);
	dm_table_free(&table);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_to_one_targets_say_where_they_are),
		cmocka_unit_test(a_delay_is_one_to_one_if_all_it_does_goes_to_one_place),
		cmocka_unit_test(stripes_are_ranges_in_which_anything_may_be),
		cmocka_unit_test(targets_without_sectors_have_no_legs),
		cmocka_unit_test(what_is_not_understood_is_said_to_be_so),
		cmocka_unit_test(a_table_is_read_line_by_line),
		cmocka_unit_test(a_table_that_leaves_its_buffer_is_an_error),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
