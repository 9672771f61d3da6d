/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A disk of memory whose time is known, as one file through FUSE, for a loop device over it. It takes one request after
 * the other:
 *
 *   --seek=MS      where one does not begin where the last one ended, its head moves first
 *   --rate=MIB     so many MiB a second
 *   --latency=MS   and then each is on its way for so long, any number of them at once
 *   --queue=N      of the first N that wait it takes one that needs no seek, if there is one; 1: in their order
 *
 * All this is by the clock, whatever the processors can do. scripts/bench builds it: cc, libfuse3.
 */
#define FUSE_USE_VERSION 312
#define _GNU_SOURCE
#define _FILE_OFFSET_BITS 64

#include <errno.h>
#include <fuse_lowlevel.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define MIB ((uint64_t)1 << 20)
#define NS_PER_MS 1000000u
#define NS_PER_S 1000000000u

struct request {
	struct request *next;
	fuse_req_t fuse;
	uint64_t offset, bytes;
	uint64_t arrival, due; /* ns of the monotonic clock */
	bool is_read;
};

struct queue {
	struct request *first, **end;
};

static struct {
	char *memory;
	uint64_t bytes;
	double seek_ns, latency_ns, ns_per_byte;
	unsigned int depth;

	pthread_mutex_t lock; /* guards what follows */
	pthread_cond_t arrived;
	struct queue waiting; /* not taken yet */
	struct queue taken;   /* in the order in which they are due */
	uint64_t free_at;     /* takes the next one then */
	uint64_t head;
} disk = { .lock = PTHREAD_MUTEX_INITIALIZER, .depth = 1 };

static uint64_t now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (uint64_t)time.tv_sec * NS_PER_S + (uint64_t)time.tv_nsec;
}

static void append(struct queue *queue, struct request *request)
{
	request->next = NULL;
	*queue->end = request;
	queue->end = &request->next;
}

static struct request *take(struct queue *queue, struct request **place)
{
	struct request *request = *place;

	*place = request->next;
	if (!request->next)
		queue->end = place;
	return request;
}

/* -- the disk ------------------------------------------------------------------------------------ */

static struct request **choose(void)
{
	struct request **place = &disk.waiting.first;

	for (unsigned int i = 0; i < disk.depth && *place; i++, place = &(*place)->next)
		if ((*place)->offset == disk.head)
			return place;
	return &disk.waiting.first;
}

/* Takes those whose turn has come by now. */
static void take_waiting(uint64_t time)
{
	while (disk.waiting.first && disk.free_at <= time) {
		struct request *request = take(&disk.waiting, choose());

		if (disk.free_at < request->arrival)
			disk.free_at = request->arrival;
		if (request->offset != disk.head)
			disk.free_at += (uint64_t)disk.seek_ns;
		disk.free_at += (uint64_t)((double)request->bytes * disk.ns_per_byte);
		disk.head = request->offset + request->bytes;
		request->due = disk.free_at + (uint64_t)disk.latency_ns;
		append(&disk.taken, request);
	}
}

static void answer(struct request *request)
{
	if (request->is_read)
		fuse_reply_buf(request->fuse, disk.memory + request->offset, request->bytes);
	else
		fuse_reply_write(request->fuse, request->bytes);
	free(request);
}

static void wait_until(uint64_t time)
{
	struct timespec until = { .tv_sec = (time_t)(time / NS_PER_S), .tv_nsec = (long)(time % NS_PER_S) };

	pthread_cond_clockwait(&disk.arrived, &disk.lock, CLOCK_MONOTONIC, &until);
}

static void *disk_main(void *unused)
{
	sigset_t all;

	(void)unused;
	sigfillset(&all); /* they are to end the other thread's read */
	pthread_sigmask(SIG_SETMASK, &all, NULL);
	prctl(PR_SET_TIMERSLACK, 1);
	pthread_mutex_lock(&disk.lock);
	for (;;) {
		uint64_t time = now();
		uint64_t wake = UINT64_MAX;

		take_waiting(time);
		if (disk.taken.first && disk.taken.first->due <= time) {
			struct request *request = take(&disk.taken, &disk.taken.first);

			pthread_mutex_unlock(&disk.lock);
			answer(request);
			pthread_mutex_lock(&disk.lock);
			continue;
		}
		if (disk.taken.first)
			wake = disk.taken.first->due;
		if (disk.waiting.first && disk.free_at < wake)
			wake = disk.free_at;
		if (wake == UINT64_MAX)
			pthread_cond_wait(&disk.arrived, &disk.lock);
		else
			wait_until(wake);
	}
	return NULL;
}

static void enter(fuse_req_t fuse, uint64_t offset, uint64_t bytes, bool is_read)
{
	struct request *request = calloc(1, sizeof(*request));

	if (!request) {
		fuse_reply_err(fuse, ENOMEM);
		return;
	}
	request->fuse = fuse;
	request->offset = offset;
	request->bytes = bytes;
	request->is_read = is_read;
	request->arrival = now();
	pthread_mutex_lock(&disk.lock);
	append(&disk.waiting, request);
	pthread_cond_signal(&disk.arrived);
	pthread_mutex_unlock(&disk.lock);
}

/* -- the file ------------------------------------------------------------------------------------ */

static void file_init(void *data, struct fuse_conn_info *connection)
{
	(void)data;
	connection->want &= ~((unsigned int)FUSE_CAP_SPLICE_READ | FUSE_CAP_SPLICE_WRITE | FUSE_CAP_SPLICE_MOVE);
	connection->max_background = 512;
	connection->congestion_threshold = 512;
}

static struct stat file_stat(void)
{
	return (struct stat){
		.st_ino = FUSE_ROOT_ID, .st_mode = S_IFREG | 0600, .st_nlink = 1, .st_size = (off_t)disk.bytes
	};
}

static void file_getattr(fuse_req_t fuse, fuse_ino_t inode, struct fuse_file_info *info)
{
	struct stat st = file_stat();

	(void)inode;
	(void)info;
	fuse_reply_attr(fuse, &st, 3600);
}

static void file_setattr(fuse_req_t fuse, fuse_ino_t inode, struct stat *attributes, int which,
			 struct fuse_file_info *info)
{
	(void)attributes;
	(void)which;
	file_getattr(fuse, inode, info);
}

static void file_open(fuse_req_t fuse, fuse_ino_t inode, struct fuse_file_info *info)
{
	(void)inode;
	info->direct_io = 1;
	fuse_reply_open(fuse, info);
}

static void file_read(fuse_req_t fuse, fuse_ino_t inode, size_t bytes, off_t offset, struct fuse_file_info *info)
{
	uint64_t start = (uint64_t)offset;

	(void)inode;
	(void)info;
	if (start >= disk.bytes)
		fuse_reply_buf(fuse, NULL, 0);
	else
		enter(fuse, start, bytes < disk.bytes - start ? bytes : disk.bytes - start, true);
}

static void file_write(fuse_req_t fuse, fuse_ino_t inode, const char *data, size_t bytes, off_t offset,
		       struct fuse_file_info *info)
{
	uint64_t start = (uint64_t)offset;

	(void)inode;
	(void)info;
	if (start > disk.bytes || bytes > disk.bytes - start) {
		fuse_reply_err(fuse, ENOSPC);
		return;
	}
	memcpy(disk.memory + start, data, bytes); /* the buffer is the next request's */
	enter(fuse, start, bytes, false);
}

static void file_fsync(fuse_req_t fuse, fuse_ino_t inode, int datasync, struct fuse_file_info *info)
{
	(void)inode;
	(void)datasync;
	(void)info;
	fuse_reply_err(fuse, 0);
}

static const struct fuse_lowlevel_ops file_ops = {
	.init = file_init,
	.getattr = file_getattr,
	.setattr = file_setattr,
	.open = file_open,
	.read = file_read,
	.write = file_write,
	.fsync = file_fsync,
};

/* -- start --------------------------------------------------------------------------------------- */

/* No zeros, which might not be written at all. */
static bool make_memory(uint64_t bytes)
{
	uint64_t state = 88172645463325252u;
	uint64_t *words;

	words = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (words == MAP_FAILED)
		return false;
	madvise(words, bytes, MADV_HUGEPAGE);
	for (uint64_t i = 0; i < bytes / sizeof(*words); i++) {
		state ^= state << 13;
		state ^= state >> 7;
		state ^= state << 17;
		words[i] = state;
	}
	disk.memory = (char *)words;
	disk.bytes = bytes;
	return true;
}

static bool read_arguments(int argc, char **argv)
{
	double mib = 0, rate = 0, ms;

	for (int i = 2; i < argc; i++) {
		if (sscanf(argv[i], "--size=%lf", &mib) == 1)
			continue;
		else if (sscanf(argv[i], "--rate=%lf", &rate) == 1 && rate > 0)
			disk.ns_per_byte = NS_PER_S / (rate * (double)MIB);
		else if (sscanf(argv[i], "--seek=%lf", &ms) == 1)
			disk.seek_ns = ms * NS_PER_MS;
		else if (sscanf(argv[i], "--latency=%lf", &ms) == 1)
			disk.latency_ns = ms * NS_PER_MS;
		else if (sscanf(argv[i], "--queue=%u", &disk.depth) != 1)
			return false;
	}
	return argc > 2 && mib >= 1 && make_memory((uint64_t)mib * MIB);
}

int main(int argc, char **argv)
{
	char *fuse_argv[] = { argv[0], NULL };
	struct fuse_args args = FUSE_ARGS_INIT(1, fuse_argv);
	struct fuse_session *session;
	pthread_t thread;
	int status = 1;

	disk.waiting.end = &disk.waiting.first;
	disk.taken.end = &disk.taken.first;
	if (!read_arguments(argc, argv)) {
		fprintf(stderr,
			"usage: slow_disk FILE --size=MIB [--seek=MS] [--rate=MIB] [--latency=MS] [--queue=N]\n");
		return 2;
	}
	session = fuse_session_new(&args, &file_ops, sizeof(file_ops), NULL);
	if (!session || fuse_set_signal_handlers(session) || fuse_session_mount(session, argv[1]))
		return 1;
	if (pthread_create(&thread, NULL, disk_main, NULL) == 0)
		status = fuse_session_loop(session) != 0;
	fuse_session_unmount(session);
	return status;
}
