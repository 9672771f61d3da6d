/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "lock.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "log.h"
#include "signals.h"
#include "text.h"

/* udev's lock is short, but comes right after mkfs or sfdisk: whoever scripts these would be refused by chance. */
#define RETRY_MS 20
#define FOR_UDEV (1000 / RETRY_MS)

int lock_parse(const char *text, enum lock_mode *mode)
{
	if (!strcasecmp(text, "yes") || !strcmp(text, "1"))
		*mode = LOCK_YES;
	else if (!strcasecmp(text, "no") || !strcmp(text, "0"))
		*mode = LOCK_NO;
	else if (!strcasecmp(text, "nonblock"))
		*mode = LOCK_NONBLOCK;
	else
		return -EINVAL;
	return 0;
}

/* -- who has it ---------------------------------------------------------------------------------- */

static char *describe_process(int pid)
{
	char path[64], comm[64] = "", *printable, *ret = NULL;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/comm", pid);
	file = fopen(path, "re");
	if (file) {
		if (fgets(comm, sizeof(comm), file))
			comm[strcspn(comm, "\n")] = '\0';
		fclose(file);
	}
	printable = text_printable(comm[0] ? comm : "another program"); /* it is gone, its children have the lock */
	if (!printable || asprintf(&ret, "%s (process %d)", printable, pid) < 0)
		ret = NULL;
	free(printable);
	return ret;
}

struct holder {
	int pid; /* 0: none is known */
	bool is_exclusive;
};

/* Another process that has a BSD lock on @path, as far as /proc/locks shows it. */
static struct holder find_holder(const char *path)
{
	unsigned int major_number, minor_number;
	struct holder holder = { .pid = 0 };
	unsigned long long inode;
	char *line = NULL, kind[8];
	FILE *file = NULL;
	struct stat st;
	size_t size = 0;
	int pid;

	if (stat(path, &st) == 0)
		file = fopen("/proc/locks", "re");
	/* proc_locks(5). A lock of a device is one of its node. Who only waits has "->" before the word FLOCK. */
	while (file && !holder.pid && getline(&line, &size, file) > 0)
		if (sscanf(line, "%*u: FLOCK %*s %7s %d %x:%x:%llu", kind, &pid, &major_number, &minor_number,
			   &inode) == 5 &&
		    makedev(major_number, minor_number) == st.st_dev && inode == st.st_ino && pid > 0 &&
		    pid != getpid())
			holder = (struct holder){ .pid = pid, .is_exclusive = strcmp(kind, "WRITE") == 0 };
	free(line);
	if (file)
		fclose(file);
	return holder;
}

char *lock_holder(const char *path)
{
	struct holder holder = find_holder(path);

	return holder.pid ? describe_process(holder.pid) : NULL;
}

static int parent_of(int pid)
{
	char path[64], line[512], *rest;
	int parent = 0;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	file = fopen(path, "re");
	if (!file)
		return 0;
	/* "pid (any name) state ppid": proc_pid_stat(5) */
	if (fgets(line, sizeof(line), file)) {
		rest = strrchr(line, ')');
		if (!rest || sscanf(rest, ") %*c %d", &parent) != 1)
			parent = 0;
	}
	fclose(file);
	return parent;
}

/* Has descriptor @number such a lock? proc_pid_fdinfo(5): asked, not tried, since flock() could lose it one it has. */
static bool has_lock(int number, bool is_exclusive)
{
	char path[64], *line = NULL;
	bool ret = false;
	size_t size = 0;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", number);
	file = fopen(path, "re");
	while (file && !ret && getline(&line, &size, file) > 0)
		ret = strncmp(line, "lock:", 5) == 0 && strstr(line, " FLOCK ") &&
		      (strstr(line, " WRITE ") || !is_exclusive);
	free(line);
	if (file)
		fclose(file);
	return ret;
}

/* "exec 9<>/dev/sdb; flock 9; kcopy ...": the lock is one of a descriptor that we have, too. */
static bool is_inherited(int fd, bool is_exclusive)
{
	struct stat st, other;
	struct dirent *entry;
	bool ret = false;
	DIR *dir;

	dir = fstat(fd, &st) == 0 ? opendir("/proc/self/fd") : NULL;
	while (dir && !ret && (entry = readdir(dir))) {
		int number = atoi(entry->d_name);

		if (entry->d_name[0] == '.' || number == fd || number == dirfd(dir))
			continue;
		if (fstat(number, &other) == 0 && other.st_dev == st.st_dev && other.st_ino == st.st_ino)
			ret = has_lock(number, is_exclusive);
	}
	if (dir)
		closedir(dir);
	return ret;
}

/* As systemd's page on locks has it: flock /dev/sdb kcopy ... . Who started us has the lock, for us. */
static bool is_held_for_us(int fd, bool is_exclusive)
{
	struct holder holder;
	char path[64];
	int pid = getpid();

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	holder = find_holder(path);
	if (is_inherited(fd, is_exclusive))
		return true;
	if (!holder.pid || (is_exclusive && !holder.is_exclusive))
		return false;
	while (pid > 1 && pid != holder.pid)
		pid = parent_of(pid);
	return pid == holder.pid;
}

char *lock_find_record_lock(int fd)
{
	/* Asking for a write lock finds locks of both kinds; unlike taking one it needs no descriptor for writing. */
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };

	if (fcntl(fd, F_OFD_GETLK, &lock) || lock.l_type == F_UNLCK)
		return NULL;
	return lock.l_pid > 0 ? describe_process(lock.l_pid) : strdup("another program");
}

int lock_record(int fd)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };

	if (fcntl(fd, F_OFD_SETLK, &lock) == 0)
		return 0;
	return errno == EACCES ? -EWOULDBLOCK : -errno;
}

/* -- one ----------------------------------------------------------------------------------------- */

/* By udev, or by somebody who is not known. */
static bool is_held_for_a_moment(int fd)
{
	char path[64], *name;
	bool ret;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	name = lock_holder(path);
	ret = !name || strstr(name, "udev");
	free(name);
	return ret;
}

/* 0, or -EINTR if a signal has come, now or before. */
static int pause_for(int ms)
{
	struct pollfd signal = { .fd = signals_fd(), .events = POLLIN };

	return poll(&signal, 1, ms) == 0 ? 0 : -EINTR;
}

/* Until it has the lock, or for so many tries; not by a flock() that waits, which a signal just before it would miss. */
static int try_for(int fd, int operation, unsigned int tries)
{
	int ret = 0;

	for (unsigned int i = 0; ret == 0; i++) {
		if (flock(fd, operation | LOCK_NB) == 0)
			return 0;
		if (errno != EWOULDBLOCK)
			return -errno;
		if (i == 0 && is_held_for_us(fd, operation == LOCK_EX))
			return 0;
		if (i == tries || (tries == FOR_UDEV && !is_held_for_a_moment(fd)))
			return -EWOULDBLOCK;
		ret = pause_for(RETRY_MS);
	}
	return ret;
}

static void say_waiting(int fd)
{
	char path[64], name[PATH_MAX], *printable, *holder;
	ssize_t length;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	length = readlink(path, name, sizeof(name) - 1);
	name[length < 0 ? 0 : length] = '\0';
	printable = text_printable(name);
	holder = lock_holder(path);
	log_info("%s is locked by %s: waiting for it (--lock=nonblock would not)",
		 printable && printable[0] ? printable : "a file", holder ? holder : "another program");
	free(printable);
	free(holder);
}

static int wait_for(int fd, int operation)
{
	int ret = try_for(fd, operation, 0);

	if (ret != -EWOULDBLOCK)
		return ret;
	say_waiting(fd);
	return try_for(fd, operation, UINT_MAX);
}

int lock_fd(int fd, bool is_exclusive, enum lock_mode mode)
{
	int operation = is_exclusive ? LOCK_EX : LOCK_SH, ret = 0;

	if (mode == LOCK_YES)
		ret = wait_for(fd, operation);
	else if (mode == LOCK_NONBLOCK)
		ret = try_for(fd, operation, FOR_UDEV);
	/* What file systems without locks say. */
	if (ret == -EOPNOTSUPP || ret == -ENOLCK || ret == -ENOSYS || ret == -EINVAL)
		return 0;
	return ret;
}

/* -- disks --------------------------------------------------------------------------------------- */

struct disk_lock {
	dev_t whole;
	bool is_exclusive;
	int fd;		  /* owned, or -1 */
	int error;	  /* as a wish's */
	const char *path; /* borrowed from the first wish for it, during locks_take() */
};

struct locks {
	unsigned int num;
	struct disk_lock disks[]; /* by number */
};

/* A partition's disk, or the device itself. 0 or -errno. */
static int find_whole(dev_t rdev, dev_t *whole)
{
	unsigned int major_number, minor_number;
	char path[96];
	bool is_known;
	FILE *file;

	*whole = rdev;
	snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/partition", major(rdev), minor(rdev));
	if (access(path, F_OK))
		return 0;
	snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/../dev", major(rdev), minor(rdev));
	file = fopen(path, "re");
	if (!file)
		return errno == ENOENT ? -ENODEV : -errno;
	is_known = fscanf(file, "%u:%u", &major_number, &minor_number) == 2;
	fclose(file);
	if (is_known)
		*whole = makedev(major_number, minor_number);
	return is_known ? 0 : -ENODEV;
}

/* The node of the whole disk that is, or has the partition, @rdev. Under that name udev and util-linux lock it. */
static int find_node(dev_t rdev, dev_t *whole, char **node)
{
	char path[64], target[PATH_MAX], *name;
	ssize_t length;
	int ret = find_whole(rdev, whole);

	if (ret)
		return ret;
	snprintf(path, sizeof(path), "/sys/dev/block/%u:%u", major(*whole), minor(*whole));
	length = readlink(path, target, sizeof(target) - 1);
	if (length < 0)
		return errno == ENOENT ? -ENODEV : -errno;
	target[length] = '\0';
	name = strrchr(target, '/');
	name = name ? name + 1 : target;
	for (char *c = name; *c; c++)
		if (*c == '!')
			*c = '/';
	return asprintf(node, "/dev/%s", name) < 0 ? -ENOMEM : 0;
}

/* The wish is for a further disk, or for one that another wish is for, too. */
static int note(struct locks *locks, struct lock_wish *wish)
{
	struct disk_lock *disk = locks->disks, *end = disk + locks->num;
	dev_t whole = 0;

	wish->error = find_node(wish->rdev, &whole, &wish->whole_path);
	if (wish->error)
		return wish->error;
	while (disk < end && disk->whole != whole)
		disk++;
	if (disk == end) {
		*disk = (struct disk_lock){ .whole = whole, .fd = -1, .path = wish->whole_path };
		locks->num++;
	}
	disk->is_exclusive |= wish->is_exclusive;
	return 0;
}

static int by_number(const void *a, const void *b)
{
	dev_t left = ((const struct disk_lock *)a)->whole, right = ((const struct disk_lock *)b)->whole;

	return (left > right) - (left < right);
}

static int take(struct disk_lock *disk, enum lock_mode mode)
{
	struct stat st;
	int fd = open(disk->path, O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
	int ret;

	if (fd < 0)
		return -errno;
	if (fstat(fd, &st))
		ret = -errno;
	else if (!S_ISBLK(st.st_mode) || st.st_rdev != disk->whole)
		ret = -ENODEV;
	else
		ret = lock_fd(fd, disk->is_exclusive, mode);
	if (ret)
		close(fd);
	else
		disk->fd = fd;
	return ret;
}

int locks_take(struct lock_wish *wishes, unsigned int num, enum lock_mode mode, struct locks **result)
{
	struct locks *locks = calloc(1, sizeof(*locks) + num * sizeof(locks->disks[0]));
	int ret = locks ? 0 : -ENOMEM;

	*result = NULL;
	for (unsigned int i = 0; i < num; i++) {
		wishes[i].error = 0;
		wishes[i].whole_path = NULL;
	}
	for (unsigned int i = 0; i < num && mode != LOCK_NO && ret != -ENOMEM; i++)
		ret = note(locks, &wishes[i]);
	if (ret == -ENOMEM)
		goto err_wishes;

	qsort(locks->disks, locks->num, sizeof(locks->disks[0]), by_number);
	ret = 0;
	for (unsigned int i = 0; i < locks->num; i++) {
		if (ret != -EINTR)
			ret = take(&locks->disks[i], mode);
		locks->disks[i].error = ret;
	}
	for (unsigned int i = 0; i < num; i++)
		for (unsigned int j = 0; j < locks->num && wishes[i].whole_path; j++)
			if (!strcmp(wishes[i].whole_path, locks->disks[j].path))
				wishes[i].error = locks->disks[j].error;
	*result = locks;
	return 0;

err_wishes:
	for (unsigned int i = 0; i < num; i++) {
		free(wishes[i].whole_path);
		wishes[i].whole_path = NULL;
	}
	free(locks);
	return -ENOMEM;
}

void locks_release(struct locks *locks)
{
	for (unsigned int i = 0; locks && i < locks->num; i++)
		if (locks->disks[i].fd >= 0)
			close(locks->disks[i].fd);
	free(locks);
}
