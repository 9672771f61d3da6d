/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "words.h"

#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define ITEMS_STEP 8u

/* A line that is being read, and the word at hand; words are never longer than what is read of their line. */
struct reader {
	const char *at;
	char *word;
	size_t length;
	const char *reason;
};

void words_free(struct words *words)
{
	free(words->items);
	free(words->text);
	*words = (struct words){ .items = NULL };
}

static bool is_blank(char c)
{
	return c == ' ' || c == '\t';
}

/* What nothing but a name is made of, and most of it is. */
static bool is_harmless(char c)
{
	static const bool harmless[UCHAR_MAX + 1] = {
		['a' ... 'z'] = true, ['A' ... 'Z'] = true, ['-' ... ':'] = true, ['_'] = true, ['+'] = true,
	};

	return harmless[(unsigned char)c];
}

/* @begin: at the start of a word. NULL: it stands for itself. */
static const char *refuse_plain(char c, bool is_begin)
{
	if (strchr("$`*?[", c))
		return "nothing is expanded here; quote it: '...'";
	if (strchr(";&|<>()", c))
		return "a shell's operator; quote it: '...'";
	if (c == '~' && is_begin)
		return "nothing is expanded here; write the path out, or quote it";
	if ((unsigned char)c < ' ' || c == 0x7f)
		return c == '\r' ? "the line ends as in DOS, with a carriage return; remove it"
				 : "a control character; quote it: '...'";
	return NULL;
}

static bool read_single(struct reader *reader)
{
	const char *end = strchr(reader->at + 1, '\'');

	if (!end) {
		reader->reason = "a ' without its other one";
		return false;
	}
	memcpy(reader->word + reader->length, reader->at + 1, (size_t)(end - reader->at - 1));
	reader->length += (size_t)(end - reader->at - 1);
	reader->at = end + 1;
	return true;
}

static bool read_double(struct reader *reader)
{
	const char *begin = reader->at++;

	for (; *reader->at != '"'; reader->at++) {
		if (*reader->at == '\\' && reader->at[1] && strchr("$`\"\\", reader->at[1])) {
			reader->at++;
		} else if (*reader->at == '$' || *reader->at == '`') {
			reader->reason = "nothing is expanded here; put a \\ in front of it, or quote it: '...'";
			return false;
		} else if (!*reader->at) {
			reader->at = begin;
			reader->reason = "a \" without its other one";
			return false;
		}
		reader->word[reader->length++] = *reader->at;
	}
	reader->at++;
	return true;
}

static bool read_escaped(struct reader *reader)
{
	if (!reader->at[1]) {
		reader->reason = "a \\ at the end; a job is one line";
		return false;
	}
	reader->word[reader->length++] = reader->at[1];
	reader->at += 2;
	return true;
}

static void read_harmless(struct reader *reader)
{
	const char *end = reader->at;

	while (is_harmless(*end))
		end++;
	memcpy(reader->word + reader->length, reader->at, (size_t)(end - reader->at));
	reader->length += (size_t)(end - reader->at);
	reader->at = end;
}

static bool read_word(struct reader *reader)
{
	const char *begin = reader->at;
	bool is_good = true;

	reader->length = 0;
	while (is_good) {
		read_harmless(reader);
		if (!*reader->at || is_blank(*reader->at))
			break;
		switch (*reader->at) {
		case '\'':
			is_good = read_single(reader);
			break;
		case '"':
			is_good = read_double(reader);
			break;
		case '\\':
			is_good = read_escaped(reader);
			break;
		default:
			reader->reason = refuse_plain(*reader->at, reader->at == begin);
			is_good = !reader->reason;
			if (is_good)
				reader->word[reader->length++] = *reader->at++;
		}
	}
	reader->word[reader->length] = '\0';
	return is_good;
}

/* The word at hand becomes one of them. */
static int keep_word(struct words *words, struct reader *reader)
{
	if (words->num % ITEMS_STEP == 0) {
		char **items = reallocarray(words->items, words->num + ITEMS_STEP + 1, sizeof(items[0]));

		if (!items)
			return -ENOMEM;
		words->items = items;
	}
	words->items[words->num++] = reader->word;
	words->items[words->num] = NULL;
	reader->word += reader->length + 1;
	return 0;
}

int words_split(const char *line, struct words *words, const char **reason, size_t *at)
{
	struct reader reader = { .at = line, .word = malloc(strlen(line) + 1) };
	int ret = reader.word ? 0 : -ENOMEM;

	*words = (struct words){ .text = reader.word };
	while (ret == 0) {
		while (is_blank(*reader.at))
			reader.at++;
		if (!*reader.at || *reader.at == '#')
			break;
		ret = read_word(&reader) ? keep_word(words, &reader) : -EINVAL;
	}
	*reason = reader.reason;
	*at = (size_t)(reader.at - line) + 1;
	if (ret)
		words_free(words);
	return ret;
}
