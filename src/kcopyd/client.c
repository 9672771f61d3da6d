/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Clients: the public calls that create, set up and end them.
 */
#include "client_parts.h"

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define CHUNK_PAGES (((unsigned int)1 << 20) / KCOPYD_PAGE_BYTES)
#define RETRIES 2u
#define RETRY_MS 100u

/* All there are: whoever abandons a device does not know which of them use it. */
static struct list_head clients = { &clients, &clients };
static pthread_mutex_t clients_lock = PTHREAD_MUTEX_INITIALIZER;

unsigned int client_find_chunk_pages(unsigned int num_pages)
{
	unsigned int pages = num_pages / 2;

	if (pages > CHUNK_PAGES)
		pages = CHUNK_PAGES;
	return pages > 0 ? pages : 1;
}

void client_free(struct kcopyd_client *kc)
{
	pages_destroy(kc->pages);
	pthread_cond_destroy(&kc->idle);
	assert(list_is_empty(&kc->collector.lanes));
	close(kc->collector.event_fd);
	pthread_mutex_destroy(&kc->lock);
	free(kc);
}

int kcopyd_client_create(unsigned int num_pages, struct kcopyd_client **result)
{
	struct kcopyd_client *kc = calloc(1, sizeof(*kc));
	sigset_t all, old;
	int ret;

	if (!kc)
		return -ENOMEM;
	ret = pages_create(num_pages, &kc->pages);
	if (ret)
		goto err_client;
	list_init(&kc->collector.lanes);
	kc->collector.event_fd = eventfd(0, EFD_CLOEXEC);
	if (kc->collector.event_fd < 0) {
		ret = -errno;
		goto err_pages;
	}
	kc->env.pages = kc->pages;
	kc->env.num_pages = num_pages;
	kc->env.chunk_pages = client_find_chunk_pages(num_pages);
	kc->env.reading = &kc->reading;
	kc->env.num_copies = &kc->num_copies;
	kc->env.tune = &kc->tune;
	kc->env.retries = RETRIES;
	kc->env.retry_ms = RETRY_MS;
	kc->env.complete = client_requests_complete;
	kc->env.submit = client_submit;
	kc->env.wait = client_start_timer;
	kc->env.throttle = &kc->throttle;
	throttle_init(&kc->throttle, client_now_ns);
	tune_init(&kc->tune, num_pages, client_now_ns);
	kc->throttled_ns = UINT64_MAX;
	kc->percent = THROTTLE_NONE;
	list_init(&kc->incoming);
	list_init(&kc->completed);
	list_init(&kc->waiting);
	list_init(&kc->unpaged);
	list_init(&kc->running);
	list_init(&kc->finished);
	list_init(&kc->timers);
	list_init(&kc->outgoing);
	pthread_mutex_init(&kc->lock, NULL);
	pthread_cond_init(&kc->idle, NULL);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	ret = -pthread_create(&kc->thread, NULL, client_main, kc);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (ret)
		goto err_locks;
	pthread_mutex_lock(&clients_lock);
	list_add_tail(&kc->node, &clients);
	pthread_mutex_unlock(&clients_lock);
	*result = kc;
	return 0;

err_locks:
	pthread_cond_destroy(&kc->idle);
	pthread_mutex_destroy(&kc->lock);
	close(kc->collector.event_fd);
err_pages:
	pages_destroy(kc->pages);
err_client:
	free(kc);
	return ret;
}

void kcopyd_client_destroy(struct kcopyd_client *kc)
{
	bool is_left;

	if (!kc)
		return;
	assert(!pthread_equal(pthread_self(), kc->thread));
	pthread_mutex_lock(&kc->lock);
	while (kc->num_jobs > 0)
		pthread_cond_wait(&kc->idle, &kc->lock);
	pthread_mutex_unlock(&kc->lock);
	pthread_mutex_lock(&clients_lock);
	list_del(&kc->node);
	pthread_mutex_unlock(&clients_lock);
	pthread_mutex_lock(&kc->lock);
	kc->is_closing = true;
	client_wake(kc);
	while (!kc->has_ended && !kc->is_lingering)
		pthread_cond_wait(&kc->idle, &kc->lock);
	is_left = !kc->has_ended;
	kc->is_left = is_left;
	if (is_left)
		pthread_detach(kc->thread);
	pthread_mutex_unlock(&kc->lock);
	if (is_left)
		return;
	pthread_join(kc->thread, NULL);
	client_free(kc);
}

void kcopyd_client_cancel(struct kcopyd_client *kc)
{
	struct list_head *pos;

	pthread_mutex_lock(&kc->lock);
	list_for_each (pos, &kc->incoming)
		job_cancel(job_of_node(pos));
	kc->is_cancelling = true;
	client_wake(kc);
	pthread_mutex_unlock(&kc->lock);
}

void kcopyd_client_set_observer(struct kcopyd_client *kc, const struct kcopyd_observer *ops, void *observer)
{
	kc->env.observer = ops;
	kc->env.observer_context = observer;
}

void kcopyd_client_set_retries(struct kcopyd_client *kc, unsigned int retries)
{
	kc->env.retries = retries;
}

void kcopyd_client_set_limit(struct kcopyd_client *kc, uint64_t bytes_per_second)
{
	pthread_mutex_lock(&kc->lock);
	kc->limit = bytes_per_second;
	kc->has_new_speed = true;
	client_wake(kc);
	pthread_mutex_unlock(&kc->lock);
}

int kcopyd_client_set_throttle(struct kcopyd_client *kc, unsigned int percent)
{
	if (percent < 1 || percent > THROTTLE_NONE)
		return -EINVAL;
	pthread_mutex_lock(&kc->lock);
	kc->percent = percent;
	kc->has_new_speed = true;
	client_wake(kc);
	pthread_mutex_unlock(&kc->lock);
	return 0;
}

void client_look_in_all(void)
{
	struct list_head *pos;

	pthread_mutex_lock(&clients_lock);
	list_for_each (pos, &clients) {
		struct kcopyd_client *kc = container_of(pos, struct kcopyd_client, node);

		pthread_mutex_lock(&kc->lock);
		kc->is_looking = true;
		client_wake(kc);
		pthread_mutex_unlock(&kc->lock);
	}
	pthread_mutex_unlock(&clients_lock);
}

void kcopyd_client_set_max_lag(struct kcopyd_client *kc, uint64_t bytes)
{
	kc->env.max_lag = bytes;
}

void client_set_chunk_pages(struct kcopyd_client *kc, unsigned int pages)
{
	kc->env.chunk_pages = pages;
}

void client_set_first_sectors(struct kcopyd_client *kc, sector_t sectors)
{
	kc->first_sectors = sectors;
}

void client_set_alternating(struct kcopyd_client *kc)
{
	kc->is_alternating = true;
	kc->tune.state = TUNE_OFF;
	kc->tune.shape = (struct tune_shape){ .pages = kc->env.num_pages, .alternates = true };
}

void client_set_retry_wait(struct kcopyd_client *kc, unsigned int ms)
{
	kc->env.retry_ms = ms;
}
