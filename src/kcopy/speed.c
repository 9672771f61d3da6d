/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "speed.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "units.h"

int speed_parse_limit(const char *text, struct speed *speed, const char **reason)
{
	struct units_error error;
	uint64_t bytes = 0;

	*reason = "a limit of 0 would never end; write none for no limit";
	if (strcmp(text, "none") == 0) {
		speed->limit = 0;
	} else {
		if (units_parse_bytes(text, &bytes, &error)) {
			*reason = error.reason;
			return -EINVAL;
		}
		if (bytes == 0)
			return -EINVAL;
		speed->limit = bytes;
	}
	speed->has_limit = true;
	return 0;
}

int speed_parse_throttle(const char *text, struct speed *speed, const char **reason)
{
	unsigned int percent = 0;
	const char *digit;

	*reason = "not a percentage; write a whole number from 1 to 100 (no throttle)";
	for (digit = text; *digit >= '0' && *digit <= '9' && percent <= 100; digit++)
		percent = percent * 10 + (unsigned int)(*digit - '0');
	if (*digit || percent < 1 || percent > 100)
		return -EINVAL;
	speed->throttle = percent;
	speed->has_throttle = true;
	return 0;
}

/* Exactly, in the unit that makes the shortest number. */
static void format_rate(uint64_t bytes, char *buffer, size_t size)
{
	static const struct {
		const char *name;
		uint64_t bytes;
	} units[] = {
		{ "TiB", 1ull << 40 },	 { "TB", 1000000000000ull }, { "GiB", 1ull << 30 },
		{ "GB", 1000000000ull }, { "MiB", 1ull << 20 },	     { "MB", 1000000ull },
		{ "KiB", 1ull << 10 },	 { "KB", 1000ull },	     { "B", 1 },
	};
	size_t i = 0;

	while (bytes % units[i].bytes)
		i++;
	snprintf(buffer, size, "%" PRIu64 " %s/s", bytes / units[i].bytes, units[i].name);
}

const char *speed_format(const struct speed *speed, char buffer[SPEED_CHARS])
{
	char limit[32] = "none";

	if (speed->limit)
		format_rate(speed->limit, limit, sizeof(limit));
	snprintf(buffer, SPEED_CHARS, "limit %s, throttle %u %%", limit, speed->throttle);
	return buffer;
}
