/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the fuzz targets share. Its UTF-8 is its own, so that the one in src/kcopy/text.c has somebody to disagree with.
 */
#include "target.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "text.h"

void check_fails(const char *property, const char *file, int line)
{
	fprintf(stderr, "%s:%d: does not hold: %s\n", file, line, property);
	abort();
}

/* -- messages ------------------------------------------------------------------------------------ */

/* 0: this is no character. Table 3-7 of the Unicode standard, 'Well-Formed UTF-8 Byte Sequences'. */
static size_t well_formed_bytes(const unsigned char *s)
{
	static const struct {
		unsigned char first, last, second_from, second_to, bytes;
	} forms[] = {
		{ 0xc2, 0xdf, 0x80, 0xbf, 2 }, { 0xe0, 0xe0, 0xa0, 0xbf, 3 }, { 0xe1, 0xec, 0x80, 0xbf, 3 },
		{ 0xed, 0xed, 0x80, 0x9f, 3 }, { 0xee, 0xef, 0x80, 0xbf, 3 }, { 0xf0, 0xf0, 0x90, 0xbf, 4 },
		{ 0xf1, 0xf3, 0x80, 0xbf, 4 }, { 0xf4, 0xf4, 0x80, 0x8f, 4 },
	};

	if (*s < 0x80)
		return 1;
	for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
		if (*s < forms[i].first || *s > forms[i].last)
			continue;
		if (s[1] < forms[i].second_from || s[1] > forms[i].second_to)
			return 0;
		for (size_t more = 2; more < forms[i].bytes; more++)
			if (s[more] < 0x80 || s[more] > 0xbf)
				return 0;
		return forms[i].bytes;
	}
	return 0;
}

/* Of the first character of @text, which is not empty; a byte that is no UTF-8 counts as one. */
static size_t character_bytes(const char *text)
{
	size_t bytes = well_formed_bytes((const unsigned char *)text);

	return bytes ? bytes : 1;
}

bool is_utf8(const char *text)
{
	size_t bytes = 1;

	for (; bytes && *text; text += bytes)
		bytes = well_formed_bytes((const unsigned char *)text);
	return bytes > 0;
}

/* C1 controls, marks and overrides of direction, line and paragraph separators, isolates. */
static bool is_harmful(const unsigned char *s, size_t bytes)
{
	static const char *const characters[] = {
		"\u200e", "\u200f", "\u2028", "\u2029", "\u202a", "\u202b", "\u202c",
		"\u202d", "\u202e", "\u2066", "\u2067", "\u2068", "\u2069",
	};

	if (bytes == 1)
		return *s < 0x20 || *s == 0x7f;
	if (bytes == 2 && s[0] == 0xc2 && s[1] < 0xa0)
		return true;
	for (size_t i = 0; i < sizeof(characters) / sizeof(characters[0]); i++)
		if (strlen(characters[i]) == bytes && memcmp(characters[i], s, bytes) == 0)
			return true;
	return false;
}

void check_message(const char *message)
{
	const unsigned char *s = (const unsigned char *)message;
	size_t bytes;

	CHECK(message && *message);
	for (; *s; s += bytes) {
		bytes = well_formed_bytes(s);
		CHECK(bytes > 0);
		CHECK(!is_harmful(s, bytes));
	}
}

void check_mark(const char *text, const char *message, const char *before, const char *after)
{
	char *whole = text_printable(text), *quote, *rest;
	size_t number = 0;
	int used = 0;

	CHECK(whole);
	quote = format("%s%s%s", before, whole, after);
	CHECK(strncmp(message, quote, strlen(quote)) == 0);
	message += strlen(quote);
	free(whole);
	free(quote);
	if (sscanf(message, ": wrong at character %zu, '%n", &number, &used) < 1 || !used)
		return;
	CHECK(number > 0);
	while (--number && *text)
		text += character_bytes(text);
	CHECK(*text);
	rest = text_printable(text);
	CHECK(rest);
	quote = format("%s': ", rest);
	CHECK(strncmp(message + used, quote, strlen(quote)) == 0);
	free(rest);
	free(quote);
}

/* -- inputs -------------------------------------------------------------------------------------- */

uint8_t input_byte(struct input *input)
{
	if (!input->size)
		return 0;
	input->size--;
	return *input->data++;
}

uint64_t input_number(struct input *input)
{
	uint64_t number = 0;

	for (unsigned int shift = 0; shift < 64; shift += 8)
		number |= (uint64_t)input_byte(input) << shift;
	return number;
}

char *input_text(struct input *input)
{
	const uint8_t *nul = input->size ? memchr(input->data, 0, input->size) : NULL;
	size_t length = nul ? (size_t)(nul - input->data) : input->size;
	char *text = malloc(length + 1);

	CHECK(text);
	if (length)
		memcpy(text, input->data, length);
	text[length] = '\0';
	length += nul ? 1 : 0;
	if (length) {
		input->data += length;
		input->size -= length;
	}
	return text;
}

char *format(const char *form, ...)
{
	va_list args;
	char *text;
	int length;

	va_start(args, form);
	length = vasprintf(&text, form, args);
	va_end(args);
	CHECK(length >= 0);
	return text;
}
