/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "world.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "client.h"

/* Observer and callbacks run on one thread and never inside each other; cmocka's asserts are for the test's own thread. */
static void enter(struct world *world)
{
	pthread_mutex_lock(&world->lock);
	if (!world->has_thread) {
		world->thread = pthread_self();
		world->has_thread = true;
	}
	if (world->is_inside || !pthread_equal(world->thread, pthread_self()))
		abort();
	world->is_inside = true;
	pthread_mutex_unlock(&world->lock);
}

static void leave(struct world *world)
{
	pthread_mutex_lock(&world->lock);
	world->is_inside = false;
	pthread_cond_broadcast(&world->changed);
	pthread_mutex_unlock(&world->lock);
}

static void tell(struct world *world, struct told told)
{
	enter(world);
	pthread_mutex_lock(&world->lock);
	if (world->num_told == MAX_TOLD)
		abort();
	world->told[world->num_told++] = told;
	pthread_mutex_unlock(&world->lock);
	leave(world);
}

static void chunk_read(void *observer, void *context, const struct io_region *from)
{
	tell(observer, (struct told){ .kind = TOLD_READ, .context = context, .region = *from });
}

static void chunk_written(void *observer, void *context, unsigned int dest, const struct io_region *to,
			  sector_t contiguous)
{
	tell(observer,
	     (struct told){
		     .kind = TOLD_WRITTEN, .context = context, .dest = dest, .region = *to, .contiguous = contiguous });
}

static void zeroed(void *observer, void *context, unsigned int dest, const struct io_region *to)
{
	tell(observer, (struct told){ .kind = TOLD_ZEROED, .context = context, .dest = dest, .region = *to });
}

static void told_error(void *observer, void *context, const struct kcopyd_error *error)
{
	tell(observer, (struct told){ .kind = TOLD_ERROR,
				      .context = context,
				      .op = error->op,
				      .dest = error->op == KCOPYD_OP_READ ? 0 : error->dest,
				      .region = error->region,
				      .contiguous = error->contiguous,
				      .error = error->error,
				      .is_dropped = error->is_dropped });
}

static const struct kcopyd_observer observer_ops = {
	.chunk_read = chunk_read,
	.chunk_written = chunk_written,
	.zeroed = zeroed,
	.error = told_error,
};

struct world *world_create(unsigned int num_pages, unsigned int num_dests, uint64_t bytes)
{
	struct world *world = calloc(1, sizeof(*world));
	unsigned int i;

	assert_non_null(world);
	world->told = malloc(MAX_TOLD * sizeof(*world->told));
	pthread_mutex_init(&world->lock, NULL);
	pthread_cond_init(&world->changed, NULL);
	assert_int_equal(kcopyd_client_create(num_pages, &world->kc), 0);
	kcopyd_client_set_observer(world->kc, &observer_ops, world);
	client_set_retry_wait(world->kc, 0);
	world->source = script_open(bytes, SECTOR, false, 16);
	script_fill(world->source, 42);
	world->num_dests = num_dests;
	for (i = 0; i < num_dests; i++)
		world->dests[i] = script_open(bytes, SECTOR, false, 16);
	return world;
}

void world_destroy(struct world *world)
{
	unsigned int i;

	kcopyd_client_destroy(world->kc);
	script_destroy(world->source);
	for (i = 0; i < world->num_dests; i++)
		script_destroy(world->dests[i]);
	pthread_cond_destroy(&world->changed);
	pthread_mutex_destroy(&world->lock);
	free(world->told);
	free(world);
}

void world_notify(int read_err, unsigned int write_err, void *context)
{
	struct outcome *outcome = context;
	struct world *world = outcome->world;

	enter(world);
	if (outcome->then)
		outcome->then(outcome);
	pthread_mutex_lock(&world->lock);
	outcome->read_err = read_err;
	outcome->write_err = write_err;
	outcome->calls++;
	outcome->rank = ++world->num_callbacks;
	world->is_inside = false; /* with the lock: the outcome may be gone as soon as it is dropped */
	pthread_cond_broadcast(&world->changed);
	pthread_mutex_unlock(&world->lock);
}

void world_wait(struct world *world, const struct outcome *outcome)
{
	pthread_mutex_lock(&world->lock);
	while (!outcome->calls)
		pthread_cond_wait(&world->changed, &world->lock);
	pthread_mutex_unlock(&world->lock);
}

bool world_is_done(struct world *world, const struct outcome *outcome)
{
	bool ret;

	pthread_mutex_lock(&world->lock);
	ret = outcome->calls > 0;
	pthread_mutex_unlock(&world->lock);
	return ret;
}

struct io_region world_source(const struct world *world, sector_t sector, sector_t count)
{
	return (struct io_region){ .bdev = world->source->bdev, .sector = sector, .count = count };
}

struct io_region world_dest(const struct world *world, unsigned int dest, sector_t sector, sector_t count)
{
	return (struct io_region){ .bdev = world->dests[dest]->bdev,
				   .sector = sector + 8 * (1 + dest),
				   .count = count };
}

int world_start(struct world *world, sector_t sector, sector_t count, unsigned int flags, struct outcome *outcome)
{
	struct io_region from = world_source(world, sector, count), dests[KCOPYD_MAX_DESTS];
	unsigned int i;

	for (i = 0; i < world->num_dests; i++)
		dests[i] = world_dest(world, i, sector, count);
	outcome->world = world;
	return kcopyd_copy(world->kc, &from, world->num_dests, dests, flags, world_notify, outcome);
}

static bool is_error_of(const struct told *told, const void *context, enum kcopyd_op op, unsigned int dest)
{
	return told->kind == TOLD_ERROR && told->context == context && told->op == op &&
	       (op == KCOPYD_OP_READ || told->dest == dest);
}

sector_t world_errors(const struct world *world, const void *context, enum kcopyd_op op, unsigned int dest)
{
	sector_t sum = 0;
	unsigned int i;

	for (i = 0; i < world->num_told; i++)
		if (is_error_of(&world->told[i], context, op, dest))
			sum += world->told[i].region.count;
	return sum;
}

bool world_is_told_bad(const struct world *world, const void *context, enum kcopyd_op op, unsigned int dest,
		       sector_t sector)
{
	unsigned int i;

	for (i = 0; i < world->num_told; i++) {
		const struct io_region *region = &world->told[i].region;

		if (is_error_of(&world->told[i], context, op, dest) && sector >= region->sector &&
		    sector < region->sector + region->count)
			return true;
	}
	return false;
}

sector_t world_contiguous(const struct world *world, const void *context, unsigned int dest)
{
	sector_t most = 0;
	unsigned int i;

	for (i = 0; i < world->num_told; i++) {
		const struct told *told = &world->told[i];

		if (told->kind == TOLD_WRITTEN && told->context == context && told->dest == dest &&
		    told->contiguous > most)
			most = told->contiguous;
	}
	return most;
}

void world_assert_contiguous_exact(const struct world *world, const void *context, unsigned int dest,
				   const struct io_region *to)
{
	bool *is_written = calloc(to->count + 1, sizeof(*is_written));
	sector_t prefix = 0, n;
	unsigned int i;

	for (i = 0; i < world->num_told; i++) {
		const struct told *told = &world->told[i];

		if (told->kind != TOLD_WRITTEN || told->context != context || told->dest != dest)
			continue;
		assert_ptr_equal(told->region.bdev, to->bdev);
		assert_true(told->region.count > 0 && told->region.sector >= to->sector &&
			    told->region.sector + told->region.count <= to->sector + to->count);
		for (n = told->region.sector - to->sector; n < told->region.sector + told->region.count - to->sector;
		     n++) {
			assert_false(is_written[n]); /* nothing twice */
			is_written[n] = true;
		}
		while (is_written[prefix])
			prefix++;
		assert_int_equal(told->contiguous, prefix);
	}
	free(is_written);
}

bool world_is_same(const struct script *a, sector_t a_sector, const struct script *b, sector_t b_sector)
{
	return !memcmp(a->data + a_sector * SECTOR, b->data + b_sector * SECTOR, SECTOR);
}

bool world_is_filled(const struct script *script, sector_t sector, char byte)
{
	const char *data = script->data + sector * SECTOR;
	unsigned int i;

	for (i = 0; i < SECTOR; i++)
		if (data[i] != byte)
			return false;
	return true;
}

/* -- the usual job ------------------------------------------------------------------------------- */

struct script_rule failing(int op, sector_t sector, sector_t count, int error)
{
	return (struct script_rule){
		.what = SCRIPT_FAIL, .op = op, .offset = sector * SECTOR, .bytes = count * SECTOR, .error = error
	};
}

struct script_rule holding(int op, sector_t sector, sector_t count)
{
	return (struct script_rule){
		.what = SCRIPT_HOLD, .op = op, .offset = sector * SECTOR, .bytes = count * SECTOR
	};
}

void copy(struct world *world, unsigned int flags, struct outcome *outcome)
{
	assert_int_equal(world_start(world, START, COUNT, flags, outcome), 0);
	world_wait(world, outcome);
	assert_int_equal(outcome->calls, 1);
}

sector_t on_dest(unsigned int dest, sector_t n)
{
	return START + 8 * (1 + dest) + n;
}

void assert_copied(const struct world *world, unsigned int dest, sector_t first, sector_t end)
{
	sector_t n;

	for (n = first; n < end; n++)
		if (!world_is_same(world->source, START + n, world->dests[dest], on_dest(dest, n)))
			fail_msg("destination %u: sector %" PRIu64 " is not the source's", dest + 1, n);
}

void assert_outside_untouched(const struct world *world, unsigned int dest)
{
	sector_t n;

	for (n = 0; n < DISK / SECTOR; n++)
		if (n < on_dest(dest, 0) || n >= on_dest(dest, COUNT))
			assert_true(world_is_filled(world->dests[dest], n, SCRIPT_BLANK));
}

void assert_contiguous_exact(const struct world *world, const struct outcome *outcome)
{
	unsigned int i;

	for (i = 0; i < world->num_dests; i++) {
		struct io_region to = world_dest(world, i, START, COUNT);

		world_assert_contiguous_exact(world, outcome, i, &to);
	}
}

void assert_write_order(const struct script *script, unsigned int flags)
{
	uint64_t next = 0;
	size_t n;

	if (!(flags & SEQ))
		return;
	assert_true(script->most_writes <= 1);
	for (n = 0; n < script->num_entries; n++) {
		if (script->record[n].is_end)
			continue;
		assert_true(script->record[n].offset >= next);
		next = script->record[n].offset; /* a short one is continued further on */
	}
}
