/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The command line: one popt table, and what it says. Prints help and version; never exits.
 */
#ifndef KCOPY_OPTIONS_H
#define KCOPY_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "guard.h"
#include "speed.h"

#define OPTIONS_DEFAULT_PAGES 4096u
#define OPTIONS_DEFAULT_RETRIES 2u
#define OPTIONS_MOST_RETRIES 1000u
#define OPTIONS_MOST_STALL_TIMEOUT 86400u

enum on_error { ON_ERROR_DROP, ON_ERROR_STOP, ON_ERROR_IGNORE };

struct options {
	bool is_zero; /* no source: write zeros */
	enum on_error on_error;
	unsigned int retries;	    /* of a place that failed */
	unsigned int stall_timeout; /* seconds; 0: nobody is dropped for that */
	bool writes_zeros;	    /* instead of making holes, or having the device zero them */
	char *map_path;		    /* owned; NULL: no maps */
	char *jobs_path;	    /* owned: the list of jobs, "-": standard input; NULL: there is one, in operands */
	struct guard_options guard;
	bool has_lock;	 /* the user chose guard.lock_mode */
	bool has_json;	 /* the report, or the plan, as JSON */
	char *json_path; /* owned; NULL: on standard output */
	unsigned int pages;
	bool has_pages; /* the user chose their number */
	struct speed speed;
	int remote;	  /* the process of the copy that is to have it; 0: this one */
	bool has_other;	  /* an option that means nothing with remote */
	uint64_t max_lag; /* bytes, KCOPYD_LAG_AUTO, or 0: none is too far behind */
	bool is_quiet;
	bool is_verbose;
	unsigned int num_operands;
	const char **operands;	/* owned by popt_context */
	const char **arguments; /* owned: the command line, as popt gets it */
	void *popt_context;	/* owned */
};

enum options_outcome {
	OPTIONS_RUN,	/* @options is filled */
	OPTIONS_DONE,	/* help or version was printed, in full */
	OPTIONS_REFUSED /* what is wrong was printed; has_json, json_path and arguments are valid */
};

/* To be freed by options_free(), whatever the outcome. */
enum options_outcome options_parse(int argc, const char **argv, struct options *options);
void options_free(struct options *options);

#endif
