/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One of the engine's jobs: its destinations, and that it has ended.
 */
#include <unistd.h>

#include "clone_copy.h"

void clone_job_begin(struct clone *clone, struct clone_job *job)
{
	job->report.report = clone->report;
	job->clone = clone;
	job->num_dests = 0;
	job->failed = 0;
	job->is_cancelled = false;
	atomic_store(&job->state, JOB_RUNNING);
}

void clone_job_add(struct clone *clone, struct clone_job *job, unsigned int number, sector_t skip, sector_t count)
{
	struct io_region *dest = &job->dests[job->num_dests];

	job->report.numbers[job->num_dests++] = number;
	*dest = clone->guard.operands[number].region;
	dest->sector += skip;
	dest->count = count;
}

void clone_job_end(struct clone_job *job, int read_err, unsigned int write_err)
{
	struct clone *clone = job->clone;
	uint64_t one = 1;

	job->is_cancelled = read_err < 0;
	for (unsigned int i = 0; i < job->num_dests; i++)
		if (write_err >> i & 1)
			job->failed |= 1u << (job->report.numbers[i] - 1);
	atomic_fetch_or(&clone->write_err, job->failed);
	atomic_store(&job->state, JOB_DONE);
	(void)!write(clone->done_fd, &one, sizeof(one));
}
