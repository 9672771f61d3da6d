/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tune.h"

#include "kcopyd.h"

#define NS_PER_MS UINT64_C(1000000)
#define NS_PER_S UINT64_C(1000000000)
/* A rate is counted over so many times the bytes in use, and for so long; where that takes long, over all of them once. */
#define WINDOW_TURNS 3u
#define WINDOW_NS (30 * NS_PER_MS)
#define LONG_WINDOW_NS (250 * NS_PER_MS)
/* In percent. More pages have to be worth it; fewer must not cost anything. */
#define GAIN 110u
#define LOSS 97u
/* So much more needs no second look. */
#define LARGE_GAIN 150u
#define FIRST_HOLD_NS (5 * NS_PER_S)
/* What is near and fast has little to gain by more, and a trial costs 1 % of the first second. */
#define NEAR_HOLD_NS NS_PER_S
#define LONGEST_HOLD_NS (60 * NS_PER_S)
/* Bytes a second. One that moves a head between reading and writing copies less than that. */
#define ROTATING_RATE ((uint64_t)200 << 20)
/* A MiB in 2.5 ms: more than comes from the surface of any disk. */
#define FIRST_READ_RATE ((uint64_t)400 << 20)
/* The first chunk in some milliseconds: no long way to go. */
#define NEAR_RATE ((uint64_t)100 << 20)

void tune_init(struct tune *tune, unsigned int num_pages, uint64_t (*now_ns)(void))
{
	*tune = (struct tune){ .now_ns = now_ns, .num_pages = num_pages, .hold_ns = FIRST_HOLD_NS };
	tune->fewest = num_pages < TUNE_FEW_PAGES ? num_pages : TUNE_FEW_PAGES;
	tune->kept.pages = num_pages;
	tune->state = TUNE_OFF;
	if (num_pages > TUNE_FEW_PAGES) {
		tune->kept.pages = TUNE_FEW_PAGES;
		tune->state = TUNE_BEFORE;
		tune->is_settling = true;
	}
	tune->shape = tune->kept;
}

void tune_off(struct tune *tune)
{
	tune->is_unwanted = true;
}

static void enter(struct tune *tune, enum tune_state state, struct tune_shape shape)
{
	tune->state = state;
	tune->is_settling = tune->shape.pages != shape.pages || tune->shape.alternates != shape.alternates;
	tune->shape = shape;
	tune->bytes = 0;
	tune->since_ns = tune->now_ns();
}

void tune_need(struct tune *tune, unsigned int pages)
{
	if (pages > tune->num_pages)
		pages = tune->num_pages;
	if (pages > tune->needed)
		tune->needed = pages;
	if (pages > tune->fewest)
		tune->fewest = pages;
}

static bool has_begun(const struct tune *tune)
{
	return tune->state != TUNE_BEFORE || tune->bytes > 0 || tune->since_ns > 0;
}

void tune_may_begin_with_least(struct tune *tune)
{
	if (tune->read > 0 || (has_begun(tune) && tune->state != TUNE_FIRST_TURN))
		return;
	tune->is_near = true;
	tune->since_ns = tune->now_ns();
}

void tune_may_alternate(struct tune *tune)
{
	if (tune->may_alternate)
		return;
	tune->may_alternate = true;
	if (!has_begun(tune))
		enter(tune, TUNE_FIRST_TURN, (struct tune_shape){ .pages = TUNE_FEW_PAGES, .alternates = true });
}

/* What the step would lead to. False: nowhere. */
static bool find_shape(const struct tune *tune, enum tune_step step, struct tune_shape *shape)
{
	*shape = tune->kept;
	switch (step) {
	case TUNE_MORE:
		shape->pages = shape->pages > tune->num_pages / 2 ? tune->num_pages : shape->pages * 2;
		return shape->pages > tune->kept.pages;
	case TUNE_ALTERNATE:
		shape->alternates = true;
		shape->pages = tune->num_pages;
		return tune->may_alternate && !tune->kept.alternates && tune->before < ROTATING_RATE;
	case TUNE_LESS:
		if (tune->has_gained)
			return false; /* by what this would undo */
		shape->alternates = false;
		if (!tune->kept.alternates)
			shape->pages = shape->pages / 2 > tune->fewest ? shape->pages / 2 : tune->fewest;
		return tune->kept.alternates || shape->pages < tune->kept.pages;
	case TUNE_STEPS:
		break;
	}
	return false;
}

static void hold(struct tune *tune)
{
	tune->step = TUNE_MORE;
	tune->has_gained = false;
	enter(tune, TUNE_HOLD, tune->kept);
}

/* Tries the next step that leads somewhere; there is none: all were tried, and for a while that was it. */
static void begin_trial(struct tune *tune)
{
	struct tune_shape shape;

	for (; tune->step < TUNE_STEPS; tune->step++) {
		if (find_shape(tune, tune->step, &shape)) {
			enter(tune, TUNE_TRIAL, shape);
			return;
		}
	}
	hold(tune);
}

/* Is a rate more than so many percent of another one? */
static bool is_above(uint64_t rate, uint64_t other, unsigned int percent)
{
	return rate / percent > other / 100;
}

static void keep(struct tune *tune, struct tune_shape shape)
{
	tune->kept = shape;
	tune->hold_ns = FIRST_HOLD_NS;
	if (tune->step == TUNE_LESS) {
		hold(tune);
		return;
	}
	tune->has_gained = true;
	enter(tune, TUNE_BEFORE, shape); /* for the same step once more */
}

/* The trial is behind us, and so is what followed it; @after is the rate of that. */
static void decide(struct tune *tune, uint64_t after)
{
	uint64_t rate = after > tune->before ? after : tune->before;
	struct tune_shape shape;

	if (find_shape(tune, tune->step, &shape) &&
	    is_above(tune->trial, rate, tune->step == TUNE_LESS ? LOSS : GAIN)) {
		keep(tune, shape);
		return;
	}
	tune->step++;
	tune->before = after;
	begin_trial(tune);
}

static bool is_content(const struct tune *tune, uint64_t rate)
{
	return tune->is_near && !tune->has_waited && tune->kept.pages == tune->fewest && rate > FIRST_READ_RATE;
}

static void hold_once(struct tune *tune)
{
	tune->has_waited = true;
	tune->hold_ns = NEAR_HOLD_NS;
	hold(tune);
}

static void end_window(struct tune *tune, uint64_t rate)
{
	switch (tune->state) {
	case TUNE_BEFORE:
		tune->before = rate;
		if (is_content(tune, rate))
			hold_once(tune);
		else
			begin_trial(tune);
		break;
	case TUNE_TRIAL:
		tune->trial = rate;
		if (tune->step != TUNE_LESS && is_above(rate, tune->before, LARGE_GAIN))
			keep(tune, tune->shape);
		else
			enter(tune, TUNE_AFTER, tune->kept);
		break;
	case TUNE_AFTER:
		decide(tune, rate);
		break;
	case TUNE_FIRST_TURN:
		tune->may_alternate = rate < ROTATING_RATE;
		if (tune->may_alternate)
			tune->kept = (struct tune_shape){ .pages = tune->num_pages, .alternates = true };
		tune->has_gained = tune->may_alternate; /* a short copy is not to be done in the other way */
		enter(tune, TUNE_BEFORE, tune->kept);
		break;
	case TUNE_HOLD:
	case TUNE_OFF:
		break;
	}
}

static void switch_off(struct tune *tune)
{
	tune->state = TUNE_OFF;
	tune->kept = (struct tune_shape){ .pages = tune->num_pages };
	tune->shape = tune->kept;
}

/* What was tried with fewer tells nothing of this. */
static void use_fewest(struct tune *tune)
{
	tune->kept.pages = tune->fewest;
	tune->step = TUNE_MORE;
	tune->has_gained = false;
	enter(tune, TUNE_BEFORE, tune->kept);
}

static uint64_t find_rate(const struct tune *tune, uint64_t bytes, uint64_t now_ns)
{
	uint64_t ns = now_ns - tune->since_ns;

	return (uint64_t)((double)bytes * NS_PER_S / (double)(ns ? ns : 1));
}

/*
 * From its surface no disk reads its first chunk so fast: why finish the turn? If it came from a cache, turns are tried
 * later, as more pages are.
 */
static void look_at_first_read(struct tune *tune)
{
	uint64_t rate = find_rate(tune, tune->read, tune->now_ns());

	tune->has_seen_read = true;
	if (tune->is_near && rate > NEAR_RATE && tune->fewest == TUNE_FEW_PAGES) {
		tune->fewest = tune->needed > TUNE_LEAST_PAGES ? tune->needed : TUNE_LEAST_PAGES;
		tune->kept.pages = tune->fewest;
	}
	if (tune->state != TUNE_FIRST_TURN || rate > FIRST_READ_RATE)
		enter(tune, TUNE_BEFORE, tune->kept);
}

static void look(struct tune *tune)
{
	uint64_t in_use = (uint64_t)tune->shape.pages * KCOPYD_PAGE_BYTES, now_ns, rate;

	if ((tune->state == TUNE_FIRST_TURN || tune->is_near) && tune->read > 0 && !tune->has_seen_read) {
		look_at_first_read(tune);
		return;
	}
	if (tune->is_settling && tune->state != TUNE_FIRST_TURN) {
		if (tune->bytes < in_use)
			return;
		tune->is_settling = false;
		tune->bytes = 0;
		tune->since_ns = tune->now_ns();
		return;
	}
	if (tune->bytes < (tune->state == TUNE_HOLD ? WINDOW_TURNS * in_use : in_use))
		return;
	now_ns = tune->now_ns();
	if (tune->state == TUNE_HOLD) {
		tune->bytes = 0; /* the clock is not asked for each chunk */
		if (now_ns - tune->since_ns < tune->hold_ns)
			return;
		tune->hold_ns = tune->hold_ns * 2 < LONGEST_HOLD_NS ? tune->hold_ns * 2 : LONGEST_HOLD_NS;
		if (tune->hold_ns < FIRST_HOLD_NS)
			tune->hold_ns = FIRST_HOLD_NS;
		enter(tune, TUNE_BEFORE, tune->kept);
		return;
	}
	rate = find_rate(tune, tune->bytes, now_ns);
	/* What is to bring a tenth and begins with less than before is not worth the rest of its window. */
	if (tune->state == TUNE_TRIAL && tune->step == TUNE_MORE && rate < tune->before) {
		tune->step++;
		begin_trial(tune);
		return;
	}
	if (tune->state == TUNE_FIRST_TURN || now_ns - tune->since_ns >= LONG_WINDOW_NS ||
	    (tune->bytes >= WINDOW_TURNS * in_use && now_ns - tune->since_ns >= WINDOW_NS))
		end_window(tune, rate);
}

bool tune_look(struct tune *tune)
{
	struct tune_shape before = tune->shape;

	if (tune->state == TUNE_OFF)
		return false;
	if (tune->is_unwanted)
		switch_off(tune);
	else if (tune->kept.pages < tune->fewest)
		use_fewest(tune);
	else
		look(tune);
	return tune->shape.pages != before.pages || tune->shape.alternates != before.alternates;
}
