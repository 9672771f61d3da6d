/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "lane_uring.h"

#include <assert.h>
#include <errno.h>
#include <linux/io_uring.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "device.h"
#include "lane_sync.h"

/* All requests and the poll of the eventfd, rounded up to what the kernel would make of it. */
#define RING_ENTRIES 128u
/* So much at the most is not worth a ring, if it is all that there is to do. */
#define SMALL_BYTES ((uint64_t)64 << 10)
#define PAUSE_MS 2

struct ring {
	int fd; /* owned; -1: there is none */
	char *map, *sqes_map;
	size_t map_bytes, sqes_bytes;
	struct io_uring_sqe *sqes; /* entry n is the one of position n, modulo their number */
	struct io_uring_cqe *cqes;
	atomic_uint *sq_tail, *cq_head, *cq_tail;
	unsigned int sq_mask, cq_mask;
	unsigned int unsubmitted; /* entries in front of the tail that the kernel has not got */
};

struct lane_uring {
	const struct block_device *bdev; /* borrowed */
	int event_fd;			 /* owned: wakes. With a ring, polled by it and never read */
	struct ring ring;
	bool is_refused; /* no ring is to be had: blocking calls do it all, one by one */
	bool is_used;	 /* something was transferred */
	bool is_polling; /* the ring has the poll of the eventfd */
	struct page_cache cache;
	struct lane_event ready; /* what a blocking call finished, not yet reaped; request NULL: none */
};

static int ring_setup(struct io_uring_params *params)
{
#ifdef IORING_SETUP_DEFER_TASKRUN
	/* Completions are looked at when this thread asks for them, and never interrupt it. Linux 6.1. */
	*params = (struct io_uring_params){ .flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN };
	return (int)syscall(__NR_io_uring_setup, RING_ENTRIES, params);
#else
	(void)params;
	errno = ENOSYS;
	return -1;
#endif
}

static bool is_available;

static void ask_kernel(void)
{
	const char *wanted = secure_getenv("KCOPYD_IO");
	struct io_uring_params params;
	int fd;

	if (wanted && strcmp(wanted, "libaio") == 0)
		return;
	fd = ring_setup(&params);
	if (fd < 0)
		return;
	is_available = (params.features & IORING_FEAT_EXT_ARG) && (params.features & IORING_FEAT_NODROP) &&
		       (params.features & IORING_FEAT_SINGLE_MMAP);
	close(fd);
}

bool lane_uring_is_available(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, ask_kernel);
	return is_available;
}

/* -- the ring ------------------------------------------------------------------------------------ */

static void ring_close(struct ring *ring)
{
	if (ring->map)
		munmap(ring->map, ring->map_bytes);
	if (ring->sqes_map)
		munmap(ring->sqes_map, ring->sqes_bytes);
	if (ring->fd >= 0)
		close(ring->fd);
	ring->map = NULL;
	ring->sqes_map = NULL;
	ring->fd = -1;
}

static char *map(int fd, size_t bytes, off_t offset)
{
	char *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, offset);

	return at == MAP_FAILED ? NULL : at;
}

static void *at(const struct ring *ring, unsigned int offset)
{
	return ring->map + offset;
}

/* On the thread that will use it. False: not to be had. */
static bool ring_open(struct ring *ring)
{
	struct io_uring_params params;
	unsigned int *indices;
	size_t sq_bytes, cq_bytes;

	ring->fd = ring_setup(&params);
	if (ring->fd < 0)
		return false;
	sq_bytes = params.sq_off.array + params.sq_entries * sizeof(unsigned int);
	cq_bytes = params.cq_off.cqes + params.cq_entries * sizeof(struct io_uring_cqe);
	ring->map_bytes = sq_bytes > cq_bytes ? sq_bytes : cq_bytes;
	ring->sqes_bytes = params.sq_entries * sizeof(struct io_uring_sqe);
	ring->map = map(ring->fd, ring->map_bytes, IORING_OFF_SQ_RING);
	ring->sqes_map = map(ring->fd, ring->sqes_bytes, IORING_OFF_SQES);
	if (!ring->map || !ring->sqes_map) {
		ring_close(ring);
		return false;
	}
	ring->sqes = (struct io_uring_sqe *)(void *)ring->sqes_map;
	ring->cqes = at(ring, params.cq_off.cqes);
	ring->sq_tail = at(ring, params.sq_off.tail);
	ring->cq_head = at(ring, params.cq_off.head);
	ring->cq_tail = at(ring, params.cq_off.tail);
	ring->sq_mask = params.sq_entries - 1;
	ring->cq_mask = params.cq_entries - 1;
	indices = at(ring, params.sq_off.array);
	for (unsigned int i = 0; i < params.sq_entries; i++)
		indices[i] = i;
	return true;
}

/* The kernel looks at it in ring_enter() only. */
static struct io_uring_sqe *ring_add(struct ring *ring)
{
	unsigned int tail = atomic_load_explicit(ring->sq_tail, memory_order_relaxed);
	struct io_uring_sqe *sqe = &ring->sqes[tail & ring->sq_mask];

	assert(ring->unsubmitted <= ring->sq_mask);
	memset(sqe, 0, sizeof(*sqe));
	atomic_store_explicit(ring->sq_tail, tail + 1, memory_order_release);
	ring->unsubmitted++;
	return sqe;
}

/* The last one that the kernel has not got. */
static const struct io_uring_sqe *ring_take_back(struct ring *ring)
{
	unsigned int tail = atomic_load_explicit(ring->sq_tail, memory_order_relaxed) - 1;

	atomic_store_explicit(ring->sq_tail, tail, memory_order_release);
	ring->unsubmitted--;
	return &ring->sqes[tail & ring->sq_mask];
}

/* Gives the kernel what there is, and waits for a completion as reap() does. 0 or -errno. */
static int ring_enter(struct ring *ring, int timeout_ms)
{
	struct __kernel_timespec timeout = { .tv_sec = timeout_ms / 1000, .tv_nsec = timeout_ms % 1000 * 1000000LL };
	struct io_uring_getevents_arg arg = { .ts = timeout_ms > 0 ? (uintptr_t)&timeout : 0 };
	long ret = syscall(__NR_io_uring_enter, ring->fd, ring->unsubmitted, timeout_ms != 0 ? 1 : 0,
			   IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG, &arg, sizeof(arg));

	if (ret < 0)
		return -errno;
	ring->unsubmitted -= (unsigned int)ret;
	return 0;
}

/* -- the engine ---------------------------------------------------------------------------------- */

int lane_uring_create(const struct block_device *bdev, void **engine)
{
	struct lane_uring *uring = calloc(1, sizeof(*uring));
	int ret;

	if (!uring)
		return -ENOMEM;
	uring->bdev = bdev;
	uring->cache.bdev = bdev;
	uring->ring.fd = -1;
	uring->event_fd = eventfd(0, EFD_CLOEXEC);
	if (uring->event_fd < 0) {
		ret = -errno;
		free(uring);
		return ret;
	}
	*engine = uring;
	return 0;
}

/* What is small and alone is done by a blocking call: a copy of a few sectors never has a ring. */
static void want_ring(struct lane_uring *uring, const struct lane_request *first, unsigned int count)
{
	bool is_worth_it = uring->is_used || count > 1 || first->bytes > SMALL_BYTES;

	uring->is_used = true;
	if (uring->ring.fd < 0 && !uring->is_refused && is_worth_it)
		uring->is_refused = !ring_open(&uring->ring);
}

static bool is_transfer(const struct lane_request *request)
{
	return request->op == LANE_READ || request->op == LANE_WRITE;
}

static bool is_asynchronous(const struct lane_uring *uring, const struct lane_request *request)
{
	return uring->ring.fd >= 0 && is_transfer(request) &&
	       device_is_aligned(uring->bdev, request->offset + request->done, request->bytes - request->done);
}

/* @bytes: of what is left, the first ones; the lane goes on behind them. */
static void add(struct lane_uring *uring, struct lane_request *request, uint64_t bytes)
{
	struct io_uring_sqe *sqe = ring_add(&uring->ring);

	sqe->opcode = request->op == LANE_READ ? IORING_OP_READ : IORING_OP_WRITE;
	sqe->fd = uring->bdev->fd;
	sqe->off = request->offset + request->done;
	sqe->addr = (uintptr_t)(request->buffer + request->done);
	sqe->len = (uint32_t)bytes;
	sqe->user_data = (uintptr_t)request;
}

/* The ring waits for wakes, too. It goes on polling by itself; one that stopped is begun again. */
static void poll_event_fd(struct lane_uring *uring)
{
	struct io_uring_sqe *sqe;

	if (uring->is_polling)
		return;
	sqe = ring_add(&uring->ring);
	sqe->opcode = IORING_OP_POLL_ADD;
	sqe->fd = uring->event_fd;
	sqe->len = IORING_POLL_ADD_MULTI;
	sqe->poll32_events = POLLIN;
	uring->is_polling = true;
}

static void execute(struct lane_uring *uring, struct lane_request *request)
{
	assert(!uring->ready.request);
	uring->ready.request = request;
	uring->ready.result = lane_sync_execute(uring->bdev, request);
}

/* 1: it was; 0: not before what is ready was reaped; -1: it has to be read from the disk. */
static int read_cached(struct lane_uring *uring, struct lane_request *request)
{
	uint64_t direct, bytes = page_cache_has(&uring->cache, request, &direct);
	int64_t moved;

	if (bytes == 0)
		return -1;
	if (uring->ready.request)
		return 0;
	moved = page_cache_read(&uring->cache, request, bytes);
	if (moved == 0)
		return -1;
	uring->ready.request = request;
	uring->ready.result = moved;
	return 1;
}

static int uring_submit(void *engine, struct lane_request **requests, unsigned int count)
{
	struct lane_uring *uring = engine;
	unsigned int taken = 0;
	uint64_t direct;
	int ret = count > 0 ? read_cached(uring, requests[0]) : 0;

	if (ret >= 0)
		return ret;
	if (is_transfer(requests[0]))
		want_ring(uring, requests[0], count);
	while (taken < count && uring->ring.unsubmitted < LANE_URING_DEPTH && is_asynchronous(uring, requests[taken])) {
		/* What is to be had at once is not to hold up what is not. */
		if (page_cache_has(&uring->cache, requests[taken], &direct) && taken > 0)
			break;
		add(uring, requests[taken++], direct);
	}
	if (taken > 0 || uring->ready.request || is_asynchronous(uring, requests[0]))
		return (int)taken;
	/* One blocking call, then its completion: the next may find others to overlap with. */
	execute(uring, requests[0]);
	return 1;
}

/* What the kernel has finished. @is_woken: and whether the lane was woken. */
static unsigned int collect(struct lane_uring *uring, struct lane_event *events, unsigned int max, bool *is_woken)
{
	struct ring *ring = &uring->ring;
	unsigned int head = atomic_load_explicit(ring->cq_head, memory_order_relaxed), count = 0;

	while (count < max && head != atomic_load_explicit(ring->cq_tail, memory_order_acquire)) {
		const struct io_uring_cqe *cqe = &ring->cqes[head++ & ring->cq_mask];
		struct lane_request *request = (struct lane_request *)(uintptr_t)cqe->user_data;
		int result = cqe->res;

		if (!request) {
			*is_woken = true;
			uring->is_polling = cqe->flags & IORING_CQE_F_MORE;
			continue;
		}
		/* Refused as direct I/O, or the kernel had no thread for what would have blocked: the blocking call has the
		 * last word. */
		if (result == -EINVAL || result == -EOPNOTSUPP || result == -ECANCELED)
			events[count].result = lane_sync_execute(uring->bdev, request);
		else
			events[count].result = result;
		events[count++].request = request;
	}
	atomic_store_explicit(ring->cq_head, head, memory_order_release);
	return count;
}

static void wait_without_ring(const struct lane_uring *uring, int timeout_ms)
{
	struct pollfd pollfd = { .fd = uring->event_fd, .events = POLLIN };
	uint64_t wakes;

	if (timeout_ms != 0 && poll(&pollfd, 1, timeout_ms) > 0)
		(void)!read(uring->event_fd, &wakes, sizeof(wakes));
}

/* The kernel takes nothing: the last request that it has not got is done by a blocking call, so that the lane goes on. */
static void go_on_without(struct lane_uring *uring)
{
	const struct io_uring_sqe *sqe;

	while (uring->ring.unsubmitted > 0) {
		sqe = ring_take_back(&uring->ring);
		if (sqe->user_data) {
			execute(uring, (struct lane_request *)(uintptr_t)sqe->user_data);
			return;
		}
		uring->is_polling = false;
	}
	wait_without_ring(uring, PAUSE_MS);
}

static unsigned int take_ready(struct lane_uring *uring, struct lane_event *events)
{
	if (!uring->ready.request)
		return 0;
	events[0] = uring->ready;
	uring->ready.request = NULL;
	return 1;
}

static int uring_reap(void *engine, struct lane_event *events, unsigned int max, int timeout_ms)
{
	struct lane_uring *uring = engine;
	unsigned int count = take_ready(uring, events);
	bool is_woken = false;
	int ret;

	if (uring->ring.fd < 0) {
		if (count == 0)
			wait_without_ring(uring, timeout_ms);
		return (int)count;
	}
	count += collect(uring, events + count, max - count, &is_woken);
	if (count > 0 && uring->ring.unsubmitted == 0)
		return (int)count;
	poll_event_fd(uring);
	ret = ring_enter(&uring->ring, count > 0 || is_woken ? 0 : timeout_ms);
	if (ret && ret != -EINTR && ret != -ETIME)
		go_on_without(uring);
	if (count == 0)
		count = take_ready(uring, events);
	return (int)(count + collect(uring, events + count, max - count, &is_woken));
}

static void uring_wake(void *engine)
{
	const struct lane_uring *uring = engine;
	uint64_t one = 1;

	(void)!write(uring->event_fd, &one, sizeof(one));
}

static void uring_close(void *engine)
{
	struct lane_uring *uring = engine;

	ring_close(&uring->ring);
	close(uring->event_fd);
	free(uring);
}

const struct lane_engine_ops lane_uring_ops = {
	.submit = uring_submit,
	.reap = uring_reap,
	.wake = uring_wake,
	.close = uring_close,
};
