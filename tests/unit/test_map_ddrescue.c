/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Resume maps and GNU ddrescue: its tools read what kcopy saves, as it is meant, and kcopy reads what they make of it.
 * Skipped where they are not installed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "map.h"

#define ROUNDS 15u
#define MOST_SECTORS 400u

static char dir[200];
static uint64_t seed;

static unsigned int below(unsigned int n)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return (unsigned int)((seed >> 11) % n);
}

static int make_dir(void **state)
{
	const char *env = getenv("KCOPY_TEST_SEED"), *tmp = getenv("TMPDIR");

	(void)state;
	seed = env ? strtoull(env, NULL, 0) : (uint64_t)time(NULL);
	print_message("seed %" PRIu64 "\n", seed);
	seed |= 1;
	snprintf(dir, sizeof(dir), "%s/kcopy-map.XXXXXX", tmp && strlen(tmp) < 150 ? tmp : "/tmp");
	return mkdtemp(dir) ? 0 : -1;
}

/* In the directory; its exit status. */
static int __attribute__((format(printf, 1, 2))) run(const char *form, ...)
{
	char command[1000];
	va_list args;
	size_t length;
	int status;

	length = (size_t)snprintf(command, sizeof(command), "cd '%s' && ", dir);
	va_start(args, form);
	length += (size_t)vsnprintf(command + length, sizeof(command) - length, form, args);
	va_end(args);
	assert_in_range(length, 1, sizeof(command) - 1);
	status = system(command);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static int remove_dir(void **state)
{
	(void)state;
	return run("rm -rf \"$PWD\"");
}

static bool has(const char *tool)
{
	if (run("command -v %s >/dev/null", tool) == 0)
		return true;
	print_message("# SKIP %s is not installed (GNU ddrescue)\n", tool);
	return false;
}

static const char *in_dir(const char *name)
{
	static char path[sizeof(dir) + 20];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	return path;
}

/* -- any map ------------------------------------------------------------------------------------- */

struct world {
	struct map_owner owner;
	struct map *map;
	sector_t sector, count;
};

static void make_world(struct world *world, unsigned int most_sector)
{
	unsigned int i;

	*world = (struct world){ .owner = { .source = { .path = "/dev/sda" }, .dest = { .path = "/dev/sdb\n" } } };
	world->sector = below(2) ? 0 : below(most_sector);
	world->count = 1 + below(MOST_SECTORS);
	world->owner.source.sector = world->sector;
	world->owner.source.bytes = (world->sector + world->count) * 512 + (below(2) ? below(100) * 512 : 0);
	if (below(3) == 0)
		world->owner.source.bytes -= below(512);
	if (world->owner.source.bytes <= (world->sector + world->count - 1) * 512)
		world->owner.source.bytes += 512;
	assert_int_equal(map_create(world->sector, world->count, &world->map), 0);
	if (below(3) == 0)
		assert_int_equal(map_set(world->map, world->sector, world->count, MAP_FLUSHED), 0);
	for (i = below(2) ? below(40) : 0; i; i--) {
		sector_t first = below((unsigned int)world->count);

		assert_int_equal(map_set(world->map, world->sector + first,
					 1 + below((unsigned int)(world->count - first)) / (1 + below(10)),
					 (enum map_status)below(5)),
				 0);
	}
	assert_int_equal(map_save(world->map, &world->owner, in_dir("map")), 0);
	/* What is compared below is what was saved. */
	map_replace(world->map, MAP_WRITTEN, MAP_MISSING);
	map_replace(world->map, MAP_FLUSHING, MAP_MISSING);
	assert_int_equal(run("grep '^# kcopy' map >header"), 0);
}

static bool is_whole(const struct world *world)
{
	return map_count(world->map, MAP_FLUSHED) == world->count;
}

static void assert_same(const struct map *got, const struct map *want)
{
	sector_t sector = map_sector(want), end = sector + map_sectors(want), count, want_count;

	assert_int_equal(map_num_runs(got), map_num_runs(want));
	for (; sector < end; sector += count) {
		assert_int_equal(map_get(got, sector, &count), map_get(want, sector, &want_count));
		assert_int_equal(count, want_count);
	}
}

/* What a tool made of our map, with our header before it, is @want. */
static void assert_loads(const struct world *world, const char *name, const struct map *want)
{
	struct map *got;
	char *message;
	int ret;

	assert_int_equal(map_create(world->sector, world->count, &got), 0);
	assert_int_equal(run("cat header %s >with-header", name), 0);
	ret = map_load(got, &world->owner, in_dir("with-header"), &message);
	if (ret)
		fail_msg("%s: %s", name, message ? message : strerror(-ret));
	assert_same(got, want);
	map_destroy(got);
}

/* ddrescuelog -l, one sector number on a line. */
static void assert_lists(const struct world *world, char letter, enum map_status status)
{
	sector_t sector, count;
	unsigned long long number;
	FILE *list;

	assert_int_equal(run("ddrescuelog -b512 '-l%c' map >list", letter), 0);
	list = fopen(in_dir("list"), "r");
	assert_non_null(list);
	for (sector = world->sector; sector < world->sector + world->count; sector++) {
		if (map_get(world->map, sector, &count) != status)
			continue;
		assert_int_equal(fscanf(list, "%llu", &number), 1);
		assert_int_equal(number, sector);
	}
	assert_int_equal(fscanf(list, "%llu", &number), EOF);
	fclose(list);
}

/* -- ddrescuelog --------------------------------------------------------------------------------- */

static void ddrescuelog_sees_what_is_safe_and_what_is_not(void **state)
{
	struct world world;
	unsigned int round;

	(void)state;
	if (!has("ddrescuelog"))
		skip();
	for (round = 0; round < ROUNDS; round++) {
		make_world(&world, 1u << 30);
		assert_int_equal(run("ddrescuelog -t map >/dev/null"), 0);
		assert_int_equal(run("ddrescuelog -D map"), is_whole(&world) ? 0 : 1);
		assert_lists(&world, '+', MAP_FLUSHED);
		assert_lists(&world, '-', MAP_BAD);
		assert_lists(&world, '?', MAP_MISSING);
		map_destroy(world.map);
	}
}

static void what_ddrescuelog_makes_of_a_map_is_read_again(void **state)
{
	struct world world;
	unsigned int round;

	(void)state;
	if (!has("ddrescuelog"))
		skip();
	for (round = 0; round < ROUNDS; round++) {
		make_world(&world, 1u << 30);
		assert_int_equal(run("ddrescuelog -A map >annotated && ddrescuelog -p map annotated"), 0);
		assert_loads(&world, "annotated", world.map);
		/* Twice inverted, what was missing is bad; compared as domains, no block has changed. */
		assert_int_equal(run("ddrescuelog -n map >inverted && ddrescuelog -n inverted >again"), 0);
		assert_int_equal(run("ddrescuelog -P map again"), 0);
		map_replace(world.map, MAP_MISSING, MAP_BAD);
		assert_loads(&world, "again", world.map);
		map_replace(world.map, MAP_BAD, MAP_MISSING);
		/* What it would still try, in all its ways. */
		assert_int_equal(run("ddrescuelog -a '?-,*/' map >tried"), 0);
		assert_loads(&world, "tried", world.map);
		map_destroy(world.map);
	}
}

static void a_map_can_be_made_of_a_list_of_sectors(void **state)
{
	struct world world;
	unsigned int round;

	(void)state;
	if (!has("ddrescuelog"))
		skip();
	for (round = 0; round < ROUNDS; round++) {
		make_world(&world, 1u << 30);
		map_replace(world.map, MAP_BAD, MAP_MISSING);
		/* It knows whole sectors alone, and begins at 0. */
		world.owner.source.bytes = (world.sector + world.count) * 512;
		assert_int_equal(map_save(world.map, &world.owner, in_dir("map")), 0);
		assert_int_equal(run("grep '^# kcopy' map >header"), 0);
		assert_int_equal(run("ddrescuelog -b512 -l+ map | ddrescuelog -q -f -b512 '-c+?' -s%" PRIu64 " made",
				     world.owner.source.bytes),
				 0);
		assert_loads(&world, "made", world.map);
		map_destroy(world.map);
	}
}

/* -- ddrescue ------------------------------------------------------------------------------------ */

/* A source, and a destination that has what the map says; all of it in sectors of their own contents. */
static void make_disks(const struct world *world, sector_t dest_sector)
{
	FILE *source = fopen(in_dir("source"), "w"), *dest, *want;
	sector_t sector, count;
	uint64_t left = world->owner.source.bytes;

	dest = fopen(in_dir("dest"), "w");
	want = fopen(in_dir("want"), "w");
	assert_true(source && dest && want);
	for (sector = 0; left; sector++) {
		char data[512];
		size_t bytes = left < 512 ? (size_t)left : 512;

		memset(data, 'a' + (int)(sector % 26), sizeof(data));
		assert_int_equal(fwrite(data, 1, bytes, source), bytes);
		left -= bytes;
		if (sector < world->sector || sector >= world->sector + world->count)
			continue;
		assert_int_equal(fseeko(want, (off_t)((dest_sector + sector - world->sector) * 512), SEEK_SET), 0);
		assert_int_equal(fwrite(data, 1, bytes, want), bytes);
		if (map_get(world->map, sector, &count) != MAP_FLUSHED)
			continue;
		assert_int_equal(fseeko(dest, (off_t)((dest_sector + sector - world->sector) * 512), SEEK_SET), 0);
		assert_int_equal(fwrite(data, 1, bytes, dest), bytes);
	}
	assert_int_equal(fclose(source) | fclose(dest) | fclose(want), 0);
}

/* The command lines of kcopy-map(5). */
static void ddrescue_finishes_what_is_missing_and_nothing_else(void **state)
{
	struct world world;
	unsigned int round;

	(void)state;
	if (!has("ddrescue"))
		skip();
	for (round = 0; round < ROUNDS; round++) {
		sector_t dest_sector = below(100);

		make_world(&world, 1000); /* it writes them all */
		world.owner.dest.sector = dest_sector;
		assert_int_equal(map_save(world.map, &world.owner, in_dir("map")), 0);
		assert_int_equal(run("grep '^# kcopy' map >header"), 0);
		make_disks(&world, dest_sector);
		assert_int_equal(run("cp dest before && ddrescue -q -r1 -i%" PRIu64 "s -o%" PRIu64 "s -s%" PRIu64
				     "s source dest map",
				     world.sector, dest_sector, world.count),
				 0);
		assert_int_equal(run("cmp dest want"), 0);
		assert_int_equal(map_set(world.map, world.sector, world.count, MAP_FLUSHED), 0);
		assert_loads(&world, "map", world.map); /* which it has extended to all of the source */
		map_destroy(world.map);
	}
}

static void what_the_map_calls_safe_is_not_copied_again(void **state)
{
	struct world world = { .owner = { .source = { .path = "/s", .bytes = 100 * 512 }, .dest = { .path = "/d" } },
			       .count = 100 };

	(void)state;
	if (!has("ddrescue"))
		skip();
	assert_int_equal(map_create(0, 100, &world.map), 0);
	assert_int_equal(map_set(world.map, 10, 50, MAP_FLUSHED), 0);
	assert_int_equal(map_save(world.map, &world.owner, in_dir("map")), 0);
	make_disks(&world, 0);
	assert_int_equal(
		run("dd if=/dev/zero of=dest bs=512 seek=10 count=50 conv=notrunc status=none && "
		    "cp want holes && dd if=/dev/zero of=holes bs=512 seek=10 count=50 conv=notrunc status=none && "
		    "ddrescue -q source dest map && cmp dest holes"),
		0);
	map_destroy(world.map);
}

#define IN_DIR(test) cmocka_unit_test_setup_teardown(test, make_dir, remove_dir)

int main(void)
{
	const struct CMUnitTest tests[] = {
		IN_DIR(ddrescuelog_sees_what_is_safe_and_what_is_not),
		IN_DIR(what_ddrescuelog_makes_of_a_map_is_read_again),
		IN_DIR(a_map_can_be_made_of_a_list_of_sectors),
		IN_DIR(ddrescue_finishes_what_is_missing_and_nothing_else),
		IN_DIR(what_the_map_calls_safe_is_not_copied_again),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
