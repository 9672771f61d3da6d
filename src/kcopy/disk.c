/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "disk.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <libudev.h>
#include <limits.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define LINKS "/dev/disk"
#define ATTRIBUTE_BYTES 4096 /* a page: as long as sysfs lets any be */

/* Takes @value over; NULL changes nothing. */
static void set(char **field, char *value)
{
	if (!value)
		return;
	free(*field);
	*field = value;
}

static bool is_blank(char c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

/* Up to the first NUL, if there is one. NULL: nothing but blanks. */
static char *trim(const char *text, size_t length)
{
	length = strnlen(text, length);
	while (length && is_blank(text[length - 1]))
		length--;
	while (length && is_blank(*text)) {
		text++;
		length--;
	}
	return length ? strndup(text, length) : NULL;
}

/* -- sysfs --------------------------------------------------------------------------------------- */

static ssize_t read_bytes(int dir, const char *name, char buffer[ATTRIBUTE_BYTES])
{
	int fd = openat(dir, name, O_RDONLY | O_CLOEXEC);
	ssize_t length;

	if (fd < 0)
		return -errno;
	length = read(fd, buffer, ATTRIBUTE_BYTES);
	if (length < 0)
		length = -errno;
	close(fd);
	return length;
}

static char *read_text(int dir, const char *name)
{
	char buffer[ATTRIBUTE_BYTES];
	ssize_t length = read_bytes(dir, name, buffer);

	return length > 0 ? trim(buffer, (size_t)length) : NULL;
}

/* SCSI's 'unit serial number' page (SPC-4, 7.8.15): device type, page code, two bytes of length, text. */
static char *read_unit_serial(int dir)
{
	const ssize_t head = 4;
	char buffer[ATTRIBUTE_BYTES];
	ssize_t length = read_bytes(dir, "device/vpd_pg80", buffer), told;

	if (length < head || (unsigned char)buffer[1] != 0x80)
		return NULL;
	told = (unsigned char)buffer[2] << 8 | (unsigned char)buffer[3];
	if (told > length - head)
		told = length - head;
	return trim(buffer + head, (size_t)told);
}

static char *read_first(int dir, const char *name, const char *other)
{
	char *text = read_text(dir, name);

	return text ? text : read_text(dir, other);
}

/* @dir: the whole disk's. */
static void read_identity(int dir, struct disk *disk)
{
	disk->serial = read_first(dir, "device/serial", "serial"); /* nvme, mmc; virtio-blk */
	if (!disk->serial)
		disk->serial = read_unit_serial(dir);
	disk->wwn = read_first(dir, "wwid", "device/wwid"); /* nvme; SCSI */
	disk->model = read_text(dir, "device/model");
	/* Others' device/name is no model. */
	if (!disk->model && strncmp(disk->whole_name, "mmcblk", strlen("mmcblk")) == 0)
		disk->model = read_text(dir, "device/name");
}

/* sysfs has '!' for the '/' in names such as cciss/c0d0. */
static char *copy_name(const char *name)
{
	char *copy = strdup(name);

	for (char *c = copy; c && *c; c++)
		if (*c == '!')
			*c = '/';
	return copy;
}

/* From the link /sys/dev/block/M:m -> ../../devices/.../block/sda/sda1. */
static int read_names(const char *path, struct disk *disk)
{
	char target[PATH_MAX];
	ssize_t length = readlink(path, target, sizeof(target) - 1);
	char *slash;

	if (length < 0)
		return -errno;
	target[length] = '\0';
	slash = strrchr(target, '/');
	if (!slash)
		return -EIO;
	*slash = '\0';
	disk->name = copy_name(slash + 1);
	if (disk->partition) {
		slash = strrchr(target, '/');
		disk->whole_name = copy_name(slash ? slash + 1 : target);
	} else {
		disk->whole_name = copy_name(slash + 1);
	}
	return disk->name && disk->whole_name ? 0 : -ENOMEM;
}

/* Only a partition has a 'partition'. Returns its disk's directory, or -errno; to be closed unless it is @dir itself. */
static int open_whole(int dir, struct disk *disk)
{
	unsigned int disk_major, disk_minor;
	char *number, *dev;
	int whole;

	if (faccessat(dir, "partition", F_OK, 0) < 0)
		return errno == ENOENT ? dir : -errno;
	number = read_text(dir, "partition");
	dev = read_text(dir, "../dev");
	if (number && dev && sscanf(number, "%u", &disk->partition) == 1 && disk->partition > 0 &&
	    sscanf(dev, "%u:%u", &disk_major, &disk_minor) == 2) {
		disk->whole = makedev(disk_major, disk_minor);
		whole = openat(dir, "..", O_PATH | O_DIRECTORY | O_CLOEXEC);
		if (whole < 0)
			whole = -errno;
	} else {
		whole = -EIO;
	}
	free(number);
	free(dev);
	return whole;
}

int disk_ask_sysfs(const char *sysfs, dev_t rdev, struct disk *disk)
{
	char path[PATH_MAX];
	int dir, whole, ret;

	*disk = (struct disk){ .whole = rdev };
	if (snprintf(path, sizeof(path), "%s/dev/block/%u:%u", sysfs, major(rdev), minor(rdev)) >= (int)sizeof(path))
		return -ENAMETOOLONG;
	dir = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return -errno;
	whole = open_whole(dir, disk);
	ret = whole < 0 ? whole : read_names(path, disk);
	if (ret == 0)
		read_identity(whole, disk);
	if (whole >= 0 && whole != dir)
		close(whole);
	close(dir);
	return ret;
}

bool disk_is_rotational_sysfs(const char *sysfs, dev_t rdev)
{
	char path[PATH_MAX], *text;
	bool is_rotational;
	int dir;

	if (snprintf(path, sizeof(path), "%s/dev/block/%u:%u", sysfs, major(rdev), minor(rdev)) >= (int)sizeof(path))
		return false;
	dir = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return false;
	text = read_first(dir, "queue/rotational", "../queue/rotational"); /* a partition has its disk's queue */
	is_rotational = text && strcmp(text, "1") == 0;
	free(text);
	close(dir);
	return is_rotational;
}

bool disk_is_rotational(dev_t rdev)
{
	return disk_is_rotational_sysfs("/sys", rdev);
}

/* -- udev ---------------------------------------------------------------------------------------- */

static int hex_value(char c)
{
	static const char digits[] = "0123456789abcdefABCDEF";
	const char *digit = c ? strchr(digits, c) : NULL;
	int value = digit ? (int)(digit - digits) : -1;

	return value < 16 ? value : value - 6;
}

/* udev writes a byte that is not safe in a name as \xNN; in place. */
static void decode(char *text)
{
	char *out = text;

	while (*text) {
		int high = text[0] == '\\' && text[1] == 'x' ? hex_value(text[2]) : -1;
		int low = high >= 0 ? hex_value(text[3]) : -1;

		if (low >= 0 && (high | low)) {
			*out++ = (char)(high << 4 | low);
			text += 4;
		} else {
			*out++ = *text++;
		}
	}
	*out = '\0';
}

static char *copy_property(disk_property_fn property, void *context, const char *key)
{
	const char *value = property(key, context);

	return value ? trim(value, strlen(value)) : NULL;
}

/* ID_MODEL has '_' for blanks, and for more. */
static char *copy_model(disk_property_fn property, void *context)
{
	const char *value = property("ID_MODEL_ENC", context);
	char *encoded = value ? strdup(value) : NULL, *model = NULL;

	if (encoded) {
		decode(encoded);
		model = trim(encoded, strlen(encoded));
	}
	free(encoded);
	return model ? model : copy_property(property, context, "ID_MODEL");
}

void disk_take_properties(struct disk *disk, disk_property_fn property, void *context)
{
	/* The order is lsblk's (util-linux, misc-utils/lsblk-properties.c). A SAS disk's ID_SERIAL_SHORT is its WWN. */
	static const char *const serials[] = { "SCSI_IDENT_SERIAL", "ID_SCSI_SERIAL", "ID_SERIAL_SHORT", "ID_SERIAL" };
	char *serial = NULL, *serial_short = copy_property(property, context, "ID_SERIAL_SHORT");
	char *wwn = copy_property(property, context, "ID_WWN_WITH_EXTENSION");

	for (size_t i = 0; !serial && i < sizeof(serials) / sizeof(serials[0]); i++)
		serial = copy_property(property, context, serials[i]);
	set(&disk->serial, serial);
	if (serial_short && disk->serial && strcmp(serial_short, disk->serial) == 0)
		free(serial_short);
	else
		set(&disk->serial_short, serial_short);
	set(&disk->wwn, wwn ? wwn : copy_property(property, context, "ID_WWN"));
	set(&disk->model, copy_model(property, context));
}

static const char *ask_property(const char *key, void *context)
{
	return udev_device_get_property_value(context, key);
}

/* -- links --------------------------------------------------------------------------------------- */

struct choice {
	dev_t rdev;
	char *best; /* owned, or NULL */
	unsigned int rank;
};

unsigned int disk_rank_link(const char *link)
{
	/*
	 * The first that fits. Model and serial number say most to a person; a WWN is as good to a machine; a path
	 * names the slot, not the disk; the last two are contents, and a copy has the same.
	 */
	static const struct {
		const char *prefix;
		unsigned int rank;
	} ranks[] = {
		{ "by-id/ata-", 0 },	  { "by-id/usb-", 0 },	     { "by-id/virtio-", 0 },	  { "by-id/mmc-", 0 },
		{ "by-id/dm-name-", 0 },  { "by-id/md-name-", 0 },   { "by-id/ieee1394-", 0 },	  { "by-id/scsi-S", 0 },
		{ "by-id/nvme-eui.", 3 }, { "by-id/nvme-uuid.", 3 }, { "by-id/nvme-nvme.", 3 },	  { "by-id/nvme-", 0 },
		{ "by-id/scsi-", 1 },	  { "by-id/wwn-", 3 },	     { "by-id/lvm-pv-uuid-", 6 }, { "by-id/", 2 },
		{ "by-path/", 4 },	  { "by-partuuid/", 5 },
	};

	for (size_t i = 0; i < sizeof(ranks) / sizeof(ranks[0]); i++)
		if (strncmp(link, ranks[i].prefix, strlen(ranks[i].prefix)) == 0)
			return ranks[i].rank;
	return DISK_NO_LINK;
}

/* Of two equals the longer: nvme-MODEL_SERIAL_1 says which name space. */
static bool is_better(const struct choice *choice, const char *path, unsigned int rank)
{
	size_t length = strlen(path), best;

	if (!choice->best || rank != choice->rank)
		return !choice->best || rank < choice->rank;
	best = strlen(choice->best);
	return length != best ? length > best : strcmp(path, choice->best) < 0;
}

/* Two devices may claim one link (the paths of a multipath device), and it may be gone: it counts where it leads. */
static void consider(struct choice *choice, const char *path, const char *link)
{
	unsigned int rank = disk_rank_link(link);
	struct stat st;

	if (rank == DISK_NO_LINK || !is_better(choice, path, rank))
		return;
	if (stat(path, &st) || !S_ISBLK(st.st_mode) || st.st_rdev != choice->rdev)
		return;
	set(&choice->best, strdup(path));
	choice->rank = rank;
}

static void scan(struct choice *choice, const char *directory, const char *kind)
{
	char path[PATH_MAX];
	struct dirent *entry;
	DIR *dir;

	snprintf(path, sizeof(path), "%s/%s", directory, kind);
	dir = opendir(path);
	if (!dir)
		return;
	while ((entry = readdir(dir)))
		if (snprintf(path, sizeof(path), "%s/%s/%s", directory, kind, entry->d_name) < (int)sizeof(path))
			consider(choice, path, path + strlen(directory) + 1);
	closedir(dir);
}

char *disk_find_link(const char *directory, dev_t rdev)
{
	static const char *const kinds[] = { "by-id", "by-path", "by-partuuid" };
	struct choice choice = { .rdev = rdev };

	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		scan(&choice, directory, kinds[i]);
	return choice.best;
}

static char *choose_udev_link(struct udev_device *device, dev_t rdev)
{
	struct choice choice = { .rdev = rdev };
	struct udev_list_entry *entry;

	udev_list_entry_foreach(entry, udev_device_get_devlinks_list_entry(device))
	{
		const char *path = udev_list_entry_get_name(entry);

		if (path && strncmp(path, LINKS "/", strlen(LINKS "/")) == 0)
			consider(&choice, path, path + strlen(LINKS "/"));
	}
	return choice.best;
}

/* -- all of it ----------------------------------------------------------------------------------- */

static void ask_udev(dev_t rdev, struct disk *disk)
{
	struct udev *udev = udev_new();
	struct udev_device *device;

	if (!udev)
		return;
	device = udev_device_new_from_devnum(udev, 'b', disk->whole);
	if (device)
		disk_take_properties(disk, ask_property, device);
	udev_device_unref(device);
	device = udev_device_new_from_devnum(udev, 'b', rdev);
	if (device)
		disk->stable_name = choose_udev_link(device, rdev);
	udev_device_unref(device);
	udev_unref(udev);
}

int disk_ask(dev_t rdev, struct disk *disk)
{
	int ret = disk_ask_sysfs("/sys", rdev, disk);

	if (ret)
		return ret;
	ask_udev(rdev, disk);
	if (!disk->stable_name)
		disk->stable_name = disk_find_link(LINKS, rdev);
	return 0;
}

void disk_free(struct disk *disk)
{
	free(disk->name);
	free(disk->stable_name);
	free(disk->whole_name);
	free(disk->serial);
	free(disk->serial_short);
	free(disk->wwn);
	free(disk->model);
	*disk = (struct disk){ .name = NULL };
}
