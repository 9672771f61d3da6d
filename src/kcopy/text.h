/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Names for people: a path may hold newlines, escape sequences and bytes that are no UTF-8; a message never may.
 */
#ifndef KCOPY_TEXT_H
#define KCOPY_TEXT_H

#include <stdbool.h>
#include <stddef.h>

/*
 * @name with control characters (also those of Latin-1, U+2028/9 and what reorders text), DEL and bytes that are no
 * valid UTF-8 as \xNN (\n and \t as such; a backslash as \\). To be freed by the caller; NULL if out of memory.
 */
char *text_printable(const char *name);

/* Is all of it valid UTF-8 (RFC 3629)? */
bool text_is_utf8(const char *text);

/* How many characters the first @bytes of @text are; a byte that is no valid UTF-8 counts as one. */
size_t text_count(const char *text, size_t bytes);

#endif
