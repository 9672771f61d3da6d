/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The two ends of --remote, and what neither of them falls for.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "remote.h"

/* Serves as process @pid until it was asked, or its caller's child has ended. */
static bool serve_until(int fd, struct speed *speed, pid_t child, int *status)
{
	bool has_changed = false;
	pid_t from = 0;

	while (waitpid(child, status, WNOHANG) == 0)
		has_changed |= remote_serve(fd, speed, &from);
	assert_true(!has_changed || from == child);
	return has_changed;
}

/* In a child: exits with 0 if the answer is the one that is wanted, or with the errno. */
static pid_t ask(pid_t pid, const struct speed *wish, const struct speed *want)
{
	struct speed now = { .throttle = 0 };
	pid_t child = fork();
	int ret;

	if (child > 0)
		return child;
	ret = remote_ask(pid, wish, &now);
	if (ret == 0 && (now.limit != want->limit || now.throttle != want->throttle))
		ret = -EDOM;
	_exit(-ret);
}

static void what_is_asked_for_is_changed_and_nothing_else(void **state)
{
	struct speed speed = { .limit = 7, .throttle = 70 };
	const struct speed wishes[] = {
		{ .has_limit = false },
		{ .has_limit = true, .limit = UINT64_MAX },
		{ .has_throttle = true, .throttle = 1 },
		{ .has_limit = true, .limit = 0, .has_throttle = true, .throttle = 100 },
	};
	const struct speed want[] = {
		{ .limit = 7, .throttle = 70 },
		{ .limit = UINT64_MAX, .throttle = 70 },
		{ .limit = UINT64_MAX, .throttle = 1 },
		{ .limit = 0, .throttle = 100 },
	};
	int fd, status;

	(void)state;
	assert_int_equal(remote_open(getpid(), &fd), 0);
	for (size_t i = 0; i < sizeof(wishes) / sizeof(wishes[0]); i++) {
		assert_int_equal(serve_until(fd, &speed, ask(getpid(), &wishes[i], &want[i]), &status), i > 0);
		assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
		assert_true(speed.limit == want[i].limit && speed.throttle == want[i].throttle);
	}
	close(fd);
}

static void values_that_mean_nothing_are_refused(void **state)
{
	static const unsigned int percents[] = { 0, 101, UINT32_MAX };
	struct speed speed = { .throttle = 70 };
	int fd, status;

	(void)state;
	assert_int_equal(remote_open(getpid(), &fd), 0);
	for (size_t i = 0; i < sizeof(percents) / sizeof(percents[0]); i++) {
		struct speed wish = { .has_throttle = true, .throttle = percents[i], .has_limit = true, .limit = 5 };

		assert_false(serve_until(fd, &speed, ask(getpid(), &wish, &wish), &status));
		assert_true(WIFEXITED(status) && WEXITSTATUS(status) == EINVAL);
		assert_true(speed.limit == 0 && speed.throttle == 70);
	}
	close(fd);
}

static void who_does_not_copy_is_told_from_who_does_not_exist(void **state)
{
	struct speed wish = { .has_limit = false }, now;
	pid_t gone = fork();

	(void)state;
	if (gone == 0)
		_exit(0);
	assert_int_equal(remote_ask(getpid(), &wish, &now), -ECONNREFUSED);
	waitpid(gone, NULL, 0);
	assert_int_equal(remote_ask(gone, &wish, &now), -ESRCH);
}

/* Its name can be had by anybody, also before it is. */
static void the_second_to_listen_as_one_process_is_told(void **state)
{
	int one, two;

	(void)state;
	assert_int_equal(remote_open(getpid(), &one), 0);
	assert_int_equal(remote_open(getpid(), &two), -EADDRINUSE);
	assert_int_equal(two, -1);
	close(one);
	assert_int_equal(remote_open(getpid(), &two), 0);
	close(two);
}

static int connect_to(pid_t pid)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int length = snprintf(address.sun_path + 1, sizeof(address.sun_path) - 1, "kcopy/%d", (int)pid);
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0);

	assert_int_equal(connect(fd, (struct sockaddr *)&address,
				 (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)length)),
			 0);
	return fd;
}

static void send_with_descriptor(int fd, const char *bytes, size_t length)
{
	char control[CMSG_SPACE(sizeof(int))] = { 0 };
	struct iovec iov = { .iov_base = (void *)(uintptr_t)bytes, .iov_len = length };
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)
	};
	struct cmsghdr *header = CMSG_FIRSTHDR(&msg);

	header->cmsg_level = SOL_SOCKET;
	header->cmsg_type = SCM_RIGHTS;
	header->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(header), &fd, sizeof(fd));
	assert_true(sendmsg(fd, &msg, 0) > 0);
}

static void what_is_no_request_is_ignored_and_no_descriptor_is_taken(void **state)
{
	/* As a request for a limit of 1 byte a second begins, if that it were. */
	static const char request[64] = "kcopy 1\0\1\0\0\0\0\0\0\0\0\0\0\0\1";
	struct speed speed = { .limit = 9, .throttle = 70 };
	int fd, other, next;
	pid_t from;

	(void)state;
	assert_int_equal(remote_open(getpid(), &fd), 0);
	other = connect_to(getpid());
	for (size_t length = 0; length <= sizeof(request); length++) {
		char changed[sizeof(request)];

		memcpy(changed, request, sizeof(changed));
		if (length == 32)
			changed[0] = 'K'; /* its length is right */
		assert_true(send(other, changed, length, 0) >= 0);
		assert_false(remote_serve(fd, &speed, &from));
	}
	next = dup(fd);
	close(next);
	send_with_descriptor(other, request, 32);
	assert_false(remote_serve(fd, &speed, &from));
	assert_true(speed.limit == 9 && speed.throttle == 70);
	other = dup(other);
	assert_int_equal(other, next); /* nothing was opened meanwhile */
	assert_int_equal(send(other, request, 32, 0), 32);
	assert_true(remote_serve(fd, &speed, &from)); /* so it is a request after all */
	assert_true(speed.limit == 1 && speed.throttle == 70);
	close(fd);
}

static void who_asks_without_end_does_not_keep_the_copy_from_its_work(void **state)
{
	static const char nonsense[32] = "kcopy 0";
	struct speed speed = { .throttle = 70 };
	unsigned int sent = 0;
	int fd, other;
	pid_t from;

	(void)state;
	assert_int_equal(remote_open(getpid(), &fd), 0);
	other = connect_to(getpid());
	while (sent < 100 && send(other, nonsense, sizeof(nonsense), 0) > 0)
		sent++;
	if (sent > 8) {
		assert_false(remote_serve(fd, &speed, &from));
		/* Some are left. */
		assert_true(recv(fd, (char[32]){ 0 }, 32, MSG_DONTWAIT) > 0);
	}
	close(other);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_asked_for_is_changed_and_nothing_else),
		cmocka_unit_test(values_that_mean_nothing_are_refused),
		cmocka_unit_test(who_does_not_copy_is_told_from_who_does_not_exist),
		cmocka_unit_test(the_second_to_listen_as_one_process_is_told),
		cmocka_unit_test(what_is_no_request_is_ignored_and_no_descriptor_is_taken),
		cmocka_unit_test(who_asks_without_end_does_not_keep_the_copy_from_its_work),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
