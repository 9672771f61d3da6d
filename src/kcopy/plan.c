/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "plan.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <json-c/json.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kcopyd.h"
#include "log.h"
#include "text.h"
#include "units.h"

/* Whatever pre-flight did not get to is still zero. */
enum kind { KIND_UNKNOWN, KIND_DISK, KIND_PARTITION, KIND_FILE, KIND_NEW_FILE };

static enum kind kind_of(const struct operand *operand)
{
	if (operand->is_block)
		return operand->disk.partition ? KIND_PARTITION : KIND_DISK;
	if (operand->is_new)
		return KIND_NEW_FILE;
	return operand->bdev || operand->file_inode ? KIND_FILE : KIND_UNKNOWN;
}

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
		[KIND_UNKNOWN] = "unknown", [KIND_DISK] = "disk",	  [KIND_PARTITION] = "partition",
		[KIND_FILE] = "file",	    [KIND_NEW_FILE] = "new file",
	};
	enum kind kind = kind_of(operand);
	char *whole;

	if (kind != KIND_PARTITION) {
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

/* JSON is UTF-8, so other bytes cannot be in it: such a text is written as in messages. */
static struct json_object *make_text(const char *text)
{
	struct json_object *object;
	char *printable;

	if (!text)
		return NULL;
	if (text_is_utf8(text))
		return json_object_new_string(text);
	printable = text_printable(text);
	object = printable ? json_object_new_string(printable) : NULL;
	free(printable);
	return object;
}

static struct json_object *make_number(bool is_known, uint64_t number)
{
	return is_known && number <= INT64_MAX ? json_object_new_int64((int64_t)number) : NULL;
}

static struct json_object *make_region(const struct io_region *region)
{
	struct json_object *object = region->count ? json_object_new_object() : NULL;

	if (!object)
		return NULL;
	json_object_object_add(object, "sector", make_number(true, region->sector));
	json_object_object_add(object, "count", make_number(true, region->count));
	json_object_object_add(object, "bytes", make_number(true, region->count * KCOPYD_SECTOR_BYTES));
	return object;
}

static struct json_object *make_content(const struct content *content)
{
	struct json_object *object = json_object_new_object();

	if (!object)
		return NULL;
	json_object_object_add(object, "type", make_text(content->type));
	json_object_object_add(object, "label", make_text(content->label));
	json_object_object_add(object, "uuid", make_text(content->uuid));
	json_object_object_add(object, "partition", make_number(content->partition > 0, content->partition));
	json_object_object_add(object, "node", make_text(content->node));
	json_object_object_add(object, "offset_bytes", make_number(true, content->offset));
	json_object_object_add(object, "size_bytes", make_number(content->bytes > 0, content->bytes));
	json_object_object_add(object, "partition_table", json_object_new_boolean(content->is_table));
	json_object_object_add(object, "damaged", json_object_new_boolean(content->is_damaged));
	return object;
}

static struct json_object *make_loss(const struct operand *operand)
{
	struct json_object *array = is_loss_known(operand) ? json_object_new_array() : NULL;

	for (size_t i = 0; array && i < operand->contents.num; i++)
		json_object_array_add(array, make_content(&operand->contents.items[i]));
	return array;
}

static void add_device(struct json_object *object, const struct block_device *bdev)
{
	json_object_object_add(object, "size_bytes", bdev ? make_number(true, kcopyd_device_bytes(bdev)) : NULL);
	json_object_object_add(object, "logical_block_bytes",
			       bdev ? make_number(true, kcopyd_device_logical_block(bdev)) : NULL);
	json_object_object_add(object, "direct_io",
			       bdev ? json_object_new_boolean(kcopyd_device_is_direct(bdev)) : NULL);
	json_object_object_add(object, "zoned", bdev ? json_object_new_boolean(kcopyd_device_is_zoned(bdev)) : NULL);
}

static struct json_object *make_operand(const struct operand *operand, unsigned int number)
{
	static const char *const kinds[] = {
		[KIND_UNKNOWN] = NULL, [KIND_DISK] = "disk",	     [KIND_PARTITION] = "partition",
		[KIND_FILE] = "file",  [KIND_NEW_FILE] = "new-file",
	};
	const struct disk *disk = &operand->disk;
	struct json_object *object = json_object_new_object();

	if (!object)
		return NULL;
	json_object_object_add(object, "number", make_number(true, number));
	json_object_object_add(object, "role", make_text(number ? "destination" : "source"));
	json_object_object_add(object, "operand", make_text(operand->spec.place ? operand->spec.place : operand->name));
	json_object_object_add(object, "path", make_text(operand->path));
	json_object_object_add(object, "kind", make_text(kinds[kind_of(operand)]));
	json_object_object_add(object, "kernel_name", make_text(disk->name));
	json_object_object_add(object, "stable_name", make_text(disk->stable_name));
	json_object_object_add(object, "whole_name", make_text(disk->whole_name));
	json_object_object_add(object, "partition", make_number(disk->partition > 0, disk->partition));
	json_object_object_add(object, "model", make_text(disk->model));
	json_object_object_add(object, "serial", make_text(disk->serial));
	json_object_object_add(object, "wwn", make_text(disk->wwn));
	add_device(object, operand->bdev);
	json_object_object_add(object, "region", make_region(&operand->region));
	json_object_object_add(object, "would_lose", number ? make_loss(operand) : NULL);
	json_object_object_add(object, "refused", json_object_new_boolean(operand->is_bad));
	return object;
}

static struct json_object *make_plan(const struct guard *guard, int status)
{
	struct json_object *object = json_object_new_object(), *operands = json_object_new_array();

	if (!object || !operands) {
		json_object_put(object);
		json_object_put(operands);
		return NULL;
	}
	json_object_object_add(object, "kcopy", make_text(PACKAGE_VERSION));
	json_object_object_add(object, "dry_run", json_object_new_boolean(true));
	json_object_object_add(object, "status", json_object_new_int(status));
	for (unsigned int i = guard->has_source ? 0 : 1; guard->operands && i <= guard->num_dests; i++)
		json_object_array_add(operands, make_operand(&guard->operands[i], i));
	json_object_object_add(object, "operands", operands);
	return object;
}

/* -- where it goes ------------------------------------------------------------------------------- */

/* What could not be opened for the copy can still be looked at: the loop device that stands on a file. */
static bool is_behind_path(const char *path, int fd)
{
	struct block_device *bdev;
	bool ret;

	if (kcopyd_device_open(path, O_RDONLY | O_NONBLOCK, &bdev))
		return false;
	ret = kcopyd_device_is_behind(bdev, fd);
	kcopyd_device_close(bdev);
	return ret;
}

/* @fd is open on the file @name (printable), with @st. Is that the operand, or what that stands on? */
static bool is_operand(const struct operand *operand, const char *name, int fd, const struct stat *st)
{
	struct stat other;

	if (operand->bdev)
		return kcopyd_device_is_behind(operand->bdev, fd);
	if (!operand->path) /* refused for its text, which may have been meant as this path and a range */
		return operand->name && strncmp(operand->name, name, strlen(name)) == 0;
	if (stat(operand->path, &other))
		return false;
	if (S_ISBLK(other.st_mode))
		return is_behind_path(operand->path, fd);
	return other.st_dev == st->st_dev && other.st_ino == st->st_ino;
}

/* Nothing, or a plan from before: what else a file holds, a dry run does not destroy. */
static bool is_plan(int fd, off_t bytes)
{
	static const char begin[] = "{\n  \"kcopy\":";
	char text[sizeof(begin) - 1];

	return bytes == 0 ||
	       (pread(fd, text, sizeof(text), 0) == (ssize_t)sizeof(text) && memcmp(text, begin, sizeof(text)) == 0);
}

static int check_file(const struct guard *guard, const char *name, int fd)
{
	struct stat st;

	if (fstat(fd, &st) || !S_ISREG(st.st_mode)) {
		log_error("%s: the plan is written to regular files only", name);
		return -EEXIST;
	}
	for (unsigned int i = guard->has_source ? 0 : 1; guard->operands && i <= guard->num_dests; i++) {
		if (is_operand(&guard->operands[i], name, fd, &st)) {
			log_error("%s: is an operand, %s; the plan must not overwrite it", name,
				  guard->operands[i].name);
			return -EEXIST;
		}
	}
	if (is_plan(fd, st.st_size))
		return 0;
	log_error("%s: exists and is no plan of kcopy's; it is not overwritten: name another file", name);
	return -EEXIST;
}

/*
 * @name: @path, printable. Nothing but a regular file is even opened: closing a device that was open for writing makes
 * udev look at it.
 */
static int open_file(const struct guard *guard, const char *path, const char *name)
{
	const int flags = O_RDWR | O_NONBLOCK | O_NOCTTY | O_CLOEXEC;
	bool is_created = false;
	struct stat st;
	int fd, ret;

	if (stat(path, &st) == 0 && !S_ISREG(st.st_mode)) {
		log_error("%s: the plan is written to regular files only", name);
		return -EEXIST;
	}
	fd = open(path, flags);
	if (fd < 0 && errno == ENOENT) {
		fd = open(path, flags | O_CREAT | O_EXCL, 0666);
		is_created = fd >= 0;
	}
	if (fd < 0) {
		ret = -errno;
		log_error("%s: the plan cannot be written: %s", name,
			  ret == -EEXIST ? "a symbolic link to nothing" : strerror(-ret));
		return ret;
	}
	ret = check_file(guard, name, fd);
	if (ret == 0 && ftruncate(fd, 0)) {
		ret = -errno;
		log_error("%s: the plan cannot be written: %s", name, strerror(errno));
	}
	if (ret == 0)
		return fd;
	if (is_created)
		unlink(path);
	close(fd);
	return ret;
}

static int write_file(const struct guard *guard, const char *path, const char *text)
{
	char *name = text_printable(path);
	FILE *file = NULL;
	int fd = -1, ret;

	if (!name) {
		log_error("%s", strerror(ENOMEM));
		return -ENOMEM;
	}
	fd = open_file(guard, path, name);
	ret = fd < 0 ? fd : 0;
	if (ret)
		goto out;
	file = fdopen(fd, "w");
	errno = file ? 0 : errno;
	if (!file || fprintf(file, "%s\n", text) < 0)
		ret = errno ? -errno : -EIO;
	if (file ? fclose(file) : close(fd))
		ret = ret ? ret : errno ? -errno : -EIO;
	if (ret)
		log_error("%s: the plan cannot be written: %s", name, strerror(-ret));
out:
	free(name);
	return ret;
}

int plan_print_json(const struct guard *guard, int status, const char *path)
{
	const int flags = JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_SPACED | JSON_C_TO_STRING_NOSLASHESCAPE;
	struct json_object *plan = make_plan(guard, status);
	const char *text = plan ? json_object_to_json_string_ext(plan, flags) : NULL;
	int ret;

	if (!text) {
		log_error("the plan: %s", strerror(ENOMEM));
		ret = -ENOMEM;
	} else if (path) {
		ret = write_file(guard, path, text);
	} else {
		printf("%s\n", text);
		ret = close_stdout();
	}
	json_object_put(plan);
	return ret;
}
