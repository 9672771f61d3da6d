/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Sectors and sizes: text to numbers and back. Digits and a unit, nothing else: no sign, no blanks, no hex, no
 * exponent. strtoull() accepts all of those, so it is not used.
 */
#include "units.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define SECTOR_BYTES 512u
#define MAX_BYTES ((uint64_t)INT64_MAX) /* off_t */
#define MAX_DIGITS 19u			/* of MAX_BYTES */

static const struct unit {
	const char *name;
	uint64_t bytes;
} units[] = {
	{ "", SECTOR_BYTES }, { "s", SECTOR_BYTES }, { "B", 1 },
	{ "K", 1ull << 10 },  { "KiB", 1ull << 10 }, { "KB", 1000ull },
	{ "M", 1ull << 20 },  { "MiB", 1ull << 20 }, { "MB", 1000ull * 1000 },
	{ "G", 1ull << 30 },  { "GiB", 1ull << 30 }, { "GB", 1000ull * 1000 * 1000 },
	{ "T", 1ull << 40 },  { "TiB", 1ull << 40 }, { "TB", 1000ull * 1000 * 1000 * 1000 },
	{ "P", 1ull << 50 },  { "PiB", 1ull << 50 }, { "PB", 1000ull * 1000 * 1000 * 1000 * 1000 },
};

/* Not ctype.h's: these do not depend on the locale. */
static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool is_letter(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static const struct unit *find_unit(const char *name, size_t length)
{
	size_t i;

	for (i = 0; i < sizeof(units) / sizeof(units[0]); i++)
		if (strlen(units[i].name) == length && !memcmp(units[i].name, name, length))
			return &units[i];
	return NULL;
}

static int fail(struct units_error *error, size_t at, const char *reason, int ret)
{
	error->at = at;
	error->reason = reason;
	return ret;
}

/* As units_parse_sectors(), but in bytes; @plain: those of a number without a unit. */
static int parse(const char *text, uint64_t plain, uint64_t *bytes, size_t *length, struct units_error *error)
{
	const struct unit *unit;
	size_t digits = 0, letters = 0, i;
	uint64_t number = 0, per_unit;

	*length = 0;
	while (is_digit(text[digits]))
		digits++;
	if (!digits)
		return fail(error, 0, "a number is missing", -EINVAL);
	while (is_letter(text[digits + letters]))
		letters++;
	unit = find_unit(text + digits, letters);
	if (!unit)
		return fail(error, digits,
			    "unknown unit; units are s, B, K, M, G, T, P (1024) and KB, MB, GB, TB, PB (1000)",
			    -EINVAL);

	*length = digits + letters;
	if (digits > MAX_DIGITS)
		return fail(error, 0, "the number is too long", -ERANGE);
	for (i = 0; i < digits; i++)
		number = number * 10 + (uint64_t)(text[i] - '0');
	per_unit = letters ? unit->bytes : plain;
	if (number > MAX_BYTES / per_unit)
		return fail(error, 0, "2^63 bytes or more", -ERANGE);
	*bytes = number * per_unit;
	return 0;
}

int units_parse_sectors(const char *text, uint64_t *sectors, size_t *length, struct units_error *error)
{
	uint64_t bytes;
	int ret = parse(text, SECTOR_BYTES, &bytes, length, error);

	if (ret)
		return ret;
	if (bytes % SECTOR_BYTES)
		return fail(error, 0, "not a whole number of 512-byte sectors", -EINVAL);
	*sectors = bytes / SECTOR_BYTES;
	return 0;
}

int units_parse_bytes(const char *text, uint64_t *bytes, struct units_error *error)
{
	size_t length;
	int ret = parse(text, 1, bytes, &length, error);

	if (ret)
		return ret;
	if (text[length])
		return fail(error, length, "only digits and a unit can be here", -EINVAL);
	return 0;
}

/* bytes / 2^shift in units of 10^-decimals, rounded half up. */
static uint64_t scale(uint64_t bytes, unsigned int shift, unsigned int decimals)
{
	uint64_t whole = bytes >> shift, rest = bytes & ((UINT64_C(1) << shift) - 1);
	unsigned int power = decimals == 2 ? 100 : decimals == 1 ? 10 : 1;

	if (shift > 50) { /* or rest * power overflows */
		rest >>= shift - 50;
		shift = 50;
	}
	return whole * power + ((rest * power + (UINT64_C(1) << (shift - 1))) >> shift);
}

const char *units_format_bytes(uint64_t bytes, char buffer[UNITS_SIZE_CHARS])
{
	static const char letters[] = "KMGTPE";
	unsigned int i = 0, shift, decimals;
	uint64_t value;

	if (bytes < 1024) {
		snprintf(buffer, UNITS_SIZE_CHARS, "%" PRIu64 " B", bytes);
		return buffer;
	}
	while (i + 2 < sizeof(letters) && bytes >> (10 * (i + 2)))
		i++;
	if (i + 2 < sizeof(letters) && scale(bytes, 10 * (i + 1), 0) == 1024) /* 1023.9 KiB */
		i++;
	shift = 10 * (i + 1);
	decimals = scale(bytes, shift, 2) < 1000 ? 2 : scale(bytes, shift, 1) < 1000 ? 1 : 0;
	value = scale(bytes, shift, decimals);
	while (decimals && value % 10 == 0) {
		value /= 10;
		decimals--;
	}
	if (decimals == 2)
		snprintf(buffer, UNITS_SIZE_CHARS, "%" PRIu64 ".%02u %ciB", value / 100, (unsigned int)(value % 100),
			 letters[i]);
	else if (decimals == 1)
		snprintf(buffer, UNITS_SIZE_CHARS, "%" PRIu64 ".%u %ciB", value / 10, (unsigned int)(value % 10),
			 letters[i]);
	else
		snprintf(buffer, UNITS_SIZE_CHARS, "%" PRIu64 " %ciB", value, letters[i]);
	return buffer;
}
