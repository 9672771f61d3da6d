/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "scripted.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static _Atomic uint64_t clock_ticks;

uint64_t script_random(uint64_t *state)
{
	uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

/* See Makefile.am: the same program has two names. */
static bool is_started_program(void)
{
	const char *suffix = strrchr(program_invocation_short_name, '_');

	return suffix && strcmp(suffix, "_started") == 0;
}

bool script_is_slow(void)
{
#ifdef __SANITIZE_THREAD__
	return true;
#else
	const char *env = getenv("KCOPY_VALGRIND");

	return env && *env;
#endif
}

uint64_t script_seed(void)
{
	const char *env = getenv("KCOPY_TEST_SEED");
	uint64_t seed = env ? strtoull(env, NULL, 0) : (uint64_t)time(NULL);

	printf("# KCOPY_TEST_SEED=%" PRIu64 "\n", seed);
	fflush(stdout);
	return seed;
}

/* -- rules (with the lock held) ------------------------------------------------------------------ */

static uint64_t attempt_offset(const struct lane_request *request)
{
	return request->offset + request->done;
}

static uint64_t attempt_bytes(const struct lane_request *request)
{
	return request->bytes - request->done;
}

static bool does_match(const struct script_rule *rule, const struct lane_request *request)
{
	uint64_t offset = attempt_offset(request);

	if (rule->op != SCRIPT_ANY && rule->op != (int)request->op)
		return false;
	if (!rule->bytes || request->op == LANE_FLUSH)
		return true;
	return offset < rule->offset + rule->bytes && rule->offset < offset + attempt_bytes(request);
}

static bool is_on(enum script_what what, enum script_what first, enum script_what last)
{
	return what >= first && what <= last;
}

/* The first rule of the kinds from @first to @last that applies now; it counts as one more match. */
static struct script_rule *find_rule(struct script *script, const struct lane_request *request, enum script_what first,
				     enum script_what last)
{
	unsigned int i;

	for (i = 0; i < script->num_rules; i++) {
		struct script_rule *rule = &script->rules[i];

		if (!is_on(rule->what, first, last) || !does_match(rule, request))
			continue;
		if (rule->skip) {
			rule->skip--;
			continue;
		}
		if (rule->times == UINT32_MAX) /* used up */
			continue;
		if (rule->times && --rule->times == 0)
			rule->times = UINT32_MAX;
		return rule;
	}
	return NULL;
}

static void record(struct script *script, const struct lane_request *request, bool is_end, int64_t result)
{
	if (script->num_entries == script->room) {
		script->room = script->room ? 2 * script->room : 256;
		script->record = realloc(script->record, script->room * sizeof(*script->record));
		assert(script->record);
	}
	script->record[script->num_entries++] = (struct script_entry){
		.when = atomic_fetch_add(&clock_ticks, 1),
		.is_end = is_end,
		.op = request->op,
		.offset = attempt_offset(request),
		.bytes = attempt_bytes(request),
		.result = result,
	};
}

static void move(struct script *script, const struct lane_request *request, uint64_t bytes)
{
	char *disk = script->data + attempt_offset(request);

	if (request->op == LANE_READ)
		memcpy(request->buffer + request->done, disk, bytes);
	else if (request->op == LANE_WRITE)
		memcpy(disk, request->buffer + request->done, bytes);
	else if (request->op == LANE_ZERO)
		memset(disk, 0, bytes);
}

/* How far an attempt comes when several places are bad for ever: to the first, whatever the order of the rules. */
static int find_reach(const struct script *script, const struct script_rule *found, const struct lane_request *request,
		      uint64_t *bytes)
{
	uint64_t offset = attempt_offset(request);
	unsigned int i;

	for (i = 0; i < script->num_rules; i++) {
		const struct script_rule *rule = &script->rules[i];
		uint64_t bad = rule->offset / script->logical_block * script->logical_block;

		if ((rule->what != SCRIPT_FAIL && rule->what != SCRIPT_FAIL_AT) || !does_match(rule, request) ||
		    ((rule->skip || rule->times) && rule != found))
			continue;
		if (!rule->bytes || bad <= offset)
			return -rule->error;
		if (*bytes > bad - offset)
			*bytes = bad - offset;
	}
	return 0;
}

static bool is_zero_sector(const struct script *script, uint64_t offset)
{
	static const char zeros[KCOPYD_SECTOR_BYTES];

	return !memcmp(script->data + offset, zeros, sizeof(zeros));
}

static bool is_hole_sector(const struct script *script, uint64_t offset)
{
	unsigned int i;

	for (i = 0; i < script->num_rules; i++) {
		const struct script_rule *rule = &script->rules[i];

		if (rule->op == LANE_READ && rule->bytes && offset < rule->offset + rule->bytes &&
		    rule->offset < offset + KCOPYD_SECTOR_BYTES)
			return false;
	}
	return is_zero_sector(script, offset);
}

/* The end of the hole that begins at @offset; @offset: there is none. */
static uint64_t find_hole_end(const struct script *script, uint64_t offset, uint64_t end)
{
	uint64_t pos = offset;

	while (pos < end && is_hole_sector(script, pos))
		pos += KCOPYD_SECTOR_BYTES;
	return pos - offset >= script->bdev->hole_least ? pos : offset;
}

static void tell_extent(const struct script *script, struct lane_request *request)
{
	uint64_t end = request->offset + request->bytes, pos;

	request->zero_end = find_hole_end(script, request->offset, end);
	for (pos = request->zero_end; pos < end && find_hole_end(script, pos, end) == pos;)
		pos += KCOPYD_SECTOR_BYTES;
	request->data_end = pos;
}

static void tell_zeros(struct script *script, struct lane_request *request)
{
	uint64_t pos = attempt_offset(request);

	request->is_written |= script->writes_zeros;
	if (script->writes_zeros)
		atomic_store(&script->bdev->cannot_zero, true);
	while (pos < script->bytes && is_zero_sector(script, pos))
		pos += KCOPYD_SECTOR_BYTES;
	request->zero_end = script->has_known_zeros && pos >= request->offset + request->bytes ? pos : 0;
}

/* What becomes of the attempt; moves its bytes. */
static int64_t perform(struct script *script, struct lane_request *request)
{
	struct script_rule *rule = find_rule(script, request, SCRIPT_FAIL, SCRIPT_SHORT);
	uint64_t bytes = attempt_bytes(request), offset = attempt_offset(request);
	int error;

	if (request->op != LANE_FLUSH &&
	    (request->offset | request->bytes) % script->logical_block) /* as a real one does */
		return -EINVAL;
	if (request->op == LANE_READ && offset + bytes > script->read_end)
		bytes = offset < script->read_end ? script->read_end - offset : 0;
	if (rule && rule->what == SCRIPT_FAIL)
		return -rule->error;
	if (rule && rule->what == SCRIPT_FAIL_AT) {
		error = find_reach(script, rule, request, &bytes);
		if (error)
			return error;
	}
	if (request->op == LANE_EXTENT) {
		tell_extent(script, request);
		return (int64_t)bytes;
	}
	if (request->op == LANE_ZERO)
		tell_zeros(script, request);
	if (rule && rule->what == SCRIPT_SHORT && bytes > rule->length)
		bytes = rule->length;
	if (request->op != LANE_FLUSH)
		move(script, request, bytes);
	return (int64_t)bytes;
}

/* -- the engine ---------------------------------------------------------------------------------- */

static void start(struct script *script, struct lane_request *request, int event_fd)
{
	unsigned int i, writes = 0;

	if (request->op == LANE_FLUSH) {
		assert(!request->bytes);
	} else {
		assert(request->done < request->bytes);
		assert(request->offset + request->bytes <= script->bytes);
	}
	assert(script->num_in_flight < SCRIPT_MAX_DEPTH);
	if (request->op == LANE_READ)
		memset(request->buffer + request->done, SCRIPT_POISON, attempt_bytes(request));
	script->is_held[script->num_in_flight] = find_rule(script, request, SCRIPT_HOLD, SCRIPT_HOLD) != NULL;
	script->num_held += script->is_held[script->num_in_flight];
	script->event_fds[script->num_in_flight] = event_fd;
	script->in_flight[script->num_in_flight++] = request;
	record(script, request, false, 0);
	for (i = 0; i < script->num_in_flight; i++)
		writes += script->in_flight[i]->op == LANE_WRITE || script->in_flight[i]->op == LANE_ZERO;
	if (writes > script->most_writes)
		script->most_writes = writes;
	if (script->num_in_flight > script->most_in_flight)
		script->most_in_flight = script->num_in_flight;
}

static int script_submit(void *engine, struct lane_request **requests, unsigned int count)
{
	struct script *script = engine;
	struct script_rule *rule;
	unsigned int i;
	int ret;

	pthread_mutex_lock(&script->lock);
	assert(count > 0 && script->num_in_flight + count <= script->depth && !script->is_closed);
	if (find_rule(script, requests[0], SCRIPT_HANG, SCRIPT_HANG)) {
		script->num_hanging = 1;
		pthread_cond_broadcast(&script->changed);
		while (script->num_hanging)
			pthread_cond_wait(&script->changed, &script->lock);
	}
	rule = find_rule(script, requests[0], SCRIPT_REFUSE, SCRIPT_REFUSE);
	if (rule) {
		ret = -rule->error;
	} else {
		if (script->max_batch && count > script->max_batch)
			count = script->max_batch;
		for (i = 0; i < count; i++)
			start(script, requests[i], -1);
		for (i = 0; i < count; i++)
			script->num_by_thread += requests[i]->op == LANE_READ || requests[i]->op == LANE_WRITE;
		ret = (int)count;
	}
	pthread_cond_broadcast(&script->changed);
	pthread_mutex_unlock(&script->lock);
	return ret;
}

static bool is_loose(const struct script *script, unsigned int at, bool has_to_be_waited_for)
{
	return !script->is_held[at] && (!has_to_be_waited_for || script->event_fds[at] < 0);
}

/* Which attempt is done next; -1: none can be. Nobody is woken by those that were started, as by an eventfd of others. */
static int choose(struct script *script, bool is_waiting)
{
	unsigned int i, loose = 0, n;

	for (i = 0; i < script->num_in_flight; i++)
		loose += is_loose(script, i, is_waiting);
	if (!loose)
		return -1;
	n = script->order == SCRIPT_IN_ORDER  ? 0
	    : script->order == SCRIPT_REVERSE ? loose - 1
					      : (unsigned int)(script_random(&script->seed) % loose);
	for (i = 0; i < script->num_in_flight; i++)
		if (is_loose(script, i, is_waiting) && !n--)
			return (int)i;
	return -1;
}

static struct lane_event take(struct script *script, unsigned int at)
{
	struct lane_event event = { .request = script->in_flight[at] };
	unsigned int i;

	if (script->event_fds[at] >= 0 && script->waits && ++script->num_started % script->waits == 0)
		event.result = -EAGAIN;
	else
		event.result = perform(script, event.request);
	record(script, event.request, true, event.result);
	script->num_in_flight--;
	for (i = at; i < script->num_in_flight; i++) {
		script->in_flight[i] = script->in_flight[i + 1];
		script->is_held[i] = script->is_held[i + 1];
		script->event_fds[i] = script->event_fds[i + 1];
	}
	return event;
}

static int wait_changed(struct script *script, int timeout_ms)
{
	struct timespec until;

	if (timeout_ms < 0)
		return pthread_cond_wait(&script->changed, &script->lock);
	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += timeout_ms / 1000;
	until.tv_nsec += timeout_ms % 1000 * 1000000L;
	if (until.tv_nsec >= 1000000000L) {
		until.tv_sec++;
		until.tv_nsec -= 1000000000L;
	}
	return pthread_cond_timedwait(&script->changed, &script->lock, &until);
}

static int script_reap(void *engine, struct lane_event *events, unsigned int max, int timeout_ms)
{
	struct script *script = engine;
	unsigned int count = 0;
	bool is_waiting = false;
	int at;

	pthread_mutex_lock(&script->lock);
	for (;;) {
		/* Another order needs others to choose from: one at a time, so that more come in between. */
		while (count < (script->order == SCRIPT_IN_ORDER ? max : 1) && (at = choose(script, is_waiting)) >= 0)
			events[count++] = take(script, (unsigned int)at);
		is_waiting = true;
		if (count || script->is_woken || !timeout_ms)
			break;
		if (wait_changed(script, timeout_ms) == ETIMEDOUT)
			break;
	}
	if (!count)
		script->is_woken = false;
	pthread_cond_broadcast(&script->changed);
	pthread_mutex_unlock(&script->lock);
	return (int)count;
}

static void script_wake(void *engine)
{
	struct script *script = engine;

	pthread_mutex_lock(&script->lock);
	script->is_woken = true;
	pthread_cond_broadcast(&script->changed);
	pthread_mutex_unlock(&script->lock);
}

static void script_close(void *engine)
{
	struct script *script = engine;

	pthread_mutex_lock(&script->lock);
	assert(!script->num_in_flight && !script->is_closed);
	script->is_closed = true;
	pthread_cond_broadcast(&script->changed);
	pthread_mutex_unlock(&script->lock);
}

static void tell(const struct script *script, unsigned int at)
{
	uint64_t one = 1;
	ssize_t ret;

	if (script->event_fds[at] < 0 || script->is_held[at])
		return;
	ret = write(script->event_fds[at], &one, sizeof(one));
	assert(ret == sizeof(one));
	(void)ret;
}

/* What submit() is to refuse or to hang in. */
static bool is_for_thread(const struct script *script, const struct lane_request *request)
{
	unsigned int i;

	for (i = 0; i < script->num_rules; i++)
		if ((script->rules[i].what == SCRIPT_REFUSE || script->rules[i].what == SCRIPT_HANG) &&
		    does_match(&script->rules[i], request))
			return true;
	return false;
}

static unsigned int script_start(void *engine, struct lane_request **requests, unsigned int count, int event_fd)
{
	struct script *script = engine;
	unsigned int i;

	pthread_mutex_lock(&script->lock);
	assert(script->num_in_flight + count <= script->depth && !script->is_closed);
	for (i = 0; script->is_startable && i < count; i++) {
		if ((requests[i]->op != LANE_READ && requests[i]->op != LANE_WRITE) ||
		    is_for_thread(script, requests[i]) || (script->max_batch && i == script->max_batch))
			break;
		start(script, requests[i], event_fd);
		tell(script, script->num_in_flight - 1);
	}
	if (!script->is_startable)
		i = 0;
	pthread_cond_broadcast(&script->changed);
	pthread_mutex_unlock(&script->lock);
	return i;
}

static int script_collect(void *engine, struct lane_event *events, unsigned int max)
{
	struct script *script = engine;
	unsigned int count = 0, i;
	int at;

	pthread_mutex_lock(&script->lock);
	while (count < (script->order == SCRIPT_IN_ORDER ? max : 1) && (at = choose(script, false)) >= 0)
		events[count++] = take(script, (unsigned int)at);
	for (i = 0; i < script->num_in_flight; i++)
		tell(script, i);
	pthread_cond_broadcast(&script->changed);
	pthread_mutex_unlock(&script->lock);
	return (int)count;
}

const struct lane_engine_ops script_ops = {
	.submit = script_submit,
	.reap = script_reap,
	.wake = script_wake,
	.close = script_close,
	.start = script_start,
	.collect = script_collect,
};

/* -- for the test -------------------------------------------------------------------------------- */

struct script *script_create(uint64_t bytes, unsigned int logical_block)
{
	struct script *script = calloc(1, sizeof(*script));
	pthread_condattr_t attr;

	assert(script);
	script->data = malloc(bytes ? bytes : 1);
	assert(script->data);
	memset(script->data, SCRIPT_BLANK, bytes);
	script->bytes = bytes;
	script->read_end = bytes;
	script->logical_block = logical_block;
	script->depth = SCRIPT_MAX_DEPTH;
	script->is_startable = is_started_program();
	pthread_mutex_init(&script->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&script->changed, &attr);
	pthread_condattr_destroy(&attr);
	return script;
}

struct script *script_open(uint64_t bytes, unsigned int logical_block, bool is_zoned, unsigned int depth)
{
	struct script *script = script_create(bytes, logical_block);
	int ret;

	script->depth = depth;
	ret = device_create_virtual(bytes, logical_block, is_zoned, &script->bdev);
	assert(!ret);
	ret = lane_create(&script_ops, script, depth, bytes, &script->bdev->lane);
	assert(!ret);
	(void)ret;
	return script;
}

void script_destroy(struct script *script)
{
	bool is_left;

	if (!script)
		return;
	is_left = script->bdev && lane_is_abandoned(script->bdev->lane);
	kcopyd_device_close(script->bdev);
	if (is_left) {
		script_let_go(script);
		pthread_mutex_lock(&script->lock);
		while (!script->is_closed)
			pthread_cond_wait(&script->changed, &script->lock);
		pthread_mutex_unlock(&script->lock);
	}
	assert(!script->bdev || script->is_closed);
	pthread_cond_destroy(&script->changed);
	pthread_mutex_destroy(&script->lock);
	free(script->record);
	free(script->data);
	free(script);
}

void script_make_file(struct script *script, uint64_t hole_least)
{
	script->bdev->hole_least = hole_least;
	script->bdev->is_block = false;
	script->bdev->zeros = (struct zeros_rules){ .align = KCOPYD_PAGE_BYTES };
}

void script_clear(struct script *script, uint64_t offset, uint64_t bytes)
{
	memset(script->data + offset, 0, bytes);
}

void script_fill(struct script *script, uint64_t seed)
{
	uint64_t i, words[2];

	words[0] = script_random(&seed);
	for (i = 0; i < script->bytes; i += sizeof(words)) {
		words[0] += UINT64_C(0x0101010101010101);
		words[1] = i;
		memcpy(script->data + i, words, script->bytes - i < sizeof(words) ? script->bytes - i : sizeof(words));
	}
}

void script_add(struct script *script, struct script_rule rule)
{
	pthread_mutex_lock(&script->lock);
	assert(script->num_rules < SCRIPT_MAX_RULES);
	script->rules[script->num_rules++] = rule;
	pthread_mutex_unlock(&script->lock);
}

void script_set_order(struct script *script, enum script_order order, uint64_t seed)
{
	pthread_mutex_lock(&script->lock);
	script->order = order;
	script->seed = seed;
	pthread_mutex_unlock(&script->lock);
}

void script_let_go(struct script *script)
{
	unsigned int i, kept = 0;

	pthread_mutex_lock(&script->lock);
	for (i = 0; i < script->num_rules; i++)
		if (script->rules[i].what != SCRIPT_HOLD && script->rules[i].what != SCRIPT_HANG)
			script->rules[kept++] = script->rules[i];
	script->num_rules = kept;
	memset(script->is_held, 0, sizeof(script->is_held));
	script->num_held = 0;
	script->num_hanging = 0;
	for (i = 0; i < script->num_in_flight; i++)
		tell(script, i);
	pthread_cond_broadcast(&script->changed);
	pthread_mutex_unlock(&script->lock);
}

void script_let_go_last(struct script *script)
{
	unsigned int i;

	pthread_mutex_lock(&script->lock);
	for (i = script->num_in_flight; i-- > 0;) {
		if (script->is_held[i]) {
			script->is_held[i] = false;
			script->num_held--;
			tell(script, i);
			break;
		}
	}
	pthread_cond_broadcast(&script->changed);
	pthread_mutex_unlock(&script->lock);
}

void script_wait_held(struct script *script, unsigned int count)
{
	pthread_mutex_lock(&script->lock);
	while (script->num_held < count)
		pthread_cond_wait(&script->changed, &script->lock);
	pthread_mutex_unlock(&script->lock);
}

void script_wait_hanging(struct script *script)
{
	pthread_mutex_lock(&script->lock);
	while (!script->num_hanging)
		pthread_cond_wait(&script->changed, &script->lock);
	pthread_mutex_unlock(&script->lock);
}

static unsigned int count_done(const struct script *script, int op)
{
	unsigned int count = 0;
	size_t i;

	for (i = 0; i < script->num_entries; i++)
		count += script->record[i].is_end && (op == SCRIPT_ANY || op == (int)script->record[i].op);
	return count;
}

void script_wait_done(struct script *script, unsigned int count)
{
	pthread_mutex_lock(&script->lock);
	while (count_done(script, SCRIPT_ANY) < count)
		pthread_cond_wait(&script->changed, &script->lock);
	pthread_mutex_unlock(&script->lock);
}

unsigned int script_count(struct script *script, int op)
{
	unsigned int count;

	pthread_mutex_lock(&script->lock);
	count = count_done(script, op);
	pthread_mutex_unlock(&script->lock);
	return count;
}
