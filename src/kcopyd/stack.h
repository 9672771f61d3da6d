/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a block device stands on, down to whole disks and files: its disk, for a partition; what backs a loop device;
 * what device-mapper's table or sysfs ('slaves': md, bcache) says. Opens loop devices' nodes, to ask them; reads
 * nothing of any contents. device and queue are its users.
 */
#ifndef KCOPYD_STACK_H
#define KCOPYD_STACK_H

#include "identity.h"

/*
 * Adds to @identity, which is to be released whatever comes back; @fd is open on the device @rdev. -ENOENT: sysfs does
 * not know it, or one below it; -ELOOP: too many stand on one another; else whatever kept us from knowing. A
 * device-mapper table that cannot be read (that needs CAP_SYS_ADMIN) is no error, but makes the identity uncertain.
 */
int stack_find(int fd, dev_t rdev, struct identity *identity);

#endif
