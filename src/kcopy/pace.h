/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How fast a client copies: --limit and --throttle, from the command line and, while it runs, from who asks for something
 * else with --remote. Main thread only.
 */
#ifndef KCOPY_PACE_H
#define KCOPY_PACE_H

#include "kcopyd.h"
#include "speed.h"

/* All zero: not open. */
struct pace {
	struct kcopyd_client *client; /* borrowed; NULL: not open */
	struct speed speed;	      /* what holds now */
	int fd;			      /* who wants another one is heard there; -1: nobody is */
};

/* Before the client's first job: @speed holds, and from here on others can be asked for. */
void pace_open(struct pace *pace, struct kcopyd_client *client, const struct speed *speed);

/* For poll(): readable when pace_tick() has something to do. -1: never. */
int pace_fd(const struct pace *pace);

/* Does what was asked for since. Often called. */
void pace_tick(struct pace *pace);

void pace_close(struct pace *pace);

#endif
