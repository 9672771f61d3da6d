/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Names for people: one harmless line, whatever the name holds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "text.h"

static void assert_printable(const char *name, const char *want)
{
	char *text = text_printable(name);

	assert_non_null(text);
	assert_string_equal(text, want);
	free(text);
}

static void plain_names_stay_as_they_are(void **state)
{
	(void)state;
	assert_printable("", "");
	assert_printable("/dev/disk/by-id/usb-SanDisk_4C53-0:0", "/dev/disk/by-id/usb-SanDisk_4C53-0:0");
	assert_printable("a b'\"~", "a b'\"~");
	assert_printable("na\xc3\xafve \xe2\x82\xac \xf0\x9f\x92\xbe", "na\xc3\xafve \xe2\x82\xac \xf0\x9f\x92\xbe");
	assert_printable("\xc2\xa0\xed\x9f\xbf\xee\x80\x80\xf4\x8f\xbf\xbf",
			 "\xc2\xa0\xed\x9f\xbf\xee\x80\x80\xf4\x8f\xbf\xbf");
}

static void control_characters_and_backslashes_are_escaped(void **state)
{
	(void)state;
	assert_printable("a\nb\tc\\d", "a\\nb\\tc\\\\d");
	assert_printable("\x1b[31m\r\x7f\x01", "\\x1b[31m\\x0d\\x7f\\x01");
	assert_printable("\\n", "\\\\n");
}

static void escapes_of_latin_1_and_unicode_are_escaped(void **state)
{
	(void)state;
	assert_printable("\xc2\x9b"
			 "31m",
			 "\\xc2\\x9b31m");
	assert_printable("\xe2\x80\xa8\xe2\x80\xae\xe2\x81\xa6\xe2\x80\x8f",
			 "\\xe2\\x80\\xa8\\xe2\\x80\\xae\\xe2\\x81\\xa6\\xe2\\x80\\x8f");
}

static void bytes_that_are_no_utf_8_are_escaped(void **state)
{
	(void)state;
	assert_printable("\x80", "\\x80");
	assert_printable("a\xff\xfe", "a\\xff\\xfe");
	assert_printable("\xc0\xaf", "\\xc0\\xaf");		      /* overlong '/' */
	assert_printable("\xe0\x80\x8a", "\\xe0\\x80\\x8a");	      /* overlong newline */
	assert_printable("\xed\xa0\x80", "\\xed\\xa0\\x80");	      /* a surrogate */
	assert_printable("\xf4\x90\x80\x80", "\\xf4\\x90\\x80\\x80"); /* past U+10FFFF */
	assert_printable("\xf8\x88\x80\x80\x80", "\\xf8\\x88\\x80\\x80\\x80");
	assert_printable("\xe2\x82", "\\xe2\\x82"); /* cut short by the end */
	assert_printable("\xe2\x82z", "\\xe2\\x82z");
	assert_printable("\xf0\x9f\x92\xc3\xa4", "\\xf0\\x9f\\x92\xc3\xa4");
}

/* What text_printable() wrote, read back. Returns -1 where it is not printable. */
static int read_back(const char *text, char *out)
{
	static const char hex[] = "0123456789abcdef";
	const char *s;

	for (s = text; *s; s++) {
		if ((unsigned char)*s < 0x20 || *s == 0x7f)
			return -1;
		if (*s != '\\') {
			*out++ = *s;
			continue;
		}
		s++;
		if (*s == 'x') {
			const char *high = strchr(hex, s[1]), *low = strchr(hex, s[2]);

			if (!s[1] || !s[2] || !high || !low)
				return -1;
			*out++ = (char)((high - hex) << 4 | (low - hex));
			s += 2;
		} else if (*s == 'n') {
			*out++ = '\n';
		} else if (*s == 't') {
			*out++ = '\t';
		} else if (*s == '\\') {
			*out++ = '\\';
		} else {
			return -1;
		}
	}
	*out = '\0';
	return 0;
}

static void any_bytes_come_out_printable_and_can_be_read_back(void **state)
{
	const char *env = getenv("KCOPY_TEST_SEED");
	uint64_t seed = env ? strtoull(env, NULL, 0) : (uint64_t)time(NULL), x = seed | 1;
	char name[65], back[65 * 4];
	unsigned int n, i;

	(void)state;
	print_message("seed %" PRIu64 "\n", seed);
	for (n = 0; n < 20000; n++) {
		char *text;
		unsigned int length = n % 64;

		for (i = 0; i < length; i++) {
			x ^= x << 13;
			x ^= x >> 7;
			x ^= x << 17;
			name[i] = (char)(x >> 32);
			if (!name[i])
				name[i] = '\n';
		}
		name[length] = '\0';
		text = text_printable(name);
		assert_non_null(text);
		assert_return_code(read_back(text, back), 0);
		assert_string_equal(back, name);
		/* escapes are ASCII, so what is not ASCII is valid: printing it again changes backslashes only */
		for (i = 0; text[i]; i++)
			if (text[i] == '\\')
				text[i] = '/';
		assert_printable(text, text);
		free(text);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(plain_names_stay_as_they_are),
		cmocka_unit_test(control_characters_and_backslashes_are_escaped),
		cmocka_unit_test(escapes_of_latin_1_and_unicode_are_escaped),
		cmocka_unit_test(bytes_that_are_no_utf_8_are_escaped),
		cmocka_unit_test(any_bytes_come_out_printable_and_can_be_read_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
