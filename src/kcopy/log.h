/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Lines for people, on standard error, and the one status line that is overwritten in place. A standard error that is
 * closed or full changes nothing: the exit status is what counts. Main thread only.
 */
#ifndef KCOPY_LOG_H
#define KCOPY_LOG_H

#include <stdbool.h>
#include <stddef.h>

enum log_level { LOG_QUIET, LOG_NORMAL, LOG_VERBOSE };

void log_set_level(enum log_level level);

/* "kcopy: ..." and a newline. Errors and warnings always; info unless quiet; detail only if verbose. */
void log_error(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_warning(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_info(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_detail(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* An error that only sums up others: as log_error(), but not kept. */
void log_verdict(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* In front of every line but the status, from now on, behind "kcopy: "; borrowed. NULL: nothing. */
void log_set_context(const char *context);

/*
 * From now on errors are kept, as they are printed but for "kcopy: ", for who reports them; or no longer, and those so
 * far are forgotten.
 */
void log_keep(bool is_keeping);

/* The kept ones: borrowed until the next error. */
size_t log_kept(const char *const **lines);

/*
 * How long may a line wait for a reader that does not read (a full pipe, a stopped terminal)? @patience answers in
 * milliseconds, whenever there is a wait or a signal interrupts one: -1 for ever, which is the default, 0 not at all.
 * What had to wait too long is dropped, and what follows does not wait until something could be written again.
 */
void log_set_patience(int (*patience)(void));

/* Can a line be written without waiting? */
bool log_is_ready(void);

/* Shows @line in place of the last one; NULL takes it away. Lines of the calls above go in front of it. */
void log_status(const char *line);

#endif
