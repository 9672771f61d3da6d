/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a block device is, for people and for --expect: its names and its disk's serial number, WWN and model, from
 * sysfs and udev's data base. Opens no device.
 */
#ifndef KCOPY_DISK_H
#define KCOPY_DISK_H

#include <stdbool.h>
#include <sys/types.h>

/* What cannot be found out is NULL. The texts are as the device gave them, less blanks at both ends: not printable. */
struct disk {
	char *name;		/* the kernel's: "sda1"; with "/dev/" before it, its node */
	char *stable_name;	/* "/dev/disk/by-id/...": the same after the next boot */
	char *whole_name;	/* "sda"; name itself unless it is a partition */
	dev_t whole;		/* its number */
	unsigned int partition; /* its number, or 0 */
	char *serial;		/* of the whole disk, as are the rest; what lsblk(8) shows */
	char *serial_short;	/* udev's, if it knows another one */
	char *wwn;
	char *model;
};

/* -errno: sysfs does not know it. To be freed by disk_free(), whatever comes back. */
int disk_ask(dev_t rdev, struct disk *disk);
void disk_free(struct disk *disk);

/*
 * Must a head move for what is read on it? False if that cannot be told. For a file, the number of its file system's
 * device.
 */
bool disk_is_rotational(dev_t rdev);

/* -- for disk.c and its tests -------------------------------------------------------------------- */

/* disk_ask() without udev, below @sysfs ("/sys"); fills all but stable_name and serial_short. */
int disk_ask_sysfs(const char *sysfs, dev_t rdev, struct disk *disk);

/* What udev knows of a whole disk goes before what sysfs said. @property: a value of udev's data base, or NULL. */
typedef const char *(*disk_property_fn)(const char *key, void *context);
void disk_take_properties(struct disk *disk, disk_property_fn property, void *context);

bool disk_is_rotational_sysfs(const char *sysfs, dev_t rdev);

/* How good a stable name is @link ("by-id/wwn-0x5000")? The lower, the better; DISK_NO_LINK: it is none. */
#define DISK_NO_LINK 100u
unsigned int disk_rank_link(const char *link);

/* The best link to that device below @directory ("/dev/disk"), to be freed; or NULL. */
char *disk_find_link(const char *directory, dev_t rdev);

#endif
