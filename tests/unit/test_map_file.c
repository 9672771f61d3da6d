/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Resume maps in files: a new one is whole and on stable storage, or the old one stays, whatever fails and wherever
 * kcopy is killed. The calls that write are stood in for, so that each can fail; real failures are made where that is
 * possible.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "map.h"

#define COUNT ((sector_t)100000)
#define NOBODY 65534

static const struct map_owner owner = {
	.source = { .path = "/dev/sda", .serial = "S1", .bytes = COUNT * 512 },
	.dest = { .path = "/dev/sdb", .serial = "D1", .bytes = COUNT * 512 },
};

/* -- the calls that write ------------------------------------------------------------------------ */

static struct {
	char trail[100];     /* a letter for each call */
	unsigned int fail;   /* the call that fails, from 1; or 0 */
	int error;	     /* with this; 0: the process is killed before it */
	bool is_in_crumbs;   /* writes are short, and interrupted in between */
	unsigned int writes; /* so far */
	mode_t first_mode;   /* of the temporary file, before it is changed */
} calls;

static bool fails(char letter)
{
	size_t length = strlen(calls.trail);

	if (length + 1 < sizeof(calls.trail) && (length == 0 || letter != 'w' || calls.trail[length - 1] != 'w')) {
		calls.trail[length] = letter;
		calls.trail[length + 1] = '\0';
		length++;
	}
	if (calls.fail != length)
		return false;
	if (!calls.error)
		raise(SIGKILL);
	errno = calls.error;
	return true;
}

ssize_t write(int fd, const void *data, size_t bytes)
{
	if (fails('w'))
		return -1;
	calls.writes++;
	if (calls.is_in_crumbs && calls.writes % 2) {
		errno = EINTR;
		return -1;
	}
	return syscall(SYS_write, fd, data, calls.is_in_crumbs && bytes > 7 ? 7 : bytes);
}

int fsync(int fd)
{
	struct stat st;

	if (fails(fstat(fd, &st) == 0 && S_ISDIR(st.st_mode) ? 'd' : 'f'))
		return -1;
	return (int)syscall(SYS_fsync, fd);
}

int fchmod(int fd, mode_t mode)
{
	struct stat st;

	assert_int_equal(fstat(fd, &st), 0);
	calls.first_mode = st.st_mode & 0777;
	return (int)syscall(SYS_fchmod, fd, mode);
}

int renameat(int old_dir, const char *old, int new_dir, const char *new)
{
	if (fails('r'))
		return -1;
	return (int)syscall(SYS_renameat2, old_dir, old, new_dir, new, 0);
}

/* -- a directory of its own for each test -------------------------------------------------------- */

static char dir[200], path[sizeof(dir) + 8]; /* path: dir/map */

static const char *in_dir(const char *name)
{
	static char paths[4][600];
	static unsigned int next;

	next = (next + 1) % 4;
	snprintf(paths[next], sizeof(paths[next]), "%s/%s", dir, name);
	return paths[next];
}

static int make_dir(void **state)
{
	const char *tmp = getenv("TMPDIR");

	(void)state;
	memset(&calls, 0, sizeof(calls));
	snprintf(dir, sizeof(dir), "%s/kcopy-map.XXXXXX", tmp && strlen(tmp) < 150 ? tmp : "/tmp");
	if (!mkdtemp(dir))
		return -1;
	snprintf(path, sizeof(path), "%s/map", dir);
	return 0;
}

static int remove_dir(void **state)
{
	char command[2 * sizeof(dir) + 40];

	(void)state;
	if (geteuid() != getuid() && seteuid(getuid()))
		return -1;
	umask(022);
	umount2(dir, MNT_DETACH); /* if a test failed that mounted something */
	snprintf(command, sizeof(command), "chmod -R u+rwx '%s'; rm -rf '%s'", dir, dir);
	return system(command);
}

/* The directory's entries but "." and "..", sorted and joined by blanks. */
static void assert_entries(const char *want)
{
	struct dirent **entries;
	int num = scandir(dir, &entries, NULL, alphasort), i;
	char got[1000] = "";

	assert_true(num >= 0);
	for (i = 0; i < num; i++) {
		size_t length = strlen(got);

		if (strcmp(entries[i]->d_name, ".") && strcmp(entries[i]->d_name, ".."))
			snprintf(got + length, sizeof(got) - length, "%s%s", length ? " " : "", entries[i]->d_name);
		free(entries[i]);
	}
	free(entries);
	assert_string_equal(got, want);
}

/* -- maps that are told apart by their runs ------------------------------------------------------ */

/* @sectors in many runs, so that its file has some kilobytes. */
static struct map *make_map(sector_t sectors)
{
	struct map *map;
	sector_t n;

	assert_int_equal(map_create(0, COUNT, &map), 0);
	for (n = 0; n < sectors; n++)
		assert_int_equal(map_set(map, 2 * n, 1, MAP_FLUSHED), 0);
	return map;
}

static int save(const char *file, sector_t sectors)
{
	struct map *map = make_map(sectors);
	int ret = map_save(map, &owner, file);

	map_destroy(map);
	return ret;
}

static int load(const char *file, sector_t *sectors, char **message)
{
	struct map *map = make_map(0);
	int ret = map_load(map, &owner, file, message);

	*sectors = map_count(map, MAP_FLUSHED);
	map_destroy(map);
	return ret;
}

static void assert_holds(const char *file, sector_t sectors)
{
	sector_t got;
	char *message;

	assert_int_equal(load(file, &got, &message), 0);
	assert_null(message);
	assert_int_equal(got, sectors);
}

static mode_t mode_of(const char *file)
{
	struct stat st;

	assert_int_equal(lstat(file, &st), 0);
	return st.st_mode;
}

/* As somebody who may not do everything; false: that is what we are already. */
static bool become_nobody(void)
{
	if (geteuid() != 0)
		return false;
	assert_int_equal(chmod(dir, 0777), 0);
	assert_int_equal(seteuid(NOBODY), 0);
	return true;
}

static void skip_because(const char *reason)
{
	print_message("# SKIP %s\n", reason);
	skip();
}

/* -- saving -------------------------------------------------------------------------------------- */

static void a_map_comes_back_from_its_file(void **state)
{
	(void)state;
	assert_int_equal(save(path, 500), 0);
	assert_holds(path, 500);
	assert_int_equal(save(path, 3), 0);
	assert_holds(path, 3);
	assert_entries("map");
}

static void a_map_has_its_name_only_when_it_is_on_stable_storage(void **state)
{
	(void)state;
	assert_int_equal(save(path, 1), 0);
	assert_string_equal(calls.trail, "wfrd"); /* write, fsync, rename, fsync of the directory */
}

static void short_and_interrupted_writes_are_gone_on_with(void **state)
{
	(void)state;
	calls.is_in_crumbs = true;
	assert_int_equal(save(path, 20), 0);
	assert_true(calls.writes > 100);
	assert_holds(path, 20);
}

static void any_name_will_do(void **state)
{
	char name[256], cwd[PATH_MAX];

	(void)state;
	memset(name, 'x', 255);
	name[255] = '\0';
	assert_int_equal(save(in_dir(name), 5), 0);
	assert_holds(in_dir(name), 5);
	assert_non_null(getcwd(cwd, sizeof(cwd)));
	assert_int_equal(chdir(dir), 0);
	assert_int_equal(save("map", 6), 0);
	assert_int_equal(save("./-\n", 7), 0);
	assert_holds("-\n", 7);
	assert_int_equal(chdir(cwd), 0);
	assert_holds(path, 6);
}

static void a_new_file_has_the_mode_that_umask_gives_and_an_old_one_its_own(void **state)
{
	(void)state;
	umask(027);
	assert_int_equal(save(path, 1), 0);
	assert_int_equal(mode_of(path), S_IFREG | 0640);
	assert_int_equal(chmod(path, 0604), 0);
	assert_int_equal(save(path, 2), 0);
	assert_int_equal(mode_of(path), S_IFREG | 0604);
	assert_int_equal(calls.first_mode, 0600); /* at no time is it open to more than the old one was */
	assert_holds(path, 2);
}

static void an_old_file_keeps_its_owner_where_that_is_allowed(void **state)
{
	struct stat st;

	(void)state;
	if (geteuid() != 0)
		skip_because("only root can give files away");
	assert_int_equal(save(path, 1), 0);
	assert_int_equal(chown(path, 1234, 2345), 0);
	assert_int_equal(chmod(path, 0664), 0);
	assert_int_equal(save(path, 2), 0);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_uid, 1234);
	assert_int_equal(st.st_gid, 2345);
	assert_int_equal(st.st_mode, S_IFREG | 0664);

	/* Somebody else may write it, but not give it away: it is readable to nobody who could not read it. */
	assert_int_equal(chmod(path, 0660), 0);
	assert_true(become_nobody());
	assert_int_equal(save(path, 3), 0);
	assert_int_equal(seteuid(0), 0);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_uid, NOBODY);
	assert_int_equal(st.st_mode, S_IFREG | 0600);
	assert_holds(path, 3);
}

static void of_a_symbolic_link_the_target_is_written(void **state)
{
	(void)state;
	assert_int_equal(mkdir(in_dir("sub"), 0755), 0);
	assert_int_equal(symlink("sub/other", in_dir("relative")), 0); /* there is no such file yet */
	assert_int_equal(save(in_dir("relative"), 4), 0);
	assert_holds(in_dir("sub/other"), 4);
	assert_int_equal(symlink(in_dir("relative"), in_dir("absolute")), 0);
	assert_int_equal(symlink("../absolute", in_dir("sub/chain")), 0);
	assert_int_equal(save(in_dir("sub/chain"), 5), 0);
	assert_holds(in_dir("sub/other"), 5);
	assert_true(S_ISLNK(mode_of(in_dir("relative"))));
	assert_true(S_ISLNK(mode_of(in_dir("absolute"))));
	assert_true(S_ISLNK(mode_of(in_dir("sub/chain"))));
	assert_entries("absolute relative sub");
	assert_int_equal(symlink("loop", in_dir("loop")), 0);
	assert_int_equal(save(in_dir("loop"), 1), -ELOOP);
}

static void what_is_no_regular_file_is_not_replaced(void **state)
{
	static char text[8];

	(void)state;
	assert_int_equal(mkdir(path, 0755), 0);
	assert_int_equal(save(path, 1), -EISDIR);
	assert_int_equal(save(in_dir("map/"), 1), -EISDIR);
	assert_int_equal(save(in_dir("map/."), 1), -EISDIR);
	assert_int_equal(save("/", 1), -EISDIR);
	assert_int_equal(mkfifo(in_dir("fifo"), 0644), 0);
	assert_int_equal(save(in_dir("fifo"), 1), -ENOTSUP);
	assert_true(S_ISFIFO(mode_of(in_dir("fifo"))));
	assert_int_equal(symlink("/dev/null", in_dir("link")), 0);
	assert_int_equal(save(in_dir("link"), 1), -ENOTSUP);
	assert_int_equal(save("", 1), -ENOENT);
	assert_int_equal(save(in_dir("no/map"), 1), -ENOENT);
	assert_int_equal(save(in_dir("fifo/map"), 1), -ENOTDIR);
	assert_int_equal(map_write(text, MAP_MAX_BYTES + 1, in_dir("big")), -EFBIG);
	assert_entries("fifo link map");
}

/* -- failures ------------------------------------------------------------------------------------ */

static void whatever_fails_the_old_file_stays_and_nothing_else(void **state)
{
	static const int errors[] = { EIO, ENOSPC, EDQUOT };
	unsigned int call, i;

	(void)state;
	for (call = 1; call <= 3; call++) {
		for (i = 0; i < 3; i++) {
			memset(&calls, 0, sizeof(calls));
			calls.fail = call;
			calls.error = errors[i];
			assert_int_equal(save(in_dir("new"), 3), -errors[i]);
			assert_entries("");
		}
	}
	memset(&calls, 0, sizeof(calls));
	assert_int_equal(save(path, 10), 0);
	for (call = 1; call <= 3; call++) {
		memset(&calls, 0, sizeof(calls));
		calls.fail = call;
		calls.error = EIO;
		assert_int_equal(save(path, 20), -EIO);
		assert_holds(path, 10);
		assert_entries("map");
	}
}

static void a_directory_that_cannot_be_synced_is_told_unless_none_can(void **state)
{
	(void)state;
	calls.fail = 4;
	calls.error = EIO;
	assert_int_equal(save(path, 1), -EIO);
	assert_entries("map");
	memset(&calls, 0, sizeof(calls));
	calls.fail = 4;
	calls.error = EINVAL; /* what some file systems say */
	assert_int_equal(save(path, 2), 0);
	assert_holds(path, 2);
}

static void killed_at_any_step_it_leaves_a_whole_map(void **state)
{
	unsigned int call;

	(void)state;
	for (call = 1; call <= 4; call++) {
		int status;
		pid_t child;

		assert_int_equal(save(path, 10), 0);
		child = fork();
		assert_true(child >= 0);
		if (child == 0) {
			memset(&calls, 0, sizeof(calls));
			calls.fail = call;
			_exit(save(path, 20) ? 1 : 0);
		}
		assert_int_equal(waitpid(child, &status, 0), child);
		assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
		assert_holds(path, call < 4 ? 10 : 20);
		memset(&calls, 0, sizeof(calls));
	}
}

static void a_file_that_may_not_grow_leaves_the_old_map(void **state)
{
	struct rlimit old, small;

	(void)state;
	assert_int_equal(save(path, 10), 0);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
	small = old;
	small.rlim_cur = 4096;
	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
	assert_int_equal(save(path, 1000), -EFBIG); /* after a short write */
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
	signal(SIGXFSZ, SIG_DFL);
	assert_holds(path, 10);
	assert_entries("map");
}

static void a_full_file_system_leaves_the_old_map(void **state)
{
	const size_t bytes = 1 << 16;
	char *zeros = calloc(1, bytes);
	int fd;

	(void)state;
	assert_non_null(zeros);
	if (geteuid() != 0 || mount("kcopy", dir, "tmpfs", 0, "size=64k")) {
		free(zeros);
		skip_because("a small tmpfs cannot be mounted here");
		return;
	}
	assert_int_equal(save(path, 10), 0);
	fd = open(in_dir("filler"), O_WRONLY | O_CREAT, 0644);
	assert_int_equal(syscall(SYS_write, fd, zeros, bytes - 5 * 4096), bytes - 5 * 4096);
	free(zeros);
	assert_int_equal(save(path, 1000), -ENOSPC); /* 50 KiB where there is room for 12 or so */
	assert_holds(path, 10);
	assert_entries("filler map");
	assert_int_equal(ftruncate(fd, 0), 0);
	close(fd);
	assert_int_equal(save(path, 20), 0);
	assert_holds(path, 20);
	assert_int_equal(umount(dir), 0);
}

static void a_directory_that_may_not_be_written_leaves_the_old_map(void **state)
{
	(void)state;
	become_nobody();
	assert_int_equal(save(path, 10), 0);
	if (geteuid() != getuid())
		assert_int_equal(seteuid(getuid()), 0);
	assert_int_equal(chmod(dir, 0555), 0);
	if (geteuid() == 0)
		assert_int_equal(seteuid(NOBODY), 0);
	assert_int_equal(save(path, 20), -EACCES);
	assert_holds(path, 10);
	assert_entries("map");
}

static void a_file_that_may_not_be_replaced_stays(void **state)
{
	(void)state;
	if (geteuid() != 0)
		skip_because("only root can make somebody else's file");
	assert_int_equal(save(path, 10), 0);
	assert_true(become_nobody());
	assert_int_equal(seteuid(0), 0);
	assert_int_equal(chmod(dir, 01777), 0); /* as /tmp */
	assert_int_equal(seteuid(NOBODY), 0);
	assert_int_equal(save(path, 20), -EPERM);
	assert_holds(path, 10);
	assert_entries("map");
}

/* -- loading ------------------------------------------------------------------------------------- */

static void assert_not_loaded(const char *file, int error, const char *want)
{
	sector_t sectors;
	char *message;

	assert_int_equal(load(file, &sectors, &message), error);
	assert_int_equal(sectors, 0);
	if (want)
		assert_string_equal(message, want);
	else
		assert_null(message);
	free(message);
}

static void a_map_that_is_not_there_is_no_error_in_it(void **state)
{
	(void)state;
	assert_not_loaded(path, -ENOENT, NULL);
	assert_not_loaded(in_dir("no/map"), -ENOENT, NULL);
	assert_int_equal(symlink("nowhere", path), 0);
	assert_not_loaded(path, -ENOENT, NULL);
	become_nobody();
	assert_int_equal(save(in_dir("secret"), 1), 0);
	assert_int_equal(chmod(in_dir("secret"), 0), 0);
	assert_not_loaded(in_dir("secret"), -EACCES, NULL);
}

static void what_is_no_map_is_refused(void **state)
{
	int fd;

	(void)state;
	assert_not_loaded(dir, -EINVAL, "is no regular file");
	assert_not_loaded("/dev/zero", -EINVAL, "is no regular file");
	assert_int_equal(mkfifo(in_dir("fifo"), 0644), 0); /* nor is it waited for */
	assert_not_loaded(in_dir("fifo"), -EINVAL, "is no regular file");
	fd = open(path, O_WRONLY | O_CREAT, 0644);
	assert_not_loaded(path, -EINVAL, "is empty");
	assert_int_equal(ftruncate(fd, MAP_MAX_BYTES), 0);
	assert_not_loaded(path, -EINVAL, "line 1: longer than 65536 bytes");
	assert_int_equal(ftruncate(fd, MAP_MAX_BYTES + 1), 0);
	assert_not_loaded(path, -EINVAL, "is larger than any map (64 MiB)");
	close(fd);
}

#define IN_DIR(test) cmocka_unit_test_setup_teardown(test, make_dir, remove_dir)

int main(void)
{
	const struct CMUnitTest tests[] = {
		IN_DIR(a_map_comes_back_from_its_file),
		IN_DIR(a_map_has_its_name_only_when_it_is_on_stable_storage),
		IN_DIR(short_and_interrupted_writes_are_gone_on_with),
		IN_DIR(any_name_will_do),
		IN_DIR(a_new_file_has_the_mode_that_umask_gives_and_an_old_one_its_own),
		IN_DIR(an_old_file_keeps_its_owner_where_that_is_allowed),
		IN_DIR(of_a_symbolic_link_the_target_is_written),
		IN_DIR(what_is_no_regular_file_is_not_replaced),
		IN_DIR(whatever_fails_the_old_file_stays_and_nothing_else),
		IN_DIR(a_directory_that_cannot_be_synced_is_told_unless_none_can),
		IN_DIR(killed_at_any_step_it_leaves_a_whole_map),
		IN_DIR(a_file_that_may_not_grow_leaves_the_old_map),
		IN_DIR(a_full_file_system_leaves_the_old_map),
		IN_DIR(a_directory_that_may_not_be_written_leaves_the_old_map),
		IN_DIR(a_file_that_may_not_be_replaced_stays),
		IN_DIR(a_map_that_is_not_there_is_no_error_in_it),
		IN_DIR(what_is_no_map_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
