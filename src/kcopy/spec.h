/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * SPEC = PLACE [":" START ["+" COUNT]]: an operand's text to a place and a range. Knows the awkward names (colons in
 * paths, by-id names that end like a range); asks the caller whether a place exists and makes no other system call.
 */
#ifndef KCOPY_SPEC_H
#define KCOPY_SPEC_H

#include <stdbool.h>
#include <stdint.h>

struct spec {
	char *place;	/* owned: a path, or TAG=value */
	bool has_start; /* false: no range was given, start is 0 */
	bool has_count; /* false: to the end of the source */
	uint64_t start; /* sectors */
	uint64_t count; /* sectors, never 0 when has_count */
};

/* Does a place (a path or TAG=value) exist? @context is the caller's. */
typedef bool (*spec_exists_fn)(const char *place, void *context);

/*
 * -EINVAL: @message (owned by the caller, to be freed) is one line without a newline: the
 * spec in quotes, where it goes wrong (at 'the rest of the text from there'), why, and what to write instead. -ENOMEM.
 */
int spec_parse(const char *text, spec_exists_fn exists, void *context, struct spec *spec, char **message);
void spec_free(struct spec *spec);

/* LABEL=, UUID=, PARTLABEL= or PARTUUID= */
bool spec_is_tag(const char *place);

#endif
