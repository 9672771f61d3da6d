/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the unit tests set on a client beside the public calls of kcopyd.h.
 */
#ifndef KCOPYD_CLIENT_H
#define KCOPYD_CLIENT_H

#include "kcopyd.h"

/* How long the first retry of a bad place waits; each further one twice as long. Before the client's first job. */
void client_set_retry_wait(struct kcopyd_client *kc, unsigned int ms);

#endif
