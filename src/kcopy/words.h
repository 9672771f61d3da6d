/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A line to words, quoted as in a shell (POSIX, Shell Command Language, 2.2), of which nothing is expanded: what a shell
 * would expand or act on is refused unless it is quoted, as a guess would name the wrong disk. No system calls.
 */
#ifndef KCOPY_WORDS_H
#define KCOPY_WORDS_H

#include <stddef.h>

struct words {
	char **items; /* owned; they are in text; NULL behind the last */
	size_t num;
	char *text; /* owned */
};

/*
 * @line: without its newline. No words: an empty line, or a comment (a # where a word could begin). 0; -ENOMEM; -EINVAL:
 * @reason is why, static, and @at the place in the line, from 1. words_free() is due only after 0.
 */
int words_split(const char *line, struct words *words, const char **reason, size_t *at);
void words_free(struct words *words);

#endif
