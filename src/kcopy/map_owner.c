/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which devices a map belongs to. A value is a text, made in one way only, so that what a file says is what this copy
 * would say if the texts are equal. Does no input or output but to the stream it is given.
 */
#include "map_owner.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "text.h"

#define PREFIX "# kcopy "

static const char *const sides[MAP_SIDES] = { "source", "destination" };

static const char *const keys[MAP_KEYS] = {
	[MAP_PATH] = "path", [MAP_SIZE] = "size",	    [MAP_SERIAL] = "serial",
	[MAP_WWN] = "wwn",   [MAP_PARTITION] = "partition", [MAP_REGION] = "region",
};

static int __attribute__((format(printf, 2, 3))) fail(char **message, const char *form, ...)
{
	va_list args;
	int length;

	va_start(args, form);
	length = vasprintf(message, form, args);
	va_end(args);
	if (length >= 0)
		return -EINVAL;
	*message = NULL;
	return -ENOMEM;
}

void map_header_free(struct map_header *header)
{
	unsigned int side, key;

	for (side = 0; side < MAP_SIDES; side++)
		for (key = 0; key < MAP_KEYS; key++)
			free(header->values[side][key].text);
	memset(header, 0, sizeof(*header));
}

/* -- what there is to say ------------------------------------------------------------------------ */

static int __attribute__((format(printf, 2, 3))) put(struct map_value *value, const char *form, ...)
{
	va_list args;
	int length;

	va_start(args, form);
	length = vasprintf(&value->text, form, args);
	va_end(args);
	if (length >= 0)
		return 0;
	value->text = NULL;
	return -ENOMEM;
}

static int describe_side(struct map_value *values, const struct map_side *side, sector_t count)
{
	int ret;

	assert(side->path && *side->path);
	ret = put(&values[MAP_PATH], "%s", side->path);
	if (!ret && side->bytes)
		ret = put(&values[MAP_SIZE], "%" PRIu64 " bytes", side->bytes);
	if (!ret && side->serial && *side->serial)
		ret = put(&values[MAP_SERIAL], "%s", side->serial);
	if (!ret && side->wwn && *side->wwn)
		ret = put(&values[MAP_WWN], "%s", side->wwn);
	if (!ret && side->partition)
		ret = put(&values[MAP_PARTITION], "%u", side->partition);
	if (!ret)
		ret = put(&values[MAP_REGION], "%" PRIu64 "+%" PRIu64 " sectors", side->sector, count);
	return ret;
}

int map_header_describe(struct map_header *header, const struct map_owner *owner, sector_t count)
{
	int ret;

	memset(header, 0, sizeof(*header));
	ret = describe_side(header->values[0], &owner->source, count);
	if (!ret)
		ret = describe_side(header->values[1], &owner->dest, count);
	if (ret)
		map_header_free(header);
	return ret;
}

int map_header_write(const struct map_header *header, FILE *stream)
{
	unsigned int side, key;
	char *text;

	for (side = 0; side < MAP_SIDES; side++) {
		for (key = 0; key < MAP_KEYS; key++) {
			if (!header->values[side][key].text)
				continue;
			text = text_printable(header->values[side][key].text);
			if (!text)
				return -ENOMEM;
			fprintf(stream, PREFIX "%s %s: %s\n", sides[side], keys[key], text);
			free(text);
		}
	}
	return 0;
}

/* -- what a file says ---------------------------------------------------------------------------- */

static int hex_digit(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The character that the escape sequence behind a backslash stands for, and its length; 0: it is none, or a NUL's. */
static char unescape(const char *in, size_t left, size_t *length)
{
	*length = 1;
	if (left >= 1 && *in == 'n')
		return '\n';
	if (left >= 1 && *in == 't')
		return '\t';
	if (left >= 1 && *in == '\\')
		return '\\';
	*length = 3;
	if (left >= 3 && *in == 'x' && hex_digit(in[1]) >= 0 && hex_digit(in[2]) >= 0)
		return (char)(hex_digit(in[1]) << 4 | hex_digit(in[2]));
	return '\0';
}

/* The reverse of text_printable(). */
static int read_value(struct map_value *value, const char *in, size_t left, char **message)
{
	size_t length;
	char *out;

	if (!left)
		return fail(message, "there is nothing after the colon");
	value->text = out = malloc(left + 1);
	if (!out)
		return -ENOMEM;
	for (; left; in += length, left -= length) {
		length = 1;
		*out = *in;
		if (*in == '\\') {
			*out = unescape(in + 1, left - 1, &length);
			length++;
		} else if ((unsigned char)*in < 0x20) {
			*out = '\0';
		}
		if (!*out++)
			return fail(message, "a control character, or a backslash that stands for nothing");
	}
	*out = '\0';
	return 0;
}

/* Does @line begin with @word and then @after? Then it is moved behind them. */
static bool take(const char **line, size_t *length, const char *word, const char *after)
{
	size_t first = strlen(word), second = strlen(after);

	if (*length < first + second || memcmp(*line, word, first) != 0 || memcmp(*line + first, after, second) != 0)
		return false;
	*line += first + second;
	*length -= first + second;
	return true;
}

int map_header_read_line(struct map_header *header, const char *line, size_t length, size_t number, char **message)
{
	struct map_value *value;
	unsigned int side = 0, key = 0;

	if (!take(&line, &length, PREFIX, ""))
		return 0;
	while (side < MAP_SIDES && !take(&line, &length, sides[side], " "))
		side++;
	while (side < MAP_SIDES && key < MAP_KEYS && !take(&line, &length, keys[key], ": "))
		key++;
	if (side == MAP_SIDES || key == MAP_KEYS)
		return fail(message, "a line '" PREFIX "...' that this version of kcopy does not know");
	value = &header->values[side][key];
	if (value->text)
		return fail(message, "the %s's %s again; line %zu has it already", sides[side], keys[key], value->line);
	value->line = number;
	return read_value(value, line, length, message);
}

/* -- comparing ----------------------------------------------------------------------------------- */

static int differ(const struct map_value *file, const struct map_value *own, unsigned int side, unsigned int key,
		  char **message)
{
	char *there = text_printable(file->text ? file->text : ""), *here = text_printable(own->text ? own->text : "");
	int ret = -ENOMEM;

	if (there && here && !file->text)
		ret = fail(message, "belongs to another copy: it does not say the %s's %s, which is '%s' here",
			   sides[side], keys[key], here);
	else if (there && here)
		ret = fail(message, "line %zu: belongs to another copy: the %s's %s is '%s' there, and %s%s%s here",
			   file->line, sides[side], keys[key], there, own->text ? "'" : "not known", here,
			   own->text ? "'" : "");
	free(there);
	free(here);
	return ret;
}

static bool is_equal(const struct map_value *a, const struct map_value *b)
{
	return a->text && b->text ? strcmp(a->text, b->text) == 0 : !a->text && !b->text;
}

static int compare_side(const struct map_value *file, const struct map_value *own, unsigned int side, char **message)
{
	bool is_named = false, must_equal[MAP_KEYS] = { [MAP_SIZE] = true, [MAP_REGION] = true };
	unsigned int key;

	for (key = MAP_SERIAL; key <= MAP_WWN; key++) {
		must_equal[key] = file[key].text && own[key].text;
		is_named = is_named || must_equal[key];
	}
	must_equal[MAP_PATH] = !is_named;
	must_equal[MAP_PARTITION] = is_named;
	for (key = 0; key < MAP_KEYS; key++)
		if (must_equal[key] && !is_equal(&file[key], &own[key]))
			return differ(&file[key], &own[key], side, key, message);
	return 0;
}

int map_header_compare(const struct map_header *file, const struct map_header *own, char **message)
{
	static const enum map_key needed[] = { MAP_PATH, MAP_REGION };
	unsigned int side, i;
	int ret = 0;

	for (side = 0; side < MAP_SIDES; side++)
		for (i = 0; i < sizeof(needed) / sizeof(needed[0]); i++)
			if (!file->values[side][needed[i]].text)
				return fail(message,
					    "does not say which devices it belongs to: there is no line '" PREFIX
					    "%s %s: ...' (ddrescue leaves them out)",
					    sides[side], keys[needed[i]]);
	for (side = 0; side < MAP_SIDES && !ret; side++)
		ret = compare_side(file->values[side], own->values[side], side, message);
	return ret;
}
