/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * SPEC = PLACE [":" START ["+" COUNT]]. Colons are common in the names of devices, and some names end exactly
 * like a range, so the form alone does not decide: what exists does, and where that leaves two readings the
 * spec is refused, because a wrong guess would write to the wrong place.
 */
#include "spec.h"

#include "text.h"
#include "units.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_SECTORS ((uint64_t)INT64_MAX / 512)

/* What a text after a ':' says as a range. */
struct range {
	uint64_t start, count;
	bool has_count;
	bool has_form;	    /* START[+COUNT]; with a reason: but a value is not possible */
	const char *reason; /* static; NULL: it is a range */
	size_t at;	    /* where in the text */
};

struct parser {
	const char *text; /* borrowed */
	spec_exists_fn exists;
	void *context;
	char **message;
};

static char *format(const char *form, ...) __attribute__((format(printf, 1, 2)));

/* To be freed by the caller; NULL if out of memory. */
static char *format(const char *form, ...)
{
	va_list args;
	char *text = NULL;
	int length;

	va_start(args, form);
	length = vsnprintf(NULL, 0, form, args);
	va_end(args);
	if (length >= 0)
		text = malloc((size_t)length + 1);
	if (!text)
		return NULL;
	va_start(args, form);
	vsnprintf(text, (size_t)length + 1, form, args);
	va_end(args);
	return text;
}

static bool does_exist(const struct parser *p, const char *place)
{
	return *place && p->exists(place, p->context);
}

bool spec_is_tag(const char *place)
{
	static const char *const tags[] = { "LABEL=", "UUID=", "PARTLABEL=", "PARTUUID=" };
	size_t i;

	/* Most places are paths, and of long lists each is asked several times. */
	if (!*place || !strchr("LUP", *place))
		return false;
	for (i = 0; i < sizeof(tags) / sizeof(tags[0]); i++)
		if (!strncmp(place, tags[i], strlen(tags[i])))
			return true;
	return false;
}

static bool is_blank(char c)
{
	return c && strchr(" \t\n\v\f\r", c);
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* -- the form of a range ------------------------------------------------------------------------- */

/* Why there is no number at @text. */
static const char *why_no_number(const char *text, bool is_count)
{
	if (!is_count && *text == '+')
		return "START is missing before the '+'";
	if (*text == '+' || *text == '-')
		return "a number has no sign here";
	if (is_blank(*text))
		return "a range has no blanks";
	if (is_count && !*text)
		return "COUNT is missing after the '+'";
	return "a number is missing";
}

/* One number at range->at of @text, which moves past it. Only the first value that is wrong is recorded. */
static bool parse_field(const char *text, size_t *at, bool is_count, uint64_t *sectors, struct range *range)
{
	struct units_error error;
	size_t length;

	if (units_parse_sectors(text + *at, sectors, &length, &error) < 0) {
		if (!length || !range->reason) {
			range->reason = is_digit(text[*at]) ? error.reason : why_no_number(text + *at, is_count);
			range->at = *at + error.at;
		}
		if (!length)
			return false;
	}
	*at += length;
	return true;
}

static void parse_range(const char *text, struct range *range)
{
	size_t at = 0, count_at = 0;

	*range = (struct range){ .has_form = false };
	if (!parse_field(text, &at, false, &range->start, range))
		return;
	if (text[at] == '+') {
		count_at = ++at;
		range->has_count = true;
		if (!parse_field(text, &at, true, &range->count, range))
			return;
	}
	if (text[at]) {
		range->reason = is_blank(text[at]) ? "a range has no blanks" : "this does not belong to a range";
		range->at = at;
		return;
	}
	range->has_form = true;
	if (range->reason || !range->has_count)
		return;
	if (!range->count) {
		range->reason = "COUNT is 0, nothing to copy";
		range->at = count_at;
	} else if (range->count > MAX_SECTORS - range->start) {
		range->reason = "START+COUNT is 2^63 bytes or more";
		range->at = 0;
	}
}

/*
 * Is this meant as a range, though it has not the form of one? Nothing of the whole name exists. A point says
 * that it may be a new file's name (12:30.img), unless what is before the colon is there.
 */
static bool is_slip(const char *suffix, bool has_prefix)
{
	const char *s = suffix;

	while (is_blank(*s))
		s++;
	if (!is_digit(*s) && *s != '+' && *s != '-')
		return false;
	if (strchr(suffix, '/'))
		return false;
	return has_prefix || (s == suffix && !strchr(suffix, '.'));
}

/* -- messages ------------------------------------------------------------------------------------ */

static int refuse(const struct parser *p, char *message)
{
	*p->message = message;
	return message ? -EINVAL : -ENOMEM;
}

/* @at: an offset into the text. */
static int refuse_at(const struct parser *p, size_t at, const char *reason)
{
	char *whole = text_printable(p->text), *rest = text_printable(p->text + at), *message = NULL;
	size_t character = text_count(p->text, at) + 1;

	if (whole && rest && *rest)
		message = format("'%s': wrong at character %zu, '%s': %s; if all of it is a path, add a ':' at its end",
				 whole, character, rest, reason);
	else if (whole && rest)
		message = format("'%s': wrong at its end: %s; if all of it is a path, add a ':' at its end", whole,
				 reason);
	free(whole);
	free(rest);
	return refuse(p, message);
}

static int refuse_empty(const struct parser *p, const char *what)
{
	char *whole = text_printable(p->text), *message = NULL;

	if (whole)
		message = format("'%s': wrong at character 1: %s; write PLACE, PLACE:START or PLACE:START+COUNT", whole,
				 what);
	free(whole);
	return refuse(p, message);
}

/*
 * Another way to write a place and START (sectors) and @tail ("+COUNT" or nothing) that names no file itself, so that
 * it can only be the range. NULL: out of memory, or really all of them exist.
 */
static char *spell_range(const struct parser *p, const char *place, uint64_t start, const char *tail)
{
	int digits;
	char *text;

	text = format("%s:%" PRIu64 "s%s", place, start, tail);
	if (!text || !does_exist(p, text))
		return text;
	free(text);
	text = format("%s:%" PRIu64 "B%s", place, start * 512, tail);
	for (digits = 1; text && does_exist(p, text); digits++) {
		free(text);
		if (digits > 19)
			return NULL;
		text = format("%s:%0*" PRIu64 "%s", place, digits, start, tail);
	}
	return text;
}

/* A way to write @place, which may end like a range, without one. */
static char *spell_place(const struct parser *p, const char *place)
{
	char *text;

	if (!strchr(place, ':'))
		return strdup(place);
	text = format("%s:", place);
	if (!text || !does_exist(p, text))
		return text;
	free(text);
	return spell_range(p, place, 0, "");
}

/* The whole text and the @place in it both exist. @tail: from the '+' on. */
static int refuse_ambiguous(const struct parser *p, const char *place, const struct range *range, const char *tail)
{
	char *whole = text_printable(p->text), *shorter = text_printable(place), *message = NULL;
	char *file = spell_place(p, p->text);
	char *other = range ? spell_range(p, place, range->start, tail) : spell_place(p, place);
	char *file_text = file ? text_printable(file) : NULL, *other_text = other ? text_printable(other) : NULL;

	if (whole && shorter && file_text && other_text)
		message =
			format("'%s' is ambiguous, since '%s' exists too: write '%s' for the first, '%s' for %s", whole,
			       shorter, file_text, other_text, range ? "the range of the second" : "the second");
	else if (whole && shorter)
		message = format("'%s' is ambiguous, since '%s' exists too: rename one of them", whole, shorter);
	free(whole);
	free(shorter);
	free(file);
	free(other);
	free(file_text);
	free(other_text);
	return refuse(p, message);
}

/* -- decisions ----------------------------------------------------------------------------------- */

static int take_place(const struct parser *p, char *place, struct spec *spec)
{
	const char *value = strchr(place, '=');

	if (!*place || (spec_is_tag(place) && !value[1])) {
		int ret = refuse_empty(p, *place ? "the tag has no value" : "the place is missing");

		free(place);
		return ret;
	}
	spec->place = place;
	return 0;
}

static int take_all(const struct parser *p, struct spec *spec)
{
	char *place = strdup(p->text);

	return place ? take_place(p, place, spec) : -ENOMEM;
}

/* @place is the text before the last ':', @suffix what follows it. Takes @place over, leaves it if it returns 1. */
static int decide(const struct parser *p, char *place, const char *suffix, struct spec *spec)
{
	bool has_whole = does_exist(p, p->text), has_place = does_exist(p, place);
	struct range range = { .has_form = true }; /* 'no range' */
	int ret;

	if (has_whole && !has_place)
		return 1;
	if (*suffix)
		parse_range(suffix, &range);
	if (!range.has_form && (has_whole || !is_slip(suffix, has_place)))
		return 1;

	if (range.reason && *place)
		ret = refuse_at(p, (size_t)(suffix - p->text) + range.at, range.reason);
	else if (has_whole && *suffix)
		ret = refuse_ambiguous(p, place, &range, suffix + strcspn(suffix, "+"));
	else if (has_whole)
		ret = refuse_ambiguous(p, place, NULL, "");
	else {
		ret = take_place(p, place, spec);
		if (ret < 0)
			return ret;
		spec->has_start = *suffix;
		spec->has_count = range.has_count;
		spec->start = range.start;
		spec->count = range.count;
		return 0;
	}
	free(place);
	return ret;
}

int spec_parse(const char *text, spec_exists_fn exists, void *context, struct spec *spec, char **message)
{
	const struct parser p = { .text = text, .exists = exists, .context = context, .message = message };
	const char *colon = strrchr(text, ':');
	char *place;
	int ret;

	*spec = (struct spec){ .place = NULL };
	*message = NULL;
	if (!colon)
		return take_all(&p, spec);
	place = strndup(text, (size_t)(colon - text));
	if (!place)
		return -ENOMEM;
	ret = decide(&p, place, colon + 1, spec);
	if (ret <= 0)
		return ret;
	free(place);
	return take_all(&p, spec);
}

void spec_free(struct spec *spec)
{
	free(spec->place);
	*spec = (struct spec){ .place = NULL };
}
