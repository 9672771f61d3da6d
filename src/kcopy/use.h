/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Who uses a block device, for messages: mounts, swap, and the devices built on it, as far as this mount namespace and
 * sysfs show. It explains what O_EXCL has found and decides nothing.
 */
#ifndef KCOPY_USE_H
#define KCOPY_USE_H

#include <sys/types.h>

/*
 * "mounted on /home", "active swap", "held by dm-0 (vg-root)"; of a whole disk, its partitions are looked at too, and
 * named. To be freed by the caller; NULL: nothing is known.
 */
char *use_describe(dev_t rdev);

#endif
