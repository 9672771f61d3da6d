/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * --remote: a copy that runs is told by another kcopy, which knows its process number, to go slower or faster, as pv's
 * --remote has it. A request and its answer are a datagram each, between Unix sockets with abstract names (unix(7)): they
 * need no directory, nothing of them is left when a process is killed, and the kernel tells who has sent a datagram. Owns
 * both ends. Nothing here waits but the asking one, and that for some seconds at the most. Main thread only.
 */
#ifndef KCOPY_REMOTE_H
#define KCOPY_REMOTE_H

#include <stdbool.h>
#include <sys/types.h>

#include "speed.h"

/* The copying end: can be reached as process @pid from now on, until @fd is closed. 0 or -errno. */
int remote_open(pid_t pid, int *fd);

/*
 * Takes what was asked for, if anything was, changes @speed accordingly and answers with it. Only root and who runs the
 * copy are heard. True: it is another one now, as process @from wants it.
 */
bool remote_serve(int fd, struct speed *speed, pid_t *from);

/*
 * The asking end: @wish (which may be nothing) for the copy of process @pid; @now: what holds there now. -ESRCH: there is no
 * such process. -ECONNREFUSED: it does not copy. -EPERM: it is somebody else's. -ETIMEDOUT: it does not answer. -EINTR: a
 * signal.
 */
int remote_ask(pid_t pid, const struct speed *wish, struct speed *now);

/* The same as a command: prints what is wrong, or what holds now. 0 or -errno. */
int remote_command(pid_t pid, const struct speed *wish);

#endif
