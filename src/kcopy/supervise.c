/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "supervise.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "log.h"
#include "signals.h"

/* A child that has said its result is expected to end. If it has told whom it may have to wait for it is likely not to. */
#define END_MS 10000u
#define END_WAITING_MS 1000u
#define LOOK_MS 20

/* What a parent says when nothing was heard of its child: as if it had not run. */
#define STATUS_UNKNOWN 128

/* In one write(): shorter than PIPE_BUF. */
struct news {
	int is_result; /* 1 or 0: no padding, which would be written, too */
	int status;
	int signal;
	char names[SUPERVISE_NAMES_BYTES]; /* that are waited for; empty: none */
};

static pid_t child;	 /* the parent's */
static pid_t started_as; /* the child's: its parent */
static int news_fd = -1; /* the parent's end of the pipe, or the child's */

static uint64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* The child's first steps. */
static int begin_child(pid_t parent)
{
	int ret;

	/* Who kills kcopy with SIGKILL means the copy. */
	if (prctl(PR_SET_PDEATHSIG, SIGKILL))
		return -errno;
	if (getppid() != parent)
		return -ESRCH;
	started_as = parent;
	ret = signals_catch();
	signals_obey(parent);
	return ret;
}

pid_t supervise_pid(void)
{
	return started_as ? started_as : getpid();
}

int supervise_start(bool *is_parent)
{
	pid_t parent = getpid();
	int ends[2], ret;

	if (pipe2(ends, O_CLOEXEC))
		return -errno;
	signal(SIGCHLD, SIG_DFL); /* ignored, the child's status would be lost */
	child = fork();
	if (child < 0) {
		ret = -errno;
		close(ends[0]);
		close(ends[1]);
		return ret;
	}
	*is_parent = child > 0;
	news_fd = ends[*is_parent ? 0 : 1];
	close(ends[*is_parent ? 1 : 0]);
	return *is_parent ? 0 : begin_child(parent);
}

/* -- the parent ---------------------------------------------------------------------------------- */

/* Should a second signal kill us, this is still said. */
static void prepare_last_words(const struct news *news)
{
	static char texts[2][SUPERVISE_NAMES_BYTES + 128]; /* the handler may be about to print the other */
	static unsigned int which;
	int length;

	if (!news->names[0]) {
		signals_set_last_words(NULL);
		return;
	}
	which = !which;
	length = snprintf(texts[which], sizeof(texts[which]),
			  "kcopy: warning: process %d may have to wait for %s before it can end\n", (int)child,
			  news->names);
	signals_set_last_words(length > 0 ? texts[which] : NULL);
}

/* Takes what the child has told. False: the child has closed the pipe. */
static bool take_news(struct news *news, uint64_t *result_ms)
{
	struct news next;
	ssize_t got = read(news_fd, &next, sizeof(next));

	if (got != (ssize_t)sizeof(next))
		return got < 0 && errno == EINTR;
	if (next.is_result)
		*result_ms = now_ms();
	*news = next;
	prepare_last_words(news);
	return true;
}

static void tell_stuck(const struct news *news)
{
	if (news->names[0])
		log_warning("process %d has to wait for %s before it can end, and keeps its devices until then",
			    (int)child, news->names);
	else
		log_warning("process %d does not end, though it has nothing left to do", (int)child);
}

/* The child has ended: so it was. */
static void take_end(int end, int *status, int *signal)
{
	*status = WIFEXITED(end) ? WEXITSTATUS(end) : STATUS_UNKNOWN;
	*signal = WIFSIGNALED(end) ? WTERMSIG(end) : 0;
	if (*signal && *signal != signals_pending())
		log_error("process %d, which was copying, was ended by: %s", (int)child, strsignal(*signal));
}

void supervise_wait(int *status, int *signal)
{
	struct pollfd fds[] = {
		{ .fd = news_fd, .events = POLLIN },
		{ .fd = signals_fd(), .events = POLLIN },
	};
	struct news news = { .is_result = 0 };
	uint64_t result_ms = 0;
	int end = 0;
	pid_t ended;

	for (;;) {
		bool is_ending = news.is_result || fds[0].fd < 0;

		if (poll(fds, 2, is_ending ? LOOK_MS : -1) < 0)
			fds[0].revents = 0;
		if (fds[1].fd >= 0 && signals_pending()) {
			fds[1].fd = -1; /* the second one is not passed on: it ends us, and so the child */
			kill(child, signals_pending());
		}
		if (fds[0].fd >= 0 && fds[0].revents && !take_news(&news, &result_ms))
			fds[0].fd = -1;
		ended = waitpid(child, &end, WNOHANG);
		if (ended == child) {
			take_end(end, status, signal);
			break;
		}
		if (news.is_result && now_ms() - result_ms >= (news.names[0] ? END_WAITING_MS : END_MS)) {
			tell_stuck(&news);
			*status = news.status;
			*signal = news.signal;
			break;
		}
	}
	close(news_fd);
	news_fd = -1;
}

/* -- the child ----------------------------------------------------------------------------------- */

static void tell(struct news *news, const char *names)
{
	if (news_fd < 0)
		return;
	snprintf(news->names, sizeof(news->names), "%s", names);
	/* The pipe is never full of so little, and nobody is left to be told if there is no parent. */
	(void)!write(news_fd, news, sizeof(*news));
}

void supervise_tell_waiting(const char *names)
{
	struct news news = { .is_result = 0 };

	tell(&news, names);
}

void supervise_tell_result(int status, int signal, const char *names)
{
	struct news news = { .is_result = 1, .status = status, .signal = signal };

	tell(&news, names);
}
