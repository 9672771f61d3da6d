/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Where sectors really are: pieces, pieces seen through other pieces, and what overlaps. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "identity.h"
#include "kcopyd.h"
#include "scripted.h"

#define SDA makedev(8, 0)
#define SDB makedev(8, 16)
#define DM(n) makedev(253, n)

/* Identities of a test: a disk or device-mapper device itself, made more by the functions below. */
static struct identity device(dev_t rdev)
{
	struct identity identity = { 0 };

	assert_int_equal(identity_add_whole(&identity, rdev, 0), 0);
	return identity;
}

/* Sectors of @device are those of @below, one to one. */
static void map(struct identity *device, sector_t sector, sector_t count, const struct identity *below,
		sector_t below_sector)
{
	struct piece leg = {
		.sector = sector, .count = count, .base_sector = below_sector, .base_count = count, .is_exact = true
	};

	assert_int_equal(identity_add_through(device, &leg, below), 0);
}

/* All of @device is anywhere in all of @below. */
static void hide(struct identity *device, dev_t rdev, const struct identity *below, bool is_uncertain)
{
	struct piece leg = {
		.count = PIECE_TO_END, .base_count = PIECE_TO_END, .holder = rdev, .is_uncertain = is_uncertain
	};

	assert_int_equal(identity_add_through(device, &leg, below), 0);
}

/* Both ways round. */
static bool has_overlap(const struct identity *a, sector_t a_sector, sector_t a_count, const struct identity *b,
			sector_t b_sector, sector_t b_count)
{
	bool has = identity_has_overlap(a, a_sector, a_count, b, b_sector, b_count);

	assert_int_equal(has, identity_has_overlap(b, b_sector, b_count, a, a_sector, a_count));
	return has;
}

static void ranges_of_one_disk_overlap_where_they_meet(void **state)
{
	struct identity a = device(SDA), b = device(SDA), other = device(SDB);

	(void)state;
	assert_true(has_overlap(&a, 0, 8, &b, 7, 8));
	assert_true(has_overlap(&a, 0, 100, &b, 50, 1));
	assert_false(has_overlap(&a, 0, 8, &b, 8, 8));
	assert_false(has_overlap(&a, 0, 8, &b, 4, 0));
	assert_false(has_overlap(&a, 4, 0, &b, 4, 0));
	assert_false(has_overlap(&a, 0, 8, &other, 0, 8));
	assert_true(has_overlap(&a, 0, ((sector_t)1 << 55) - 1, &b, ((sector_t)1 << 55) - 2, 1));
	identity_release(&a);
	identity_release(&b);
	identity_release(&other);
}

static void files_are_told_apart_by_inode_and_file_system(void **state)
{
	struct identity a = { 0 }, same = { 0 }, inode = { 0 }, disk = { 0 };

	(void)state;
	assert_int_equal(identity_add_whole(&a, SDA, 12), 0);
	assert_int_equal(identity_add_whole(&same, SDA, 12), 0);
	assert_int_equal(identity_add_whole(&inode, SDA, 13), 0);
	assert_int_equal(identity_add_whole(&disk, SDB, 12), 0);
	assert_true(has_overlap(&a, 5, 8, &same, 12, 8));
	assert_false(has_overlap(&a, 5, 8, &inode, 5, 8));
	assert_false(has_overlap(&a, 5, 8, &disk, 5, 8));
	assert_true(identity_has_common_base(&a, &same));
	assert_false(identity_has_common_base(&a, &inode));
	assert_false(identity_has_common_base(&a, &disk));
	identity_release(&a);
	identity_release(&same);
	identity_release(&inode);
	identity_release(&disk);
}

static void partitions_of_a_disk_lie_side_by_side_in_it(void **state)
{
	struct identity sda = device(SDA), sda1 = { 0 }, sda2 = { 0 };

	(void)state;
	map(&sda1, 0, 1000, &sda, 2048);
	map(&sda2, 0, 1000, &sda, 3048);
	assert_false(has_overlap(&sda1, 0, 1000, &sda2, 0, 1000));
	assert_true(has_overlap(&sda1, 0, 1000, &sda, 3047, 1));
	assert_false(has_overlap(&sda1, 0, 1000, &sda, 0, 2048));
	assert_false(has_overlap(&sda1, 0, 1000, &sda, 3048, 1));
	assert_true(identity_has_common_base(&sda1, &sda2));
	identity_release(&sda);
	identity_release(&sda1);
	identity_release(&sda2);
}

static void linear_over_linear_is_followed_down_and_clipped(void **state)
{
	struct identity sda = device(SDA), sdb = device(SDB), lower = device(DM(0)), upper = device(DM(1));

	(void)state;
	map(&lower, 0, 100, &sda, 5000);
	map(&lower, 100, 100, &sdb, 0);
	map(&upper, 0, 50, &lower, 80); /* 20 of sda, 30 of sdb */
	assert_true(has_overlap(&upper, 0, 50, &sda, 5080, 20));
	assert_false(has_overlap(&upper, 20, 30, &sda, 0, 10000));
	assert_false(has_overlap(&upper, 0, 20, &sdb, 0, 10000));
	assert_false(has_overlap(&upper, 0, 50, &sda, 5100, 100));
	assert_true(has_overlap(&upper, 49, 1, &sdb, 29, 1));
	assert_false(has_overlap(&upper, 49, 1, &sdb, 30, 100));
	assert_true(has_overlap(&upper, 0, 1, &lower, 80, 1));
	assert_false(has_overlap(&upper, 0, 50, &lower, 0, 80));
	assert_false(has_overlap(&upper, 0, 50, &lower, 130, 70));
	identity_release(&sda);
	identity_release(&sdb);
	identity_release(&lower);
	identity_release(&upper);
}

static void what_begins_within_a_sector_touches_two(void **state)
{
	struct identity file = { 0 }, loop = { 0 };

	(void)state;
	assert_int_equal(identity_add_whole(&file, SDA, 12), 0);
	map(&loop, 0, PIECE_TO_END, &file, 4);
	map(&loop, 0, PIECE_TO_END, &file, 5);
	assert_false(has_overlap(&loop, 0, 8, &file, 0, 4));
	assert_true(has_overlap(&loop, 0, 8, &file, 4, 1));
	assert_true(has_overlap(&loop, 0, 8, &file, 12, 1));
	assert_false(has_overlap(&loop, 0, 8, &file, 13, 1));
	identity_release(&file);
	identity_release(&loop);
}

static void what_is_opaque_is_anywhere_in_what_it_stands_on(void **state)
{
	struct identity sda = device(SDA), sda1 = { 0 }, sda2 = { 0 }, md = device(makedev(9, 0)), md1 = { 0 };
	struct identity md2 = { 0 };

	(void)state;
	map(&sda1, 0, 1000, &sda, 2048);
	map(&sda2, 0, 1000, &sda, 3048);
	hide(&md, makedev(9, 0), &sda1, false);
	map(&md1, 0, 100, &md, 0);
	map(&md2, 0, 100, &md, 100);
	assert_true(has_overlap(&md, 0, 1, &sda1, 999, 1));
	assert_true(has_overlap(&md, 0, 1, &sda, 3047, 1));
	assert_false(has_overlap(&md, 0, 1, &sda, 0, 2048));
	assert_false(has_overlap(&md, 0, 1000, &sda2, 0, 1000));
	assert_true(has_overlap(&md1, 0, 1, &sda1, 999, 1));
	assert_true(has_overlap(&md1, 0, 100, &md, 99, 1));
	assert_false(has_overlap(&md1, 0, 100, &md, 100, 1));
	assert_false(has_overlap(&md1, 0, 100, &md2, 0, 100));
	assert_true(has_overlap(&md, 5, 8, &md, 12, 8));
	assert_false(has_overlap(&md, 5, 8, &md, 13, 8));
	identity_release(&sda);
	identity_release(&sda1);
	identity_release(&sda2);
	identity_release(&md);
	identity_release(&md1);
	identity_release(&md2);
}

/* @count sectors of @device fill a range of @below from @base on. */
static void stripe(struct identity *device, dev_t rdev, sector_t count, const struct identity *below, sector_t base)
{
	struct piece leg = { .count = count, .base_sector = base, .base_count = count, .holder = rdev, .is_all = true };

	assert_int_equal(identity_add_through(device, &leg, below), 0);
}

static void stripes_over_the_same_place_overlap(void **state)
{
	struct identity sda = device(SDA), a = device(DM(0)), b = device(DM(1)), c = device(DM(2)),
			thin = device(DM(3));
	struct identity other = device(DM(4));

	(void)state;
	stripe(&a, DM(0), 1000, &sda, 0);
	stripe(&b, DM(1), 1000, &sda, 999);
	stripe(&c, DM(2), 1000, &sda, 1000);
	assert_true(has_overlap(&a, 0, 1, &b, 0, 1));
	assert_false(has_overlap(&a, 0, 1000, &c, 0, 1000));
	assert_false(has_overlap(&a, 0, 8, &a, 8, 8)); /* its own level tells */
	/* Volumes of a pool over one of them are side by side. */
	hide(&thin, DM(3), &a, false);
	hide(&other, DM(4), &a, false);
	assert_false(has_overlap(&thin, 0, 1000, &other, 0, 1000));
	assert_true(has_overlap(&thin, 0, 1, &b, 0, 1));
	identity_release(&sda);
	identity_release(&a);
	identity_release(&b);
	identity_release(&c);
	identity_release(&thin);
	identity_release(&other);
}

static void volumes_of_one_pool_overlap_it_but_not_one_another(void **state)
{
	struct identity sda = device(SDA), data = device(DM(0)), pool = device(DM(1));
	struct identity thin = device(DM(2)), other = device(DM(3)), on_thin = device(DM(4)), linear = device(DM(5));

	(void)state;
	map(&data, 0, 1000, &sda, 0);
	map(&linear, 0, 1000, &sda, 1000);
	hide(&pool, DM(1), &data, false);
	hide(&thin, DM(2), &pool, false);
	hide(&other, DM(3), &pool, false);
	map(&on_thin, 0, 100, &thin, 50);
	assert_false(has_overlap(&thin, 0, 1000, &other, 0, 1000));
	assert_false(has_overlap(&on_thin, 0, 100, &other, 0, 1000));
	assert_true(has_overlap(&on_thin, 0, 100, &thin, 149, 1));
	assert_false(has_overlap(&on_thin, 0, 100, &thin, 150, 1));
	assert_true(has_overlap(&thin, 0, 1, &pool, 999, 1));
	assert_true(has_overlap(&thin, 0, 1, &data, 999, 1));
	assert_true(has_overlap(&thin, 0, 1, &sda, 999, 1));
	assert_false(has_overlap(&thin, 0, 1, &sda, 1000, 1));
	assert_false(has_overlap(&thin, 0, 1000, &linear, 0, 1000));
	identity_release(&sda);
	identity_release(&data);
	identity_release(&pool);
	identity_release(&thin);
	identity_release(&other);
	identity_release(&on_thin);
	identity_release(&linear);
}

static void what_cannot_be_told_counts_as_overlap(void **state)
{
	struct identity sda = device(SDA), sdb = device(SDB), a = device(DM(0)), b = device(DM(1)),
			known = device(DM(2));
	struct identity on_a = device(DM(3)), also_on_a = device(DM(4)), far = device(DM(5));

	(void)state;
	hide(&a, DM(0), &sda, true);
	hide(&b, DM(1), &sda, true);
	hide(&known, DM(2), &sda, false);
	hide(&far, DM(5), &sdb, true);
	hide(&on_a, DM(3), &a, false);
	hide(&also_on_a, DM(4), &a, false);
	assert_true(has_overlap(&a, 0, 1, &b, 100, 1));
	assert_true(has_overlap(&a, 0, 1, &known, 100, 1));
	assert_false(has_overlap(&a, 0, 1, &far, 0, 1));
	/* Through one holder, whatever it does: that it shows at its own level is all that counts. */
	assert_false(has_overlap(&a, 0, 1, &a, 100, 1));
	assert_true(has_overlap(&a, 0, 101, &a, 100, 1));
	assert_false(has_overlap(&on_a, 0, 1, &also_on_a, 0, 1));
	assert_true(has_overlap(&on_a, 0, 1, &b, 0, 1));
	assert_true(has_overlap(&on_a, 0, 1, &known, 0, 1));
	identity_release(&sda);
	identity_release(&sdb);
	identity_release(&a);
	identity_release(&b);
	identity_release(&known);
	identity_release(&on_a);
	identity_release(&also_on_a);
	identity_release(&far);
}

/* -- a model ------------------------------------------------------------------------------------- */

#define DISKS 2u
#define DEVICES 8u /* the first DISKS of them are disks, each other one stands on those before it */
#define SECTORS 48u

/* A sector of a device: those that it is, and those that it may be, of each device; one bit each. */
struct places {
	uint64_t exact[DEVICES], opaque[DEVICES];
};

struct model {
	struct identity identity[DEVICES];
	struct places places[DEVICES][SECTORS];
	uint64_t seed;
};

static unsigned int below(struct model *m, unsigned int n)
{
	return (unsigned int)(script_random(&m->seed) % n);
}

static void model_leg(struct model *m, unsigned int upper, const struct piece *leg, unsigned int lower)
{
	for (sector_t i = 0; i < leg->count; i++) {
		struct places *to = &m->places[upper][leg->sector + i];

		for (sector_t j = 0; j < leg->base_count; j++) {
			const struct places *from = &m->places[lower][leg->base_sector + j];

			for (unsigned int d = 0; d < DEVICES; d++) {
				if (leg->is_exact && i == j) {
					to->exact[d] |= from->exact[d];
					to->opaque[d] |= from->opaque[d];
				} else if (!leg->is_exact) {
					to->opaque[d] |= from->exact[d] | from->opaque[d];
				}
			}
		}
	}
}

static void make_device(struct model *m, unsigned int n, bool may_hide)
{
	unsigned int sector = 0;

	assert_int_equal(identity_add_whole(&m->identity[n], DM(n), 0), 0);
	for (unsigned int i = 0; i < SECTORS; i++)
		m->places[n][i].exact[n] = UINT64_C(1) << i;
	while (n >= DISKS && sector < SECTORS) {
		unsigned int lower = below(m, n);
		struct piece leg = { .sector = sector, .count = 1 + below(m, SECTORS - sector), .holder = DM(n) };

		leg.is_exact = !may_hide || below(m, 4) > 0;
		leg.base_count = leg.is_exact ? leg.count : 1 + below(m, SECTORS);
		leg.base_sector = below(m, SECTORS + 1 - (unsigned int)leg.base_count);
		if (below(m, 8)) { /* else it has a hole */
			model_leg(m, n, &leg, lower);
			assert_int_equal(identity_add_through(&m->identity[n], &leg, &m->identity[lower]), 0);
		}
		sector += (unsigned int)leg.count;
	}
}

static bool model_has_overlap(const struct model *m, const unsigned int *device, const unsigned int *sector,
			      const unsigned int *count)
{
	struct places all[2] = { 0 };

	for (unsigned int k = 0; k < 2; k++)
		for (unsigned int i = sector[k]; i < sector[k] + count[k]; i++)
			for (unsigned int d = 0; d < DEVICES; d++) {
				all[k].exact[d] |= m->places[device[k]][i].exact[d];
				all[k].opaque[d] |= m->places[device[k]][i].opaque[d];
			}
	for (unsigned int d = 0; d < DEVICES; d++)
		if ((all[0].exact[d] & (all[1].exact[d] | all[1].opaque[d])) || (all[0].opaque[d] & all[1].exact[d]))
			return true;
	return false;
}

static void compare_with_model(bool may_hide)
{
	struct model *m = calloc(1, sizeof(*m));
	unsigned int round, n, num_overlaps = 0, num_tried = 0;

	assert_non_null(m);
	m->seed = script_seed();
	for (round = 0; round < 200; round++) {
		memset(m->identity, 0, sizeof(m->identity));
		memset(m->places, 0, sizeof(m->places));
		for (n = 0; n < DEVICES; n++)
			make_device(m, n, may_hide);
		for (n = 0; n < 200; n++, num_tried++) {
			unsigned int device[2], sector[2], count[2];
			bool want;

			for (unsigned int k = 0; k < 2; k++) {
				device[k] = below(m, DEVICES);
				sector[k] = below(m, SECTORS);
				count[k] = below(m, 1 + (below(m, 2) ? SECTORS - sector[k] : 1));
			}
			want = model_has_overlap(m, device, sector, count);
			num_overlaps += want;
			if (has_overlap(&m->identity[device[0]], sector[0], count[0], &m->identity[device[1]],
					sector[1], count[1]) != want)
				fail_msg("round %u: %u:%u+%u and %u:%u+%u: not %d", round, device[0], sector[0],
					 count[0], device[1], sector[1], count[1], want);
		}
		for (n = 0; n < DEVICES; n++)
			identity_release(&m->identity[n]);
	}
	assert_in_range(num_overlaps, num_tried / 20, num_tried / 20 * 19);
	free(m);
}

static void random_stacks_overlap_where_a_model_of_every_sector_says(void **state)
{
	(void)state;
	compare_with_model(false);
}

static void random_stacks_with_opaque_devices_overlap_where_the_model_says(void **state)
{
	(void)state;
	compare_with_model(true);
}

/* -- open files ---------------------------------------------------------------------------------- */

static void a_file_is_itself_by_every_name_and_beyond_its_end(void **state)
{
	char path[] = "/tmp/kcopy.identity.XXXXXX", other[sizeof(path) + 2];
	struct io_region a = { .count = 8 }, b = { .sector = 7, .count = 8 };
	int fd = mkstemp(path), null = open("/dev/null", O_WRONLY);

	(void)state;
	assert_true(fd >= 0 && null >= 0);
	snprintf(other, sizeof(other), "%s.2", path);
	assert_int_equal(link(path, other), 0);
	assert_int_equal(kcopyd_device_open(path, O_RDONLY, &a.bdev), 0);
	assert_int_equal(kcopyd_device_open(other, O_WRONLY, &b.bdev), 0);
	unlink(path);
	unlink(other);
	assert_true(kcopyd_regions_overlap(&a, &b));
	b.sector = 8;
	assert_false(kcopyd_regions_overlap(&a, &b));
	assert_true(kcopyd_device_is_behind(a.bdev, fd));
	assert_false(kcopyd_device_is_behind(a.bdev, null));
	assert_false(kcopyd_device_is_behind(a.bdev, -1));
	kcopyd_device_close(a.bdev);
	kcopyd_device_close(b.bdev);
	close(fd);
	close(null);
}

static void several_regions_are_asked_for_at_once(void **state)
{
	char paths[2][32] = { "/tmp/kcopy.identity.XXXXXX", "/tmp/kcopy.identity.XXXXXX" };
	struct io_region regions[4] = { { .count = 8 }, { .count = 8 }, { .bdev = NULL }, { .count = 0 } };
	int fds[2] = { mkstemp(paths[0]), mkstemp(paths[1]) }, null = open("/dev/null", O_WRONLY);
	uint64_t behind;
	struct stat st;

	(void)state;
	assert_true(fds[0] >= 0 && fds[1] >= 0 && null >= 0);
	assert_int_equal(kcopyd_device_open(paths[0], O_RDONLY, &regions[0].bdev), 0);
	assert_int_equal(kcopyd_device_open(paths[1], O_RDONLY, &regions[1].bdev), 0);
	regions[3].bdev = regions[1].bdev; /* an empty region has no sector in common with anything */
	unlink(paths[0]);
	unlink(paths[1]);
	for (unsigned int i = 0; i < 2; i++) {
		assert_int_equal(kcopyd_regions_are_behind(regions, 4, fds[i], &behind), 0);
		assert_int_equal(behind, 1u << i);
		assert_int_equal(kcopyd_region_is_behind(&regions[0], fds[i]), i == 0);
		assert_int_equal(fstat(fds[i], &st), 0);
		assert_int_equal(kcopyd_device_is_on_file(regions[0].bdev, st.st_dev, st.st_ino), i == 0);
		assert_false(kcopyd_device_is_on_file(regions[i].bdev, st.st_dev + 1, st.st_ino));
	}
	assert_int_equal(kcopyd_regions_are_behind(regions, 4, null, &behind), 0);
	assert_int_equal(behind, 0);
	for (unsigned int i = 0; i < 2; i++) {
		kcopyd_device_close(regions[i].bdev);
		close(fds[i]);
	}
	close(null);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ranges_of_one_disk_overlap_where_they_meet),
		cmocka_unit_test(files_are_told_apart_by_inode_and_file_system),
		cmocka_unit_test(partitions_of_a_disk_lie_side_by_side_in_it),
		cmocka_unit_test(linear_over_linear_is_followed_down_and_clipped),
		cmocka_unit_test(what_begins_within_a_sector_touches_two),
		cmocka_unit_test(what_is_opaque_is_anywhere_in_what_it_stands_on),
		cmocka_unit_test(volumes_of_one_pool_overlap_it_but_not_one_another),
		cmocka_unit_test(stripes_over_the_same_place_overlap),
		cmocka_unit_test(what_cannot_be_told_counts_as_overlap),
		cmocka_unit_test(random_stacks_overlap_where_a_model_of_every_sector_says),
		cmocka_unit_test(random_stacks_with_opaque_devices_overlap_where_the_model_says),
		cmocka_unit_test(a_file_is_itself_by_every_name_and_beyond_its_end),
		cmocka_unit_test(several_regions_are_asked_for_at_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
