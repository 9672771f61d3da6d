/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What fails is tried again, after waits that hold up nobody else, and not for ever: how often each block was tried, what
 * goes on meanwhile, and devices that have vanished or are dead. Waits are of no time at all, or for ever, where nobody
 * may wait or only a cancel ends it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <sched.h>
#include <string.h>

#include "client.h"
#include "kcopyd.h"
#include "scripted.h"
#include "world.h"

#define FOR_EVER_MS (3600u * 1000)
#define BAD (3 * CHUNK + 5) /* the job's sector that fails in most of these */

/* Where the job's sector @n is on the source (@operand -1) or a destination. */
static struct script *disk_of(const struct world *world, int operand)
{
	return operand < 0 ? world->source : world->dests[operand];
}

static sector_t place_of(int operand, sector_t n)
{
	return operand < 0 ? START + n : on_dest((unsigned int)operand, n);
}

static int op_of(int operand)
{
	return operand < 0 ? LANE_READ : LANE_WRITE;
}

struct tries {
	unsigned int good;  /* attempts that transferred it */
	unsigned int alone; /* attempts at it only, that failed */
	unsigned int all;   /* attempts that failed with it among others, or alone */
};

static struct tries count_tries(struct script *script, sector_t sector)
{
	struct tries tries = { 0 };
	size_t i;

	pthread_mutex_lock(&script->lock);
	for (i = 0; i < script->num_entries; i++) {
		const struct script_entry *entry = &script->record[i];

		if (!entry->is_end || entry->offset > sector * SECTOR ||
		    entry->offset + entry->bytes <= sector * SECTOR)
			continue;
		tries.good += entry->result > 0;
		tries.all += entry->result < 0;
		tries.alone += entry->result < 0 && entry->bytes == SECTOR;
	}
	pthread_mutex_unlock(&script->lock);
	return tries;
}

/* Until it was tried alone. */
static void wait_alone(struct script *script, sector_t sector)
{
	while (!count_tries(script, sector).alone)
		sched_yield();
}

static unsigned int count_told(const struct world *world)
{
	unsigned int i, count = 0;

	for (i = 0; i < world->num_told; i++)
		count += world->told[i].kind == TOLD_ERROR;
	return count;
}

/* -- how often ----------------------------------------------------------------------------------- */

static void a_bad_block_is_tried_so_often_and_a_good_one_once_more(void **state)
{
	static const unsigned int retries[] = { 0, 1, 2, 5 };
	unsigned int i;
	int operand;
	sector_t n;

	(void)state;
	for (operand = -1; operand < 1; operand++) {
		for (i = 0; i < 4; i++) {
			struct world *world = world_create(PAGES, 1, DISK);
			struct script *disk = disk_of(world, operand);
			struct outcome outcome = { 0 };

			kcopyd_client_set_retries(world->kc, retries[i]);
			script_add(disk, failing(op_of(operand), place_of(operand, BAD), 1, EIO));
			copy(world, IGNORE, &outcome);
			assert_int_equal(count_told(world), 1);
			for (n = 0; n < COUNT; n++) {
				struct tries tries = count_tries(disk, place_of(operand, n));

				assert_int_equal(tries.good, n != BAD);
				assert_int_equal(tries.alone, n == BAD ? 1 + retries[i] : 0);
			}
			world_destroy(world);
		}
	}
}

/* One page is one chunk: its blocks, and the chunk itself where that is the block. */
static void a_chunk_of_one_block_is_tried_so_often(void **state)
{
	struct world *world = world_create(2, 1, DISK);
	struct script *large = script_open(DISK, 4096, false, 8);
	struct io_region from = world_source(world, 0, 64), to = { .bdev = large->bdev, .sector = 8, .count = 64 };
	struct outcome outcome = { .world = world };
	sector_t n;

	(void)state;
	script_add(large, failing(LANE_WRITE, 8 + 17, 1, EIO));
	assert_int_equal(kcopyd_copy(world->kc, &from, 1, &to, IGNORE, world_notify, &outcome), 0);
	world_wait(world, &outcome);
	assert_int_equal(outcome.write_err, 1);
	assert_int_equal(world_errors(world, &outcome, KCOPYD_OP_WRITE, 0), 8);
	assert_int_equal(script_count(large, LANE_WRITE), 8 + 2);
	for (n = 0; n < 64; n++) {
		if (n / 8 == 2)
			assert_true(world_is_filled(large, 8 + n, SCRIPT_BLANK));
		else
			assert_true(world_is_same(world->source, n, large, 8 + n));
	}
	script_destroy(large);
	world_destroy(world);
}

static void an_error_that_the_last_try_does_not_find_is_none(void **state)
{
	static const unsigned int flags[] = { 0, DROP, IGNORE, SEQ | DROP };
	unsigned int i, all;
	int operand;

	(void)state;
	for (operand = -1; operand < 1; operand++) {
		for (i = 0; i < 8; i++) {
			struct script_rule rule = failing(op_of(operand), place_of(operand, BAD), 1, EIO);
			struct world *world = world_create(PAGES, 1, DISK);
			struct outcome outcome = { 0 };

			script_add(disk_of(world, operand), rule);
			copy(world, flags[i / 2], &outcome);
			all = count_tries(disk_of(world, operand), place_of(operand, BAD)).all;
			world_destroy(world);

			/* The same again, and the last of these tries succeeds; or they all fail, and one more would not. */
			world = world_create(PAGES, 1, DISK);
			rule.times = i % 2 ? all : all - 1;
			memset(&outcome, 0, sizeof(outcome));
			script_add(disk_of(world, operand), rule);
			copy(world, flags[i / 2], &outcome);
			assert_int_equal(outcome.read_err, i % 2 && operand < 0);
			assert_int_equal(outcome.write_err, i % 2 && operand == 0);
			assert_int_equal(count_told(world), i % 2);
			if (i % 2 == 0)
				assert_copied(world, 0, 0, COUNT);
			if (i % 2 == 0)
				assert_int_equal(world_contiguous(world, &outcome, 0), COUNT);
			assert_contiguous_exact(world, &outcome);
			world_destroy(world);
		}
	}
}

/* Everything fails for a while, on every disk. */
static void an_outage_of_everything_is_no_error(void **state)
{
	struct world *world = world_create(PAGES, 3, DISK);
	struct script_rule rule = failing(SCRIPT_ANY, 0, 0, EIO);
	struct outcome outcome = { 0 };
	unsigned int i;

	(void)state;
	rule.times = 6; /* five halvings of a chunk, and a retry */
	script_add(world->source, rule);
	for (i = 0; i < 3; i++)
		script_add(world->dests[i], rule);
	copy(world, 0, &outcome);
	assert_int_equal(outcome.read_err, 0);
	assert_int_equal(outcome.write_err, 0);
	assert_int_equal(count_told(world), 0);
	for (i = 0; i < 3; i++)
		assert_copied(world, i, 0, COUNT);
	assert_contiguous_exact(world, &outcome);
	world_destroy(world);
}

static void areas_with_different_errors_are_told_apart(void **state)
{
	struct world *world = world_create(PAGES, 1, DISK);
	struct outcome outcome = { 0 };
	unsigned int i, seen = 0;

	(void)state;
	script_add(world->dests[0], failing(LANE_WRITE, on_dest(0, BAD), 1, EIO));
	script_add(world->dests[0], failing(LANE_WRITE, on_dest(0, BAD + 1), 2, ENOSPC));
	copy(world, IGNORE, &outcome);
	for (i = 0; i < world->num_told; i++) {
		const struct told *told = &world->told[i];

		if (told->kind != TOLD_ERROR)
			continue;
		assert_int_equal(told->region.sector, on_dest(0, BAD + seen));
		assert_int_equal(told->region.count, 1 + seen);
		assert_int_equal(told->error, seen ? ENOSPC : EIO);
		assert_false(told->is_dropped);
		seen++;
	}
	assert_int_equal(seen, 2);
	world_destroy(world);
}

/* -- meanwhile ----------------------------------------------------------------------------------- */

/* One chunk waits for its retry until the cancel; another job has the same client, source and disks. */
static void a_wait_for_a_retry_holds_up_nobody_else(void **state)
{
	int operand;

	(void)state;
	for (operand = -1; operand < 1; operand++) {
		struct world *world = world_create(2 * PAGES, 2, DISK);
		struct outcome waiting = { 0 }, other = { 0 }, zeros = { .world = world };
		struct io_region to = world_dest(world, 0, 800, 100);

		client_set_retry_wait(world->kc, FOR_EVER_MS);
		script_add(disk_of(world, operand), failing(op_of(operand), place_of(operand, 5), 1, EIO));
		assert_int_equal(world_start(world, START, CHUNK, DROP, &waiting), 0);
		wait_alone(disk_of(world, operand), place_of(operand, 5));
		assert_int_equal(world_start(world, START + 5 * CHUNK, 5 * CHUNK, DROP, &other), 0);
		assert_int_equal(kcopyd_zero(world->kc, 1, &to, SPARSE, world_notify, &zeros), 0);
		world_wait(world, &other);
		world_wait(world, &zeros);
		assert_int_equal(other.read_err, 0);
		assert_int_equal(other.write_err, 0);
		assert_int_equal(zeros.write_err, 0);
		assert_copied(world, 0, 5 * CHUNK, 10 * CHUNK);
		assert_copied(world, 1, 5 * CHUNK, 10 * CHUNK);
		assert_false(world_is_done(world, &waiting));

		kcopyd_client_cancel(world->kc);
		world_wait(world, &waiting);
		/* It did fail, and what is in front of that is there. */
		assert_int_equal(waiting.read_err, operand < 0 ? 1 : -ECANCELED);
		assert_int_equal(waiting.write_err, operand < 0 ? 0 : 1);
		assert_int_equal(world_contiguous(world, &waiting, 0), 5);
		assert_int_equal(world_contiguous(world, &waiting, 1), operand < 0 ? 5 : CHUNK);
		assert_copied(world, 0, 0, 5);
		assert_copied(world, 1, 0, operand < 0 ? 5 : CHUNK);
		world_destroy(world);
	}
}

/* The other destination has all that the reserve has room for; the failing one nothing that is behind its error. */
static void nothing_behind_an_error_is_written_before_it_is_settled(void **state)
{
	struct world *world = world_create(PAGES, 2, DISK);
	struct outcome outcome = { 0 };
	sector_t n;

	(void)state;
	client_set_retry_wait(world->kc, FOR_EVER_MS);
	script_add(world->source, holding(LANE_READ, START + CHUNK, 1));
	script_add(world->dests[0], failing(LANE_WRITE, on_dest(0, 5), 1, EIO));
	assert_int_equal(world_start(world, START, COUNT, IGNORE, &outcome), 0);
	wait_alone(world->dests[0], on_dest(0, 5));
	script_let_go(world->source);
	script_wait_done(world->dests[1], 2);
	for (n = 6; n < COUNT; n++)
		assert_true(world_is_filled(world->dests[0], on_dest(0, n), SCRIPT_BLANK));
	assert_copied(world, 1, 0, 2 * CHUNK);
	kcopyd_client_cancel(world->kc);
	world_wait(world, &outcome);
	assert_int_equal(outcome.write_err, 1);
	assert_copied(world, 1, 0, 2 * CHUNK);
	assert_contiguous_exact(world, &outcome);
	world_destroy(world);
}

/*
 * The second chunk waits to be read again; what is behind it is not read in vain, with pages that others can use: those of
 * the first chunk, as soon as it is written.
 */
static void nothing_more_is_read_behind_a_read_error_that_is_not_settled(void **state)
{
	enum { SECTORS = 2048 };
	struct world *world = world_create(4 * 256, 1, 8 << 20); /* four chunks */
	struct outcome outcome = { 0 }, other = { 0 };
	sector_t n;

	(void)state;
	client_set_retry_wait(world->kc, FOR_EVER_MS);
	script_add(world->source, failing(LANE_READ, SECTORS, 1, EIO));
	script_add(world->source, holding(LANE_READ, SECTORS, 1));
	script_add(world->dests[0], holding(LANE_WRITE, 8, 1));
	assert_int_equal(world_start(world, 0, 6 * SECTORS, 0, &outcome), 0);
	script_wait_held(world->dests[0], 1);
	script_wait_done(world->source, 3);
	script_let_go(world->source);
	wait_alone(world->source, SECTORS);
	script_let_go(world->dests[0]);
	assert_int_equal(world_start(world, 6 * SECTORS, SECTORS, 0, &other), 0);
	world_wait(world, &other);
	assert_int_equal(other.read_err, 0);
	assert_int_equal(count_tries(world->source, 4 * SECTORS).good, 0);
	kcopyd_client_cancel(world->kc);
	world_wait(world, &outcome);
	assert_int_equal(outcome.read_err, 1);
	assert_int_equal(outcome.write_err, 0);
	assert_int_equal(count_tries(world->source, 4 * SECTORS).good, 0);
	assert_int_equal(world_contiguous(world, &outcome, 0), SECTORS);
	for (n = SECTORS; n < 6 * SECTORS; n++)
		assert_true(world_is_filled(world->dests[0], 8 + n, SCRIPT_BLANK));
	world_destroy(world);
}

/* It fails, and takes its time over each try. */
static void a_slow_failing_disk_does_not_stop_the_other_lanes(void **state)
{
	struct world *world = world_create(PAGES, 2, DISK);
	struct script_rule slow = holding(LANE_WRITE, on_dest(0, 5), 1);
	struct outcome outcome = { 0 };

	(void)state;
	slow.skip = 1; /* the chunk's own write fails at once, every try after it is held */
	script_add(world->dests[0], slow);
	script_add(world->dests[0], failing(LANE_WRITE, on_dest(0, 5), 1, EIO));
	assert_int_equal(world_start(world, START, COUNT, DROP, &outcome), 0);
	script_wait_held(world->dests[0], 1);
	script_wait_done(world->dests[1], 2);
	script_let_go(world->dests[0]);
	world_wait(world, &outcome);
	assert_int_equal(outcome.write_err, 1);
	assert_copied(world, 0, 0, 5);
	assert_copied(world, 1, 0, COUNT);
	world_destroy(world);
}

/* -- the end ------------------------------------------------------------------------------------- */

static void destroying_a_client_waits_for_its_retries(void **state)
{
	struct world *world = world_create(PAGES, 1, DISK);
	struct script_rule rule = failing(LANE_WRITE, on_dest(0, BAD), 1, EIO);
	struct outcome outcome = { 0 };

	(void)state;
	client_set_retry_wait(world->kc, 20);
	rule.times = 7; /* the chunk, five halvings, the block alone: its second retry succeeds */
	script_add(world->dests[0], rule);
	assert_int_equal(world_start(world, START, COUNT, 0, &outcome), 0);
	wait_alone(world->dests[0], on_dest(0, BAD));
	kcopyd_client_destroy(world->kc);
	world->kc = NULL;
	assert_int_equal(outcome.calls, 1);
	assert_int_equal(outcome.read_err, 0);
	world_destroy(world);
}

static void a_cancel_ends_every_wait_at_once(void **state)
{
	struct world *world = world_create(16 * PAGES, 3, DISK);
	struct outcome outcomes[3] = { 0 };
	unsigned int i;

	(void)state;
	client_set_retry_wait(world->kc, FOR_EVER_MS);
	for (i = 0; i < 3; i++)
		script_add(world->dests[i], failing(LANE_WRITE, 0, 0, EIO));
	for (i = 0; i < 3; i++)
		assert_int_equal(world_start(world, START + 300 * i, 300, IGNORE, &outcomes[i]), 0);
	for (i = 0; i < 3; i++)
		wait_alone(world->dests[i], on_dest(i, 0));
	kcopyd_client_cancel(world->kc);
	kcopyd_client_destroy(world->kc);
	world->kc = NULL;
	for (i = 0; i < 3; i++) {
		assert_int_equal(outcomes[i].calls, 1);
		assert_int_equal(outcomes[i].read_err, -ECANCELED);
		assert_int_equal(outcomes[i].write_err & ~7u, 0);
	}
	world_destroy(world);
}

static void choose_bad_sectors(struct world *world, uint64_t *seed, bool (*is_bad)[COUNT])
{
	unsigned int i, areas;
	sector_t n;

	memset(is_bad, 0, (world->num_dests + 1) * sizeof(is_bad[0]));
	for (i = 0; i <= world->num_dests; i++) {
		int operand = (int)i - 1;

		for (areas = (unsigned int)(script_random(seed) % 6); areas > 0; areas--) {
			sector_t first = script_random(seed) % (COUNT - 8), count = 1 + script_random(seed) % 8;
			struct script_rule rule = failing(op_of(operand), place_of(operand, first), count, EIO);

			if (script_random(seed) & 1)
				rule.what = SCRIPT_FAIL_AT;
			script_add(disk_of(world, operand), rule);
			for (n = first; n < first + count; n++)
				is_bad[i][n] = true;
		}
		script_set_order(disk_of(world, operand), (enum script_order)(script_random(seed) % 3), *seed);
	}
}

static void a_cancel_at_any_time_ends_the_job_and_leaves_nothing_strange(void **state)
{
	static bool is_bad[4][COUNT];
	uint64_t seed = script_seed();
	unsigned int round, i;
	sector_t n;

	(void)state;
	for (round = 0; round < (script_is_slow() ? 60u : 200u); round++) {
		struct world *world = world_create(1 + (unsigned int)(script_random(&seed) % 12), 3, DISK);
		static const unsigned int flags[] = { 0, DROP, IGNORE, IGNORE | SEQ };
		struct outcome outcome = { 0 };

		client_set_retry_wait(world->kc, round & 1 ? FOR_EVER_MS : 0);
		choose_bad_sectors(world, &seed, is_bad);
		assert_int_equal(world_start(world, START, COUNT, flags[script_random(&seed) % 4], &outcome), 0);
		for (n = script_random(&seed) % 30; n > 0; n--)
			sched_yield();
		kcopyd_client_cancel(world->kc);
		world_wait(world, &outcome);
		for (i = 0; i < 3; i++) {
			for (n = 0; n < COUNT; n++)
				assert_true(world_is_same(world->source, START + n, world->dests[i], on_dest(i, n)) ||
					    world_is_filled(world->dests[i], on_dest(i, n), SCRIPT_BLANK) ||
					    (is_bad[0][n] && world_is_filled(world->dests[i], on_dest(i, n), 0)));
			assert_outside_untouched(world, i);
			if (outcome.read_err == 0 && outcome.write_err == 0)
				assert_copied(world, i, 0, COUNT);
		}
		/* Of what was not looked at closely any more nothing is said: it may be good. */
		for (n = 0; n < COUNT; n++) {
			if (!is_bad[0][n])
				assert_false(world_is_told_bad(world, &outcome, KCOPYD_OP_READ, 0, START + n));
			for (i = 0; i < 3; i++)
				if (!is_bad[1 + i][n])
					assert_false(
						world_is_told_bad(world, &outcome, KCOPYD_OP_WRITE, i, on_dest(i, n)));
		}
		assert_contiguous_exact(world, &outcome);
		world_destroy(world);
	}
}

/* -- every reserve ------------------------------------------------------------------------------- */

static void assert_exact(const struct world *world, const struct outcome *outcome, unsigned int dest,
			 bool (*is_bad)[COUNT])
{
	sector_t n, first = 0, count = 0;

	for (n = 0; n < COUNT; n++) {
		assert_int_equal(world_is_told_bad(world, outcome, KCOPYD_OP_WRITE, dest, on_dest(dest, n)),
				 is_bad[1 + dest][n]);
		if (is_bad[1 + dest][n])
			assert_true(world_is_filled(world->dests[dest], on_dest(dest, n), SCRIPT_BLANK));
		else if (is_bad[0][n])
			assert_true(world_is_filled(world->dests[dest], on_dest(dest, n), 0));
		else
			assert_copied(world, dest, n, n + 1);
		count += is_bad[1 + dest][n];
	}
	while (first < COUNT && !is_bad[1 + dest][first])
		first++;
	assert_int_equal(world_contiguous(world, outcome, dest), first);
	assert_int_equal(world_errors(world, outcome, KCOPYD_OP_WRITE, dest), count);
	assert_int_equal(outcome->write_err >> dest & 1, count > 0);
}

static void several_failing_destinations_come_to_an_end_with_every_reserve(void **state)
{
	static bool is_bad[5][COUNT];
	uint64_t seed = script_seed();
	unsigned int pages, flags, i;

	(void)state;
	for (pages = 1; pages <= 17; pages++) {
		for (flags = 0; flags < 8; flags++) {
			struct world *world = world_create(pages, 4, DISK);
			struct outcome outcome = { 0 };

			choose_bad_sectors(world, &seed, is_bad);
			copy(world, (flags & 1 ? IGNORE : 0) | (flags & 2 ? SEQ : 0) | (flags & 4 ? DROP : 0),
			     &outcome);
			for (i = 0; i < 4; i++) {
				if (flags & 1)
					assert_exact(world, &outcome, i, is_bad);
				assert_write_order(world->dests[i], flags & 2 ? SEQ : 0);
			}
			assert_contiguous_exact(world, &outcome);
			world_destroy(world);
		}
	}
}

/* -- gone ---------------------------------------------------------------------------------------- */

/* A wait would be for ever, so there was none. */
static void a_destination_that_vanishes_is_dropped_at_once(void **state)
{
	static const int errors[] = { ENXIO, ENODEV, ENOMEDIUM, ESHUTDOWN, EBADF };
	static const unsigned int flags[] = { 0, DROP, IGNORE, DROP | SEQ, IGNORE | SEQ };
	unsigned int i, j, k;

	(void)state;
	for (i = 0; i < 5; i++) {
		for (j = 0; j < 5; j++) {
			struct world *world = world_create(PAGES, 2, DISK);
			struct outcome outcome = { 0 };

			client_set_retry_wait(world->kc, FOR_EVER_MS);
			script_add(world->dests[0], failing(LANE_WRITE, on_dest(0, 3 * CHUNK), COUNT, errors[i]));
			copy(world, flags[j], &outcome);
			assert_int_equal(outcome.read_err, 0);
			assert_int_equal(outcome.write_err, 1);
			assert_copied(world, 0, 0, 3 * CHUNK);
			assert_int_equal(world_contiguous(world, &outcome, 0), 3 * CHUNK);
			assert_true(script_count(world->dests[0], LANE_WRITE) <= 3 + 2);
			if (flags[j])
				assert_copied(world, 1, 0, COUNT);
			assert_int_equal(count_told(world), 1);
			for (k = 0; world->told[k].kind != TOLD_ERROR; k++)
				;
			assert_int_equal(world->told[k].error, errors[i]);
			assert_int_equal(world->told[k].region.sector, on_dest(0, 3 * CHUNK));
			assert_int_equal(world->told[k].region.count, CHUNK);
			assert_true(world->told[k].is_dropped);
			assert_contiguous_exact(world, &outcome);
			world_destroy(world);
		}
	}
}

static void when_every_destination_has_vanished_the_job_ends(void **state)
{
	struct world *world = world_create(PAGES, 2, DISK);
	struct outcome outcome = { 0 };

	(void)state;
	client_set_retry_wait(world->kc, FOR_EVER_MS);
	script_add(world->dests[0], failing(LANE_WRITE, 0, 0, ENODEV));
	script_add(world->dests[1], failing(LANE_WRITE, on_dest(1, CHUNK), COUNT, ENXIO));
	copy(world, IGNORE, &outcome);
	assert_int_equal(outcome.read_err, 0);
	assert_int_equal(outcome.write_err, 3);
	assert_true(script_count(world->source, LANE_READ) <= 4);
	world_destroy(world);
}

/* Zones are written in order: behind a bad block there is nothing to write. */
static void a_zoned_destination_is_dropped_at_its_first_bad_block(void **state)
{
	struct world *world = world_create(PAGES, 1, DISK);
	struct script *zoned = script_open(DISK, SECTOR, true, 8);
	struct io_region from = world_source(world, 0, COUNT), dests[2];
	struct outcome outcome = { .world = world };
	sector_t n;

	(void)state;
	dests[0] = (struct io_region){ .bdev = zoned->bdev, .sector = 0, .count = COUNT };
	dests[1] = (struct io_region){ .bdev = world->dests[0]->bdev, .sector = 0, .count = COUNT };
	script_add(zoned, failing(LANE_WRITE, BAD, 1, EIO));
	script_add(world->dests[0], failing(LANE_WRITE, BAD, 1, EIO));
	assert_int_equal(kcopyd_copy(world->kc, &from, 2, dests, IGNORE, world_notify, &outcome), 0);
	world_wait(world, &outcome);
	assert_int_equal(outcome.write_err, 3);
	assert_int_equal(world_contiguous(world, &outcome, 0), BAD);
	for (n = 0; n < COUNT; n++) {
		if (n < BAD)
			assert_true(world_is_same(world->source, n, zoned, n));
		else
			assert_true(world_is_filled(zoned, n, SCRIPT_BLANK));
		if (n == BAD)
			assert_true(world_is_filled(world->dests[0], n, SCRIPT_BLANK));
		else
			assert_true(world_is_same(world->source, n, world->dests[0], n));
	}
	assert_write_order(zoned, SEQ);
	assert_int_equal(count_told(world), 2);
	script_destroy(zoned);
	world_destroy(world);
}

/* Of a write that fails in its middle a part was carried out, which moves the write pointer: nothing of that comes again. */
static void on_a_zoned_destination_nothing_is_written_twice(void **state)
{
	struct world *world = world_create(PAGES, 1, DISK);
	struct script *zoned = script_open(DISK, SECTOR, true, 8);
	struct io_region from = world_source(world, 0, COUNT);
	struct io_region dest = { .bdev = zoned->bdev, .sector = 0, .count = COUNT };
	struct script_rule rule = failing(LANE_WRITE, BAD, 1, EIO);
	struct outcome outcome = { .world = world };
	uint64_t pointer = 0;
	sector_t n;

	(void)state;
	/* The write, what is left of it, its halves, the sector alone; then it goes away. */
	rule.what = SCRIPT_FAIL_AT;
	rule.times = 5;
	script_add(zoned, rule);
	assert_int_equal(kcopyd_copy(world->kc, &from, 1, &dest, DROP, world_notify, &outcome), 0);
	world_wait(world, &outcome);
	assert_int_equal(outcome.write_err, 0);
	assert_int_equal(count_told(world), 0);
	for (n = 0; n < COUNT; n++)
		assert_true(world_is_same(world->source, n, zoned, n));
	for (size_t i = 0; i < zoned->num_entries; i++) {
		if (!zoned->record[i].is_end)
			continue;
		assert_int_equal(zoned->record[i].offset, pointer);
		if (zoned->record[i].result > 0)
			pointer += (uint64_t)zoned->record[i].result;
	}
	script_destroy(zoned);
	world_destroy(world);
}

/* -- dead ---------------------------------------------------------------------------------------- */

#define LARGE_DISK (8u << 20)
#define LARGE_COUNT (LARGE_DISK / SECTOR - 64)

/* Every transfer fails with EIO, though the device is still there; as many blocks are tried as tell that. */
static void going_past_a_dead_device_costs_no_try_per_block(void **state)
{
	int operand;

	(void)state;
	for (operand = -1; operand < 2; operand++) {
		struct world *world = world_create(512, 1, LARGE_DISK);
		struct io_region to = world_dest(world, 0, 0, LARGE_COUNT);
		struct outcome outcome = { .world = world };
		struct script *disk = operand < 0 ? world->source : world->dests[0];

		script_add(disk, failing(SCRIPT_ANY, 0, 0, EIO));
		if (operand == 1)
			assert_int_equal(kcopyd_zero(world->kc, 1, &to, IGNORE | SPARSE, world_notify, &outcome), 0);
		else
			assert_int_equal(world_start(world, 0, LARGE_COUNT, IGNORE, &outcome), 0);
		world_wait(world, &outcome);
		assert_int_equal(outcome.read_err, operand < 0);
		assert_int_equal(outcome.write_err, operand >= 0);
		assert_int_equal(world_errors(world, &outcome,
					      operand < 0    ? KCOPYD_OP_READ
					      : operand == 0 ? KCOPYD_OP_WRITE
							     : KCOPYD_OP_ZERO,
					      0),
				 LARGE_COUNT);
		assert_true(count_told(world) <= 8);
		assert_true(script_count(disk, SCRIPT_ANY) < 800);
		world_destroy(world);
	}
}

/* And dropping one costs what it takes to find the first bad block. */
static void dropping_a_dead_device_costs_few_tries(void **state)
{
	struct world *world = world_create(512, 2, LARGE_DISK);
	struct outcome outcome = { .world = world };

	(void)state;
	script_add(world->dests[0], failing(LANE_WRITE, 0, 0, EIO));
	assert_int_equal(world_start(world, 0, LARGE_COUNT, DROP, &outcome), 0);
	world_wait(world, &outcome);
	assert_int_equal(outcome.write_err, 1);
	assert_int_equal(world_errors(world, &outcome, KCOPYD_OP_WRITE, 0), 1);
	assert_int_equal(world_contiguous(world, &outcome, 1), LARGE_COUNT);
	assert_true(script_count(world->dests[0], LANE_WRITE) <= 2 + 11 + 2);
	world_destroy(world);
}

static void the_bad_part_of_what_is_zeroed_is_exact(void **state)
{
	static const sector_t bad[][2] = { { 0, 1 }, { 5000, 3 }, { 9000, 700 }, { LARGE_COUNT - 1, 1 } };
	struct world *world = world_create(1, 1, LARGE_DISK);
	struct io_region to = world_dest(world, 0, 0, LARGE_COUNT);
	struct outcome outcome = { .world = world };
	unsigned int i;
	sector_t n;

	(void)state;
	for (i = 0; i < 4; i++)
		script_add(world->dests[0],
			   failing(LANE_ZERO, world_dest(world, 0, bad[i][0], 0).sector, bad[i][1], EIO));
	assert_int_equal(kcopyd_zero(world->kc, 1, &to, IGNORE | SPARSE, world_notify, &outcome), 0);
	world_wait(world, &outcome);
	assert_int_equal(outcome.write_err, 1);
	assert_int_equal(count_told(world), 4);
	for (n = 0; n < LARGE_COUNT; n++) {
		bool is_bad = false;

		for (i = 0; i < 4; i++)
			is_bad |= n >= bad[i][0] && n < bad[i][0] + bad[i][1];
		assert_true(world_is_filled(world->dests[0], to.sector + n, is_bad ? SCRIPT_BLANK : 0));
		assert_int_equal(world_is_told_bad(world, &outcome, KCOPYD_OP_ZERO, 0, to.sector + n), is_bad);
	}
	world_destroy(world);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_bad_block_is_tried_so_often_and_a_good_one_once_more),
		cmocka_unit_test(a_chunk_of_one_block_is_tried_so_often),
		cmocka_unit_test(an_error_that_the_last_try_does_not_find_is_none),
		cmocka_unit_test(an_outage_of_everything_is_no_error),
		cmocka_unit_test(areas_with_different_errors_are_told_apart),
		cmocka_unit_test(a_wait_for_a_retry_holds_up_nobody_else),
		cmocka_unit_test(nothing_behind_an_error_is_written_before_it_is_settled),
		cmocka_unit_test(nothing_more_is_read_behind_a_read_error_that_is_not_settled),
		cmocka_unit_test(a_slow_failing_disk_does_not_stop_the_other_lanes),
		cmocka_unit_test(destroying_a_client_waits_for_its_retries),
		cmocka_unit_test(a_cancel_ends_every_wait_at_once),
		cmocka_unit_test(a_cancel_at_any_time_ends_the_job_and_leaves_nothing_strange),
		cmocka_unit_test(several_failing_destinations_come_to_an_end_with_every_reserve),
		cmocka_unit_test(a_destination_that_vanishes_is_dropped_at_once),
		cmocka_unit_test(when_every_destination_has_vanished_the_job_ends),
		cmocka_unit_test(a_zoned_destination_is_dropped_at_its_first_bad_block),
		cmocka_unit_test(on_a_zoned_destination_nothing_is_written_twice),
		cmocka_unit_test(going_past_a_dead_device_costs_no_try_per_block),
		cmocka_unit_test(dropping_a_dead_device_costs_few_tries),
		cmocka_unit_test(the_bad_part_of_what_is_zeroed_is_exact),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
