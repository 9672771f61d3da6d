/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "jobs_run.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "log.h"
#include "signals.h"

/* Lines, and their operands, that are not told yet: all the memory that they have. */
#define MAX_LINES 3072u
#define MAX_OPERANDS 8192u
/* So many are flushed together, if they do not wait for longer than ... */
#define BATCH_LINES 1024u
#define BATCH_MS 2000u

#define WARN_MS 10000u
#define MAX_DIRECTORIES 16u

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

/* -- queues -------------------------------------------------------------------------------------- */

static void queue_init(struct line_queue *queue)
{
	*queue = (struct line_queue){ .end = &queue->first };
}

static void queue_put(struct line_queue *queue, struct line *line)
{
	line->next = NULL;
	*queue->end = line;
	queue->end = &line->next;
	queue->num++;
	queue->num_operands += line->guard.num_dests + 1;
}

static struct line *queue_take(struct line_queue *queue)
{
	struct line *line = queue->first;

	if (!line)
		return NULL;
	queue->first = line->next;
	if (!queue->first)
		queue->end = &queue->first;
	queue->num--;
	queue->num_operands -= line->guard.num_dests + 1;
	return line;
}

int jobs_open(struct jobs *jobs)
{
	queue_init(&jobs->written);
	queue_init(&jobs->flushing);
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

static void ring(struct jobs *jobs)
{
	uint64_t one = 1;

	(void)!write(jobs->done_fd, &one, sizeof(one));
}

static void line_done(int read_err, unsigned int write_err, void *context)
{
	struct line *line = context;
	struct jobs *jobs = line->owner;
	bool is_first;

	line->has_read_error = read_err > 0;
	line->is_cancelled = read_err < 0;
	line->failed = write_err; /* all destinations are in it, in their order */
	if ((read_err > 0 || write_err) && jobs->options->on_error == ON_ERROR_STOP) {
		atomic_store(&jobs->is_stopped, true);
		kcopyd_client_cancel(jobs->client);
	}
	pthread_mutex_lock(&jobs->lock);
	is_first = !jobs->done;
	line->next = jobs->done;
	jobs->done = line;
	pthread_mutex_unlock(&jobs->lock);
	if (is_first)
		ring(jobs);
}

static void flush_error(struct jobs_context *context, const struct kcopyd_error *error)
{
	((struct jobs_flush *)(void *)context)->errors[error->dest] = error->error;
}

static void flush_done(int read_err, unsigned int write_err, void *context)
{
	struct jobs_flush *flush = context;
	struct jobs *jobs = flush->jobs;

	flush->is_cancelled = read_err < 0;
	for (unsigned int i = 0; i < flush->num; i++)
		if ((write_err >> i & 1) && !flush->errors[i])
			flush->errors[i] = EIO;
	if (atomic_fetch_sub(&jobs->flushes_left, 1) == 1)
		ring(jobs);
}

/* -- waiting ------------------------------------------------------------------------------------- */

static void look_at_stalls(struct jobs *jobs)
{
	for (unsigned int i = 0; i < POOL_MOST; i++) {
		struct pool_entry *entry = pool_at(jobs->pool, i);
		unsigned int ms = entry ? kcopyd_device_stalled_ms(entry->operand->bdev, NULL) : 0;

		if (!entry)
			continue;
		if (entry->is_told && ms < entry->stalled_ms) {
			log_info("%s: goes on, after %u s", entry->operand->name, entry->stalled_ms / 1000);
			entry->is_told = false;
		}
		entry->stalled_ms = ms;
		if (ms < WARN_MS || entry->is_told)
			continue;
		entry->is_told = true;
		log_warning("%s: has completed nothing for %u s", entry->operand->name, ms / 1000);
	}
}

/* Everything that was started ends soon, and nothing is started any more. */
static void cancel(struct jobs *jobs)
{
	jobs->is_cancelled = true;
	if (jobs->client)
		kcopyd_client_cancel(jobs->client);
}

void jobs_wait(struct jobs *jobs, bool is_reading)
{
	struct pollfd fds[] = {
		{ .fd = jobs->done_fd, .events = POLLIN },
		{ .fd = jobs->is_cancelled ? -1 : signals_fd(), .events = POLLIN },
		{ .fd = is_reading ? job_list_fd(jobs->list) : -1, .events = POLLIN },
	};
	uint64_t count;

	if (poll(fds, 3, PROGRESS_INTERVAL_MS) < 0)
		fds[0].revents = 0;
	if (fds[0].revents)
		(void)!read(jobs->done_fd, &count, sizeof(count));
	if (signals_pending() && !jobs->is_cancelled) {
		cancel(jobs);
		log_warning("%s: ending in order; once more to end at once", strsignal(signals_pending()));
	}
	/* What was accepted just behind the first failure missed its cancel. */
	if (atomic_load(&jobs->is_stopped) && !jobs->is_cancelled)
		cancel(jobs);
	look_at_stalls(jobs);
	progress_update(&jobs->progress, jobs->done_bytes, jobs->total_bytes, false);
}

static void take_done(struct jobs *jobs)
{
	struct line *line, *next, *all = NULL;

	pthread_mutex_lock(&jobs->lock);
	line = jobs->done;
	jobs->done = NULL;
	pthread_mutex_unlock(&jobs->lock);
	for (; line; line = next) { /* in the order in which they ended */
		next = line->next;
		line->next = all;
		all = line;
	}
	for (line = all; line; line = next) {
		unsigned int i = 0;

		next = line->next;
		while (jobs->in_flight[i] != line)
			i++;
		jobs->in_flight[i] = jobs->in_flight[--jobs->num_in_flight];
		for (unsigned int number = 1; number <= line->guard.num_dests; number++)
			jobs->done_bytes += line->guard.operands[number].region.count * KCOPYD_SECTOR_BYTES;
		if (jobs->written.num == 0)
			jobs->written_ms = jobs_now_ms();
		queue_put(&jobs->written, line);
	}
}

/* -- flushing ------------------------------------------------------------------------------------ */

/* Each device once, whatever number of lines wrote to it. */
static void collect_devices(struct jobs *jobs)
{
	bool is_seen[POOL_MOST] = { false };

	jobs->num_flushes = 0;
	for (const struct line *line = jobs->flushing.first; line; line = line->next) {
		for (unsigned int i = 1; i <= line->guard.num_dests; i++) {
			struct pool_entry *entry = line->entries[i];
			struct jobs_flush *flush = &jobs->flushes[jobs->num_flushes ? jobs->num_flushes - 1 : 0];

			if (is_seen[entry->index])
				continue;
			is_seen[entry->index] = true;
			if (jobs->num_flushes == 0 || flush->num == KCOPYD_MAX_DESTS) {
				flush = &jobs->flushes[jobs->num_flushes++];
				*flush = (struct jobs_flush){ .context.on_error = flush_error, .jobs = jobs };
			}
			flush->entries[flush->num] = entry;
			flush->dests[flush->num++] = (struct io_region){ .bdev = entry->operand->bdev };
		}
	}
}

static void start_flush(struct jobs *jobs)
{
	jobs->flushing = jobs->written;
	if (!jobs->flushing.first)
		queue_init(&jobs->flushing);
	queue_init(&jobs->written);
	collect_devices(jobs);
	atomic_store(&jobs->flushes_left, jobs->num_flushes);
	for (unsigned int i = 0; i < jobs->num_flushes; i++) {
		struct jobs_flush *flush = &jobs->flushes[i];
		int ret = kcopyd_flush(jobs->client, flush->num, flush->dests, flush_done, flush);

		if (ret == 0)
			continue;
		for (unsigned int j = 0; j < flush->num; j++)
			flush->errors[j] = -ret;
		flush_done(0, 0, flush);
	}
}

/* The names of new files. Many of them may be in one directory, which is flushed once. */
static int flush_name(struct operand *operand, struct stat *directories, unsigned int *num)
{
	struct stat st;
	int ret;

	if (!operand->is_created || operand->has_safe_name || fstat(operand->dir_fd, &st))
		return operand_flush_name(operand);
	for (unsigned int i = 0; i < *num; i++) {
		if (directories[i].st_dev == st.st_dev && directories[i].st_ino == st.st_ino) {
			operand->has_safe_name = true;
			return 0;
		}
	}
	ret = operand_flush_name(operand);
	if (ret == 0 && *num < MAX_DIRECTORIES)
		directories[(*num)++] = st;
	return ret;
}

static void flush_names(struct jobs *jobs, int *name_errors)
{
	struct stat directories[MAX_DIRECTORIES];
	unsigned int num = 0;

	for (unsigned int i = 0; i < jobs->num_flushes; i++)
		for (unsigned int j = 0; j < jobs->flushes[i].num; j++)
			if (!jobs->flushes[i].errors[j])
				name_errors[jobs->flushes[i].entries[j]->index] =
					-flush_name(jobs->flushes[i].entries[j]->operand, directories, &num);
}

static void finish_flushed(struct jobs *jobs, struct line *line, const int *errors, const int *name_errors)
{
	uint32_t flushed = 0;

	for (unsigned int number = 1; number <= line->guard.num_dests; number++) {
		unsigned int index = line->entries[number]->index;
		uint32_t bit = 1u << (number - 1);
		int error = errors[index] ? errors[index] : name_errors[index];

		if (!error) {
			flushed |= bit;
			continue;
		}
		report_add_failure(line->report, number, errors[index] ? "flush" : "flush of its directory", error);
		line->failed |= bit;
	}
	jobs_finish_line(jobs, line, flushed);
	line_destroy(line);
}

/* Lines that were to be flushed, and were not: a signal came. They are still to be. */
static void put_back(struct jobs *jobs)
{
	struct line *line;

	while ((line = queue_take(&jobs->written)))
		queue_put(&jobs->flushing, line);
	jobs->written = jobs->flushing;
	if (!jobs->written.first)
		queue_init(&jobs->written);
	queue_init(&jobs->flushing);
}

/* An error is told once: it must not get lost. */
static void keep_flush_error(struct line *line, unsigned int number, int error)
{
	if (!error)
		return;
	report_add_failure(line->report, number, "flush", error);
	line->failed |= 1u << (number - 1);
}

static void end_flush(struct jobs *jobs)
{
	int errors[POOL_MOST] = { 0 }, name_errors[POOL_MOST] = { 0 };
	bool is_cancelled = false;
	struct line *line;

	for (unsigned int i = 0; i < jobs->num_flushes; i++) {
		is_cancelled |= jobs->flushes[i].is_cancelled;
		for (unsigned int j = 0; j < jobs->flushes[i].num; j++)
			errors[jobs->flushes[i].entries[j]->index] = jobs->flushes[i].errors[j];
	}
	if (is_cancelled) {
		for (line = jobs->flushing.first; line; line = line->next)
			for (unsigned int number = 1; number <= line->guard.num_dests; number++)
				keep_flush_error(line, number, errors[line->entries[number]->index]);
		put_back(jobs);
		jobs->num_flushes = 0;
		return;
	}
	flush_names(jobs, name_errors);
	while ((line = queue_take(&jobs->flushing)))
		finish_flushed(jobs, line, errors, name_errors);
	if (jobs->options->on_error == ON_ERROR_STOP && jobs->failed)
		atomic_store(&jobs->is_stopped, true);
	jobs->num_flushes = 0;
}

/* Nothing is gained by waiting for more lines. */
static bool is_flush_due(const struct jobs *jobs)
{
	if (jobs->num_flushes || jobs->written.num == 0)
		return false;
	return jobs->num_in_flight == 0 || jobs->held_text || jobs->written.num >= BATCH_LINES ||
	       jobs_now_ms() - jobs->written_ms >= BATCH_MS;
}

static void tick_flush(struct jobs *jobs)
{
	if (jobs->num_flushes && atomic_load(&jobs->flushes_left) == 0)
		end_flush(jobs);
	if (is_flush_due(jobs))
		start_flush(jobs);
}

/* -- starting ------------------------------------------------------------------------------------ */

static unsigned int policy_flags(enum on_error policy)
{
	return policy == ON_ERROR_STOP ? 0 : policy == ON_ERROR_IGNORE ? KCOPYD_IGNORE_ERROR : KCOPYD_DROP_FAILED;
}

/* A line that cannot be: none of its destinations has what it should have. */
static void refuse(struct jobs *jobs, unsigned long number, struct line *line, unsigned int num_dests)
{
	jobs->failed |= num_dests < KCOPYD_MAX_DESTS ? (1u << num_dests) - 1 : UINT32_MAX;
	jobs->totals.incomplete++;
	jobs_put_line(jobs, number, line, "refused");
	line_destroy(line);
	if (jobs->options->on_error == ON_ERROR_STOP)
		atomic_store(&jobs->is_stopped, true);
}

static bool has_ended(const struct jobs *jobs)
{
	return jobs->is_cancelled || atomic_load(&jobs->is_stopped);
}

static bool has_room(const struct jobs *jobs)
{
	return jobs->num_in_flight < JOBS_IN_FLIGHT &&
	       jobs->num_in_flight + jobs->written.num + jobs->flushing.num < MAX_LINES &&
	       jobs->written.num_operands + jobs->flushing.num_operands < MAX_OPERANDS;
}

/* @line goes to the engine, unless it has to wait: false. */
static bool start_line(struct jobs *jobs, struct line *line)
{
	const struct options *options = jobs->options;
	unsigned int report_flags = REPORT_TERSE;

	for (unsigned int i = 0; i < jobs->num_in_flight; i++)
		if (line_must_wait(jobs->pool, line, jobs->in_flight[i]))
			return false;
	if (options->on_error == ON_ERROR_IGNORE)
		report_flags |= REPORT_IGNORING;
	if (options->has_json)
		report_flags |= REPORT_KEEPING;
	line->owner = jobs;
	jobs->in_flight[jobs->num_in_flight++] = line;
	jobs_set_context(jobs, line->number);
	if (line_start(jobs->pool, line, jobs->client, policy_flags(options->on_error), report_flags, line_done)) {
		jobs->num_in_flight--;
		refuse(jobs, line->number, line, line->guard.num_dests);
	} else {
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

static bool is_over(const struct jobs *jobs)
{
	bool has_more = jobs->held || jobs->held_text || !jobs->is_at_end;

	return (!has_more || has_ended(jobs)) && jobs->num_in_flight == 0 && jobs->written.num == 0 &&
	       jobs->num_flushes == 0;
}

/* What a few small jobs cannot use need not be set aside. */
static unsigned int choose_pages(const struct jobs *jobs)
{
	uint64_t needed = jobs->total_bytes / KCOPYD_PAGE_BYTES + jobs->num_checked + 2 * PAGE_SECTORS;

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
	kcopyd_client_set_observer(jobs->client, &line_observer, NULL);
	kcopyd_client_set_retries(jobs->client, jobs->options->retries);
	progress_start(&jobs->progress, !jobs->options->is_quiet);
	log_set_patience(while_copying);
	for (;;) {
		start_lines(jobs);
		tick_flush(jobs);
		if (is_over(jobs))
			break;
		jobs_wait(jobs, jobs->is_waiting_for_line);
		take_done(jobs);
	}
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
