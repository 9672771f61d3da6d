/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Names for people. Whatever a name holds, what comes out is one line of valid UTF-8 that cannot move the
 * cursor, colour the terminal or reorder the message around it.
 */
#include "text.h"

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* The length of the valid UTF-8 character at @s (RFC 3629: no overlong forms, no surrogates), or 0. */
static size_t decode(const unsigned char *s, uint32_t *code)
{
	static const uint32_t least[] = { 0, 0, 0x80, 0x800, 0x10000 };
	size_t length, i;

	if (s[0] < 0x80) {
		*code = s[0];
		return 1;
	}
	length = s[0] >= 0xc0 && s[0] < 0xe0   ? 2
		 : s[0] >= 0xe0 && s[0] < 0xf0 ? 3
		 : s[0] >= 0xf0 && s[0] < 0xf8 ? 4
					       : 0;
	if (!length)
		return 0;
	*code = s[0] & (0x7fu >> length);
	for (i = 1; i < length; i++) { /* the final NUL ends it too */
		if ((s[i] & 0xc0) != 0x80)
			return 0;
		*code = *code << 6 | (s[i] & 0x3fu);
	}
	if (*code < least[length] || *code > 0x10ffff || (*code >= 0xd800 && *code <= 0xdfff))
		return 0;
	return length;
}

/* Control characters of ASCII and Latin-1 (0x9b starts an escape sequence), line breaks, and what reorders text. */
static bool is_harmless(uint32_t code)
{
	return code >= 0x20 && (code < 0x7f || code > 0x9f) && code != '\\' && code != 0x200e && code != 0x200f &&
	       (code < 0x2028 || code > 0x202e) && (code < 0x2066 || code > 0x2069);
}

static char *put_escape(char *out, unsigned char byte)
{
	static const char hex[] = "0123456789abcdef";

	*out++ = '\\';
	if (byte == '\n') {
		*out++ = 'n';
	} else if (byte == '\t') {
		*out++ = 't';
	} else if (byte == '\\') {
		*out++ = '\\';
	} else {
		*out++ = 'x';
		*out++ = hex[byte >> 4];
		*out++ = hex[byte & 15];
	}
	return out;
}

char *text_printable(const char *name)
{
	const unsigned char *in = (const unsigned char *)name;
	size_t length = strlen(name), i;
	char *text, *out;

	if (length > (SIZE_MAX - 1) / 4)
		return NULL;
	text = malloc(4 * length + 1);
	if (!text)
		return NULL;
	for (out = text; *in; in += length) {
		uint32_t code = 0;
		bool is_plain;

		length = decode(in, &code);
		is_plain = length && is_harmless(code);
		if (!length)
			length = 1;
		for (i = 0; i < length; i++) {
			if (is_plain)
				*out++ = (char)in[i];
			else
				out = put_escape(out, in[i]);
		}
	}
	*out = '\0';
	return text;
}

bool text_is_utf8(const char *text)
{
	const unsigned char *in = (const unsigned char *)text;
	uint32_t code;

	while (*in) {
		size_t length = decode(in, &code);

		if (!length)
			return false;
		in += length;
	}
	return true;
}

size_t text_count(const char *text, size_t bytes)
{
	size_t i, n = 0;
	uint32_t code;

	for (i = 0; i < bytes; n++) {
		size_t length = decode((const unsigned char *)text + i, &code);

		i += length ? length : 1;
	}
	return n;
}
