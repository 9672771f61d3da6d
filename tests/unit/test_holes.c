/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Holes of real files, on whatever file system $TMPDIR is: what is told of them, and that a range that was zeroed reads
 * back as zeros, whatever stood there and whatever the file system can do.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "device.h"
#include "holes.h"

#define KIB ((uint64_t)1 << 10)
#define MIB ((uint64_t)1 << 20)

struct file {
	char path[4096];
	struct block_device *bdev;
};

static void fill(int fd, uint64_t offset, uint64_t bytes, char byte)
{
	char *data = malloc(bytes);

	assert_non_null(data);
	memset(data, byte, bytes);
	assert_int_equal(pwrite(fd, data, bytes, (off_t)offset), bytes);
	free(data);
}

/* Of so many bytes, with data from each first to each end of @data, which ends with 0, 0. */
static struct file *make_file(uint64_t bytes, const uint64_t (*data)[2])
{
	struct file *file = calloc(1, sizeof(*file));
	const char *dir = getenv("TMPDIR");
	int fd;

	assert_non_null(file);
	snprintf(file->path, sizeof(file->path), "%s/test_holes.XXXXXX", dir ? dir : "/tmp");
	fd = mkstemp(file->path);
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)bytes), 0);
	for (; (*data)[1]; data++)
		fill(fd, (*data)[0], (*data)[1] - (*data)[0], 'x');
	assert_int_equal(kcopyd_device_open_fd(fd, &file->bdev), 0);
	return file;
}

static void remove_file(struct file *file)
{
	kcopyd_device_close(file->bdev);
	unlink(file->path);
	free(file);
}

static bool has_holes(void)
{
	struct file *file = make_file(MIB, (const uint64_t[][2]){ { 0, 0 } });
	bool ret = lseek(file->bdev->fd, 0, SEEK_DATA) < 0 && !file->bdev->is_fuse;

	remove_file(file);
	return ret;
}

static uint64_t size_of(const struct file *file)
{
	struct stat st;

	assert_int_equal(fstat(file->bdev->fd, &st), 0);
	return (uint64_t)st.st_size;
}

static uint64_t space_of(const struct file *file)
{
	struct stat st;

	assert_int_equal(fstat(file->bdev->fd, &st), 0);
	return (uint64_t)st.st_blocks * 512;
}

/* The file has @byte from @first to @end. */
static void assert_holds(const struct file *file, uint64_t first, uint64_t end, char byte)
{
	char *data = malloc(end - first);

	assert_non_null(data);
	memset(data, byte + 1, end - first);
	assert_int_equal(pread(file->bdev->buffered_fd, data, end - first, (off_t)first), end - first);
	for (uint64_t i = 0; i < end - first; i++)
		if (data[i] != byte)
			fail_msg("byte %llu is %d", (unsigned long long)(first + i), data[i]);
	free(data);
}

/* -- the source ---------------------------------------------------------------------------------- */

static void assert_found(const struct file *file, uint64_t offset, uint64_t end, uint64_t want_hole, uint64_t want_data)
{
	uint64_t hole_end, data_end;

	holes_find(file->bdev, offset, end, &hole_end, &data_end);
	assert_int_equal(hole_end, want_hole);
	assert_int_equal(data_end, want_data);
}

static void holes_and_what_is_between_them_are_told(void **state)
{
	static const uint64_t data[][2] = { { MIB, 2 * MIB },
					    { 2 * MIB + 64 * KIB, 3 * MIB }, /* behind a small hole */
					    { 5 * MIB, 6 * MIB },
					    { 0, 0 } };
	struct file *file;

	(void)state;
	if (!has_holes())
		skip();
	file = make_file(8 * MIB, data);
	assert_found(file, 0, 8 * MIB, MIB, 3 * MIB);
	assert_found(file, 512 * KIB, 8 * MIB, MIB, 3 * MIB);
	assert_found(file, MIB, 8 * MIB, MIB, 3 * MIB);
	assert_found(file, MIB + 512, 8 * MIB, MIB + 512, 3 * MIB);
	assert_found(file, 3 * MIB, 8 * MIB, 5 * MIB, 6 * MIB);
	assert_found(file, 6 * MIB, 8 * MIB, 8 * MIB, 8 * MIB);
	/* Of a part of it. */
	assert_found(file, 0, 512 * KIB, 512 * KIB, 512 * KIB);
	assert_found(file, 0, 2 * MIB + 512, MIB, 2 * MIB + 512);
	/* A hole that is too small, and none at all behind it. */
	assert_found(file, 2 * MIB, 3 * MIB, 2 * MIB, 3 * MIB);
	remove_file(file);
}

static void a_last_partial_sector_is_in_the_hole_or_in_the_data(void **state)
{
	struct file *file;

	(void)state;
	if (!has_holes())
		skip();
	file = make_file(MIB + 100, (const uint64_t[][2]){ { 0, 0 } });
	assert_found(file, 0, MIB + 512, MIB + 512, MIB + 512);
	remove_file(file);
	file = make_file(MIB + 100, (const uint64_t[][2]){ { 4096, MIB + 100 }, { 0, 0 } });
	assert_found(file, 8192, MIB + 512, 8192, MIB + 512);
	remove_file(file);
}

static void what_was_cut_off_is_no_hole(void **state)
{
	struct file *file = make_file(4 * MIB, (const uint64_t[][2]){ { 0, MIB }, { 0, 0 } });

	(void)state;
	assert_int_equal(ftruncate(file->bdev->fd, (off_t)(2 * MIB)), 0);
	assert_found(file, 3 * MIB, 4 * MIB, 3 * MIB, 4 * MIB);
	assert_found(file, MIB, 4 * MIB, MIB, 4 * MIB);
	remove_file(file);
}

static void an_answer_comes_soon_however_many_small_holes_there_are(void **state)
{
	uint64_t(*data)[2] = calloc(1001, sizeof(*data)), offset = 0, hole_end, data_end;
	struct file *file;
	unsigned int asked = 0;

	(void)state;
	assert_non_null(data);
	for (unsigned int i = 0; i < 1000; i++) {
		data[i][0] = i * 64 * KIB;
		data[i][1] = i * 64 * KIB + 4 * KIB;
	}
	file = make_file(1000 * 64 * KIB, (const uint64_t(*)[2])data);
	for (; offset < 1000 * 64 * KIB; asked++) {
		holes_find(file->bdev, offset, 1000 * 64 * KIB, &hole_end, &data_end);
		assert_int_equal(hole_end, offset); /* data throughout */
		assert_true(data_end > offset);
		offset = data_end;
	}
	if (has_holes())
		assert_in_range(asked, 10, 20);
	remove_file(file);
	free(data);
}

/* -- the destination ----------------------------------------------------------------------------- */

/* What is around the range stays as it was; what is in it is zeros, and the file is long enough. */
static void check_made(struct file *file, uint64_t offset, uint64_t bytes, struct holes_made *made)
{
	uint64_t before = size_of(file);

	assert_int_equal(holes_make(file->bdev, offset, bytes, made), bytes);
	assert_int_equal(size_of(file), before > offset + bytes ? before : offset + bytes);
	assert_holds(file, offset, offset + bytes, 0);
}

static void check_stale_data(bool can_zero)
{
	static const uint64_t ranges[][2] = { { 0, 512 },     { 512, 512 },
					      { 4096, 4096 }, { 4096 + 512, 3 * 4096 },
					      { 0, 3 * MIB }, { 512 * 7, MIB + 512 },
					      { MIB, MIB } };

	for (size_t i = 0; i < sizeof(ranges) / sizeof(ranges[0]); i++) {
		struct file *file = make_file(4 * MIB, (const uint64_t[][2]){ { 0, 4 * MIB }, { 0, 0 } });
		uint64_t offset = ranges[i][0], end = offset + ranges[i][1];
		struct holes_made made;

		atomic_store(&file->bdev->cannot_zero, !can_zero);
		/* Half of it is still in the page cache only. */
		assert_int_equal(fdatasync(file->bdev->fd), 0);
		fill(file->bdev->buffered_fd, 2 * MIB, 2 * MIB, 'x');
		check_made(file, offset, end - offset, &made);
		if (!can_zero)
			assert_true(made.is_written);
		if (offset)
			assert_holds(file, 0, offset, 'x');
		assert_holds(file, end, 4 * MIB, 'x');
		remove_file(file);
	}
}

static void what_stood_there_is_zeroed_exactly(void **state)
{
	(void)state;
	check_stale_data(true);
}

static void what_cannot_be_zeroed_is_written(void **state)
{
	(void)state;
	check_stale_data(false);
}

static void a_hole_takes_no_space(void **state)
{
	struct file *file;
	struct holes_made made;

	(void)state;
	if (!has_holes())
		skip();
	file = make_file(4 * MIB, (const uint64_t[][2]){ { 0, 4 * MIB }, { 0, 0 } });
	assert_true(space_of(file) >= 4 * MIB);
	check_made(file, MIB, 2 * MIB, &made);
	if (made.is_written)
		print_message("# this file system makes no holes\n");
	else
		assert_in_range(space_of(file), 2 * MIB, 2 * MIB + 64 * KIB);
	remove_file(file);
}

static void a_hole_that_is_there_is_left_as_it_is(void **state)
{
	struct file *file;
	struct holes_made made;

	(void)state;
	if (!has_holes())
		skip();
	file = make_file(4 * MIB, (const uint64_t[][2]){ { 3 * MIB, 4 * MIB }, { 0, 0 } });
	check_made(file, MIB, 64 * KIB, &made);
	assert_false(made.is_written);
	assert_int_equal(made.zero_end, 3 * MIB);
	/* Data that is in the page cache only. */
	fill(file->bdev->buffered_fd, 2 * MIB, 4096, 'x');
	check_made(file, MIB, 64 * KIB, &made);
	assert_int_equal(made.zero_end, 2 * MIB);
	check_made(file, MIB, 2 * MIB, &made);
	assert_int_equal(made.zero_end, 0);
	assert_holds(file, 3 * MIB, 4 * MIB, 'x');
	remove_file(file);
}

static void behind_the_end_the_file_grows_and_is_never_cut(void **state)
{
	static const uint64_t ranges[][2] = { { MIB, 3 * MIB },	      { MIB + 512, 512 }, { 2 * MIB, MIB },
					      { 512 * KIB, 2 * MIB }, { 0, MIB - 512 },	  { MIB - 512, 1024 } };

	(void)state;
	for (size_t i = 0; i < 2 * sizeof(ranges) / sizeof(ranges[0]); i++) {
		struct file *file = make_file(MIB, (const uint64_t[][2]){ { 0, MIB }, { 0, 0 } });
		uint64_t offset = ranges[i / 2][0];
		struct holes_made made;

		atomic_store(&file->bdev->cannot_zero, i % 2);
		check_made(file, offset, ranges[i / 2][1], &made);
		if (offset)
			assert_holds(file, 0, offset < MIB ? offset : MIB, 'x');
		remove_file(file);
	}
}

static void what_cannot_be_had_is_an_error(void **state)
{
	struct file *file = make_file(MIB, (const uint64_t[][2]){ { 0, MIB }, { 0, 0 } });
	struct block_device *bdev;
	struct holes_made made;

	(void)state;
	assert_int_equal(kcopyd_device_open(file->path, O_RDONLY, &bdev), 0);
	assert_int_equal(holes_make(bdev, 0, MIB, &made), -EBADF);
	assert_holds(file, 0, MIB, 'x');
	kcopyd_device_close(bdev);
	remove_file(file);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(holes_and_what_is_between_them_are_told),
		cmocka_unit_test(a_last_partial_sector_is_in_the_hole_or_in_the_data),
		cmocka_unit_test(what_was_cut_off_is_no_hole),
		cmocka_unit_test(an_answer_comes_soon_however_many_small_holes_there_are),
		cmocka_unit_test(what_stood_there_is_zeroed_exactly),
		cmocka_unit_test(what_cannot_be_zeroed_is_written),
		cmocka_unit_test(a_hole_takes_no_space),
		cmocka_unit_test(a_hole_that_is_there_is_left_as_it_is),
		cmocka_unit_test(behind_the_end_the_file_grows_and_is_never_cut),
		cmocka_unit_test(what_cannot_be_had_is_an_error),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
