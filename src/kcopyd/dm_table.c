/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "dm_table.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/sysmacros.h>
#include <unistd.h>

/* Most tables have a line or two. */
#define FIRST_BYTES (16u << 10)
#define MOST_BYTES (64u << 20)

/* No device is that long: sectors of 2^64 bytes. */
#define MOST_SECTORS ((uint64_t)1 << 55)

/* One attempt, with a buffer of @bytes. -ENOBUFS: the table is longer. */
static int ask(int fd, dev_t rdev, uint32_t bytes, struct dm_table *table)
{
	struct dm_ioctl *dmi = calloc(1, bytes);
	int ret = 0;

	if (!dmi)
		return -ENOMEM;
	*table = (struct dm_table){ .answer = dmi, .bytes = bytes };
	dmi->version[0] = 4;
	dmi->data_size = bytes;
	dmi->data_start = sizeof(*dmi);
	dmi->dev = rdev;
	dmi->flags = DM_STATUS_TABLE_FLAG | DM_SECURE_DATA_FLAG;
	if (ioctl(fd, DM_TABLE_STATUS, dmi))
		ret = -errno;
	else if (dmi->flags & DM_BUFFER_FULL_FLAG)
		ret = -ENOBUFS;
	else if (dmi->data_start < sizeof(*dmi) || dmi->data_start > bytes)
		ret = -EIO;
	if (ret)
		dm_table_free(table);
	else
		table->num_left = dmi->target_count;
	return ret;
}

int dm_table_read(dev_t rdev, struct dm_table *table)
{
	uint32_t bytes = FIRST_BYTES;
	int fd, ret;

	fd = open("/dev/" DM_DIR "/" DM_CONTROL_NODE, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	do {
		ret = ask(fd, rdev, bytes, table);
		bytes *= 4;
	} while (ret == -ENOBUFS && bytes <= MOST_BYTES);
	close(fd);
	return ret;
}

/* There may be keys in it. */
void dm_table_free(struct dm_table *table)
{
	explicit_bzero(table->answer, table->bytes);
	free(table->answer);
	table->answer = NULL;
}

int dm_table_next(struct dm_table *table, struct dm_target *target)
{
	const char *first = (const char *)table->answer + table->answer->data_start;
	uint32_t room = table->bytes - table->answer->data_start;
	struct dm_target_spec spec;

	if (table->num_left == 0)
		return 0;
	if (table->next > room || room - table->next <= sizeof(spec))
		return -EIO;
	memcpy(&spec, first + table->next, sizeof(spec));
	target->sector = spec.sector_start;
	target->count = spec.length;
	target->type = first + table->next + offsetof(struct dm_target_spec, target_type);
	target->params = first + table->next + sizeof(spec);
	if (!memchr(target->type, '\0', sizeof(spec.target_type)) ||
	    !memchr(target->params, '\0', room - table->next - sizeof(spec)))
		return -EIO;
	table->next = spec.next;
	table->num_left--;
	return 1;
}

/* Field @index of the parameters, from 0, or NULL. */
static const char *find_field(const char *params, unsigned int index)
{
	for (;;) {
		params += strspn(params, " ");
		if (*params == '\0')
			return NULL;
		if (index-- == 0)
			return params;
		params += strcspn(params, " ");
	}
}

/* Digits, less than @limit, and then @end (' ': or the end of all); steps over them. */
static bool take_number(const char **text, uint64_t limit, char end, uint64_t *value)
{
	const char *c = *text;
	uint64_t number = 0;

	for (; isdigit((unsigned char)*c); c++) {
		number = number * 10 + (uint64_t)(*c - '0');
		if (number >= limit)
			return false;
	}
	if (c == *text || (*c != end && !(end == ' ' && *c == '\0')))
		return false;
	*text = *c ? c + 1 : c;
	*value = number;
	return true;
}

static bool read_number(const char *params, unsigned int index, uint64_t *value)
{
	const char *text = find_field(params, index);

	return text && take_number(&text, UINT32_MAX, ' ', value);
}

/* "<major>:<minor> <sector>", in fields @index and the next. The kernel prints numbers, whatever it was given. */
static bool read_place(const char *params, unsigned int index, dev_t *disk, sector_t *sector)
{
	const char *text = find_field(params, index), *place;
	uint64_t major, minor;

	if (!text || !take_number(&text, 1u << 12, ':', &major) || !take_number(&text, 1u << 20, ' ', &minor))
		return false;
	place = find_field(text, 0);
	if (!place || !take_number(&place, MOST_SECTORS, ' ', sector))
		return false;
	*disk = makedev((unsigned int)major, (unsigned int)minor);
	return true;
}

/* "delay": reads, writes and flushes may go to three places, and only if they are one is it one-to-one. */
static bool is_one_place(const char *params)
{
	dev_t disk, other_disk;
	sector_t sector, other_sector;

	if (!read_place(params, 0, &disk, &sector))
		return false;
	for (unsigned int index = 3; find_field(params, index); index += 3)
		if (!read_place(params, index, &other_disk, &other_sector) || other_disk != disk ||
		    other_sector != sector)
			return false;
	return true;
}

/* "striped <stripes> <chunk> (<dev> <sector>)...": each leg holds its share of the target's sectors, without gaps. */
static int read_stripe(const struct dm_target *target, unsigned int n, struct piece *leg)
{
	uint64_t stripes;

	if (!read_number(target->params, 0, &stripes) || stripes == 0 || target->count % stripes)
		return -EINVAL;
	if (n >= stripes)
		return 0;
	if (!read_place(target->params, 2 + 2 * n, &leg->disk, &leg->base_sector))
		return -EINVAL;
	leg->base_count = target->count / stripes;
	leg->is_all = true;
	return 1;
}

int dm_target_leg(const struct dm_target *target, unsigned int n, struct piece *leg)
{
	static const struct {
		const char *type;
		unsigned int index; /* of the field with the device */
	} one_to_one[] = { { "linear", 0 }, { "crypt", 3 }, { "flakey", 0 }, { "dust", 0 }, { "delay", 0 } };

	if (target->count >= MOST_SECTORS || target->sector >= MOST_SECTORS)
		return -EINVAL;
	*leg = (struct piece){ .sector = target->sector, .count = target->count };
	if (!strcmp(target->type, "zero") || !strcmp(target->type, "error"))
		return 0;
	if (!strcmp(target->type, "striped"))
		return read_stripe(target, n, leg);
	if (!strcmp(target->type, "delay") && !is_one_place(target->params))
		return -EINVAL;
	for (unsigned int i = 0; i < sizeof(one_to_one) / sizeof(one_to_one[0]); i++) {
		if (strcmp(target->type, one_to_one[i].type) != 0)
			continue;
		if (n > 0)
			return 0;
		leg->is_exact = true;
		leg->base_count = leg->count;
		return read_place(target->params, one_to_one[i].index, &leg->disk, &leg->base_sector) ? 1 : -EINVAL;
	}
	return -EINVAL;
}
