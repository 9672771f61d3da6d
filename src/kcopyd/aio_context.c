/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "aio_context.h"

#include <errno.h>
#include <sys/uio.h>
#include <time.h>

#include "device.h"

/* More than one of these is not given to the kernel at once. */
#define LONG_BYTES (64u << 10)
/* Pages of the device in the page cache are a reason to wait, too: so many may. Of many, one in ... */
#define SOME_WAITED 4u
#define MOST_WAITED 64u

void aio_context_init(struct aio_context *aio, const struct block_device *bdev)
{
	aio->bdev = bdev;
	pthread_mutex_init(&aio->lock, NULL);
	for (unsigned int i = 0; i < AIO_CONTEXT_DEPTH; i++)
		aio->free_iocbs[aio->num_free++] = &aio->iocbs[i];
}

/* It is nobody's but the caller's any more; NULL: there is none, or it is in use. */
static io_context_t take(struct aio_context *aio)
{
	io_context_t id = NULL;

	pthread_mutex_lock(&aio->lock);
	if (aio->in_flight == 0) {
		id = aio->id;
		aio->id = NULL;
		aio->at_once_bytes = 0;
	}
	pthread_mutex_unlock(&aio->lock);
	return id;
}

void aio_context_release(struct aio_context *aio)
{
	io_context_t id = take(aio);

	if (id)
		io_destroy(id);
	if (aio->is_dropping)
		pthread_join(aio->dropper, NULL);
	pthread_mutex_destroy(&aio->lock);
}

int aio_context_open(struct aio_context *aio)
{
	const struct queue *queue = &aio->bdev->queue;
	io_context_t id = NULL;
	int ret = io_setup((int)AIO_CONTEXT_DEPTH, &id);

	if (ret < 0)
		return ret;
	pthread_mutex_lock(&aio->lock);
	aio->id = id;
	aio->at_once_bytes = aio->bdev->is_block && queue->takes_at_once ? queue->max_bytes : 0;
	aio->num_started = 0;
	aio->num_waited = 0;
	pthread_mutex_unlock(&aio->lock);
	return 0;
}

static void *drop(void *id)
{
	io_destroy(id);
	return NULL;
}

bool aio_context_begin_dropping(struct aio_context *aio)
{
	io_context_t id;

	if (aio->is_dropping && pthread_tryjoin_np(aio->dropper, NULL) == 0)
		aio->is_dropping = false;
	id = aio->is_dropping ? NULL : take(aio);
	if (!id)
		return false;
	aio->is_dropping = pthread_create(&aio->dropper, NULL, drop, id) == 0;
	if (!aio->is_dropping)
		io_destroy(id);
	return true;
}

void aio_context_count(struct aio_context *aio, uint64_t bytes)
{
	pthread_mutex_lock(&aio->lock);
	aio->moved += bytes;
	pthread_mutex_unlock(&aio->lock);
}

void aio_context_count_anew(struct aio_context *aio)
{
	pthread_mutex_lock(&aio->lock);
	aio->moved = 0;
	pthread_mutex_unlock(&aio->lock);
}

uint64_t aio_context_moved(struct aio_context *aio)
{
	uint64_t moved;

	pthread_mutex_lock(&aio->lock);
	moved = aio->moved;
	pthread_mutex_unlock(&aio->lock);
	return moved;
}

bool aio_context_is_busy(struct aio_context *aio)
{
	bool is_busy;

	pthread_mutex_lock(&aio->lock);
	is_busy = aio->in_flight > 0;
	pthread_mutex_unlock(&aio->lock);
	return is_busy;
}

/* With the lock held. It counts as in the kernel's hands from here on. */
static struct iocb *prepare(struct aio_context *aio, struct lane_request *request, uint64_t bytes, int event_fd)
{
	struct iocb *iocb = aio->free_iocbs[--aio->num_free];
	char *buffer = request->buffer + request->done;
	long long offset = (long long)(request->offset + request->done);

	if (request->op == LANE_READ)
		io_prep_pread(iocb, aio->bdev->fd, buffer, bytes, offset);
	else
		io_prep_pwrite(iocb, aio->bdev->fd, buffer, bytes, offset);
	iocb->data = request;
	io_set_eventfd(iocb, event_fd);
	aio->in_flight++;
	return iocb;
}

/* The kernel has not got the last @count of them. */
static void take_back(struct aio_context *aio, struct iocb **batch, unsigned int count)
{
	pthread_mutex_lock(&aio->lock);
	aio->in_flight -= count;
	while (count > 0)
		aio->free_iocbs[aio->num_free++] = batch[--count];
	pthread_mutex_unlock(&aio->lock);
}

/*
 * Returns how many of them the kernel has got, or -errno of the first. Long ones one by one: several together are
 * kept back until the last of them is there, and put together to longer ones, which takes the device longer.
 */
static int submit_batch(struct aio_context *aio, io_context_t id, struct iocb **batch, unsigned int count)
{
	unsigned int taken = 0;
	int ret = 0;

	while (taken < count) {
		unsigned int num = batch[taken]->u.c.nbytes < LONG_BYTES ? count - taken : 1;

		ret = io_submit(id, (long)num, batch + taken);
		if (ret > 0)
			taken += (unsigned int)ret;
		if (ret < (int)num)
			break;
	}
	if (taken < count)
		take_back(aio, batch + taken, count - taken);
	return taken > 0 ? (int)taken : ret;
}

int aio_context_submit(struct aio_context *aio, struct lane_request **requests, const uint64_t *bytes,
		       unsigned int count, int event_fd)
{
	struct iocb *batch[AIO_CONTEXT_DEPTH];
	unsigned int prepared;

	pthread_mutex_lock(&aio->lock);
	for (prepared = 0; prepared < count && aio->num_free > 0; prepared++)
		batch[prepared] = prepare(aio, requests[prepared], bytes[prepared], event_fd);
	pthread_mutex_unlock(&aio->lock);
	return prepared > 0 ? submit_batch(aio, aio->id, batch, prepared) : 0;
}

static void start_no_more(struct aio_context *aio)
{
	pthread_mutex_lock(&aio->lock);
	aio->at_once_bytes = 0;
	pthread_mutex_unlock(&aio->lock);
}

unsigned int aio_context_start(struct aio_context *aio, struct lane_request **requests, unsigned int count,
			       int event_fd)
{
	struct iocb *batch[AIO_CONTEXT_DEPTH];
	unsigned int prepared;
	io_context_t id;
	int taken;

	pthread_mutex_lock(&aio->lock);
	id = aio->id;
	for (prepared = 0; prepared < count && aio->num_free > 0; prepared++) {
		uint64_t bytes = requests[prepared]->bytes - requests[prepared]->done;

		/* By a request that the kernel makes several of it would wait. */
		if (bytes > aio->at_once_bytes)
			break;
		batch[prepared] = prepare(aio, requests[prepared], bytes, event_fd);
		batch[prepared]->aio_rw_flags = RWF_NOWAIT;
	}
	pthread_mutex_unlock(&aio->lock);
	if (prepared == 0)
		return 0;
	taken = submit_batch(aio, id, batch, prepared);
	if (taken < 0)
		start_no_more(aio);
	return taken > 0 ? (unsigned int)taken : 0;
}

/* With the lock held: the kernel has finished it. */
static void finish(struct aio_context *aio, const struct io_event *done, struct lane_event *event)
{
	bool was_started = done->obj->aio_rw_flags == RWF_NOWAIT;

	event->request = done->data;
	event->result = (long)done->res;
	/* It would have had to wait, as others will, or the kernel does not do it that way: the lane's thread can do both. */
	aio->num_started += was_started;
	aio->num_waited += was_started && event->result == -EAGAIN;
	if (aio->num_waited > SOME_WAITED + aio->num_started / MOST_WAITED ||
	    (was_started && aio_context_is_refusal(event->result)))
		aio->at_once_bytes = 0;
	if (event->result > 0)
		aio->moved += (uint64_t)event->result;
	aio->free_iocbs[aio->num_free++] = done->obj;
}

unsigned int aio_context_collect(struct aio_context *aio, struct lane_event *events, unsigned int max)
{
	struct io_event done[AIO_CONTEXT_DEPTH];
	struct timespec at_once = { 0, 0 };
	int count = 0;

	if (max > AIO_CONTEXT_DEPTH)
		max = AIO_CONTEXT_DEPTH;
	/* For as long as something is in flight nobody gives the context back. */
	pthread_mutex_lock(&aio->lock);
	if (aio->in_flight > 0)
		count = io_getevents(aio->id, 0, (long)max, done, &at_once);
	for (int i = 0; i < count; i++)
		finish(aio, &done[i], &events[i]);
	if (count > 0)
		aio->in_flight -= (unsigned int)count;
	pthread_mutex_unlock(&aio->lock);
	return count > 0 ? (unsigned int)count : 0;
}
