/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "lane_sync.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "device.h"
#include "holes.h"
#include "zones.h"

struct lane_sync {
	struct block_device *bdev; /* borrowed */
	int wake_fd;		   /* owned: an eventfd */
	struct lane_event event;   /* finished, not yet reaped; request NULL: none */
};

static int64_t zero(struct block_device *bdev, struct lane_request *request, uint64_t offset, uint64_t bytes)
{
	struct holes_made made;
	int64_t ret = holes_make(bdev, offset, bytes, &made);

	request->is_written |= made.is_written;
	request->zero_end = made.zero_end;
	return ret;
}

int64_t lane_sync_count_done(const struct block_device *bdev, const struct lane_request *request, int64_t result)
{
	uint64_t written;

	if (result >= 0 || !bdev->is_zoned || result == -EINTR || result == -EAGAIN)
		return result;
	if (request->op != LANE_WRITE && request->op != LANE_ZERO)
		return result;
	written = zones_find_written(bdev, request->offset + request->done, request->bytes - request->done,
				     request->buffer ? request->buffer + request->done : NULL);
	return written > 0 ? (int64_t)written : result;
}

static int64_t transfer(int fd, const struct lane_request *request, uint64_t offset, uint64_t bytes)
{
	char *buffer = request->buffer + request->done;
	ssize_t moved;

	if (request->op == LANE_READ)
		moved = pread(fd, buffer, bytes, (off_t)offset);
	else
		moved = pwrite(fd, buffer, bytes, (off_t)offset);
	return moved < 0 ? -errno : moved;
}

int64_t lane_sync_execute(struct block_device *bdev, struct lane_request *request)
{
	uint64_t offset = request->offset + request->done;
	uint64_t bytes = request->bytes - request->done;
	int64_t ret = -EINVAL;

	switch (request->op) {
	case LANE_READ:
	case LANE_WRITE:
		if (device_is_aligned(bdev, offset, bytes))
			ret = transfer(bdev->fd, request, offset, bytes);
		if (ret == -EINVAL || ret == -EOPNOTSUPP)
			ret = transfer(bdev->buffered_fd, request, offset, bytes);
		break;
	case LANE_ZERO:
		ret = zero(bdev, request, offset, bytes);
		break;
	case LANE_FLUSH:
		ret = fsync(bdev->fd) ? -errno : 0;
		break;
	case LANE_EXTENT:
		holes_find(bdev, offset, offset + bytes, &request->zero_end, &request->data_end);
		ret = (int64_t)bytes;
		break;
	}
	return lane_sync_count_done(bdev, request, ret);
}

int lane_sync_create(struct block_device *bdev, void **engine)
{
	struct lane_sync *sync = calloc(1, sizeof(*sync));
	int ret;

	if (!sync)
		return -ENOMEM;
	sync->bdev = bdev;
	sync->wake_fd = eventfd(0, EFD_CLOEXEC);
	if (sync->wake_fd < 0) {
		ret = -errno;
		free(sync);
		return ret;
	}
	*engine = sync;
	return 0;
}

static int sync_submit(void *engine, struct lane_request **requests, unsigned int count)
{
	struct lane_sync *sync = engine;

	if (count == 0 || sync->event.request)
		return 0;
	sync->event.result = lane_sync_execute(sync->bdev, requests[0]);
	sync->event.request = requests[0];
	return 1;
}

static int sync_reap(void *engine, struct lane_event *events, unsigned int max, int timeout_ms)
{
	struct lane_sync *sync = engine;
	struct pollfd pollfd = { .fd = sync->wake_fd, .events = POLLIN };
	uint64_t wakes;

	if (sync->event.request && max > 0) {
		events[0] = sync->event;
		sync->event.request = NULL;
		return 1;
	}
	if (timeout_ms != 0 && poll(&pollfd, 1, timeout_ms) > 0)
		(void)!read(sync->wake_fd, &wakes, sizeof(wakes));
	return 0;
}

static void sync_wake(void *engine)
{
	const struct lane_sync *sync = engine;
	uint64_t one = 1;

	(void)!write(sync->wake_fd, &one, sizeof(one));
}

static void sync_close(void *engine)
{
	struct lane_sync *sync = engine;

	close(sync->wake_fd);
	free(sync);
}

const struct lane_engine_ops lane_sync_ops = {
	.submit = sync_submit,
	.reap = sync_reap,
	.wake = sync_wake,
	.close = sync_close,
};
