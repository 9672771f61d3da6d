/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The kernel's view of a destination device, where writes past its page caches make it stale: the caches of the other
 * names of the same sectors, and the partition table.
 */
#ifndef KCOPY_REFRESH_H
#define KCOPY_REFRESH_H

#include "operand.h"

/* Before the first write: what others left in those caches goes to the device now and not over our data later. */
void refresh_before(const struct operand *operand);

/* After the flush: the caches are dropped, and the partition table is read again if it may have been written. */
void refresh_after(const struct operand *operand);

#endif
