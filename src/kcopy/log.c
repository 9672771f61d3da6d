/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "log.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CLEAR_LINE "\r\033[K"

static enum log_level log_level = LOG_NORMAL;
static bool is_status_shown;
static bool is_stuck; /* the last wait was in vain */
static int (*ask_patience)(void);

static const char *log_context; /* borrowed, or NULL */

static bool is_keeping;
static char **kept; /* owned */
static size_t num_kept;

/* Whoever reads the report needs no more than that. */
#define MAX_KEPT 1000u

/* A pipe that is writable takes this much without waiting for its reader. */
#define PIECE_BYTES ((size_t)PIPE_BUF)

void log_set_level(enum log_level level)
{
	log_level = level;
}

void log_set_patience(int (*patience)(void))
{
	ask_patience = patience;
}

static int wait_ms(void)
{
	if (is_stuck)
		return 0;
	return ask_patience ? ask_patience() : -1;
}

static bool wait_until_ready(void)
{
	struct pollfd pollfd = { .fd = STDERR_FILENO, .events = POLLOUT };
	int ready, timeout_ms;

	do {
		timeout_ms = wait_ms();
		ready = poll(&pollfd, 1, timeout_ms);
	} while (ready < 0 && errno == EINTR); /* a signal: patience may be another now */
	is_stuck = ready == 0 && (is_stuck || timeout_ms > 0);
	return ready > 0;
}

bool log_is_ready(void)
{
	struct pollfd pollfd = { .fd = STDERR_FILENO, .events = POLLOUT };

	return wait_ms() < 0 || poll(&pollfd, 1, 0) > 0;
}

/* Nobody is told if this fails: there is no one left to tell. */
static void put(const char *text, size_t length)
{
	while (length > 0 && wait_until_ready()) {
		ssize_t put = write(STDERR_FILENO, text, length < PIECE_BYTES ? length : PIECE_BYTES);

		if (put < 0 && (errno == EINTR || errno == EAGAIN))
			continue;
		if (put <= 0)
			return;
		text += put;
		length -= (size_t)put;
	}
}

void log_set_context(const char *context)
{
	log_context = context;
}

void log_keep(bool is_to_keep)
{
	is_keeping = is_to_keep;
	while (!is_keeping && num_kept > 0)
		free(kept[--num_kept]);
	if (!is_keeping) {
		free(kept);
		kept = NULL;
	}
}

size_t log_kept(const char *const **lines)
{
	*lines = (const char *const *)kept;
	return num_kept;
}

static void keep(const char *format, va_list args)
{
	char *message, *line, **lines;
	int length;

	if (!is_keeping || num_kept == MAX_KEPT || vasprintf(&message, format, args) < 0)
		return;
	length = asprintf(&line, "%s%s", log_context ? log_context : "", message);
	free(message);
	if (length < 0)
		return;
	lines = reallocarray(kept, num_kept + 1, sizeof(lines[0]));
	if (!lines) {
		free(line);
		return;
	}
	kept = lines;
	kept[num_kept++] = line;
}

/* In one piece, so that lines of several processes on one terminal stay whole. */
static void put_line(const char *prefix, const char *format, va_list args)
{
	char *message = NULL, *line = NULL;
	int length;

	if (vasprintf(&message, format, args) < 0)
		return;
	length = asprintf(&line, "%skcopy: %s%s%s\n", is_status_shown ? CLEAR_LINE : "", prefix,
			  log_context ? log_context : "", message);
	is_status_shown = false;
	if (length > 0)
		put(line, (size_t)length);
	free(line);
	free(message);
}

#define PUT_LINE(prefix)                        \
	do {                                    \
		va_list args;                   \
		va_start(args, format);         \
		put_line(prefix, format, args); \
		va_end(args);                   \
	} while (0)

void log_error(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	put_line("", format, args);
	va_end(args);
	va_start(args, format);
	keep(format, args);
	va_end(args);
}

void log_verdict(const char *format, ...)
{
	PUT_LINE("");
}

void log_warning(const char *format, ...)
{
	PUT_LINE("warning: ");
}

void log_info(const char *format, ...)
{
	if (log_level >= LOG_NORMAL)
		PUT_LINE("");
}

void log_detail(const char *format, ...)
{
	if (log_level >= LOG_VERBOSE)
		PUT_LINE("");
}

void log_status(const char *line)
{
	char text[256];
	int length;

	if ((!line && !is_status_shown) || !log_is_ready())
		return;
	length = snprintf(text, sizeof(text), CLEAR_LINE "%s", line ? line : "");
	is_status_shown = line;
	if (length > 0)
		put(text, (size_t)length < sizeof(text) ? (size_t)length : sizeof(text) - 1);
}
