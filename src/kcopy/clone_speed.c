/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How fast a copy goes: --limit and --throttle, from the command line and, while it runs, from who asks for something else
 * with --remote. Main thread only.
 */
#include "clone_copy.h"

#include <string.h>
#include <unistd.h>

#include "log.h"
#include "remote.h"
#include "supervise.h"

static void set(const struct clone *clone)
{
	kcopyd_client_set_limit(clone->client, clone->speed.limit);
	kcopyd_client_set_throttle(clone->client, clone->speed.throttle);
}

void clone_speed_open(struct clone *clone)
{
	char text[SPEED_CHARS];
	int ret;

	clone->speed = clone->options->speed;
	set(clone);
	if (clone->speed.has_limit || clone->speed.has_throttle)
		log_detail("%s", speed_format(&clone->speed, text));
	ret = remote_open(supervise_pid(), &clone->remote_fd);
	if (ret)
		log_detail("--remote cannot reach this copy: %s", strerror(-ret));
}

void clone_speed_tick(struct clone *clone)
{
	char text[SPEED_CHARS];
	pid_t from;

	if (clone->remote_fd < 0 || !remote_serve(clone->remote_fd, &clone->speed, &from))
		return;
	set(clone);
	log_detail("%s, as process %d asks", speed_format(&clone->speed, text), (int)from);
}

void clone_speed_close(struct clone *clone)
{
	if (clone->remote_fd >= 0)
		close(clone->remote_fd);
	clone->remote_fd = -1;
}
