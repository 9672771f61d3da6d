/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * BSD locks (flock(2)) on whole disks, as udev and util-linux use them (https://systemd.io/BLOCK_DEVICE_LOCKING), and
 * on destination files; and who has them. Takes no other locks, decides nothing.
 */
#ifndef KCOPY_LOCK_H
#define KCOPY_LOCK_H

#include <stdbool.h>
#include <sys/types.h>

enum lock_mode { LOCK_NONBLOCK, LOCK_YES, LOCK_NO };

/* "yes", "no" or "nonblock", and "1" and "0", as util-linux has them. -EINVAL. */
int lock_parse(const char *text, enum lock_mode *mode);

/*
 * Locks what @fd is open on. 0; -EWOULDBLOCK: somebody else has it (LOCK_NONBLOCK; a second later if that is
 * udev, which takes a lock for a moment whenever a disk has changed, or is not known); -EINTR: a signal came while it waited. LOCK_YES says whom it waits
 * for. A file system without locks, and LOCK_NO, are 0. A lock that this process has by another open() is somebody
 * else's, too; one that the process which started us has is ours ("flock /dev/sdb kcopy ...").
 */
int lock_fd(int fd, bool is_exclusive, enum lock_mode mode);

/*
 * Who has a BSD lock on @path, as far as /proc/locks shows it: "udevd (process 1234)", printable, to be freed by the
 * caller; of several, one. "/proc/self/fd/N" asks about a descriptor. NULL: not known; this process is not named.
 */
char *lock_holder(const char *path);

/*
 * Another program's record lock (fcntl(2): POSIX, or of an open file description, as qemu's on the image of a running
 * machine), for reading or writing, anywhere in the file. @fd may be read-only; nothing is locked. "qemu (process
 * 1234)", or "another program" where the kernel does not tell; to be freed by the caller. NULL: there is none.
 */
char *lock_find_record_lock(int fd);

/*
 * Such a lock of our own on all of the file, for writing: what a BSD lock that somebody took for several of us does not
 * tell apart. 0, -EWOULDBLOCK, or -errno: there are no such locks.
 */
int lock_record(int fd);

/* A disk to be locked. */
struct lock_wish {
	dev_t rdev; /* of an operand: a disk or a partition of it */
	bool is_exclusive;
	int error;	  /* result: 0, or as lock_fd(), or why its disk's node could not be opened (-ENODEV: not it) */
	char *whole_path; /* result: owned by the caller: the node that was, or was to be, locked; may be NULL */
};

struct locks;

/*
 * Each whole disk is locked once, exclusively if one wish for it is, in the order of the disks' numbers, so that two
 * kcopies that wait cannot wait for each other. 0: every wish has its result, which may be an error: one that fails
 * does not keep the others from being tried, only a signal does, and then they have -EINTR. -ENOMEM: @result is NULL
 * and no wish has anything. LOCK_NO opens nothing.
 */
int locks_take(struct lock_wish *wishes, unsigned int num, enum lock_mode mode, struct locks **result);

/* NULL is allowed. */
void locks_release(struct locks *locks);

#endif
