/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which names cannot exist, without asking for each. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#include "names.h"

#define MOST_MS 10000

static char directory[256];

static int make_directory(void **state)
{
	const char *parent = getenv("TMPDIR");

	(void)state;
	snprintf(directory, sizeof(directory), "%s/names.XXXXXX", parent ? parent : "/tmp");
	return mkdtemp(directory) ? 0 : -1;
}

static int remove_directory(void **state)
{
	char path[300];

	(void)state;
	snprintf(path, sizeof(path), "%s/disk:8", directory);
	unlink(path);
	snprintf(path, sizeof(path), "%s/disk", directory);
	unlink(path);
	return rmdir(directory);
}

static bool may_exist(struct names *names, const char *name)
{
	char path[300];

	snprintf(path, sizeof(path), "%s/%s", directory, name);
	return names_may_exist(names, path);
}

static void create(const char *name)
{
	char path[300];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", directory, name);
	fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	close(fd);
}

/* A directory that has just changed is not believed to be as it was. */
static void wait_until_settled(struct names *names)
{
	const struct timespec pause = { .tv_nsec = 10000000 };

	for (int ms = 0; may_exist(names, "other:1") && ms < MOST_MS; ms += 10) {
		nanosleep(&pause, NULL);
		names_doubt(names);
	}
	assert_false(may_exist(names, "other:1"));
}

static bool is_local(void)
{
	struct statfs fs;

	assert_int_equal(statfs(directory, &fs), 0);
	return fs.f_type == EXT4_SUPER_MAGIC || fs.f_type == XFS_SUPER_MAGIC || fs.f_type == BTRFS_SUPER_MAGIC ||
	       fs.f_type == TMPFS_MAGIC;
}

static void a_new_name_is_seen_when_there_is_doubt(void **state)
{
	struct names names = { .next = 0 };

	(void)state;
	if (!is_local())
		skip();
	create("disk");
	wait_until_settled(&names);
	assert_false(may_exist(&names, "disk:8"));
	assert_true(may_exist(&names, "disk"));
	create("disk:8");
	names_doubt(&names);
	assert_true(may_exist(&names, "disk:8"));
	names_free(&names);
}

static void a_new_name_is_seen_after_some_questions_in_any_case(void **state)
{
	struct names names = { .next = 0 };
	bool is_seen = false;

	(void)state;
	if (!is_local())
		skip();
	wait_until_settled(&names);
	create("disk:8");
	for (int i = 0; i < 200 && !is_seen; i++)
		is_seen = may_exist(&names, "disk:8");
	assert_true(is_seen);
	names_free(&names);
}

static void directories_that_were_forgotten_are_looked_at_again(void **state)
{
	struct names names = { .next = 0 };
	char path[32];

	(void)state;
	if (!is_local())
		skip();
	wait_until_settled(&names);
	create("disk:8");
	for (int i = 0; i < 10; i++) {
		snprintf(path, sizeof(path), "/no-such-%d/x:1", i);
		assert_true(names_may_exist(&names, path));
	}
	assert_true(may_exist(&names, "disk:8"));
	names_free(&names);
}

static void what_is_no_local_file_system_s_may_always_exist(void **state)
{
	struct names names = { .next = 0 };

	(void)state;
	assert_true(names_may_exist(&names, "/proc/self/x:1"));
	assert_true(names_may_exist(&names, "/proc/self/x:1"));
	names_free(&names);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_new_name_is_seen_when_there_is_doubt, make_directory,
						remove_directory),
		cmocka_unit_test_setup_teardown(a_new_name_is_seen_after_some_questions_in_any_case, make_directory,
						remove_directory),
		cmocka_unit_test_setup_teardown(directories_that_were_forgotten_are_looked_at_again, make_directory,
						remove_directory),
		cmocka_unit_test(what_is_no_local_file_system_s_may_always_exist),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
