/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Sectors and sizes: what is a number, what is refused and where, and that text and number agree. */
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

#include "units.h"

#define MAX_SECTORS ((UINT64_C(1) << 54) - 1)

static void assert_sectors(const char *text, uint64_t want, size_t want_length)
{
	struct units_error error = { 0, NULL };
	uint64_t sectors = 0;
	size_t length = 0;

	if (units_parse_sectors(text, &sectors, &length, &error))
		fail_msg("'%s': %s at %zu", text, error.reason, error.at);
	if (sectors != want || length != want_length)
		fail_msg("'%s': %" PRIu64 " sectors, %zu characters", text, sectors, length);
}

static void assert_refused(const char *text, int want, size_t at, const char *reason, size_t want_length)
{
	struct units_error error = { 12345, NULL };
	uint64_t sectors = 0;
	size_t length = 12345;
	int ret = units_parse_sectors(text, &sectors, &length, &error);

	if (ret != want)
		fail_msg("'%s': returned %d, not %d", text, ret, want);
	assert_string_equal(error.reason, reason);
	if (error.at != at || length != want_length)
		fail_msg("'%s': at %zu, %zu characters", text, error.at, length);
}

static void plain_numbers_are_sectors(void **state)
{
	(void)state;
	assert_sectors("0", 0, 1);
	assert_sectors("2048", 2048, 4);
	assert_sectors("0002048", 2048, 7);
	assert_sectors("18014398509481983", MAX_SECTORS, 17);
}

static void assert_bytes(const char *text, uint64_t want)
{
	struct units_error error = { 0, NULL };
	uint64_t bytes = 0;

	if (units_parse_bytes(text, &bytes, &error))
		fail_msg("'%s': %s at %zu", text, error.reason, error.at);
	if (bytes != want)
		fail_msg("'%s': %" PRIu64 " bytes", text, bytes);
}

static void where_bytes_are_meant_plain_numbers_are_bytes(void **state)
{
	static const struct {
		const char *text;
		int ret;
		size_t at;
	} bad[] = {
		{ "", -EINVAL, 0 },	 { "-1", -EINVAL, 0 },
		{ "x", -EINVAL, 0 },	 { "1x", -EINVAL, 1 },
		{ "1.5M", -EINVAL, 1 },	 { "1M+1", -EINVAL, 2 },
		{ "1 M", -EINVAL, 1 },	 { "9223372036854775808", -ERANGE, 0 },
		{ "8192P", -ERANGE, 0 }, { "12345678901234567890", -ERANGE, 0 },
	};

	(void)state;
	assert_bytes("0", 0);
	assert_bytes("1", 1);
	assert_bytes("511B", 511);
	assert_bytes("3s", 1536);
	assert_bytes("50M", 50 << 20);
	assert_bytes("7MB", 7000000);
	assert_bytes("9223372036854775807", INT64_MAX);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct units_error error = { 12345, NULL };
		uint64_t bytes;

		if (units_parse_bytes(bad[i].text, &bytes, &error) != bad[i].ret || error.at != bad[i].at ||
		    !error.reason)
			fail_msg("'%s': at %zu", bad[i].text, error.at);
	}
}

static void every_unit_has_its_meaning(void **state)
{
	static const struct {
		const char *text;
		uint64_t bytes;
	} good[] = {
		{ "512s", 512 * 512 },
		{ "512B", 512 },
		{ "3K", 3 << 10 },
		{ "3KiB", 3 << 10 },
		{ "64KB", 64000 },
		{ "3M", 3 << 20 },
		{ "3MiB", 3 << 20 },
		{ "8MB", 8000000 },
		{ "3G", UINT64_C(3) << 30 },
		{ "3GiB", UINT64_C(3) << 30 },
		{ "1GB", 1000000000 },
		{ "3T", UINT64_C(3) << 40 },
		{ "3TiB", UINT64_C(3) << 40 },
		{ "1TB", 1000000000000 },
		{ "3P", UINT64_C(3) << 50 },
		{ "3PiB", UINT64_C(3) << 50 },
		{ "1PB", 1000000000000000 },
	};
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		assert_sectors(good[i].text, good[i].bytes / 512, strlen(good[i].text));
}

static void a_number_ends_where_digits_and_unit_end(void **state)
{
	(void)state;
	assert_sectors("12+8", 12, 2);
	assert_sectors("12K+8", 24, 3);
	assert_sectors("12.5M", 12, 2);
	assert_sectors("12 ", 12, 2);
	assert_sectors("12-3", 12, 2);
}

static void what_is_no_number_is_refused(void **state)
{
	static const char *const none[] = { "", "+5", "-5", " 5", "\t5", "x", "K", ".5", "\xd9\xa3" };
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(none) / sizeof(none[0]); i++)
		assert_refused(none[i], -EINVAL, 0, "a number is missing", 0);
}

#define UNKNOWN_UNIT "unknown unit; units are s, B, K, M, G, T, P (1024) and KB, MB, GB, TB, PB (1000)"

static void unknown_units_are_refused_where_they_start(void **state)
{
	static const char *const wrong[] = { "12x",  "12k",    "12kb", "12KIB", "12Kib", "12b",	 "12S", "12m",
					     "12Ki", "12MiBs", "12E",  "12EiB", "12KK",	 "12e3", "12Kx" };
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		assert_refused(wrong[i], -EINVAL, 2, UNKNOWN_UNIT, 0);
	assert_refused("0x10", -EINVAL, 1, UNKNOWN_UNIT, 0);
}

static void sizes_that_are_no_whole_sectors_are_refused(void **state)
{
	(void)state;
	assert_refused("1B", -EINVAL, 0, "not a whole number of 512-byte sectors", 2);
	assert_refused("513B+8", -EINVAL, 0, "not a whole number of 512-byte sectors", 4);
	assert_refused("1KB", -EINVAL, 0, "not a whole number of 512-byte sectors", 3);
}

static void overflow_is_refused_at_exactly_2_to_the_63_bytes(void **state)
{
	(void)state;
	assert_refused("18014398509481984", -ERANGE, 0, "2^63 bytes or more", 17);
	assert_refused("18014398509481984s", -ERANGE, 0, "2^63 bytes or more", 18);
	assert_refused("9223372036854775808B", -ERANGE, 0, "2^63 bytes or more", 20);
	assert_sectors("9223372036854775296B", MAX_SECTORS, 20);
	assert_refused("8192P", -ERANGE, 0, "2^63 bytes or more", 5);
	assert_sectors("8191P", UINT64_C(8191) << 41, 5);
	assert_refused("9224PB", -ERANGE, 0, "2^63 bytes or more", 6);
	assert_sectors("9223PB", UINT64_C(9223000000000000000) / 512, 6);
	assert_refused("9999999999999999999P", -ERANGE, 0, "2^63 bytes or more", 20);
}

static void over_long_numbers_are_refused_even_if_they_wrap_to_small_ones(void **state)
{
	char *text = malloc(5001);

	(void)state;
	assert_refused("18446744073709551616", -ERANGE, 0, "the number is too long", 20);
	assert_refused("18446744073709551617K+1", -ERANGE, 0, "the number is too long", 21);
	assert_refused("00000000000000000001", -ERANGE, 0, "the number is too long", 20);
	assert_sectors("0000000000000000001", 1, 19);
	memset(text, '7', 5000);
	text[5000] = '\0';
	assert_refused(text, -ERANGE, 0, "the number is too long", 5000);
	free(text);
}

static void sizes_are_formatted_for_people(void **state)
{
	static const struct {
		uint64_t bytes;
		const char *text;
	} want[] = {
		{ 0, "0 B" },
		{ 1, "1 B" },
		{ 512, "512 B" },
		{ 1023, "1023 B" },
		{ 1024, "1 KiB" },
		{ 1536, "1.5 KiB" },
		{ 1029, "1 KiB" },
		{ 1030, "1.01 KiB" },
		{ 10229, "9.99 KiB" },
		{ 10235, "10 KiB" },
		{ 10291, "10 KiB" },
		{ 10292, "10.1 KiB" },
		{ 102348, "99.9 KiB" },
		{ 102349, "100 KiB" },
		{ UINT64_C(3) << 29, "1.5 GiB" },
		{ 1023 << 10, "1023 KiB" },
		{ (1 << 20) - 513, "1023 KiB" },
		{ (1 << 20) - 512, "1 MiB" },
		{ (1 << 20) - 1, "1 MiB" },
		{ 1 << 20, "1 MiB" },
		{ 123456789, "118 MiB" },
		{ UINT64_C(4000787030016), "3.64 TiB" },
		{ UINT64_C(1) << 50, "1 PiB" },
		{ UINT64_C(1) << 60, "1 EiB" },
		{ UINT64_C(5) << 59, "2.5 EiB" },
		{ INT64_MAX, "8 EiB" },
		{ UINT64_MAX, "16 EiB" },
	};
	char buffer[UNITS_SIZE_CHARS];
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(want) / sizeof(want[0]); i++)
		assert_string_equal(units_format_bytes(want[i].bytes, buffer), want[i].text);
}

static uint64_t next_random(uint64_t *state)
{
	uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

static void any_number_of_sectors_comes_back_in_every_unit_that_holds_it(void **state)
{
	static const struct {
		const char *name;
		uint64_t bytes;
	} spell[] = { { "", 512 },
		      { "s", 512 },
		      { "B", 1 },
		      { "K", 1 << 10 },
		      { "KiB", 1 << 10 },
		      { "MB", 1000000 },
		      { "M", 1 << 20 },
		      { "GiB", 1 << 30 },
		      { "KB", 1000 },
		      { "GB", 1000000000 },
		      { "T", UINT64_C(1) << 40 } };
	const char *env = getenv("KCOPY_TEST_SEED");
	uint64_t seed = env ? strtoull(env, NULL, 0) : (uint64_t)time(NULL);
	char text[64];
	size_t i, n, tried = 0;

	(void)state;
	print_message("seed %" PRIu64 "\n", seed);
	for (n = 0; n < 20000; n++) {
		uint64_t sectors = next_random(&seed) >> (10 + next_random(&seed) % 54);

		if (next_random(&seed) % 2)
			sectors = sectors / 1953125 * 1953125; /* a multiple of GB more often */
		for (i = 0; i < sizeof(spell) / sizeof(spell[0]); i++) {
			if (sectors * 512 % spell[i].bytes)
				continue;
			snprintf(text, sizeof(text), "%" PRIu64 "%s", sectors * 512 / spell[i].bytes, spell[i].name);
			assert_sectors(text, sectors, strlen(text));
			tried++;
		}
	}
	assert_true(tried > 60000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(plain_numbers_are_sectors),
		cmocka_unit_test(where_bytes_are_meant_plain_numbers_are_bytes),
		cmocka_unit_test(every_unit_has_its_meaning),
		cmocka_unit_test(a_number_ends_where_digits_and_unit_end),
		cmocka_unit_test(what_is_no_number_is_refused),
		cmocka_unit_test(unknown_units_are_refused_where_they_start),
		cmocka_unit_test(sizes_that_are_no_whole_sectors_are_refused),
		cmocka_unit_test(overflow_is_refused_at_exactly_2_to_the_63_bytes),
		cmocka_unit_test(over_long_numbers_are_refused_even_if_they_wrap_to_small_ones),
		cmocka_unit_test(sizes_are_formatted_for_people),
		cmocka_unit_test(any_number_of_sectors_comes_back_in_every_unit_that_holds_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
