/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "pace.h"

#include <string.h>
#include <unistd.h>

#include "log.h"
#include "remote.h"
#include "supervise.h"

static void set(const struct pace *pace)
{
	kcopyd_client_set_limit(pace->client, pace->speed.limit);
	kcopyd_client_set_throttle(pace->client, pace->speed.throttle);
}

void pace_open(struct pace *pace, struct kcopyd_client *client, const struct speed *speed)
{
	char text[SPEED_CHARS];
	int ret;

	pace->client = client;
	pace->speed = *speed;
	set(pace);
	if (speed->has_limit || speed->has_throttle)
		log_detail("%s", speed_format(speed, text));
	ret = remote_open(supervise_pid(), &pace->fd);
	if (ret)
		log_detail("--remote cannot reach this copy: %s", strerror(-ret));
}

int pace_fd(const struct pace *pace)
{
	return pace->client ? pace->fd : -1;
}

void pace_tick(struct pace *pace)
{
	char text[SPEED_CHARS];
	pid_t from;

	if (pace_fd(pace) < 0 || !remote_serve(pace->fd, &pace->speed, &from))
		return;
	set(pace);
	log_detail("%s, as process %d asks", speed_format(&pace->speed, text), (int)from);
}

void pace_close(struct pace *pace)
{
	if (pace_fd(pace) >= 0)
		close(pace->fd);
	pace->client = NULL;
}
