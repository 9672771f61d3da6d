/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * SIGINT, SIGTERM and SIGHUP end a copy in order: the first one is noted, the second one kills. One that was ignored
 * when we started (nohup) stays ignored. SIGPIPE and SIGXFSZ never end anything: they come back as errors of the call.
 */
#ifndef KCOPY_SIGNALS_H
#define KCOPY_SIGNALS_H

/* Once, before any thread. 0 or -errno. */
int signals_catch(void);

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
