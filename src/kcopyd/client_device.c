/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The public calls for a device and its lane together: opening, closing, giving up on it. Nothing of a client but that all
 * of them hear of the last.
 */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "client.h"
#include "device.h"
#include "kcopyd.h"
#include "lane.h"

int kcopyd_device_open_fd(int fd, struct block_device **result)
{
	struct block_device *bdev;
	int ret = device_create(fd, &bdev);

	if (ret)
		return ret;
	ret = lane_open(bdev, &bdev->lane);
	if (ret) {
		device_release(bdev);
		return ret;
	}
	*result = bdev;
	return 0;
}

int kcopyd_device_open(const char *path, int open_flags, struct block_device **result)
{
	/* O_NONBLOCK: a pipe in the place of a file must not make us wait; neither a block device nor a file minds. */
	int fd = open(path, open_flags | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0666);
	int ret;

	if (fd < 0)
		return -errno;
	ret = kcopyd_device_open_fd(fd, result);
	if (ret)
		close(fd);
	return ret;
}

unsigned int kcopyd_device_stalled_ms(const struct block_device *bdev, enum kcopyd_op *op)
{
	static const enum kcopyd_op ops[] = { [LANE_READ] = KCOPYD_OP_READ,
					      [LANE_WRITE] = KCOPYD_OP_WRITE,
					      [LANE_ZERO] = KCOPYD_OP_ZERO,
					      [LANE_FLUSH] = KCOPYD_OP_FLUSH,
					      [LANE_EXTENT] = KCOPYD_OP_READ };
	enum lane_op waiting_for = LANE_READ;
	unsigned int ms = lane_stalled_ms(bdev->lane, &waiting_for);

	if (op)
		*op = ops[waiting_for];
	return ms;
}

void kcopyd_device_abandon(struct block_device *bdev)
{
	/* In this order: what comes to the lane from now on fails without the clients' help. */
	lane_abandon(bdev->lane);
	client_look_in_all();
}

void kcopyd_device_fail(struct block_device *bdev)
{
	atomic_store(&bdev->is_failed, true);
	client_look_in_all();
}

void kcopyd_device_limit(struct block_device *bdev, uint64_t bytes)
{
	lane_limit(bdev->lane, bytes);
}

static void lane_has_ended(void *arg)
{
	struct block_device *bdev = arg;

	bdev->lane = NULL;
	device_destroy(bdev);
}

void kcopyd_device_close(struct block_device *bdev)
{
	if (!bdev)
		return;
	if (bdev->lane && lane_is_abandoned(bdev->lane)) {
		lane_leave(bdev->lane, lane_has_ended, bdev);
		return;
	}
	lane_destroy(bdev->lane);
	bdev->lane = NULL;
	device_destroy(bdev);
}
