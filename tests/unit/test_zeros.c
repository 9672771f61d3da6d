/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Zeros are found wherever they are, and nothing else is taken for them; and the pieces that a transfer is cut into cover
 * it once, in order, with as many zeros as the destination's rules allow.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "scripted.h"
#include "zeros.h"

#define PAGE KCOPYD_PAGE_BYTES

/* Of exactly so many bytes, so that the sanitizers see who looks beyond them; the first one at @shift of a word. */
static char *allocate(size_t shift, size_t bytes, char **base)
{
	*base = malloc(shift + bytes + 1);
	assert_non_null(*base);
	memset(*base, 0xff, shift + bytes + 1);
	memset(*base + shift, 0, bytes);
	return *base + shift;
}

static void zeros_of_every_length_at_every_alignment_are_found(void **state)
{
	(void)state;
	for (size_t shift = 0; shift < 32; shift += script_is_slow() ? 5 : 1) {
		for (size_t bytes = 0; bytes < 1100; bytes += bytes < 300 ? 1 : 7) {
			char *base, *data = allocate(shift, bytes, &base);

			assert_true(zeros_fill(data, bytes));
			free(base);
		}
	}
}

static void a_single_bit_anywhere_is_seen(void **state)
{
	static const size_t lengths[] = { 1, 2, 7, 8, 9, 63, 64, 65, 255, 256, 257, 511, 512, 777 };

	(void)state;
	for (size_t shift = 0; shift < 17; shift += script_is_slow() ? 5 : 1) {
		for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
			char *base, *data = allocate(shift, lengths[i], &base);

			for (size_t bit = 0; bit < lengths[i] * 8; bit++) {
				data[bit / 8] = (char)(1u << bit % 8);
				if (zeros_fill(data, lengths[i]))
					fail_msg("bit %zu of %zu bytes at %zu was not seen", bit, lengths[i], shift);
				data[bit / 8] = 0;
			}
			free(base);
		}
	}
}

static void a_single_byte_in_a_megabyte_is_seen(void **state)
{
	const size_t bytes = 256 * PAGE;
	char *data = calloc(1, bytes);
	uint64_t map[4];

	(void)state;
	assert_non_null(data);
	assert_true(zeros_fill(data, bytes));
	assert_int_equal(zeros_find(data, bytes, 0, map), 256);
	for (size_t at = 0; at < bytes; at += script_is_slow() ? 8009 : 509) {
		data[at] = 1;
		assert_false(zeros_fill(data, bytes));
		assert_int_equal(zeros_find(data, bytes, PAGE, map), 255);
		assert_false(map[at / PAGE / 64] >> at / PAGE % 64 & 1);
		data[at] = 0;
	}
	free(data);
}

static void a_short_last_page_counts_as_one(void **state)
{
	char *base, *data = allocate(0, 2 * PAGE + 512, &base);
	uint64_t map[1];

	(void)state;
	assert_int_equal(zeros_find(data, 2 * PAGE + 512, 0, map), 3);
	assert_int_equal(map[0], 7);
	data[2 * PAGE + 511] = 1;
	assert_int_equal(zeros_find(data, 2 * PAGE + 512, 0, map), 2);
	assert_int_equal(map[0], 3);
	free(base);
}

/* Of @bytes with those pages zeros that @zero says: every run that is long enough, and nothing that is none. */
static void check_runs(const char *data, const bool *zero, size_t bytes, size_t least)
{
	size_t pages = (bytes + PAGE - 1) / PAGE, found, counted = 0, first, end;
	uint64_t map[5] = { 0 };

	map[4] = 0x5a; /* nothing behind the last word is touched */
	found = zeros_find(data, bytes, least, map);
	assert_int_equal(map[4], 0x5a);
	for (first = 0; first < pages; first = end + 1) {
		for (end = first; end < pages && zero[end]; end++)
			counted += map[end / 64] >> end % 64 & 1;
		if (end < pages)
			assert_false(map[end / 64] >> end % 64 & 1);
		if (end > first && (end * PAGE < bytes ? end * PAGE : bytes) - first * PAGE >= least)
			for (size_t page = first; page < end; page++)
				assert_true(map[page / 64] >> page % 64 & 1);
	}
	assert_int_equal(counted, found);
}

static void every_run_that_is_long_enough_is_found(void **state)
{
	static const size_t leasts[] = { 0, 512, PAGE, PAGE + 512, 3 * PAGE, 16 * PAGE, 64 * PAGE, 256 * PAGE };
	char *base, *data = allocate(0, 256 * PAGE, &base);
	uint64_t seed = script_seed();
	bool zero[256];

	(void)state;
	for (unsigned int round = 0; round < (script_is_slow() ? 100u : 1000u); round++) {
		size_t bytes = (1 + script_random(&seed) % (256 * 8)) * KCOPYD_SECTOR_BYTES, page = 0;
		bool is_zero = script_random(&seed) % 2;

		while (page < 256) {
			size_t run = 1 + script_random(&seed) % (script_random(&seed) % 3 ? 5 : 130);

			for (; run > 0 && page < 256; run--, page++) {
				zero[page] = is_zero;
				memset(data + page * PAGE, 0, PAGE);
				/* In its first sector: of the last page that may be all. */
				if (!is_zero)
					data[page * PAGE + script_random(&seed) % KCOPYD_SECTOR_BYTES] = 1;
			}
			is_zero = !is_zero;
		}
		for (size_t i = 0; i < sizeof(leasts) / sizeof(leasts[0]); i++)
			check_runs(data, zero, bytes, leasts[i]);
	}
	free(base);
}

/* -- pieces -------------------------------------------------------------------------------------- */

static bool has_bit(const uint64_t *map, uint64_t page)
{
	return map[page / 64] >> page % 64 & 1;
}

/*
 * The rules in the simplest words, for one byte: it is zeroed if it is in a run of zero pages of which, when its ends are
 * cut to the destination's alignment, what is left is long enough and has that byte.
 */
static bool is_to_be_zeroed(const uint64_t *map, uint32_t bytes, uint64_t offset, const struct zeros_rules *rules,
			    uint32_t byte)
{
	uint64_t first = byte / PAGE, end = first, from, to;

	if (!has_bit(map, first))
		return false;
	while (first > 0 && has_bit(map, first - 1))
		first--;
	while (end * PAGE < bytes && has_bit(map, end))
		end++;
	from = first * PAGE;
	to = end * PAGE < bytes ? end * PAGE : bytes;
	while (from > 0 && (offset + from) % rules->align)
		from += KCOPYD_SECTOR_BYTES;
	while (to < bytes && to > 0 && (offset + to) % rules->align)
		to -= KCOPYD_SECTOR_BYTES;
	return from <= byte && byte < to && to - from >= rules->least;
}

static void check_pieces(const uint64_t *map, uint32_t bytes, uint64_t offset, const struct zeros_rules *rules)
{
	uint32_t start = 0, sector;
	bool is_zero, was_zero = false;

	while (start < bytes) {
		uint32_t length = zeros_cut(map, bytes, start, offset, rules, &is_zero);

		assert_true(length > 0 && length <= bytes - start);
		/* As few as possible. */
		if (start > 0 && !is_zero)
			assert_true(was_zero);
		for (sector = start; sector < start + length; sector += KCOPYD_SECTOR_BYTES)
			if (is_to_be_zeroed(map, bytes, offset, rules, sector) != is_zero)
				fail_msg("byte %" PRIu32 " of %" PRIu32 " to %" PRIu64 " (align %" PRIu32
					 ", least %" PRIu32 ") is %szeroed",
					 sector, bytes, offset, rules->align, rules->least, is_zero ? "" : "not ");
		was_zero = is_zero;
		start += length;
	}
	assert_int_equal(start, bytes);
}

static void pieces_are_what_the_rules_say(void **state)
{
	static const uint32_t aligns[] = { PAGE, 2 * PAGE, 16 * PAGE };
	uint64_t seed = script_seed();

	(void)state;
	for (unsigned int round = 0; round < (script_is_slow() ? 1000u : 20000u); round++) {
		uint32_t bytes = (uint32_t)(1 + script_random(&seed) % (256 * 8)) * KCOPYD_SECTOR_BYTES;
		uint64_t map[4] = { 0 }, offset = script_random(&seed) % 100000 * KCOPYD_SECTOR_BYTES;
		struct zeros_rules rules = { .align = aligns[script_random(&seed) % 3] };
		uint32_t page = 0, pages = (bytes + PAGE - 1) / PAGE;
		bool is_set = false;

		if (script_random(&seed) % 2)
			rules.least = rules.align;
		if (script_random(&seed) % 2)
			offset -= offset % (16 * PAGE);
		while (page < pages) {
			uint64_t run = 1 + script_random(&seed) % (script_random(&seed) % 3 ? 5 : 70);

			for (; run > 0 && page < pages; run--, page++)
				map[page / 64] |= (uint64_t)is_set << page % 64;
			is_set = !is_set;
		}
		check_pieces(map, bytes, offset, &rules);
	}
}

static void nothing_but_zeros_is_one_piece_wherever_it_goes(void **state)
{
	static const struct zeros_rules rules = { .align = 16 * PAGE, .least = 16 * PAGE };
	const uint64_t all[4] = { ~UINT64_C(0), ~UINT64_C(0), ~UINT64_C(0), ~UINT64_C(0) }, none[4] = { 0 };
	bool is_zero;

	(void)state;
	assert_int_equal(zeros_cut(all, 256 * PAGE, 0, 512, &rules, &is_zero), 256 * PAGE);
	assert_true(is_zero);
	assert_int_equal(zeros_cut(none, 256 * PAGE, 0, 512, &rules, &is_zero), 256 * PAGE);
	assert_false(is_zero);
	/* Too short for a device. */
	assert_int_equal(zeros_cut(all, 15 * PAGE, 0, 0, &rules, &is_zero), 15 * PAGE);
	assert_false(is_zero);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(zeros_of_every_length_at_every_alignment_are_found),
		cmocka_unit_test(a_single_bit_anywhere_is_seen),
		cmocka_unit_test(a_single_byte_in_a_megabyte_is_seen),
		cmocka_unit_test(a_short_last_page_counts_as_one),
		cmocka_unit_test(every_run_that_is_long_enough_is_found),
		cmocka_unit_test(pieces_are_what_the_rules_say),
		cmocka_unit_test(nothing_but_zeros_is_one_piece_wherever_it_goes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
