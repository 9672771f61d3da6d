/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "job_list.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "log.h"
#include "text.h"

/* The longest line: 33 operands of the longest path. */
#define MAX_LINE_BYTES ((size_t)256 << 10)

struct job_list {
	char *name; /* owned */
	int fd;	    /* owned, but for standard input */
	bool is_regular;
	off_t start;	/* of a regular file: somebody may have read some of it */
	bool is_at_end; /* all was read into the buffer */
	bool has_read;	/* something new into it */
	unsigned long number;
	size_t begin, end; /* of what is in the buffer */
	char buffer[MAX_LINE_BYTES];
};

int job_list_open(const char *path, struct job_list **result)
{
	struct job_list *list = calloc(1, sizeof(*list));
	bool is_stdin = strcmp(path, "-") == 0;
	struct stat st;
	int ret = 0;

	if (!list)
		return -ENOMEM;
	list->name = is_stdin ? strdup("standard input") : text_printable(path);
	list->fd = is_stdin ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	if (!list->name)
		ret = -ENOMEM;
	else if (list->fd < 0 || fstat(list->fd, &st))
		ret = -errno;
	else if (S_ISDIR(st.st_mode) || S_ISBLK(st.st_mode))
		ret = S_ISDIR(st.st_mode) ? -EISDIR : -EINVAL;
	if (ret) {
		log_error("--jobs: %s: cannot be read: %s", list->name ? list->name : "?",
			  ret == -EINVAL ? "a list of jobs is no block device" : strerror(-ret));
		job_list_close(list);
		return ret;
	}
	list->is_regular = S_ISREG(st.st_mode);
	list->start = list->is_regular ? lseek(list->fd, 0, SEEK_CUR) : 0;
	*result = list;
	return 0;
}

void job_list_close(struct job_list *list)
{
	if (!list)
		return;
	if (list->fd > STDIN_FILENO)
		close(list->fd);
	free(list->name);
	free(list);
}

const char *job_list_name(const struct job_list *list)
{
	return list->name;
}

int job_list_fd(const struct job_list *list)
{
	return list->fd;
}

bool job_list_can_rewind(const struct job_list *list)
{
	return list->is_regular;
}

static int explain(const struct job_list *list, int error)
{
	log_error("%s: cannot be read: %s", list->name, strerror(error));
	return -error;
}

int job_list_rewind(struct job_list *list)
{
	if (lseek(list->fd, list->start, SEEK_SET) < 0)
		return explain(list, errno);
	list->is_at_end = false;
	list->number = 0;
	list->begin = 0;
	list->end = 0;
	return 0;
}

/* Once, if that needs no waiting. */
static enum job_list_state fill(struct job_list *list)
{
	struct pollfd pollfd = { .fd = list->fd, .events = POLLIN };
	ssize_t got;

	memmove(list->buffer, list->buffer + list->begin, list->end - list->begin);
	list->end -= list->begin;
	list->begin = 0;
	if (list->end == MAX_LINE_BYTES) {
		log_error("%s:%lu: the line is too long: more than %zu KiB", list->name, list->number + 1,
			  MAX_LINE_BYTES >> 10);
		return JOB_LIST_FAILED;
	}
	if (!list->is_regular && poll(&pollfd, 1, 0) == 0)
		return JOB_LIST_WAIT;
	got = read(list->fd, list->buffer + list->end, MAX_LINE_BYTES - list->end);
	if (got < 0 && (errno == EINTR || errno == EAGAIN))
		return JOB_LIST_WAIT;
	if (got < 0) {
		explain(list, errno);
		return JOB_LIST_FAILED;
	}
	list->is_at_end = got == 0;
	list->has_read = true;
	list->end += (size_t)got;
	return JOB_LIST_LINE;
}

bool job_list_has_read(struct job_list *list)
{
	bool ret = list->has_read;

	list->has_read = false;
	return ret;
}

enum job_list_state job_list_next(struct job_list *list, char **line, unsigned long *number)
{
	enum job_list_state state;
	char *newline;

	for (;;) {
		newline = memchr(list->buffer + list->begin, '\n', list->end - list->begin);
		if (newline || list->is_at_end)
			break;
		state = fill(list);
		if (state != JOB_LIST_LINE)
			return state;
	}
	if (!newline && list->begin == list->end)
		return JOB_LIST_END;
	*number = list->number + 1;
	if (!newline) {
		log_error("%s:%lu: the last line does not end with a newline: it may have been cut off", list->name,
			  *number);
		return JOB_LIST_FAILED;
	}
	*newline = '\0';
	*line = list->buffer + list->begin;
	if (strlen(*line) != (size_t)(newline - *line)) {
		log_error("%s:%lu: there is a NUL byte in the line", list->name, *number);
		return JOB_LIST_FAILED;
	}
	list->begin = (size_t)(newline - list->buffer) + 1;
	list->number++;
	return JOB_LIST_LINE;
}
