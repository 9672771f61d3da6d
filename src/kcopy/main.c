/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The process: its descriptors, its signals, its exit status. The only place that exits.
 */
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <string.h>
#include <unistd.h>

#include "clone.h"
#include "jobs.h"
#include "log.h"
#include "options.h"
#include "remote.h"
#include "signals.h"
#include "supervise.h"

/*
 * A process may be started with 0, 1 or 2 closed. The first device that is opened would then be "standard error", and
 * our messages would be written to the disk. What stands in for them is open the wrong way round, so that using it is
 * still an error.
 */
static int fill_standard_fds(void)
{
	for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
		if (fcntl(fd, F_GETFD) >= 0)
			continue;
		if (open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY) != fd)
			return -EBADF;
	}
	return 0;
}

/* The copy; in a process of its own, if it may have to be given up. */
static void run(const struct options *options, struct clone_result *result)
{
	bool is_parent = false;
	int ret;

	if (options->stall_timeout && !options->guard.is_dry) {
		ret = supervise_start(&is_parent);
		if (ret) {
			log_error("no process can be started for the copy: %s", strerror(-ret));
			clone_refuse(options);
			return;
		}
	}
	if (is_parent)
		supervise_wait(&result->status, &result->signal);
	else if (options->jobs_path)
		jobs_run(options, result);
	else
		clone_run(options, result);
}

/* Nothing is copied. */
static void run_remote(const struct options *options, struct clone_result *result)
{
	if (remote_command(options->remote, &options->speed) == 0)
		result->status = 0;
	result->signal = signals_pending();
}

int main(int argc, char **argv)
{
	struct clone_result result = { .status = CLONE_REFUSED };
	struct options options;

	mallopt(M_ARENA_MAX, 1); /* the threads allocate next to nothing */
	if (fill_standard_fds() || signals_catch())
		return CLONE_REFUSED;
	log_set_patience(signals_patience);
	log_keep(true);
	switch (options_parse(argc, (const char **)argv, &options)) {
	case OPTIONS_RUN:
		if (options.is_quiet)
			log_set_level(LOG_QUIET);
		else if (options.is_verbose)
			log_set_level(LOG_VERBOSE);
		if (options.remote)
			run_remote(&options, &result);
		else
			run(&options, &result);
		break;
	case OPTIONS_DONE:
		result.status = 0;
		break;
	case OPTIONS_REFUSED:
		clone_refuse(&options);
		break;
	}
	options_free(&options);
	if (result.signal)
		signals_raise(result.signal);
	return result.status;
}
