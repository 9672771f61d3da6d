/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the kernel tells of a queue, who shares a spindle, and how long chunks are therefore. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "device.h"
#include "identity.h"
#include "queue.h"

#define SDA makedev(8, 0)
#define SDA1 makedev(8, 1)
#define SDB makedev(8, 16)
#define DM makedev(253, 0)
#define KIB 1024u
#define MIB (1024u * KIB)
#define RESERVE 4096u /* pages, as the command's default */

static char root[256]; /* of one test: its /sys */

static int make_root(void **state)
{
	const char *tmp = getenv("TMPDIR");

	(void)state;
	if (snprintf(root, sizeof(root), "%s/kcopy-queue.XXXXXX", tmp ? tmp : "/tmp") >= (int)sizeof(root))
		return -1;
	return mkdtemp(root) ? 0 : -1;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

static int remove_root(void **state)
{
	(void)state;
	return nftw(root, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* An attribute of the queue of @disk, "M:m". */
static void put(const char *disk, const char *name, const char *text)
{
	char path[PATH_MAX];
	FILE *file;

	assert_true(snprintf(path, sizeof(path), "%s/dev/block/%s/queue/%s", root, disk, name) < PATH_MAX);
	for (char *slash = path + strlen(root) + 1; (slash = strchr(slash, '/')); slash++) {
		*slash = '\0';
		assert_true(mkdir(path, 0700) == 0 || errno == EEXIST);
		*slash = '/';
	}
	file = fopen(path, "w");
	assert_non_null(file);
	assert_true(fputs(text, file) >= 0);
	assert_int_equal(fclose(file), 0);
}

/* In its disk's directory, and a link to it, as the kernel makes them. */
static void put_partition(const char *disk, const char *number)
{
	char path[PATH_MAX], link[PATH_MAX];

	assert_true(snprintf(path, sizeof(path), "%s/dev/block/%s/part", root, disk) < PATH_MAX);
	assert_return_code(mkdir(path, 0700), errno);
	assert_true(snprintf(link, sizeof(link), "%s/dev/block/%s", root, number) < PATH_MAX);
	assert_true(snprintf(path, sizeof(path), "%s/part", disk) < PATH_MAX);
	assert_return_code(symlink(path, link), errno);
}

static void a_queue_is_as_the_kernel_tells(void **state)
{
	struct queue queue;

	(void)state;
	put("8:0", "optimal_io_size", "1572864\n");
	put("8:0", "max_sectors_kb", "1280\n");
	put("8:0", "nr_requests", "64\n");
	put("8:0", "rotational", "1\n");
	put_partition("8:0", "8:1");
	put("8:16", "rotational", "0\n");
	for (unsigned int i = 0; i < 2; i++) {
		queue_read(root, i ? SDA1 : SDA, 512, &queue);
		assert_int_equal(queue.optimal_bytes, 1536 * KIB);
		assert_int_equal(queue.max_bytes, 1280 * KIB);
		assert_int_equal(queue.num_requests, 64);
		assert_true(queue.is_rotational);
	}
	queue_read(root, SDB, 512, &queue);
	assert_false(queue.is_rotational);
	assert_int_equal(queue.optimal_bytes, 0);
	assert_int_equal(queue.max_bytes, 0);
	assert_int_equal(queue.num_requests, 0);
}

/* Which drivers only queue what they get. */
static void who_takes_requests_at_once_is_known_by_its_driver(void **state)
{
	static const struct {
		const char *target;
		bool takes_at_once;
	} cases[] = {
		{ "../../devices/virtual/block/loop0", true },
		{ "../../devices/pci0000:00/0000:00:04.0/nvme/nvme0/nvme0n1/block/nvme0n1", true },
		{ "../../devices/pci0000:00/ata1/host0/target0:0:0/0:0:0:0/block/sda/sda1", true },
		{ "../../devices/virtual/block/dm-0", false },
		{ "../../devices/virtual/block/zram0", false },
		{ "../../devices/virtual/block/ram0", false },
		{ "../../devices/virtual/block/nbd0", false },
		{ "../../devices/virtual/block/md0", false },
	};
	char link[PATH_MAX], path[PATH_MAX];
	struct queue queue;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char *slash;

		assert_true(snprintf(path, sizeof(path), "%s/dev/block/%s/queue", root, cases[i].target) < PATH_MAX);
		assert_true(snprintf(link, sizeof(link), "%s/dev/block/250:%zu", root, i) < PATH_MAX);
		assert_true(mkdir(root, 0700) == 0 || errno == EEXIST);
		for (slash = path + strlen(root) + 1; (slash = strchr(slash, '/')); slash++) {
			*slash = '\0';
			assert_true(mkdir(path, 0700) == 0 || errno == EEXIST);
			*slash = '/';
		}
		assert_true(mkdir(path, 0700) == 0 || errno == EEXIST);
		assert_return_code(symlink(cases[i].target, link), errno);
		queue_read(root, makedev(250, (unsigned int)i), 512, &queue);
		assert_int_equal(queue.takes_at_once, cases[i].takes_at_once);
	}
}

static void of_an_unknown_device_nothing_is_known(void **state)
{
	struct queue queue = { 1, 1, 1, true, true };

	(void)state;
	queue_read(root, makedev(0, 42), 512, &queue); /* a file system without a device */
	assert_int_equal(queue.optimal_bytes, 0);
	assert_int_equal(queue.max_bytes, 0);
	assert_int_equal(queue.num_requests, 0);
	assert_false(queue.is_rotational);
}

/* What is believed of an optimal I/O size on a disk with such logical blocks. */
static uint32_t believed(const char *text, unsigned int block)
{
	struct queue queue;

	put("8:0", "optimal_io_size", text);
	queue_read(root, SDA, block, &queue);
	return queue.optimal_bytes;
}

static void an_optimal_size_is_believed_if_it_can_be_a_stripe(void **state)
{
	(void)state;
	assert_int_equal(believed("65536\n", 512), 64 * KIB);
	assert_int_equal(believed("65536\n", 4096), 64 * KIB);
	assert_int_equal(believed("16777216\n", 512), 16 * MIB);
	assert_int_equal(believed("7864320\n", 512), 7680 * KIB);
	assert_int_equal(believed("0\n", 512), 0);
	assert_int_equal(believed("", 512), 0);
	assert_int_equal(believed("what\n", 512), 0);
	assert_int_equal(believed("66048\n", 4096), 0);	   /* no whole blocks */
	assert_int_equal(believed("33553920\n", 512), 0);  /* 65535 sectors */
	assert_int_equal(believed("16773120\n", 4096), 0); /* 4095 pages */
	assert_int_equal(believed("16777728\n", 512), 0);
	assert_int_equal(believed("18446744073709551615\n", 512), 0);
}

static void a_file_has_the_queue_of_its_file_system(void **state)
{
	struct block_device *bdev;
	struct queue queue;
	struct stat st;
	char path[PATH_MAX];
	int fd;

	(void)state;
	snprintf(path, sizeof(path), "%s/file", root);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	assert_return_code(fd, errno);
	assert_return_code(fstat(fd, &st), errno);
	assert_int_equal(device_create(fd, &bdev), 0);
	queue_read("/sys", st.st_dev, 512, &queue);
	for (unsigned int i = 0; i < 2; i++) {
		assert_ptr_equal(queue_ask(bdev), &bdev->queue);
		assert_true(bdev->has_queue);
		assert_int_equal(bdev->queue.num_requests, queue.num_requests);
		assert_int_equal(bdev->queue.max_bytes, queue.max_bytes);
		assert_int_equal(bdev->queue.optimal_bytes, queue.optimal_bytes);
		assert_int_equal(bdev->queue.is_rotational, queue.is_rotational);
	}
	device_destroy(bdev);
}

static void what_was_asked_once_is_not_asked_again(void **state)
{
	struct block_device *bdev;

	(void)state;
	assert_int_equal(device_create_virtual(MIB, 512, false, &bdev), 0);
	assert_int_equal(queue_ask(bdev)->optimal_bytes, 0);
	assert_true(bdev->has_queue);
	bdev->queue.optimal_bytes = 64 * KIB;
	assert_int_equal(queue_ask(bdev)->optimal_bytes, 64 * KIB);
	device_destroy(bdev);
}

/* -- the spindle --------------------------------------------------------------------------------- */

/* A device that is where no test's other one is, before pieces are added. */
static struct block_device *make_device(void)
{
	struct block_device *bdev;

	assert_int_equal(device_create_virtual((uint64_t)1 << 40, 512, false, &bdev), 0);
	bdev->has_queue = true;
	return bdev;
}

/* Sectors of @bdev are those of @disk, one to one. */
static void map(struct block_device *bdev, sector_t sector, sector_t count, dev_t disk, sector_t disk_sector)
{
	struct piece piece = { .sector = sector,
			       .count = count,
			       .disk = disk,
			       .base_sector = disk_sector,
			       .base_count = count,
			       .is_exact = true };

	assert_int_equal(identity_add(&bdev->identity, &piece), 0);
}

static bool shares(const struct block_device *a, const struct block_device *b)
{
	bool does = queue_shares_spindle_sysfs(root, a, b);

	assert_int_equal(does, queue_shares_spindle_sysfs(root, b, a));
	return does;
}

static void partitions_of_a_rotating_disk_share_its_spindle(void **state)
{
	struct block_device *one = make_device(), *two = make_device(), *other = make_device();

	(void)state;
	put("8:0", "rotational", "1\n");
	put("8:16", "rotational", "1\n");
	map(one, 0, 1000, SDA, 2048);
	map(two, 0, 1000, SDA, 4096);
	map(other, 0, 1000, SDB, 2048);
	assert_true(shares(one, two));
	assert_true(shares(one, one));
	assert_false(shares(one, other));
	map(other, 1000, 1000, SDA, 9000); /* a concatenation of both disks */
	assert_true(shares(one, other));
	put("8:0", "rotational", "0\n");
	assert_false(shares(one, two));
	assert_false(shares(one, other));
	device_destroy(one);
	device_destroy(two);
	device_destroy(other);
}

static void files_of_a_file_system_share_what_that_is_on(void **state)
{
	struct block_device *files[2];
	struct queue queue;
	char path[PATH_MAX];
	struct stat st;
	int fd;

	(void)state;
	for (unsigned int i = 0; i < 2; i++) {
		snprintf(path, sizeof(path), "%s/file%u", root, i);
		fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
		assert_return_code(fd, errno);
		assert_return_code(fstat(fd, &st), errno);
		assert_int_equal(device_create(fd, &files[i]), 0);
	}
	queue_read("/sys", st.st_dev, 512, &queue);
	assert_int_equal(queue_shares_spindle(files[0], files[1]), queue.is_rotational);
	put("8:0", "rotational", "1\n");
	assert_false(queue_shares_spindle_sysfs(root, files[0], files[1])); /* there, nobody rotates */
	device_destroy(files[0]);
	device_destroy(files[1]);
}

static void all_must_take_requests_at_once(void **state)
{
	struct io_region regions[3] = { 0 };

	(void)state;
	for (unsigned int i = 0; i < 3; i++) {
		regions[i].bdev = make_device();
		regions[i].bdev->is_block = true;
		regions[i].bdev->is_direct = true;
		regions[i].bdev->queue.takes_at_once = true;
		regions[i].bdev->queue.max_bytes = QUEUE_SHORT_BYTES;
	}
	assert_true(queue_takes_at_once(&regions[0], &regions[1], 2));
	regions[0].bdev->queue.takes_at_once = false;
	assert_false(queue_takes_at_once(&regions[0], &regions[1], 2));
	regions[0].bdev->queue.takes_at_once = true;
	regions[2].bdev->queue.max_bytes = QUEUE_SHORT_BYTES - 1;
	assert_false(queue_takes_at_once(&regions[0], &regions[1], 2));
	regions[2].bdev->queue.max_bytes = QUEUE_SHORT_BYTES;
	regions[1].bdev->is_zoned = true;
	assert_false(queue_takes_at_once(&regions[0], &regions[1], 2));
	assert_int_equal(queue_chunk_pages(&regions[1], 2, 4096, true), QUEUE_SHORT_BYTES / KCOPYD_PAGE_BYTES);
	for (unsigned int i = 0; i < 3; i++)
		device_destroy(regions[i].bdev);
}

/* -- chunks -------------------------------------------------------------------------------------- */

/* A chunk for destinations with these optimal I/O sizes, which end with 1. */
static unsigned int chunk_pages(unsigned int num_pages, const uint32_t *optimal)
{
	struct io_region dests[KCOPYD_MAX_DESTS] = { 0 };
	unsigned int num_dests = 0, pages;

	for (; *optimal != 1; optimal++) {
		dests[num_dests].bdev = make_device();
		dests[num_dests++].bdev->queue.optimal_bytes = *optimal;
	}
	pages = queue_chunk_pages(dests, num_dests, num_pages, false);
	while (num_dests)
		device_destroy(dests[--num_dests].bdev);
	return pages;
}

#define assert_chunk(num_pages, bytes, ...) \
	assert_int_equal(chunk_pages(num_pages, (const uint32_t[]){ __VA_ARGS__, 1 }), (bytes) / KCOPYD_PAGE_BYTES)

static void a_chunk_is_a_mebibyte_or_half_of_the_reserve(void **state)
{
	(void)state;
	assert_chunk(RESERVE, MIB, 0);
	assert_chunk(1u << 20, MIB, 0);
	assert_chunk(512, MIB, 0);
	assert_chunk(511, 255 * 4 * KIB, 0);
	assert_chunk(3, 4 * KIB, 0);
	assert_chunk(2, 4 * KIB, 0);
	assert_chunk(1, 4 * KIB, 0);
	assert_chunk(1, 4 * KIB, 64 * KIB);
}

static void a_chunk_is_whole_stripes(void **state)
{
	(void)state;
	assert_chunk(RESERVE, MIB, 4 * KIB);
	assert_chunk(RESERVE, MIB, 512);
	assert_chunk(RESERVE, MIB, 64 * KIB);
	assert_chunk(RESERVE, MIB, 512 * KIB);
	assert_chunk(RESERVE, 1536 * KIB, 1536 * KIB);
	assert_chunk(RESERVE, 960 * KIB, 192 * KIB);
	assert_chunk(RESERVE, 640 * KIB, 640 * KIB);
	assert_chunk(RESERVE, 4 * MIB, 4 * MIB);
	assert_chunk(RESERVE, 1008 * KIB, 112 * KIB);
	assert_chunk(RESERVE, 255 * 4 * KIB, 15 * 512); /* 15 pages are whole ones */
}

static void a_stripe_of_which_the_reserve_does_not_hold_four_does_not_count(void **state)
{
	(void)state;
	assert_chunk(RESERVE, MIB, 5 * MIB);
	assert_chunk(4 * 384 - 1, MIB, 1536 * KIB);
	assert_chunk(4 * 384, 1536 * KIB, 1536 * KIB);
	assert_chunk(64, 128 * KIB, 96 * KIB);
	assert_chunk(96, 192 * KIB, 96 * KIB);
	assert_chunk(100, 192 * KIB, 96 * KIB);
	assert_chunk(1u << 20, 16 * MIB, 16 * MIB);
}

static void several_destinations_have_stripes_in_common_if_there_is_room(void **state)
{
	(void)state;
	assert_chunk(RESERVE, 1536 * KIB, 1536 * KIB, 512 * KIB);
	assert_chunk(RESERVE, 3 * MIB, 1536 * KIB, MIB);
	assert_chunk(2048, 1536 * KIB, 1536 * KIB, MIB);
	assert_chunk(2048, 1536 * KIB, MIB, 0, 1536 * KIB);
	assert_chunk(RESERVE, 960 * KIB, 192 * KIB, 0, 64 * KIB, 320 * KIB);
	assert_chunk(RESERVE, 3584 * KIB, 3584 * KIB, 2560 * KIB);
	assert_chunk(1u << 20, 15 * MIB, 5 * MIB, 3 * MIB);
	assert_chunk(1u << 20, 7 * MIB, 5 * MIB, 7 * MIB); /* no chunk is longer than 16 MiB */
	assert_chunk(RESERVE, MIB, 5 * MIB, 0);
}

/* -- the first chunk ----------------------------------------------------------------------------- */

#define STRIPE ((sector_t)3072) /* sectors of 1.5 MiB */
#define CHUNK 384u		/* the same in pages */

static sector_t first(struct block_device *bdev, sector_t sector, unsigned int pages, unsigned int block)
{
	struct io_region dest = { .bdev = bdev, .sector = sector };

	return queue_first_sectors(&dest, 1, pages, block);
}

static void the_first_chunk_ends_where_a_stripe_does(void **state)
{
	struct block_device *bdev = make_device();

	(void)state;
	bdev->queue.optimal_bytes = 1536 * KIB;
	assert_int_equal(first(bdev, 0, CHUNK, 512), STRIPE);
	assert_int_equal(first(bdev, 1, CHUNK, 512), STRIPE - 1);
	assert_int_equal(first(bdev, STRIPE - 1, CHUNK, 512), 1);
	assert_int_equal(first(bdev, 10 * STRIPE, CHUNK, 512), STRIPE);
	assert_int_equal(first(bdev, 10 * STRIPE + 8, CHUNK, 4096), STRIPE - 8);
	assert_int_equal(first(bdev, 8, 2 * CHUNK, 512), 2 * STRIPE - 8);
	device_destroy(bdev);
}

static void nobody_who_has_no_stripe_gets_a_shorter_chunk(void **state)
{
	struct block_device *bdev = make_device();

	(void)state;
	assert_int_equal(first(bdev, 1, 256, 512), 2048);
	bdev->queue.optimal_bytes = 4096;
	assert_int_equal(first(bdev, 1, 256, 512), 2048);
	bdev->queue.optimal_bytes = 1536 * KIB;
	assert_int_equal(first(bdev, 1, 256, 512), 2048); /* it was passed over */
	assert_int_equal(first(bdev, 1, CHUNK, 4096), STRIPE);
	assert_int_equal(first(bdev, 8, CHUNK, 4096), STRIPE - 8);
	device_destroy(bdev);
}

static void stripes_are_counted_from_the_start_of_the_disk(void **state)
{
	struct block_device *bdev = make_device();

	(void)state;
	bdev->queue.optimal_bytes = 1536 * KIB;
	map(bdev, 0, 1u << 20, SDA, 2048); /* a partition */
	assert_int_equal(first(bdev, 0, CHUNK, 512), STRIPE - 2048);
	assert_int_equal(first(bdev, 1024, CHUNK, 512), STRIPE);
	device_destroy(bdev);

	bdev = make_device();
	bdev->queue.optimal_bytes = 1536 * KIB;
	map(bdev, 0, PIECE_TO_END, DM, 0); /* of two pieces of disks */
	map(bdev, 0, 10000, SDA, 100);
	map(bdev, 10000, 10000, SDB, 10 * STRIPE);
	assert_int_equal(first(bdev, 0, CHUNK, 512), STRIPE - 100);
	assert_int_equal(first(bdev, 9999, CHUNK, 512), 4 * STRIPE - 10099);
	assert_int_equal(first(bdev, 10000, CHUNK, 512), STRIPE);
	assert_int_equal(first(bdev, 30000, CHUNK, 512), 10 * STRIPE - 30000);
	device_destroy(bdev);
}

/* Sectors of a RAID are anywhere on its disks; it has stripes of its own. */
static void what_is_opaque_below_has_no_say(void **state)
{
	struct piece leg = { .count = PIECE_TO_END, .disk = SDA, .base_sector = 77, .base_count = PIECE_TO_END };
	struct block_device *bdev = make_device();

	(void)state;
	bdev->queue.optimal_bytes = 1536 * KIB;
	map(bdev, 0, PIECE_TO_END, DM, 0);
	assert_int_equal(identity_add(&bdev->identity, &leg), 0);
	assert_int_equal(first(bdev, 8, CHUNK, 512), STRIPE - 8);
	device_destroy(bdev);
}

static void the_first_destination_with_a_stripe_decides(void **state)
{
	struct io_region dests[3] = { { .bdev = make_device(), .sector = 3 },
				      { .bdev = make_device(), .sector = 8 },
				      { .bdev = make_device(), .sector = 16 } };

	(void)state;
	dests[1].bdev->queue.optimal_bytes = 512 * KIB;
	dests[2].bdev->queue.optimal_bytes = MIB;
	assert_int_equal(queue_first_sectors(dests, 3, 256, 512), 2048 - 8);
	dests[1].bdev->queue.optimal_bytes = 768 * KIB;
	assert_int_equal(queue_first_sectors(dests, 3, 256, 512), 2048 - 16);
	for (unsigned int i = 0; i < 3; i++)
		device_destroy(dests[i].bdev);
}

#define test_below_root(function) cmocka_unit_test_setup_teardown(function, make_root, remove_root)

int main(void)
{
	const struct CMUnitTest tests[] = {
		test_below_root(a_queue_is_as_the_kernel_tells),
		test_below_root(who_takes_requests_at_once_is_known_by_its_driver),
		cmocka_unit_test(all_must_take_requests_at_once),
		test_below_root(of_an_unknown_device_nothing_is_known),
		test_below_root(an_optimal_size_is_believed_if_it_can_be_a_stripe),
		test_below_root(a_file_has_the_queue_of_its_file_system),
		cmocka_unit_test(what_was_asked_once_is_not_asked_again),
		test_below_root(partitions_of_a_rotating_disk_share_its_spindle),
		test_below_root(files_of_a_file_system_share_what_that_is_on),
		cmocka_unit_test(a_chunk_is_a_mebibyte_or_half_of_the_reserve),
		cmocka_unit_test(a_chunk_is_whole_stripes),
		cmocka_unit_test(a_stripe_of_which_the_reserve_does_not_hold_four_does_not_count),
		cmocka_unit_test(several_destinations_have_stripes_in_common_if_there_is_room),
		cmocka_unit_test(the_first_chunk_ends_where_a_stripe_does),
		cmocka_unit_test(nobody_who_has_no_stripe_gets_a_shorter_chunk),
		cmocka_unit_test(stripes_are_counted_from_the_start_of_the_disk),
		cmocka_unit_test(what_is_opaque_below_has_no_say),
		cmocka_unit_test(the_first_destination_with_a_stripe_decides),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
