/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The lane engine over io_uring: direct, aligned reads and writes, many in flight; what was given to it and the wait for
 * completions are one system call. Everything that has no asynchronous form (an unaligned transfer, a flush, zeroing) it
 * hands to lane_sync's calls, on the lane's thread.
 *
 * Why beside libaio: taking a libaio context down waits for RCU, 30 to 50 ms at the end of every copy. lane_open() takes
 * libaio where io_uring is not to be had: kernels before 6.1, kernel.io_uring_disabled, the seccomp filters of containers.
 */
#ifndef KCOPYD_LANE_URING_H
#define KCOPYD_LANE_URING_H

#include <stdbool.h>

#include "lane.h"

/* As lane_aio's. */
#define LANE_URING_DEPTH 64u

extern const struct lane_engine_ops lane_uring_ops;

/* Can this process have it, and does KCOPYD_IO=libaio in its environment not say that it should not? Asked once. From any
 * thread. */
bool lane_uring_is_available(void);

/* Borrows @bdev until closed. Where a ring cannot be had after all (no memory), it does everything one by one. */
int lane_uring_create(const struct block_device *bdev, void **engine);

#endif
