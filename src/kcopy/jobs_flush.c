/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Jobs that were written are flushed in batches, each device once in a batch, beside those that are still copied.
 */
#include "jobs_run.h"

#include <errno.h>
#include <sys/stat.h>

/* So many are flushed together, if they do not wait for longer than ... */
#define BATCH_LINES 1024u
#define BATCH_OPERANDS 2560u
#define BATCH_MS 2000u

#define MAX_DIRECTORIES 16u

/* -- queues -------------------------------------------------------------------------------------- */

void jobs_queue_init(struct line_queue *queue)
{
	*queue = (struct line_queue){ .end = &queue->first };
}

void jobs_queue_put(struct line_queue *queue, struct line *line)
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

/* -- the engine's callbacks (client's thread) ---------------------------------------------------- */

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
		jobs_ring(jobs);
}

/* -- flushing ------------------------------------------------------------------------------------ */

/* Each device once, whatever number of lines wrote to it. */
static void collect_devices(struct jobs *jobs)
{
	bool is_seen[POOL_MOST] = { false };

	jobs->num_flushes = 0;
	for (const struct line *line = jobs->flushing.first; line; line = line->next) {
		for (unsigned int i = 1; i <= line->guard.num_dests; i++) {
			struct pool_entry *entry = line->extents[i].entry;
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
		jobs_queue_init(&jobs->flushing);
	jobs_queue_init(&jobs->written);
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
		unsigned int index = line->extents[number].entry->index;
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
		jobs_queue_put(&jobs->flushing, line);
	jobs->written = jobs->flushing;
	if (!jobs->written.first)
		jobs_queue_init(&jobs->written);
	jobs_queue_init(&jobs->flushing);
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
				keep_flush_error(line, number, errors[line->extents[number].entry->index]);
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
	return jobs->flight.num == 0 || jobs->held_text || jobs->written.num >= BATCH_LINES ||
	       jobs->written.num_operands >= BATCH_OPERANDS || jobs_now_ms() - jobs->written_ms >= BATCH_MS;
}

void jobs_tick_flush(struct jobs *jobs)
{
	if (jobs->num_flushes && atomic_load(&jobs->flushes_left) == 0)
		end_flush(jobs);
	if (is_flush_due(jobs))
		start_flush(jobs);
}
