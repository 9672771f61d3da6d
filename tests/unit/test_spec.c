/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Operands: which part of a text is the place and which the range, and what is refused instead of guessed. */
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

#include "spec.h"

#define ALL "" /* no range */

/* @context: the places that exist, NULL at the end. */
static bool is_listed(const char *place, void *context)
{
	const char *const *list = context;

	assert_true(*place);
	for (; *list; list++)
		if (!strcmp(*list, place))
			return true;
	return false;
}

#define WORLD(...) ((const char *const[]){ "", ##__VA_ARGS__, NULL }) /* no place is "" */

/* @range: "", "START" or "START+COUNT" in sectors. */
static void check_accepted(const char *text, const char *const *world, const char *place, const char *range)
{
	struct spec spec;
	char *message = NULL, got[64] = "";

	if (spec_parse(text, is_listed, (void *)(uintptr_t)world, &spec, &message))
		fail_msg("refused: %s", message);
	assert_null(message);
	if (strcmp(spec.place, place))
		fail_msg("'%s': the place is '%s', not '%s'", text, spec.place, place);
	if (spec.has_count)
		snprintf(got, sizeof(got), "%" PRIu64 "+%" PRIu64, spec.start, spec.count);
	else if (spec.has_start)
		snprintf(got, sizeof(got), "%" PRIu64, spec.start);
	if (strcmp(got, range))
		fail_msg("'%s': the range is '%s', not '%s'", text, got, range);
	if (!spec.has_start)
		assert_int_equal(spec.start, 0);
	spec_free(&spec);
	assert_null(spec.place);
}

static void check_refused(const char *text, const char *const *world, const char *want)
{
	struct spec spec;
	char *message = NULL;
	int ret = spec_parse(text, is_listed, (void *)(uintptr_t)world, &spec, &message);

	if (ret != -EINVAL)
		fail_msg("'%s': returned %d, place '%s'", text, ret, spec.place);
	assert_null(spec.place);
	assert_non_null(message);
	assert_null(strchr(message, '\n'));
	if (!strstr(message, want))
		fail_msg("'%s': says: %s", text, message);
	free(message);
}

#define assert_accepted(text, place, range, ...) check_accepted(text, WORLD(__VA_ARGS__), place, range)
#define assert_refused(text, want, ...) check_refused(text, WORLD(__VA_ARGS__), want)

static void a_place_alone_has_no_range(void **state)
{
	(void)state;
	assert_accepted("/dev/sdb", "/dev/sdb", ALL, "/dev/sdb");
	assert_accepted("new.img", "new.img", ALL);
	assert_accepted("a b\n", "a b\n", ALL);
	assert_accepted("x+1", "x+1", ALL);
}

static void start_and_count_are_taken_off_the_end(void **state)
{
	(void)state;
	assert_accepted("/dev/sdb:2048", "/dev/sdb", "2048", "/dev/sdb");
	assert_accepted("/dev/sdb:0", "/dev/sdb", "0", "/dev/sdb");
	assert_accepted("/dev/sdb:2048+8192", "/dev/sdb", "2048+8192", "/dev/sdb");
	assert_accepted("/dev/sdb:1M+4KiB", "/dev/sdb", "2048+8", "/dev/sdb");
	assert_accepted("/dev/sdb:512B+64KB", "/dev/sdb", "1+125", "/dev/sdb");
	assert_accepted("new.img:2048+8", "new.img", "2048+8");
	assert_accepted("a:1:2", "a:1", "2", "a");
}

static void a_name_that_ends_like_a_range_is_a_place_if_only_it_exists(void **state)
{
	static const char id[] = "/dev/disk/by-id/usb-SanDisk_4C53-0:0";

	(void)state;
	assert_accepted(id, id, ALL, id);
	assert_accepted("usb-0:0+8", "usb-0:0+8", ALL, "usb-0:0+8");
	assert_accepted("usb-0:0:2048", "usb-0:0", "2048", "usb-0:0");
	assert_accepted("usb-0:0:", "usb-0:0", ALL, "usb-0:0");
	assert_accepted("x:99999999999999999999999", "x:99999999999999999999999", ALL, "x:99999999999999999999999");
	assert_accepted("x:12x", "x:12x", ALL, "x:12x");
	assert_accepted("x:12x", "x:12x", ALL, "x:12x", "x");
	assert_accepted(":2048", ":2048", ALL, ":2048");
}

static void two_readings_that_both_exist_are_refused_with_a_way_to_write_each(void **state)
{
	(void)state;
	assert_refused("usb-0:0",
		       "'usb-0:0' is ambiguous, since 'usb-0' exists too: "
		       "write 'usb-0:0:' for the first, 'usb-0:0s' for the range of the second",
		       "usb-0:0", "usb-0");
	assert_accepted("usb-0:0:", "usb-0:0", ALL, "usb-0:0", "usb-0");
	assert_accepted("usb-0:0s", "usb-0", "0", "usb-0:0", "usb-0");
	assert_refused("x:2s+8", "write 'x:2s+8:' for the first, 'x:1024B+8' for the range", "x", "x:2s+8");
	assert_refused("x:2+8", "write 'x:2+8:' for the first, 'x:02+8' for the range", "x", "x:2+8", "x:2s+8",
		       "x:1024B+8");
	assert_accepted("x:02+8", "x", "2+8", "x", "x:2+8", "x:2s+8", "x:1024B+8");
	assert_refused("x:2", "write 'x:2:0s' for the first, 'x:2s' for the range", "x", "x:2", "x:2:");
	assert_accepted("x:2:0s", "x:2", "0", "x", "x:2", "x:2:");
}

static void a_trailing_colon_says_that_there_is_no_range(void **state)
{
	(void)state;
	assert_accepted("/dev/sdb:", "/dev/sdb", ALL, "/dev/sdb");
	assert_accepted("new:0:", "new:0", ALL);
	assert_accepted("new:12x:", "new:12x", ALL, "new");
	assert_accepted("odd:", "odd:", ALL, "odd:");
	assert_accepted("odd::", "odd:", ALL, "odd:");
	assert_accepted("odd::", "odd:", ALL, "odd:", "odd");
	assert_refused("odd:", "write 'odd::' for the first, 'odd' for the second", "odd:", "odd");
	assert_refused("a:1:", "write 'a:1::' for the first, 'a:1:0s' for the second", "a:1:", "a:1");
	assert_accepted("a:1:0s", "a:1", "0", "a:1:", "a:1");
}

static void other_text_after_a_colon_belongs_to_the_path(void **state)
{
	(void)state;
	assert_accepted("12:30.img", "12:30.img", ALL);
	assert_accepted("a:b.img", "a:b.img", ALL);
	assert_accepted("a:b", "a:b", ALL, "a");
	assert_accepted("a:1/b", "a:1/b", ALL, "a");
	assert_accepted("/dev/disk/by-path/pci-0000:00:14.0-usb-0:2:1.0-scsi-0:0:0:0-part1",
			"/dev/disk/by-path/pci-0000:00:14.0-usb-0:2:1.0-scsi-0:0:0:0-part1", ALL,
			"/dev/disk/by-path/pci-0000:00:14.0-usb-0:2:1.0-scsi-0:0:0:0-part1");
	assert_accepted("12: 30", "12: 30", ALL);
	assert_accepted(":x", ":x", ALL);
}

static void a_slip_is_marked_where_it_goes_wrong(void **state)
{
	(void)state;
	assert_refused(
		"/dev/sdb:12x",
		"'/dev/sdb:12x': wrong at character 12, 'x': unknown unit; units are s, B, K, M, G, T, P (1024) and "
		"KB, MB, GB, TB, PB (1000); if all of it is a path, add a ':' at its end",
		"/dev/sdb");
	assert_refused("new.img:12+", "'new.img:12+': wrong at its end: COUNT is missing after the '+'");
	assert_refused("new.img:12x", "wrong at character 11, 'x': unknown unit");
	assert_refused("disk.img:-5", "wrong at character 10, '-5': a number has no sign here", "disk.img");
	assert_refused("x:+8", "wrong at character 3, '+8': START is missing before the '+'", "x");
	assert_refused("x:+", "wrong at character 3, '+': START is missing before the '+'", "x");
	assert_refused("x:-", "wrong at character 3, '-': a number has no sign here", "x");
	assert_refused("x:1+2+3", "wrong at character 6, '+3': this does not belong to a range", "x");
	assert_refused("x:1++3", "wrong at character 5, '+3': a number has no sign here", "x");
	assert_refused("x:1+-3", "wrong at character 5, '-3': a number has no sign here", "x");
	assert_refused("x:1-3", "wrong at character 4, '-3': this does not belong to a range", "x");
	assert_refused("x: 5", "wrong at character 3, ' 5': a range has no blanks", "x");
	assert_refused("x:5 ", "wrong at character 4, ' ': a range has no blanks", "x");
	assert_refused("x:5 + 3", "wrong at character 4, ' + 3': a range has no blanks", "x");
	assert_refused("x:5+ 3", "wrong at character 5, ' 3': a range has no blanks", "x");
	assert_refused("x:1.5G", "wrong at character 4, '.5G': this does not belong to a range", "x");
	assert_refused("x:0x10", "wrong at character 4, 'x10': unknown unit", "x");
	assert_refused("x:1e3", "wrong at character 4, 'e3': unknown unit", "x");
	assert_refused("x:2048+8k", "wrong at character 9, 'k': unknown unit", "x");
	assert_refused("x:99999999999999999999999+", "wrong at its end: COUNT is missing", "x");
	assert_refused("x:1B+2z", "wrong at character 7, 'z': unknown unit", "x");
	assert_accepted("/dev/sdb:12x:", "/dev/sdb:12x", ALL, "/dev/sdb");
}

static void values_that_cannot_be_are_refused(void **state)
{
	(void)state;
	assert_refused("x:99999999999999999999999",
		       "wrong at character 3, '99999999999999999999999': the number is too long");
	assert_refused("x:18014398509481984", "wrong at character 3, '18014398509481984': 2^63 bytes or more", "x");
	assert_refused("x:0+9000P", "wrong at character 5, '9000P': 2^63 bytes or more", "x");
	assert_refused("x:1B", "wrong at character 3, '1B': not a whole number of 512-byte sectors", "x");
	assert_refused("x:1K+1B", "wrong at character 6, '1B': not a whole number of 512-byte sectors", "x");
	assert_refused("x:1B", "not a whole number", "x", "x:1B");
	assert_refused("x:5+0", "wrong at character 5, '0': COUNT is 0, nothing to copy", "x");
	assert_refused("x:5+0K", "wrong at character 5, '0K': COUNT is 0, nothing to copy", "x");
	assert_accepted("x:9007199254740992+9007199254740991", "x", "9007199254740992+9007199254740991", "x");
	assert_refused("x:9007199254740992+9007199254740992", "START+COUNT is 2^63 bytes or more", "x");
	assert_refused("x:4096P+4096P", "wrong at character 3, '4096P+4096P': START+COUNT is 2^63 bytes or more", "x");
}

static void an_empty_place_is_refused(void **state)
{
	(void)state;
	assert_refused("", "'': wrong at character 1: the place is missing; write PLACE");
	assert_refused(":2048", "the place is missing");
	assert_refused(":", "the place is missing");
	assert_refused(":12x", "the place is missing");
	assert_refused(":5+0", "the place is missing");
	assert_refused("LABEL=", "the tag has no value");
	assert_refused("UUID=:2048", "the tag has no value");
}

static void tags_have_ranges_and_colons_too(void **state)
{
	(void)state;
	assert_accepted("LABEL=my:2048+8", "LABEL=my", "2048+8", "LABEL=my");
	assert_accepted("LABEL=my:2048", "LABEL=my:2048", ALL, "LABEL=my:2048");
	assert_refused("LABEL=my:2048", "is ambiguous", "LABEL=my", "LABEL=my:2048");
	assert_accepted("UUID=4711-0815", "UUID=4711-0815", ALL);
	assert_refused("PARTUUID=a:1x", "unknown unit", "PARTUUID=a");
	assert_true(spec_is_tag("LABEL=x") && spec_is_tag("UUID=x") && spec_is_tag("PARTLABEL=x") &&
		    spec_is_tag("PARTUUID=x"));
	assert_false(spec_is_tag("./LABEL=x") || spec_is_tag("label=x") || spec_is_tag("LABEL") || spec_is_tag(""));
}

static void messages_are_one_line_and_count_characters(void **state)
{
	(void)state;
	assert_refused("a\nb:5\x1bz", "'a\\nb:5\\x1bz': wrong at character 6, '\\x1bz'", "a\nb");
	assert_refused("\xc3\xa4\xe2\x82\xac:5x", "wrong at character 5, 'x'");
	assert_refused("a\nb:5", "'a\\nb:5' is ambiguous, since 'a\\nb' exists too: write 'a\\nb:5:'", "a\nb",
		       "a\nb:5");
}

static void very_long_specs_work(void **state)
{
	enum { LENGTH = 9000 };
	char *text = malloc(LENGTH + 16), *place = malloc(LENGTH + 1);

	(void)state;
	memset(place, 'p', LENGTH);
	place[LENGTH] = '\0';
	snprintf(text, LENGTH + 16, "%s:2048+8", place);
	assert_accepted(text, place, "2048+8");
	check_refused(text, (const char *[]){ text, place, NULL }, "is ambiguous");
	snprintf(text, LENGTH + 16, "%s:12x", place);
	assert_refused(text, "wrong at character 9004, 'x': unknown unit");
	memset(text, '1', LENGTH);
	memcpy(text, "x:", 2);
	text[LENGTH] = '\0';
	assert_refused(text, "the number is too long");
	memset(text, ':', LENGTH);
	text[LENGTH - 1] = '\0';
	text[LENGTH] = '\0';
	memcpy(place, text, LENGTH);
	place[LENGTH - 2] = '\0';
	assert_accepted(text, place, ALL);
	free(text);
	free(place);
}

static uint64_t next_random(uint64_t *state)
{
	uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

static void print_number(char *out, size_t size, uint64_t sectors, uint64_t *seed)
{
	switch (next_random(seed) % 4) {
	case 0:
		snprintf(out, size, "%" PRIu64 "s", sectors);
		break;
	case 1:
		snprintf(out, size, "%" PRIu64 "B", sectors * 512);
		break;
	case 2:
		if (sectors % 2 == 0) {
			snprintf(out, size, "%" PRIu64 "KiB", sectors / 2);
			break;
		}
		/* fall through */
	default:
		snprintf(out, size, "%" PRIu64, sectors);
	}
}

static void any_place_and_range_come_back(void **state)
{
	static const char alphabet[] = "ab:0123+-. KsB/=\n";
	const char *env = getenv("KCOPY_TEST_SEED");
	uint64_t seed = env ? strtoull(env, NULL, 0) : (uint64_t)time(NULL);
	unsigned int n, i;

	(void)state;
	print_message("seed %" PRIu64 "\n", seed);
	for (n = 0; n < 20000; n++) {
		char place[16], start[32], count[32], text[96], range[64];
		unsigned int length = (unsigned int)(1 + next_random(&seed) % 14);
		uint64_t first = next_random(&seed) >> (11 + next_random(&seed) % 53);
		uint64_t sectors = 1 + (next_random(&seed) >> (11 + next_random(&seed) % 53)) / 2;

		for (i = 0; i < length; i++)
			place[i] = alphabet[next_random(&seed) % (sizeof(alphabet) - 1)];
		place[length] = '\0';
		print_number(start, sizeof(start), first, &seed);
		print_number(count, sizeof(count), sectors, &seed);

		snprintf(text, sizeof(text), "%s:", place);
		assert_accepted(text, place, ALL, place);
		snprintf(text, sizeof(text), "%s:%s", place, start);
		snprintf(range, sizeof(range), "%" PRIu64, first);
		assert_accepted(text, place, range, place);
		assert_accepted(text, place, range);
		assert_accepted(text, text, ALL, text);
		assert_refused(text, "is ambiguous", text, place);
		snprintf(text, sizeof(text), "%s:%s+%s", place, start, count);
		snprintf(range, sizeof(range), "%" PRIu64 "+%" PRIu64, first, sectors);
		assert_accepted(text, place, range, place);
		assert_accepted(text, text, ALL, text);
	}
}

static void any_text_at_all_is_taken_or_refused_with_a_message(void **state)
{
	static const char alphabet[] = "a:0189+- KMsB./\\\n\x80\xc3";
	const char *env = getenv("KCOPY_TEST_SEED");
	uint64_t seed = env ? strtoull(env, NULL, 0) : (uint64_t)time(NULL);
	unsigned int n, i;

	(void)state;
	print_message("seed %" PRIu64 "\n", seed);
	for (n = 0; n < 50000; n++) {
		char text[32], place[32];
		unsigned int length = (unsigned int)(next_random(&seed) % 30);
		const char *world[3] = { NULL, NULL, NULL };
		struct spec spec;
		char *message, *colon;
		int ret;

		for (i = 0; i < length; i++)
			text[i] = alphabet[next_random(&seed) % (sizeof(alphabet) - 1)];
		text[length] = '\0';
		memcpy(place, text, sizeof(text));
		colon = strrchr(place, ':');
		if (colon)
			*colon = '\0';
		if (next_random(&seed) % 2)
			world[0] = place;
		if (next_random(&seed) % 2)
			world[world[0] ? 1 : 0] = text;
		ret = spec_parse(text, is_listed, world, &spec, &message);
		assert_true(ret == 0 ? spec.place && *spec.place && !message
				     : ret == -EINVAL && message && !spec.place);
		if (!ret && strcmp(spec.place, text)) { /* only ever the last colon */
			assert_non_null(colon);
			assert_string_equal(spec.place, place);
		}
		spec_free(&spec);
		free(message);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_place_alone_has_no_range),
		cmocka_unit_test(start_and_count_are_taken_off_the_end),
		cmocka_unit_test(a_name_that_ends_like_a_range_is_a_place_if_only_it_exists),
		cmocka_unit_test(two_readings_that_both_exist_are_refused_with_a_way_to_write_each),
		cmocka_unit_test(a_trailing_colon_says_that_there_is_no_range),
		cmocka_unit_test(other_text_after_a_colon_belongs_to_the_path),
		cmocka_unit_test(a_slip_is_marked_where_it_goes_wrong),
		cmocka_unit_test(values_that_cannot_be_are_refused),
		cmocka_unit_test(an_empty_place_is_refused),
		cmocka_unit_test(tags_have_ranges_and_colons_too),
		cmocka_unit_test(messages_are_one_line_and_count_characters),
		cmocka_unit_test(very_long_specs_work),
		cmocka_unit_test(any_place_and_range_come_back),
		cmocka_unit_test(any_text_at_all_is_taken_or_refused_with_a_message),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
