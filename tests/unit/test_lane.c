/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Lanes: every request comes back once, in full or with what is known good, whatever the engine does to it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lane.h"
#include "lane_aio.h"
#include "scripted.h"

#define DISK (256u << 10)
#define DEPTH 8u
#define TRIES_FOR_EVER 100u /* more than one, far fewer than the lane gives up after */

struct ask {
	struct lane_request request;
	unsigned int finished; /* as the how many-th; 0: not yet */
	unsigned int calls;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static unsigned int num_finished;
static unsigned int num_batches;
static char buffer[DISK];
static char page_buffer[4096] __attribute__((aligned(4096)));

static void complete(struct list_head *requests)
{
	pthread_mutex_lock(&lock);
	num_batches++;
	while (!list_is_empty(requests)) {
		struct ask *ask = container_of(requests->next, struct ask, request.node);

		list_del(&ask->request.node);
		ask->finished = ++num_finished;
		ask->calls++;
	}
	pthread_cond_broadcast(&changed);
	pthread_mutex_unlock(&lock);
}

static unsigned int num_others;

static void complete_other(struct list_head *requests)
{
	struct list_head *pos;

	pthread_mutex_lock(&lock);
	list_for_each (pos, requests)
		num_others++;
	pthread_mutex_unlock(&lock);
	complete(requests);
}

static struct ask make(enum lane_op op, uint64_t offset, uint64_t bytes)
{
	struct ask ask = { .request = {
				   .op = op, .offset = offset, .bytes = bytes, .complete = complete, .error = 12345 } };

	if (op == LANE_READ || op == LANE_WRITE)
		ask.request.buffer = buffer + offset;
	return ask;
}

static void submit(struct lane *lane, struct ask *asks, unsigned int count)
{
	struct list_head list;
	unsigned int i;

	list_init(&list);
	for (i = 0; i < count; i++)
		list_add_tail(&asks[i].request.node, &list);
	lane_submit(lane, &list, NULL);
	assert_true(list_is_empty(&list));
}

static void wait_finished(const struct ask *asks, unsigned int count)
{
	unsigned int i;

	pthread_mutex_lock(&lock);
	for (i = 0; i < count; i++)
		while (!asks[i].calls)
			pthread_cond_wait(&changed, &lock);
	pthread_mutex_unlock(&lock);
}

static bool is_finished(const struct ask *ask)
{
	bool ret;

	pthread_mutex_lock(&lock);
	ret = ask->calls > 0;
	pthread_mutex_unlock(&lock);
	return ret;
}

struct fixture {
	struct script *script;
	struct lane *lane;
};

static struct fixture open_lane(void)
{
	struct fixture f;

	f.script = script_create(DISK, 512);
	f.script->depth = DEPTH;
	script_fill(f.script, 7);
	memset(buffer, 'b', sizeof(buffer));
	num_finished = 0;
	num_batches = 0;
	num_others = 0;
	assert_int_equal(lane_create(&script_ops, f.script, DEPTH, DISK, &f.lane), 0);
	return f;
}

static void close_lane(struct fixture *f)
{
	lane_destroy(f->lane);
	assert_true(f->script->is_closed);
	script_destroy(f->script);
}

/* Runs one request to its end. */
static void run(struct fixture *f, struct ask *ask)
{
	submit(f->lane, ask, 1);
	wait_finished(ask, 1);
}

static void assert_done(const struct ask *ask)
{
	assert_int_equal(ask->request.error, 0);
	assert_int_equal(ask->request.done, ask->request.bytes);
	assert_int_equal(ask->calls, 1);
}

static void assert_failed(const struct ask *ask, int error, uint64_t done)
{
	assert_int_equal(ask->request.error, error);
	assert_int_equal(ask->request.done, done);
	assert_int_equal(ask->calls, 1);
}

static void reads_writes_zeros_and_flushes_reach_the_device(void **state)
{
	struct fixture f = open_lane();
	struct ask asks[] = { make(LANE_READ, 4096, 8192), make(LANE_WRITE, 65536, 512), make(LANE_ZERO, 131072, 1024),
			      make(LANE_FLUSH, 0, 0) };
	unsigned int i;

	(void)state;
	submit(f.lane, asks, 4);
	wait_finished(asks, 4);
	for (i = 0; i < 4; i++)
		assert_done(&asks[i]);
	assert_memory_equal(buffer + 4096, f.script->data + 4096, 8192);
	assert_int_equal(buffer[4095], 'b');
	assert_int_equal(buffer[4096 + 8192], 'b');
	for (i = 0; i < 512; i++)
		assert_int_equal(f.script->data[65536 + i], 'b');
	for (i = 0; i < 1024; i++)
		assert_int_equal(f.script->data[131072 + i], 0);
	assert_int_equal(script_count(f.script, LANE_FLUSH), 1);
	assert_int_equal(script_count(f.script, SCRIPT_ANY), 4);
	close_lane(&f);
}

/* In pieces of @length, whatever the operation. */
static void check_short(enum lane_op op, uint64_t length)
{
	struct fixture f = open_lane();
	struct ask ask = make(op, 1024, 3072);

	script_add(f.script, (struct script_rule){ .what = SCRIPT_SHORT, .op = (int)op, .length = length });
	run(&f, &ask);
	assert_done(&ask);
	assert_int_equal(script_count(f.script, op), (3072 + length - 1) / length);
	if (op == LANE_ZERO)
		memset(buffer + 1024, 0, 3072);
	assert_memory_equal(buffer + 1024, f.script->data + 1024, 3072);
	close_lane(&f);
}

static void short_transfers_are_continued_where_they_stopped(void **state)
{
	static const uint64_t lengths[] = { 1, 511, 512, 513, 2048, 3071 };
	unsigned int i;

	(void)state;
	for (i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
		check_short(LANE_READ, lengths[i]);
		check_short(LANE_WRITE, lengths[i]);
		check_short(LANE_ZERO, lengths[i]);
	}
}

static void an_error_after_a_short_transfer_keeps_what_is_known_good(void **state)
{
	struct fixture f = open_lane();
	struct ask ask = make(LANE_READ, 0, 8192);

	(void)state;
	script_add(
		f.script,
		(struct script_rule){
			.what = SCRIPT_FAIL_AT, .op = LANE_READ, .offset = 3 * 512, .bytes = 512, .error = ENODATA });
	run(&f, &ask);
	assert_failed(&ask, -ENODATA, 3 * 512);
	assert_memory_equal(buffer, f.script->data, 3 * 512);
	close_lane(&f);
}

static void errors_come_back_as_they_are_and_only_to_their_request(void **state)
{
	static const int errors[] = { EIO, ENOSPC, ENODEV, EINVAL, EREMOTEIO };
	struct fixture f = open_lane();
	struct ask asks[10];
	unsigned int i;

	(void)state;
	for (i = 0; i < 5; i++) {
		script_add(f.script, (struct script_rule){ .what = SCRIPT_FAIL,
							   .op = SCRIPT_ANY,
							   .offset = 2 * i * 4096,
							   .bytes = 4096,
							   .error = errors[i] });
		asks[2 * i] = make(i % 2 ? LANE_WRITE : LANE_READ, 2 * i * 4096, 4096);
		asks[2 * i + 1] = make(i % 2 ? LANE_READ : LANE_ZERO, (2 * i + 1) * 4096, 4096);
	}
	submit(f.lane, asks, 10);
	wait_finished(asks, 10);
	for (i = 0; i < 5; i++) {
		assert_failed(&asks[2 * i], -errors[i], 0);
		assert_done(&asks[2 * i + 1]);
	}
	close_lane(&f);
}

static void check_interrupted(int error, unsigned int times)
{
	struct fixture f = open_lane();
	struct ask asks[3] = { make(LANE_READ, 0, 4096), make(LANE_WRITE, 8192, 4096), make(LANE_FLUSH, 0, 0) };
	unsigned int i;

	script_add(f.script,
		   (struct script_rule){ .what = SCRIPT_FAIL, .op = LANE_READ, .times = times, .error = error });
	script_add(f.script,
		   (struct script_rule){ .what = SCRIPT_FAIL, .op = LANE_WRITE, .times = times, .error = error });
	script_add(f.script,
		   (struct script_rule){ .what = SCRIPT_FAIL, .op = LANE_FLUSH, .times = times, .error = error });
	submit(f.lane, asks, 3);
	wait_finished(asks, 3);
	for (i = 0; i < 3; i++)
		assert_done(&asks[i]);
	assert_int_equal(script_count(f.script, LANE_READ), times + 1);
	assert_int_equal(script_count(f.script, LANE_WRITE), times + 1);
	assert_int_equal(script_count(f.script, LANE_FLUSH), times + 1);
	assert_memory_equal(buffer, f.script->data, 4096);
	assert_memory_equal(buffer + 8192, f.script->data + 8192, 4096);
	close_lane(&f);
}

static void what_was_interrupted_is_tried_again(void **state)
{
	(void)state;
	check_interrupted(EINTR, 1);
	check_interrupted(EINTR, TRIES_FOR_EVER);
	check_interrupted(EAGAIN, 1);
	check_interrupted(EAGAIN, TRIES_FOR_EVER);
}

static void what_is_never_done_is_an_error_in_the_end(void **state)
{
	struct fixture f = open_lane();
	struct ask asks[2] = { make(LANE_WRITE, 0, 4096), make(LANE_WRITE, 4096, 4096) };

	(void)state;
	script_add(f.script,
		   (struct script_rule){ .what = SCRIPT_FAIL, .op = LANE_WRITE, .bytes = 4096, .error = EAGAIN });
	submit(f.lane, asks, 2);
	wait_finished(asks, 2);
	assert_failed(&asks[0], -EAGAIN, 0);
	assert_done(&asks[1]);
	close_lane(&f);
}

static void no_progress_is_an_error_and_not_a_loop(void **state)
{
	struct fixture f = open_lane();
	struct ask read = make(LANE_READ, 0, 4096), write = make(LANE_WRITE, 8192, 4096),
		   zero = make(LANE_ZERO, 0, 512);

	(void)state;
	script_add(f.script, (struct script_rule){ .what = SCRIPT_SHORT, .op = LANE_WRITE, .times = 1, .length = 100 });
	script_add(f.script, (struct script_rule){ .what = SCRIPT_SHORT, .op = SCRIPT_ANY, .length = 0 });
	run(&f, &read);
	assert_failed(&read, -EIO, 0);
	run(&f, &write);
	assert_failed(&write, -EIO, 100);
	run(&f, &zero);
	assert_failed(&zero, -EIO, 0);
	close_lane(&f);
}

static void a_batch_that_is_taken_in_parts_is_finished(void **state)
{
	struct fixture f = open_lane();
	struct ask asks[40];
	unsigned int i;

	(void)state;
	f.script->max_batch = 3;
	for (i = 0; i < 40; i++)
		asks[i] = make(LANE_WRITE, i * 512, 512);
	submit(f.lane, asks, 40);
	wait_finished(asks, 40);
	for (i = 0; i < 40; i++)
		assert_done(&asks[i]);
	assert_memory_equal(buffer, f.script->data, 40 * 512);
	close_lane(&f);
}

static void a_full_queue_is_waited_for(void **state)
{
	static const int answers[] = { EAGAIN, EINTR, 0 };
	unsigned int i, n;

	(void)state;
	for (n = 0; n < 3; n++) {
		struct fixture f = open_lane();
		struct ask asks[20];

		script_add(
			f.script,
			(struct script_rule){
				.what = SCRIPT_REFUSE, .op = SCRIPT_ANY, .skip = n, .times = 50, .error = answers[n] });
		for (i = 0; i < 20; i++)
			asks[i] = make(LANE_WRITE, i * 512, 512);
		submit(f.lane, asks, 20);
		wait_finished(asks, 20);
		for (i = 0; i < 20; i++)
			assert_done(&asks[i]);
		close_lane(&f);
	}
}

static void a_request_that_cannot_be_started_fails_alone(void **state)
{
	struct fixture f = open_lane();
	struct ask asks[3] = { make(LANE_WRITE, 0, 512), make(LANE_WRITE, 512, 512), make(LANE_WRITE, 1024, 512) };

	(void)state;
	f.script->max_batch = 1;
	script_add(f.script,
		   (struct script_rule){
			   .what = SCRIPT_REFUSE, .op = SCRIPT_ANY, .offset = 512, .bytes = 512, .error = EINVAL });
	submit(f.lane, asks, 3);
	wait_finished(asks, 3);
	assert_done(&asks[0]);
	assert_failed(&asks[1], -EINVAL, 0);
	assert_done(&asks[2]);
	assert_int_equal((unsigned char)f.script->data[512], (unsigned char)f.script->data[512]);
	assert_int_equal(script_count(f.script, LANE_WRITE), 2);
	close_lane(&f);
}

static void requests_are_started_in_order_and_no_more_than_depth_at_once(void **state)
{
	struct fixture f = open_lane();
	struct ask asks[100];
	unsigned int i, next = 0;
	size_t n;

	(void)state;
	script_add(f.script, (struct script_rule){ .what = SCRIPT_HOLD, .op = SCRIPT_ANY });
	for (i = 0; i < 100; i++)
		asks[i] = make(LANE_WRITE, i * 512, 512);
	submit(f.lane, asks, 60);
	submit(f.lane, asks + 60, 40);
	script_wait_held(f.script, DEPTH);
	script_let_go(f.script);
	wait_finished(asks, 100);
	lane_destroy(f.lane);
	assert_int_equal(f.script->most_in_flight, DEPTH);
	for (n = 0; n < f.script->num_entries; n++)
		if (!f.script->record[n].is_end)
			assert_int_equal(f.script->record[n].offset, 512 * next++);
	assert_int_equal(next, 100);
	script_destroy(f.script);
}

static void requests_come_back_in_the_order_the_device_finishes_them(void **state)
{
	struct fixture f = open_lane();
	struct ask asks[DEPTH];
	unsigned int i;

	(void)state;
	script_set_order(f.script, SCRIPT_REVERSE, 0);
	script_add(f.script, (struct script_rule){ .what = SCRIPT_HOLD, .op = SCRIPT_ANY });
	for (i = 0; i < DEPTH; i++)
		asks[i] = make(LANE_READ, i * 4096, 4096);
	submit(f.lane, asks, DEPTH);
	script_wait_held(f.script, DEPTH);
	script_let_go(f.script);
	wait_finished(asks, DEPTH);
	for (i = 0; i < DEPTH; i++) {
		assert_done(&asks[i]);
		assert_int_equal(asks[i].finished, DEPTH - i);
	}
	assert_memory_equal(buffer, f.script->data, DEPTH * 4096);
	close_lane(&f);
}

static void a_lane_that_waits_for_its_device_takes_new_requests(void **state)
{
	struct fixture f = open_lane();
	struct ask held = make(LANE_READ, 0, 4096), later = make(LANE_READ, 4096, 4096);

	(void)state;
	script_add(f.script, (struct script_rule){ .what = SCRIPT_HOLD, .op = SCRIPT_ANY, .bytes = 4096 });
	submit(f.lane, &held, 1);
	script_wait_held(f.script, 1);
	run(&f, &later);
	assert_done(&later);
	assert_false(is_finished(&held));
	script_let_go(f.script);
	wait_finished(&held, 1);
	assert_done(&held);
	close_lane(&f);
}

/* Waking the owner of each costs more than a small transfer. */
static void what_finishes_together_comes_back_together(void **state)
{
	struct fixture f = open_lane();
	struct ask asks[4];
	unsigned int i;

	(void)state;
	for (i = 0; i < 4; i++)
		asks[i] = make(LANE_READ, i * 4096, 4096);
	asks[1].request.complete = complete_other;
	asks[2].request.complete = complete_other;
	script_add(f.script, (struct script_rule){ .what = SCRIPT_HOLD, .op = SCRIPT_ANY });
	submit(f.lane, asks, 4);
	script_wait_held(f.script, 4);
	script_let_go(f.script);
	wait_finished(asks, 4);
	for (i = 0; i < 4; i++)
		assert_done(&asks[i]);
	assert_int_equal(num_batches, 2); /* one for each function */
	assert_int_equal(num_others, 2);
	close_lane(&f);
}

static void the_last_sector_of_an_odd_file_is_filled_with_zeros(void **state)
{
	static const uint64_t ends[] = { DISK - 1, DISK - 511, DISK - 256 };
	unsigned int i, n;

	(void)state;
	for (n = 0; n < 3; n++) {
		struct fixture f;
		struct ask ask = make(LANE_READ, DISK - 4096, 4096), last = make(LANE_READ, DISK - 512, 512);

		f.script = script_create(DISK, 512);
		f.script->read_end = ends[n];
		script_fill(f.script, 7);
		memset(buffer, 'b', sizeof(buffer));
		assert_int_equal(lane_create(&script_ops, f.script, DEPTH, ends[n], &f.lane), 0);
		run(&f, &ask);
		assert_done(&ask);
		assert_memory_equal(buffer + DISK - 4096, f.script->data + DISK - 4096, ends[n] - (DISK - 4096));
		for (i = (unsigned int)ends[n]; i < DISK; i++)
			assert_int_equal(buffer[i], 0);
		run(&f, &last);
		assert_done(&last);
		assert_int_equal(buffer[DISK - 1], 0);
		close_lane(&f);
	}
}

static void a_file_that_has_become_shorter_is_an_error_and_not_zeros(void **state)
{
	struct fixture f = open_lane();
	struct ask ask = make(LANE_READ, DISK - 4096, 4096), behind = make(LANE_READ, DISK - 512, 512);

	(void)state;
	f.script->read_end = DISK - 2048; /* the lane was told DISK */
	run(&f, &ask);
	assert_failed(&ask, -EIO, 2048);
	run(&f, &behind);
	assert_failed(&behind, -EIO, 0);
	f.script->read_end = DISK - 100;
	run(&f, &(struct ask){ .request = { .op = LANE_READ, .bytes = 512, .buffer = buffer, .complete = complete } });
	ask = make(LANE_READ, DISK - 512, 512);
	run(&f, &ask);
	assert_failed(&ask, -EIO, 412);
	close_lane(&f);
}

static void nothing_is_read_as_zeros_behind_the_last_sector(void **state)
{
	struct fixture f;
	struct ask ask = make(LANE_READ, DISK - 8192, 8192);

	(void)state;
	f.script = script_create(DISK, 512);
	f.script->read_end = DISK - 4096 - 100;
	assert_int_equal(lane_create(&script_ops, f.script, DEPTH, DISK - 4096 - 100, &f.lane), 0);
	run(&f, &ask);
	assert_failed(&ask, -EIO, 4096 - 100);
	close_lane(&f);
}

struct destroyer {
	struct lane *lane;
	bool is_done; /* guarded by lock */
};

static void *destroy(void *arg)
{
	struct destroyer *d = arg;

	lane_destroy(d->lane);
	pthread_mutex_lock(&lock);
	d->is_done = true;
	pthread_mutex_unlock(&lock);
	return NULL;
}

static void destroy_finishes_what_was_submitted(void **state)
{
	struct fixture f = open_lane();
	struct destroyer d = { .lane = f.lane };
	struct ask asks[3 * DEPTH];
	pthread_t thread;
	unsigned int i;

	(void)state;
	script_add(f.script, (struct script_rule){ .what = SCRIPT_HOLD, .op = SCRIPT_ANY, .times = 1 });
	for (i = 0; i < 3 * DEPTH; i++)
		asks[i] = make(LANE_WRITE, i * 512, 512);
	submit(f.lane, asks, 3 * DEPTH);
	script_wait_held(f.script, 1);
	assert_int_equal(pthread_create(&thread, NULL, destroy, &d), 0);
	wait_finished(asks + 1, 3 * DEPTH - 1);
	pthread_mutex_lock(&lock);
	assert_false(d.is_done);
	pthread_mutex_unlock(&lock);
	assert_false(f.script->is_closed);
	script_let_go(f.script);
	pthread_join(thread, NULL);
	assert_true(f.script->is_closed);
	for (i = 0; i < 3 * DEPTH; i++)
		assert_done(&asks[i]);
	script_destroy(f.script);
}

static void an_idle_lane_is_destroyed_at_once(void **state)
{
	struct fixture f = open_lane();

	(void)state;
	close_lane(&f);
	lane_destroy(NULL);
}

struct submitter {
	struct lane *lane;
	struct ask asks[50];
};

static void *submit_many(void *arg)
{
	struct submitter *s = arg;
	unsigned int i;

	for (i = 0; i < 50; i++)
		submit(s->lane, &s->asks[i], 1);
	return NULL;
}

static void many_threads_may_submit(void **state)
{
	struct fixture f = open_lane();
	struct submitter *s = calloc(4, sizeof(*s));
	pthread_t threads[4];
	unsigned int i, n;

	(void)state;
	script_set_order(f.script, SCRIPT_RANDOM, script_seed());
	for (n = 0; n < 4; n++) {
		s[n].lane = f.lane;
		for (i = 0; i < 50; i++)
			s[n].asks[i] = make(LANE_READ, (n * 50 + i) * 512, 512);
		assert_int_equal(pthread_create(&threads[n], NULL, submit_many, &s[n]), 0);
	}
	for (n = 0; n < 4; n++) {
		pthread_join(threads[n], NULL);
		wait_finished(s[n].asks, 50);
		for (i = 0; i < 50; i++)
			assert_done(&s[n].asks[i]);
	}
	assert_memory_equal(buffer, f.script->data, 200 * 512);
	close_lane(&f);
	free(s);
}

/* A lane over a real file: its engine is libaio where the file system takes O_DIRECT, else blocking calls. */
static void a_file_takes_far_more_requests_than_fit_at_once(void **state)
{
	enum { REQUESTS = 2000, BYTES = 4096 };
	char path[] = "lane-test-XXXXXX";
	struct block_device *bdev;
	struct ask *asks = calloc(2 * REQUESTS, sizeof(*asks));
	char *memory = aligned_alloc(4096, REQUESTS * BYTES), *back = aligned_alloc(4096, REQUESTS * BYTES);
	unsigned int i, n;
	int fd = mkstemp(path);

	(void)state;
	assert_true(fd >= 0);
	unlink(path);
	for (i = 0; i < REQUESTS * BYTES; i++)
		memory[i] = (char)(i * 31 + i / 4096);
	memset(back, SCRIPT_POISON, REQUESTS * BYTES);
	assert_int_equal(ftruncate(fd, REQUESTS * BYTES), 0);
	assert_int_equal(kcopyd_device_open_fd(fd, &bdev), 0);
	num_finished = 0;
	for (n = 0; n < 2; n++) {
		for (i = 0; i < REQUESTS; i++) {
			asks[n * REQUESTS + i] = make(n ? LANE_READ : LANE_WRITE, 0, BYTES);
			asks[n * REQUESTS + i].request.offset = i * BYTES;
			asks[n * REQUESTS + i].request.buffer = (n ? back : memory) + i * BYTES;
		}
		submit(bdev->lane, asks + n * REQUESTS, REQUESTS);
		wait_finished(asks + n * REQUESTS, REQUESTS);
		for (i = 0; i < REQUESTS; i++)
			assert_done(&asks[n * REQUESTS + i]);
	}
	assert_memory_equal(memory, back, REQUESTS * BYTES);
	kcopyd_device_close(bdev);
	free(memory);
	free(back);
	free(asks);
}

enum { NEAR_REQUESTS = 300, NEAR_BYTES = 8192, NEAR_ODD = 100 };

/* All of the file at @path by one lane; @last: bytes of the last request. */
static void transfer_near_end(const char *path, enum lane_op op, char *memory, uint64_t last)
{
	struct ask *asks = calloc(NEAR_REQUESTS, sizeof(*asks));
	struct block_device *bdev;
	unsigned int i;

	num_finished = 0;
	assert_int_equal(kcopyd_device_open(path, O_RDWR, &bdev), 0);
	for (i = 0; i < NEAR_REQUESTS; i++) {
		asks[i] = make(op, 0, i == NEAR_REQUESTS - 1 ? last : NEAR_BYTES);
		asks[i].request.offset = (uint64_t)i * NEAR_BYTES;
		asks[i].request.buffer = memory + (size_t)i * NEAR_BYTES;
		/* Not the first ones; and with gaps. */
		if (i > 20 && i % 50)
			asks[i].request.to_end = (uint64_t)(NEAR_REQUESTS - i) * NEAR_BYTES;
	}
	submit(bdev->lane, asks, NEAR_REQUESTS);
	wait_finished(asks, NEAR_REQUESTS);
	for (i = 0; i < NEAR_REQUESTS; i++)
		assert_done(&asks[i]);
	kcopyd_device_close(bdev);
	free(asks);
}

/* Near the end several of them are one call; each still gets what is its own, up to the last byte of an odd file. */
static void requests_near_the_end_are_each_done(void **state)
{
	const size_t bytes = (size_t)NEAR_REQUESTS * NEAR_BYTES, odd = bytes - NEAR_BYTES + NEAR_ODD;
	char path[] = "lane-test-XXXXXX";
	char *memory = aligned_alloc(4096, bytes), *back = aligned_alloc(4096, bytes);
	int fd = mkstemp(path);
	size_t i;

	(void)state;
	assert_true(fd >= 0);
	for (i = 0; i < bytes; i++)
		memory[i] = (char)(i * 31 + i / 4096);
	assert_int_equal(ftruncate(fd, (off_t)bytes), 0);
	transfer_near_end(path, LANE_WRITE, memory, NEAR_BYTES);
	memset(back, SCRIPT_POISON, bytes);
	transfer_near_end(path, LANE_READ, back, NEAR_BYTES);
	assert_memory_equal(memory, back, bytes);
	assert_int_equal(ftruncate(fd, (off_t)odd), 0);
	memset(back, SCRIPT_POISON, bytes);
	transfer_near_end(path, LANE_READ, back, 512);
	assert_memory_equal(memory, back, odd);
	for (i = odd; i < bytes - NEAR_BYTES + 512; i++)
		assert_int_equal(back[i], 0);
	close(fd);
	unlink(path);
	free(memory);
	free(back);
}

/* One by one: what one wait counted and the reap after it left there must not be waited for again. */
static void completions_that_a_reap_leaves_are_found_by_the_next(void **state)
{
	enum { REQUESTS = 40 };
	char path[] = "lane-test-XXXXXX";
	struct lane_request requests[REQUESTS], *batch[REQUESTS];
	struct block_device *bdev;
	struct lane_event event;
	unsigned int i, taken = 0, reaped = 0;
	void *engine;
	int fd = mkstemp(path), ret;

	(void)state;
	assert_true(fd >= 0);
	unlink(path);
	assert_int_equal(ftruncate(fd, DISK), 0);
	assert_int_equal(device_create(fd, &bdev), 0);
	if (!bdev->is_direct || lane_aio_create(bdev, &engine)) {
		device_destroy(bdev);
		print_message("# SKIP no asynchronous I/O on the file system of the working directory\n");
		skip();
	}
	for (i = 0; i < REQUESTS; i++) {
		requests[i] = (struct lane_request){ .op = LANE_WRITE, .offset = i * 4096, .bytes = 4096 };
		requests[i].buffer = page_buffer;
		batch[i] = &requests[i];
	}
	while (taken < REQUESTS) {
		ret = lane_aio_ops.submit(engine, batch + taken, REQUESTS - taken);
		assert_true(ret > 0);
		taken += (unsigned int)ret;
	}
	while (reaped < REQUESTS) {
		ret = lane_aio_ops.reap(engine, &event, 1, -1); /* where it forgets some, this hangs */
		assert_true(ret == 0 || (ret == 1 && event.result == 4096));
		reaped += (unsigned int)ret;
	}
	lane_aio_ops.close(engine);
	device_destroy(bdev);
}

static void the_engine_gets_so_many_bytes_at_a_time_and_no_more(void **state)
{
	struct fixture f = open_lane();
	struct ask asks[] = { make(LANE_WRITE, 0, 2048), make(LANE_READ, 2048, 2048),  make(LANE_WRITE, 4096, 512),
			      make(LANE_FLUSH, 0, 0),	 make(LANE_WRITE, 8192, 8192), make(LANE_WRITE, 65536, 4096) };
	size_t n;
	uint64_t bytes = 0;

	(void)state;
	lane_limit(f.lane, 4096);
	script_set_order(f.script, SCRIPT_REVERSE, 0);
	submit(f.lane, asks, 6);
	wait_finished(asks, 6);
	for (n = 0; n < f.script->num_entries; n++) {
		const struct script_entry *entry = &f.script->record[n];

		if (entry->is_end)
			bytes -= entry->bytes;
		else
			bytes += entry->bytes;
		assert_true(bytes <= 4096 || bytes == 8192); /* what is larger goes alone */
	}
	close_lane(&f);
}

/* Of several in one batch, too: what is behind it waits. */
static void a_request_without_room_waits_until_it_has_some_or_is_alone(void **state)
{
	struct fixture f = open_lane();
	struct ask asks[] = {
		make(LANE_WRITE, 0, 2048),    make(LANE_WRITE, 2048, 2048), make(LANE_WRITE, 4096, 1024),
		make(LANE_WRITE, 8192, 8192), make(LANE_WRITE, 16384, 512), make(LANE_READ, 32768, 16384)
	};
	uint64_t bytes = 0, most = 0;

	(void)state;
	for (size_t i = 0; i < 5; i++)
		asks[i].request.room = 4096;
	script_set_order(f.script, SCRIPT_REVERSE, 0);
	submit(f.lane, asks, 6);
	wait_finished(asks, 6);
	for (size_t n = 0; n < f.script->num_entries; n++) {
		const struct script_entry *entry = &f.script->record[n];

		bytes = entry->is_end ? bytes - entry->bytes : bytes + entry->bytes;
		if (entry->offset < 32768)
			assert_true(bytes <= 4096 || bytes == 8192);
		if (bytes > most)
			most = bytes;
	}
	assert_int_equal(most, 512 + 16384);
	close_lane(&f);
}

static unsigned int num_left;

static void count_left(void *arg)
{
	(void)arg;
	pthread_mutex_lock(&lock);
	num_left++;
	pthread_cond_broadcast(&changed);
	pthread_mutex_unlock(&lock);
}

static void an_abandoned_lane_gives_back_what_its_engine_has_not_got(void **state)
{
	static const enum script_what ways[] = { SCRIPT_HOLD, SCRIPT_HANG };
	unsigned int i;

	(void)state;
	for (i = 0; i < 2; i++) {
		struct fixture f = open_lane();
		struct ask asks[] = { make(LANE_WRITE, 0, 4096), make(LANE_WRITE, 4096, 512), make(LANE_FLUSH, 0, 0) };
		struct ask late = make(LANE_READ, 0, 512);

		num_left = 0;
		lane_limit(f.lane, 1);
		/* A short one: what is left of it is not begun any more. */
		script_add(f.script, (struct script_rule){ .what = SCRIPT_SHORT, .op = LANE_WRITE, .length = 1024 });
		script_add(f.script, (struct script_rule){ .what = ways[i], .op = LANE_WRITE });
		submit(f.lane, asks, 2);
		if (ways[i] == SCRIPT_HOLD)
			script_wait_held(f.script, 1);
		else
			script_wait_hanging(f.script);
		if (ways[i] == SCRIPT_HANG)
			submit(f.lane, &asks[2], 1);
		lane_abandon(f.lane);
		lane_abandon(f.lane);
		wait_finished(&asks[1], ways[i] == SCRIPT_HANG ? 2 : 1);
		assert_failed(&asks[1], -ETIMEDOUT, 0);
		if (ways[i] == SCRIPT_HANG)
			assert_failed(&asks[2], -ETIMEDOUT, 0);
		run(&f, &late);
		assert_failed(&late, -ETIMEDOUT, 0);
		assert_false(is_finished(&asks[0]));
		lane_leave(f.lane, count_left, NULL);
		assert_false(is_finished(&asks[0]));
		script_let_go(f.script);
		wait_finished(asks, 1);
		assert_failed(&asks[0], -ETIMEDOUT, 1024);
		pthread_mutex_lock(&lock);
		while (!num_left)
			pthread_cond_wait(&changed, &lock);
		pthread_mutex_unlock(&lock);
		assert_true(f.script->is_closed);
		script_destroy(f.script);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_writes_zeros_and_flushes_reach_the_device),
		cmocka_unit_test(short_transfers_are_continued_where_they_stopped),
		cmocka_unit_test(an_error_after_a_short_transfer_keeps_what_is_known_good),
		cmocka_unit_test(errors_come_back_as_they_are_and_only_to_their_request),
		cmocka_unit_test(what_was_interrupted_is_tried_again),
		cmocka_unit_test(what_is_never_done_is_an_error_in_the_end),
		cmocka_unit_test(no_progress_is_an_error_and_not_a_loop),
		cmocka_unit_test(a_batch_that_is_taken_in_parts_is_finished),
		cmocka_unit_test(a_full_queue_is_waited_for),
		cmocka_unit_test(a_request_that_cannot_be_started_fails_alone),
		cmocka_unit_test(requests_are_started_in_order_and_no_more_than_depth_at_once),
		cmocka_unit_test(requests_come_back_in_the_order_the_device_finishes_them),
		cmocka_unit_test(a_lane_that_waits_for_its_device_takes_new_requests),
		cmocka_unit_test(what_finishes_together_comes_back_together),
		cmocka_unit_test(the_last_sector_of_an_odd_file_is_filled_with_zeros),
		cmocka_unit_test(a_file_that_has_become_shorter_is_an_error_and_not_zeros),
		cmocka_unit_test(nothing_is_read_as_zeros_behind_the_last_sector),
		cmocka_unit_test(the_engine_gets_so_many_bytes_at_a_time_and_no_more),
		cmocka_unit_test(a_request_without_room_waits_until_it_has_some_or_is_alone),
		cmocka_unit_test(an_abandoned_lane_gives_back_what_its_engine_has_not_got),
		cmocka_unit_test(destroy_finishes_what_was_submitted),
		cmocka_unit_test(an_idle_lane_is_destroyed_at_once),
		cmocka_unit_test(many_threads_may_submit),
		cmocka_unit_test(a_file_takes_far_more_requests_than_fit_at_once),
		cmocka_unit_test(requests_near_the_end_are_each_done),
		cmocka_unit_test(completions_that_a_reap_leaves_are_found_by_the_next),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
