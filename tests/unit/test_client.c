/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A client and its jobs over scripted disks: several at once, from several threads and from callbacks, cancelled, without an
 * observer, and what destroy waits for.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kcopyd.h"
#include "scripted.h"
#include "world.h"

/* -- cancel -------------------------------------------------------------------------------------- */

static void a_cancelled_job_finishes_what_is_in_flight_and_starts_nothing(void **state)
{
	struct world *world = world_create(PAGES, 2, DISK);
	struct outcome first = { 0 }, queued = { 0 }, later = { 0 };
	sector_t done;
	unsigned int i;

	(void)state;
	script_add(world->source, holding(LANE_READ, START + 3 * CHUNK, COUNT));
	assert_int_equal(world_start(world, START, COUNT, 0, &first), 0);
	script_wait_held(world->source, 2); /* the whole reserve */
	assert_int_equal(world_start(world, START, COUNT, 0, &queued), 0);
	kcopyd_client_cancel(world->kc);
	script_let_go(world->source);
	world_wait(world, &first);
	world_wait(world, &queued);
	assert_int_equal(first.read_err, -ECANCELED);
	assert_int_equal(first.write_err, 0);
	assert_int_equal(queued.read_err, -ECANCELED);
	assert_int_equal(queued.write_err, 0);
	for (i = 0; i < 2; i++) {
		done = world_contiguous(world, &first, i);
		assert_int_equal(done, 5 * CHUNK); /* what was in flight was finished */
		assert_copied(world, i, 0, done);
		assert_true(world_is_filled(world->dests[i], on_dest(i, done), SCRIPT_BLANK));
		assert_int_equal(world_contiguous(world, &queued, i), 0);
	}
	assert_contiguous_exact(world, &first);

	assert_int_equal(world_start(world, START, COUNT, 0, &later), 0);
	world_wait(world, &later);
	assert_int_equal(later.read_err, 0);
	assert_int_equal(later.write_err, 0);
	assert_copied(world, 0, 0, COUNT);
	world_destroy(world);
}

static void a_job_that_is_through_with_its_reads_is_not_cancelled(void **state)
{
	struct world *world = world_create(PAGES, 1, DISK);
	struct outcome outcome = { .world = world }, empty = { 0 };
	struct io_region from = world_source(world, START, CHUNK), to = world_dest(world, 0, START, CHUNK);

	(void)state;
	script_add(world->dests[0], holding(LANE_WRITE, 0, 0));
	assert_int_equal(kcopyd_copy(world->kc, &from, 1, &to, 0, world_notify, &outcome), 0);
	script_wait_held(world->dests[0], 1);
	kcopyd_client_cancel(world->kc);
	assert_int_equal(world_start(world, START, 0, 0, &empty), 0);
	world_wait(world, &empty); /* so that the cancel was seen */
	assert_int_equal(empty.read_err, 0);
	script_let_go(world->dests[0]);
	world_wait(world, &outcome);
	assert_int_equal(outcome.read_err, 0);
	assert_int_equal(outcome.write_err, 0);
	assert_copied(world, 0, 0, CHUNK);
	world_destroy(world);
}

static void cancelling_nothing_does_nothing(void **state)
{
	struct world *world = world_create(PAGES, 1, DISK);
	struct outcome outcome = { 0 };

	(void)state;
	kcopyd_client_cancel(world->kc);
	kcopyd_client_cancel(world->kc);
	copy(world, 0, &outcome);
	assert_int_equal(outcome.read_err, 0);
	assert_copied(world, 0, 0, COUNT);
	world_destroy(world);
}

static void a_cancel_reaches_a_source_that_is_all_bad(void **state)
{
	struct world *world = world_create(512, 1, DISK);
	struct outcome outcome = { 0 };

	(void)state;
	script_add(world->source, failing(LANE_READ, 0, 0, EIO));
	script_add(world->source, holding(LANE_READ, START + 30, 1));
	assert_int_equal(world_start(world, START, COUNT, IGNORE, &outcome), 0);
	script_wait_held(world->source, 1);
	kcopyd_client_cancel(world->kc);
	script_let_go(world->source);
	world_wait(world, &outcome);
	assert_int_equal(outcome.read_err != 0, 1); /* 1 or -ECANCELED: how far it got before is a matter of luck */
	assert_int_equal(outcome.write_err, 0);
	assert_contiguous_exact(world, &outcome);
	world_destroy(world);
}

/* -- callbacks, threads, the end ----------------------------------------------------------------- */

static void a_client_that_had_no_jobs_is_destroyed(void **state)
{
	struct kcopyd_client *kc;
	unsigned int i;

	(void)state;
	for (i = 0; i < 20; i++) {
		assert_int_equal(kcopyd_client_create(1 + i, &kc), 0);
		kcopyd_client_destroy(kc);
	}
}

struct chain {
	struct world *world;
	struct outcome links[100];
	unsigned int next; /* the callback's own */
};

static void start_next(struct outcome *outcome)
{
	struct chain *chain = outcome->arg;
	unsigned int n = chain->next++;

	if (n == 100)
		return;
	chain->links[n].then = start_next;
	chain->links[n].arg = chain;
	if (world_start(chain->world, n, 3, 0, &chain->links[n]))
		abort();
}

static void a_callback_may_start_jobs(void **state)
{
	struct chain *chain = calloc(1, sizeof(*chain));
	unsigned int n;

	(void)state;
	chain->world = world_create(1, 2, DISK);
	chain->next = 1;
	chain->links[0] = (struct outcome){ .then = start_next, .arg = chain };
	assert_int_equal(world_start(chain->world, 0, 3, 0, &chain->links[0]), 0);
	world_wait(chain->world, &chain->links[99]);
	for (n = 0; n < 100; n++) {
		assert_int_equal(chain->links[n].calls, 1);
		assert_int_equal(chain->links[n].rank, n + 1);
		assert_int_equal(chain->links[n].read_err, 0);
		assert_int_equal(chain->links[n].write_err, 0);
	}
	for (n = 0; n < 102; n++)
		assert_true(world_is_same(chain->world->source, n, chain->world->dests[0], 8 + n));
	world_destroy(chain->world);
	free(chain);
}

/* Also what callbacks start while destroy waits. */
static void destroy_waits_for_every_callback(void **state)
{
	struct chain *chain = calloc(1, sizeof(*chain));
	struct world *world = world_create(2, 2, DISK);
	unsigned int n;

	(void)state;
	chain->world = world;
	chain->next = 1;
	chain->links[0] = (struct outcome){ .then = start_next, .arg = chain };
	assert_int_equal(world_start(world, 0, 3, 0, &chain->links[0]), 0);
	kcopyd_client_destroy(world->kc);
	world->kc = NULL;
	for (n = 0; n < 100; n++)
		assert_int_equal(chain->links[n].calls, 1);
	world_destroy(world);
	free(chain);
}

static void *destroy_client(void *arg)
{
	struct world *world = arg;

	kcopyd_client_destroy(world->kc);
	pthread_mutex_lock(&world->lock);
	world->kc = NULL;
	pthread_mutex_unlock(&world->lock);
	return NULL;
}

static void destroy_waits_for_a_device_that_hangs(void **state)
{
	struct world *world = world_create(PAGES, 2, DISK);
	struct outcome outcome = { 0 };
	pthread_t thread;

	(void)state;
	script_add(world->dests[1], holding(LANE_WRITE, on_dest(1, COUNT - 1), 1));
	assert_int_equal(world_start(world, START, COUNT, 0, &outcome), 0);
	script_wait_held(world->dests[1], 1);
	assert_int_equal(pthread_create(&thread, NULL, destroy_client, world), 0);
	script_wait_done(world->dests[0], COUNT / CHUNK + 1);
	pthread_mutex_lock(&world->lock);
	assert_non_null(world->kc);
	pthread_mutex_unlock(&world->lock);
	assert_false(world_is_done(world, &outcome));
	script_let_go(world->dests[1]);
	pthread_join(thread, NULL);
	assert_int_equal(outcome.calls, 1);
	assert_copied(world, 1, 0, COUNT);
	world_destroy(world);
}

static void destroy_inside(int read_err, unsigned int write_err, void *context)
{
	(void)read_err;
	(void)write_err;
	kcopyd_client_destroy(context);
}

static void destroy_from_a_callback_is_an_assert(void **state)
{
	int status;
	pid_t child = fork();

	(void)state;
#ifdef NDEBUG
	skip();
#endif
	assert_true(child >= 0);
	if (!child) {
		struct rlimit no_core = { 0, 0 };
		struct world *world;
		struct io_region dest;

		setrlimit(RLIMIT_CORE, &no_core);
		signal(SIGABRT, SIG_DFL);
		if (!freopen("/dev/null", "w", stderr))
			_exit(2);
		world = world_create(1, 1, DISK);
		dest = world_dest(world, 0, 0, 0);
		kcopyd_zero(world->kc, 1, &dest, 0, destroy_inside, world->kc);
		for (;;)
			pause();
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}

struct starter {
	struct world *world;
	unsigned int number;
	struct outcome outcomes[25];
};

static void *start_many(void *arg)
{
	struct starter *starter = arg;
	unsigned int n;

	for (n = 0; n < 25; n++)
		if (world_start(starter->world, starter->number * 200 + n * 8, 8, 0, &starter->outcomes[n]))
			abort();
	return NULL;
}

static void many_threads_may_start_jobs(void **state)
{
	struct world *world = world_create(3, 2, DISK);
	struct starter starters[4];
	pthread_t threads[4];
	unsigned int i, n;

	(void)state;
	memset(starters, 0, sizeof(starters));
	for (i = 0; i < 4; i++) {
		starters[i].world = world;
		starters[i].number = i;
		assert_int_equal(pthread_create(&threads[i], NULL, start_many, &starters[i]), 0);
	}
	for (i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	for (i = 0; i < 4; i++)
		for (n = 0; n < 25; n++) {
			world_wait(world, &starters[i].outcomes[n]);
			assert_int_equal(starters[i].outcomes[n].calls, 1);
			assert_int_equal(starters[i].outcomes[n].read_err, 0);
			assert_int_equal(starters[i].outcomes[n].write_err, 0);
		}
	for (n = 0; n < 800; n++) {
		assert_true(world_is_same(world->source, n, world->dests[0], 8 + n));
		assert_true(world_is_same(world->source, n, world->dests[1], 16 + n));
	}
	world_destroy(world);
}

static void a_client_without_an_observer_works(void **state)
{
	static const struct kcopyd_observer none = { .error = NULL };
	struct world *world = world_create(PAGES, 2, DISK);
	struct outcome outcome = { 0 }, again = { 0 };

	(void)state;
	kcopyd_client_set_observer(world->kc, NULL, NULL);
	script_add(world->source, failing(LANE_READ, START + 40, 1, EIO));
	script_add(world->dests[0], failing(LANE_WRITE, on_dest(0, 60), 1, EIO));
	copy(world, IGNORE, &outcome);
	assert_int_equal(outcome.read_err, 1);
	assert_int_equal(outcome.write_err, 1);
	kcopyd_client_set_observer(world->kc, &none, NULL);
	copy(world, IGNORE, &again);
	assert_int_equal(again.read_err, 1);
	assert_int_equal(again.write_err, 1);
	assert_int_equal(world->num_told, 0);
	world_destroy(world);
}

/* -- several jobs -------------------------------------------------------------------------------- */

/* The big one is stopped twice: until the small ones wait behind it, and again while it still has most of its way to go. */
static void a_big_job_does_not_starve_small_ones(void **state)
{
	enum { SMALL = 20 };
	struct world *world = world_create(PAGES, 1, 8 << 20);
	struct outcome big = { 0 }, small[SMALL];
	struct script_rule first = holding(LANE_READ, 0, 2 * CHUNK); /* the whole reserve */
	unsigned int i;

	(void)state;
	memset(small, 0, sizeof(small));
	first.times = 2;
	script_add(world->source, first);
	script_add(world->source, holding(LANE_READ, 100 * CHUNK, 200 * CHUNK));
	assert_int_equal(world_start(world, 0, 300 * CHUNK, 0, &big), 0);
	script_wait_held(world->source, 2);
	for (i = 0; i < SMALL; i++)
		assert_int_equal(world_start(world, 10000 + 8 * i, 3, 0, &small[i]), 0);
	script_let_go_last(world->source);
	script_let_go_last(world->source);
	for (i = 0; i < SMALL; i++)
		world_wait(world, &small[i]);
	assert_false(world_is_done(world, &big));
	script_let_go(world->source);
	world_wait(world, &big);
	assert_int_equal(big.read_err, 0);
	world_destroy(world);
}

struct crowd {
	struct world *world;
	struct outcome outcomes[4];
	unsigned int started; /* in callbacks, one at a time */
	bool is_over;	      /* guarded by the world's lock */
};

static void start_again(struct outcome *outcome)
{
	struct crowd *crowd = outcome->arg;
	bool is_over;

	pthread_mutex_lock(&crowd->world->lock);
	is_over = crowd->is_over;
	pthread_mutex_unlock(&crowd->world->lock);
	if (!is_over && world_start(crowd->world, 10000 + 8 * (crowd->started++ % 100), 4, 0, outcome))
		abort();
}

static void end_crowd(struct outcome *outcome)
{
	struct crowd *crowd = outcome->arg;

	pthread_mutex_lock(&crowd->world->lock);
	crowd->is_over = true;
	pthread_mutex_unlock(&crowd->world->lock);
}

static void small_jobs_that_never_stop_coming_do_not_starve_a_big_one(void **state)
{
	struct world *world = world_create(4, 1, 8 << 20);
	struct crowd crowd = { .world = world };
	struct outcome big = { .then = end_crowd, .arg = &crowd };
	unsigned int i;

	(void)state;
	for (i = 0; i < 4; i++) {
		crowd.outcomes[i].then = start_again;
		crowd.outcomes[i].arg = &crowd;
		assert_int_equal(world_start(world, 10000 + 8 * i, 4, 0, &crowd.outcomes[i]), 0);
	}
	assert_int_equal(world_start(world, 0, 100 * CHUNK, 0, &big), 0);
	world_wait(world, &big); /* where it is starved, for ever */
	assert_int_equal(big.read_err, 0);
	assert_int_equal(big.write_err, 0);
	kcopyd_client_destroy(world->kc);
	world->kc = NULL;
	world_destroy(world);
}

static void two_clients_do_not_share_anything(void **state)
{
	struct world *one = world_create(2, 1, DISK), *two = world_create(2, 1, DISK);
	struct outcome stuck = { 0 }, free_one = { 0 };

	(void)state;
	script_add(one->source, holding(LANE_READ, 0, 0));
	assert_int_equal(world_start(one, START, COUNT, 0, &stuck), 0);
	script_wait_held(one->source, 1);
	copy(two, 0, &free_one);
	assert_int_equal(free_one.read_err, 0);
	assert_copied(two, 0, 0, COUNT);
	script_let_go(one->source);
	world_wait(one, &stuck);
	world_destroy(one);
	world_destroy(two);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_cancelled_job_finishes_what_is_in_flight_and_starts_nothing),
		cmocka_unit_test(a_job_that_is_through_with_its_reads_is_not_cancelled),
		cmocka_unit_test(cancelling_nothing_does_nothing),
		cmocka_unit_test(a_cancel_reaches_a_source_that_is_all_bad),
		cmocka_unit_test(a_client_that_had_no_jobs_is_destroyed),
		cmocka_unit_test(a_callback_may_start_jobs),
		cmocka_unit_test(destroy_waits_for_every_callback),
		cmocka_unit_test(destroy_waits_for_a_device_that_hangs),
		cmocka_unit_test(destroy_from_a_callback_is_an_assert),
		cmocka_unit_test(many_threads_may_start_jobs),
		cmocka_unit_test(a_client_without_an_observer_works),
		cmocka_unit_test(a_big_job_does_not_starve_small_ones),
		cmocka_unit_test(small_jobs_that_never_stop_coming_do_not_starve_a_big_one),
		cmocka_unit_test(two_clients_do_not_share_anything),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
