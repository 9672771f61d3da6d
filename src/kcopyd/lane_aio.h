/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The lane engine over libaio: direct, aligned reads and writes, many in flight. Everything that has no asynchronous
 * form (an unaligned transfer, a flush, zeroing) it hands to lane_sync's calls, on the lane's thread.
 */
#ifndef KCOPYD_LANE_AIO_H
#define KCOPYD_LANE_AIO_H

#include "aio_context.h"
#include "lane.h"

#define LANE_AIO_DEPTH AIO_CONTEXT_DEPTH

extern const struct lane_engine_ops lane_aio_ops;

/* The same, or, for what may be able to, with start() and collect(). */
const struct lane_engine_ops *lane_aio_find_ops(const struct block_device *bdev);

/* Borrows @bdev until closed. Without a libaio context (fs.aio-max-nr reached, a kernel without it) it does everything
 * one by one. */
int lane_aio_create(struct block_device *bdev, void **engine);

#endif
