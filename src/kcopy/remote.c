/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "remote.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "log.h"
#include "signals.h"

#define MAGIC "kcopy 1"
#define HAS_LIMIT 1u
#define HAS_THROTTLE 2u
/* Requests in a row: the copy has other things to look after, too. */
#define MOST_IN_A_ROW 8u
#define ANSWER_MS 5000
#define LOOK_MS 100

/* A request or an answer. No padding, no pointers. */
struct message {
	char magic[8];
	uint64_t limit;
	uint32_t throttle;
	uint32_t has;	/* of a request: what it asks for */
	uint32_t error; /* of an answer: a positive errno, or 0 */
	uint32_t zero;
};

struct sender {
	struct sockaddr_un address;
	socklen_t length; /* of address */
	struct ucred who;
};

/* An abstract name begins with a 0 and has no end but its length. */
static socklen_t name(pid_t pid, struct sockaddr_un *address)
{
	*address = (struct sockaddr_un){ .sun_family = AF_UNIX };
	return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1) +
	       (socklen_t)snprintf(address->sun_path + 1, sizeof(address->sun_path) - 1, "kcopy/%d", (int)pid);
}

/* A socket that learns who has sent what it receives. */
static int open_socket(const struct sockaddr_un *address, socklen_t length, int *fd)
{
	int on = 1, ret;

	*fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (*fd < 0)
		return -errno;
	if (setsockopt(*fd, SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)) ||
	    bind(*fd, (const struct sockaddr *)address, length)) {
		ret = -errno;
		close(*fd);
		*fd = -1;
		return ret;
	}
	return 0;
}

/* The next datagram: 1, or -1 if it is none of ours; 0: there is none now. */
static int receive(int fd, struct message *message, struct sender *sender)
{
	union {
		struct cmsghdr header; /* for its alignment */
		char bytes[CMSG_SPACE(sizeof(struct ucred))];
	} control;
	struct iovec iov = { .iov_base = message, .iov_len = sizeof(*message) };
	struct msghdr msg = { .msg_name = &sender->address,
			      .msg_namelen = sizeof(sender->address),
			      .msg_iov = &iov,
			      .msg_iovlen = 1,
			      .msg_control = &control,
			      .msg_controllen = sizeof(control) };
	const struct cmsghdr *header;
	ssize_t got = recvmsg(fd, &msg, MSG_DONTWAIT);

	if (got < 0)
		return 0;
	header = CMSG_FIRSTHDR(&msg);
	/* There is no room for descriptors, so that the kernel closes what it was sent of them. */
	if (got != (ssize_t)sizeof(*message) || (msg.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) || !header ||
	    header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_CREDENTIALS ||
	    memcmp(message->magic, MAGIC, sizeof(MAGIC)) != 0)
		return -1;
	sender->length = msg.msg_namelen;
	memcpy(&sender->who, CMSG_DATA(header), sizeof(sender->who));
	return 1;
}

/* -- the copying end ----------------------------------------------------------------------------- */

int remote_open(pid_t pid, int *fd)
{
	struct sockaddr_un address;
	socklen_t length = name(pid, &address);

	return open_socket(&address, length, fd);
}

static bool is_valid(const struct message *message)
{
	return !(message->has & HAS_THROTTLE) || (message->throttle >= 1 && message->throttle <= 100);
}

static void answer(int fd, const struct sender *sender, const struct speed *speed, uint32_t error)
{
	struct message message = { .magic = MAGIC, .limit = speed->limit, .throttle = speed->throttle, .error = error };

	/* Who does not listen to the answer does not get it. */
	(void)!sendto(fd, &message, sizeof(message), MSG_DONTWAIT | MSG_NOSIGNAL,
		      (const struct sockaddr *)&sender->address, sender->length);
}

static void change(struct speed *speed, const struct message *message)
{
	if (message->has & HAS_LIMIT)
		speed->limit = message->limit;
	if (message->has & HAS_THROTTLE)
		speed->throttle = message->throttle;
}

bool remote_serve(int fd, struct speed *speed, pid_t *from)
{
	const struct speed before = *speed, nothing = { .throttle = 0 };
	struct message message;
	struct sender sender;
	int got;

	for (unsigned int i = 0; i < MOST_IN_A_ROW && (got = receive(fd, &message, &sender)) != 0; i++) {
		if (got < 0)
			continue;
		if (sender.who.uid != 0 && sender.who.uid != geteuid()) {
			answer(fd, &sender, &nothing, EPERM);
		} else if (!is_valid(&message)) {
			answer(fd, &sender, speed, EINVAL);
		} else {
			change(speed, &message);
			*from = sender.who.pid;
			answer(fd, &sender, speed, 0);
		}
	}
	return speed->limit != before.limit || speed->throttle != before.throttle;
}

/* -- the asking end ------------------------------------------------------------------------------ */

/* Whoever is first may take a name: only the owner of process @pid is believed. */
static int find_owner(pid_t pid, uid_t *owner)
{
	char path[32];
	struct stat about;

	snprintf(path, sizeof(path), "/proc/%d", (int)pid);
	if (stat(path, &about))
		return -ESRCH;
	*owner = about.st_uid;
	return 0;
}

static int wait_for_answer(int fd, pid_t pid, struct message *message)
{
	struct pollfd pollfd = { .fd = fd, .events = POLLIN };
	struct sender sender;
	uid_t owner;

	for (int waited_ms = 0; waited_ms < ANSWER_MS; waited_ms += LOOK_MS) {
		int ret = find_owner(pid, &owner);

		if (ret)
			return ret;
		if (poll(&pollfd, 1, LOOK_MS) < 0 && signals_pending())
			return -EINTR;
		if (receive(fd, message, &sender) > 0 && sender.who.uid == owner)
			return 0;
	}
	return -ETIMEDOUT;
}

int remote_ask(pid_t pid, const struct speed *wish, struct speed *now)
{
	struct message message = { .magic = MAGIC,
				   .limit = wish->limit,
				   .throttle = wish->throttle,
				   .has = (wish->has_limit ? HAS_LIMIT : 0) | (wish->has_throttle ? HAS_THROTTLE : 0) };
	struct sockaddr_un address, any = { .sun_family = AF_UNIX };
	socklen_t length = name(pid, &address);
	uid_t owner;
	int fd, ret;

	ret = find_owner(pid, &owner);
	if (ret)
		return ret;
	/* With so short an address the kernel chooses a name. */
	ret = open_socket(&any, sizeof(any.sun_family), &fd);
	if (ret)
		return ret;
	if (sendto(fd, &message, sizeof(message), MSG_NOSIGNAL, (const struct sockaddr *)&address, length) < 0)
		ret = errno == EAGAIN ? -ETIMEDOUT : -errno; /* there are too many requests that it did not answer */
	if (ret == 0)
		ret = wait_for_answer(fd, pid, &message);
	close(fd);
	if (ret)
		return ret;
	*now = (struct speed){ .limit = message.limit, .throttle = message.throttle };
	return -(int)message.error;
}

static const char *reason_of(int error)
{
	switch (error) {
	case ESRCH:
		return "does not exist";
	case ECONNREFUSED:
		return "is not a kcopy that is copying (of two, with --stall-timeout, ask the parent)";
	case EPERM:
		return "copies for somebody else";
	case ETIMEDOUT:
		return "does not answer; if it ever goes on it may still do what it was asked";
	default:
		return NULL;
	}
}

int remote_command(pid_t pid, const struct speed *wish)
{
	char text[SPEED_CHARS];
	struct speed now;
	int ret = remote_ask(pid, wish, &now);

	if (ret == -EINTR)
		return ret;
	if (ret) {
		if (reason_of(-ret))
			log_error("--remote: process %d %s", (int)pid, reason_of(-ret));
		else
			log_error("--remote: %s", strerror(-ret));
		return ret;
	}
	if (wish->has_limit || wish->has_throttle)
		log_detail("process %d: %s", (int)pid, speed_format(&now, text));
	else if (printf("%s\n", speed_format(&now, text)) < 0 || fflush(stdout) != 0) {
		log_error("standard output: %s", strerror(errno));
		return -EIO;
	}
	return 0;
}
