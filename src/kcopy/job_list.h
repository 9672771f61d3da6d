/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The lines of --jobs, one at a time, with bounded memory; never waits for one.
 */
#ifndef KCOPY_JOB_LIST_H
#define KCOPY_JOB_LIST_H

#include <stdbool.h>

struct job_list;

enum job_list_state {
	JOB_LIST_LINE,	/* here is one */
	JOB_LIST_WAIT,	/* none yet: wait until job_list_fd() is readable */
	JOB_LIST_END,	/* there was the last one */
	JOB_LIST_FAILED /* no more can be had, and why was printed */
};

/* @path "-": standard input. 0 or -errno, which is printed. */
int job_list_open(const char *path, struct job_list **result);
void job_list_close(struct job_list *list); /* NULL is allowed */

/* For people, printable; borrowed. */
const char *job_list_name(const struct job_list *list);
int job_list_fd(const struct job_list *list);

/* Can it be read twice? And to its beginning: 0 or -errno, which is printed. */
bool job_list_can_rewind(const struct job_list *list);
int job_list_rewind(struct job_list *list);

/* @line: without its newline, borrowed until the next call; @number: from 1. */
enum job_list_state job_list_next(struct job_list *list, char **line, unsigned long *number);

/* Has it read on since it was asked last? */
bool job_list_has_read(struct job_list *list);

#endif
