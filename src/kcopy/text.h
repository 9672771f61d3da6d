/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Names for people: a path may hold newlines, escape sequences and bytes that are no UTF-8; a message never may.
 */
#ifndef KCOPY_TEXT_H
#define KCOPY_TEXT_H

/*
 * @name with control characters (also those of Latin-1, U+2028/9 and what reorders text), DEL and bytes that are no
 * valid UTF-8 as \xNN (\n and \t as such; a backslash as \\). To be freed by the caller; NULL if out of memory.
 */
char *text_printable(const char *name);

#endif
