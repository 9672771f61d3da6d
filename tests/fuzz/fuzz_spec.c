/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * spec_parse() and units, on any text in any world. An input is a byte that says what exists (see enum world_flags; a
 * digit or one of ':;<=>?' for those who write inputs by hand), then the text: "3usb-0:0".
 */
#include "spec.h"
#include "target.h"
#include "text.h"
#include "units.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_SECTORS ((uint64_t)INT64_MAX / 512)

enum world_flags {
	WHOLE_EXISTS = 1,
	PLACE_EXISTS = 2, /* what is before the last ':' */
	OTHERS = 12,	  /* what else may exist: the ways out that a message offers */
	OTHERS_WITH_COLON = 4,
	OTHERS_SOME = 8,
	OTHERS_ALL = 12,
};

struct world {
	const char *text;
	char *place; /* owned; NULL without a ':' */
	uint8_t flags;
};

static void world_init(struct world *world, const char *text, uint8_t flags)
{
	const char *colon = strrchr(text, ':');

	*world = (struct world){ .text = text, .flags = flags };
	if (colon) {
		world->place = strndup(text, (size_t)(colon - text));
		CHECK(world->place);
	}
}

/* FNV-1a */
static uint32_t hash(const char *text, uint32_t seed)
{
	uint32_t value = 2166136261u ^ seed;

	for (; *text; text++)
		value = (value ^ (unsigned char)*text) * 16777619u;
	return value;
}

static bool does_exist(const char *place, void *context)
{
	const struct world *world = context;

	CHECK(*place);
	if (spec_is_tag(place) && !strchr(place, '=')[1])
		return false; /* in no world */
	if (strcmp(place, world->text) == 0)
		return world->flags & WHOLE_EXISTS;
	if (world->place && strcmp(place, world->place) == 0)
		return world->flags & PLACE_EXISTS;
	switch (world->flags & OTHERS) {
	case OTHERS_WITH_COLON:
		return place[strlen(place) - 1] == ':';
	case OTHERS_SOME:
		return hash(place, world->flags) & 1;
	case OTHERS_ALL:
		return true;
	default:
		return false;
	}
}

/* -- what is accepted ---------------------------------------------------------------------------- */

static void check_range(const struct spec *spec)
{
	CHECK(spec->has_start || (spec->start == 0 && !spec->has_count));
	CHECK(spec->start <= MAX_SECTORS);
	CHECK(!spec->has_count || (spec->count > 0 && spec->count <= MAX_SECTORS - spec->start));
}

/* Nothing but the last ':' and what is after it was taken off, and never from the name of something that exists. */
static void check_place(const struct world *world, const char *text, const struct spec *spec)
{
	size_t length;

	CHECK(spec->place && *spec->place);
	length = strlen(spec->place);
	CHECK(strncmp(text, spec->place, length) == 0);
	CHECK(!spec_is_tag(spec->place) || strchr(spec->place, '=')[1]);
	if (!text[length]) {
		CHECK(!spec->has_start);
		return;
	}
	CHECK(text[length] == ':' && !strchr(text + length + 1, ':'));
	CHECK(spec->has_start == (text[length + 1] != '\0'));
	CHECK(!does_exist(text, (void *)(uintptr_t)world));
}

static bool is_same(const struct spec *a, const struct spec *b)
{
	return strcmp(a->place, b->place) == 0 && a->has_start == b->has_start && a->has_count == b->has_count &&
	       a->start == b->start && (!a->has_count || a->count == b->count);
}

/* Written out in full, it is read as the same, whether its place exists or not. */
static void check_round_trip(const struct spec *spec)
{
	char *count = spec->has_count ? format("+%" PRIu64 "s", spec->count) : format("%s", "");
	char *text = spec->has_start ? format("%s:%" PRIu64 "s%s", spec->place, spec->start, count)
				     : format("%s:", spec->place);

	for (uint8_t flags = 0; flags <= PLACE_EXISTS; flags += PLACE_EXISTS) {
		struct world world;
		struct spec again;
		char *message;

		world_init(&world, text, flags);
		CHECK(spec_parse(text, does_exist, &world, &again, &message) == 0);
		CHECK(!message);
		CHECK(is_same(spec, &again));
		spec_free(&again);
		free(world.place);
	}
	free(count);
	free(text);
}

/* -- what is refused ----------------------------------------------------------------------------- */

/* The text after @before in @message, as far as the next quote; to be freed. NULL: @before is not there. */
static char *quoted(const char *message, const char *before)
{
	const char *start = strstr(message, before);
	char *text;

	if (!start)
		return NULL;
	start += strlen(before);
	text = strndup(start, strcspn(start, "'"));
	CHECK(text);
	return text;
}

static void check_ways_lead(struct world *world, const char *first, const char *second)
{
	struct world other;
	struct spec spec, range;
	char *message;

	CHECK(spec_parse(first, does_exist, world, &spec, &message) == 0);
	CHECK(strcmp(spec.place, world->text) == 0 && spec.start == 0 && !spec.has_count);
	spec_free(&spec);

	/* What the text would be if it were not for the file of that name. */
	world_init(&other, world->text, PLACE_EXISTS);
	CHECK(spec_parse(world->text, does_exist, &other, &range, &message) == 0);
	CHECK(spec_parse(second, does_exist, world, &spec, &message) == 0);
	range.has_start = spec.has_start; /* 'x:0s' is as good as 'x' */
	CHECK(is_same(&spec, &range));
	spec_free(&spec);
	spec_free(&range);
	free(other.place);
}

/* Both ways out of an ambiguity lead where the message says. Only where its quotes cannot be mistaken. */
static void check_ways_out(struct world *world, const char *message)
{
	char *printable = text_printable(world->text);
	bool is_clear = strcmp(printable, world->text) == 0 && !strchr(world->text, '\'');
	char *before, *first, *second;

	free(printable);
	if (!is_clear || !world->place)
		return;
	before = format("'%s' is ambiguous, since '%s' exists too: write '", world->text, world->place);
	first = quoted(message, before);
	second = quoted(message, "' for the first, '");
	CHECK(!first == !second);
	if (first)
		check_ways_lead(world, first, second);
	free(before);
	free(first);
	free(second);
}

/* -- units --------------------------------------------------------------------------------------- */

/* 1024^n or 1000^n by the letters of a unit that is known to be one. */
static uint64_t unit_bytes(const char *letters, size_t length)
{
	static const char prefixes[] = "KMGTP";
	uint64_t bytes = 1;
	size_t power;

	if (length == 0 || letters[0] == 's')
		return 512;
	if (letters[0] == 'B')
		return 1;
	CHECK(strchr(prefixes, letters[0]));
	for (power = (size_t)(strchr(prefixes, letters[0]) - prefixes) + 1; power; power--)
		bytes *= length == 2 ? 1000 : 1024;
	return bytes;
}

static void check_number(const char *text)
{
	struct units_error error = { .reason = NULL };
	size_t length = SIZE_MAX, digits = strspn(text, "0123456789");
	uint64_t sectors = 0, bytes = 0;
	bool is_possible;
	int ret = units_parse_sectors(text, &sectors, &length, &error);

	CHECK(length <= strlen(text));
	if (ret) {
		CHECK(ret == -EINVAL || ret == -ERANGE);
		CHECK(error.reason && error.at <= strlen(text));
		check_message(error.reason);
	}
	if (!length) {
		CHECK(ret == -EINVAL);
		return;
	}
	CHECK(digits > 0 && length >= digits && length <= digits + 3);
	is_possible =
		digits <= 19 &&
		!__builtin_mul_overflow(strtoull(text, NULL, 10), unit_bytes(text + digits, length - digits), &bytes) &&
		bytes <= INT64_MAX && bytes % 512 == 0;
	CHECK(is_possible == (ret == 0));
	CHECK(ret || sectors == bytes / 512);
}

/* Three digits are right, and the unit is the largest that leaves something before the point. */
static void check_format(uint64_t bytes)
{
	static const char letters[] = "BKMGTPE";
	char buffer[UNITS_SIZE_CHARS], unit;
	long double value, error;
	int used = 0;

	CHECK(units_format_bytes(bytes, buffer) == buffer);
	check_message(buffer);
	CHECK(strlen(buffer) < UNITS_SIZE_CHARS);
	CHECK(sscanf(buffer, "%Lf %c%n", &value, &unit, &used) == 2 && strchr(letters, unit));
	CHECK(strcmp(buffer + used, unit == 'B' ? "" : "iB") == 0);
	CHECK(unit == 'B' || value >= 1);
	CHECK(value < 1024);
	for (const char *letter = letters; *letter != unit; letter++)
		value *= 1024;
	error = value > bytes ? value - bytes : bytes - value;
	CHECK(error <= (unit == 'B' ? 0 : 0.0051L * bytes));
}

/* ------------------------------------------------------------------------------------------------ */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input input = { .data = data, .size = size }, number = input;
	uint8_t flags = input_byte(&input);
	char *text = input_text(&input), *message = NULL;
	struct world world;
	struct spec spec;
	int ret;

	world_init(&world, text, flags);
	ret = spec_parse(text, does_exist, &world, &spec, &message);
	CHECK(ret == 0 || ret == -EINVAL);
	if (ret == 0) {
		CHECK(!message);
		check_place(&world, text, &spec);
		check_range(&spec);
		check_round_trip(&spec);
	} else {
		CHECK(!spec.place);
		check_message(message);
		check_mark(text, message, "'", "'");
		check_ways_out(&world, message);
	}
	for (const char *s = text; *s; s++)
		if (s == text || s[-1] == ':' || s[-1] == '+')
			check_number(s);
	CHECK(text_is_utf8(text) == is_utf8(text));
	/* Numbers of all magnitudes. */
	check_format(input_number(&number) >> (flags >> 2));
	if (ret == 0)
		check_format(spec.start * 512);
	spec_free(&spec);
	free(message);
	free(world.place);
	free(text);
	return 0;
}
