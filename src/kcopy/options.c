/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "options.h"

#include <errno.h>
#include <limits.h>
#include <popt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "log.h"
#include "text.h"
#include "units.h"

enum {
	OPT_ZERO = 1,
	OPT_JOBS,
	OPT_DRY_RUN,
	OPT_FORCE,
	OPT_EXPECT,
	OPT_LOCK,
	OPT_ON_ERROR,
	OPT_RETRIES,
	OPT_MAP,
	OPT_STALL_TIMEOUT,
	OPT_SPARSE,
	OPT_PAGES,
	OPT_LIMIT,
	OPT_THROTTLE,
	OPT_REMOTE,
	OPT_MAX_LAG,
	OPT_JSON,
	OPT_QUIET,
	OPT_VERBOSE,
	OPT_VERSION,
	OPT_HELP,
	OPT_USAGE
};

static struct poptOption what_options[] = {
	{ "zero", 'z', POPT_ARG_NONE, NULL, OPT_ZERO, "no SOURCE: write zeros", NULL },
	{ "jobs", 'j', POPT_ARG_STRING, NULL, OPT_JOBS,
	  "many copies: a line of FILE is SOURCE DEST [DEST...], quoted as in a shell; - is standard input", "FILE" },
	POPT_TABLEEND,
};
static struct poptOption safety_options[] = {
	{ "dry-run", 'n', POPT_ARG_NONE, NULL, OPT_DRY_RUN, "check everything and print the plan; write nothing",
	  NULL },
	{ "force", 'f', POPT_ARG_NONE, NULL, OPT_FORCE,
	  "overwrite destinations that hold something: a file system, swap, partition table, RAID or LVM member, encrypted volume",
	  NULL },
	{ "expect", '\0', POPT_ARG_STRING, NULL, OPT_EXPECT,
	  "operand N (0: the source) must be the disk with that serial, wwn, model or size, or nothing is written",
	  "N:KEY=VALUE" },
	{ "lock", '\0', POPT_ARG_STRING, NULL, OPT_LOCK,
	  "lock the disks against udev and others: wait (yes), do not, or refuse if another has the lock (nonblock, default)",
	  "yes|no|nonblock" },
	POPT_TABLEEND,
};
static struct poptOption error_options[] = {
	{ "on-error", '\0', POPT_ARG_STRING, NULL, OPT_ON_ERROR,
	  "drop a destination that fails (default), stop at the first error, or ignore errors and go on past them",
	  "drop|stop|ignore" },
	{ "retries", '\0', POPT_ARG_STRING, NULL, OPT_RETRIES,
	  "how often a place is tried again before it is called bad (default 2)", "N" },
	{ "map", 'm', POPT_ARG_STRING, NULL, OPT_MAP,
	  "keep in FILE what is on stable storage, and resume from there; several destinations: FILE.1, FILE.2, ...",
	  "FILE" },
	{ "stall-timeout", '\0', POPT_ARG_STRING, NULL, OPT_STALL_TIMEOUT,
	  "drop a destination that completes nothing for so long (default: only name it, after 10 s)", "SECS" },
	POPT_TABLEEND,
};
static struct poptOption data_options[] = {
	{ "sparse", '\0', POPT_ARG_STRING, NULL, OPT_SPARSE,
	  "zeros become holes, or are not sent, where that reads back as zeros (auto, default), or are written (never)",
	  "auto|never" },
	POPT_TABLEEND,
};
static struct poptOption speed_options[] = {
	{ "pages", 'p', POPT_ARG_STRING, NULL, OPT_PAGES, "memory for data, in pages of 4 KiB (default 4096 = 16 MiB)",
	  "N" },
	{ "limit", '\0', POPT_ARG_STRING, NULL, OPT_LIMIT,
	  "read RATE bytes a second from the source at the most (50M, 7MB, none)", "RATE" },
	{ "throttle", '\0', POPT_ARG_STRING, NULL, OPT_THROTTLE,
	  "have I/O in flight for PERCENT of the time at the most (1 to 100)", "PERCENT" },
	{ "remote", 'R', POPT_ARG_STRING, NULL, OPT_REMOTE,
	  "set --limit and --throttle of the kcopy that copies as process PID; without them: print what they are",
	  "PID" },
	{ "max-lag", '\0', POPT_ARG_STRING, NULL, OPT_MAX_LAG,
	  "read apart for a destination that is so far behind another; auto (default): if the source is idle enough; off: all at the pace of the slowest",
	  "auto|off|SIZE" },
	POPT_TABLEEND,
};
static struct poptOption output_options[] = {
	{ "json", '\0', POPT_ARG_STRING | POPT_ARGFLAG_OPTIONAL, NULL, OPT_JSON,
	  "the final report, or the plan of a dry run, as JSON on standard output or in FILE", "FILE" },
	{ "quiet", 'q', POPT_ARG_NONE, NULL, OPT_QUIET, "print errors and warnings only", NULL },
	{ "verbose", 'v', POPT_ARG_NONE, NULL, OPT_VERBOSE, "say what was found and chosen", NULL },
	{ "version", 'V', POPT_ARG_NONE, NULL, OPT_VERSION, "print the version", NULL },
	{ "help", '?', POPT_ARG_NONE, NULL, OPT_HELP, "print this help", NULL },
	{ "usage", '\0', POPT_ARG_NONE, NULL, OPT_USAGE, "print the options in short", NULL },
	POPT_TABLEEND,
};
static struct poptOption table[] = {
	{ NULL, '\0', POPT_ARG_INCLUDE_TABLE, what_options, 0, "What:", NULL },
	{ NULL, '\0', POPT_ARG_INCLUDE_TABLE, safety_options, 0, "Safety:", NULL },
	{ NULL, '\0', POPT_ARG_INCLUDE_TABLE, error_options, 0, "Errors:", NULL },
	{ NULL, '\0', POPT_ARG_INCLUDE_TABLE, data_options, 0, "Data:", NULL },
	{ NULL, '\0', POPT_ARG_INCLUDE_TABLE, speed_options, 0, "Speed:", NULL },
	{ NULL, '\0', POPT_ARG_INCLUDE_TABLE, output_options, 0, "Output:", NULL },
	POPT_TABLEEND,
};

static const struct {
	const char *name;
	enum on_error policy;
} policies[] = {
	{ "drop", ON_ERROR_DROP },
	{ "stop", ON_ERROR_STOP },
	{ "ignore", ON_ERROR_IGNORE },
};

static void refuse_value(const char *option, const char *text, const char *reason)
{
	char *value = text_printable(text);

	log_error("--%s=%s: %s", option, value ? value : "?", reason);
	free(value);
}

static int set_on_error(const char *text, struct options *options)
{
	for (size_t i = 0; i < sizeof(policies) / sizeof(policies[0]); i++) {
		if (strcmp(text, policies[i].name) == 0) {
			options->on_error = policies[i].policy;
			return 0;
		}
	}
	refuse_value("on-error", text, "not a policy; write drop, stop or ignore");
	return -EINVAL;
}

static int set_sparse(const char *text, struct options *options)
{
	options->writes_zeros = strcmp(text, "never") == 0;
	if (options->writes_zeros || strcmp(text, "auto") == 0)
		return 0;
	refuse_value("sparse", text, "not a way to treat zeros; write auto or never");
	return -EINVAL;
}

static int set_retries(const char *text, struct options *options)
{
	char *end;
	unsigned long long retries;

	errno = 0;
	retries = strtoull(text, &end, 10);
	if (text[0] < '0' || text[0] > '9' || *end || errno || retries > OPTIONS_MOST_RETRIES) {
		refuse_value("retries", text, "not a number of retries; write a whole number from 0 to 1000");
		return -EINVAL;
	}
	options->retries = (unsigned int)retries;
	return 0;
}

static int set_stall_timeout(const char *text, struct options *options)
{
	char *end;
	unsigned long long seconds;

	errno = 0;
	seconds = strtoull(text, &end, 10);
	if (text[0] < '0' || text[0] > '9' || *end || errno || seconds == 0 || seconds > OPTIONS_MOST_STALL_TIMEOUT) {
		refuse_value("stall-timeout", text,
			     "not a number of seconds; write a whole number from 1 to 86400 (a day)");
		return -EINVAL;
	}
	options->stall_timeout = (unsigned int)seconds;
	return 0;
}

static int set_pages(const char *text, struct options *options)
{
	char *end;
	unsigned long long pages;

	errno = 0;
	pages = strtoull(text, &end, 10);
	if (text[0] < '0' || text[0] > '9' || *end || errno || pages == 0 || pages > UINT_MAX) {
		refuse_value("pages", text, "not a number of 4 KiB pages; write a whole number from 1 to 4294967295");
		return -EINVAL;
	}
	options->pages = (unsigned int)pages;
	options->has_pages = true;
	return 0;
}

static int set_limit(const char *text, struct options *options)
{
	const char *reason;
	int ret = speed_parse_limit(text, &options->speed, &reason);

	if (ret)
		refuse_value("limit", text, reason);
	return ret;
}

static int set_throttle(const char *text, struct options *options)
{
	const char *reason;
	int ret = speed_parse_throttle(text, &options->speed, &reason);

	if (ret)
		refuse_value("throttle", text, reason);
	return ret;
}

static int set_remote(const char *text, struct options *options)
{
	char *end;
	unsigned long long pid;

	errno = 0;
	pid = strtoull(text, &end, 10);
	if (text[0] < '0' || text[0] > '9' || *end || errno || pid == 0 || pid > INT_MAX) {
		refuse_value("remote", text, "not the number of a process; 'pgrep kcopy' prints those of all kcopies");
		return -EINVAL;
	}
	options->remote = (int)pid;
	return 0;
}

/* What has a meaning beside --remote. */
static bool is_remote_option(int option)
{
	return option == OPT_REMOTE || option == OPT_LIMIT || option == OPT_THROTTLE || option == OPT_QUIET ||
	       option == OPT_VERBOSE;
}

static int set_max_lag(const char *text, struct options *options)
{
	struct units_error error;
	uint64_t sectors;
	size_t length;

	if (strcmp(text, "auto") == 0) {
		options->max_lag = KCOPYD_LAG_AUTO;
		return 0;
	}
	if (strcmp(text, "off") == 0) {
		options->max_lag = 0;
		return 0;
	}
	if (units_parse_sectors(text, &sectors, &length, &error) || text[length]) {
		refuse_value("max-lag", text, "not a size; write auto, off, or a size such as 4M");
		return -EINVAL;
	}
	options->max_lag = sectors * KCOPYD_SECTOR_BYTES;
	return 0;
}

/* Several --expect, each a further condition. */
static int add_expect(const char *text, struct options *options)
{
	struct guard_options *guard = &options->guard;
	struct expect *expects = reallocarray(guard->expects, guard->num_expects + 1, sizeof(expects[0]));
	char *message = NULL;
	int ret;

	if (!expects) {
		log_error("%s", strerror(ENOMEM));
		return -ENOMEM;
	}
	guard->expects = expects;
	ret = expect_parse(text, &expects[guard->num_expects], &message);
	if (ret)
		log_error("%s", message ? message : strerror(-ret));
	else
		guard->num_expects++;
	free(message);
	return ret;
}

static int set_lock(const char *text, struct options *options)
{
	options->has_lock = true;
	if (lock_parse(text, &options->guard.lock_mode) == 0)
		return 0;
	refuse_value("lock", text, "not a way to lock; write yes, no or nonblock");
	return -EINVAL;
}

/* As the tools of util-linux do it; --lock goes before it. */
static int ask_environment(struct options *options)
{
	const char *text = getenv("LOCK_BLOCK_DEVICE");
	char *value;

	if (options->has_lock || !text || lock_parse(text, &options->guard.lock_mode) == 0)
		return 0;
	value = text_printable(text);
	log_error("LOCK_BLOCK_DEVICE=%s in the environment: not a way to lock; set it to yes, no or nonblock",
		  value ? value : "?");
	free(value);
	return -EINVAL;
}

static int set_map(const char *path, struct options *options)
{
	if (!*path) {
		log_error("--map: the file's name is empty; write --map=FILE");
		return -EINVAL;
	}
	free(options->map_path);
	options->map_path = strdup(path);
	options->guard.wants_disks = true;
	if (options->map_path)
		return 0;
	log_error("%s", strerror(ENOMEM));
	return -ENOMEM;
}

static int set_jobs(const char *path, struct options *options)
{
	if (!*path) {
		log_error("--jobs: the file's name is empty; write --jobs=FILE");
		return -EINVAL;
	}
	free(options->jobs_path);
	options->jobs_path = strdup(path);
	if (options->jobs_path)
		return 0;
	log_error("%s", strerror(ENOMEM));
	return -ENOMEM;
}

static int set_json(const char *path, struct options *options)
{
	bool is_stdout = !path || !*path || strcmp(path, "-") == 0;

	free(options->json_path);
	options->has_json = true;
	options->guard.wants_disks = true;
	options->json_path = is_stdout ? NULL : strdup(path);
	if (!is_stdout && !options->json_path) {
		log_error("%s", strerror(ENOMEM));
		return -ENOMEM;
	}
	return 0;
}

/* Help that did not reach its reader is an error, like all output that was asked for. */
static enum options_outcome close_stdout(void)
{
	if (ferror(stdout) || fclose(stdout) != 0) {
		log_error("standard output: %s", strerror(errno));
		return OPTIONS_REFUSED;
	}
	return OPTIONS_DONE;
}

static enum options_outcome print_help(poptContext context, bool is_usage)
{
	if (is_usage) {
		poptPrintUsage(context, stdout, 0);
		return close_stdout();
	}
	poptPrintHelp(context, stdout, 0);
	printf("\n"
	       "SOURCE and DEST are PLACE[:START[+COUNT]]: a block device or file, or LABEL=,\n"
	       "UUID=, PARTLABEL=, PARTUUID=; START and COUNT in 512-byte sectors, or with a\n"
	       "unit (s B K M G T P KB MB ...).\n"
	       "A trailing ':' says that there is no range: usb-Disk-0:0:\n"
	       "\n"
	       "Exit status: 0 all is on stable storage on every destination; otherwise the\n"
	       "sum of 1 (source: read error), 2, 4, 8, 16, 32 (destination 1 to 5 failed),\n"
	       "64 (a later one); 128 nothing was written; 128+n ended by signal n; 200 only\n"
	       "the report of --json could not be written. See kcopy(8).\n");
	return close_stdout();
}

static enum options_outcome print_version(void)
{
	printf("kcopy %s\n", PACKAGE_VERSION);
	return close_stdout();
}

static int check_remote(const struct options *options)
{
	if (options->num_operands == 0 && !options->has_other)
		return 0;
	log_error(
		"--remote: only --limit and --throttle of a copy that runs can be changed; nothing else goes with it");
	return -EINVAL;
}

/* With a list of jobs nothing else can say what is copied, or mean one of its operands. */
static int check_jobs(const struct options *options)
{
	const char *other = options->is_zero		 ? "--zero: a list of jobs has a source in every line"
			    : options->map_path		 ? "--map: a map is one copy's"
			    : options->guard.num_expects ? "--expect: it is an operand of one copy that it means"
							 : NULL;

	if (other) {
		log_error("--jobs and %s; leave one of them out", other);
		return -EINVAL;
	}
	if (options->num_operands > 0) {
		log_error("--jobs: the operands are in the list, none can be on the command line");
		return -EINVAL;
	}
	return 0;
}

static int check_operands(const struct options *options)
{
	if (options->remote)
		return check_remote(options);
	if (options->jobs_path)
		return check_jobs(options);
	if (options->speed.has_limit && options->is_zero) {
		log_error("--limit and --zero: zeros are not read from anywhere; use --throttle");
		return -EINVAL;
	}
	if (options->map_path && options->is_zero) {
		log_error(
			"--map and --zero: zeros have no source whose sectors a map could tell; leave one of them out");
		return -EINVAL;
	}
	if (options->num_operands == 0) {
		log_error("no operands; usage: kcopy [OPTION...] %s (try 'kcopy --help')",
			  options->is_zero ? "--zero DEST [DEST...]" : "SOURCE DEST [DEST...]");
		return -EINVAL;
	}
	if (!options->is_zero && options->num_operands == 1) {
		char *source = text_printable(options->operands[0]);

		log_error("%s: a source without a destination; usage: kcopy [OPTION...] SOURCE DEST [DEST...]",
			  source ? source : "?");
		free(source);
		return -EINVAL;
	}
	if (options->num_operands - !options->is_zero > 32) {
		log_error("%u destinations: 32 are the most that can be written at once",
			  options->num_operands - !options->is_zero);
		return -EINVAL;
	}
	return 0;
}

static void count_operands(struct options *options)
{
	options->operands = poptGetArgs(options->popt_context);
	while (options->operands && options->operands[options->num_operands])
		options->num_operands++;
}

static enum options_outcome read_options(struct options *options)
{
	poptContext context = options->popt_context;
	int option = 0, ret = 0;

	while (ret == 0 && (option = poptGetNextOpt(context)) > 0) {
		char *argument = poptGetOptArg(context);

		options->has_other |= !is_remote_option(option);
		switch (option) {
		case OPT_ZERO:
			options->is_zero = true;
			break;
		case OPT_DRY_RUN:
			options->guard.is_dry = true;
			break;
		case OPT_FORCE:
			options->guard.is_forced = true;
			break;
		case OPT_QUIET:
			options->is_quiet = true;
			break;
		case OPT_VERBOSE:
			options->is_verbose = true;
			break;
		case OPT_ON_ERROR:
			ret = set_on_error(argument, options);
			break;
		case OPT_RETRIES:
			ret = set_retries(argument, options);
			break;
		case OPT_MAP:
			ret = set_map(argument, options);
			break;
		case OPT_JOBS:
			ret = set_jobs(argument, options);
			break;
		case OPT_STALL_TIMEOUT:
			ret = set_stall_timeout(argument, options);
			break;
		case OPT_SPARSE:
			ret = set_sparse(argument, options);
			break;
		case OPT_PAGES:
			ret = set_pages(argument, options);
			break;
		case OPT_LIMIT:
			ret = set_limit(argument, options);
			break;
		case OPT_THROTTLE:
			ret = set_throttle(argument, options);
			break;
		case OPT_REMOTE:
			ret = set_remote(argument, options);
			break;
		case OPT_MAX_LAG:
			ret = set_max_lag(argument, options);
			break;
		case OPT_EXPECT:
			ret = add_expect(argument, options);
			break;
		case OPT_LOCK:
			ret = set_lock(argument, options);
			break;
		case OPT_JSON:
			ret = set_json(argument, options);
			break;
		case OPT_HELP:
		case OPT_USAGE:
			free(argument);
			return print_help(context, option == OPT_USAGE);
		case OPT_VERSION:
			free(argument);
			return print_version();
		}
		free(argument);
	}
	if (ret)
		return OPTIONS_REFUSED;
	if (option < -1) {
		char *bad = text_printable(poptBadOption(context, POPT_BADOPTION_NOALIAS));

		log_error("%s: %s; try 'kcopy --help'", bad ? bad : "?", poptStrerror(option));
		free(bad);
		return OPTIONS_REFUSED;
	}
	if (ask_environment(options))
		return OPTIONS_REFUSED;
	count_operands(options);
	return check_operands(options) ? OPTIONS_REFUSED : OPTIONS_RUN;
}

/*
 * popt takes the word behind an option whose value may be left out for the value, so that 'kcopy -n --json a b' would
 * write to a. Only --json=FILE has one here.
 */
static const char **copy_arguments(int argc, const char **argv)
{
	const char **copy = calloc((size_t)argc + 1, sizeof(copy[0]));
	bool is_over = false;

	for (int i = 0; copy && i < argc; i++) {
		is_over |= strcmp(argv[i], "--") == 0;
		copy[i] = !is_over && strcmp(argv[i], "--json") == 0 ? "--json=" : argv[i];
	}
	return copy;
}

/* Whoever asked for a report gets one of what is wrong with the command line, too. */
static void find_json(struct options *options)
{
	for (const char **argument = options->arguments; *argument && strcmp(*argument, "--") != 0; argument++)
		if (strncmp(*argument, "--json=", 7) == 0)
			set_json(*argument + 7, options);
}

enum options_outcome options_parse(int argc, const char **argv, struct options *options)
{
	enum options_outcome outcome;

	*options = (struct options){ .pages = OPTIONS_DEFAULT_PAGES,
				     .retries = OPTIONS_DEFAULT_RETRIES,
				     .speed.throttle = 100,
				     .max_lag = KCOPYD_LAG_AUTO };
	options->arguments = copy_arguments(argc, argv);
	if (options->arguments)
		options->popt_context = poptGetContext("kcopy", argc, options->arguments, table, 0);
	if (!options->popt_context) {
		log_error("%s", strerror(ENOMEM));
		return OPTIONS_REFUSED;
	}
	poptSetOtherOptionHelp(options->popt_context, "[OPTION...] SOURCE DEST [DEST...]\n"
						      "  or:  kcopy [OPTION...] --zero DEST [DEST...]\n"
						      "  or:  kcopy [OPTION...] --jobs=FILE\n"
						      "  or:  kcopy --remote=PID [--limit=RATE] [--throttle=PERCENT]");
	outcome = read_options(options);
	if (outcome == OPTIONS_REFUSED)
		find_json(options);
	return outcome;
}

void options_free(struct options *options)
{
	if (options->popt_context)
		poptFreeContext(options->popt_context);
	options->popt_context = NULL;
	free(options->arguments);
	options->arguments = NULL;
	free(options->json_path);
	options->json_path = NULL;
	free(options->map_path);
	options->map_path = NULL;
	free(options->jobs_path);
	options->jobs_path = NULL;
	for (unsigned int i = 0; i < options->guard.num_expects; i++)
		expect_free(&options->guard.expects[i]);
	free(options->guard.expects);
	options->guard.expects = NULL;
	options->guard.num_expects = 0;
}
