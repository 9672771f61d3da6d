/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a map says of an operand: enough to know it again tomorrow. From the operand and sysfs; opens no device. For
 * resume.c.
 */
#ifndef KCOPY_RESUME_SIDE_H
#define KCOPY_RESUME_SIDE_H

#include "map.h"
#include "operand.h"

struct resume_side {
	struct map_side map; /* its texts are borrowed: from the operand, or from below */
	char *path;	     /* owned: absolute, without symbolic links */
	char *origin;	     /* owned, or NULL: what stands for the serial number of a device that has none */
};

/*
 * @operand is placed, and its disk was asked. -ENOMEM, or why the path leads nowhere any more; @side is to be destroyed in
 * any case.
 */
int resume_side_create(const struct operand *operand, struct resume_side *side);
void resume_side_destroy(struct resume_side *side); /* all zeros is allowed */

/* The real name of a file, which need not exist yet; to be freed. NULL, and errno: there is no such directory. */
char *resume_real_path(const char *path);

/* -- for resume_side.c and its tests ------------------------------------------------------------- */

/*
 * Of a loop device what it stands on, "loop FILE" or "loop FILE at BYTES"; of a device-mapper device "dm UUID", or "dm
 * NAME" if it has none; by the directory of the whole device in sysfs. To be freed. NULL: it is neither.
 */
char *resume_find_origin(const char *sysfs);

#endif
