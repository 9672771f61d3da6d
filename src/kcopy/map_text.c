/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A resume map as the text of GNU ddrescue's mapfile, and back. Takes what ddrescue and ddrescuelog write, but nothing
 * that they would only tolerate: what is odd has been damaged, and a map that is wrong is worse than none. No system
 * calls.
 */
#include "map.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "map_owner.h"
#include "text.h"

#define MAX_LINE ((size_t)64 << 10) /* bytes; a path that is all escape sequences takes 16 KiB */
#define MAX_QUOTED ((size_t)40)	    /* bytes of a file in a message */
#define MAX_WORDS 3u		    /* of a line that is no comment */

/* Where the region ends on the source, which may end within its last sector. Bytes. */
static uint64_t region_end(const struct map *map, const struct map_owner *owner)
{
	uint64_t end = (map_sector(map) + map_sectors(map)) * KCOPYD_SECTOR_BYTES;

	assert(owner->source.sector == map_sector(map));
	assert(owner->source.bytes > end - KCOPYD_SECTOR_BYTES);
	return end < owner->source.bytes ? end : owner->source.bytes;
}

/* -- writing ------------------------------------------------------------------------------------- */

/* The character of the status at @sector, and how many sectors have the same one. */
static char block_at(const struct map *map, sector_t sector, sector_t *count)
{
	static const char letters[] = {
		[MAP_MISSING] = '?', [MAP_BAD] = '-', [MAP_WRITTEN] = '?', [MAP_FLUSHING] = '?', [MAP_FLUSHED] = '+'
	};
	sector_t end = map_sector(map) + map_sectors(map), more;
	char letter = letters[map_get(map, sector, count)];

	while (sector + *count < end && letters[map_get(map, sector + *count, &more)] == letter)
		*count += more;
	return letter;
}

/* What ddrescue does next, and where: from the first block of it on. */
static void write_status_line(const struct map *map, uint64_t end, FILE *stream)
{
	char wanted = map_count(map, MAP_BAD) ? '-' : '+';
	sector_t last = map_sector(map) + map_sectors(map), sector = map_sector(map), count;

	if (map_count(map, MAP_MISSING) || map_count(map, MAP_WRITTEN) || map_count(map, MAP_FLUSHING))
		wanted = '?';
	while (sector < last && (wanted == '+' || block_at(map, sector, &count) != wanted))
		sector = wanted == '+' ? last : sector + count;
	fprintf(stream, "# current_pos  current_status  current_pass\n0x%08" PRIX64 "     %c               1\n",
		sector < last ? sector * KCOPYD_SECTOR_BYTES : end, wanted);
}

static void write_blocks(const struct map *map, uint64_t end, FILE *stream)
{
	sector_t last = map_sector(map) + map_sectors(map), sector = map_sector(map), count;
	uint64_t pos, next;
	char letter;

	fprintf(stream, "#      pos        size  status\n");
	for (; sector < last; sector += count) {
		letter = block_at(map, sector, &count);
		pos = sector * KCOPYD_SECTOR_BYTES;
		next = sector + count == last ? end : pos + count * KCOPYD_SECTOR_BYTES;
		fprintf(stream, "0x%08" PRIX64 "  0x%08" PRIX64 "  %c\n", pos, next - pos, letter);
	}
}

char *map_format(const struct map *map, const struct map_owner *owner, size_t *bytes)
{
	uint64_t end = region_end(map, owner);
	struct map_header header;
	char *text = NULL;
	FILE *stream;
	int ret;

	if (map_header_describe(&header, owner, map_sectors(map)))
		return NULL;
	stream = open_memstream(&text, bytes);
	ret = stream ? 0 : -ENOMEM;
	if (!ret) {
		fprintf(stream, "# Mapfile. Created by kcopy version " PACKAGE_VERSION "\n");
		ret = map_header_write(&header, stream);
		write_status_line(map, end, stream);
		write_blocks(map, end, stream);
		if (ferror(stream))
			ret = -ENOMEM;
		if (fclose(stream))
			ret = -ENOMEM;
	}
	map_header_free(&header);
	if (ret) {
		free(text);
		return NULL;
	}
	return text;
}

/* -- reading ------------------------------------------------------------------------------------- */

struct parser {
	struct map *map;	  /* borrowed; filled block by block */
	uint64_t begin, end;	  /* the region, bytes */
	uint64_t source_bytes;	  /* the source's size */
	struct map_header header; /* what the file says; to be freed */
	bool has_status, has_block;
	uint64_t next;	/* where the blocks so far end, bytes */
	size_t line;	/* its number, from 1 */
	char *misfit;	/* owned; why it is no map of this region: said only if it is one of these devices */
	char **message; /* the caller's */
};

struct word {
	const char *text; /* not NUL-terminated */
	size_t length;
};

static int __attribute__((format(printf, 3, 4)))
fail(const struct parser *parser, char **message, const char *form, ...)
{
	va_list args;
	char *reason;
	int length;

	va_start(args, form);
	length = vasprintf(&reason, form, args);
	va_end(args);
	if (length >= 0) {
		length = asprintf(message, "line %zu: %s", parser->line, reason);
		free(reason);
	}
	if (length >= 0)
		return -EINVAL;
	*message = NULL;
	return -ENOMEM;
}

/* fail() that quotes @word in front of @reason. */
static int fail_at(const struct parser *parser, struct word word, const char *reason)
{
	char copy[MAX_QUOTED + 1] = "", *quoted;
	int ret = -ENOMEM;

	memcpy(copy, word.text, word.length < MAX_QUOTED ? word.length : MAX_QUOTED);
	quoted = text_printable(copy);
	if (quoted)
		ret = fail(parser, parser->message, "'%s%s' %s", quoted, word.length > MAX_QUOTED ? "..." : "", reason);
	free(quoted);
	return ret;
}

/* As C's isspace(), whatever the locale. */
static bool is_blank(char c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

/* The words before a comment, which begins with a '#' where a word could: at most MAX_WORDS + 1 are looked at. */
static unsigned int split(const char *line, size_t length, struct word words[MAX_WORDS + 1])
{
	const char *end = line + length;
	unsigned int num = 0;

	while (num <= MAX_WORDS) {
		while (line < end && is_blank(*line))
			line++;
		if (line == end || *line == '#')
			break;
		words[num].text = line;
		while (line < end && !is_blank(*line))
			line++;
		words[num].length = (size_t)(line - words[num].text);
		num++;
	}
	return num;
}

/* Decimal, 0 octal, 0x hexadecimal; less than 2^63, as ddrescue's numbers. */
static int parse_number(const struct parser *parser, struct word word, uint64_t *number)
{
	static const char digits[] = "0123456789abcdef";
	unsigned int base = 10;
	size_t i = 0;

	*number = 0;
	if (word.length > 2 && word.text[0] == '0' && (word.text[1] == 'x' || word.text[1] == 'X')) {
		base = 16;
		i = 2;
	} else if (word.length > 1 && word.text[0] == '0') {
		base = 8;
		i = 1;
	}
	for (; i < word.length; i++) {
		char c = word.text[i];
		const char *digit = memchr(digits, c >= 'A' && c <= 'F' ? c - 'A' + 'a' : c, base);

		if (!digit)
			return fail_at(parser, word, "is no number");
		if (*number > (INT64_MAX - (uint64_t)(digit - digits)) / base)
			return fail_at(parser, word, "is 2^63 or more");
		*number = *number * base + (uint64_t)(digit - digits);
	}
	return 0;
}

static int parse_status(const struct parser *parser, struct word word, const char *known)
{
	if (word.length != 1 || !memchr(known, *word.text, strlen(known)))
		return fail_at(parser, word, "is no status that ddrescue knows");
	return 0;
}

/* Where ddrescue is, what it does, and in which pass (always decimal; none before 1.22): only to be valid. */
static int parse_status_line(const struct parser *parser, const struct word *words, unsigned int num)
{
	uint64_t pos;
	size_t i;
	int ret;

	if (num < 2)
		return fail_at(parser, words[0], "alone: a position and a status should be here");
	ret = parse_number(parser, words[0], &pos);
	if (!ret)
		ret = parse_status(parser, words[1], "?*/-FG+");
	if (ret || num == 2)
		return ret;
	for (i = 0; i < words[2].length; i++)
		if (words[2].text[i] < '0' || words[2].text[i] > '9' || words[2].text[0] == '0' || i > 8)
			return fail_at(parser, words[2], "is no number of a pass");
	return 0;
}

/* The first reason is kept. */
static int note_misfit(struct parser *parser, const char *reason, uint64_t pos)
{
	int ret = 0;

	if (!parser->misfit)
		ret = fail(parser, &parser->misfit, "%s: 0x%" PRIX64 "; the region is 0x%" PRIX64 " to 0x%" PRIX64,
			   reason, pos, parser->begin, parser->end);
	return ret == -ENOMEM ? ret : 0;
}

/* A block that is as it should be: what of it is in the region goes into the map. */
static int take_block(struct parser *parser, uint64_t pos, uint64_t end, char letter)
{
	enum map_status status = letter == '+' ? MAP_FLUSHED : letter == '-' ? MAP_BAD : MAP_MISSING;
	uint64_t from = pos > parser->begin ? pos : parser->begin, to = end < parser->end ? end : parser->end;
	sector_t sector, last;

	/* ddrescue extends a map to all of the source, or to the end of the world. */
	if (letter != '?' && (pos < parser->begin || end > parser->end))
		return note_misfit(parser, "belongs to another region: there is more than '?' outside",
				   pos < parser->begin ? pos : end);
	if (end % KCOPYD_SECTOR_BYTES && end != parser->source_bytes && end != INT64_MAX)
		return note_misfit(parser, "no multiple of 512, nor the source's end", end);
	if (from >= to || parser->misfit)
		return 0;
	sector = from / KCOPYD_SECTOR_BYTES;
	last = (to + KCOPYD_SECTOR_BYTES - 1) / KCOPYD_SECTOR_BYTES;
	return map_set(parser->map, sector, last - sector, status);
}

static int parse_block(struct parser *parser, const struct word *words, unsigned int num)
{
	uint64_t pos, size;
	int ret;

	if (num < 3)
		return fail_at(parser, words[num - 1], "ends the line: a position, a size and a status should be here");
	ret = parse_number(parser, words[0], &pos);
	if (!ret)
		ret = parse_number(parser, words[1], &size);
	if (!ret)
		ret = parse_status(parser, words[2], "?*/-+");
	if (ret)
		return ret;
	if (size == 0)
		return fail_at(parser, words[1], "is a size of nothing");
	if (size > INT64_MAX - pos)
		return fail_at(parser, words[1], "as a size ends after 2^63 bytes");
	if (parser->has_block && pos != parser->next)
		return fail(parser, parser->message, "%s the block before it, which ends at 0x%" PRIX64,
			    pos < parser->next ? "overlaps" : "leaves a gap to", parser->next);
	if (!parser->has_block && pos > parser->begin)
		ret = note_misfit(parser, "belongs to another region, which begins later", pos);
	else if (!parser->has_block && pos % KCOPYD_SECTOR_BYTES)
		ret = note_misfit(parser, "no multiple of 512", pos);
	parser->has_block = true;
	parser->next = pos + size;
	return ret ? ret : take_block(parser, pos, parser->next, *words[2].text);
}

static int parse_line(struct parser *parser, const char *line, size_t length)
{
	struct word words[MAX_WORDS + 1];
	char *reason = NULL;
	unsigned int num;
	int ret;

	if (length > MAX_LINE)
		return fail(parser, parser->message, "longer than %zu bytes", MAX_LINE);
	if (memchr(line, '\0', length))
		return fail(parser, parser->message, "a NUL byte");
	ret = map_header_read_line(&parser->header, line, length, parser->line, &reason);
	if (ret == -EINVAL)
		ret = fail(parser, parser->message, "%s", reason);
	free(reason);
	if (ret)
		return ret;
	num = split(line, length, words);
	if (num == 0)
		return 0;
	if (num > MAX_WORDS)
		return fail_at(parser, words[MAX_WORDS], "is too much");
	if (parser->has_status)
		return parse_block(parser, words, num);
	parser->has_status = true;
	return parse_status_line(parser, words, num);
}

static int parse_lines(struct parser *parser, const char *text, size_t bytes)
{
	const char *end = text + bytes, *newline;
	int ret = 0;

	if (!bytes) {
		*parser->message = strdup("is empty");
		return *parser->message ? -EINVAL : -ENOMEM;
	}
	for (; text < end && !ret; text = newline + 1) {
		newline = memchr(text, '\n', (size_t)(end - text));
		if (!newline)
			newline = end;
		parser->line++;
		ret = parse_line(parser, text, (size_t)(newline - text));
		if (newline == end)
			break;
	}
	if (!ret && !parser->has_status)
		ret = fail(parser, parser->message, "ends without a status line");
	else if (!ret && !parser->has_block)
		ret = fail(parser, parser->message, "ends without a block");
	return ret;
}

/* Whether it is a map of this copy, now that it is one. */
static int check_fit(struct parser *parser, const struct map_owner *owner)
{
	struct map_header own;
	int ret = map_header_describe(&own, owner, map_sectors(parser->map));

	if (ret)
		return ret;
	ret = map_header_compare(&parser->header, &own, parser->message);
	map_header_free(&own);
	if (!ret && parser->next < parser->end)
		ret = note_misfit(parser, "belongs to another region, or was cut off: ends too early", parser->next);
	if (ret || !parser->misfit)
		return ret;
	*parser->message = parser->misfit;
	parser->misfit = NULL;
	return -EINVAL;
}

int map_parse(struct map *map, const struct map_owner *owner, const char *text, size_t bytes, char **message)
{
	struct parser parser = {
		.begin = map_sector(map) * KCOPYD_SECTOR_BYTES,
		.end = region_end(map, owner),
		.source_bytes = owner->source.bytes,
		.message = message,
	};
	int ret;

	*message = NULL;
	ret = map_create(map_sector(map), map_sectors(map), &parser.map);
	if (ret)
		return ret;
	ret = parse_lines(&parser, text, bytes);
	if (!ret)
		ret = check_fit(&parser, owner);
	if (!ret)
		map_swap(map, parser.map);
	map_destroy(parser.map);
	map_header_free(&parser.header);
	free(parser.misfit);
	return ret;
}
