/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The only user of libblkid.
 */
#ifndef KCOPY_PROBE_H
#define KCOPY_PROBE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * The device that carries TAG=value (LABEL, UUID, PARTLABEL, PARTUUID), as it is now: no cache file is believed.
 * -ENOENT: none. -ENOTUNIQ: more than one, which is what a clone makes of its source; then @path and @other are two of
 * them. Both are to be freed by the caller, and NULL if not set.
 */
int probe_find_tag(const char *tag, char **path, char **other);

/* What libblkid found at one place: a superblock (file system, swap, RAID, LVM, LUKS ...) or a partition table. */
struct probe_signature {
	char *type;  /* owned: "ext4", "LVM2_member", "gpt" */
	char *label; /* owned, or NULL */
	char *uuid;  /* owned, or NULL */
	char *usage; /* owned, or NULL: "filesystem", "raid", "crypto", "other" */
	bool is_table;
	bool is_damaged; /* its checksum is wrong */
};

struct probe_partition {
	unsigned int number;
	uint64_t sector; /* from @offset on, in sectors of 512 bytes */
	uint64_t count;
	bool is_container; /* a DOS extended partition */
};

struct probe_result {
	struct probe_signature *signatures; /* owned */
	size_t num_signatures;
	struct probe_partition *partitions; /* owned */
	size_t num_partitions;
};

/* ZFS is not looked for in less: its own least size of a device (SPA_MINDEVSIZE), and libblkid's. */
#define PROBE_ZFS_LEAST_BYTES ((uint64_t)64 << 20)

/*
 * Everything that is known in [offset, offset + bytes) of @fd, which is read through the page cache. @block: the logical
 * block that partition tables count in, in bytes; 0: that of the device, or 512. Not an error: nothing. -errno if it
 * cannot be read. probe_free() is due in both cases.
 */
int probe_contents(int fd, uint64_t offset, uint64_t bytes, unsigned int block, struct probe_result *result);
/* Has a disk of @bytes a GPT that counts in blocks of @block bytes? 1 or 0; -errno as probe_contents(). */
int probe_gpt(int fd, uint64_t bytes, unsigned int block);

void probe_free(struct probe_result *result);

#endif
