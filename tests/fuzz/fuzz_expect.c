/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * expect_parse() and expect_matches(), on any text and any disk. An input is a byte of flags (see enum flags; '0' to '?'
 * for those who write inputs by hand), then, each with a NUL behind it, the text and the disk's serial, short serial, WWN
 * and model, then eight bytes of size.
 */
#include "expect.h"
#include "kcopyd.h"
#include "target.h"
#include "text.h"
#include "units.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum flags {
	IS_FILE = 1,
	HAS_SIZE = 2,
	SIZE_FITS = 4, /* the size is the expected one, whatever the input says ... */
	TEXT_FITS = 8, /* ... and so is the text that is asked for */
};

static const char *const keys[] = {
	[EXPECT_SERIAL] = "serial",
	[EXPECT_WWN] = "wwn",
	[EXPECT_MODEL] = "model",
	[EXPECT_SIZE] = "size",
};

/* -- parsing ------------------------------------------------------------------------------------- */

static bool parses_to_same(const char *text, const struct expect *expect)
{
	struct expect again;
	char *message;
	bool is_same;

	CHECK(expect_parse(text, &again, &message) == 0);
	CHECK(!message);
	is_same = again.operand == expect->operand && again.key == expect->key && again.sectors == expect->sectors;
	if (expect->key != EXPECT_SIZE)
		is_same = is_same && strcmp(again.value, expect->value) == 0;
	expect_free(&again);
	return is_same;
}

static void check_parsed(const char *text, const struct expect *expect)
{
	size_t digits = strspn(text, "0123456789");
	char *again;

	CHECK(digits > 0 && expect->operand <= KCOPYD_MAX_DESTS && expect->operand == strtoull(text, NULL, 10));
	CHECK(expect->key < sizeof(keys) / sizeof(keys[0]));
	CHECK(expect->value && *expect->value);
	CHECK(expect->sectors == 0 || expect->key == EXPECT_SIZE);
	again = format("%u:%s=%s", expect->operand, keys[expect->key], expect->value);
	CHECK(strcmp(text + digits, strchr(again, ':')) == 0);
	CHECK(parses_to_same(again, expect));
	free(again);
	if (expect->key == EXPECT_SIZE) {
		struct units_error error;
		uint64_t sectors;
		size_t length;

		CHECK(units_parse_sectors(expect->value, &sectors, &length, &error) == 0);
		CHECK(sectors == expect->sectors && !expect->value[length]);
		again = format("%u:size=%" PRIu64 "s", expect->operand, expect->sectors);
		CHECK(parses_to_same(again, expect));
		free(again);
	}
}

/* -- matching ------------------------------------------------------------------------------------ */

/* In small letters, without "wwn-", and with "naa." for 0x; to be freed. */
static char *canonical_wwn(const char *text)
{
	char *copy;

	text += strncasecmp(text, "wwn-", 4) == 0 ? 4 : 0;
	copy = strncasecmp(text, "0x", 2) == 0 ? format("naa.%s", text + 2) : format("%s", text);
	for (char *c = copy; *c; c++)
		*c = (char)tolower((unsigned char)*c);
	return copy;
}

/* What is before the number of a canonical WWN: its length. */
static size_t kind_length(const char *wwn)
{
	static const char *const kinds[] = { "naa.", "eui.", "uuid.", "nvme.", "t10." };

	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (strncmp(wwn, kinds[i], strlen(kinds[i])) == 0)
			return strlen(kinds[i]);
	return 0;
}

/* One that says what kind of number it is fits one that does not. */
static bool is_same_wwn(const char *a, const char *b)
{
	char *x = canonical_wwn(a), *y = canonical_wwn(b);
	size_t kind_x = kind_length(x), kind_y = kind_length(y);
	bool ret = kind_x && kind_y ? strcmp(x, y) == 0 : strcmp(x + kind_x, y + kind_y) == 0;

	ret = ret && x[kind_x];
	free(x);
	free(y);
	return ret;
}

/* Each run of blanks and underscores as one underscore, none at the ends; to be freed. */
static char *canonical_model(const char *text)
{
	static const char blanks[] = " \t\n\v\f\r_";
	char *copy = format("%s", text), *out = copy;

	while (*text) {
		size_t skip = strspn(text, blanks);

		text += skip;
		if (skip && *text && out > copy)
			*out++ = '_';
		if (*text)
			*out++ = *text++;
	}
	*out = '\0';
	return copy;
}

static bool is_same_model(const char *a, const char *b)
{
	char *x = canonical_model(a), *y = canonical_model(b);
	bool ret = strcmp(x, y) == 0;

	free(x);
	free(y);
	return ret;
}

static bool is_equal(const char *value, const char *text)
{
	return text && strcmp(value, text) == 0;
}

/* What --expect promises, said a second time. */
static bool should_match(const struct expect *expect, const struct disk *disk, bool has_size, uint64_t bytes)
{
	const char *value = expect->value;

	switch (expect->key) {
	case EXPECT_SERIAL:
		return disk && (is_equal(value, disk->serial) || is_equal(value, disk->serial_short));
	case EXPECT_WWN:
		return disk && disk->wwn && is_same_wwn(value, disk->wwn);
	case EXPECT_MODEL:
		return disk && disk->model && is_same_model(value, disk->model);
	case EXPECT_SIZE:
		return has_size && bytes == expect->sectors * 512;
	}
	return false;
}

static void check_says(const char *message, const char *text)
{
	char *printable = text_printable(text);

	CHECK(printable && strstr(message, printable));
	free(printable);
}

static void check_match(const struct expect *expect, const struct disk *disk, bool has_size, uint64_t bytes)
{
	char *message = NULL;
	bool is_match = expect_matches(expect, disk, has_size, bytes, &message);

	CHECK(is_match == should_match(expect, disk, has_size, bytes));
	CHECK(is_match == !message);
	if (is_match)
		return;
	check_message(message);
	check_says(message, expect->value);
	if (expect->key == EXPECT_SERIAL && disk && disk->serial)
		check_says(message, disk->serial);
	if (expect->key == EXPECT_WWN && disk && disk->wwn)
		check_says(message, disk->wwn);
	if (expect->key == EXPECT_MODEL && disk && disk->model)
		check_says(message, disk->model);
	free(message);
}

/* As disk.h promises it: without blanks at the ends, and NULL if it is not known. */
static char *disk_text(struct input *input)
{
	char *text = input_text(input), *start = text, *ret;
	size_t length;

	while (isspace((unsigned char)*start))
		start++;
	length = strlen(start);
	while (length && isspace((unsigned char)start[length - 1]))
		length--;
	ret = length ? strndup(start, length) : NULL;
	free(text);
	return ret;
}

static void replace(char **text, const char *value)
{
	free(*text);
	*text = format("%s", value);
}

static void check_matches(const struct expect *expect, uint8_t flags, struct input *input)
{
	struct disk disk = { .serial = disk_text(input),
			     .serial_short = disk_text(input),
			     .wwn = disk_text(input),
			     .model = disk_text(input) };
	uint64_t bytes = input_number(input);

	if (flags & SIZE_FITS)
		bytes = expect->sectors * 512;
	if ((flags & TEXT_FITS) && expect->key == EXPECT_SERIAL)
		replace(bytes & 1 ? &disk.serial : &disk.serial_short, expect->value);
	if ((flags & TEXT_FITS) && expect->key == EXPECT_WWN)
		replace(&disk.wwn, expect->value);
	if ((flags & TEXT_FITS) && expect->key == EXPECT_MODEL)
		replace(&disk.model, expect->value);
	check_match(expect, flags & IS_FILE ? NULL : &disk, flags & HAS_SIZE, bytes);
	free(disk.serial);
	free(disk.serial_short);
	free(disk.wwn);
	free(disk.model);
}

/* ------------------------------------------------------------------------------------------------ */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input input = { .data = data, .size = size };
	uint8_t flags = input_byte(&input);
	char *text = input_text(&input), *message = NULL;
	struct expect expect;
	int ret = expect_parse(text, &expect, &message);

	CHECK(ret == 0 || ret == -EINVAL);
	if (ret == 0) {
		CHECK(!message);
		check_parsed(text, &expect);
		check_matches(&expect, flags, &input);
		expect_free(&expect);
	} else {
		CHECK(!expect.value);
		check_message(message);
		check_mark(text, message, "--expect=", "");
	}
	free(message);
	free(text);
	return 0;
}
