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

enum { OPT_ZERO = 1, OPT_ON_ERROR, OPT_RETRIES, OPT_PAGES, OPT_QUIET, OPT_VERBOSE, OPT_VERSION, OPT_HELP, OPT_USAGE };

static struct poptOption what_options[] = {
	{ "zero", 'z', POPT_ARG_NONE, NULL, OPT_ZERO, "no SOURCE: write zeros", NULL },
	POPT_TABLEEND,
};
static struct poptOption error_options[] = {
	{ "on-error", '\0', POPT_ARG_STRING, NULL, OPT_ON_ERROR,
	  "drop a destination that fails (default), stop at the first error, or ignore errors and go on past them",
	  "drop|stop|ignore" },
	{ "retries", '\0', POPT_ARG_STRING, NULL, OPT_RETRIES,
	  "how often a place is tried again before it is called bad (default 2)", "N" },
	POPT_TABLEEND,
};
static struct poptOption speed_options[] = {
	{ "pages", 'p', POPT_ARG_STRING, NULL, OPT_PAGES, "memory for data, in pages of 4 KiB (default 4096 = 16 MiB)",
	  "N" },
	POPT_TABLEEND,
};
static struct poptOption output_options[] = {
	{ "quiet", 'q', POPT_ARG_NONE, NULL, OPT_QUIET, "print errors and warnings only", NULL },
	{ "verbose", 'v', POPT_ARG_NONE, NULL, OPT_VERBOSE, "say what was found and chosen", NULL },
	{ "version", 'V', POPT_ARG_NONE, NULL, OPT_VERSION, "print the version", NULL },
	{ "help", '?', POPT_ARG_NONE, NULL, OPT_HELP, "print this help", NULL },
	{ "usage", '\0', POPT_ARG_NONE, NULL, OPT_USAGE, "print the options in short", NULL },
	POPT_TABLEEND,
};
static struct poptOption table[] = {
	{ NULL, '\0', POPT_ARG_INCLUDE_TABLE, what_options, 0, "What:", NULL },
	{ NULL, '\0', POPT_ARG_INCLUDE_TABLE, error_options, 0, "Errors:", NULL },
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
	       "SPEC is PLACE[:START[+COUNT]]: a block device or file, or LABEL=, UUID=, PARTLABEL=,\n"
	       "PARTUUID=; START and COUNT in 512-byte sectors, or with a unit (s B K M G T P KB MB ...).\n"
	       "A trailing ':' says that there is no range: usb-Disk-0:0:\n"
	       "\n"
	       "Exit status: 0 all is on stable storage on every destination; otherwise the sum of\n"
	       "1 (source: read error), 2, 4, 8, 16, 32 (destination 1 to 5 failed), 64 (a later one);\n"
	       "128 nothing was written; 128+n ended by signal n. See kcopy(8).\n");
	return close_stdout();
}

static enum options_outcome print_version(void)
{
	printf("kcopy %s\n", PACKAGE_VERSION);
	return close_stdout();
}

static int check_operands(const struct options *options)
{
	if (options->num_operands == 0) {
		log_error("no operands; usage: kcopy [OPTION...] SOURCE DEST [DEST...] (try 'kcopy --help')");
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

		switch (option) {
		case OPT_ZERO:
			options->is_zero = true;
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
		case OPT_PAGES:
			ret = set_pages(argument, options);
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
	count_operands(options);
	return check_operands(options) ? OPTIONS_REFUSED : OPTIONS_RUN;
}

enum options_outcome options_parse(int argc, const char **argv, struct options *options)
{
	*options = (struct options){ .pages = OPTIONS_DEFAULT_PAGES, .retries = OPTIONS_DEFAULT_RETRIES };
	options->popt_context = poptGetContext("kcopy", argc, argv, table, 0);
	if (!options->popt_context) {
		log_error("%s", strerror(ENOMEM));
		return OPTIONS_REFUSED;
	}
	poptSetOtherOptionHelp(options->popt_context, "[OPTION...] SOURCE DEST [DEST...]\n"
						      "  or:  kcopy [OPTION...] --zero DEST [DEST...]");
	return read_options(options);
}

void options_free(struct options *options)
{
	if (options->popt_context)
		poptFreeContext(options->popt_context);
	options->popt_context = NULL;
}
