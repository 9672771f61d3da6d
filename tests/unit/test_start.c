/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Requests that a client's thread starts and collects itself: what of them is the lane's thread's all the same, and
 * that nothing of them is forgotten.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "kcopyd.h"
#include "lane.h"
#include "scripted.h"
#include "world.h"

#define NUM_DESTS 2u
#define SMALL ((size_t)64 << 10)
#define BLOCK 512u

static struct world *startable_world(void)
{
	struct world *world = world_create(PAGES, NUM_DESTS, DISK);

	world->source->is_startable = true;
	script_fill(world->source, 7);
	for (unsigned int i = 0; i < NUM_DESTS; i++)
		world->dests[i]->is_startable = true;
	return world;
}

static void assert_all_copied(struct world *world, const struct outcome *outcome)
{
	assert_int_equal(outcome->read_err, 0);
	assert_int_equal(outcome->write_err, 0);
	for (unsigned int i = 0; i < NUM_DESTS; i++) {
		assert_copied(world, i, 0, COUNT);
		assert_outside_untouched(world, i);
	}
}

static void a_copy_needs_no_lane_thread(void **state)
{
	struct world *world = startable_world();
	struct outcome outcome = { 0 };

	(void)state;
	copy(world, 0, &outcome);
	assert_all_copied(world, &outcome);
	assert_int_equal(world->source->num_by_thread, 0);
	for (unsigned int i = 0; i < NUM_DESTS; i++)
		assert_int_equal(world->dests[i]->num_by_thread, 0);
	world_destroy(world);
}

static void what_would_have_to_wait_is_done_by_the_lanes_thread(void **state)
{
	struct world *world = startable_world();
	struct outcome outcome = { 0 };

	(void)state;
	world->source->waits = 3;
	world->dests[0]->waits = 1;
	copy(world, 0, &outcome);
	assert_all_copied(world, &outcome);
	assert_true(world->source->num_by_thread > 0);
	assert_int_equal(world->dests[0]->num_by_thread, (COUNT + CHUNK - 1) / CHUNK);
	assert_int_equal(world->dests[1]->num_by_thread, 0);
	world_destroy(world);
}

static void short_transfers_are_continued(void **state)
{
	struct world *world = startable_world();
	struct outcome outcome = { 0 };

	(void)state;
	script_add(world->source, (struct script_rule){ .what = SCRIPT_SHORT, .op = LANE_READ, .length = 5 * SECTOR });
	script_add(world->dests[1], (struct script_rule){ .what = SCRIPT_SHORT, .op = LANE_WRITE, .length = SECTOR });
	copy(world, 0, &outcome);
	assert_all_copied(world, &outcome);
	world_destroy(world);
}

/* Who may have to be given up must not be able to hold up the client, whatever its driver says. */
static void a_device_with_a_limit_is_its_threads(void **state)
{
	struct world *world = startable_world();
	struct outcome outcome = { 0 };

	(void)state;
	kcopyd_device_limit(world->dests[0]->bdev, (uint64_t)CHUNK * SECTOR);
	copy(world, 0, &outcome);
	assert_all_copied(world, &outcome);
	assert_int_equal(world->dests[0]->num_by_thread, (COUNT + CHUNK - 1) / CHUNK);
	assert_int_equal(world->dests[1]->num_by_thread, 0);
	world_destroy(world);
}

/* -- lanes --------------------------------------------------------------------------------------- */

static unsigned int num_done;

static void complete(struct list_head *requests)
{
	while (!list_is_empty(requests)) {
		list_del(requests->next);
		__atomic_fetch_add(&num_done, 1, __ATOMIC_SEQ_CST);
	}
}

static unsigned int count_done(void)
{
	return __atomic_load_n(&num_done, __ATOMIC_SEQ_CST);
}

static void wait_done(unsigned int num)
{
	while (count_done() < num)
		usleep(1000);
}

static char buffer[SMALL];

static void submit(struct lane *lane, struct lane_request *request, uint64_t room, struct lane_collector *collector)
{
	struct list_head list;

	*request = (struct lane_request){
		.op = LANE_WRITE, .bytes = BLOCK, .buffer = buffer, .room = room, .complete = complete
	};
	list_init(&list);
	list_add_tail(&request->node, &list);
	lane_submit(lane, &list, collector);
}

static struct lane_collector make_collector(void)
{
	struct lane_collector collector = { .event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK) };

	assert_true(collector.event_fd >= 0);
	return collector;
}

/* Is there something to collect? */
static bool is_told(const struct lane_collector *collector)
{
	struct pollfd pollfd = { .fd = collector->event_fd, .events = POLLIN };

	return poll(&pollfd, 1, 0) == 1;
}

struct fixture {
	struct script *script;
	struct lane *lane;
	struct lane_collector collector;
};

static struct fixture open_lane(unsigned int depth)
{
	struct fixture f = { .script = script_create(SMALL, BLOCK), .collector = make_collector() };

	f.script->is_startable = true;
	f.script->depth = depth;
	num_done = 0;
	assert_int_equal(lane_create(&script_ops, f.script, depth, SMALL, &f.lane), 0);
	return f;
}

static void close_lane(struct fixture *f)
{
	lane_destroy(f->lane);
	script_destroy(f->script);
	close(f->collector.event_fd);
}

static void what_is_started_comes_back_when_it_is_collected(void **state)
{
	struct fixture f = open_lane(8);
	struct lane_request request;

	(void)state;
	list_init(&f.collector.lanes);
	usleep(10000); /* for its thread to be asleep */
	submit(f.lane, &request, 0, &f.collector);
	assert_true(is_told(&f.collector));
	usleep(10000); /* its thread would have had it by now */
	assert_int_equal(count_done(), 0);
	assert_false(list_is_empty(&f.collector.lanes));
	lane_collect(&f.collector);
	assert_int_equal(count_done(), 1);
	lane_forget(&f.collector);
	assert_true(list_is_empty(&f.collector.lanes));
	close_lane(&f);
}

static void what_there_was_no_room_for_is_started_when_there_is(void **state)
{
	struct fixture f = open_lane(2);
	struct lane_request requests[5];

	(void)state;
	list_init(&f.collector.lanes);
	for (unsigned int i = 0; i < 5; i++)
		submit(f.lane, &requests[i], i < 3 ? 0 : BLOCK, &f.collector);
	for (unsigned int i = 0; i < 5; i++)
		lane_collect(&f.collector);
	assert_int_equal(count_done(), 5);
	assert_int_equal(f.script->most_in_flight, 2);
	assert_int_equal(f.script->num_by_thread, 0);
	lane_forget(&f.collector);
	assert_true(list_is_empty(&f.collector.lanes));
	close_lane(&f);
}

static void another_ones_requests_go_to_the_lanes_thread(void **state)
{
	struct fixture f = open_lane(8);
	struct lane_collector other = make_collector();
	struct lane_request requests[3];

	(void)state;
	list_init(&f.collector.lanes);
	list_init(&other.lanes);
	script_add(f.script, holding(LANE_WRITE, 0, 0));
	submit(f.lane, &requests[0], 0, &f.collector);
	submit(f.lane, &requests[1], 0, &other);
	script_wait_held(f.script, 2);
	assert_int_equal(f.script->num_by_thread, 1);
	assert_true(list_is_empty(&other.lanes));
	script_let_go(f.script);
	lane_collect(&f.collector);
	wait_done(2);
	lane_forget(&f.collector);
	submit(f.lane, &requests[2], 0, &other);
	assert_false(list_is_empty(&other.lanes));
	lane_collect(&other);
	wait_done(3);
	lane_forget(&other);
	close_lane(&f);
	close(other.event_fd);
}

/* Not by whom they are not collected. */
static void who_waits_behind_anothers_requests_is_not_started_for_that_one(void **state)
{
	struct fixture f = open_lane(1);
	struct lane_collector other = make_collector();
	struct lane_request requests[3];

	(void)state;
	list_init(&f.collector.lanes);
	list_init(&other.lanes);
	usleep(10000); /* for its thread to be asleep */
	submit(f.lane, &requests[0], 0, &f.collector);
	submit(f.lane, &requests[1], 0, &other);
	submit(f.lane, &requests[2], 0, &f.collector);
	lane_collect(&f.collector);
	lane_forget(&f.collector);
	wait_done(3); /* by its thread, though nobody collects */
	assert_true(f.script->num_by_thread >= 1);
	assert_true(list_is_empty(&other.lanes));
	lane_forget(&f.collector);
	assert_true(list_is_empty(&f.collector.lanes));
	close_lane(&f);
	close(other.event_fd);
}

/* Somebody else may have to wait for a collector whose thread is at something else. */
static void what_is_not_collected_does_not_hold_up_the_others(void **state)
{
	struct fixture f = open_lane(1);
	struct lane_collector other = make_collector();
	struct lane_request requests[2];

	(void)state;
	list_init(&f.collector.lanes);
	list_init(&other.lanes);
	usleep(10000); /* for its thread to be asleep */
	script_add(f.script, holding(LANE_WRITE, 0, 0));
	submit(f.lane, &requests[0], 0, &f.collector);
	submit(f.lane, &requests[1], 0, &other);
	usleep(10000); /* its thread has looked by now */
	script_let_go(f.script);
	wait_done(2);
	lane_collect(&f.collector);
	lane_forget(&f.collector);
	close_lane(&f);
	close(other.event_fd);
}

static void a_lane_that_starts_nothing_is_nobodys(void **state)
{
	struct fixture f = open_lane(8);
	struct lane_request request;

	(void)state;
	f.script->is_startable = false;
	list_init(&f.collector.lanes);
	script_add(f.script, holding(LANE_WRITE, 0, 0));
	submit(f.lane, &request, 0, &f.collector);
	script_wait_held(f.script, 1);
	assert_true(list_is_empty(&f.collector.lanes));
	script_let_go(f.script);
	wait_done(1);
	close_lane(&f);
}

static bool is_ended;

static void set_ended(void *arg)
{
	(void)arg;
	__atomic_store_n(&is_ended, true, __ATOMIC_SEQ_CST);
}

static void what_an_abandoned_lane_gives_back_is_found_without_its_collector(void **state)
{
	struct fixture f = open_lane(8);
	struct lane_request request;

	(void)state;
	list_init(&f.collector.lanes);
	script_add(f.script, holding(LANE_WRITE, 0, 0));
	submit(f.lane, &request, 0, &f.collector);
	lane_abandon(f.lane);
	lane_forget(&f.collector);
	assert_true(list_is_empty(&f.collector.lanes));
	lane_leave(f.lane, set_ended, NULL);
	assert_int_equal(count_done(), 0);
	script_let_go(f.script);
	wait_done(1);
	while (!__atomic_load_n(&is_ended, __ATOMIC_SEQ_CST))
		usleep(1000);
	script_destroy(f.script);
	close(f.collector.event_fd);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(a_copy_needs_no_lane_thread),
	cmocka_unit_test(what_would_have_to_wait_is_done_by_the_lanes_thread),
	cmocka_unit_test(short_transfers_are_continued),
	cmocka_unit_test(a_device_with_a_limit_is_its_threads),
	cmocka_unit_test(what_is_started_comes_back_when_it_is_collected),
	cmocka_unit_test(what_there_was_no_room_for_is_started_when_there_is),
	cmocka_unit_test(another_ones_requests_go_to_the_lanes_thread),
	cmocka_unit_test(who_waits_behind_anothers_requests_is_not_started_for_that_one),
	cmocka_unit_test(what_is_not_collected_does_not_hold_up_the_others),
	cmocka_unit_test(a_lane_that_starts_nothing_is_nobodys),
	cmocka_unit_test(what_an_abandoned_lane_gives_back_is_found_without_its_collector),
};

int main(void)
{
	return cmocka_run_group_tests(tests, NULL, NULL);
}
