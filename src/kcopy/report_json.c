/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "report_json.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "json.h"
#include "kcopyd.h"
#include "log.h"

/* As a shell shows who was ended by a signal. */
#define STATUS_SIGNAL 128

/* The names of those that end kcopy. */
static const char *name_signal(int number)
{
	switch (number) {
	case SIGINT:
		return "SIGINT";
	case SIGTERM:
		return "SIGTERM";
	case SIGHUP:
		return "SIGHUP";
	default:
		return NULL;
	}
}

static struct json_object *make_seconds(uint64_t ms)
{
	char text[40];

	snprintf(text, sizeof(text), "%llu.%03u", (unsigned long long)(ms / 1000), (unsigned int)(ms % 1000));
	return json_object_new_double_s((double)ms / 1000, text);
}

static struct json_object *make_time(const struct report_facts *facts, int64_t ms)
{
	return facts->report && ms >= 0 ? make_seconds((uint64_t)ms) : NULL;
}

static struct json_object *make_error(const struct report_area *area)
{
	static const char *const ops[] = { "read", "write", "zero", "flush" };
	struct json_object *object = json_object_new_object();
	bool has_place = area->count > 0;

	if (!object)
		return NULL;
	json_object_object_add(object, "op", json_make_text(area->what ? area->what : ops[area->op]));
	json_object_object_add(object, "sector", json_make_number(has_place, area->sector));
	json_object_object_add(object, "count", json_make_number(has_place, area->count));
	json_object_object_add(object, "errno", json_object_new_int(area->error));
	json_object_object_add(object, "error", json_make_text(strerrorname_np(area->error)));
	json_object_object_add(object, "message", json_make_text(strerror(area->error)));
	return object;
}

static void add_errors(struct json_object *object, const struct report_areas *areas)
{
	struct json_object *array = json_object_new_array();

	for (size_t i = 0; array && areas && i < areas->num; i++)
		json_object_array_add(array, make_error(&areas->items[i]));
	json_object_object_add(object, "errors", array);
	json_object_object_add(object, "untold_sectors", json_make_number(true, areas ? areas->untold : 0));
}

static void add_operand(struct json_object *object, const struct report_facts *facts, unsigned int number)
{
	if (facts->line)
		json_add_place(object, &facts->guard->operands[number], number);
	else
		json_add_operand(object, &facts->guard->operands[number], number);
}

static struct json_object *make_source(const struct report_facts *facts)
{
	struct json_object *object =
		facts->guard->operands && facts->guard->has_source ? json_object_new_object() : NULL;
	struct report_source source = { .unreadable = 0 };

	if (!object)
		return NULL;
	if (facts->report)
		report_ask_source(facts->report, &source);
	add_operand(object, facts, 0);
	json_object_object_add(object, "read_sectors", json_make_number(true, source.read));
	json_object_object_add(object, "hole_sectors", json_make_number(source.has_holes, source.holes));
	json_object_object_add(object, "unreadable_sectors", json_make_number(true, source.unreadable));
	add_errors(object, source.areas);
	return object;
}

static struct json_object *make_map(const struct resume *resume, unsigned int number)
{
	struct json_object *object = resume ? json_object_new_object() : NULL;
	bool is_saved;
	int error;

	if (!object)
		return NULL;
	is_saved = resume_is_saved(resume, number, &error);
	json_object_object_add(object, "path", json_make_text(resume_path(resume, number)));
	json_object_object_add(object, "saved", json_make_bool(is_saved));
	json_object_object_add(object, "error", json_make_text(error ? strerror(error) : NULL));
	return object;
}

static const char *state_of(const struct report_facts *facts, const struct report_dest *dest)
{
	static const char *const names[] = {
		[REPORT_COMPLETE] = "complete",
		[REPORT_FAILED] = "failed",
		[REPORT_INCOMPLETE] = "incomplete",
		[REPORT_INTERRUPTED] = "interrupted",
	};

	return facts->report ? names[dest->state] : "untouched";
}

/* The lowest sector that failed; they are in order, and without a place last. */
static struct json_object *make_first_bad(const struct report_areas *areas)
{
	bool has_one = areas && areas->num > 0 && areas->items[0].count > 0;

	return json_make_number(has_one, has_one ? areas->items[0].sector : 0);
}

static struct json_object *make_dest(const struct report_facts *facts, unsigned int number,
				     const struct report_dest *dest)
{
	struct json_object *object = json_object_new_object();
	uint32_t bit = 1u << (number - 1);

	if (!object)
		return NULL;
	add_operand(object, facts, number);
	json_object_object_add(object, "state", json_make_text(state_of(facts, dest)));
	json_object_object_add(object, "written_sectors", json_make_number(true, dest->written));
	json_object_object_add(object, "resumed_sectors", json_make_number(true, dest->resumed));
	json_object_object_add(object, "zeroed_sectors", json_make_number(true, dest->zeroed));
	json_object_object_add(object, "contiguous_sectors", json_make_number(true, dest->contiguous));
	json_object_object_add(object, "written_seconds", make_time(facts, dest->written_ms));
	json_object_object_add(object, "flushed", json_make_bool(dest->is_flushed));
	json_object_object_add(object, "flushed_seconds", make_time(facts, dest->flushed_ms));
	json_object_object_add(object, "dropped", json_make_bool(dest->is_dropped));
	json_object_object_add(object, "stalled", json_make_bool(facts->stalled & bit));
	json_object_object_add(object, "abandoned", json_make_bool(facts->abandoned & bit));
	json_object_object_add(object, "failed_sectors", json_make_number(true, dest->failed));
	json_object_object_add(object, "first_bad_sector", make_first_bad(dest->areas));
	add_errors(object, dest->areas);
	json_object_object_add(object, "map", make_map(facts->resume, number));
	return object;
}

/* @written: the sum of what they got in this run, in sectors. */
static struct json_object *make_dests(const struct report_facts *facts, sector_t *written)
{
	struct json_object *array = json_object_new_array();

	*written = 0;
	for (unsigned int number = 1; array && facts->guard->operands && number <= facts->guard->num_dests; number++) {
		struct report_dest dest = { .written = 0 };

		if (facts->report)
			report_ask_dest(facts->report, number, &dest);
		*written += dest.written - dest.resumed;
		json_object_array_add(array, make_dest(facts, number, &dest));
	}
	return array;
}

static struct json_object *make_failed(const struct report_facts *facts)
{
	struct json_object *array = json_object_new_array();

	if (array && facts->has_read_error)
		json_object_array_add(array, json_object_new_int(0));
	for (unsigned int number = 1; array && number <= KCOPYD_MAX_DESTS; number++)
		if (facts->failed >> (number - 1) & 1)
			json_object_array_add(array, json_object_new_int((int)number));
	return array;
}

/* Why nothing was written, and what is wrong with whom. */
static void add_errors_of_all(struct json_object *object, const struct report_facts *facts)
{
	const char *const *reasons;
	size_t num = log_kept(&reasons);

	json_object_object_add(object, "reasons", json_make_texts(reasons, num));
	json_object_object_add(object, "read_err", json_object_new_int(facts->has_read_error));
	json_object_object_add(object, "write_err", json_make_number(true, facts->failed));
	json_object_object_add(object, "failed", make_failed(facts));
}

static void add_end(struct json_object *object, const struct report_facts *facts)
{
	json_object_object_add(object, "status",
			       json_object_new_int(facts->signal ? STATUS_SIGNAL + facts->signal : facts->status));
	json_object_object_add(object, "signal", json_make_text(name_signal(facts->signal)));
	json_object_object_add(object, "interrupted", json_make_bool(facts->signal));
	json_object_object_add(object, "elapsed_seconds", make_seconds(facts->elapsed_ms));
}

static void add_speed(struct json_object *object, const struct report_facts *facts)
{
	json_object_object_add(object, "limit_bytes_per_second",
			       json_make_number(facts->speed.limit > 0, facts->speed.limit));
	json_object_object_add(object, "throttle_percent",
			       json_make_number(facts->speed.throttle > 0, facts->speed.throttle));
}

struct json_object *report_json_make(const struct report_facts *facts)
{
	struct json_object *object = json_object_new_object(), *dests;
	sector_t written;

	if (!object)
		return NULL;
	dests = make_dests(facts, &written);
	json_object_object_add(object, "kcopy", json_make_text(PACKAGE_VERSION));
	json_object_object_add(object, "dry_run", json_make_bool(facts->is_dry));
	add_end(object, facts);
	add_errors_of_all(object, facts);
	json_object_object_add(object, "written_bytes", json_make_number(true, written * KCOPYD_SECTOR_BYTES));
	add_speed(object, facts);
	json_object_object_add(object, "source", make_source(facts));
	json_object_object_add(object, "destinations", dests);
	return object;
}

/* -- of many jobs -------------------------------------------------------------------------------- */

int report_json_begin(struct json_file *file, bool is_dry)
{
	char text[128];

	snprintf(text, sizeof(text), "{\n  \"kcopy\": \"%s\",\n  \"dry_run\": %s,\n  \"jobs\": [", PACKAGE_VERSION,
		 is_dry ? "true" : "false");
	return json_file_put(file, text);
}

int report_json_put_line(struct json_file *file, bool is_first, const char *state, const struct report_facts *facts)
{
	struct json_object *object = json_object_new_object();
	sector_t written;
	int ret = -ENOMEM;

	if (object) {
		json_object_object_add(object, "line", json_make_number(true, facts->line));
		json_object_object_add(object, "state", json_make_text(state));
		add_errors_of_all(object, facts);
		json_object_object_add(object, "source", make_source(facts));
		json_object_object_add(object, "destinations", make_dests(facts, &written));
		ret = json_file_put(file, is_first ? "\n    " : ",\n    ");
	}
	if (ret == 0)
		ret = json_file_put(file, json_object_to_json_string_ext(object, JSON_C_TO_STRING_NOSLASHESCAPE));
	json_object_put(object);
	return ret;
}

int report_json_end(struct json_file *file, const struct report_totals *totals, const struct report_facts *facts)
{
	const int flags = JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_SPACED | JSON_C_TO_STRING_NOSLASHESCAPE;
	struct json_object *object = json_object_new_object();
	const char *text;
	int ret = -ENOMEM;

	if (object) {
		add_end(object, facts);
		add_errors_of_all(object, facts);
		json_object_object_add(object, "written_bytes", json_make_number(true, totals->written_bytes));
		json_object_object_add(object, "complete", json_make_number(true, totals->complete));
		json_object_object_add(object, "incomplete", json_make_number(true, totals->incomplete));
		json_object_object_add(object, "next_line", json_make_number(totals->next_line > 0, totals->next_line));
		add_speed(object, facts);
		text = json_object_to_json_string_ext(object, flags);
		/* It goes on where the object began. */
		ret = json_file_put(file, "\n  ],");
		if (ret == 0)
			ret = json_file_put(file, strchr(text, '\n'));
		if (ret == 0)
			ret = json_file_put(file, "\n");
	}
	json_object_put(object);
	return ret;
}
