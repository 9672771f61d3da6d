/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * SIGINT, SIGTERM and SIGHUP end a copy in order: the first one is noted, the second one kills. One that was ignored
 * when we started (nohup) stays ignored. SIGPIPE and SIGXFSZ never end anything: they come back as errors of the call.
 */
#ifndef KCOPY_SIGNALS_H
#define KCOPY_SIGNALS_H

#include <sys/types.h>

/* Before any thread; again in a child process, which is not to share its parent's descriptor. 0 or -errno. */
int signals_catch(void);

/* A signal that process @parent passes on is never the second one: it may have reached us both from a terminal. */
void signals_obey(pid_t parent);

/* What a second signal prints before it ends the process, if that is possible at once; static, or NULL. */
void signals_set_last_words(const char *text);

/* Becomes readable when a signal was noted. */
int signals_fd(void);

/* The one that was noted, or 0. */
int signals_pending(void);

/* For log_set_patience(): who was told to end does not wait for ever for somebody to read why. Milliseconds; -1: for
 * ever. */
int signals_patience(void);

/* Ends the process by @signal, as it would have without us. */
void signals_raise(int signal);

#endif
