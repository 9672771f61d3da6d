/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How far the zones of a zoned device are written, as it tells now. Asks the device, so it may wait for it.
 */
#ifndef KCOPYD_ZONES_H
#define KCOPYD_ZONES_H

#include <stdint.h>

#include "device.h"

/*
 * A write to @bdev failed, and the kernel does not say whether any of it was carried out: it makes several requests of
 * a large one. Bytes from @offset on, at most @bytes, that the write pointers have passed and that read back as @data (NULL:
 * zeros), so that whoever wrote them, they need not be written again, and cannot be. Whole logical blocks. 0 if that
 * cannot be told, and in a zone that can be written anywhere.
 */
uint64_t zones_find_written(const struct block_device *bdev, uint64_t offset, uint64_t bytes, const char *data);

#endif
