/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * --dry-run: what would be done, for people or as JSON.
 */
#ifndef KCOPY_PLAN_H
#define KCOPY_PLAN_H

#include "guard.h"

/*
 * On standard output, which it closes. @status: what kcopy will exit with. What is wrong is printed. 0 or -errno if it
 * could not be written in full.
 */
int plan_print(const struct guard *guard, int status);

/*
 * The same as one JSON object; @path NULL: on standard output, which it closes. Else that file is replaced, which must
 * be a regular one and no operand (-EEXIST). What is wrong is printed. 0 or -errno.
 *
 *   { "kcopy": version, "dry_run": true, "status": the exit status,
 *     "reasons": [ why it would be refused: what was printed, without kcopy's name ],
 *     "operands": [ {
 *       "number": 0 for the source, N for destination N, "role": "source" or "destination",
 *       "operand": its place as given, without a range, "path": what that names,
 *       "kind": "disk", "partition", "file" or "new-file",
 *       "kernel_name": "sdb1", "stable_name": "/dev/disk/by-id/...", "whole_name": "sdb", "partition": 1,
 *       "size_bytes": of the device or file, "model", "serial", "wwn",
 *       "region": { "sector", "count": in sectors of 512 bytes, "bytes" },
 *       "logical_block_bytes", "direct_io": false if page-cached, "zoned",
 *       "would_lose": of a destination: [ { "type", "label", "uuid", "partition": its number, "node",
 *           "offset_bytes": from the start of the device or file, "size_bytes",
 *           "partition_table": true if it is one, "damaged": true if its checksum is wrong } ],
 *       "refused": true if standard error says what is wrong with it,
 *       "reasons": [ that, without its name ] } ] }
 *
 * Every key is always there. What is unknown, or does not apply, is null; "would_lose" is [] only if it is known that
 * nothing is. Texts are exact if they are valid UTF-8; others are as in messages, \xNN for a byte and \\ for a \.
 */
int plan_print_json(const struct guard *guard, int status, const char *path);

#endif
