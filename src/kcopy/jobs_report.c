/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What is told of jobs: a line for each that is not good, and of the others with --verbose; the report as JSON.
 */
#include "jobs_run.h"

#include <errno.h>

#include "log.h"
#include "signals.h"

void jobs_drop_report(struct jobs *jobs)
{
	json_file_abandon(&jobs->json);
	jobs->has_json = false;
	jobs->has_lost_report = true;
}

static void put(struct jobs *jobs, const char *state, const struct report_facts *facts)
{
	if (!jobs->has_json)
		return;
	if (report_json_put_line(&jobs->json, !jobs->has_put, state, facts))
		jobs_drop_report(jobs);
	jobs->has_put = true;
}

void jobs_put_line(struct jobs *jobs, unsigned long number, const struct line *line, const char *state, uint32_t failed)
{
	const struct guard nothing = { .operands = NULL };
	const struct report_facts facts = { .line = number, .guard = line ? &line->guard : &nothing, .failed = failed };

	put(jobs, state, &facts);
}

/* Nothing went wrong, so everything must be there. Counted, not concluded. */
static void check_complete(struct line *line, uint32_t flushed)
{
	if (line->has_read_error || line->failed || line->is_cancelled)
		return;
	for (unsigned int number = 1; number <= line->guard.num_dests; number++) {
		if ((flushed >> (number - 1) & 1) && report_is_complete(line->report, number))
			continue;
		report_add_failure(line->report, number, "accounting", EIO);
		line->failed |= 1u << (number - 1);
	}
}

/* Of the others there is nothing to say. */
static bool is_told(const struct jobs *jobs, const struct line *line)
{
	return jobs->options->is_verbose || line->failed || line->is_cancelled || line->has_read_error;
}

static const char *state_of(const struct line *line)
{
	if (line->failed)
		return "failed";
	if (line->is_cancelled)
		return signals_pending() ? "interrupted" : "incomplete";
	return line->has_read_error ? "incomplete" : "complete";
}

void jobs_finish_line(struct jobs *jobs, struct line *line, uint32_t flushed)
{
	struct report_facts facts = { .line = line->number, .guard = &line->guard, .report = line->report };

	log_keep(false); /* why another one was refused is no reason of this one's */
	check_complete(line, flushed);
	report_end(line->report, flushed & ~line->failed, line->is_cancelled && signals_pending());
	if (is_told(jobs, line)) {
		jobs_set_context(jobs, line->number);
		report_print(line->report);
		log_set_context(NULL);
	}
	jobs->totals.written_bytes += line_written_bytes(line);
	if (line->failed || line->is_cancelled || line->has_read_error)
		jobs->totals.incomplete++;
	else
		jobs->totals.complete++;
	jobs->has_read_error |= line->has_read_error;
	jobs->failed |= line->failed;
	facts.has_read_error = line->has_read_error;
	facts.failed = line->failed;
	jobs_stall_describe(line, &facts);
	put(jobs, state_of(line), &facts);
}

void jobs_print_summary(const struct jobs *jobs)
{
	unsigned long num = jobs->totals.complete + jobs->totals.incomplete;
	const char *name = job_list_name(jobs->list);

	log_status(NULL);
	if (jobs->totals.incomplete)
		log_error("%s: %lu of %lu jobs %s NOT complete", name, jobs->totals.incomplete, num,
			  jobs->totals.incomplete == 1 ? "is" : "are");
	else
		log_info("%s: %lu job%s complete, written and flushed", name, num, num == 1 ? "" : "s");
	if (jobs->totals.next_line)
		log_error("%s: from line %lu on nothing was begun", name, jobs->totals.next_line);
}

void jobs_end_report(struct jobs *jobs, struct clone_result *result)
{
	const struct guard nothing = { .operands = NULL };
	const struct report_facts facts = {
		.guard = &nothing,
		.status = result->status,
		.signal = result->signal,
		.elapsed_ms = jobs_now_ms() - jobs->begin_ms,
		.has_read_error = jobs->has_read_error,
		.failed = jobs->failed,
		.speed = jobs->client ? jobs->pace.speed : jobs->options->speed,
	};
	int ret;

	if (jobs->has_json) {
		ret = report_json_end(&jobs->json, &jobs->totals, &facts);
		if (ret == 0)
			ret = json_file_close(&jobs->json);
		if (ret)
			jobs_drop_report(jobs);
		jobs->has_json = false;
	}
	if (jobs->has_lost_report && result->status == 0)
		result->status = jobs->options->guard.is_dry ? CLONE_REFUSED : CLONE_UNREPORTED;
}
