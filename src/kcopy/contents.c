/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "contents.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "alias.h"
#include "probe.h"
#include "text.h"
#include "units.h"

/* What of a table is where, at each end of the disk: a GPT of 128 entries, or any other that libblkid knows. */
#define GPT_BLOCKS 34
#define OTHER_TABLE_BYTES 32768u

/* The other logical block that disks have, in bytes. */
#define LARGE_BLOCK 4096u

struct place {
	uint32_t offset, bytes;
};

/* Where libblkid looks: from a device's start on ... */
static const struct place first_places[] = { { 0, 72u << 10 },	  { 128u << 10, 512 }, { 256u << 10, 512 },
					     { 512u << 10, 512 }, { 1u << 20, 512 },   { 2u << 20, 512 },
					     { 4u << 20, 512 } };
/* ... before its end, and from there on: kinds of RAID, most of them Promise's, in single sectors ... */
static const struct place last_places[] = { { 3087 * 512, 512 }, { 991 * 512, 81 * 512 }, { 735 * 512, 61 * 512 },
					    { 591 * 512, 512 },	 { 399 * 512, 512 },	  { 257 * 512, 257 * 512 } };
/*
 * ... and in the second halves of ZFS's labels, of which the last two end at a multiple of their size. What is before the
 * first one is read for other things, where there is room for ZFS.
 */
#define ZFS_LABEL_BYTES ((uint64_t)256 << 10)
static const struct place first_labels[] = { { 72u << 10, 184u << 10 }, { 384u << 10, 128u << 10 } };
static const struct place last_labels[] = { { 384u << 10, 128u << 10 }, { 128u << 10, 128u << 10 } };

struct search {
	int fd; /* for reading, through the page cache */
	uint64_t device_bytes;
	uint64_t offset, end; /* of the region, in bytes, clipped to what is there */
	unsigned int block;   /* the logical block, bytes */
	dev_t rdev;	      /* 0: a file */
	struct contents *contents;
};

void contents_free(struct contents *contents)
{
	for (size_t i = 0; i < contents->num; i++) {
		struct content *item = &contents->items[i];

		free(item->text);
		free(item->node);
		free(item->type);
		free(item->label);
		free(item->uuid);
	}
	free(contents->items);
	*contents = (struct contents){ .items = NULL };
}

/* -- in words ------------------------------------------------------------------------------------ */

/* 'ext4 "backup", 500 GiB, UUID ...'; to be freed. NULL: no memory. */
static char *describe(const struct content *item, const char *kind)
{
	char *label = item->label ? text_printable(item->label) : NULL, *uuid = NULL, *ret = NULL;
	char size[UNITS_SIZE_CHARS];

	if (item->uuid)
		uuid = text_printable(item->uuid);
	units_format_bytes(item->bytes, size);
	if (asprintf(&ret, "%s%s%s%s%s%s%s%s%s%s", item->type, kind, label ? " \"" : "", label ? label : "",
		     label ? "\"" : "", item->is_damaged ? ", damaged" : "", item->bytes ? ", " : "",
		     item->bytes ? size : "", uuid ? ", UUID " : "", uuid ? uuid : "") < 0)
		ret = NULL;
	free(label);
	free(uuid);
	return ret;
}

static const char *kind_of(const struct probe_signature *signature)
{
	if (signature->usage && strcmp(signature->usage, "filesystem") == 0)
		return " file system";
	if (signature->usage && strcmp(signature->usage, "crypto") == 0)
		return " encrypted volume";
	return "";
}

static bool set_text(struct content *item, const char *form, ...) __attribute__((format(printf, 2, 3)));

static bool set_text(struct content *item, const char *form, ...)
{
	va_list args;

	va_start(args, form);
	if (vasprintf(&item->text, form, args) < 0)
		item->text = NULL;
	va_end(args);
	return item->text;
}

/* -- items --------------------------------------------------------------------------------------- */

/* A new one at the end of the list, or NULL. */
static struct content *add_item(struct search *search, uint64_t offset, uint64_t bytes)
{
	struct contents *contents = search->contents;
	struct content *items = reallocarray(contents->items, contents->num + 1, sizeof(items[0]));

	if (!items)
		return NULL;
	contents->items = items;
	items[contents->num] = (struct content){ .offset = offset, .bytes = bytes };
	return &items[contents->num++];
}

/* The texts change hands. */
static void take_signature(struct content *item, struct probe_signature *signature)
{
	item->type = signature->type;
	item->label = signature->label;
	item->uuid = signature->uuid;
	item->is_table = signature->is_table;
	item->is_damaged = signature->is_damaged;
	signature->type = NULL;
	signature->label = NULL;
	signature->uuid = NULL;
}

static bool touches(const struct search *search, uint64_t offset, uint64_t bytes)
{
	return offset < search->end && search->offset < offset + bytes;
}

/* The sectors of a table that begins at @offset and is for a disk of @bytes. */
static bool touches_table(const struct search *search, const char *type, uint64_t offset, uint64_t bytes)
{
	uint64_t gpt = (uint64_t)GPT_BLOCKS * search->block;

	if (strcmp(type, "dos") == 0)
		return touches(search, offset, search->block);
	/* There was a GPT, and libblkid does not trust it: who knows where its partitions are. */
	if (strcmp(type, "PMBR") == 0)
		return true;
	if (strcmp(type, "gpt") != 0)
		return touches(search, offset, OTHER_TABLE_BYTES);
	if (gpt > bytes)
		gpt = bytes;
	/* The backup has no protective MBR. */
	return touches(search, offset, gpt) || touches(search, offset + bytes - gpt + search->block, gpt);
}

/* Something that stands alone: on the whole device, or where the region begins. */
static int add_signature(struct search *search, struct probe_signature *signature, uint64_t offset, uint64_t bytes,
			 size_t partitions)
{
	struct content *item = add_item(search, offset, bytes);
	const char *whose = offset ? "the" : "its";
	char place[48] = "", *what;
	bool is_set;

	if (!item)
		return -ENOMEM;
	take_signature(item, signature);
	if (offset > 0)
		snprintf(place, sizeof(place), " at sector %" PRIu64, offset / KCOPYD_SECTOR_BYTES);
	if (item->is_table)
		return set_text(item, "%s partition table (%s, %zu partition%s)%s", whose, item->type, partitions,
				partitions == 1 ? "" : "s", place)
			       ? 0
			       : -ENOMEM;
	what = describe(item, kind_of(signature));
	is_set = what && set_text(item, "%s %s%s", whose, what, place);
	free(what);
	return is_set ? 0 : -ENOMEM;
}

/* -- partitions ---------------------------------------------------------------------------------- */

/* A number from a file of sysfs, in the directory of partition @name below that of its disk. */
static bool read_number(const char *disk, const char *name, const char *file, uint64_t *number)
{
	unsigned long long value = 0;
	char path[400];
	FILE *stream;
	bool ret;

	snprintf(path, sizeof(path), "%s/%s/%s", disk, name, file);
	stream = fopen(path, "re");
	if (!stream)
		return false;
	ret = fscanf(stream, "%llu", &value) == 1;
	fclose(stream);
	*number = value;
	return ret;
}

static bool is_partition_at(const char *disk, const char *name, uint64_t sector)
{
	uint64_t number, start;

	return read_number(disk, name, "partition", &number) && read_number(disk, name, "start", &start) &&
	       start == sector;
}

/* "/dev/sdc1", if the kernel knows the partition; to be freed, or NULL. */
static char *find_node(dev_t rdev, uint64_t sector)
{
	struct alias_walk walk = { .dir = NULL };
	const char *name;
	char *ret = NULL;

	if (!rdev)
		return NULL;
	alias_walk_partitions(rdev, &walk);
	while (!ret && (name = alias_next_partition(&walk)))
		if (is_partition_at(walk.path, name, sector) && asprintf(&ret, "/dev/%s", name) < 0)
			ret = NULL;
	alias_end_walk(&walk);
	for (char *bang = ret ? strchr(ret, '!') : NULL; bang; bang = strchr(bang, '!'))
		*bang = '/'; /* as the kernel writes cciss/c0d0 */
	return ret;
}

/* @signature NULL: nothing that is known. */
static int add_partition(struct search *search, const struct probe_partition *partition,
			 struct probe_signature *signature)
{
	struct content *item =
		add_item(search, partition->sector * KCOPYD_SECTOR_BYTES, partition->count * KCOPYD_SECTOR_BYTES);
	char name[48], size[UNITS_SIZE_CHARS], *what = NULL;
	bool is_set;

	if (!item)
		return -ENOMEM;
	item->partition = partition->number;
	item->node = find_node(search->rdev, partition->sector);
	snprintf(name, sizeof(name), "partition %u", partition->number);
	if (signature) {
		take_signature(item, signature);
		what = describe(item, item->is_table ? " partition table" : "");
		is_set = what && set_text(item, "%s (%s)", item->node ? item->node : name, what);
	} else {
		is_set = set_text(item, "%s (%s, %s)", item->node ? item->node : name,
				  partition->is_container ? "an extended partition" : "nothing known in it",
				  units_format_bytes(item->bytes, size));
	}
	free(what);
	return is_set ? 0 : -ENOMEM;
}

static bool is_region(const struct search *search, const struct probe_partition *partition)
{
	return partition->sector * KCOPYD_SECTOR_BYTES == search->offset &&
	       (partition->sector + partition->count) * KCOPYD_SECTOR_BYTES == search->end;
}

/* What is in an extended partition are other partitions, and the links between them. */
static bool is_within_logical(const struct search *search, const struct probe_result *disk,
			      const struct probe_partition *container)
{
	for (size_t i = 0; i < disk->num_partitions; i++) {
		const struct probe_partition *partition = &disk->partitions[i];

		if (partition != container && partition->sector > container->sector &&
		    partition->sector * KCOPYD_SECTOR_BYTES <= search->offset &&
		    (partition->sector + partition->count) * KCOPYD_SECTOR_BYTES >= search->end)
			return true;
	}
	return false;
}

static int search_partition(struct search *search, const struct probe_result *disk,
			    const struct probe_partition *partition)
{
	uint64_t offset = partition->sector * KCOPYD_SECTOR_BYTES, bytes = partition->count * KCOPYD_SECTOR_BYTES;
	struct probe_result result = { .signatures = NULL };
	int ret = 0;

	if (partition->sector >= search->device_bytes / KCOPYD_SECTOR_BYTES || !touches(search, offset, bytes))
		return 0;
	if (partition->is_container)
		return is_within_logical(search, disk, partition) ? 0 : add_partition(search, partition, NULL);
	/* A table may promise more than the device has. */
	if (bytes > search->device_bytes - offset)
		bytes = search->device_bytes - offset;
	ret = probe_contents(search->fd, offset, bytes, 0, &result);
	for (size_t i = 0; ret == 0 && i < result.num_signatures; i++)
		ret = add_partition(search, partition, &result.signatures[i]);
	if (ret == 0 && result.num_signatures == 0 && !is_region(search, partition))
		ret = add_partition(search, partition, NULL);
	probe_free(&result);
	return ret;
}

static bool is_listed(const struct probe_result *disk, uint64_t sector)
{
	for (size_t i = 0; i < disk->num_partitions; i++)
		if (disk->partitions[i].sector == sector)
			return true;
	return false;
}

/*
 * What the kernel has for a partition is one, though no table says so any more: it was wiped a moment ago, and all is still
 * there; or partx(8) made it.
 */
static int add_kernel_partitions(const struct search *search, struct probe_result *disk)
{
	uint64_t number, start, count;
	struct alias_walk walk = { .dir = NULL };
	const char *name;
	int ret = 0;

	if (!search->rdev)
		return 0;
	alias_walk_partitions(search->rdev, &walk);
	while (ret == 0 && (name = alias_next_partition(&walk))) {
		struct probe_partition *partitions;

		if (!read_number(walk.path, name, "partition", &number) ||
		    !read_number(walk.path, name, "start", &start) || !read_number(walk.path, name, "size", &count) ||
		    is_listed(disk, start))
			continue;
		partitions = reallocarray(disk->partitions, disk->num_partitions + 1, sizeof(partitions[0]));
		if (!partitions) {
			ret = -ENOMEM;
			break;
		}
		disk->partitions = partitions;
		/* An extended partition's node is of two sectors: the kernel keeps writes off its logical ones. */
		partitions[disk->num_partitions++] =
			(struct probe_partition){ .number = (unsigned int)number, .sector = start, .count = count };
	}
	alias_end_walk(&walk);
	return ret;
}

/* -- the search ---------------------------------------------------------------------------------- */

static bool has_gpt(const struct probe_result *result)
{
	for (size_t i = 0; i < result->num_signatures; i++)
		if (result->signatures[i].is_table && strcmp(result->signatures[i].type, "gpt") == 0)
			return true;
	return false;
}

/* The image of a disk, in a file or on another disk, may count in other blocks than what it is on. */
static int probe_disk(struct search *search, struct probe_result *disk)
{
	struct probe_result other;
	int ret = probe_contents(search->fd, 0, search->device_bytes, 0, disk);

	unsigned int block = search->block == LARGE_BLOCK ? KCOPYD_SECTOR_BYTES : LARGE_BLOCK;

	if (ret || has_gpt(disk))
		return ret;
	ret = probe_gpt(search->fd, search->device_bytes, block);
	if (ret <= 0)
		return ret;
	ret = probe_contents(search->fd, 0, search->device_bytes, block, &other);
	if (ret || !has_gpt(&other)) {
		probe_free(&other);
		return ret;
	}
	probe_free(disk);
	*disk = other;
	search->block = block;
	return 0;
}

static int search_device(struct search *search, bool *is_partition)
{
	struct probe_result disk;
	int ret = probe_disk(search, &disk);

	*is_partition = false;
	size_t in_table = disk.num_partitions;

	if (ret == 0)
		ret = add_kernel_partitions(search, &disk);
	for (size_t i = 0; ret == 0 && i < disk.num_signatures; i++)
		if (!disk.signatures[i].is_table ||
		    touches_table(search, disk.signatures[i].type, 0, search->device_bytes))
			ret = add_signature(search, &disk.signatures[i], 0, search->device_bytes, in_table);
	for (size_t i = 0; ret == 0 && i < disk.num_partitions; i++) {
		ret = search_partition(search, &disk, &disk.partitions[i]);
		if (disk.partitions[i].sector * KCOPYD_SECTOR_BYTES == search->offset)
			*is_partition = true;
	}
	probe_free(&disk);
	return ret;
}

/* What is at a device's end (RAID) looks the same from any place before it. */
static bool is_known(const struct search *search, const struct probe_signature *signature)
{
	for (size_t i = 0; i < search->contents->num; i++) {
		const struct content *item = &search->contents->items[i];

		if (strcmp(item->type ? item->type : "", signature->type) == 0 &&
		    strcmp(item->uuid ? item->uuid : "", signature->uuid ? signature->uuid : "") == 0)
			return true;
	}
	return false;
}

/* Where no table says that something begins: a file system at an offset of its own. */
static int search_region(struct search *search)
{
	struct probe_result result;
	uint64_t bytes = search->device_bytes - search->offset; /* a short region destroys a large file system */
	int ret = probe_contents(search->fd, search->offset, bytes, 0, &result);

	for (size_t i = 0; ret == 0 && i < result.num_signatures; i++)
		if (!is_known(search, &result.signatures[i]))
			ret = add_signature(search, &result.signatures[i], search->offset, 0, result.num_partitions);
	probe_free(&result);
	return ret;
}

/*
 * Another descriptor of the very same device or file, since that of the copy bypasses the page cache. Not a timestamp
 * changes, if we may have it so.
 */
static int open_for_reading(const struct block_device *bdev)
{
	char path[48];
	int fd;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", kcopyd_device_fd(bdev));
	fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY | O_NOATIME);
	if (fd < 0 && errno == EPERM)
		fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
	return fd < 0 ? -errno : fd;
}

static void read_ahead(int fd, uint64_t offset, uint32_t bytes)
{
	posix_fadvise(fd, (off_t)offset, bytes, POSIX_FADV_WILLNEED);
}

/*
 * libblkid reads page by page, each when it has got the one before; almost all of them are at the two ends. Asked for at
 * once they take the time of a few.
 */
static void read_places(int fd, uint64_t bytes)
{
	uint64_t end = bytes - bytes % ZFS_LABEL_BYTES;

	for (size_t i = 0; i < sizeof(first_places) / sizeof(first_places[0]); i++)
		if (first_places[i].offset < bytes)
			read_ahead(fd, first_places[i].offset, first_places[i].bytes);
	for (size_t i = 0; i < sizeof(last_places) / sizeof(last_places[0]); i++)
		if (last_places[i].offset <= bytes)
			read_ahead(fd, bytes - last_places[i].offset, last_places[i].bytes);
	for (size_t i = 0; i < 2 && bytes >= PROBE_ZFS_LEAST_BYTES; i++)
		read_ahead(fd, first_labels[i].offset, first_labels[i].bytes);
	for (size_t i = 0; i < 2 && bytes >= PROBE_ZFS_LEAST_BYTES; i++)
		read_ahead(fd, end - last_labels[i].offset, last_labels[i].bytes);
}

void contents_begin(const struct io_region *region, dev_t rdev)
{
	int fd = rdev ? open_for_reading(region->bdev) : -1;

	if (fd < 0)
		return;
	/*
	 * What a disk's page cache holds of a partition may be older than the partition: mkfs went through the cache of
	 * the partition's own node.
	 */
	posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
	read_places(fd, kcopyd_device_bytes(region->bdev));
	close(fd);
}

int contents_find(const struct io_region *region, dev_t rdev, struct contents *contents)
{
	struct search search = { .contents = contents, .rdev = rdev };
	bool is_partition;
	int ret;

	*contents = (struct contents){ .items = NULL };
	search.device_bytes = kcopyd_device_bytes(region->bdev);
	search.block = kcopyd_device_logical_block(region->bdev);
	search.offset = region->sector * KCOPYD_SECTOR_BYTES;
	search.end = search.offset + region->count * KCOPYD_SECTOR_BYTES;
	if (search.end > search.device_bytes)
		search.end = search.device_bytes;
	if (search.offset >= search.end)
		return 0; /* a file that grows */
	search.fd = open_for_reading(region->bdev);
	if (search.fd < 0)
		return search.fd;
	ret = search_device(&search, &is_partition);
	if (ret == 0 && search.offset > 0 && !is_partition)
		ret = search_region(&search);
	close(search.fd);
	return ret;
}

int contents_find_start(const struct io_region *region, struct contents *contents)
{
	struct search search = { .contents = contents };
	int ret;

	*contents = (struct contents){ .items = NULL };
	search.device_bytes = kcopyd_device_bytes(region->bdev);
	search.block = kcopyd_device_logical_block(region->bdev);
	search.offset = region->sector * KCOPYD_SECTOR_BYTES;
	search.end = search.device_bytes;
	if (search.offset >= search.end)
		return 0;
	search.fd = open_for_reading(region->bdev);
	if (search.fd < 0)
		return search.fd;
	ret = search_region(&search);
	close(search.fd);
	return ret;
}

bool contents_is_hit(const struct content *item, const struct io_region *region)
{
	const struct search search = {
		.block = kcopyd_device_logical_block(region->bdev),
		.offset = region->sector * KCOPYD_SECTOR_BYTES,
		.end = (region->sector + region->count) * KCOPYD_SECTOR_BYTES,
	};

	if (item->is_table && item->type)
		return touches_table(&search, item->type, item->offset, item->bytes);
	/* A partition that holds nothing known may be written as a whole. */
	if (!item->type && search.offset == item->offset && search.end == item->offset + item->bytes)
		return false;
	return item->bytes ? touches(&search, item->offset, item->bytes) : search.end > item->offset;
}

int contents_read(const struct io_region *region, uint64_t offset, void *buffer, size_t bytes)
{
	int fd = open_for_reading(region->bdev), ret = 0;
	ssize_t done;

	if (fd < 0)
		return fd;
	done = TEMP_FAILURE_RETRY(pread(fd, buffer, bytes, (off_t)offset));
	if (done < 0)
		ret = -errno;
	else if ((size_t)done < bytes)
		ret = -EIO;
	close(fd);
	return ret;
}
