/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Sectors and sizes: text to numbers and back, with every overflow checked. No system calls, no state.
 */
#ifndef KCOPY_UNITS_H
#define KCOPY_UNITS_H

#include <stddef.h>
#include <stdint.h>

/* What is wrong with a number, and where: an offset into the text, for a mark under it. */
struct units_error {
	size_t at;
	const char *reason; /* static */
};

/*
 * The longest number with a unit at the start of @text, in sectors of 512 bytes: a plain number counts sectors; with a
 * unit it is a size ('s' sectors, 'B' bytes, K KiB M MiB G GiB T TiB P PiB = 1024^n, KB MB GB TB PB = 1000^n). @length:
 * characters used. -EINVAL (no number, unknown unit, not whole sectors) or -ERANGE (2^63 bytes or more, or more than 19
 * digits), with @error filled; then @length is 0 if there is no number with a unit at all, and its length if only its
 * value is wrong.
 */
int units_parse_sectors(const char *text, uint64_t *sectors, size_t *length, struct units_error *error);

/*
 * All of @text, in bytes: a plain number counts bytes, and with a unit it is a size as above. -EINVAL or -ERANGE, with @error
 * filled.
 */
int units_parse_bytes(const char *text, uint64_t *bytes, struct units_error *error);

/* "1.5 GiB", "512 B": for people; three significant digits. Returns @buffer. */
#define UNITS_SIZE_CHARS 32
const char *units_format_bytes(uint64_t bytes, char buffer[UNITS_SIZE_CHARS]);

#endif
