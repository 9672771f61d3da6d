/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Bisection alone, against a range of blocks of which some are bad: which are found, how often each was tried, and
 * how few tries a range that is bad throughout costs.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "narrow.h"
#include "scripted.h"

#define BLOCK 512u
#define MOST 32768u /* blocks: 16 MiB, what is zeroed at once */

/* A range and what became of it. */
struct range {
	unsigned int blocks;
	bool is_bad[MOST], is_called_bad[MOST];
	unsigned int good_tries[MOST];	/* of a block: successes */
	unsigned int alone_tries[MOST]; /* of a block: failures, on its own */
	bool is_partial;		/* what precedes the first bad block of an attempt is transferred */
	bool is_ordered;
	unsigned int tries;
	uint32_t last_start;
};

/* One attempt. False: it failed after @good bytes. */
static bool attempt(struct range *range, uint32_t start, uint32_t bytes, uint64_t *good)
{
	unsigned int first = start / BLOCK, count = (bytes + BLOCK - 1) / BLOCK, n;

	assert_int_equal(start % BLOCK, 0);
	assert_true(bytes > 0 && first + count <= range->blocks);
	if (range->is_ordered)
		assert_true(start >= range->last_start);
	range->last_start = start;
	range->tries++;
	*good = 0;
	for (n = 0; n < count && !range->is_bad[first + n]; n++)
		;
	if (n < count) {
		range->alone_tries[first + n] += count == 1;
		if (!range->is_partial)
			return false;
		*good = n * BLOCK;
	}
	for (unsigned int i = first; i < first + n; i++)
		range->good_tries[i]++;
	return n == count;
}

static void call_bad(struct range *range, uint32_t start, uint32_t bytes)
{
	for (unsigned int n = start / BLOCK; n < (start + bytes + BLOCK - 1) / BLOCK; n++) {
		assert_false(range->is_called_bad[n]);
		range->is_called_bad[n] = true;
	}
}

/* Tries the range as a whole and narrows it down; its last block lacks @missing bytes. */
static void find(struct narrow *narrow, struct range *range, unsigned int missing)
{
	uint32_t start = 0, bytes = range->blocks * BLOCK - missing, bad_start, bad_bytes;
	uint64_t good;

	if (attempt(range, start, bytes, &good)) {
		narrow_alive(narrow);
		return;
	}
	memset(range->alone_tries, 0, range->blocks > 1 ? sizeof(range->alone_tries) : 0);
	narrow_start(narrow, start, bytes);
	do {
		if (narrow_bad(narrow, good, &bad_start, &bad_bytes))
			call_bad(range, bad_start, bad_bytes);
		while (narrow_next(narrow, &start, &bytes) && attempt(range, start, bytes, &good))
			narrow_good(narrow);
	} while (narrow_next(narrow, &start, &bytes));
}

static void assert_found(const struct range *range)
{
	for (unsigned int n = 0; n < range->blocks; n++)
		assert_int_equal(range->is_called_bad[n], range->is_bad[n]);
}

static void set_bad(struct range *range, unsigned int first, unsigned int count)
{
	for (unsigned int n = first; n < first + count && n < range->blocks; n++)
		range->is_bad[n] = true;
}

static struct range *range_create(unsigned int blocks)
{
	struct range *range = calloc(1, sizeof(*range));

	assert_non_null(range);
	range->blocks = blocks;
	return range;
}

static void random_bad_blocks_are_found_and_tried_so_often(void **state)
{
	uint64_t seed = script_seed();
	struct narrow narrow;

	(void)state;
	for (unsigned int round = 0; round < 3000; round++) {
		struct range *range = range_create(1 + (unsigned int)(script_random(&seed) % 300));
		unsigned int retries = (unsigned int)(script_random(&seed) % 4), areas, run = 0;

		range->is_partial = script_random(&seed) & 1;
		range->is_ordered = script_random(&seed) & 1;
		for (areas = (unsigned int)(script_random(&seed) % 5); areas > 0; areas--)
			set_bad(range, (unsigned int)(script_random(&seed) % range->blocks),
				1 + (unsigned int)(script_random(&seed) % 8));
		narrow_init(&narrow, BLOCK, retries, range->is_ordered);
		find(&narrow, range, script_random(&seed) & 1 ? 100 : 0);
		assert_found(range);
		for (unsigned int n = 0; n < range->blocks; n++) {
			assert_int_equal(range->good_tries[n], !range->is_bad[n]);
			/* With a part moved, the last try of several blocks may have been one at this block alone. */
			run = range->is_bad[n] ? run + 1 : 0;
			if (range->is_bad[n] && !range->is_partial)
				assert_int_equal(range->alone_tries[n], 1 + (run <= NARROW_RUN_RETRIES ? retries : 0));
		}
		free(range);
	}
}

static void the_first_bad_block_costs_few_tries(void **state)
{
	struct range *range = range_create(MOST);
	struct narrow narrow;
	uint32_t start = 0, bytes = MOST * BLOCK;
	uint64_t good;

	(void)state;
	set_bad(range, 12345, MOST);
	narrow_init(&narrow, BLOCK, 2, false);
	narrow_start(&narrow, start, bytes);
	assert_false(attempt(range, start, bytes, &good));
	while (!narrow_bad(&narrow, good, &start, &bytes))
		while (narrow_next(&narrow, &start, &bytes) && attempt(range, start, bytes, &good))
			narrow_good(&narrow);
	assert_int_equal(start, 12345 * BLOCK);
	assert_int_equal(bytes, BLOCK);
	assert_true(range->tries <= 1 + 16 + 2);
	free(range);
}

/* Wherever it begins and ends, and though most of its blocks are never tried. */
static void one_area_is_found_exactly_however_large(void **state)
{
	uint64_t seed = script_seed();
	struct narrow narrow;

	(void)state;
	for (unsigned int round = 0; round < 300; round++) {
		struct range *range = range_create(MOST);
		unsigned int first = (unsigned int)(script_random(&seed) % MOST);

		range->is_partial = round & 1;
		set_bad(range, first, 1 + (unsigned int)(script_random(&seed) % (MOST - first)));
		narrow_init(&narrow, BLOCK, 2, false);
		find(&narrow, range, 0);
		assert_found(range);
		/* Where it ends, each halving has a success of its own to begin anew with. */
		assert_true(range->tries < 16 * NARROW_RUN_SAMPLE);
		free(range);
	}
}

static void a_dead_device_costs_few_tries(void **state)
{
	struct range *range = range_create(MOST);
	struct narrow narrow;
	unsigned int first_range;

	(void)state;
	set_bad(range, 0, MOST);
	narrow_init(&narrow, BLOCK, 2, false);
	find(&narrow, range, 0);
	assert_found(range);
	first_range = range->tries;
	assert_true(first_range < 2 * NARROW_RUN_SAMPLE + 2 * NARROW_RUN_RETRIES + 100);
	/* And every further range that of its samples. */
	memset(range->is_called_bad, 0, sizeof(range->is_called_bad));
	find(&narrow, range, 0);
	assert_found(range);
	assert_int_equal(range->tries, first_range + 4);
	free(range);
}

/* What is good in the samples' places is enough for all of it to be looked at. */
static void a_success_ends_the_sampling(void **state)
{
	static const unsigned int places[] = { 0, 1023, 2047 };
	struct narrow narrow;

	(void)state;
	for (unsigned int i = 0; i < 3; i++) {
		struct range *range = range_create(2048);

		set_bad(range, 0, 2048);
		narrow_init(&narrow, BLOCK, 2, false);
		find(&narrow, range, 0);
		assert_found(range);
		assert_true(narrow.run >= NARROW_RUN_SAMPLE);
		memset(range->is_called_bad, 0, sizeof(range->is_called_bad));
		range->is_bad[places[i]] = false;
		find(&narrow, range, 0);
		assert_found(range);
		free(range);
	}
}

static void nothing_is_tried_out_of_order_where_that_is_asked_for(void **state)
{
	struct range *range = range_create(4096);
	struct narrow narrow;

	(void)state;
	range->is_ordered = true;
	set_bad(range, 0, 4096);
	range->is_bad[4000] = false;
	narrow_init(&narrow, BLOCK, 1, true);
	find(&narrow, range, 0);
	assert_found(range);
	free(range);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(random_bad_blocks_are_found_and_tried_so_often),
		cmocka_unit_test(the_first_bad_block_costs_few_tries),
		cmocka_unit_test(one_area_is_found_exactly_however_large),
		cmocka_unit_test(a_dead_device_costs_few_tries),
		cmocka_unit_test(a_success_ends_the_sampling),
		cmocka_unit_test(nothing_is_tried_out_of_order_where_that_is_asked_for),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
