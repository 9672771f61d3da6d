/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The reserve: runs of adjacent pages out, the same runs back, nothing twice and nothing lost. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "pages.h"
#include "scripted.h"

#define PAGE 4096u
#define HUGE ((uintptr_t)2 << 20)

static void no_pages_are_refused(void **state)
{
	struct pages *pages = NULL;

	(void)state;
	assert_int_equal(pages_create(0, &pages), -EINVAL);
	assert_null(pages);
}

static void more_than_the_machine_has_is_refused(void **state)
{
	struct pages *pages = NULL;

	(void)state;
	assert_int_equal(pages_create(UINT32_MAX, &pages), -ENOMEM); /* 16 TiB */
	assert_null(pages);
}

/* Pages @first to @first + @count - 1; of them, how many are populated? */
static unsigned int count_there(const struct pages *pages, unsigned int first, unsigned int count)
{
	unsigned char resident[4096];
	unsigned int num = 0;

	assert_true(count <= sizeof(resident));
	assert_int_equal(mincore(pages_address(pages, first), count * PAGE, resident), 0);
	for (unsigned int i = 0; i < count; i++)
		num += resident[i] & 1;
	return num;
}

static void every_page_is_there_before_it_is_touched(void **state)
{
	struct pages *pages;
	unsigned int first;

	(void)state;
	assert_int_equal(pages_create(1024, &pages), 0);
	assert_int_equal(pages_free(pages), 1024);
	assert_int_equal((uintptr_t)pages_address(pages, 0) % HUGE, 0);
	assert_int_equal(count_there(pages, 512, 512), 512);
	assert_int_equal(pages_get(pages, 1024, 1, 0, &first), 1024);
	assert_int_equal(count_there(pages, 0, 1024), 1024);
	assert_int_equal(first, 0);
	memset(pages_address(pages, 0), 1, 1024 * PAGE);
	assert_ptr_equal(pages_address(pages, 1023), pages_address(pages, 0) + 1023 * PAGE);
	pages_put(pages, 0, 1024);
	pages_destroy(pages);
}

/* Where chunks come from, and then the first small runs; no more of it than was asked for. */
static void steps_are_prepared_ahead(void **state)
{
	struct pages *pages;
	unsigned int first;

	(void)state;
	assert_int_equal(pages_create(4096, &pages), 0);
	assert_int_equal(count_there(pages, 0, 4096), 512);
	assert_true(pages_prepare(pages, 1400));
	assert_int_equal(count_there(pages, 4096 - 1024, 1024), 1024);
	assert_true(pages_prepare(pages, 1400));
	assert_int_equal(count_there(pages, 4096 - 1536, 1536), 1536);
	assert_int_equal(count_there(pages, 0, 4096), 1536);
	assert_true(pages_prepare(pages, 1400));
	assert_int_equal(count_there(pages, 0, 512), 512);
	assert_false(pages_prepare(pages, 1400));
	assert_int_equal(count_there(pages, 0, 4096), 2048);
	assert_int_equal(pages_get(pages, 600, 1, 0, &first), 600);
	assert_int_equal(count_there(pages, 0, 1024), 1024);
	pages_put(pages, 0, 600);
	pages_destroy(pages);
}

static void a_reserve_that_somebody_asked_for_is_there_at_once(void **state)
{
	struct pages *pages;

	(void)state;
	assert_int_equal(pages_create(4097, &pages), 0);
	assert_int_equal(count_there(pages, 0, 4096), 4096);
	assert_int_equal(count_there(pages, 4096, 1), 1);
	assert_false(pages_prepare(pages, 9999));
	pages_destroy(pages);
}

/* Between two parts that are, one that cannot be written to: as little to be had as memory that there is none of. */
static void what_cannot_be_populated_is_left_out(void **state)
{
	struct pages *pages;
	unsigned int first;

	(void)state;
	assert_int_equal(pages_create(1600, &pages), 0);
	assert_int_equal(mprotect(pages_address(pages, 512), 512 * PAGE, PROT_READ), 0);
	/* 1024 to 1599 are there. */
	assert_int_equal(pages_get(pages, 256, 256, 1, &first), 256);
	assert_int_equal(pages_get(pages, 256, 256, 1, &first), 256);
	assert_int_equal(first, 1600 - 512);
	assert_int_equal(pages_free(pages), 1600 - 512);
	assert_int_equal(pages_get(pages, 256, 1, 1, &first), 256);
	assert_int_equal(first, 256);
	assert_int_equal(pages_free(pages), 64 + 256);
	assert_int_equal(pages_get(pages, 512, 100, 0, &first), 200);
	assert_int_equal(first, 0);
	pages_put(pages, 0, 200);
	pages_put(pages, 256, 256);
	pages_put(pages, 1600 - 512, 512);
	assert_int_equal(pages_free(pages), 1600 - 512);
	while (pages_prepare(pages, 1600))
		;
	assert_int_equal(mprotect(pages_address(pages, 512), 512 * PAGE, PROT_READ | PROT_WRITE), 0);
	assert_int_equal(pages_get(pages, 1600, 512, 1, &first), 512);
	pages_put(pages, first, 512);
	pages_destroy(pages);
}

static void chunks_and_small_runs_come_from_opposite_ends(void **state)
{
	struct pages *pages;
	unsigned int first;

	(void)state;
	assert_int_equal(pages_create(16, &pages), 0);
	assert_int_equal(pages_get(pages, 4, 4, 1, &first), 4);
	assert_int_equal(first, 12);
	assert_int_equal(pages_get(pages, 2, 2, 0, &first), 2);
	assert_int_equal(first, 0);
	assert_int_equal(pages_get(pages, 4, 4, 1, &first), 4);
	assert_int_equal(first, 8);
	assert_int_equal(pages_get(pages, 1, 1, 0, &first), 1);
	assert_int_equal(first, 2);
	assert_int_equal(pages_free(pages), 5);
	pages_put(pages, 12, 4);
	pages_put(pages, 0, 3);
	pages_put(pages, 8, 4);
	pages_destroy(pages);
}

static void the_longest_run_is_taken_where_none_is_long_enough(void **state)
{
	struct pages *pages;
	unsigned int first = 99;

	(void)state;
	assert_int_equal(pages_create(16, &pages), 0);
	assert_int_equal(pages_get(pages, 16, 16, 0, &first), 16);
	assert_int_equal(pages_get(pages, 1, 1, 0, &first), 0);
	pages_put(pages, 1, 2);
	pages_put(pages, 5, 5);
	pages_put(pages, 12, 3); /* free: 1-2, 5-9, 12-14 */
	assert_int_equal(pages_free(pages), 10);
	assert_int_equal(pages_get(pages, 8, 6, 0, &first), 0);
	assert_int_equal(pages_free(pages), 10);
	assert_int_equal(pages_get(pages, 8, 2, 0, &first), 4); /* 5, but a multiple of 2 */
	assert_int_equal(first, 5);
	assert_int_equal(pages_get(pages, 3, 1, 0, &first), 3);
	assert_int_equal(first, 12);
	assert_int_equal(pages_get(pages, 3, 1, 1, &first), 2);
	assert_int_equal(first, 1);
	assert_int_equal(pages_get(pages, 3, 1, 1, &first), 1);
	assert_int_equal(first, 9);
	assert_int_equal(pages_free(pages), 0);
	pages_put(pages, 0, 16);
	pages_destroy(pages);
}

/* Where @act aborts, in a child. */
static void assert_aborts(void (*act)(struct pages *pages))
{
	struct rlimit no_core = { 0, 0 };
	int status;
	pid_t child = fork();

	assert_true(child >= 0);
	if (!child) {
		struct pages *pages;
		unsigned int first;

		setrlimit(RLIMIT_CORE, &no_core);
		signal(SIGABRT, SIG_DFL);
		if (!freopen("/dev/null", "w", stderr) || pages_create(4, &pages))
			_exit(2);
		pages_get(pages, 1, 1, 0, &first);
		act(pages);
		_exit(0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}

static void put_twice(struct pages *pages)
{
	pages_put(pages, 0, 1);
	pages_put(pages, 0, 1);
}

static void put_too_many(struct pages *pages)
{
	pages_put(pages, 0, 2);
}

static void lost_and_doubled_pages_are_noticed(void **state)
{
	(void)state;
#ifdef NDEBUG
	skip();
#endif
	assert_aborts(pages_destroy);
	assert_aborts(put_twice);
	assert_aborts(put_too_many);
}

#define MOST 64u

struct run {
	unsigned int first, count;
};

/* The longest run of pages that the model has free, @cap at the most. */
static unsigned int longest(const unsigned char *owner, unsigned int count, unsigned int cap)
{
	unsigned int i, length = 0, best = 0;

	for (i = 0; i < count; i++) {
		length = owner[i] ? 0 : length + 1;
		if (length > best)
			best = length;
	}
	return best < cap ? best : cap;
}

static void put_random(struct pages *pages, unsigned char *owner, struct run *runs, unsigned int *num, uint64_t *seed)
{
	unsigned int victim = (unsigned int)(script_random(seed) % *num), i;
	struct run run = runs[victim];

	for (i = run.first; i < run.first + run.count; i++) {
		char *page = pages_address(pages, i);

		assert_int_equal(owner[i], 1);
		assert_true(page[0] == (char)run.first &&
			    page[PAGE - 1] == (char)run.first); /* nobody else wrote there */
		owner[i] = 0;
	}
	pages_put(pages, run.first, run.count);
	runs[victim] = runs[--*num];
}

static void random_gets_and_puts_agree_with_a_model(void **state)
{
	uint64_t seed = script_seed();
	unsigned char owner[MOST] = { 0 };
	struct run runs[MOST];
	unsigned int num = 0, step, i, is_free = MOST;
	struct pages *pages;

	(void)state;
	assert_int_equal(pages_create(MOST, &pages), 0);
	for (step = 0; step < 20000; step++) {
		unsigned int min = 1 + (unsigned int)(script_random(&seed) % 4), first = 0, got, best;
		unsigned int want = min * (1 + (unsigned int)(script_random(&seed) % 8));

		if (num && script_random(&seed) % 2) {
			put_random(pages, owner, runs, &num, &seed);
		} else {
			best = longest(owner, MOST, want);
			got = pages_get(pages, want, min, script_random(&seed) % 2, &first);
			assert_int_equal(got, best - best % min);
			for (i = first; i < first + got; i++) {
				assert_int_equal(owner[i], 0);
				owner[i] = 1;
				memset(pages_address(pages, i), (char)first, PAGE);
			}
			if (got)
				runs[num++] = (struct run){ first, got };
		}
		for (i = is_free = 0; i < MOST; i++)
			is_free += !owner[i];
		assert_int_equal(pages_free(pages), is_free);
	}
	while (num)
		put_random(pages, owner, runs, &num, &seed);
	pages_destroy(pages);
}

static void held_pages_are_free_when_the_last_hold_is_released(void **state)
{
	struct pages *pages;
	unsigned int first, other;

	(void)state;
	assert_int_equal(pages_create(8, &pages), 0);
	assert_int_equal(pages_get(pages, 4, 4, 0, &first), 4);
	pages_hold(pages, first, 4);
	pages_hold(pages, first + 1, 1);
	assert_int_equal(pages_taken(pages), 4);
	pages_put(pages, first, 4);
	assert_int_equal(pages_taken(pages), 0);
	assert_int_equal(pages_free(pages), 4);
	assert_int_equal(pages_get(pages, 5, 5, 0, &other), 0);
	pages_release(pages, first, 4);
	assert_int_equal(pages_free(pages), 7);
	assert_int_equal(pages_get(pages, 8, 8, 0, &other), 0);
	pages_release(pages, first + 1, 1);
	assert_int_equal(pages_free(pages), 8);
	/* Also while they are taken: a hold alone frees nothing. */
	assert_int_equal(pages_get(pages, 8, 8, 0, &first), 8);
	pages_hold(pages, first, 8);
	pages_release(pages, first, 8);
	assert_int_equal(pages_free(pages), 0);
	pages_put(pages, first, 8);
	pages_destroy(pages);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(no_pages_are_refused),
		cmocka_unit_test(more_than_the_machine_has_is_refused),
		cmocka_unit_test(every_page_is_there_before_it_is_touched),
		cmocka_unit_test(steps_are_prepared_ahead),
		cmocka_unit_test(a_reserve_that_somebody_asked_for_is_there_at_once),
		cmocka_unit_test(what_cannot_be_populated_is_left_out),
		cmocka_unit_test(chunks_and_small_runs_come_from_opposite_ends),
		cmocka_unit_test(the_longest_run_is_taken_where_none_is_long_enough),
		cmocka_unit_test(lost_and_doubled_pages_are_noticed),
		cmocka_unit_test(held_pages_are_free_when_the_last_hold_is_released),
		cmocka_unit_test(random_gets_and_puts_agree_with_a_model),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
