/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A line's words: as a shell has them, and what a shell would expand or act on is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "words.h"

/* @expected: the words, each with a '|' behind it. */
static void assert_words(const char *line, const char *expected)
{
	char text[256] = "";
	struct words words;
	const char *reason;
	size_t at;

	assert_int_equal(words_split(line, &words, &reason, &at), 0);
	for (size_t i = 0; i < words.num; i++) {
		strcat(text, words.items[i]);
		strcat(text, "|");
	}
	assert_string_equal(text, expected);
	assert_true(words.num == 0 || !words.items[words.num]);
	words_free(&words);
}

static void assert_refused(const char *line, size_t expected_at, const char *expected)
{
	struct words words;
	const char *reason = NULL;
	size_t at = 0;

	assert_int_equal(words_split(line, &words, &reason, &at), -EINVAL);
	if (!strstr(reason, expected))
		fail_msg("%s: '%s', expected '%s'", line, reason, expected);
	assert_int_equal(at, expected_at);
	assert_null(words.items);
}

static void words_are_those_of_a_shell(void **state)
{
	(void)state;
	assert_words("a b", "a|b|");
	assert_words("  a\t b ", "a|b|");
	assert_words("'a b' \"c d\" e\\ f", "a b|c d|e f|");
	assert_words("a'b'\"c\"\\d", "abcd|");
	assert_words("'' \"\" x", "||x|");
	assert_words("'a\\' b", "a\\|b|");
	assert_words("'\"$x`*' \"'\"", "\"$x`*|'|");
	assert_words("\"a\\\\b\\\"c\\$d\\`e\\f\"", "a\\b\"c$d`e\\f|");
	assert_words("\\$\\*\\'\\\"\\\\\\#", "$*'\"\\#|");
	assert_words("a~b a#b a=b {x} !", "a~b|a#b|a=b|{x}|!|");
	assert_words("'a'\"'\"'b'", "a'b|"); /* as shlex.quote() has it */
	assert_words("\\~ '~'", "~|~|");
	assert_words("'a\tb\x01' \xff\xc3\xa4", "a\tb\x01|\xff\xc3\xa4|");
}

static void comments_and_empty_lines_have_no_words(void **state)
{
	(void)state;
	assert_words("", "");
	assert_words(" \t ", "");
	assert_words("# a 'b $c", "");
	assert_words("  #", "");
	assert_words("a #b 'c", "a|");
	assert_words("a\\ #b", "a #b|");
	assert_words("''#b", "#b|");
}

static void what_a_shell_would_expand_is_refused(void **state)
{
	(void)state;
	assert_refused("a $HOME", 3, "nothing is expanded");
	assert_refused("a b$", 4, "nothing is expanded");
	assert_refused("\"a$b\"", 3, "nothing is expanded");
	assert_refused("\"a`b\"", 3, "nothing is expanded");
	assert_refused("`a`", 1, "nothing is expanded");
	assert_refused("/dev/sd*", 8, "nothing is expanded");
	assert_refused("a?", 2, "nothing is expanded");
	assert_refused("a[0]", 2, "nothing is expanded");
	assert_refused("a ~/b", 3, "nothing is expanded");
	for (const char *c = ";&|<>()"; *c; c++) {
		char line[] = "a b?";

		line[3] = *c;
		assert_refused(line, 4, "operator");
	}
}

static void what_does_not_end_is_refused(void **state)
{
	(void)state;
	assert_refused("a 'b c", 3, "a ' without");
	assert_refused("a 'b' '", 7, "a ' without");
	assert_refused("a x\"b c", 4, "a \" without");
	assert_refused("\"a\\\"", 1, "a \" without");
	assert_refused("\"a\\", 1, "a \" without");
	assert_refused("a b\\", 4, "a \\ at the end");
	assert_refused("a b\r", 4, "DOS");
	assert_refused("a\x01", 2, "control");
	assert_refused("a\x7f", 2, "control");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(words_are_those_of_a_shell),
		cmocka_unit_test(comments_and_empty_lines_have_no_words),
		cmocka_unit_test(what_a_shell_would_expand_is_refused),
		cmocka_unit_test(what_does_not_end_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
