/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * map_parse() on any text, map_format() on what came of it, and what ddrescue would have made of the same text. An
 * input is a byte of flags (see enum flags; '0' to '7' for those who write inputs by hand), then the text of a mapfile.
 */
#include "map.h"
#include "target.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum flags {
	OWNER = 3,	/* whose map it is to be */
	HAS_HEADER = 4, /* the lines that say so are there; if not, the text has to have them */
};

static const struct {
	struct map_owner owner;
	sector_t count;
} copies[] = {
	{ { .source = { .path = "/s", .bytes = 4096 }, .dest = { .path = "/d" } }, 8 },
	{ { .source = { .path = "/s\n", .serial = "S", .bytes = 1 << 20, .sector = 8 },
	    .dest = { .path = "/d", .wwn = "0xd", .partition = 2, .bytes = 8192 } },
	  16 },
	/* They end within their last sectors, and where a position cannot be greater. */
	{ { .source = { .path = "/s", .wwn = "0x5", .bytes = 4095 }, .dest = { .path = "/d", .sector = 1 } }, 8 },
	{ { .source = { .path = "/s", .bytes = INT64_MAX, .sector = MAP_MAX_SECTORS - 2 }, .dest = { .path = "/d" } },
	  2 },
};

static struct map *create(unsigned int copy)
{
	struct map *map;

	CHECK(map_create(copies[copy].owner.source.sector, copies[copy].count, &map) == 0);
	return map;
}

/* The header's lines, or nothing, and the text, in memory of exactly their size; to be freed. */
static char *make_text(unsigned int copy, bool has_header, const uint8_t *data, size_t size, size_t *bytes)
{
	char *header = NULL, *text;
	size_t length = 0;

	if (has_header) {
		struct map *map = create(copy);
		const char *end;

		header = map_format(map, &copies[copy].owner, &length);
		end = header ? strstr(header, "# current_pos") : NULL;
		CHECK(end);
		length -= end ? strlen(end) : 0; /* cppcheck does not know that CHECK() does not return */
		map_destroy(map);
	}
	*bytes = length + size;
	text = malloc(*bytes ? *bytes : 1);
	CHECK(text);
	if (header)
		memcpy(text, header, length);
	if (size)
		memcpy(text + length, data, size);
	free(header);
	return text;
}

/* -- what is in it ------------------------------------------------------------------------------- */

static void check_whole(const struct map *map, unsigned int copy)
{
	sector_t sector = map_sector(map), end = sector + map_sectors(map), count, counts[MAP_FLUSHED + 1] = { 0 };
	size_t runs = 0, i;

	CHECK(sector == copies[copy].owner.source.sector && map_sectors(map) == copies[copy].count);
	for (; sector < end; sector += count, runs++) {
		enum map_status status = map_get(map, sector, &count);

		CHECK(status == MAP_MISSING || status == MAP_BAD || status == MAP_FLUSHED);
		CHECK(count > 0 && count <= end - sector);
		counts[status] += count;
	}
	CHECK(runs == map_num_runs(map));
	for (i = 0; i <= MAP_FLUSHED; i++)
		CHECK(map_count(map, (enum map_status)i) == counts[i]);
}

static bool is_same(const struct map *a, const struct map *b)
{
	sector_t sector = map_sector(a), end = sector + map_sectors(a), count, count_b;

	for (; sector < end; sector += count)
		if (map_get(a, sector, &count) != map_get(b, sector, &count_b) || count != count_b)
			return false;
	return true;
}

static void check_round_trip(const struct map *map, unsigned int copy)
{
	const struct map_owner *owner = &copies[copy].owner;
	struct map *again = create(copy);
	char *text, *text_again, *message;
	size_t bytes, bytes_again;

	text = map_format(map, owner, &bytes);
	CHECK(text);
	CHECK(map_parse(again, owner, text, bytes, &message) == 0 && !message);
	CHECK(is_same(map, again));
	text_again = map_format(again, owner, &bytes_again);
	CHECK(text_again && bytes == bytes_again && memcmp(text, text_again, bytes) == 0);
	free(text);
	free(text_again);
	map_destroy(again);
}

/* -- as ddrescue sees it ------------------------------------------------------------------------- */

/* A line without its comment, which begins with a '#' at the line's beginning or after a blank; to be freed. */
static char *uncommented(const char *text, size_t length)
{
	char *line = format("%.*s", (int)length, text), *c;

	for (c = line; *c; c++)
		if (*c == '#' && (c == line || strchr(" \t\v\f\r", c[-1]))) {
			*c = '\0';
			break;
		}
	if (!line[strspn(line, " \t\v\f\r")])
		*line = '\0';
	return line;
}

/* The block's sectors are what it says, and nothing else: @begin is where its part of the region begins. */
static void check_block(const struct map *map, unsigned int copy, long long pos, long long size, char letter)
{
	uint64_t first = map_sector(map), end = first + map_sectors(map), begin, stop;
	sector_t sector, count;

	CHECK(pos >= 0 && size > 0 && strchr("?*/-+", letter));
	begin = (uint64_t)pos / 512;
	stop = ((uint64_t)pos + (uint64_t)size + 511) / 512;
	CHECK(letter == '?' || (pos % 512 == 0 && begin >= first && stop <= end));
	CHECK(letter == '?' || (uint64_t)pos + (uint64_t)size <= copies[copy].owner.source.bytes);
	begin = (uint64_t)pos % 512 ? begin + 1 : begin; /* only behind the source's end */
	for (sector = begin > first ? begin : first; sector < stop && sector < end; sector += count) {
		enum map_status status = map_get(map, sector, &count);

		CHECK(status == (letter == '+' ? MAP_FLUSHED : letter == '-' ? MAP_BAD : MAP_MISSING));
	}
}

/* ddrescue's parser is more lenient: what this one accepts, it must accept, as the same. */
static void check_as_ddrescue(const struct map *map, unsigned int copy, const char *text, size_t bytes)
{
	const char *end = text + bytes, *newline;
	bool has_status = false;
	long long pos, size, next = -1;
	char letter;

	for (; text < end; text = newline + 1) {
		char *line;

		newline = memchr(text, '\n', (size_t)(end - text));
		newline = newline ? newline : end;
		line = uncommented(text, (size_t)(newline - text));
		if (*line && !has_status) {
			CHECK(sscanf(line, "%lli %c", &pos, &letter) == 2 && pos >= 0 && strchr("?*/-FG+", letter));
			has_status = true;
		} else if (*line) {
			CHECK(sscanf(line, "%lli %lli %c", &pos, &size, &letter) == 3);
			CHECK(next < 0 || pos == next);
			check_block(map, copy, pos, size, letter);
			next = pos + size;
		}
		free(line);
	}
	CHECK(has_status && next > 0);
}

/* ------------------------------------------------------------------------------------------------ */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	unsigned int flags = size ? *data : 0, copy = flags & OWNER;
	struct map *map = create(copy);
	char *text, *message;
	size_t bytes;
	int ret;

	text = make_text(copy, flags & HAS_HEADER, data + (size ? 1 : 0), size ? size - 1 : 0, &bytes);
	ret = map_parse(map, &copies[copy].owner, text, bytes, &message);
	CHECK(ret == 0 || ret == -EINVAL);
	check_whole(map, copy);
	if (ret == 0) {
		CHECK(!message);
		check_as_ddrescue(map, copy, text, bytes);
		check_round_trip(map, copy);
	} else {
		CHECK(map_count(map, MAP_MISSING) == map_sectors(map));
		check_message(message);
	}
	free(message);
	free(text);
	map_destroy(map);
	return 0;
}
