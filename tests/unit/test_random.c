/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Random jobs on one client, on shared disks with random faults, orders and interruptions, many at once; what each disk holds
 * in the end and what each job was told is compared with a model that knows only the contract.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <inttypes.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "client.h"
#include "kcopyd.h"
#include "scripted.h"
#include "world.h"

#define DISKS 5u
#define SECTORS 16384u /* of a disk */
#define JOBS 200u
#define AT_ONCE 20u
#define MOST_DESTS 4u
#define MOST_COUNT 300u
#define CHUNK_MOST (8u * 8) /* sectors: half of the largest reserve below */

enum kind { COPY, ZERO, KINDS };

struct job {
	enum kind kind;
	unsigned int flags, num_dests;
	unsigned int from_disk, disks[MOST_DESTS];
	sector_t from, to[MOST_DESTS], count;
	struct outcome outcome;
};

struct model {
	struct script *disks[DISKS];
	char *before[DISKS]; /* contents when the round began */
	bool is_bad_read[DISKS][SECTORS], is_bad_write[DISKS][SECTORS];
	bool is_used[DISKS]
		    [SECTORS]; /* by a job of this round: regions of a round are disjoint, so order does not matter */
	bool has_lag;
	uint64_t seed;
};

static unsigned int below(struct model *m, unsigned int n)
{
	return (unsigned int)(script_random(&m->seed) % n);
}

static bool take_region(struct model *m, unsigned int disk, sector_t first, sector_t count, bool is_shared)
{
	sector_t n;

	for (n = first; n < first + count; n++)
		if (m->is_used[disk][n])
			return false;
	for (n = first; n < first + count && !is_shared; n++)
		m->is_used[disk][n] = true;
	return true;
}

static void choose_region(struct model *m, unsigned int *disk, sector_t *first, sector_t count)
{
	do {
		*disk = below(m, DISKS);
		*first = below(m, SECTORS - MOST_COUNT);
	} while (!take_region(m, *disk, *first, count, false));
}

static void choose_job(struct model *m, struct job *job)
{
	unsigned int i;

	memset(job, 0, sizeof(*job));
	job->kind = below(m, 5) ? COPY : ZERO;
	job->flags = (below(m, 2) ? KCOPYD_IGNORE_ERROR : 0) | (below(m, 3) ? 0 : KCOPYD_WRITE_SEQ) |
		     (below(m, 2) ? KCOPYD_DROP_FAILED : 0) | (below(m, 2) ? KCOPYD_SPARSE : 0);
	job->num_dests = 1 + below(m, MOST_DESTS);
	job->count = below(m, 10) ? below(m, 4) ? 1 + below(m, MOST_COUNT) : 1 + below(m, 8) : 0;
	choose_region(m, &job->from_disk, &job->from, job->count);
	for (i = 0; i < job->num_dests; i++)
		choose_region(m, &job->disks[i], &job->to[i], job->count);
}

/* Runs of zeros in front of, behind and around pages' ends; in a file, larger ones are holes. */
static void choose_zeros(struct model *m, struct script *script)
{
	for (unsigned int i = below(m, 40); i > 0; i--) {
		sector_t first = below(m, SECTORS - 256), count = 1 + below(m, below(m, 2) ? 16 : 256);

		if (below(m, 2)) {
			first -= first % 8;
			count += 7 - (count + 7) % 8;
		}
		script_clear(script, first * SECTOR, count * SECTOR);
	}
	script->has_known_zeros = below(m, 2);
	script->writes_zeros = below(m, 4) == 0;
	atomic_store(&script->bdev->cannot_zero, false);
	script->bdev->zeros.align = KCOPYD_PAGE_BYTES << below(m, 3);
	script->bdev->zeros.least = below(m, 2) ? script->bdev->zeros.align : 0;
}

/* A few bad places, and things that are no errors. Only sectors, so that the model is the rules themselves. */
static void choose_faults(struct model *m)
{
	static const struct script_rule harmless[] = {
		{ .what = SCRIPT_SHORT, .op = SCRIPT_ANY, .skip = 5, .times = 20, .length = 700 },
		{ .what = SCRIPT_SHORT, .op = LANE_READ, .skip = 9, .times = 9, .length = 1 },
		{ .what = SCRIPT_FAIL, .op = SCRIPT_ANY, .skip = 3, .times = 7, .error = EINTR },
		{ .what = SCRIPT_FAIL, .op = LANE_WRITE, .skip = 11, .times = 5, .error = EAGAIN },
		{ .what = SCRIPT_REFUSE, .op = SCRIPT_ANY, .skip = 4, .times = 6, .error = EAGAIN },
		{ .what = SCRIPT_REFUSE, .op = SCRIPT_ANY, .skip = 2, .times = 3, .error = 0 },
	};
	unsigned int disk, i;

	for (disk = 0; disk < DISKS; disk++) {
		struct script *script = m->disks[disk];

		script->num_rules = 0; /* nothing is in flight */
		for (i = 0; i < 20; i++) {
			bool is_read = below(m, 2);
			sector_t first = below(m, SECTORS - 16), count = below(m, 3) ? 1 : 1 + below(m, 16), n;
			struct script_rule rule = { .what = below(m, 2) ? SCRIPT_FAIL : SCRIPT_FAIL_AT,
						    .op = is_read ? LANE_READ : LANE_WRITE,
						    .offset = first * SECTOR,
						    .bytes = count * SECTOR,
						    .error = is_read ? ENODATA : EREMOTEIO };

			script_add(script, rule);
			if (!is_read) {
				rule.op = LANE_ZERO;
				script_add(script, rule);
			}
			for (n = first; n < first + count; n++)
				(is_read ? m->is_bad_read : m->is_bad_write)[disk][n] = true;
		}
		/* This one stops for a while. */
		if (m->has_lag && below(m, 2))
			script_add(script,
				   (struct script_rule){ .what = SCRIPT_HOLD, .op = LANE_WRITE, .skip = below(m, 40) });
		if (below(m, 2))
			script_add(script, harmless[below(m, sizeof(harmless) / sizeof(harmless[0]))]);
		script_set_order(script, (enum script_order)below(m, 3), m->seed);
		script->max_batch = below(m, 4);
	}
}

static const char *want_data(const struct model *m, const struct job *job, sector_t n)
{
	static const char zeros[SECTOR];

	if (job->kind == ZERO || m->is_bad_read[job->from_disk][job->from + n])
		return zeros;
	return m->before[job->from_disk] + (job->from + n) * SECTOR;
}

/* What sector @n of destination @i holds: as it was, or what was wanted. */
static void read_dest(const struct model *m, const struct job *job, unsigned int i, sector_t n, bool *is_old,
		      bool *is_new)
{
	const char *now = m->disks[job->disks[i]]->data + (job->to[i] + n) * SECTOR;

	*is_old = !memcmp(now, m->before[job->disks[i]] + (job->to[i] + n) * SECTOR, SECTOR);
	*is_new = !memcmp(now, want_data(m, job, n), SECTOR);
}

static sector_t first_bad(const bool *is_bad, sector_t first, sector_t count)
{
	sector_t n = 0;

	while (n < count && !is_bad[first + n])
		n++;
	return n;
}

static void check_dest(const struct model *m, const struct world *world, const struct job *job, unsigned int i,
		       bool is_ended)
{
	enum kcopyd_op op = job->kind == ZERO ? KCOPYD_OP_ZERO : KCOPYD_OP_WRITE;
	struct io_region to = { .bdev = m->disks[job->disks[i]]->bdev, .sector = job->to[i], .count = job->count };
	const bool *is_bad = m->is_bad_write[job->disks[i]];
	bool ignores = job->flags & KCOPYD_IGNORE_ERROR, has_failed = job->outcome.write_err >> i & 1;
	/* Not if another destination ended the job: what lies before this one's error may not have been tried. */
	bool is_first_told = has_failed && !ignores && (!is_ended || job->num_dests == 1);
	bool is_old, is_new;
	sector_t end, first, n;

	/* Everything up to here must be there. */
	end = job->kind == COPY && !ignores ? first_bad(m->is_bad_read[job->from_disk], job->from, job->count)
					    : job->count;
	first = first_bad(is_bad, job->to[i], end);
	for (n = 0; n < job->count; n++) {
		bool is_told = world_is_told_bad(world, &job->outcome, op, i, job->to[i] + n);

		read_dest(m, job, i, n, &is_old, &is_new);
		if (!is_old && !is_new)
			fail_msg("destination %u sector %" PRIu64 ": neither old nor new", i, n);
		if (is_bad[job->to[i] + n])
			assert_true(is_old);
		if (n < world_contiguous(world, &job->outcome, i))
			assert_true(is_new);
		if (is_told)
			assert_true(has_failed && is_bad[job->to[i] + n]);
		if (ignores)
			assert_int_equal(is_told, is_bad[job->to[i] + n]);
		else if (is_first_told && n < end)
			assert_int_equal(is_told, n == first);
		if (!is_told && !is_new && n < end && (ignores || (!has_failed && !is_ended)))
			fail_msg("destination %u sector %" PRIu64 " is missing", i, n);
	}
	if (first == end && end == job->count)
		assert_false(has_failed);
	else if (first < end && (ignores || !is_ended))
		assert_true(has_failed);
	if (!has_failed && !is_ended)
		assert_int_equal(world_contiguous(world, &job->outcome, i), end);
	if (has_failed && (ignores || is_first_told))
		assert_int_equal(world_contiguous(world, &job->outcome, i), first);
	world_assert_contiguous_exact(world, &job->outcome, i, &to);
}

static void check_job(const struct model *m, const struct world *world, const struct job *job)
{
	unsigned int all = (1u << job->num_dests) - 1, i;
	bool ignores = job->flags & KCOPYD_IGNORE_ERROR, has_bad, is_ended;
	sector_t n;

	assert_int_equal(job->outcome.calls, 1);
	is_ended = job->outcome.write_err && !ignores &&
		   (!(job->flags & KCOPYD_DROP_FAILED) || job->outcome.write_err == all);
	assert_int_equal(job->outcome.write_err & ~all, 0);
	for (i = 0; i < job->num_dests; i++)
		check_dest(m, world, job, i, is_ended);
	has_bad = job->kind == COPY && first_bad(m->is_bad_read[job->from_disk], job->from, job->count) < job->count;
	if (!has_bad || !is_ended)
		assert_int_equal(job->outcome.read_err, has_bad);
	for (n = 0; n < job->count && job->kind == COPY; n++) {
		bool is_told = world_is_told_bad(world, &job->outcome, KCOPYD_OP_READ, 0, job->from + n);

		if (ignores)
			assert_int_equal(is_told, m->is_bad_read[job->from_disk][job->from + n]);
		else if (is_told)
			assert_true(m->is_bad_read[job->from_disk][job->from + n]);
	}
}

static void start(const struct model *m, struct world *world, struct job *job)
{
	struct io_region from = { .bdev = m->disks[job->from_disk]->bdev, .sector = job->from, .count = job->count };
	struct io_region dests[MOST_DESTS];
	unsigned int i;

	job->outcome.world = world;
	for (i = 0; i < job->num_dests; i++)
		dests[i] = (struct io_region){ .bdev = m->disks[job->disks[i]]->bdev,
					       .sector = job->to[i],
					       .count = job->count };
	if (job->kind == ZERO)
		assert_int_equal(kcopyd_zero(world->kc, job->num_dests, dests, job->flags, world_notify, &job->outcome),
				 0);
	else
		assert_int_equal(
			kcopyd_copy(world->kc, &from, job->num_dests, dests, job->flags, world_notify, &job->outcome),
			0);
}

static void run_round(struct model *m, struct world *world)
{
	struct job *jobs = calloc(AT_ONCE, sizeof(*jobs));
	unsigned int i;
	sector_t n;

	memset(m->is_used, 0, sizeof(m->is_used));
	memset(m->is_bad_read, 0, sizeof(m->is_bad_read));
	memset(m->is_bad_write, 0, sizeof(m->is_bad_write));
	choose_faults(m);
	for (i = 0; i < DISKS; i++) {
		script_fill(m->disks[i], m->seed + i);
		choose_zeros(m, m->disks[i]);
		memcpy(m->before[i], m->disks[i]->data, SECTORS * SECTOR);
	}
	for (i = 0; i < AT_ONCE; i++)
		choose_job(m, &jobs[i]);
	world->num_told = 0;
	for (i = 0; i < AT_ONCE; i++)
		start(m, world, &jobs[i]);
	for (i = below(m, 200); i > 0; i--)
		sched_yield();
	for (i = 0; i < DISKS; i++)
		script_let_go(m->disks[i]);
	for (i = 0; i < AT_ONCE; i++)
		world_wait(world, &jobs[i].outcome);
	for (i = 0; i < AT_ONCE; i++)
		check_job(m, world, &jobs[i]);
	for (i = 0; i < DISKS; i++)
		for (n = 0; n < SECTORS; n++)
			if (!m->is_used[i][n])
				assert_memory_equal(m->before[i] + n * SECTOR, m->disks[i]->data + n * SECTOR, SECTOR);
	free(jobs);
}

/* In half of the runs: small chunks, and whoever is two of them behind another goes on alone. */
static void choose_lag(struct model *m, struct world *world)
{
	m->has_lag = below(m, 2);
	if (!m->has_lag)
		return;
	client_set_chunk_pages(world->kc, 1);
	kcopyd_client_set_max_lag(world->kc, 1 + below(m, 8 * 4096));
}

static void random_jobs_agree_with_a_model(void **state)
{
	static const unsigned int reserves[] = { 1, 2, 3, 7, 16, 40 };
	struct model *m = calloc(1, sizeof(*m));
	struct world *world;
	unsigned int i, round;

	(void)state;
	m->seed = script_seed();
	world = world_create(reserves[below(m, sizeof(reserves) / sizeof(reserves[0]))], 0, SECTOR);
	choose_lag(m, world);
	kcopyd_client_set_retries(world->kc, below(m, 4));
	if (below(m, 3) == 0)
		client_set_first_sectors(world->kc, 1 + below(m, 7));
	if (below(m, 4) == 0)
		client_set_alternating(world->kc);
	for (i = 0; i < DISKS; i++) {
		m->disks[i] = script_open(SECTORS * SECTOR, SECTOR, false, 1 + below(m, 16));
		if (below(m, 2))
			script_make_file(m->disks[i], below(m, 2) ? SECTOR : 8 * SECTOR);
		m->disks[i]->is_startable |= below(m, 2) > 0;
		m->disks[i]->waits = below(m, 2) * 7;
		m->before[i] = malloc(SECTORS * SECTOR);
	}
	for (round = 0; round < JOBS / AT_ONCE; round++)
		run_round(m, world);
	world_destroy(world);
	for (i = 0; i < DISKS; i++) {
		script_destroy(m->disks[i]);
		free(m->before[i]);
	}
	free(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(random_jobs_agree_with_a_model),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
