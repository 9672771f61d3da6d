/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A list that can be read twice is checked as a whole first. Then each line is a copy. They are begun in their order; one
 * that overlaps another that is under way waits for it, and so do all behind it. What was written is flushed in
 * batches: a line has succeeded when all its destinations were flushed after its last write, and not before.
 */
#include "jobs.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "jobs_run.h"
#include "log.h"
#include "signals.h"

/* Nobody reads more than that. */
#define MAX_BAD_LINES 100u
/* Of the list, in front of a message. */
#define MAX_NAME ((size_t)200)

/* -- what a line says ---------------------------------------------------------------------------- */

/* Several times for each line, and for nothing almost always. */
void jobs_set_context(struct jobs *jobs, unsigned long number)
{
	char *at = jobs->context + sizeof(jobs->context);
	const char *name = job_list_name(jobs->list);
	size_t length = strlen(name);

	*--at = '\0';
	*--at = ' ';
	*--at = ':';
	do {
		*--at = (char)('0' + number % 10);
	} while (number /= 10);
	*--at = ':';
	length = length < MAX_NAME ? length : MAX_NAME;
	at -= length;
	memcpy(at, name, length);
	log_set_context(at);
}

/* 0 and no words: nothing is there. -EINVAL: that was printed. */
static int split(const char *text, struct words *words)
{
	const char *reason;
	size_t at;
	int ret = words_split(text, words, &reason, &at);

	if (ret == -EINVAL)
		log_error("character %zu: %s", at, reason);
	else if (ret)
		log_error("%s", strerror(-ret));
	return ret ? -EINVAL : 0;
}

int jobs_parse(struct jobs *jobs, const char *text, unsigned long number, bool is_checking, struct line **line,
	       unsigned int *num_dests)
{
	struct words words;
	int ret;

	*line = NULL;
	*num_dests = 1;
	log_keep(is_checking ? jobs->is_collecting : false);
	log_keep(true);
	jobs_set_context(jobs, number);
	if (job_list_has_read(jobs->list))
		pool_doubt_names(jobs->pool);
	ret = split(text, &words);
	if (ret == 0 && words.num > 0) {
		*num_dests = words.num > 1 ? (unsigned int)words.num - 1 : 1;
		ret = line_create(jobs->pool, number, &words, is_checking, line);
	}
	if (ret == 0 || ret == -EINVAL || ret == -EAGAIN)
		words_free(&words);
	if (ret == -ENOMEM) {
		log_error("%s", strerror(ENOMEM));
		ret = -EINVAL;
	}
	log_set_context(NULL);
	return ret;
}

/* -- the first pass ------------------------------------------------------------------------------ */

static void count_line(struct jobs *jobs, const struct line *line)
{
	sector_t count = line->guard.operands[0].region.count;

	jobs->num_checked++;
	jobs->total_bytes += line_bytes(line);
	jobs->is_any_deferred |= line->is_deferred;
	if (count > jobs->largest)
		jobs->largest = count;
}

static int wait_for_line(struct jobs *jobs)
{
	jobs_wait(jobs, true);
	return signals_pending() ? -EINTR : 0;
}

/* 0; -EINVAL: what was printed; -EINTR. */
static int check_line(struct jobs *jobs, const char *text, unsigned long number)
{
	unsigned int num_dests;
	struct line *line;
	int ret = jobs_parse(jobs, text, number, true, &line, &num_dests);

	if (ret == 0 && line)
		count_line(jobs, line);
	if (jobs->options->guard.is_dry && (line || ret == -EINVAL))
		jobs_put_line(jobs, number, line, ret ? "refused" : "checked", 0);
	line_destroy(line);
	if (ret == -EAGAIN) /* nobody has anything open but this line */
		log_error("%s:%lu: too many operands", job_list_name(jobs->list), number);
	return ret == -EAGAIN ? -EINVAL : ret;
}

/* All lines, before anything is written. 0; -EINVAL: refused; -EINTR. */
static int check_all(struct jobs *jobs)
{
	enum job_list_state state;
	unsigned long number;
	unsigned int bad = 0;
	char *text;
	int ret = 0;

	jobs->is_collecting = !jobs->options->guard.is_dry;
	for (;;) {
		state = job_list_next(jobs->list, &text, &number);
		if (state == JOB_LIST_WAIT)
			ret = wait_for_line(jobs);
		else if (state == JOB_LIST_LINE)
			ret = signals_pending() ? -EINTR : check_line(jobs, text, number);
		else
			break;
		if (ret == -EINTR)
			return ret;
		bad += ret == -EINVAL;
		if (bad == MAX_BAD_LINES) {
			log_error("%s: %u lines are wrong; those behind line %lu were not looked at",
				  job_list_name(jobs->list), bad, number);
			return -EINVAL;
		}
	}
	if (!jobs->is_collecting)
		log_keep(false); /* that was the last line's */
	log_keep(true);
	jobs->is_collecting = false;
	if (state == JOB_LIST_FAILED || bad)
		return -EINVAL;
	if (jobs->num_checked == 0) {
		log_error("%s: there are no jobs in it", job_list_name(jobs->list));
		return -EINVAL;
	}
	return 0;
}

/* -- all together -------------------------------------------------------------------------------- */

static void tell_check(const struct jobs *jobs)
{
	if (!jobs->has_json)
		printf("Would do %lu job%s. Nothing was written.\n", jobs->num_checked,
		       jobs->num_checked == 1 ? "" : "s");
	if (!jobs->has_json && (fflush(stdout) || ferror(stdout)))
		log_error("standard output: %s", strerror(errno));
}

/* Nothing but the report was opened or written. */
static void check_and_run(struct jobs *jobs, struct clone_result *result)
{
	const struct options *options = jobs->options;
	int ret = 0;

	if (options->guard.is_dry || job_list_can_rewind(jobs->list))
		ret = check_all(jobs);
	if (ret == 0 && options->guard.is_dry) {
		tell_check(jobs);
		result->status = ferror(stdout) ? CLONE_REFUSED : 0;
		return;
	}
	if (ret == 0 && job_list_can_rewind(jobs->list))
		ret = job_list_rewind(jobs->list);
	if (ret == 0)
		ret = jobs_copy(jobs);
	if (ret || jobs->num_started == 0) {
		log_verdict("nothing was written");
		return;
	}
	result->status = jobs_status(jobs);
}

static int open_all(struct jobs *jobs)
{
	const struct options *options = jobs->options;
	const char *lists[] = { options->jobs_path, NULL };

	if (job_list_open(options->jobs_path, &jobs->list))
		return -EINVAL;
	if (options->has_json && json_file_open(&jobs->json, "report", options->json_path,
						&(struct guard){ .num_dests = 0 }, NULL, lists) == 0) {
		jobs->has_json = true;
		if (json_file_clear(&jobs->json) || report_json_begin(&jobs->json, options->guard.is_dry))
			jobs_drop_report(jobs);
	}
	if (options->has_json && !jobs->has_json)
		return -EINVAL;
	if (pool_create(&options->guard, &jobs->pool)) {
		log_error("%s", strerror(ENOMEM));
		return -ENOMEM;
	}
	pool_forbid(jobs->pool, job_list_fd(jobs->list), "the list of jobs");
	if (jobs->has_json && options->json_path)
		pool_forbid(jobs->pool, jobs->json.fd, "where the report goes");
	return jobs_open(jobs);
}

void jobs_run(const struct options *options, struct clone_result *result)
{
	struct jobs *jobs = calloc(1, sizeof(*jobs));

	*result = (struct clone_result){ .status = CLONE_REFUSED };
	if (!jobs) {
		log_error("%s", strerror(ENOMEM));
		return;
	}
	jobs->options = options;
	jobs->done_fd = -1;
	jobs->begin_ms = jobs_now_ms();
	if (open_all(jobs) == 0)
		check_and_run(jobs, result);
	result->signal = signals_pending();
	jobs_end_report(jobs, result);
	jobs_stall_tell_result(jobs, result);
	jobs_close(jobs);
	pool_destroy(jobs->pool);
	job_list_close(jobs->list);
	free(jobs);
}
