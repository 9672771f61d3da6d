/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "signals.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

/*
 * timeout(1) signals its child and then the whole group, a terminal that closes sends HUP more than once: what comes so
 * soon after the first is the same wish to end.
 */
#define SAME_SIGNAL_MS 300

static const int ending[] = { SIGINT, SIGTERM, SIGHUP };
static volatile sig_atomic_t noted;
static uint64_t noted_ms; /* the handler's alone; it masks itself */
static int event_fd = -1;
static pid_t passing_on; /* 0: nobody */
static _Atomic(const char *) last_words;

static uint64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static void say_last_words(void)
{
	struct pollfd pollfd = { .fd = STDERR_FILENO, .events = POLLOUT };
	const char *text = atomic_load(&last_words);

	if (text && poll(&pollfd, 1, 0) > 0)
		(void)!write(STDERR_FILENO, text, strlen(text));
}

static void note(int number, siginfo_t *info, void *context)
{
	int saved = errno;
	uint64_t one = 1;

	(void)context;
	if (!noted) {
		noted = number;
		noted_ms = now_ms();
		(void)!write(event_fd, &one, sizeof(one));
	} else if (now_ms() - noted_ms >= SAME_SIGNAL_MS &&
		   !(passing_on && info->si_code == SI_USER && info->si_pid == passing_on)) {
		say_last_words();
		signal(number, SIG_DFL);
		raise(number); /* delivered when this handler returns */
	}
	errno = saved;
}

int signals_catch(void)
{
	struct sigaction action = { .sa_sigaction = note,
				    .sa_flags = SA_SIGINFO }; /* no SA_RESTART: an open() that hangs must end */
	struct sigaction old;

	if (event_fd >= 0)
		close(event_fd);
	/* Readable, if a signal was noted before. */
	event_fd = eventfd(noted != 0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (event_fd < 0)
		return -errno;
	sigemptyset(&action.sa_mask);
	for (size_t i = 0; i < sizeof(ending) / sizeof(ending[0]); i++)
		sigaddset(&action.sa_mask, ending[i]);
	for (size_t i = 0; i < sizeof(ending) / sizeof(ending[0]); i++) {
		if (sigaction(ending[i], NULL, &old) || old.sa_handler == SIG_IGN)
			continue;
		sigaction(ending[i], &action, NULL);
	}
	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN);
	return 0;
}

void signals_obey(pid_t parent)
{
	passing_on = parent;
}

void signals_set_last_words(const char *text)
{
	atomic_store(&last_words, text);
}

int signals_fd(void)
{
	return event_fd;
}

int signals_pending(void)
{
	return noted;
}

int signals_patience(void)
{
	return noted ? 2000 : -1;
}

void signals_raise(int number)
{
	sigset_t set;

	signal(number, SIG_DFL);
	sigemptyset(&set);
	sigaddset(&set, number);
	raise(number);
	sigprocmask(SIG_UNBLOCK, &set, NULL);
	_exit(128 + number); /* not reached */
}
