/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "plan.h"

#include <errno.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "json.h"
#include "kcopyd.h"
#include "log.h"
#include "text.h"
#include "units.h"

static bool is_loss_known(const struct operand *operand)
{
	return operand->is_new || (operand->was_probed && !operand->contents_error);
}

static int close_stdout(void)
{
	bool is_short = ferror(stdout);
	int ret = 0;

	errno = 0;
	if (fclose(stdout) || is_short)
		ret = errno ? -errno : -EIO;
	if (ret)
		log_error("standard output: %s", strerror(-ret));
	return ret;
}

/* -- for people ---------------------------------------------------------------------------------- */

#define LINE "  %-14s "

/* @text: the user's or a device's, or NULL. */
static void print_text(const char *label, const char *text)
{
	char *printable = text ? text_printable(text) : NULL;

	printf(LINE "%s\n", label, printable ? printable : "unknown");
	free(printable);
}

static void print_kind(const struct operand *operand)
{
	static const char *const names[] = {
		[OPERAND_UNKNOWN] = "unknown", [OPERAND_DISK] = "disk",		[OPERAND_PARTITION] = "partition",
		[OPERAND_FILE] = "file",       [OPERAND_NEW_FILE] = "new file",
	};
	enum operand_kind kind = operand_kind(operand);
	char *whole;

	if (kind != OPERAND_PARTITION) {
		printf(LINE "%s\n", "kind", names[kind]);
		return;
	}
	whole = operand->disk.whole_name ? text_printable(operand->disk.whole_name) : NULL;
	printf(LINE "partition %u of %s\n", "kind", operand->disk.partition, whole ? whole : "an unknown disk");
	free(whole);
}

/* Only what an open device tells. */
static void print_device(const struct block_device *bdev)
{
	uint64_t bytes = kcopyd_device_bytes(bdev);
	char size[UNITS_SIZE_CHARS];

	units_format_bytes(bytes, size);
	if (bytes % KCOPYD_SECTOR_BYTES)
		printf(LINE "%s (%" PRIu64 " bytes, no whole number of sectors)\n", "size", size, bytes);
	else
		printf(LINE "%s (%" PRIu64 " sectors)\n", "size", size, bytes / KCOPYD_SECTOR_BYTES);
	printf(LINE "%u bytes\n", "logical block", kcopyd_device_logical_block(bdev));
	printf(LINE "%s\n", "transfers", kcopyd_device_is_direct(bdev) ? "direct I/O" : "page-cached");
	if (kcopyd_device_is_block(bdev))
		printf(LINE "%s\n", "zoned", kcopyd_device_is_zoned(bdev) ? "yes" : "no");
}

static void print_region(const struct io_region *region)
{
	char size[UNITS_SIZE_CHARS];

	if (region->count == 0) {
		print_text("region", NULL);
		return;
	}
	printf(LINE "%" PRIu64 " sector%s from sector %" PRIu64 " on (%s)\n", "region", region->count,
	       region->count == 1 ? "" : "s", region->sector,
	       units_format_bytes(region->count * KCOPYD_SECTOR_BYTES, size));
}

static void print_loss(const struct operand *operand)
{
	const struct contents *contents = &operand->contents;

	for (size_t i = 0; i < contents->num; i++)
		printf(LINE "%s\n", i ? "" : "would be lost", contents->items[i].text ? contents->items[i].text : "?");
	if (operand->contents_error)
		printf(LINE "unknown: %s\n", contents->num ? "" : "would be lost", strerror(operand->contents_error));
	else if (!is_loss_known(operand))
		printf(LINE "unknown: it was not looked at\n", "would be lost");
	else if (contents->num == 0)
		printf(LINE "nothing known\n", "would be lost");
}

static void print_operand(const struct operand *operand, unsigned int number)
{
	if (number == 0)
		printf("Source: %s\n", operand->name ? operand->name : "unknown");
	else
		printf("Destination %u: %s\n", number, operand->name ? operand->name : "unknown");
	if (operand->path && operand->spec.place && strcmp(operand->path, operand->spec.place) != 0)
		print_text("path", operand->path);
	print_kind(operand);
	if (operand->is_block) {
		print_text("kernel name", operand->disk.name);
		print_text("stable name", operand->disk.stable_name);
		print_text("model", operand->disk.model);
		print_text("serial", operand->disk.serial);
		print_text("wwn", operand->disk.wwn);
	}
	if (operand->bdev)
		print_device(operand->bdev);
	else if (!operand->is_new)
		print_text("size", NULL);
	print_region(&operand->region);
	if (number > 0)
		print_loss(operand);
	if (operand->is_bad)
		printf(LINE "yes, standard error says why\n", "refused");
	printf("\n");
}

static void print_verdict(const struct guard *guard, int status)
{
	const char *s = guard->num_dests == 1 ? "" : "s";
	char size[UNITS_SIZE_CHARS];

	if (status)
		printf("Refused, standard error says why: exit status %d. Nothing was written.\n", status);
	else if (guard->has_source)
		printf("Would copy %s to %u destination%s. Nothing was written.\n",
		       units_format_bytes(guard->operands[0].region.count * KCOPYD_SECTOR_BYTES, size),
		       guard->num_dests, s);
	else
		printf("Would write zeros to %u destination%s. Nothing was written.\n", guard->num_dests, s);
}

int plan_print(const struct guard *guard, int status)
{
	for (unsigned int i = guard->has_source ? 0 : 1; guard->operands && i <= guard->num_dests; i++)
		print_operand(&guard->operands[i], i);
	print_verdict(guard, status);
	return close_stdout();
}

/* -- JSON ---------------------------------------------------------------------------------------- */

static struct json_object *make_content(const struct content *content)
{
	struct json_object *object = json_object_new_object();

	if (!object)
		return NULL;
	json_object_object_add(object, "type", json_make_text(content->type));
	json_object_object_add(object, "label", json_make_text(content->label));
	json_object_object_add(object, "uuid", json_make_text(content->uuid));
	json_object_object_add(object, "partition", json_make_number(content->partition > 0, content->partition));
	json_object_object_add(object, "node", json_make_text(content->node));
	json_object_object_add(object, "offset_bytes", json_make_number(true, content->offset));
	json_object_object_add(object, "size_bytes", json_make_number(content->bytes > 0, content->bytes));
	json_object_object_add(object, "partition_table", json_make_bool(content->is_table));
	json_object_object_add(object, "damaged", json_make_bool(content->is_damaged));
	return object;
}

static struct json_object *make_loss(const struct operand *operand)
{
	struct json_object *array = is_loss_known(operand) ? json_object_new_array() : NULL;

	for (size_t i = 0; array && i < operand->contents.num; i++)
		json_object_array_add(array, make_content(&operand->contents.items[i]));
	return array;
}

static struct json_object *make_operand(const struct operand *operand, unsigned int number)
{
	struct json_object *object = json_object_new_object();

	if (!object)
		return NULL;
	json_add_operand(object, operand, number);
	json_object_object_add(object, "would_lose", number ? make_loss(operand) : NULL);
	return object;
}

static struct json_object *make_plan(const struct guard *guard, int status)
{
	struct json_object *object = json_object_new_object(), *operands = json_object_new_array();
	const char *const *reasons;
	size_t num;

	if (!object || !operands) {
		json_object_put(object);
		json_object_put(operands);
		return NULL;
	}
	num = log_kept(&reasons);
	json_object_object_add(object, "kcopy", json_make_text(PACKAGE_VERSION));
	json_object_object_add(object, "dry_run", json_make_bool(true));
	json_object_object_add(object, "status", json_object_new_int(status));
	json_object_object_add(object, "reasons", json_make_texts(reasons, num));
	for (unsigned int i = guard->has_source ? 0 : 1; guard->operands && i <= guard->num_dests; i++)
		json_object_array_add(operands, make_operand(&guard->operands[i], i));
	json_object_object_add(object, "operands", operands);
	return object;
}

int plan_print_json(const struct guard *guard, int status, const char *path)
{
	struct json_object *plan = make_plan(guard, status);
	struct json_file file;
	int ret = json_file_open(&file, "plan", path, guard, NULL, NULL);

	if (ret == 0) {
		ret = json_file_clear(&file);
		if (ret == 0)
			ret = json_file_put_object(&file, plan);
		if (ret == 0)
			ret = json_file_close(&file);
		else
			json_file_abandon(&file);
	}
	json_object_put(plan);
	return ret;
}
