/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "probe.h"

#include <blkid/blkid.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ZFS's on-disk format: a label is 256 KiB, two at each end; its second half are uberblocks of 1 KiB or more. */
#define ZFS_LABEL_BYTES ((uint64_t)256 << 10)
#define ZFS_UBERBLOCKS_BYTES ((size_t)128 << 10)
#define ZFS_UBERBLOCK_BYTES ((size_t)1 << 10)
/* Memory that is warm again costs less than to read all of them at once. */
#define ZFS_READ_BYTES ((size_t)16 << 10)
#define ZFS_MAGIC ((uint64_t)0x00bab10c)

#define GPT_MAGIC "EFI PART"

/* -- devices by tag ------------------------------------------------------------------------------ */

/* All devices that carry the tag; stops at the second. */
static int find_devices(blkid_cache cache, const char *type, const char *value, char **path, char **other)
{
	blkid_dev_iterate iterate = blkid_dev_iterate_begin(cache);
	blkid_dev device;
	int ret = 0;

	if (!iterate)
		return -ENOMEM;
	blkid_dev_set_search(iterate, type, value);
	while (ret == 0 && blkid_dev_next(iterate, &device) == 0) {
		char **name = *path ? other : path;

		device = blkid_verify(cache, device);
		if (!device || !blkid_dev_has_tag(device, type, value))
			continue;
		*name = strdup(blkid_dev_devname(device));
		if (!*name)
			ret = -ENOMEM;
		else if (name == other)
			ret = -ENOTUNIQ;
	}
	blkid_dev_iterate_end(iterate);
	return ret == 0 && !*path ? -ENOENT : ret;
}

int probe_find_tag(const char *tag, char **path, char **other)
{
	blkid_cache cache = NULL;
	char *type = NULL, *value = NULL;
	int ret = -ENOMEM;

	*path = NULL;
	*other = NULL;
	if (blkid_parse_tag_string(tag, &type, &value) != 0)
		return -ENOENT;
	/* An empty cache, never a file: what stood on a disk yesterday must not decide what is overwritten today. */
	if (blkid_get_cache(&cache, "/dev/null") != 0)
		goto out;
	blkid_probe_all(cache);
	ret = find_devices(cache, type, value, path, other);
	blkid_put_cache(cache);
out:
	free(type);
	free(value);
	return ret;
}

/* -- contents ------------------------------------------------------------------------------------ */

/* To be freed by the caller; NULL: there is no such value (or no memory, which costs a name and no more). */
static char *get_value(blkid_probe probe, const char *name)
{
	const char *value;
	size_t size; /* with its NUL */

	if (blkid_probe_lookup_value(probe, name, &value, &size) || size == 0)
		return NULL;
	return *value ? strndup(value, size) : NULL;
}

static void free_signature(struct probe_signature *signature)
{
	free(signature->type);
	free(signature->label);
	free(signature->uuid);
	free(signature->usage);
}

static int add_signature(blkid_probe probe, struct probe_result *result)
{
	struct probe_signature *signatures =
		reallocarray(result->signatures, result->num_signatures + 1, sizeof(signatures[0]));
	struct probe_signature *signature;

	if (!signatures)
		return -ENOMEM;
	result->signatures = signatures;
	signature = &signatures[result->num_signatures];
	*signature = (struct probe_signature){ .type = get_value(probe, "TYPE") };
	if (signature->type) {
		signature->label = get_value(probe, "LABEL");
		signature->uuid = get_value(probe, "UUID");
		signature->usage = get_value(probe, "USAGE");
	} else {
		signature->type = get_value(probe, "PTTYPE");
		signature->uuid = get_value(probe, "PTUUID");
		signature->is_table = true;
	}
	signature->is_damaged = blkid_probe_has_value(probe, "SBBADCSUM");
	if (signature->type)
		result->num_signatures++;
	else
		free_signature(signature);
	return 0;
}

/* Nothing that could be a ZFS member's is there: libblkid, too, finds it by what is_zfs_possible() looks for. */
static int skip_zfs(blkid_probe probe)
{
	char name[] = "zfs_member", *names[] = { name, NULL };

	return blkid_probe_filter_superblocks_type(probe, BLKID_FLTR_NOTIN, names);
}

/* In the array of them that begins at @offset; or it cannot be read. */
static bool has_uberblock(int fd, uint64_t offset)
{
	char uberblocks[ZFS_READ_BYTES];
	uint64_t magic;

	for (size_t i = 0; i < ZFS_UBERBLOCKS_BYTES; i += sizeof(uberblocks)) {
		if (pread(fd, uberblocks, sizeof(uberblocks), (off_t)(offset + i)) != (ssize_t)sizeof(uberblocks))
			return true;
		for (size_t j = 0; j < sizeof(uberblocks); j += ZFS_UBERBLOCK_BYTES) {
			memcpy(&magic, uberblocks + j, sizeof(magic));
			if (magic == ZFS_MAGIC || __builtin_bswap64(magic) == ZFS_MAGIC)
				return true;
		}
	}
	return false;
}

/*
 * libblkid looks for ZFS in the whole of its four labels, 1 MiB, and takes as long for that as for all else together. Is
 * there anything to find: one uberblock (its magic number, in either byte order) in one of the labels' arrays of them?
 */
static bool is_zfs_possible(int fd, uint64_t offset, uint64_t bytes)
{
	uint64_t end = bytes - bytes % ZFS_LABEL_BYTES;
	const uint64_t labels[] = { 0, ZFS_LABEL_BYTES, end - 2 * ZFS_LABEL_BYTES, end - ZFS_LABEL_BYTES };

	if (bytes < PROBE_ZFS_LEAST_BYTES)
		return false;
	for (size_t i = 0; i < sizeof(labels) / sizeof(labels[0]); i++)
		if (has_uberblock(fd, offset + labels[i] + ZFS_LABEL_BYTES - ZFS_UBERBLOCKS_BYTES))
			return true;
	return false;
}

/* As wipefs(8) looks: all there is, where a mount would be content with one; and what has a bad checksum, too. */
static int find_signatures(blkid_probe probe, bool has_no_zfs, struct probe_result *result)
{
	int ret;

	blkid_probe_enable_superblocks(probe, 1);
	if (has_no_zfs && skip_zfs(probe))
		return -ENOMEM;
	blkid_probe_set_superblocks_flags(probe, BLKID_SUBLKS_TYPE | BLKID_SUBLKS_LABEL | BLKID_SUBLKS_UUID |
							 BLKID_SUBLKS_USAGE | BLKID_SUBLKS_BADCSUM);
	blkid_probe_enable_partitions(probe, 1);
	blkid_probe_set_partitions_flags(probe, BLKID_PARTS_MAGIC | BLKID_PARTS_FORCE_GPT);
	errno = 0;
	while ((ret = blkid_do_probe(probe)) == 0) {
		ret = add_signature(probe, result);
		if (ret)
			return ret;
		errno = 0;
	}
	/* 1: nothing more */
	return ret < 0 ? -(errno ? errno : EIO) : 0;
}

static int find_partitions(blkid_probe probe, struct probe_result *result)
{
	blkid_partlist list;
	int num;

	blkid_reset_probe(probe);
	list = blkid_probe_get_partitions(probe);
	num = list ? blkid_partlist_numof_partitions(list) : 0;
	if (num <= 0)
		return 0;
	result->partitions = calloc((size_t)num, sizeof(result->partitions[0]));
	if (!result->partitions)
		return -ENOMEM;
	for (int i = 0; i < num; i++) {
		blkid_partition partition = blkid_partlist_get_partition(list, i);

		if (!partition)
			continue;
		result->partitions[result->num_partitions++] = (struct probe_partition){
			.number = (unsigned int)blkid_partition_get_partno(partition),
			.sector = (uint64_t)blkid_partition_get_start(partition),
			.count = (uint64_t)blkid_partition_get_size(partition),
			.is_container = blkid_partition_is_extended(partition),
		};
	}
	return 0;
}

static int probe_all(int fd, uint64_t offset, uint64_t bytes, unsigned int block, bool has_no_zfs,
		     struct probe_result *result)
{
	blkid_probe probe = blkid_new_probe();
	int ret;

	*result = (struct probe_result){ .signatures = NULL };
	if (!probe)
		return -ENOMEM;
	errno = 0;
	if (blkid_probe_set_device(probe, fd, (blkid_loff_t)offset, (blkid_loff_t)bytes)) {
		ret = -(errno ? errno : EIO);
		goto out;
	}
	if (block && blkid_probe_set_sectorsize(probe, block)) {
		ret = -EINVAL;
		goto out;
	}
	ret = find_signatures(probe, has_no_zfs, result);
	for (size_t i = 0; ret == 0 && i < result->num_signatures; i++) {
		if (result->signatures[i].is_table) {
			ret = find_partitions(probe, result);
			break;
		}
	}
out:
	blkid_free_probe(probe);
	return ret;
}

/* What is_zfs_possible() reads is the most, and was asked for last: the disk has the time that all else takes. */
int probe_contents(int fd, uint64_t offset, uint64_t bytes, unsigned int block, struct probe_result *result)
{
	int ret = probe_all(fd, offset, bytes, block, true, result);

	if (ret || !is_zfs_possible(fd, offset, bytes))
		return ret;
	probe_free(result);
	return probe_all(fd, offset, bytes, block, false, result);
}

/* In the second block of the disk, or in its last one. */
static bool is_gpt_possible(int fd, uint64_t bytes, unsigned int block)
{
	const uint64_t headers[] = { block, bytes - bytes % block - block };
	char magic[sizeof(GPT_MAGIC) - 1];

	for (size_t i = 0; i < sizeof(headers) / sizeof(headers[0]) && bytes >= 2 * (uint64_t)block; i++)
		if (pread(fd, magic, sizeof(magic), (off_t)headers[i]) != (ssize_t)sizeof(magic) ||
		    memcmp(magic, GPT_MAGIC, sizeof(magic)) == 0)
			return true;
	return false;
}

int probe_gpt(int fd, uint64_t bytes, unsigned int block)
{
	char name[] = "gpt", *names[] = { name, NULL };
	blkid_probe probe;
	int ret = -ENOMEM;

	if (!is_gpt_possible(fd, bytes, block))
		return 0;
	probe = blkid_new_probe();
	if (!probe)
		return ret;
	errno = 0;
	if (blkid_probe_set_device(probe, fd, 0, (blkid_loff_t)bytes))
		ret = -(errno ? errno : EIO);
	else if (blkid_probe_set_sectorsize(probe, block))
		ret = -EINVAL;
	else if (blkid_probe_enable_superblocks(probe, 0) == 0 && blkid_probe_enable_partitions(probe, 1) == 0 &&
		 blkid_probe_set_partitions_flags(probe, BLKID_PARTS_MAGIC | BLKID_PARTS_FORCE_GPT) == 0 &&
		 blkid_probe_filter_partitions_type(probe, BLKID_FLTR_ONLYIN, names) == 0) {
		errno = 0;
		ret = blkid_do_probe(probe);
		ret = ret < 0 ? -(errno ? errno : EIO) : ret == 0;
	}
	blkid_free_probe(probe);
	return ret;
}

void probe_free(struct probe_result *result)
{
	for (size_t i = 0; i < result->num_signatures; i++)
		free_signature(&result->signatures[i]);
	free(result->signatures);
	free(result->partitions);
	*result = (struct probe_result){ .signatures = NULL };
}
