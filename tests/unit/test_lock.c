/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Locks: whom they keep out, for how long, and who is said to have them. On files and real processes; flock() itself is
 * replaced where the kernel or a file system has to behave in a certain way.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lock.h"
#include "log.h"

/* /proc/locks does not show the number of every file system as stat() does; a tmpfs's it does. */
#define NAME "kcopy-lock.XXXXXX"
static char path[32];

/* The next so many calls fail. */
static int script_calls, script_error;

int flock(int fd, int operation)
{
	if (script_calls > 0) {
		script_calls--;
		errno = script_error;
		return -1;
	}
	return (int)syscall(SYS_flock, fd, operation);
}

static int open_file(int flags)
{
	int fd = open(path, flags | O_CLOEXEC);

	assert_return_code(fd, errno);
	return fd;
}

/* -- another process ----------------------------------------------------------------------------- */

enum kind { BSD_SHARED, BSD_EXCLUSIVE, POSIX_READ, POSIX_WRITE, OPEN_FILE_READ };

static int take(int fd, enum kind kind)
{
	struct flock lock = {
		.l_type = kind == POSIX_WRITE ? F_WRLCK : F_RDLCK, .l_whence = SEEK_SET, .l_start = 100, .l_len = 1
	};

	switch (kind) {
	case BSD_SHARED:
		return flock(fd, LOCK_SH);
	case BSD_EXCLUSIVE:
		return flock(fd, LOCK_EX);
	case POSIX_READ:
	case POSIX_WRITE:
		return fcntl(fd, F_SETLK, &lock);
	case OPEN_FILE_READ:
		return fcntl(fd, F_OFD_SETLK, &lock);
	}
	return -1;
}

/* Its name: who is not known, or is udev, is waited for. */
static const char *locker_name = "a\tlocker";

/* A process of that name that has the lock when this returns, until it is killed. */
static pid_t locker_start(enum kind kind)
{
	int ready[2];
	char byte;
	pid_t pid;

	assert_return_code(pipe2(ready, O_CLOEXEC), errno);
	pid = fork();
	assert_return_code(pid, errno);
	if (pid == 0) {
		int fd = open(path, O_RDWR | O_CLOEXEC);

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		prctl(PR_SET_NAME, locker_name);
		if (fd < 0 || take(fd, kind) || write(ready[1], "x", 1) != 1)
			_exit(1);
		for (;;)
			pause();
	}
	close(ready[1]);
	assert_int_equal(read(ready[0], &byte, 1), 1);
	close(ready[0]);
	return pid;
}

static void locker_kill(pid_t pid)
{
	int status;

	assert_return_code(kill(pid, SIGKILL), errno);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status));
}

static void assert_described(char *text, pid_t pid)
{
	char want[64];

	snprintf(want, sizeof(want), "a\\tlocker (process %d)", pid);
	assert_non_null(text);
	assert_string_equal(text, want);
	free(text);
}

/* -- modes --------------------------------------------------------------------------------------- */

static void modes_are_util_linux_words(void **state)
{
	static const char *const wrong[] = { "", "yes ", " no", "2", "01", "nonblocking", "non" };
	static const struct {
		const char *text;
		enum lock_mode mode;
	} right[] = { { "yes", LOCK_YES },
		      { "1", LOCK_YES },
		      { "no", LOCK_NO },
		      { "0", LOCK_NO },
		      { "nonblock", LOCK_NONBLOCK },
		      { "Nonblock", LOCK_NONBLOCK } };
	enum lock_mode mode;

	(void)state;
	for (size_t i = 0; i < sizeof(right) / sizeof(right[0]); i++) {
		mode = right[i].mode == LOCK_NO ? LOCK_YES : LOCK_NO;
		assert_int_equal(lock_parse(right[i].text, &mode), 0);
		assert_int_equal(mode, right[i].mode);
	}
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		assert_int_equal(lock_parse(wrong[i], &mode), -EINVAL);
}

/* -- files --------------------------------------------------------------------------------------- */

static void another_process_keeps_a_lock_out_as_long_as_it_lives(void **state)
{
	pid_t pid = locker_start(BSD_EXCLUSIVE);
	int fd = open_file(O_RDONLY);

	(void)state;
	assert_int_equal(lock_fd(fd, true, LOCK_NONBLOCK), -EWOULDBLOCK);
	assert_int_equal(lock_fd(fd, false, LOCK_NONBLOCK), -EWOULDBLOCK);
	locker_kill(pid);
	assert_int_equal(lock_fd(fd, true, LOCK_NONBLOCK), 0);
	close(fd);
}

static void shared_locks_stand_side_by_side_and_keep_an_exclusive_one_out(void **state)
{
	pid_t pid = locker_start(BSD_SHARED);
	int fd = open_file(O_RDONLY);

	(void)state;
	assert_int_equal(lock_fd(fd, false, LOCK_NONBLOCK), 0);
	assert_int_equal(lock_fd(fd, true, LOCK_NONBLOCK), -EWOULDBLOCK);
	locker_kill(pid);
	close(fd);
}

static void our_lock_keeps_others_out_until_it_is_closed(void **state)
{
	int ours = open_file(O_RDONLY), others = open_file(O_RDONLY);

	(void)state;
	assert_int_equal(lock_fd(ours, true, LOCK_YES), 0);
	assert_int_equal(flock(others, LOCK_SH | LOCK_NB), -1);
	assert_int_equal(errno, EWOULDBLOCK);
	close(ours);
	assert_int_equal(flock(others, LOCK_EX | LOCK_NB), 0);
	close(others);
}

static void a_lock_that_is_held_for_a_moment_is_waited_for(void **state)
{
	int fd = open_file(O_RDONLY), others;

	(void)state;
	script_calls = 5;
	script_error = EWOULDBLOCK;
	assert_int_equal(lock_fd(fd, true, LOCK_NONBLOCK), 0);
	assert_int_equal(script_calls, 0);
	others = open_file(O_RDONLY);
	assert_int_equal(flock(others, LOCK_SH | LOCK_NB), -1);
	close(others);
	close(fd);
}

static void without_locking_nothing_is_locked(void **state)
{
	pid_t pid = locker_start(BSD_EXCLUSIVE);
	int fd = open_file(O_RDONLY);

	(void)state;
	assert_int_equal(lock_fd(fd, true, LOCK_NO), 0);
	locker_kill(pid);
	close(fd);
}

static void a_file_system_without_locks_is_no_reason_to_refuse(void **state)
{
	static const int errors[] = { EOPNOTSUPP, ENOLCK, ENOSYS, EINVAL };
	static const enum lock_mode modes[] = { LOCK_YES, LOCK_NONBLOCK };
	int fd = open_file(O_RDONLY);

	(void)state;
	for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++)
		for (size_t j = 0; j < 2; j++) {
			script_calls = 1;
			script_error = errors[i];
			assert_int_equal(lock_fd(fd, true, modes[j]), 0);
		}
	script_calls = 1;
	script_error = EIO;
	assert_int_equal(lock_fd(fd, true, LOCK_NONBLOCK), -EIO);
	close(fd);
}

/* -- waiting ------------------------------------------------------------------------------------- */

static void noted(int number)
{
	(void)number;
}

/* Again and again, so that one that comes between two system calls does no harm. */
static void alarm_every_ms(int ms)
{
	struct sigaction action = { .sa_handler = noted };
	struct itimerval timer = { .it_interval.tv_usec = ms * 1000, .it_value.tv_usec = ms * 1000 };

	assert_return_code(sigaction(SIGALRM, &action, NULL), errno);
	assert_return_code(setitimer(ITIMER_REAL, &timer, NULL), errno);
}

static void a_signal_ends_the_waiting_and_the_holder_was_named(void **state)
{
	int saved = dup(STDERR_FILENO), said = memfd_create("said", MFD_CLOEXEC), fd = open_file(O_RDONLY), ret;
	char text[512], want[256];
	pid_t pid = locker_start(BSD_EXCLUSIVE);
	ssize_t length;

	(void)state;
	assert_return_code(dup2(said, STDERR_FILENO), errno);
	alarm_every_ms(30);
	ret = lock_fd(fd, true, LOCK_YES);
	alarm_every_ms(0);
	dup2(saved, STDERR_FILENO);
	assert_int_equal(ret, -EINTR);
	length = pread(said, text, sizeof(text) - 1, 0);
	assert_true(length > 0);
	text[length] = '\0';
	snprintf(want, sizeof(want),
		 "kcopy: %s is locked by a\\tlocker (process %d): waiting for it (--lock=nonblock would not)\n", path,
		 pid);
	assert_string_equal(text, want);
	locker_kill(pid);
	close(saved);
	close(said);
	close(fd);
}

static void a_signal_ends_the_second_of_retries_too(void **state)
{
	int fd = open_file(O_RDONLY), ret;
	pid_t pid;

	(void)state;
	locker_name = "(udev-worker)";
	pid = locker_start(BSD_EXCLUSIVE);
	locker_name = "a\tlocker";
	alarm_every_ms(7);
	ret = lock_fd(fd, true, LOCK_NONBLOCK);
	alarm_every_ms(0);
	locker_kill(pid);
	close(fd);
	assert_int_equal(ret, -EINTR);
}

static void a_lock_of_a_descriptor_that_was_inherited_is_ours(void **state)
{
	int inherited = open_file(O_RDWR), fd = open_file(O_RDONLY), other;
	pid_t pid;

	(void)state;
	assert_return_code(flock(inherited, LOCK_EX), errno);
	assert_int_equal(lock_fd(fd, true, LOCK_NONBLOCK), 0);
	assert_int_equal(lock_fd(fd, false, LOCK_YES), 0);
	other = open_file(O_RDONLY);
	assert_int_equal(flock(other, LOCK_SH | LOCK_NB), -1); /* and it still is exclusive */
	close(other);
	close(inherited);
	inherited = open_file(O_RDWR);
	pid = locker_start(BSD_EXCLUSIVE);
	assert_int_equal(lock_fd(fd, true, LOCK_NONBLOCK), -EWOULDBLOCK);
	locker_kill(pid);
	close(inherited);
	close(fd);
}

/* -- who ----------------------------------------------------------------------------------------- */

static void the_holder_of_a_lock_is_named(void **state)
{
	int fd = open_file(O_RDONLY);
	char by_fd[64];
	pid_t pid;

	(void)state;
	assert_null(lock_holder(path));
	assert_null(lock_holder("/nonexistent"));
	assert_int_equal(lock_fd(fd, false, LOCK_NONBLOCK), 0);
	assert_null(lock_holder(path));
	pid = locker_start(BSD_SHARED);
	assert_described(lock_holder(path), pid);
	snprintf(by_fd, sizeof(by_fd), "/proc/self/fd/%d", fd);
	assert_described(lock_holder(by_fd), pid);
	locker_kill(pid);
	assert_null(lock_holder(path));
	close(fd);
}

static void record_locks_of_others_are_found_without_write_access(void **state)
{
	static const enum kind kinds[] = { POSIX_READ, POSIX_WRITE, OPEN_FILE_READ, BSD_EXCLUSIVE };
	int fd = open_file(O_RDONLY);
	char *text;
	pid_t pid;

	(void)state;
	assert_null(lock_find_record_lock(fd));
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		pid = locker_start(kinds[i]);
		text = lock_find_record_lock(fd);
		if (kinds[i] == BSD_EXCLUSIVE) {
			assert_null(text);
		} else if (kinds[i] == OPEN_FILE_READ) {
			assert_non_null(text);
			assert_string_equal(text, "another program");
			free(text);
		} else {
			assert_described(text, pid);
		}
		locker_kill(pid);
		assert_null(lock_find_record_lock(fd));
	}
	close(fd);
}

/* -- disks --------------------------------------------------------------------------------------- */

static void a_disk_that_sysfs_does_not_know_fails_its_own_wish(void **state)
{
	struct lock_wish wishes[2] = { { .rdev = makedev(4095, 1048574), .is_exclusive = true },
				       { .rdev = makedev(4095, 1048575) } };
	struct locks *locks = NULL;

	(void)state;
	assert_int_equal(locks_take(wishes, 2, LOCK_NONBLOCK, &locks), 0);
	assert_non_null(locks);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(wishes[i].error, -ENODEV);
		assert_null(wishes[i].whole_path);
	}
	locks_release(locks);
}

static void without_locking_no_disk_is_looked_for(void **state)
{
	struct lock_wish wish = { .rdev = makedev(4095, 1048575), .error = 1 };
	struct locks *locks = NULL;

	(void)state;
	assert_int_equal(locks_take(&wish, 1, LOCK_NO, &locks), 0);
	assert_int_equal(wish.error, 0);
	assert_null(wish.whole_path);
	locks_release(locks);
	assert_int_equal(locks_take(NULL, 0, LOCK_YES, &locks), 0);
	locks_release(locks);
	locks_release(NULL);
}

static int make_file(void **state)
{
	int fd;

	(void)state;
	strcpy(path, "/dev/shm/" NAME);
	fd = mkstemp(path);
	if (fd < 0) {
		strcpy(path, "/tmp/" NAME);
		fd = mkstemp(path);
	}
	return fd < 0 ? -1 : close(fd);
}

static int remove_file(void **state)
{
	(void)state;
	return unlink(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(modes_are_util_linux_words),
		cmocka_unit_test(another_process_keeps_a_lock_out_as_long_as_it_lives),
		cmocka_unit_test(shared_locks_stand_side_by_side_and_keep_an_exclusive_one_out),
		cmocka_unit_test(our_lock_keeps_others_out_until_it_is_closed),
		cmocka_unit_test(a_lock_that_is_held_for_a_moment_is_waited_for),
		cmocka_unit_test(without_locking_nothing_is_locked),
		cmocka_unit_test(a_file_system_without_locks_is_no_reason_to_refuse),
		cmocka_unit_test(a_signal_ends_the_waiting_and_the_holder_was_named),
		cmocka_unit_test(a_signal_ends_the_second_of_retries_too),
		cmocka_unit_test(a_lock_of_a_descriptor_that_was_inherited_is_ours),
		cmocka_unit_test(the_holder_of_a_lock_is_named),
		cmocka_unit_test(record_locks_of_others_are_found_without_write_access),
		cmocka_unit_test(a_disk_that_sysfs_does_not_know_fails_its_own_wish),
		cmocka_unit_test(without_locking_no_disk_is_looked_for),
	};

	return cmocka_run_group_tests(tests, make_file, remove_file);
}
