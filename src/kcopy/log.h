/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Lines for people, on standard error, and the one status line that is overwritten in place. A standard error that is closed or full
 * changes nothing: the exit status is what counts. Main thread only.
 */
#ifndef KCOPY_LOG_H
#define KCOPY_LOG_H

#include <stdbool.h>

enum log_level { LOG_QUIET, LOG_NORMAL, LOG_VERBOSE };

void log_set_level(enum log_level level);

/* "kcopy: ..." and a newline. Errors and warnings always; info unless quiet; detail only if verbose. */
void log_error(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_warning(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_info(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_detail(const char *format, ...) __attribute__((format(printf, 1, 2)));

/*
 * How long a line may wait for a reader that does not read (a full pipe, a stopped terminal), in milliseconds: -1, the default, for ever or
 * until a signal; 0: not at all. What had to wait too long is dropped.
 */
void log_set_patience(int patience_ms);

/* Can a line be written without waiting? */
bool log_is_ready(void);

/* Shows @line in place of the last one; NULL takes it away. Lines of the calls above go in front of it. */
void log_status(const char *line);

#endif
