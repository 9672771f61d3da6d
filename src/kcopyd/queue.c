/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "queue.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "device.h"
#include "identity.h"
#include "stack.h"

#define PAGE_SECTORS (KCOPYD_PAGE_BYTES / KCOPYD_SECTOR_BYTES)
#define CHUNK_PAGES (((unsigned int)1 << 20) / KCOPYD_PAGE_BYTES)
/* Of these there must be so many in the reserve: two that are read, two that are written. */
#define FEWEST_CHUNKS 4u

/*
 * Disks that have no such size say 65535 blocks of 512 or 4095 of 4096 bytes, the most that a command has room for. A
 * stripe is a power of 2 on each of so many disks, at the most.
 */
#define MOST_OPTIMAL ((uint64_t)16 << 20)
#define MOST_DISKS 256u

/* Loop devices over files on loop devices ... */
#define MAX_LEVELS 16u

/* -- what the kernel tells ----------------------------------------------------------------------- */

/* An attribute of the queue; a partition has its disk's. 0: there is none. */
static uint64_t read_attribute(int dir, const char *name)
{
	char path[64], text[32] = "";
	unsigned long long number = 0;
	int fd;

	snprintf(path, sizeof(path), "queue/%s", name);
	fd = openat(dir, path, O_RDONLY | O_CLOEXEC);
	if (fd < 0) {
		snprintf(path, sizeof(path), "../queue/%s", name);
		fd = openat(dir, path, O_RDONLY | O_CLOEXEC);
	}
	if (fd < 0)
		return 0;
	if (read(fd, text, sizeof(text) - 1) < 0 || sscanf(text, "%llu", &number) != 1)
		number = 0;
	close(fd);
	return number;
}

static bool is_credible(uint64_t optimal, unsigned int block)
{
	if (optimal == 0 || optimal > MOST_OPTIMAL || optimal % block)
		return false;
	return optimal / (optimal & -optimal) <= MOST_DISKS;
}

static uint32_t at_most(uint64_t number, uint32_t most)
{
	return number < most ? (uint32_t)number : most;
}

/*
 * Is it one of those whose drivers only queue what they are given? Others carry it out at once (ramdisks), or wait for a
 * socket or another device.
 */
static bool takes_at_once(const char *path)
{
	static const char *const names[] = { "loop", "nvme", "sd", "vd", "xvd" };
	char target[4096];
	ssize_t length = readlink(path, target, sizeof(target) - 1);
	const char *name;

	if (length < 0)
		return false;
	target[length] = '\0';
	name = strstr(target, "/block/");
	if (!name)
		return false;
	name += strlen("/block/");
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (strncmp(name, names[i], strlen(names[i])) == 0)
			return true;
	return false;
}

void queue_read(const char *sysfs, dev_t rdev, unsigned int block, struct queue *queue)
{
	char path[4096];
	uint64_t optimal;
	int dir;

	*queue = (struct queue){ 0 };
	snprintf(path, sizeof(path), "%s/dev/block/%u:%u", sysfs, major(rdev), minor(rdev));
	dir = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return;
	optimal = read_attribute(dir, "optimal_io_size");
	if (is_credible(optimal, block))
		queue->optimal_bytes = (uint32_t)optimal;
	queue->max_bytes = at_most(read_attribute(dir, "max_sectors_kb"), UINT32_MAX >> 10) << 10;
	queue->num_requests = at_most(read_attribute(dir, "nr_requests"), UINT32_MAX);
	queue->is_rotational = read_attribute(dir, "rotational") == 1;
	queue->takes_at_once = takes_at_once(path);
	close(dir);
}

const struct queue *queue_ask(struct block_device *bdev)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

	if (atomic_load(&bdev->has_queue))
		return &bdev->queue;
	pthread_mutex_lock(&lock);
	if (!atomic_load(&bdev->has_queue)) {
		/* A file is one piece, of its file system. */
		if (bdev->fd >= 0)
			queue_read("/sys", bdev->is_block ? bdev->rdev : bdev->identity.pieces[0].disk,
				   bdev->logical_block, &bdev->queue);
		atomic_store(&bdev->has_queue, true);
	}
	pthread_mutex_unlock(&lock);
	return &bdev->queue;
}

/* -- the spindle --------------------------------------------------------------------------------- */

/* Adds the disks that @identity is on, those below file systems, too. What cannot be told is left out. */
static void add_disks(const struct identity *identity, unsigned int level, struct identity *disks)
{
	for (unsigned int i = 0; i < identity->num_pieces; i++) {
		const struct piece *piece = &identity->pieces[i];
		struct identity below = { 0 };

		if (piece->inode == 0)
			identity_add_whole(disks, piece->disk, 0);
		else if (level < MAX_LEVELS && stack_find(-1, piece->disk, &below) == 0)
			add_disks(&below, level + 1, disks);
		identity_release(&below);
	}
}

static bool has_disk(const struct identity *disks, dev_t disk)
{
	for (unsigned int i = 0; i < disks->num_pieces; i++)
		if (disks->pieces[i].disk == disk)
			return true;
	return false;
}

static bool is_rotational(const char *sysfs, dev_t disk)
{
	struct queue queue;

	queue_read(sysfs, disk, KCOPYD_SECTOR_BYTES, &queue);
	return queue.is_rotational;
}

/* In one file system, of which nobody knows what it is on. */
static bool shares_file_system(const struct identity *a, const struct identity *b)
{
	for (unsigned int i = 0; i < a->num_pieces; i++)
		if (a->pieces[i].inode != 0 && has_disk(b, a->pieces[i].disk))
			return true;
	return false;
}

bool queue_shares_spindle_sysfs(const char *sysfs, const struct block_device *a, const struct block_device *b)
{
	struct identity a_disks = { 0 }, b_disks = { 0 };
	bool shares = false;

	add_disks(&a->identity, 0, &a_disks);
	add_disks(&b->identity, 0, &b_disks);
	for (unsigned int i = 0; i < a_disks.num_pieces && !shares; i++) {
		dev_t disk = a_disks.pieces[i].disk;

		shares = has_disk(&b_disks, disk) && is_rotational(sysfs, disk);
	}
	/* What they say themselves, of a disk that a program makes, say. */
	if (!shares && a->queue.is_rotational && b->queue.is_rotational)
		shares = shares_file_system(&a->identity, &b->identity);
	identity_release(&a_disks);
	identity_release(&b_disks);
	return shares;
}

bool queue_shares_spindle(const struct block_device *a, const struct block_device *b)
{
	return queue_shares_spindle_sysfs("/sys", a, b);
}

/* -- chunks -------------------------------------------------------------------------------------- */

/* Neither is 0. 0: more than @most. */
static unsigned int common_multiple(unsigned int a, unsigned int b, unsigned int most)
{
	unsigned int x = a, y = b;
	uint64_t multiple;

	while (y) {
		unsigned int rest = x % y;

		x = y;
		y = rest;
	}
	multiple = (uint64_t)a / x * b;
	return multiple > most ? 0 : (unsigned int)multiple;
}

/* In pages; 1: any chunk will do, or none that there is room for. */
static unsigned int optimal_pages(const struct block_device *bdev, unsigned int most)
{
	unsigned int bytes = bdev->queue.optimal_bytes, pages;

	if (bytes <= KCOPYD_PAGE_BYTES)
		return 1;
	pages = common_multiple(bytes / KCOPYD_SECTOR_BYTES, PAGE_SECTORS, most * PAGE_SECTORS) / PAGE_SECTORS;
	return pages ? pages : 1;
}

static bool takes_short(const struct block_device *bdev)
{
	return bdev->is_block && bdev->is_direct && !bdev->is_zoned && bdev->queue.takes_at_once &&
	       bdev->queue.max_bytes >= QUEUE_SHORT_BYTES;
}

bool queue_takes_at_once(const struct io_region *from, const struct io_region *dests, unsigned int num_dests)
{
	for (unsigned int i = 0; i < num_dests; i++)
		if (!takes_short(dests[i].bdev))
			return false;
	return takes_short(from->bdev);
}

unsigned int queue_chunk_pages(const struct io_region *dests, unsigned int num_dests, unsigned int num_pages,
			       bool takes_at_once)
{
	unsigned int usual = takes_at_once ? QUEUE_SHORT_BYTES / KCOPYD_PAGE_BYTES : CHUNK_PAGES;
	unsigned int chunk = num_pages / 2 < usual ? num_pages / 2 : usual;
	unsigned int most = at_most(num_pages / FEWEST_CHUNKS, (uint32_t)(MOST_OPTIMAL / KCOPYD_PAGE_BYTES));
	unsigned int common = 1, largest = 1;

	for (unsigned int i = 0; i < num_dests; i++) {
		unsigned int pages = optimal_pages(dests[i].bdev, most);

		if (pages > largest)
			largest = pages;
		if (common)
			common = common_multiple(common, pages, most);
	}
	if (!common)
		common = largest;
	if (common > chunk)
		chunk = common;
	return chunk ? chunk - chunk % common : 1;
}

/*
 * Where the sector really is, on the lowest device that has all of the stripe: a partition's disk, what a device-mapper
 * device is one to one. Each level adds its pieces behind those above it.
 */
static sector_t find_base(const struct block_device *bdev, sector_t sector)
{
	const struct identity *identity = &bdev->identity;
	sector_t base = sector;

	for (unsigned int i = 0; i < identity->num_pieces; i++) {
		const struct piece *piece = &identity->pieces[i];

		if (piece->is_exact && piece->inode == 0 && sector >= piece->sector &&
		    sector - piece->sector < piece->count)
			base = piece->base_sector + (sector - piece->sector);
	}
	return base;
}

sector_t queue_first_sectors(const struct io_region *dests, unsigned int num_dests, unsigned int chunk_pages,
			     unsigned int block)
{
	sector_t chunk = (sector_t)chunk_pages * PAGE_SECTORS, first;

	for (unsigned int i = 0; i < num_dests; i++) {
		sector_t optimal = dests[i].bdev->queue.optimal_bytes / KCOPYD_SECTOR_BYTES;

		if (dests[i].bdev->queue.optimal_bytes <= KCOPYD_PAGE_BYTES || chunk % optimal)
			continue;
		first = chunk - find_base(dests[i].bdev, dests[i].sector) % optimal;
		return first % (block / KCOPYD_SECTOR_BYTES) ? chunk : first;
	}
	return chunk;
}
