/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the plan and the report, as JSON, have in common: texts, numbers, who an operand is; and where they go. With
 * plan and report_json the only user of json-c.
 */
#ifndef KCOPY_JSON_H
#define KCOPY_JSON_H

#include <json-c/json.h>
#include <stdbool.h>
#include <stdint.h>

#include "guard.h"

/* -- values: NULL is null, also where there is no memory -------------------------------------------- */

/* JSON is UTF-8, so other bytes cannot be in it: such a text is written as in messages. NULL is null. */
struct json_object *json_make_text(const char *text);
struct json_object *json_make_number(bool is_known, uint64_t number);
struct json_object *json_make_bool(bool is_true);
struct json_object *json_make_texts(const char *const *texts, size_t num);

/* The keys of an operand that say who it is, where in it, and what is wrong with it; @number as in the guard. */
void json_add_operand(struct json_object *object, const struct operand *operand, unsigned int number);

/* Of these, the ones that tell it from others in a long list. */
void json_add_place(struct json_object *object, const struct operand *operand, unsigned int number);

/* -- where it goes ------------------------------------------------------------------------------- */

struct json_file {
	const char *noun; /* static: what is written, "plan" or "report" */
	char *name;	  /* owned: of the file, printable; NULL: standard output */
	int fd;		  /* owned, but for standard output */
};

/*
 * @path NULL: standard output. Else that file, which is created or replaced: it must be a regular one, empty or an older
 * plan or report (-EEXIST), and no operand of @guard, by any name, none of @maps (NULL: there are none; a list that
 * ends with NULL) and none of the words @words of a command line that made no sense (NULL likewise). What is wrong is
 * printed; nothing is open then.
 */
int json_file_open(struct json_file *file, const char *noun, const char *path, const struct guard *guard,
		   const char *const *maps, const char *const *words);

/* What stands there from an earlier run goes away now. */
int json_file_clear(struct json_file *file);

/* Text, as it is. 0 or -errno, which is printed. -EINTR: a signal came while the reader did not read. */
int json_file_put(struct json_file *file, const char *text);

/* An object and a newline. */
int json_file_put_object(struct json_file *file, struct json_object *object);

/* Brings a file to stable storage, and closes whatever it was, standard output, too. 0 or -errno, which is printed. */
int json_file_close(struct json_file *file);

/* After an error: the file as it is. */
void json_file_abandon(struct json_file *file);

#endif
