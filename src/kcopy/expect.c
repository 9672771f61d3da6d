/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "expect.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "kcopyd.h"
#include "text.h"
#include "units.h"

static const struct key {
	const char *name;
	const char *word; /* for messages */
} keys[] = {
	[EXPECT_SERIAL] = { "serial", "serial" },
	[EXPECT_WWN] = { "wwn", "WWN" },
	[EXPECT_MODEL] = { "model", "model" },
	[EXPECT_SIZE] = { "size", "size" },
};

#define NUM_KEYS (sizeof(keys) / sizeof(keys[0]))

static char *format(const char *form, ...) __attribute__((format(printf, 1, 2)));

/* To be freed by the caller; NULL if out of memory. */
static char *format(const char *form, ...)
{
	va_list args;
	char *text;

	va_start(args, form);
	if (vasprintf(&text, form, args) < 0)
		text = NULL;
	va_end(args);
	return text;
}

/* -- parsing ------------------------------------------------------------------------------------- */

#define USAGE "write N:KEY=VALUE; N is 0 for the source, 1 for destination 1; KEY is serial, wwn, model or size"
#define SIZE_USAGE "write size=2048 for sectors of 512 bytes, or a unit, as in size=1M or size=1048576B"

/* @at: an offset into @text, with nothing but ASCII before it. */
static int refuse(const char *text, size_t at, const char *reason, const char *usage, char **message)
{
	char *whole = text_printable(text), *rest = text_printable(text + at);

	if (whole && rest && *rest)
		*message =
			format("--expect=%s: wrong at character %zu, '%s': %s; %s", whole, at + 1, rest, reason, usage);
	else if (whole && rest)
		*message = format("--expect=%s: wrong at its end: %s; %s", whole, reason, usage);
	free(whole);
	free(rest);
	return *message ? -EINVAL : -ENOMEM;
}

/* The operand's number, and where it ends. */
static size_t parse_number(const char *text, unsigned int *number)
{
	size_t digits;

	*number = 0;
	for (digits = 0; text[digits] >= '0' && text[digits] <= '9'; digits++)
		if (*number <= KCOPYD_MAX_DESTS)
			*number = *number * 10 + (unsigned int)(text[digits] - '0');
	return digits;
}

static size_t find_key(const char *text, size_t length)
{
	size_t i;

	for (i = 0; i < NUM_KEYS; i++)
		if (strlen(keys[i].name) == length && memcmp(keys[i].name, text, length) == 0)
			break;
	return i;
}

/* @at: where the value begins. */
static int parse_size(const char *text, size_t at, uint64_t *sectors, char **message)
{
	struct units_error error;
	size_t length;

	if (units_parse_sectors(text + at, sectors, &length, &error) < 0)
		return refuse(text, at + error.at, error.reason, SIZE_USAGE, message);
	if (text[at + length])
		return refuse(text, at + length, "this does not belong to a size", SIZE_USAGE, message);
	return 0;
}

int expect_parse(const char *text, struct expect *expect, char **message)
{
	size_t at, length, key;
	int ret;

	*expect = (struct expect){ .value = NULL };
	*message = NULL;
	at = parse_number(text, &expect->operand);
	if (at == 0)
		return refuse(text, 0, "the operand's number is missing", USAGE, message);
	if (expect->operand > KCOPYD_MAX_DESTS)
		return refuse(text, 0, "there are at most 32 destinations", USAGE, message);
	if (text[at] != ':')
		return refuse(text, at, "a ':' is missing after the operand's number", USAGE, message);
	at++;
	length = strcspn(text + at, "=");
	key = find_key(text + at, length);
	if (key == NUM_KEYS)
		return refuse(text, at, length ? "unknown key" : "the key is missing", USAGE, message);
	expect->key = (enum expect_key)key;
	at += length;
	if (!text[at])
		return refuse(text, at, "the '=' and the value are missing", USAGE, message);
	at++;
	if (!text[at])
		return refuse(text, at, "the value is missing", expect->key == EXPECT_SIZE ? SIZE_USAGE : USAGE,
			      message);
	if (expect->key == EXPECT_SIZE) {
		ret = parse_size(text, at, &expect->sectors, message);
		if (ret)
			return ret;
	}
	expect->value = strdup(text + at);
	return expect->value ? 0 : -ENOMEM;
}

const char *expect_key_name(enum expect_key key)
{
	return keys[key].name;
}

void expect_free(struct expect *expect)
{
	free(expect->value);
	*expect = (struct expect){ .value = NULL };
}

/* -- comparing ----------------------------------------------------------------------------------- */

/* A WWN's digits and, before them, what kind of number it is: "naa", "eui" and so on; length 0 if that is not said. */
struct wwn {
	const char *kind;
	size_t kind_length;
	const char *digits;
};

/* udev's links have "wwn-" in front; its 0x is sysfs's "naa.". */
static struct wwn split_wwn(const char *text)
{
	static const char *const kinds[] = { "naa.", "eui.", "uuid.", "nvme.", "t10." };

	if (strncasecmp(text, "wwn-", 4) == 0)
		text += 4;
	if (strncasecmp(text, "0x", 2) == 0)
		return (struct wwn){ "naa", 3, text + 2 };
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		size_t length = strlen(kinds[i]);

		if (strncasecmp(text, kinds[i], length) == 0)
			return (struct wwn){ kinds[i], length - 1, text + length };
	}
	return (struct wwn){ "", 0, text };
}

static bool is_same_wwn(const char *a, const char *b)
{
	struct wwn x = split_wwn(a), y = split_wwn(b);

	if (x.kind_length && y.kind_length &&
	    (x.kind_length != y.kind_length || memcmp(x.kind, y.kind, x.kind_length) != 0))
		return false;
	return *x.digits && strcasecmp(x.digits, y.digits) == 0;
}

static size_t count_blanks(const char *text)
{
	return strspn(text, " \t\n\v\f\r_");
}

/* udev's data base has Samsung_SSD_870 for the disk's own "Samsung SSD 870  ". */
static bool is_same_model(const char *a, const char *b)
{
	a += count_blanks(a);
	b += count_blanks(b);
	while (*a && *b) {
		size_t skip_a = count_blanks(a), skip_b = count_blanks(b);

		if (skip_a || skip_b) {
			a += skip_a;
			b += skip_b;
			if (*a && *b && (!skip_a || !skip_b))
				return false;
		} else if (*a++ != *b++) {
			return false;
		}
	}
	return !a[count_blanks(a)] && !b[count_blanks(b)];
}

static bool is_serial(const char *value, const struct disk *disk)
{
	return (disk->serial && strcmp(value, disk->serial) == 0) ||
	       (disk->serial_short && strcmp(value, disk->serial_short) == 0);
}

static bool is_as_expected(const struct expect *expect, const struct disk *disk, bool is_size_known, uint64_t bytes)
{
	switch (expect->key) {
	case EXPECT_SERIAL:
		return disk && is_serial(expect->value, disk);
	case EXPECT_WWN:
		return disk && disk->wwn && is_same_wwn(expect->value, disk->wwn);
	case EXPECT_MODEL:
		return disk && disk->model && is_same_model(expect->value, disk->model);
	case EXPECT_SIZE:
		return is_size_known && bytes % KCOPYD_SECTOR_BYTES == 0 &&
		       bytes / KCOPYD_SECTOR_BYTES == expect->sectors;
	}
	return false;
}

/* -- what it is instead -------------------------------------------------------------------------- */

static char *describe_size(const struct disk *disk, bool is_size_known, uint64_t bytes)
{
	if (!is_size_known)
		return strdup(disk ? "its size cannot be found out" : "it does not exist yet, so it has no size");
	if (bytes % KCOPYD_SECTOR_BYTES)
		return format("its size is %" PRIu64 "B, which is no whole number of sectors", bytes);
	return format("its size is %" PRIu64 " sectors (%" PRIu64 "B)", bytes / KCOPYD_SECTOR_BYTES, bytes);
}

/* @value and, if there is one, @other; the device's. */
static char *describe_text(const char *word, const char *value, const char *other)
{
	char *text, *other_text, *ret = NULL;

	if (!value && !other)
		return format("its %s cannot be found out", word);
	text = text_printable(value ? value : other);
	other_text = value && other ? text_printable(other) : NULL;
	if (text && other_text)
		ret = format("its %s is \"%s\", or \"%s\" for short", word, text, other_text);
	else if (text)
		ret = format("its %s is \"%s\"", word, text);
	free(text);
	free(other_text);
	return ret;
}

static char *describe(const struct expect *expect, const struct disk *disk, bool is_size_known, uint64_t bytes)
{
	const char *word = keys[expect->key].word;

	if (expect->key == EXPECT_SIZE)
		return describe_size(disk, is_size_known, bytes);
	if (!disk)
		return format("a regular file has no %s", word);
	if (expect->key == EXPECT_SERIAL)
		return describe_text(word, disk->serial, disk->serial_short);
	return describe_text(word, expect->key == EXPECT_WWN ? disk->wwn : disk->model, NULL);
}

bool expect_matches(const struct expect *expect, const struct disk *disk, bool is_size_known, uint64_t bytes,
		    char **message)
{
	char *value, *instead;

	*message = NULL;
	if (is_as_expected(expect, disk, is_size_known, bytes))
		return true;
	value = text_printable(expect->value);
	instead = describe(expect, disk, is_size_known, bytes);
	if (value && instead)
		*message = format("is not what --expect=%u:%s=%s says: %s", expect->operand, keys[expect->key].name,
				  value, instead);
	free(value);
	free(instead);
	return false;
}
