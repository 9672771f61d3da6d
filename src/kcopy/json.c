/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "json.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kcopyd.h"
#include "log.h"
#include "signals.h"
#include "text.h"

/* -- values -------------------------------------------------------------------------------------- */

struct json_object *json_make_text(const char *text)
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

struct json_object *json_make_number(bool is_known, uint64_t number)
{
	return is_known && number <= INT64_MAX ? json_object_new_int64((int64_t)number) : NULL;
}

struct json_object *json_make_bool(bool is_true)
{
	return json_object_new_boolean(is_true);
}

struct json_object *json_make_texts(const char *const *texts, size_t num)
{
	struct json_object *array = json_object_new_array();

	for (size_t i = 0; array && i < num; i++)
		json_object_array_add(array, json_make_text(texts[i]));
	return array;
}

static struct json_object *make_region(const struct io_region *region)
{
	struct json_object *object = region->count ? json_object_new_object() : NULL;

	if (!object)
		return NULL;
	json_object_object_add(object, "sector", json_make_number(true, region->sector));
	json_object_object_add(object, "count", json_make_number(true, region->count));
	json_object_object_add(object, "bytes", json_make_number(true, region->count * KCOPYD_SECTOR_BYTES));
	return object;
}

static void add_device(struct json_object *object, const struct operand *operand)
{
	const struct block_device *bdev = operand->bdev;
	bool is_open = bdev;
	bool had_size = is_open && !operand->is_new; /* before the copy */

	json_object_object_add(object, "size_bytes",
			       json_make_number(had_size, had_size ? kcopyd_device_bytes(bdev) : 0));
	json_object_object_add(object, "logical_block_bytes",
			       json_make_number(is_open, is_open ? kcopyd_device_logical_block(bdev) : 0));
	json_object_object_add(object, "direct_io", is_open ? json_make_bool(kcopyd_device_is_direct(bdev)) : NULL);
	json_object_object_add(object, "zoned", is_open ? json_make_bool(kcopyd_device_is_zoned(bdev)) : NULL);
}

static const char *kind_of(const struct operand *operand)
{
	switch (operand_kind(operand)) {
	case OPERAND_DISK:
		return "disk";
	case OPERAND_PARTITION:
		return "partition";
	case OPERAND_FILE:
		return "file";
	case OPERAND_NEW_FILE:
		return "new-file";
	case OPERAND_UNKNOWN:
		break;
	}
	return NULL;
}

void json_add_place(struct json_object *object, const struct operand *operand, unsigned int number)
{
	json_object_object_add(object, "number", json_make_number(true, number));
	json_object_object_add(object, "operand",
			       json_make_text(operand->spec.place ? operand->spec.place : operand->name));
	json_object_object_add(object, "path", json_make_text(operand->path));
	json_object_object_add(object, "region", make_region(&operand->region));
	json_object_object_add(object, "refused", json_make_bool(operand->is_bad));
	json_object_object_add(object, "reasons",
			       json_make_texts((const char *const *)operand->problems, operand->num_problems));
}

void json_add_operand(struct json_object *object, const struct operand *operand, unsigned int number)
{
	const struct disk *disk = &operand->disk;

	json_add_place(object, operand, number);
	json_object_object_add(object, "role", json_make_text(number ? "destination" : "source"));
	json_object_object_add(object, "kind", json_make_text(kind_of(operand)));
	json_object_object_add(object, "kernel_name", json_make_text(disk->name));
	json_object_object_add(object, "stable_name", json_make_text(disk->stable_name));
	json_object_object_add(object, "whole_name", json_make_text(disk->whole_name));
	json_object_object_add(object, "partition", json_make_number(disk->partition > 0, disk->partition));
	json_object_object_add(object, "model", json_make_text(disk->model));
	json_object_object_add(object, "serial", json_make_text(disk->serial));
	json_object_object_add(object, "wwn", json_make_text(disk->wwn));
	add_device(object, operand);
}

/* -- which file it may be ------------------------------------------------------------------------ */

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

/* Does @path lead to the file @st, which is open as @fd, or to what stands on it? */
static bool leads_to(const char *path, int fd, const struct stat *st)
{
	struct stat other;

	if (stat(path, &other))
		return false;
	if (S_ISBLK(other.st_mode))
		return is_behind_path(path, fd);
	return other.st_dev == st->st_dev && other.st_ino == st->st_ino;
}

/* @fd is open on the file @name (printable), with @st. Is that the operand, or what that stands on? */
static bool is_operand(const struct operand *operand, const char *name, int fd, const struct stat *st)
{
	if (operand->bdev)
		return kcopyd_device_is_behind(operand->bdev, fd);
	if (!operand->path) /* refused for its text, which may have been meant as this path and a range */
		return operand->name && strncmp(operand->name, name, strlen(name)) == 0;
	return leads_to(operand->path, fd, st);
}

/* Nothing, or what we wrote before: what else a file holds is not destroyed. */
static bool is_ours(int fd, off_t bytes)
{
	static const char begin[] = "{\n  \"kcopy\":";
	char text[sizeof(begin) - 1];

	return bytes == 0 ||
	       (pread(fd, text, sizeof(text), 0) == (ssize_t)sizeof(text) && memcmp(text, begin, sizeof(text)) == 0);
}

static int check_file(const struct json_file *file, const char *path, const struct guard *guard,
		      const char *const *maps, const char *const *words)
{
	struct stat st;

	if (fstat(file->fd, &st) || !S_ISREG(st.st_mode)) {
		log_error("%s: the %s is written to regular files only", file->name, file->noun);
		return -EEXIST;
	}
	for (unsigned int i = guard->has_source ? 0 : 1; guard->operands && i <= guard->num_dests; i++) {
		if (is_operand(&guard->operands[i], file->name, file->fd, &st)) {
			log_error("%s: is an operand, %s; the %s must not overwrite it", file->name,
				  guard->operands[i].name, file->noun);
			return -EEXIST;
		}
	}
	for (; words && *words; words++) {
		if (leads_to(*words, file->fd, &st) || strncmp(*words, path, strlen(path)) == 0) {
			log_error("%s: is named on the command line, too; the %s must not overwrite it", file->name,
				  file->noun);
			return -EEXIST;
		}
	}
	for (; maps && *maps; maps++) {
		if (leads_to(*maps, file->fd, &st)) {
			log_error("%s: is a map, too; the %s must not overwrite it", file->name, file->noun);
			return -EEXIST;
		}
	}
	if (is_ours(file->fd, st.st_size))
		return 0;
	log_error("%s: exists and is no plan or report of kcopy's; it is not overwritten: name another file",
		  file->name);
	return -EEXIST;
}

/* -- where it goes ------------------------------------------------------------------------------- */

static int explain(const struct json_file *file, int error)
{
	if (file->name)
		log_error("%s: the %s cannot be written: %s", file->name, file->noun, strerror(-error));
	else
		log_error("standard output: %s", strerror(-error));
	return error;
}

void json_file_abandon(struct json_file *file)
{
	if (file->name && file->fd >= 0)
		close(file->fd);
	free(file->name);
	*file = (struct json_file){ .fd = -1 };
}

/*
 * Nothing but a regular file is even opened: closing a device that was open for writing makes udev look at it. -errno is
 * printed.
 */
static int open_regular(struct json_file *file, const char *path, bool *is_created)
{
	const int flags = O_RDWR | O_NONBLOCK | O_NOCTTY | O_CLOEXEC;
	struct stat st;

	*is_created = false;
	if (stat(path, &st) == 0 && !S_ISREG(st.st_mode)) {
		log_error("%s: the %s is written to regular files only", file->name, file->noun);
		return -EEXIST;
	}
	file->fd = open(path, flags);
	if (file->fd < 0 && errno == ENOENT) {
		file->fd = open(path, flags | O_CREAT | O_EXCL, 0666);
		*is_created = file->fd >= 0;
		if (file->fd < 0 && errno == EEXIST) {
			log_error("%s: the %s cannot be written: a symbolic link to nothing", file->name, file->noun);
			return -EEXIST;
		}
	}
	return file->fd < 0 ? explain(file, -errno) : 0;
}

int json_file_open(struct json_file *file, const char *noun, const char *path, const struct guard *guard,
		   const char *const *maps, const char *const *words)
{
	bool is_created;
	int ret;

	*file = (struct json_file){ .noun = noun, .fd = STDOUT_FILENO };
	if (!path)
		return 0;
	file->fd = -1;
	file->name = text_printable(path);
	if (!file->name) {
		log_error("%s", strerror(ENOMEM));
		return -ENOMEM;
	}
	ret = open_regular(file, path, &is_created);
	if (ret == 0) {
		ret = check_file(file, path, guard, maps, words);
		if (ret && is_created)
			unlink(path);
	}
	if (ret)
		json_file_abandon(file);
	return ret;
}

int json_file_clear(struct json_file *file)
{
	if (file->name && ftruncate(file->fd, 0))
		return explain(file, -errno);
	return 0;
}

/* An error, or not: a signal ends a wait for who does not read only if it came meanwhile. */
static int settle(int fd, int error, int signal)
{
	struct pollfd pollfd = { .fd = fd, .events = POLLOUT };

	if (error == EINTR)
		return signals_pending() == signal ? 0 : -EINTR;
	if (error != EAGAIN)
		return -error;
	return poll(&pollfd, 1, -1) < 0 && signals_pending() != signal ? -EINTR : 0;
}

int json_file_put(struct json_file *file, const char *text)
{
	int signal = signals_pending(), ret = 0;
	size_t length = strlen(text);

	while (ret == 0 && length > 0) {
		ssize_t put = write(file->fd, text, length);

		if (put < 0) {
			ret = settle(file->fd, errno, signal);
			continue;
		}
		text += put;
		length -= (size_t)put;
	}
	return ret ? explain(file, ret) : 0;
}

int json_file_put_object(struct json_file *file, struct json_object *object)
{
	const int flags = JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_SPACED | JSON_C_TO_STRING_NOSLASHESCAPE;
	const char *text = object ? json_object_to_json_string_ext(object, flags) : NULL;
	int ret;

	if (!text)
		return explain(file, -ENOMEM);
	ret = json_file_put(file, text);
	return ret ? ret : json_file_put(file, "\n");
}

int json_file_close(struct json_file *file)
{
	int ret = 0;

	if (file->name && fsync(file->fd) && errno != EINVAL)
		ret = -errno;
	if (close(file->fd) && ret == 0)
		ret = -errno;
	if (ret)
		explain(file, ret);
	if (file->name)
		file->fd = -1;
	json_file_abandon(file);
	return ret;
}
