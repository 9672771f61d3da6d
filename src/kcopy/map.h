/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A resume map: which sectors of the source's region a destination has on stable storage, and which it has not. Kept
 * as runs, so that it grows with the number of bad areas and never with the size of the copy. Read and written as GNU
 * ddrescue's mapfile (its manual, "Mapfile structure"; kcopy-map(5)): positions in bytes on the source. Not thread-safe
 * but for map_write().
 */
#ifndef KCOPY_MAP_H
#define KCOPY_MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kcopyd.h"

enum map_status {
	MAP_MISSING,  /* '?': not written */
	MAP_BAD,      /* '-': unreadable on the source */
	MAP_WRITTEN,  /* saved as '?': written, but no flush began since */
	MAP_FLUSHING, /* saved as '?': written before a flush that is under way */
	MAP_FLUSHED,  /* '+': on stable storage */
};

#define MAP_MAX_SECTORS ((sector_t)1 << 54) /* 2^63 bytes: no region ends after it */

struct map;

/* The region of the source, in its sectors, not empty and within MAP_MAX_SECTORS; all of it missing. -ENOMEM. */
int map_create(sector_t sector, sector_t count, struct map **result);
void map_destroy(struct map *map); /* NULL is allowed */

/* What map_create() was given. */
sector_t map_sector(const struct map *map);
sector_t map_sectors(const struct map *map);

/*
 * The range must be within the map's, and not empty (an assert). -ENOMEM: nothing has changed. O(1), amortised, where
 * the last one was set; elsewhere O(log n), and a memmove() of as many runs as are in between.
 */
int map_set(struct map *map, sector_t sector, sector_t count, enum map_status status);

/* The status at @sector, and how many sectors from there on have the same (at least 1). O(log n). */
enum map_status map_get(const struct map *map, sector_t sector, sector_t *count);

/* Everything that is @from becomes @to. Never fails. O(n), or nothing to do. */
void map_replace(struct map *map, enum map_status from, enum map_status to);

/* Sectors that are @status. O(1). */
sector_t map_count(const struct map *map, enum map_status status);

/* The number of runs, which is what it takes in memory. */
size_t map_num_runs(const struct map *map);

/* Each becomes what the other was. */
void map_swap(struct map *map, struct map *other);

/* -- as text, and in files ----------------------------------------------------------------------- */

/*
 * One side of a copy, as the header of a map tells it. The texts are borrowed, and hold any bytes; NULL or empty: not
 * known, but the path must be.
 */
struct map_side {
	const char *path;	/* absolute */
	const char *serial;	/* of its disk: the whole one ... */
	const char *wwn;	/* ... and its WWN ... */
	unsigned int partition; /* ... so this tells partitions of equal sizes apart; 0: the whole disk, or a file */
	uint64_t bytes;		/* of the device or file; 0, of a destination alone: a file, as it grows */
	sector_t sector;	/* where the region begins on it; on the source: map_sector() */
};

struct map_owner {
	struct map_side source, dest;
};

/*
 * To be freed by the caller; NUL-terminated, which @bytes does not count. NULL: no memory. The region's last sector
 * must begin within source.bytes (an assert); the last block ends where the source does.
 */
char *map_format(const struct map *map, const struct map_owner *owner, size_t *bytes);

/*
 * Fills @map, which is fresh. -EINVAL: it does not parse, or belongs to other devices, regions or sizes; @message (to
 * be freed) is one printable line that names line and reason, without the file's name. -ENOMEM. On failure @map is as
 * it was. '*' and '/', which ddrescue would try again, count as missing; '?' outside the region is ignored.
 *
 * Does it belong to @owner? Sizes and regions must be equal. A side whose serial or WWN both know is the same if these
 * and the partition are, whatever its path is now; any other is the same if its path is.
 */
int map_parse(struct map *map, const struct map_owner *owner, const char *text, size_t bytes, char **message);

/* A longer text is neither written nor read: more than a million runs. */
#define MAP_MAX_BYTES ((size_t)64 << 20)

/*
 * map_format() into the file: a temporary one beside it, fsync, rename, fsync of the directory; of a symbolic link the
 * target is written. An old file keeps its mode, and its owner where that is allowed. 0 or -errno (-EISDIR, -ENOTSUP:
 * not a regular file; -EFBIG: more than MAP_MAX_BYTES): the temporary file is gone, and the old one is as it was. Only
 * if it was the last step that failed, the new one is there, and after a power cut either may be.
 */
int map_save(const struct map *map, const struct map_owner *owner, const char *path);

/* The part of map_save() that waits for a disk, after map_format(): on any thread. */
int map_write(const char *text, size_t bytes, const char *path);

/*
 * map_parse() of the file. -ENOENT: there is none. -EINVAL: as map_parse(); also if it is no regular file, or too big.
 * Another -errno (@message is NULL): it cannot be read.
 */
int map_load(struct map *map, const struct map_owner *owner, const char *path, char **message);

#endif
