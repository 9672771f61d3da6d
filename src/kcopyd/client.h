/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A client, beside the public calls of kcopyd.h: what client_device.c and the unit tests need of it.
 */
#ifndef KCOPYD_CLIENT_H
#define KCOPYD_CLIENT_H

#include "kcopyd.h"

/* A device was abandoned or has failed: the threads of all clients look for it in their jobs. From any thread. */
void client_look_in_all(void);

/* For tests. How long the first retry of a bad place waits; each further one twice as long. Before the client's first job. */
void client_set_retry_wait(struct kcopyd_client *kc, unsigned int ms);

/* For tests. How many pages a chunk has at the most, of those of the reserve. Before the client's first job. */
void client_set_chunk_pages(struct kcopyd_client *kc, unsigned int pages);

/*
 * For tests, and for the copies that are accepted from then on: the length of the first chunk, 0: a whole one; reading and
 * writing in turns, with the whole reserve.
 */
void client_set_first_sectors(struct kcopyd_client *kc, sector_t sectors);
void client_set_alternating(struct kcopyd_client *kc);

#endif
