/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the fuzz targets share. A target is one file fuzz_NAME.c; libFuzzer calls it with what it makes up (scripts/fuzz),
 * driver.c with what is kept in corpus/NAME ('make check').
 */
#ifndef KCOPY_FUZZ_TARGET_H
#define KCOPY_FUZZ_TARGET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Not assert(): it must be there with NDEBUG, too. */
#define CHECK(property)                                             \
	do {                                                        \
		if (!(property))                                    \
			check_fails(#property, __FILE__, __LINE__); \
	} while (0)

/* Of each target. Always 0. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

_Noreturn void check_fails(const char *property, const char *file, int line);

bool is_utf8(const char *text);

/* A message is one line, not empty, of valid UTF-8, and nothing in it moves the cursor or reorders the line. */
void check_message(const char *message);

/*
 * @message begins with @text between @before and @after; if it goes on with "wrong at character N, 'REST'", then REST is
 * what stands in @text from its Nth character on, where a byte that is no UTF-8 counts as one.
 */
void check_mark(const char *text, const char *message, const char *before, const char *after);

/* What is left of an input. */
struct input {
	const uint8_t *data; /* borrowed */
	size_t size;
};

/* 0 if there is nothing left. */
uint8_t input_byte(struct input *input);
uint64_t input_number(struct input *input);

/* As far as the next NUL or the end, in memory of exactly its size; to be freed. */
char *input_text(struct input *input);

/* To be freed. */
char *format(const char *form, ...) __attribute__((format(printf, 1, 2)));

#endif
