/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Who uses a block device, for messages: mounts, swap, and the devices built on it, as far as this mount namespace and
 * sysfs show; and who uses a file as one. All texts are to be freed by the caller; NULL: nothing is known.
 */
#ifndef KCOPY_USE_H
#define KCOPY_USE_H

#include <sys/types.h>

/*
 * "mounted on /home", "active swap", "held by dm-0 (vg-root), mounted on /"; of a whole disk, its partitions are looked
 * at too, and named.
 */
char *use_describe(dev_t rdev);

/* The same for this device alone, whatever its partitions and the devices built on it are used for. */
char *use_describe_own(dev_t rdev);

/* The same, where it may be written at any time: not what is mounted read-only. */
char *use_describe_writing(dev_t rdev);

/* "active swap", "it backs /dev/loop3", of the regular file. */
char *use_describe_file(dev_t device, ino_t inode);

/* The file that sysfs names behind the loop device @rdev, a whole one. */
char *use_backing_path(dev_t rdev);

/* The first of these alone. */
char *use_describe_swap_file(dev_t device, ino_t inode);

/*
 * What to do about it: "release it first", and how, if @use, one of the texts above, says enough. @name: of the device
 * or file that is used, printable.
 */
char *use_advise(const char *use, const char *name);

#endif
