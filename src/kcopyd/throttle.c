/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "throttle.h"

#include <assert.h>

#define NS_PER_MS UINT64_C(1000000)
#define NS_PER_S UINT64_C(1000000000)

/* A chunk is what may be read in so long, at the most, and what was not used in so long may be made up for. */
#define LIMIT_CHUNKS_PER_S 20u
#define LIMIT_CREDIT_NS (200 * NS_PER_MS)
/* Waking up for less costs more than it helps: the credit makes up for it. */
#define LEAST_WAIT_NS NS_PER_MS

/* Of a burst and the pause behind it. */
#define PERIOD_NS (200 * NS_PER_MS)
/* A chunk's share of a burst: reading and writing overlap in it. */
#define BURST_CHUNKS 4u
#define FIRST_BURST_BYTES (UINT64_C(64) << 10)
#define LEAST_BURST_BYTES (UINT64_C(4) << 10)
#define MOST_BURST_BYTES (UINT64_C(1) << 30)
/* However long a request took (a flush of a large cache): kcopyd waits no longer than a second for it. */
#define MOST_PAUSE_NS (10 * NS_PER_S)

void throttle_init(struct throttle *throttle, uint64_t (*now_ns)(void))
{
	*throttle = (struct throttle){ .now_ns = now_ns, .percent = THROTTLE_NONE, .granted = FIRST_BURST_BYTES };
}

static uint64_t clamp(uint64_t value, uint64_t least, uint64_t most)
{
	return value < least ? least : value > most ? most : value;
}

/* Powers of two: chunks begin at multiples of their size as long as it is the same. */
static uint64_t round_down(uint64_t bytes)
{
	uint64_t power = LEAST_BURST_BYTES;

	while (power <= bytes / 2)
		power *= 2;
	return power;
}

/* -- the limit ----------------------------------------------------------------------------------- */

void throttle_set_limit(struct throttle *throttle, uint64_t bytes_per_second)
{
	uint64_t now = throttle->now_ns();
	double owed_ns = 0;

	/* What is owed stays owed, or a limit that is set often would be none; but nobody is to wait long for it. */
	if (throttle->limit && bytes_per_second && throttle->paid_ns > now)
		owed_ns = (double)(throttle->paid_ns - now) * (double)throttle->limit / (double)bytes_per_second;
	if (owed_ns > (double)NS_PER_S)
		owed_ns = (double)NS_PER_S;
	throttle->limit = bytes_per_second;
	throttle->paid_ns = now + (uint64_t)owed_ns;
}

void throttle_read(struct throttle *throttle, uint64_t bytes)
{
	uint64_t now;

	if (!throttle->limit)
		return;
	now = throttle->now_ns();
	if (throttle->paid_ns + LIMIT_CREDIT_NS < now)
		throttle->paid_ns = now - LIMIT_CREDIT_NS;
	assert(bytes <= UINT64_MAX / NS_PER_S);
	throttle->paid_ns += bytes * NS_PER_S / throttle->limit;
}

static uint64_t ask_limit(const struct throttle *throttle, uint64_t *due_ns)
{
	uint64_t now = throttle->now_ns();

	if (now >= throttle->paid_ns)
		return round_down(throttle->limit / LIMIT_CHUNKS_PER_S);
	*due_ns = throttle->paid_ns - now < LEAST_WAIT_NS ? now + LEAST_WAIT_NS : throttle->paid_ns;
	return 0;
}

/* -- the throttle -------------------------------------------------------------------------------- */

static uint64_t burst_ns(const struct throttle *throttle)
{
	return PERIOD_NS * throttle->percent / 100;
}

/* Weighs the time since the last call. Idle time is saved for half a pause: somebody may wake up late. */
static void account(struct throttle *throttle)
{
	uint64_t now = throttle->now_ns(), passed = now - throttle->last_ns;
	int64_t idle_weight = throttle->percent, busy_weight = 100 - idle_weight;
	int64_t least = -(int64_t)(PERIOD_NS - burst_ns(throttle)) / 2 * idle_weight;
	int64_t most = (int64_t)MOST_PAUSE_NS * idle_weight;

	throttle->last_ns = now;
	if (throttle->in_flight > 0)
		throttle->busy_ns += passed;
	if (passed > MOST_PAUSE_NS)
		passed = MOST_PAUSE_NS;
	throttle->skew += throttle->in_flight > 0 ? (int64_t)passed * busy_weight : -(int64_t)passed * idle_weight;
	if (throttle->skew < least)
		throttle->skew = least;
	if (throttle->skew > most)
		throttle->skew = most;
}

void throttle_set_percent(struct throttle *throttle, unsigned int percent)
{
	assert(percent >= 1 && percent <= THROTTLE_NONE);
	if (percent == throttle->percent)
		return;
	throttle->percent = percent;
	throttle->last_ns = throttle->now_ns();
	throttle->skew = 0;
	throttle->is_closed = false;
	throttle->used = 0;
	throttle->busy_ns = 0;
}

/* As many bytes as the last one's time should have been enough for; more is only tried in steps. */
static void begin_burst(struct throttle *throttle)
{
	double bytes = (double)throttle->granted * 2;

	if (throttle->busy_ns > 0)
		bytes = (double)throttle->used * (double)burst_ns(throttle) / (double)throttle->busy_ns;
	if (bytes > (double)throttle->granted * 2)
		bytes = (double)throttle->granted * 2;
	throttle->granted = clamp((uint64_t)bytes, LEAST_BURST_BYTES, MOST_BURST_BYTES);
	throttle->is_closed = false;
	throttle->used = 0;
	throttle->busy_ns = 0;
}

static uint64_t ask_share(struct throttle *throttle, uint64_t *due_ns)
{
	/* A burst that lasts twice as long as it should is ended, whatever is left of it: the device has become slow. */
	int64_t most = 2 * (int64_t)burst_ns(throttle) * (100 - (int64_t)throttle->percent);
	uint64_t left;

	account(throttle);
	if (throttle->used >= throttle->granted || throttle->skew > most)
		throttle->is_closed = true;
	if (throttle->is_closed && throttle->in_flight > 0) {
		*due_ns = UINT64_MAX;
		return 0;
	}
	if (throttle->is_closed && throttle->skew > 0) {
		*due_ns = throttle->last_ns + (uint64_t)throttle->skew / throttle->percent + 1;
		return 0;
	}
	if (throttle->is_closed)
		begin_burst(throttle);
	left = throttle->granted - throttle->used;
	return round_down(left < throttle->granted / BURST_CHUNKS ? left : throttle->granted / BURST_CHUNKS);
}

void throttle_start(struct throttle *throttle, uint64_t bytes)
{
	throttle->used += bytes;
}

void throttle_io_begin(struct throttle *throttle)
{
	if (throttle->percent < THROTTLE_NONE)
		account(throttle);
	throttle->in_flight++;
}

void throttle_io_end(struct throttle *throttle)
{
	assert(throttle->in_flight > 0);
	if (throttle->percent < THROTTLE_NONE)
		account(throttle);
	throttle->in_flight--;
}

/* -- both ---------------------------------------------------------------------------------------- */

uint64_t throttle_ask(struct throttle *throttle, bool is_reading, uint64_t *due_ns)
{
	uint64_t most = THROTTLE_ANY, share;

	if (throttle->limit && is_reading)
		most = ask_limit(throttle, due_ns);
	if (most && throttle->percent < THROTTLE_NONE) {
		share = ask_share(throttle, due_ns);
		most = share < most ? share : most;
	}
	return most;
}
