/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The report of a run as JSON: what was copied, or why nothing was. Knows no file: see json.h.
 */
#ifndef KCOPY_REPORT_JSON_H
#define KCOPY_REPORT_JSON_H

#include <stdbool.h>
#include <stdint.h>

#include "guard.h"
#include "json.h"
#include "report.h"
#include "resume.h"
#include "speed.h"

/* All that it tells. What is a pointer is borrowed. */
struct report_facts {
	unsigned long line;	     /* of a list of jobs; 0: there is none */
	const struct guard *guard;   /* its operands may be NULL: the command line made no sense */
	const struct report *report; /* ended; NULL: nothing was written */
	const struct resume *resume; /* NULL: there are no maps */
	bool is_dry;		     /* a dry run that did not get as far as a plan */
	int status;		     /* 0, the bitmask, or 128; a signal goes before it */
	int signal;		     /* that ends the process, or 0 */
	uint64_t elapsed_ms;
	struct speed speed; /* what held in the end */
	bool has_read_error;
	uint32_t failed;    /* bit N-1: destination N */
	uint32_t stalled;   /* likewise: it did not answer when it was asked last */
	uint32_t abandoned; /* likewise: and was dropped for that */
};

/*
 *   { "kcopy": version, "dry_run": false, or the plan could not be made,
 *     "status": the exit status, as a shell shows it; "signal": "SIGINT" or null, "interrupted": is there one,
 *     "reasons": of a refusal: [ what was printed, without kcopy's name ],
 *     "elapsed_seconds", "written_bytes": to all destinations, in this run,
 *     "read_err": 0 or 1, "write_err": bit N-1 for destination N, whatever N; "failed": [ numbers of operands ],
 *     "limit_bytes_per_second": in the end, or null, "throttle_percent": likewise, 100 if there was none,
 *     "source": null with --zero, or what the plan has of an operand but for "would_lose", and {
 *       "read_sectors": really, "hole_sectors": not read for that, or null, "unreadable_sectors", "errors": [ errors ], "untold_sectors": of those that there was no memory for },
 *     "destinations": [ the same and {
 *       "state": "complete", "failed", "incomplete", "interrupted" or "untouched",
 *       "written_sectors", "resumed_sectors": of these, by the map from before,
 *       "zeroed_sectors": of those of this run, without sending zeros, "contiguous_sectors",
 *       "written_seconds": until all was, or null, "flushed", "flushed_seconds": until it was, or null, "dropped", "stalled", "abandoned",
 *       "failed_sectors", "first_bad_sector", "errors": [ errors ], "untold_sectors",
 *       "map": null or { "path", "saved": as it is now, "error" } } ] }
 *
 * An error is { "op": "read", "write", "zero", "flush" or words, "sector", "count", "errno", "error": "EIO", "message" }.
 * Every key is always there, as in the plan. To be put by the caller; NULL: no memory.
 */
struct json_object *report_json_make(const struct report_facts *facts);

/* -- of many jobs: an object with an array of them, one a line, written as they end ------------------ */

struct report_totals {
	uint64_t written_bytes;
	unsigned long complete, incomplete; /* jobs; the latter for whatever reason */
	unsigned long next_line;	    /* the first that was not begun, or 0 */
};

/*
 *   { "kcopy", "dry_run", "jobs": [ {
 *       "line", "state": "complete", "failed", "incomplete", "interrupted", "refused" or "checked",
 *       "reasons", "read_err", "write_err", "failed",
 *       "source" and "destinations": as above, but of an operand only its number, operand, path, region, refused and
 *       reasons } ],
 *     "status", "signal", "interrupted", "elapsed_seconds", "reasons", "read_err", "write_err", "failed": of all jobs,
 *     "written_bytes", "complete", "incomplete": numbers of jobs, "next_line": the first that was not begun, or null,
 *     "limit_bytes_per_second", "throttle_percent": as above }
 *
 * These return 0 or -errno, which is printed, unless there was no memory.
 */
int report_json_begin(struct json_file *file, bool is_dry);
int report_json_put_line(struct json_file *file, bool is_first, const char *state, const struct report_facts *facts);
int report_json_end(struct json_file *file, const struct report_totals *totals, const struct report_facts *facts);

#endif
