/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a job does over scripted disks where nothing is in its way: what is where afterwards, in which order it was written,
 * what runs at once, and what is refused before it begins. Copies, zeros and flushes.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#include "client.h"
#include "kcopyd.h"
#include "scripted.h"
#include "tune.h"
#include "world.h"

/* -- what goes well ------------------------------------------------------------------------------ */

static void a_copy_reaches_every_destination_in_full(void **state)
{
	static const unsigned int flags[] = { 0, IGNORE, SEQ, DROP, IGNORE | SEQ | DROP };
	unsigned int n, i;

	(void)state;
	for (n = 0; n < 5; n++) {
		struct world *world = world_create(PAGES, 3, DISK);
		struct outcome outcome = { 0 };

		copy(world, flags[n], &outcome);
		assert_int_equal(outcome.read_err, 0);
		assert_int_equal(outcome.write_err, 0);
		for (i = 0; i < 3; i++) {
			assert_copied(world, i, 0, COUNT);
			assert_outside_untouched(world, i);
			assert_int_equal(world_contiguous(world, &outcome, i), COUNT);
		}
		assert_contiguous_exact(world, &outcome);
		world_destroy(world);
	}
}

static void the_whole_source_is_read_once_whatever_the_number_of_destinations(void **state)
{
	struct world *world = world_create(PAGES, 3, DISK);
	struct outcome outcome = { 0 };
	uint64_t bytes = 0;
	sector_t told = 0;
	unsigned int i;
	size_t n;

	(void)state;
	copy(world, 0, &outcome);
	for (n = 0; n < world->source->num_entries; n++)
		if (world->source->record[n].is_end)
			bytes += world->source->record[n].bytes;
	assert_int_equal(bytes, COUNT * SECTOR);
	for (i = 0; i < world->num_told; i++) {
		assert_ptr_equal(world->told[i].context, &outcome);
		if (world->told[i].kind == TOLD_READ) {
			assert_ptr_equal(world->told[i].region.bdev, world->source->bdev);
			told += world->told[i].region.count;
		}
	}
	assert_int_equal(told, COUNT);
	world_destroy(world);
}

static void every_size_of_reserve_works(void **state)
{
	static const unsigned int pages[] = { 1, 2, 3, 5, 16, 511, 513, 4096 };
	unsigned int n, i;

	(void)state;
	for (n = 0; n < sizeof(pages) / sizeof(pages[0]); n++) {
		struct world *world = world_create(pages[n], 2, DISK);
		struct outcome outcome = { 0 };
		size_t entry;

		script_set_order(world->source, SCRIPT_REVERSE, 0);
		copy(world, n % 2 ? SEQ : 0, &outcome);
		assert_int_equal(outcome.read_err, 0);
		assert_int_equal(outcome.write_err, 0);
		for (i = 0; i < 2; i++)
			assert_copied(world, i, 0, COUNT);
		for (entry = 0; entry < world->source->num_entries; entry++)
			assert_true(world->source->record[entry].bytes <= pages[n] * 4096);
		if (pages[n] > 1) /* double-buffered at the least */
			assert_true(world->source->record[0].bytes <= (pages[n] + 1) / 2 * 4096);
		world_destroy(world);
	}
}

static void a_count_of_0_succeeds_on_the_clients_thread(void **state)
{
	struct world *world = world_create(1, 2, DISK);
	struct outcome outcome = { 0 };

	(void)state;
	assert_int_equal(world_start(world, START, 0, 0, &outcome), 0);
	world_wait(world, &outcome);
	assert_int_equal(outcome.read_err, 0);
	assert_int_equal(outcome.write_err, 0);
	assert_false(pthread_equal(world->thread, pthread_self()));
	assert_int_equal(script_count(world->source, SCRIPT_ANY), 0);
	assert_int_equal(script_count(world->dests[0], SCRIPT_ANY), 0);
	world_destroy(world);
}

static void thirty_two_destinations_are_written(void **state)
{
	struct world *world = world_create(PAGES, 32, DISK);
	struct outcome outcome = { 0 };
	unsigned int i;

	(void)state;
	script_add(world->dests[0], failing(LANE_WRITE, on_dest(0, 0), COUNT, EIO));
	script_add(world->dests[31], failing(LANE_WRITE, on_dest(31, 3 * CHUNK), 1, EIO));
	copy(world, DROP, &outcome);
	assert_int_equal(outcome.read_err, 0);
	assert_int_equal(outcome.write_err, 0x80000001u);
	for (i = 1; i < 31; i++)
		assert_copied(world, i, 0, COUNT);
	assert_copied(world, 31, 0, 3 * CHUNK);
	world_destroy(world);
}

static void short_and_interrupted_transfers_are_nobodys_error(void **state)
{
	struct world *world = world_create(PAGES, 3, DISK);
	struct outcome outcome = { 0 };
	unsigned int i;

	(void)state;
	script_add(world->source, (struct script_rule){ .what = SCRIPT_SHORT, .op = LANE_READ, .length = 1000 });
	script_add(world->dests[0], (struct script_rule){ .what = SCRIPT_SHORT, .op = LANE_WRITE, .length = 4097 });
	script_add(world->dests[1],
		   (struct script_rule){ .what = SCRIPT_FAIL, .op = LANE_WRITE, .times = 20, .error = EINTR });
	script_add(world->dests[2],
		   (struct script_rule){ .what = SCRIPT_REFUSE, .op = LANE_WRITE, .times = 20, .error = EAGAIN });
	copy(world, 0, &outcome);
	assert_int_equal(outcome.read_err, 0);
	assert_int_equal(outcome.write_err, 0);
	for (i = 0; i < 3; i++)
		assert_copied(world, i, 0, COUNT);
	assert_int_equal(world_errors(world, &outcome, KCOPYD_OP_READ, 0), 0);
	world_destroy(world);
}

/* -- order --------------------------------------------------------------------------------------- */

static void write_seq_writes_in_order_though_reads_come_back_reversed(void **state)
{
	struct world *world = world_create(64, 3, DISK);
	struct outcome outcome = { 0 };
	unsigned int i;

	(void)state;
	script_set_order(world->source, SCRIPT_REVERSE, 0);
	script_set_order(world->dests[1], SCRIPT_RANDOM, 5);
	copy(world, SEQ, &outcome);
	assert_int_equal(outcome.read_err, 0);
	assert_int_equal(outcome.write_err, 0);
	for (i = 0; i < 3; i++) {
		assert_copied(world, i, 0, COUNT);
		assert_int_equal(world->dests[i]->most_writes, 1);
		assert_write_order(world->dests[i], SEQ);
	}
	world_destroy(world);
}

static void a_zoned_destination_forces_write_seq(void **state)
{
	struct world *world = world_create(64, 1, DISK);
	struct script *zoned = script_open(DISK, SECTOR, true, 8);
	struct io_region from = world_source(world, START, COUNT);
	struct io_region dests[2] = { world_dest(world, 0, START, COUNT), { .bdev = zoned->bdev, .count = COUNT } };
	struct outcome copied = { .world = world }, zeroed = { .world = world };

	(void)state;
	script_set_order(world->source, SCRIPT_REVERSE, 0);
	script_add(zoned, holding(LANE_WRITE, 0, 0));
	assert_int_equal(kcopyd_copy(world->kc, &from, 2, dests, 0, world_notify, &copied), 0);
	script_wait_held(zoned, 1);
	script_wait_done(world->dests[0], 2); /* which is not held back: so a second one could be written */
	script_let_go(zoned);
	world_wait(world, &copied);
	assert_int_equal(copied.read_err, 0);
	assert_int_equal(copied.write_err, 0);
	assert_int_equal(zoned->most_writes, 1);
	assert_write_order(zoned, SEQ);
	dests[1].sector = COUNT;
	assert_int_equal(kcopyd_zero(world->kc, 1, dests + 1, 0, world_notify, &zeroed), 0);
	world_wait(world, &zeroed);
	assert_int_equal(zoned->most_writes, 1);
	script_destroy(zoned);
	world_destroy(world);
}

/* -- the pipeline -------------------------------------------------------------------------------- */

static void reads_run_ahead_while_one_destination_is_held_back(void **state)
{
	struct world *world = world_create(8 * PAGES, 2, 4 * DISK);
	struct outcome outcome = { 0 };
	unsigned int chunks;

	(void)state;
	script_add(world->dests[1], holding(LANE_WRITE, 0, 0));
	assert_int_equal(world_start(world, 0, 2000, 0, &outcome), 0);
	script_wait_held(world->dests[1], 1);
	script_wait_done(world->source, 2);
	script_wait_done(world->dests[0], 2);
	script_wait_held(world->dests[1], 2);
	assert_false(world_is_done(world, &outcome));
	chunks = script_count(world->source, LANE_READ);
	assert_true(chunks >= 2 &&
		    chunks * world->source->record[0].bytes <= 8 * PAGES * 4096); /* the reserve is the bound */
	script_let_go(world->dests[1]);
	world_wait(world, &outcome);
	assert_int_equal(outcome.write_err, 0);
	world_destroy(world);
}

static unsigned int count_held(struct script *script)
{
	unsigned int held;

	pthread_mutex_lock(&script->lock);
	held = script->num_held;
	pthread_mutex_unlock(&script->lock);
	return held;
}

/*
 * As many reads as there are chunks, though nothing was written yet: in the reserve, or to begin with. A quarter of them are
 * kept from the destination, to be there when it has written the others.
 */
static void check_read_ahead(unsigned int num_pages)
{
	enum { CHUNKS = TUNE_FEW_PAGES / 256, WRITES = CHUNKS - CHUNKS / 4 };
	struct world *world = world_create(num_pages, 1, 64 << 20);
	struct outcome outcome = { 0 };

	script_add(world->dests[0], holding(LANE_WRITE, 0, 0));
	assert_int_equal(world_start(world, 0, 100000, 0, &outcome), 0);
	script_wait_done(world->source, CHUNKS);
	script_wait_held(world->dests[0], WRITES);
	usleep(10000); /* others would be there by now */
	assert_int_equal(script_count(world->source, LANE_READ), CHUNKS);
	assert_int_equal(count_held(world->dests[0]), WRITES);
	script_let_go(world->dests[0]);
	world_wait(world, &outcome);
	assert_int_equal(outcome.write_err, 0);
	world_destroy(world);
}

static void the_whole_reserve_is_used_before_anybody_waits(void **state)
{
	(void)state;
	check_read_ahead(TUNE_FEW_PAGES);
}

/* What more would be good for is found out later. */
static void of_a_large_reserve_a_part_is_used_to_begin_with(void **state)
{
	(void)state;
	check_read_ahead(2 * TUNE_FEW_PAGES);
}

/* A RAID's stripe may be longer than all that is used to begin with. */
static void chunks_however_long_are_read_while_others_are_written(void **state)
{
	struct world *world = world_create(8 * TUNE_FEW_PAGES, 1, 96 << 20);
	struct outcome outcome = { 0 };

	(void)state;
	client_set_chunk_pages(world->kc, 3 * TUNE_FEW_PAGES / 2);
	script_add(world->dests[0], holding(LANE_WRITE, 0, 0));
	assert_int_equal(world_start(world, 0, 150000, 0, &outcome), 0);
	script_wait_held(world->dests[0], 1);
	script_wait_done(world->source, 4);
	script_let_go(world->dests[0]);
	world_wait(world, &outcome);
	assert_true(world_is_same(world->source, 0, world->dests[0], 8));
	world_destroy(world);
}

/* Is there an attempt that began before @when and ended behind it? */
static bool is_busy_at(const struct script *script, uint64_t when)
{
	unsigned int begun = 0, ended = 0;

	for (size_t i = 0; i < script->num_entries && script->record[i].when < when; i++)
		script->record[i].is_end ? ended++ : begun++;
	return begun > ended;
}

static void one_spindle_is_read_and_written_in_turns(void **state)
{
	struct world *world = world_create(4 * PAGES, 2, DISK);
	struct outcome outcome = { 0 };
	unsigned int turns = 0;
	bool was_reading = false;
	size_t w = 0;

	(void)state;
	client_set_chunk_pages(world->kc, PAGES / 2);
	client_set_alternating(world->kc);
	script_add(world->source, holding(LANE_READ, START + 5 * CHUNK, 1));
	assert_int_equal(world_start(world, START, COUNT, 0, &outcome), 0);
	script_wait_held(world->source, 1);
	script_wait_done(world->source, 7);
	usleep(50000); /* what could be written would be by now */
	script_let_go(world->source);
	world_wait(world, &outcome);
	assert_copied(world, 0, 0, COUNT);
	assert_copied(world, 1, 0, COUNT);
	for (unsigned int i = 0; i < 2; i++)
		for (size_t n = 0; n < world->dests[i]->num_entries; n++)
			assert_false(is_busy_at(world->source, world->dests[i]->record[n].when));
	for (size_t r = 0; r < world->source->num_entries; r++) {
		for (; w < world->dests[0]->num_entries &&
		       world->dests[0]->record[w].when < world->source->record[r].when;
		     w++)
			was_reading = false;
		turns += !was_reading;
		was_reading = true;
	}
	/* 11 chunks, 8 at a time. */
	assert_int_equal(turns, 2);
	world_destroy(world);
}

/* Neither does a chunk that is shorter than a block hold one, nor is one that begins within transferred directly. */
static void chunks_hold_whole_blocks_of_every_device(void **state)
{
	static const unsigned int blocks[] = { 4096, 65536 };
	const sector_t count = (8 << 20) / SECTOR + 128;

	(void)state;
	for (unsigned int i = 0; i < 4; i++) {
		struct world *world = world_create(32, 1, 9 << 20);
		struct script *source = script_open(9 << 20, i % 2 ? SECTOR : blocks[i / 2], false, 8);
		struct io_region from = { .bdev = source->bdev, .count = count };
		struct io_region to = world_dest(world, 0, 1, count);
		struct outcome outcome = { .world = world };

		if (i % 2) {
			source->bdev->is_direct = true; /* a file */
			source->bdev->direct_align = blocks[i / 2];
		}
		script_fill(source, 7);
		to.bdev->queue.optimal_bytes = 24 << 10;
		assert_int_equal(kcopyd_copy(world->kc, &from, 1, &to, 0, world_notify, &outcome), 0);
		world_wait(world, &outcome);
		for (size_t n = 0; n < source->num_entries; n++)
			assert_int_equal(source->record[n].offset % blocks[i / 2], 0);
		kcopyd_client_destroy(world->kc);
		world->kc = NULL;
		script_destroy(source);
		world_destroy(world);
	}
}

/* So that those behind it begin where a RAID's stripes do. */
static void the_first_chunk_may_be_shorter(void **state)
{
	struct world *world = world_create(2 * PAGES, 1, DISK);
	struct outcome outcome = { 0 };

	(void)state;
	client_set_first_sectors(world->kc, 3);
	copy(world, 0, &outcome);
	assert_copied(world, 0, 0, COUNT);
	for (size_t i = 0; i < world->dests[0]->num_entries; i++) {
		sector_t sector = world->dests[0]->record[i].offset / SECTOR - on_dest(0, 0);

		assert_true(sector == 0 || sector % (2 * CHUNK) == 3);
	}
	world_destroy(world);
}

static void source_and_destinations_are_busy_at_once(void **state)
{
	struct world *world = world_create(PAGES, 2, DISK);
	struct outcome outcome = { 0 };

	(void)state;
	script_add(world->source, holding(LANE_READ, START + CHUNK, 1)); /* the second chunk's read is under way ... */
	script_add(world->dests[0], holding(LANE_WRITE, on_dest(0, 0), 1));
	script_add(world->dests[1], holding(LANE_WRITE, on_dest(1, 0), 1));
	assert_int_equal(world_start(world, START, COUNT, 0, &outcome), 0);
	script_wait_held(world->source, 1);
	script_wait_held(world->dests[0], 1); /* ... while the first one is written to both */
	script_wait_held(world->dests[1], 1);
	script_let_go(world->source);
	script_let_go(world->dests[0]);
	script_let_go(world->dests[1]);
	world_wait(world, &outcome);
	assert_copied(world, 0, 0, COUNT);
	assert_copied(world, 1, 0, COUNT);
	world_destroy(world);
}

/* -- what is refused ----------------------------------------------------------------------------- */

static void never(int read_err, unsigned int write_err, void *context)
{
	(void)read_err;
	(void)write_err;
	(void)context;
	abort();
}

#define REGION(disk, first, n) ((struct io_region){ .bdev = (disk)->bdev, .sector = (first), .count = (n) })

static void check_refused(struct world *world, int want, struct io_region from, unsigned int num,
			  struct io_region *dests)
{
	assert_int_equal(kcopyd_copy(world->kc, &from, num, dests, 0, never, NULL), want);
}

#define assert_refused(want, from, ...)                                                                          \
	check_refused(world, want, from, sizeof((struct io_region[]){ __VA_ARGS__ }) / sizeof(struct io_region), \
		      (struct io_region[]){ __VA_ARGS__ })

/* What was read together would be written together, and each side would wait for the other. */
static void of_many_chunks_some_are_not_read_at_once(void **state)
{
	enum { FOUR_CHUNKS = 1024, SECTORS = 16 << 11 };
	struct world *world = world_create(FOUR_CHUNKS, 1, 17 << 20);
	struct outcome outcome = { 0 }, flush = { .world = world };
	struct io_region dest = world_dest(world, 0, 0, 8);

	(void)state;
	script_add(world->source, holding(LANE_READ, 0, 0));
	assert_int_equal(world_start(world, 0, SECTORS, 0, &outcome), 0);
	script_wait_held(world->source, 3);
	/* When this is through, the client has done what it can. */
	assert_int_equal(kcopyd_flush(world->kc, 1, &dest, world_notify, &flush), 0);
	world_wait(world, &flush);
	script_let_go(world->source);
	world_wait(world, &outcome);
	assert_int_equal(outcome.read_err, 0);
	assert_int_equal(outcome.write_err, 0);
	assert_int_equal(world->source->most_in_flight, 3);
	assert_true(world_is_same(world->source, 0, world->dests[0], 8));
	world_destroy(world);
}

static void wrong_arguments_are_refused_and_nobody_is_called(void **state)
{
	struct world *world = world_create(PAGES, 2, DISK);
	struct script *s = world->source, *a = world->dests[0], *b = world->dests[1];
	struct script *block4k = script_open(DISK, 4096, false, 8), *block64k = script_open(DISK, 65536, false, 8);
	struct io_region from = REGION(s, 0, 8), dests[33];
	sector_t all = DISK / SECTOR;
	unsigned int i;

	(void)state;
	for (i = 0; i < 33; i++)
		dests[i] = REGION(a, 8 * i, 8);
	assert_int_equal(kcopyd_copy(world->kc, &from, 0, dests, 0, never, NULL), -EINVAL);
	assert_int_equal(kcopyd_copy(world->kc, &from, 33, dests, 0, never, NULL), -EINVAL);
	assert_int_equal(kcopyd_copy(world->kc, &from, UINT32_MAX, dests, 0, never, NULL), -EINVAL);
	assert_int_equal(kcopyd_zero(world->kc, 0, dests, 0, never, NULL), -EINVAL);
	assert_int_equal(kcopyd_zero(world->kc, 33, dests, 0, never, NULL), -EINVAL);
	assert_int_equal(kcopyd_flush(world->kc, 0, dests, never, NULL), -EINVAL);
	assert_int_equal(kcopyd_flush(world->kc, 33, dests, never, NULL), -EINVAL);
	for (i = 0; i < 32; i++)
		if (!((IGNORE | SEQ | DROP | SPARSE) >> i & 1)) {
			assert_int_equal(kcopyd_copy(world->kc, &from, 1, dests, 1u << i, never, NULL), -EINVAL);
			assert_int_equal(kcopyd_zero(world->kc, 1, dests, 1u << i, never, NULL), -EINVAL);
		}

	assert_refused(-EINVAL, from, REGION(a, 0, 7));
	assert_refused(-EINVAL, from, REGION(a, 0, 8), REGION(b, 0, 9));
	assert_refused(-EINVAL, REGION(s, 0, 0), REGION(a, 0, 8));
	assert_refused(-EINVAL, REGION(s, all - 7, 8), REGION(a, 0, 8));
	assert_refused(-EINVAL, REGION(s, all + 1, 0), REGION(a, 0, 0));
	assert_refused(-EINVAL, from, REGION(a, all - 7, 8));
	assert_refused(-EINVAL, from, REGION(a, 0, 8), REGION(b, all, 8));
	assert_refused(-EINVAL, REGION(s, UINT64_MAX, 8), REGION(a, 0, 8));
	assert_refused(-EINVAL, REGION(s, 8, UINT64_MAX), REGION(a, 0, UINT64_MAX));
	assert_refused(-EINVAL, from, REGION(a, UINT64_MAX - 7, 8));
	assert_refused(-EINVAL, from, REGION(a, UINT64_C(1) << 55, 8));

	assert_refused(-EINVAL, REGION(s, 0, 8), REGION(block4k, 4, 8));
	assert_refused(-EINVAL, REGION(s, 0, 4), REGION(block4k, 8, 4));
	assert_refused(-EINVAL, REGION(block4k, 1, 8), REGION(a, 0, 8));
	assert_refused(-EINVAL, REGION(s, 0, 128), REGION(block64k, 0, 128)); /* 16 pages, a chunk has 4 */
	assert_refused(-EINVAL, REGION(block64k, 0, 128), REGION(a, 0, 128));

	a->bdev->can_write = false;
	s->bdev->can_read = false;
	assert_refused(-EBADF, from, REGION(b, 0, 8));
	assert_refused(-EBADF, REGION(b, 0, 8), REGION(a, 0, 8));
	assert_int_equal(kcopyd_zero(world->kc, 1, dests, 0, never, NULL), -EBADF);
	assert_int_equal(script_count(s, SCRIPT_ANY) + script_count(a, SCRIPT_ANY) + script_count(b, SCRIPT_ANY), 0);
	script_destroy(block4k);
	script_destroy(block64k);
	world_destroy(world);
}

static void overlaps_are_refused_and_neighbours_are_not(void **state)
{
	struct world *world = world_create(PAGES, 2, DISK);
	struct script *s = world->source, *a = world->dests[0], *b = world->dests[1];
	struct io_region from = REGION(s, 100, 50), to[2] = { REGION(s, 150, 50), REGION(s, 50, 50) };
	struct outcome outcome = { .world = world };
	unsigned int n;

	(void)state;
	assert_refused(-EINVAL, from, REGION(s, 100, 50));
	assert_refused(-EINVAL, from, REGION(s, 149, 50));
	assert_refused(-EINVAL, from, REGION(s, 51, 50));
	assert_refused(-EINVAL, from, REGION(a, 0, 50), REGION(s, 120, 50));
	assert_refused(-EINVAL, from, REGION(a, 0, 50), REGION(a, 49, 50));
	assert_refused(-EINVAL, from, REGION(a, 0, 50), REGION(b, 0, 50), REGION(a, 0, 50));
	assert_int_equal(
		kcopyd_zero(world->kc, 2, (struct io_region[]){ REGION(a, 0, 50), REGION(a, 20, 50) }, 0, never, NULL),
		-EINVAL);
	assert_true(kcopyd_regions_overlap(&from, &from));
	assert_false(kcopyd_regions_overlap(&REGION(s, 0, 8), &REGION(a, 0, 8)));
	assert_false(kcopyd_regions_overlap(&REGION(s, 4, 0), &REGION(s, 0, 8)));

	assert_int_equal(kcopyd_copy(world->kc, &from, 2, to, 0, world_notify, &outcome), 0);
	world_wait(world, &outcome);
	assert_int_equal(outcome.read_err, 0);
	assert_int_equal(outcome.write_err, 0);
	for (n = 0; n < 50; n++)
		assert_true(world_is_same(s, 100 + n, s, 150 + n) && world_is_same(s, 100 + n, s, 50 + n));
	world_destroy(world);
}

static void a_client_without_pages_is_refused(void **state)
{
	struct kcopyd_client *kc = NULL;

	(void)state;
	assert_int_equal(kcopyd_client_create(0, &kc), -EINVAL);
	assert_null(kc);
	kcopyd_client_destroy(NULL);
	kcopyd_device_close(NULL);
}

/* -- zero and flush ------------------------------------------------------------------------------ */

static int zero(struct world *world, sector_t count, unsigned int flags, struct outcome *outcome)
{
	struct io_region dests[KCOPYD_MAX_DESTS];
	unsigned int i;

	for (i = 0; i < world->num_dests; i++)
		dests[i] = world_dest(world, i, START, count);
	outcome->world = world;
	return kcopyd_zero(world->kc, world->num_dests, dests, flags, world_notify, outcome);
}

static void check_zeros_on_every_destination(unsigned int flags, int never)
{
	enum { SECTORS = 70000 }; /* more than one piece */
	struct world *world = world_create(1, 3, 40 << 20);
	struct outcome outcome = { 0 }, empty = { 0 };
	unsigned int i;
	sector_t n;

	assert_int_equal(zero(world, SECTORS, SEQ | flags, &outcome), 0);
	world_wait(world, &outcome);
	assert_int_equal(outcome.read_err, 0);
	assert_int_equal(outcome.write_err, 0);
	for (i = 0; i < 3; i++) {
		struct io_region to = world_dest(world, i, START, SECTORS);

		assert_true(world_is_filled(world->dests[i], to.sector - 1, SCRIPT_BLANK));
		for (n = 0; n < SECTORS; n++)
			assert_true(world_is_filled(world->dests[i], to.sector + n, 0));
		assert_true(world_is_filled(world->dests[i], to.sector + SECTORS, SCRIPT_BLANK));
		assert_int_equal(world_contiguous(world, &outcome, i), SECTORS);
		assert_int_equal(world->dests[i]->most_writes, 1);
		assert_int_equal(script_count(world->dests[i], never), 0);
		world_assert_contiguous_exact(world, &outcome, i, &to);
	}
	assert_int_equal(zero(world, 0, 0, &empty), 0);
	world_wait(world, &empty);
	assert_int_equal(empty.read_err, 0);
	assert_int_equal(empty.write_err, 0);
	world_destroy(world);
}

static void zeros_are_made_on_every_destination(void **state)
{
	(void)state;
	check_zeros_on_every_destination(SPARSE, LANE_WRITE);
}

static void without_sparse_zeros_are_written(void **state)
{
	(void)state;
	check_zeros_on_every_destination(0, LANE_ZERO);
}

static void zeroing_that_fails_is_told_and_the_others_go_on(void **state)
{
	static const unsigned int flags[] = { IGNORE | SPARSE, DROP | SPARSE, IGNORE, DROP };
	unsigned int n, i;
	sector_t at;

	(void)state;
	for (n = 0; n < 4; n++) {
		struct world *world = world_create(1, 3, DISK);
		struct outcome outcome = { 0 };

		script_add(world->dests[1],
			   failing(flags[n] & SPARSE ? LANE_ZERO : LANE_WRITE, on_dest(1, 200), 1, EREMOTEIO));
		assert_int_equal(zero(world, COUNT, flags[n], &outcome), 0);
		world_wait(world, &outcome);
		assert_int_equal(outcome.read_err, 0);
		assert_int_equal(outcome.write_err, 2);
		assert_true(world_is_told_bad(world, &outcome, KCOPYD_OP_ZERO, 1, on_dest(1, 200)));
		for (i = 0; i < 3; i += 2)
			for (at = 0; at < COUNT; at++)
				assert_true(world_is_filled(world->dests[i], on_dest(i, at), 0));
		for (i = 0; i < world->num_told; i++)
			if (world->told[i].kind == TOLD_ERROR)
				assert_int_equal(world->told[i].error, EREMOTEIO);
		world_destroy(world);
	}
}

static void zeroing_takes_no_pages(void **state)
{
	struct world *world = world_create(2, 1, DISK);
	struct script *other = script_open(DISK, SECTOR, false, 8);
	struct io_region dest = REGION(other, 0, 100);
	struct outcome stuck = { 0 }, zeroed = { .world = world };

	(void)state;
	script_add(world->source, holding(LANE_READ, 0, 0)); /* has the whole reserve */
	assert_int_equal(world_start(world, START, COUNT, 0, &stuck), 0);
	script_wait_held(world->source, 2);
	assert_int_equal(kcopyd_zero(world->kc, 1, &dest, 0, world_notify, &zeroed), 0);
	world_wait(world, &zeroed);
	assert_int_equal(zeroed.write_err, 0);
	assert_false(world_is_done(world, &stuck));
	script_let_go(world->source);
	world_wait(world, &stuck);
	script_destroy(other);
	world_destroy(world);
}

static int flush(struct world *world, struct outcome *outcome)
{
	struct io_region dests[KCOPYD_MAX_DESTS];
	unsigned int i;

	for (i = 0; i < world->num_dests; i++) /* ranges are ignored */
		dests[i] = (struct io_region){ .bdev = world->dests[i]->bdev, .sector = UINT64_MAX, .count = i };
	outcome->world = world;
	return kcopyd_flush(world->kc, world->num_dests, dests, world_notify, outcome);
}

static void flushes_run_in_parallel_and_each_fails_for_itself(void **state)
{
	struct world *world = world_create(1, 4, DISK);
	struct outcome outcome = { 0 };
	unsigned int i, errors = 0;

	(void)state;
	for (i = 0; i < 4; i++)
		script_add(world->dests[i], holding(LANE_FLUSH, 0, 0));
	script_add(world->dests[0], failing(LANE_FLUSH, 0, 0, EIO));
	script_add(world->dests[2], failing(LANE_FLUSH, 0, 0, ENOSPC));
	assert_int_equal(flush(world, &outcome), 0);
	for (i = 0; i < 4; i++)
		script_wait_held(world->dests[i], 1); /* all at once */
	for (i = 0; i < 4; i++)
		script_let_go(world->dests[i]);
	world_wait(world, &outcome);
	assert_int_equal(outcome.read_err, 0);
	assert_int_equal(outcome.write_err, 5);
	for (i = 0; i < world->num_told; i++) {
		const struct told *told = &world->told[i];

		assert_int_equal(told->kind, TOLD_ERROR);
		assert_int_equal(told->op, KCOPYD_OP_FLUSH);
		assert_int_equal(told->region.count, 0);
		assert_ptr_equal(told->region.bdev, world->dests[told->dest]->bdev);
		assert_int_equal(told->error, told->dest ? ENOSPC : EIO);
		errors |= 1u << told->dest;
	}
	assert_int_equal(world->num_told, 2);
	assert_int_equal(errors, 5);
	for (i = 0; i < 4; i++)
		assert_int_equal(script_count(world->dests[i], LANE_FLUSH), 1);
	world_destroy(world);
}

/* The kernel tells a lost write to the first flush of a descriptor and not to the second. */
static void a_device_that_is_named_twice_is_flushed_once_and_fails_for_both(void **state)
{
	struct world *world = world_create(1, 2, DISK);
	struct io_region dests[3] = { world_dest(world, 0, 0, 8), world_dest(world, 1, 0, 8),
				      world_dest(world, 0, 16, 8) };
	struct outcome outcome = { .world = world };

	(void)state;
	script_add(world->dests[0], failing(LANE_FLUSH, 0, 0, EIO));
	assert_int_equal(kcopyd_flush(world->kc, 3, dests, world_notify, &outcome), 0);
	world_wait(world, &outcome);
	assert_int_equal(outcome.write_err, 5);
	assert_int_equal(world->num_told, 2);
	assert_int_equal(script_count(world->dests[0], LANE_FLUSH), 1);
	assert_int_equal(script_count(world->dests[1], LANE_FLUSH), 1);
	world_destroy(world);
}

static void a_copy_sends_no_flush_and_a_flush_nothing_else(void **state)
{
	struct world *world = world_create(PAGES, 2, DISK);
	struct outcome copied = { 0 }, flushed = { 0 };
	unsigned int i, before;

	(void)state;
	copy(world, 0, &copied);
	for (i = 0; i < 2; i++)
		assert_int_equal(script_count(world->dests[i], LANE_FLUSH), 0);
	before = script_count(world->dests[0], SCRIPT_ANY);
	assert_int_equal(flush(world, &flushed), 0);
	world_wait(world, &flushed);
	assert_int_equal(flushed.write_err, 0);
	assert_int_equal(script_count(world->dests[0], SCRIPT_ANY), before + 1);
	assert_int_equal(script_count(world->dests[0], LANE_FLUSH), 1);
	assert_int_equal(script_count(world->source, LANE_FLUSH), 0);
	world_destroy(world);
}

static void any_device_can_be_flushed_however_large_its_blocks(void **state)
{
	struct world *world = world_create(1, 0, DISK);
	struct outcome outcome = { 0 };

	(void)state;
	world->dests[0] = script_open(DISK, 65536, false, 8);
	world->num_dests = 1;
	assert_int_equal(flush(world, &outcome), 0);
	world_wait(world, &outcome);
	assert_int_equal(outcome.read_err, 0);
	assert_int_equal(outcome.write_err, 0);
	assert_int_equal(script_count(world->dests[0], LANE_FLUSH), 1);
	world_destroy(world);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_copy_reaches_every_destination_in_full),
		cmocka_unit_test(the_whole_source_is_read_once_whatever_the_number_of_destinations),
		cmocka_unit_test(every_size_of_reserve_works),
		cmocka_unit_test(a_count_of_0_succeeds_on_the_clients_thread),
		cmocka_unit_test(thirty_two_destinations_are_written),
		cmocka_unit_test(short_and_interrupted_transfers_are_nobodys_error),
		cmocka_unit_test(write_seq_writes_in_order_though_reads_come_back_reversed),
		cmocka_unit_test(a_zoned_destination_forces_write_seq),
		cmocka_unit_test(reads_run_ahead_while_one_destination_is_held_back),
		cmocka_unit_test(the_whole_reserve_is_used_before_anybody_waits),
		cmocka_unit_test(of_a_large_reserve_a_part_is_used_to_begin_with),
		cmocka_unit_test(chunks_however_long_are_read_while_others_are_written),
		cmocka_unit_test(one_spindle_is_read_and_written_in_turns),
		cmocka_unit_test(chunks_hold_whole_blocks_of_every_device),
		cmocka_unit_test(the_first_chunk_may_be_shorter),
		cmocka_unit_test(source_and_destinations_are_busy_at_once),
		cmocka_unit_test(of_many_chunks_some_are_not_read_at_once),
		cmocka_unit_test(wrong_arguments_are_refused_and_nobody_is_called),
		cmocka_unit_test(overlaps_are_refused_and_neighbours_are_not),
		cmocka_unit_test(a_client_without_pages_is_refused),
		cmocka_unit_test(zeros_are_made_on_every_destination),
		cmocka_unit_test(without_sparse_zeros_are_written),
		cmocka_unit_test(zeroing_that_fails_is_told_and_the_others_go_on),
		cmocka_unit_test(zeroing_takes_no_pages),
		cmocka_unit_test(flushes_run_in_parallel_and_each_fails_for_itself),
		cmocka_unit_test(a_device_that_is_named_twice_is_flushed_once_and_fails_for_both),
		cmocka_unit_test(a_copy_sends_no_flush_and_a_flush_nothing_else),
		cmocka_unit_test(any_device_can_be_flushed_however_large_its_blocks),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
