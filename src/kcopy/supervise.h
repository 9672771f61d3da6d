/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * --stall-timeout: Linux lets no process end while a device has a request of it that it does not answer, SIGKILL or not.
 * So the copy runs in a child process, and the parent, which has no device, can end whatever happens: it passes a
 * signal on and has the child's result as soon as the child knows it. Owns the child and the pipe between them. Neither
 * exits here: that is main's.
 */
#ifndef KCOPY_SUPERVISE_H
#define KCOPY_SUPERVISE_H

#include <stdbool.h>
#include <sys/types.h>

/* Longer lists of names are cut. */
#define SUPERVISE_NAMES_BYTES 256

/*
 * Once, before there are threads or devices. @is_parent: what is left to do is supervise_wait(); else this is the child.
 * 0 or -errno: there is no child.
 */
int supervise_start(bool *is_parent);

/* The process that was started as kcopy: this one, or the child's parent. */
pid_t supervise_pid(void);

/*
 * The parent: until the child has ended, or does not within some seconds though its result is known. Prints who keeps it
 * from ending. @signal: what ended it, or is to end us, or 0; then it goes before @status. The child does not outlive
 * its parent, if it is able to end.
 */
void supervise_wait(int *status, int *signal);

/* The child: who is waited for now, names for people. Does nothing where there is no parent, as does the next. */
void supervise_tell_waiting(const char *names);

/* The child: what will be, and whom the kernel may make it wait for when it ends. Nothing is learned after this. */
void supervise_tell_result(int status, int signal, const char *names);

#endif
