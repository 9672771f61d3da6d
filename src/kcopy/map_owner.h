/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The header lines by which a map tells which devices it belongs to, "# kcopy SIDE KEY: VALUE": kcopy-map(5). For
 * map_text.c.
 */
#ifndef KCOPY_MAP_OWNER_H
#define KCOPY_MAP_OWNER_H

#include <stdio.h>

#include "map.h"

enum { MAP_SIDES = 2 }; /* source, destination */
enum map_key { MAP_PATH, MAP_SIZE, MAP_SERIAL, MAP_WWN, MAP_PARTITION, MAP_REGION, MAP_KEYS };

struct map_value {
	char *text;  /* owned, as it is, not escaped; NULL: not known */
	size_t line; /* where a file says so */
};

/* All zeros: says nothing. */
struct map_header {
	struct map_value values[MAP_SIDES][MAP_KEYS];
};

/* All that can be said of @owner, for regions of @count sectors. -ENOMEM. */
int map_header_describe(struct map_header *header, const struct map_owner *owner, sector_t count);

/* -ENOMEM; errors of @stream are told by ferror(). */
int map_header_write(const struct map_header *header, FILE *stream);

/*
 * Line @number of a map, without its newline: nothing is done unless it is one of ours. -EINVAL: it is, and makes no
 * sense; @message (to be freed) says why, without the line's number. -ENOMEM.
 */
int map_header_read_line(struct map_header *header, const char *line, size_t length, size_t number, char **message);

/* Is what a file says about the same devices, sizes and regions as @own? -EINVAL: no, with @message. -ENOMEM. */
int map_header_compare(const struct map_header *file, const struct map_header *own, char **message);

void map_header_free(struct map_header *header);

#endif
