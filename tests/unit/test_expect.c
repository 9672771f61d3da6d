/* SPDX-License-Identifier: GPL-2.0-or-later */
/* --expect: what is a wish, what fits it, and what is said where it does not. */
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

#include "expect.h"

static void assert_wish(const char *text, unsigned int operand, enum expect_key key, const char *value,
			uint64_t sectors)
{
	struct expect expect;
	char *message;

	if (expect_parse(text, &expect, &message))
		fail_msg("'%s': %s", text, message);
	assert_null(message);
	assert_int_equal(expect.operand, operand);
	assert_int_equal(expect.key, key);
	assert_string_equal(expect.value, value);
	assert_true(expect.sectors == sectors);
	expect_free(&expect);
	assert_null(expect.value);
}

static void assert_refused(const char *text, const char *want)
{
	struct expect expect;
	char *message;
	int ret = expect_parse(text, &expect, &message);

	if (ret != -EINVAL)
		fail_msg("'%s': returned %d", text, ret);
	assert_null(expect.value);
	assert_non_null(message);
	assert_null(strchr(message, '\n'));
	assert_true(strncmp(message, "--expect=", 9) == 0);
	if (!strstr(message, want))
		fail_msg("'%s': says: %s", text, message);
	free(message);
	expect_free(&expect);
}

static void a_wish_names_an_operand_a_key_and_a_value(void **state)
{
	(void)state;
	assert_wish("0:serial=S3Z", 0, EXPECT_SERIAL, "S3Z", 0);
	assert_wish("1:wwn=0x5000c500", 1, EXPECT_WWN, "0x5000c500", 0);
	assert_wish("2:model=Samsung SSD 870", 2, EXPECT_MODEL, "Samsung SSD 870", 0);
	assert_wish("32:serial=x", 32, EXPECT_SERIAL, "x", 0);
	assert_wish("01:serial=x", 1, EXPECT_SERIAL, "x", 0);
}

static void a_value_may_hold_anything(void **state)
{
	(void)state;
	assert_wish("1:serial=a:b=c:d==", 1, EXPECT_SERIAL, "a:b=c:d==", 0);
	assert_wish("1:serial==", 1, EXPECT_SERIAL, "=", 0);
	assert_wish("1:serial= ", 1, EXPECT_SERIAL, " ", 0);
	assert_wish("1:model=\n\xff\x1b[31m", 1, EXPECT_MODEL, "\n\xff\x1b[31m", 0);
}

static void a_size_is_in_sectors_or_has_a_unit(void **state)
{
	(void)state;
	assert_wish("1:size=2048", 1, EXPECT_SIZE, "2048", 2048);
	assert_wish("1:size=0", 1, EXPECT_SIZE, "0", 0);
	assert_wish("1:size=1M", 1, EXPECT_SIZE, "1M", 2048);
	assert_wish("1:size=1048576B", 1, EXPECT_SIZE, "1048576B", 2048);
	assert_wish("1:size=500107862016B", 1, EXPECT_SIZE, "500107862016B", 976773168);
	assert_wish("1:size=64KB", 1, EXPECT_SIZE, "64KB", 125);
}

static void a_number_that_is_no_operand_is_refused(void **state)
{
	static const char usage[] = "; write N:KEY=VALUE; N is 0 for the source";

	(void)state;
	assert_refused("", "--expect=: wrong at its end: the operand's number is missing");
	assert_refused("serial=S3Z", "--expect=serial=S3Z: wrong at character 1, 'serial=S3Z': "
				     "the operand's number is missing");
	assert_refused("serial=S3Z", usage);
	assert_refused(":serial=x", "the operand's number is missing");
	assert_refused("-1:serial=x", "the operand's number is missing");
	assert_refused("+1:serial=x", "the operand's number is missing");
	assert_refused(" 1:serial=x", "the operand's number is missing");
	assert_refused("33:serial=x", "there are at most 32 destinations");
	assert_refused("33:serial=x", usage);
	assert_refused("4294967297:serial=x", "there are at most 32 destinations");
	assert_refused("18446744073709551617:serial=x", "there are at most 32 destinations");
	assert_refused("0x1:serial=x", "wrong at character 2, 'x1:serial=x': a ':' is missing");
	assert_refused("1 :serial=x", "a ':' is missing after the operand's number");
	assert_refused("1", "--expect=1: wrong at its end: a ':' is missing");
}

static void a_key_that_is_unknown_is_refused(void **state)
{
	(void)state;
	assert_refused("1:", "wrong at its end: the key is missing");
	assert_refused("1:=x", "wrong at character 3, '=x': the key is missing");
	assert_refused("1:sereal=x", "wrong at character 3, 'sereal=x': unknown key");
	assert_refused("1:sereal=x", "KEY is serial, wwn, model or size");
	assert_refused("1:Serial=x", "unknown key");
	assert_refused("1:serial =x", "unknown key");
	assert_refused("1: serial=x", "unknown key");
	assert_refused("1:seria=x", "unknown key");
	assert_refused("1:serials=x", "unknown key");
	assert_refused("1:serial:x", "unknown key");
	assert_refused("1:\n\x1b\xff=x",
		       "--expect=1:\\n\\x1b\\xff=x: wrong at character 3, '\\n\\x1b\\xff=x': unknown key");
}

static void a_value_that_is_missing_is_refused(void **state)
{
	(void)state;
	assert_refused("1:serial", "--expect=1:serial: wrong at its end: the '=' and the value are missing");
	assert_refused("1:serial=", "--expect=1:serial=: wrong at its end: the value is missing");
	assert_refused("0:wwn=", "the value is missing");
	assert_refused("1:model=", "the value is missing");
	assert_refused("1:size=", "the value is missing; write size=2048");
}

static void a_size_that_is_none_is_refused(void **state)
{
	(void)state;
	assert_refused("1:size=big", "wrong at character 8, 'big': a number is missing; write size=2048");
	assert_refused("1:size=-1", "a number is missing");
	assert_refused("1:size= 1", "a number is missing");
	assert_refused("1:size=1g", "wrong at character 9, 'g': unknown unit");
	assert_refused("1:size=1.5G", "wrong at character 9, '.5G': this does not belong to a size");
	assert_refused("1:size=2048+8", "this does not belong to a size");
	assert_refused("1:size=1G ", "this does not belong to a size");
	assert_refused("1:size=1000B", "not a whole number of 512-byte sectors");
	assert_refused("1:size=9223372036854775808B", "2^63 bytes or more");
	assert_refused("1:size=99999999999999999999", "the number is too long");
}

/* @want NULL: it fits. Else what is said. */
static void check(const char *text, const struct disk *disk, bool is_size_known, uint64_t bytes, const char *want)
{
	struct expect expect;
	char *message;
	bool fits;

	assert_return_code(expect_parse(text, &expect, &message), 0);
	fits = expect_matches(&expect, disk, is_size_known, bytes, &message);
	if (fits != !want)
		fail_msg("%s: %s", text, fits ? "fits" : message);
	if (want)
		assert_string_equal(message, want);
	else
		assert_null(message);
	free(message);
	expect_free(&expect);
}

/* Only whether it fits. */
static bool does_fit(const char *text, const struct disk *disk)
{
	struct expect expect;
	char *message;
	bool fits;

	assert_return_code(expect_parse(text, &expect, &message), 0);
	fits = expect_matches(&expect, disk, true, 0, &message);
	assert_true(fits == !message);
	free(message);
	expect_free(&expect);
	return fits;
}

static void a_serial_fits_exactly_or_not(void **state)
{
	const struct disk one = { .serial = (char *)"S3Z" };
	const struct disk two = { .serial = (char *)"Z1X:0", .serial_short = (char *)"5000c500" };
	const struct disk only_short = { .serial_short = (char *)"5000c500" };

	(void)state;
	assert_true(does_fit("1:serial=S3Z", &one));
	check("1:serial=s3z", &one, true, 0, "is not what --expect=1:serial=s3z says: its serial is \"S3Z\"");
	assert_false(does_fit("1:serial=S3", &one));
	assert_false(does_fit("1:serial=S3ZZ", &one));
	assert_false(does_fit("1:serial= S3Z", &one));
	assert_true(does_fit("1:serial=Z1X:0", &two));
	assert_true(does_fit("1:serial=5000c500", &two));
	check("2:serial=x", &two, true, 0,
	      "is not what --expect=2:serial=x says: its serial is \"Z1X:0\", or \"5000c500\" for short");
	assert_true(does_fit("1:serial=5000c500", &only_short));
	check("1:serial=x", &only_short, true, 0, "is not what --expect=1:serial=x says: its serial is \"5000c500\"");
}

static void what_cannot_be_found_out_does_not_fit(void **state)
{
	const struct disk nothing = { .name = (char *)"sda", .whole_name = (char *)"sda" };

	(void)state;
	check("0:serial=x", &nothing, true, 512,
	      "is not what --expect=0:serial=x says: its serial cannot be found out");
	check("0:wwn=x", &nothing, true, 512, "is not what --expect=0:wwn=x says: its WWN cannot be found out");
	check("0:model=x", &nothing, true, 512, "is not what --expect=0:model=x says: its model cannot be found out");
	check("0:size=1", &nothing, false, 512, "is not what --expect=0:size=1 says: its size cannot be found out");
	/* not even with each other */
	assert_false(does_fit("0:model= ", &nothing));
}

static void a_regular_file_has_a_size_only(void **state)
{
	(void)state;
	check("1:serial=x", NULL, true, 512, "is not what --expect=1:serial=x says: a regular file has no serial");
	check("1:wwn=x", NULL, true, 512, "is not what --expect=1:wwn=x says: a regular file has no WWN");
	check("1:model=x", NULL, true, 512, "is not what --expect=1:model=x says: a regular file has no model");
	check("1:size=1", NULL, true, 512, NULL);
	check("1:size=0", NULL, false, 0,
	      "is not what --expect=1:size=0 says: it does not exist yet, so it has no size");
}

static void a_size_fits_to_the_byte(void **state)
{
	const struct disk disk = { .name = (char *)"sda" };

	(void)state;
	check("1:size=2048", &disk, true, 1 << 20, NULL);
	check("1:size=1M", &disk, true, 1 << 20, NULL);
	check("1:size=0", NULL, true, 0, NULL);
	check("1:size=1M", &disk, true, (1 << 20) + 512,
	      "is not what --expect=1:size=1M says: its size is 2049 sectors (1049088B)");
	check("1:size=1M", &disk, true, 1 << 21,
	      "is not what --expect=1:size=1M says: its size is 4096 sectors (2097152B)");
	check("1:size=2048", NULL, true, (1 << 20) + 1,
	      "is not what --expect=1:size=2048 says: its size is 1048577B, which is no whole number of sectors");
	check("1:size=2049", NULL, true, (1 << 20) + 1,
	      "is not what --expect=1:size=2049 says: its size is 1048577B, which is no whole number of sectors");
}

static void a_wwn_fits_in_each_of_its_spellings(void **state)
{
	static const char *const same[] = { "1:wwn=0x5000c5001234abcd",	    "1:wwn=0X5000C5001234ABCD",
					    "1:wwn=naa.5000c5001234abcd",   "1:wwn=NAA.5000C5001234abcd",
					    "1:wwn=wwn-0x5000c5001234abcd", "1:wwn=5000C5001234abcd",
					    "1:wwn=wwn-5000c5001234abcd",   "1:wwn=wwn-naa.5000c5001234abcd" };
	static const char *const others[] = { "1:wwn=0x5000c5001234abce",
					      "1:wwn=0x5000c5001234abc",
					      "1:wwn=0x5000c5001234abcd0",
					      "1:wwn=eui.5000c5001234abcd",
					      "1:wwn=uuid.5000c5001234abcd",
					      "1:wwn=naa.",
					      "1:wwn=0x",
					      "1:wwn=wwn-",
					      "1:wwn=0x0x5000c5001234abcd",
					      "1:wwn= 0x5000c5001234abcd",
					      "1:wwn=x5000c5001234abcd",
					      "1:wwn=0x5000c5001234abcd-part1" };
	const struct disk udev = { .wwn = (char *)"0x5000c5001234abcd" };
	const struct disk sysfs = { .wwn = (char *)"naa.5000c5001234abcd" };
	const struct disk nvme = { .wwn = (char *)"eui.0025385b01234567" };
	const struct disk empty = { .wwn = (char *)"naa." };
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(same) / sizeof(same[0]); i++) {
		assert_true(does_fit(same[i], &udev));
		assert_true(does_fit(same[i], &sysfs));
		assert_false(does_fit(same[i], &nvme));
	}
	for (i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
		assert_false(does_fit(others[i], &udev));
		assert_false(does_fit(others[i], &sysfs));
	}
	assert_true(does_fit("1:wwn=eui.0025385B01234567", &nvme));
	assert_true(does_fit("1:wwn=0025385b01234567", &nvme));
	assert_false(does_fit("1:wwn=0x0025385b01234567", &nvme));
	assert_false(does_fit("1:wwn=naa.", &empty));
	check("1:wwn=0x5", &nvme, true, 0, "is not what --expect=1:wwn=0x5 says: its WWN is \"eui.0025385b01234567\"");
}

static void a_model_fits_whatever_stands_for_its_blanks(void **state)
{
	const struct disk sysfs = { .model = (char *)"Samsung SSD  870" };
	const struct disk udev = { .model = (char *)"Samsung_SSD_870" };
	const struct disk padded = { .model = (char *)"_QEMU HARDDISK_ " };
	static const char *const same[] = { "1:model=Samsung SSD 870", "1:model=Samsung_SSD_870",
					    "1:model= Samsung   SSD_ _870 ", "1:model=Samsung SSD 870_" };
	static const char *const others[] = { "1:model=samsung SSD 870",     "1:model=SamsungSSD870",
					      "1:model=Samsung SSD",	     "1:model=Samsung SSD 87",
					      "1:model=Samsung SSD 870 EVO", "1:model=Samsung SSD 8 70",
					      "1:model=amsung SSD 870",	     "1:model= ",
					      "1:model=Samsung SSD-870" };
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(same) / sizeof(same[0]); i++) {
		assert_true(does_fit(same[i], &sysfs));
		assert_true(does_fit(same[i], &udev));
	}
	for (i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
		assert_false(does_fit(others[i], &sysfs));
		assert_false(does_fit(others[i], &udev));
	}
	assert_true(does_fit("1:model=QEMU HARDDISK", &padded));
	check("3:model=QEMU", &sysfs, true, 0,
	      "is not what --expect=3:model=QEMU says: its model is \"Samsung SSD  870\"");
}

static void what_is_said_is_one_harmless_line(void **state)
{
	const struct disk disk = { .serial = (char *)"a\x1b[31m\n", .model = (char *)"\xff" };

	(void)state;
	check("1:serial=b\nc", &disk, true, 0,
	      "is not what --expect=1:serial=b\\nc says: its serial is \"a\\x1b[31m\\n\"");
	check("1:model=\xfe", &disk, true, 0, "is not what --expect=1:model=\\xfe says: its model is \"\\xff\"");
	assert_true(does_fit("1:serial=a\x1b[31m\n", &disk));
}

/* Texts of a wish's parts, some of them others: each is a wish, or is refused with one line. */
static void any_text_is_a_wish_or_refused(void **state)
{
	static const char *const parts[][4] = {
		{ "0", "1", "32", "1" }, { ":", ":", ":", ":" },	  { "serial", "wwn", "model", "size" },
		{ "=", "=", "=", "=" },	 { "1", "512B", "naa.1", "_1 " }, { "", "", "", "" },
	};
	static const char *const others[] = { "", "33", ":", "=", "size", "0x", "_", " ", "\n", "\xff", "1G", "-" };
	const char *env = getenv("KCOPY_TEST_SEED");
	uint64_t seed = env ? strtoull(env, NULL, 0) : (uint64_t)time(NULL), x = seed | 1;
	const struct disk disk = { .serial = (char *)"1", .wwn = (char *)"naa.1", .model = (char *)"1_ " };
	unsigned int wishes = 0, matches = 0;

	(void)state;
	print_message("seed %" PRIu64 "\n", seed);
	for (unsigned int n = 0; n < 20000; n++) {
		char text[128] = "", *message;
		struct expect expect;
		int ret;

		for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
			x ^= x << 13;
			x ^= x >> 7;
			x ^= x << 17;
			strcat(text, (x >> 16) % 8 ? parts[i][(x >> 32) % 4]
						   : others[(x >> 32) % (sizeof(others) / sizeof(others[0]))]);
		}
		ret = expect_parse(text, &expect, &message);
		if (ret == 0) {
			assert_null(message);
			assert_true(*expect.value && expect.operand <= 32);
			wishes++;
			matches += expect_matches(&expect, &disk, true, 512, &message);
		} else {
			assert_int_equal(ret, -EINVAL);
			assert_non_null(message);
		}
		assert_true(!message || !strchr(message, '\n'));
		free(message);
		expect_free(&expect);
	}
	assert_true(wishes > 2000 && wishes < 18000 && matches > 200);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_wish_names_an_operand_a_key_and_a_value),
		cmocka_unit_test(a_value_may_hold_anything),
		cmocka_unit_test(a_size_is_in_sectors_or_has_a_unit),
		cmocka_unit_test(a_number_that_is_no_operand_is_refused),
		cmocka_unit_test(a_key_that_is_unknown_is_refused),
		cmocka_unit_test(a_value_that_is_missing_is_refused),
		cmocka_unit_test(a_size_that_is_none_is_refused),
		cmocka_unit_test(a_serial_fits_exactly_or_not),
		cmocka_unit_test(what_cannot_be_found_out_does_not_fit),
		cmocka_unit_test(a_regular_file_has_a_size_only),
		cmocka_unit_test(a_size_fits_to_the_byte),
		cmocka_unit_test(a_wwn_fits_in_each_of_its_spellings),
		cmocka_unit_test(a_model_fits_whatever_stands_for_its_blanks),
		cmocka_unit_test(what_is_said_is_one_harmless_line),
		cmocka_unit_test(any_text_is_a_wish_or_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
