/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "jobs_run.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "log.h"
#include "signals.h"

/* Lines, and their operands, that are not told yet: all the memory that they have. */
#define MAX_LINES 3072u
#define MAX_OPERANDS 8192u

/* So many are copied at a time; and more of those that write so little that a device would be done with them too soon. */
#define MAX_IN_FLIGHT 128u
#define MAX_SMALL_BYTES ((uint64_t)8 << 20)

#define STATUS_MAX_DEST 6u
#define PAGE_SECTORS (KCOPYD_PAGE_BYTES / KCOPYD_SECTOR_BYTES)

uint64_t jobs_now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static int while_copying(void)
{
	return 0;
}

int jobs_open(struct jobs *jobs)
{
	jobs_queue_init(&jobs->written);
	jobs_queue_init(&jobs->flushing);
	jobs->done_end = &jobs->done;
	pthread_mutex_init(&jobs->lock, NULL);
	jobs->has_lock = true;
	jobs->done_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (jobs->done_fd >= 0)
		return 0;
	log_error("%s", strerror(errno));
	return -EMFILE;
}

void jobs_close(struct jobs *jobs)
{
	kcopyd_client_destroy(jobs->client);
	line_destroy(jobs->held);
	free(jobs->held_text);
	if (jobs->has_lock)
		pthread_mutex_destroy(&jobs->lock);
	if (jobs->done_fd >= 0)
		close(jobs->done_fd);
}

/* -- the engine's callbacks (client's thread) ---------------------------------------------------- */

void jobs_ring(struct jobs *jobs)
{
	uint64_t one = 1;

	(void)!write(jobs->done_fd, &one, sizeof(one));
}

static void line_done(int read_err, unsigned int write_err, void *context)
{
	struct line *line = context;
	struct jobs *jobs = line->owner;
	bool is_enough;

	line->has_read_error = read_err > 0;
	line->is_cancelled = read_err < 0;
	line->failed = write_err; /* all destinations are in it, in their order */
	if ((read_err > 0 || write_err) && jobs->options->on_error == ON_ERROR_STOP) {
		atomic_store(&jobs->is_stopped, true);
		kcopyd_client_cancel(jobs->client);
	}
	pthread_mutex_lock(&jobs->lock);
	line->is_done = true;
	line->next = NULL;
	*jobs->done_end = line;
	jobs->done_end = &line->next;
	is_enough = ++jobs->num_done == jobs->wake_at || line == jobs->awaited || read_err || write_err;
	pthread_mutex_unlock(&jobs->lock);
	if (is_enough)
		jobs_ring(jobs);
}

static bool has_ended(const struct jobs *jobs)
{
	return jobs->is_cancelled || atomic_load(&jobs->is_stopped);
}

/* -- who has ended ------------------------------------------------------------------------------- */

/* So many lines have to end before there is something to do; 0: whatever ends, there is not. */
static unsigned int find_wake_at(const struct jobs *jobs)
{
	const struct flight *flight = &jobs->flight;

	if (jobs->held_text)
		return 1;
	if (jobs->blocker || jobs->is_at_end || jobs->is_waiting_for_line || has_ended(jobs))
		return flight->num;
	return flight->num > MAX_IN_FLIGHT ? flight->num / 4 : 1;
}

bool jobs_may_wait(struct jobs *jobs)
{
	unsigned int wake_at = find_wake_at(jobs);
	bool is_enough;

	pthread_mutex_lock(&jobs->lock);
	is_enough = (wake_at && jobs->num_done >= wake_at) || (jobs->blocker && jobs->blocker->is_done);
	jobs->wake_at = wake_at;
	jobs->awaited = jobs->blocker;
	pthread_mutex_unlock(&jobs->lock);
	return !is_enough;
}

static void take_done(struct jobs *jobs)
{
	struct line *line, *next;

	pthread_mutex_lock(&jobs->lock);
	line = jobs->done;
	jobs->done = NULL;
	jobs->done_end = &jobs->done;
	jobs->num_done = 0;
	jobs->wake_at = 0;
	jobs->awaited = NULL;
	pthread_mutex_unlock(&jobs->lock);
	for (; line; line = next) {
		next = line->next;
		flight_take(&jobs->flight, line);
		jobs->done_bytes += line_bytes(line);
		if (jobs->written.num == 0)
			jobs->written_ms = jobs_now_ms();
		jobs_queue_put(&jobs->written, line);
	}
}

/* -- starting ------------------------------------------------------------------------------------ */

static unsigned int copy_flags(const struct options *options)
{
	unsigned int sparse = options->writes_zeros ? 0 : KCOPYD_SPARSE;

	switch (options->on_error) {
	case ON_ERROR_STOP:
		return sparse;
	case ON_ERROR_IGNORE:
		return sparse | KCOPYD_IGNORE_ERROR;
	case ON_ERROR_DROP:
		break;
	}
	return sparse | KCOPYD_DROP_FAILED;
}

/* What is printed from here on is why the line at hand is refused, if it is. */
static void keep_reasons(void)
{
	log_keep(false);
	log_keep(true);
}

/* A line that cannot be: none of its destinations has what it should have. */
static void refuse(struct jobs *jobs, unsigned long number, struct line *line, unsigned int num_dests)
{
	uint32_t failed = num_dests < KCOPYD_MAX_DESTS ? (1u << num_dests) - 1 : UINT32_MAX;

	jobs->failed |= failed;
	jobs->totals.incomplete++;
	jobs_put_line(jobs, number, line, "refused", failed);
	line_destroy(line);
	if (jobs->options->on_error == ON_ERROR_STOP)
		atomic_store(&jobs->is_stopped, true);
}

static bool has_room(const struct jobs *jobs)
{
	const struct flight *flight = &jobs->flight;

	return flight->num < (flight->bytes < MAX_SMALL_BYTES ? FLIGHT_LINES : MAX_IN_FLIGHT) &&
	       flight->num + jobs->written.num + jobs->flushing.num < MAX_LINES &&
	       jobs->written.num_operands + jobs->flushing.num_operands < MAX_OPERANDS;
}

/* @line goes to the engine, unless it has to wait: false. */
static bool start_line(struct jobs *jobs, struct line *line)
{
	const struct options *options = jobs->options;
	unsigned int report_flags = REPORT_TERSE;

	jobs->blocker = flight_find_blocker(&jobs->flight, jobs->pool, line);
	if (jobs->blocker)
		return false;
	if (options->on_error == ON_ERROR_IGNORE)
		report_flags |= REPORT_IGNORING;
	if (options->has_json)
		report_flags |= REPORT_KEEPING;
	line->owner = jobs;
	keep_reasons();
	jobs_set_context(jobs, line->number);
	if (line_start(jobs->pool, line, jobs->client, copy_flags(options), report_flags, line_done)) {
		refuse(jobs, line->number, line, line->guard.num_dests);
	} else {
		flight_put(&jobs->flight, line);
		jobs->num_started++;
	}
	log_set_context(NULL);
	return true;
}

static void hold_text(struct jobs *jobs, const char *text, unsigned long number)
{
	char *copy = strdup(text);

	free(jobs->held_text);
	jobs->held_text = copy;
	jobs->held_number = number;
	if (copy)
		return;
	log_error("%s:%lu: %s", job_list_name(jobs->list), number, strerror(ENOMEM));
	refuse(jobs, number, NULL, 1);
}

/* The text of a line becomes the held line, or is held itself, or is done with. */
static void take_text(struct jobs *jobs, const char *text, unsigned long number)
{
	unsigned int num_dests;
	struct line *line;
	int ret = jobs_parse(jobs, text, number, false, &line, &num_dests);

	jobs->held_number = number;
	if (ret == -EAGAIN) {
		hold_text(jobs, text, number);
		return;
	}
	if (ret == -EINTR)
		return; /* the signal is seen by jobs_wait() */
	if (ret)
		refuse(jobs, number, line, num_dests);
	else
		jobs->held = line;
}

/* False: nothing can be begun now. */
static bool take_next(struct jobs *jobs)
{
	unsigned long number;
	char *text;

	if (jobs->held_text) {
		text = jobs->held_text;
		jobs->held_text = NULL;
		take_text(jobs, text, jobs->held_number);
		free(text);
		return !jobs->held_text;
	}
	keep_reasons();
	switch (job_list_next(jobs->list, &text, &number)) {
	case JOB_LIST_LINE:
		take_text(jobs, text, number);
		return !jobs->held_text;
	case JOB_LIST_WAIT:
		jobs->is_waiting_for_line = true;
		return false;
	case JOB_LIST_FAILED:
		refuse(jobs, jobs->held_number + 1, NULL, 1);
		break;
	case JOB_LIST_END:
		break;
	}
	jobs->is_at_end = true;
	return false;
}

static void start_lines(struct jobs *jobs)
{
	jobs->is_waiting_for_line = false;
	jobs->blocker = NULL;
	while (!has_ended(jobs) && has_room(jobs)) {
		if (jobs->held) {
			struct line *line = jobs->held;

			if (!start_line(jobs, line))
				return;
			jobs->held = NULL;
		} else if (jobs->is_at_end || !take_next(jobs)) {
			return;
		}
		if (signals_pending())
			return;
	}
}

/* What is left of the list when it ends early. */
static void find_next_line(struct jobs *jobs)
{
	unsigned long number;
	char *text;

	if (jobs->held || jobs->held_text)
		jobs->totals.next_line = jobs->held_number;
	else if (has_ended(jobs) && !jobs->is_at_end && job_list_next(jobs->list, &text, &number) == JOB_LIST_LINE)
		jobs->totals.next_line = number;
}

/* Nothing will be copied any more: there may be flushes to come. */
static bool is_copied(const struct jobs *jobs)
{
	bool has_more = jobs->held || jobs->held_text || !jobs->is_at_end;

	return (!has_more || has_ended(jobs)) && jobs->flight.num == 0;
}

static bool is_over(const struct jobs *jobs)
{
	return is_copied(jobs) && jobs->written.num == 0 && jobs->num_flushes == 0;
}

/* What a few small jobs cannot use need not be set aside. */
static unsigned int choose_pages(const struct jobs *jobs)
{
	uint64_t needed = jobs->total_bytes / KCOPYD_PAGE_BYTES + jobs->num_checked + 2 * PAGE_SECTORS;
	/* One that is read and one that is written for each that may be under way. */
	uint64_t most = 2 * FLIGHT_LINES * (jobs->largest / PAGE_SECTORS + 1);

	if (most < needed && !jobs->is_any_deferred)
		needed = most;
	if (jobs->options->has_pages || jobs->num_checked == 0 || needed > jobs->options->pages)
		return jobs->options->pages;
	return (unsigned int)needed;
}

int jobs_copy(struct jobs *jobs)
{
	unsigned int pages = choose_pages(jobs);
	int ret = kcopyd_client_create(pages, &jobs->client);

	if (ret) {
		log_error("a reserve of %u pages of 4 KiB cannot be set aside: %s; try a smaller --pages", pages,
			  strerror(-ret));
		return ret;
	}
	if (jobs->options->stall_timeout)
		pool_share(jobs->pool, (uint64_t)pages * KCOPYD_PAGE_BYTES);
	kcopyd_client_set_observer(jobs->client, &line_observer, NULL);
	kcopyd_client_set_retries(jobs->client, jobs->options->retries);
	kcopyd_client_set_max_lag(jobs->client, jobs->options->max_lag == KCOPYD_LAG_AUTO ? 0 : jobs->options->max_lag);
	pace_open(&jobs->pace, jobs->client, &jobs->options->speed);
	progress_start(&jobs->progress, !jobs->options->is_quiet, 0);
	log_set_patience(while_copying);
	for (;;) {
		start_lines(jobs);
		jobs_tick_flush(jobs);
		if (is_over(jobs))
			break;
		if (is_copied(jobs) && !jobs->has_json) /* which still describes them */
			pool_close_sources(jobs->pool);
		jobs_wait(jobs, jobs->is_waiting_for_line);
		take_done(jobs);
	}
	pace_close(&jobs->pace);
	log_set_patience(signals_patience);
	find_next_line(jobs);
	log_keep(false);
	if (jobs->num_started > 0 || jobs->totals.incomplete > 0)
		jobs_print_summary(jobs);
	else if (!has_ended(jobs))
		log_error("%s: there are no jobs in it", job_list_name(jobs->list));
	return 0;
}

int jobs_status(const struct jobs *jobs)
{
	int status = jobs->has_read_error ? 1 : 0;

	for (unsigned int number = 1; number <= KCOPYD_MAX_DESTS; number++)
		if (jobs->failed >> (number - 1) & 1)
			status |= 1 << (number < STATUS_MAX_DEST ? number : STATUS_MAX_DEST);
	return status;
}
