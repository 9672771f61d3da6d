/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A client: its thread ("kcopyd"), the queue of its jobs, and the public calls. The thread owns every job; callers and
 * lanes reach it only through two lists, new jobs and completed requests.
 *
 * Who gets pages: the waiting jobs form one queue. Only its head may take pages, so nobody is overtaken while it waits;
 * after each chunk the head goes to the end, so a big job is passed by every small one once per chunk.
 */
#include "client.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>

#include "device.h"
#include "job.h"
#include "kcopyd.h"
#include "lane.h"
#include "list.h"
#include "pages.h"
#include "queue.h"
#include "throttle.h"
#include "tune.h"

#define CHUNK_PAGES (((unsigned int)1 << 20) / KCOPYD_PAGE_BYTES)
/* A round's requests are submitted together, but nothing large waits for the rest of the round. */
#define OUTGOING_BYTES ((uint64_t)256 << 10)
/* A job of fewer does not ask what its devices are like. */
#define ASK_QUEUES_SECTORS ((sector_t)8 << 11)
#define RETRIES 2u
#define RETRY_MS 100u
#define NS_PER_MS UINT64_C(1000000)
#define NS_PER_S UINT64_C(1000000000)
#define KNOWN_FLAGS (KCOPYD_IGNORE_ERROR | KCOPYD_WRITE_SEQ | KCOPYD_DROP_FAILED | KCOPYD_SPARSE)

struct kcopyd_client {
	struct list_head node; /* clients; guarded by clients_lock */
	struct job_env env;
	struct pages *pages; /* owned; the thread's alone */
	struct kcopyd_observer observer;
	pthread_t thread;
	sector_t first_sectors; /* for tests, as is_alternating */
	bool is_alternating;

	pthread_mutex_t lock;	    /* guards the rest of this block */
	pthread_cond_t work;	    /* for the thread: something of the below changed */
	pthread_cond_t idle;	    /* for destroy: num_jobs became 0, or has_ended or is_lingering was set */
	struct list_head incoming;  /* jobs not yet seen by the thread */
	struct list_head completed; /* requests */
	unsigned long num_jobs;	    /* accepted, not called back */
	bool is_waiting;	    /* the thread sleeps on work */
	bool is_cancelling;
	bool is_looking; /* a device was abandoned, or has failed */
	uint64_t limit;	 /* for the throttle, as percent is */
	unsigned int percent;
	bool has_new_speed; /* the last two were set */
	bool is_closing;
	bool has_ended;	   /* the thread has nothing left to do */
	bool is_lingering; /* there are orphans only */
	bool is_left;	   /* destroy did not wait for those: the thread frees the client after the last */

	/* The thread's own. */
	unsigned int reading;	   /* pages of chunks that are read */
	unsigned long num_taken;   /* jobs that it has */
	unsigned long num_orphans; /* requests that abandoned devices have */
	/* A job is on one of these. */
	struct list_head waiting;  /* could start a chunk if they had pages, in the order in which they may */
	struct list_head unpaged;  /* can start a chunk, and need no pages for it */
	struct list_head running;  /* only chunks in flight to wait for */
	struct list_head finished; /* to be called back */
	struct list_head timers;   /* waits of jobs, the first to end first */
	struct list_head outgoing; /* requests for lanes */
	uint64_t outgoing_bytes;
	struct throttle throttle;
	struct tune tune;
	uint64_t throttled_ns; /* when it is to be asked again; UINT64_MAX: at any time, or nobody waits for it */
};

/* All there are: whoever abandons a device does not know which of them use it. */
static struct list_head clients = { &clients, &clients };
static pthread_mutex_t clients_lock = PTHREAD_MUTEX_INITIALIZER;

/* -- the thread ---------------------------------------------------------------------------------- */

/* A job's state changed: the list it belongs on. */
static void requeue(struct kcopyd_client *kc, struct job *job)
{
	if (job_is_finished(job))
		list_move_tail(job_node(job), &kc->finished);
	else if (job_can_start(job))
		list_move_tail(job_node(job), job_needs_pages(job) ? &kc->waiting : &kc->unpaged);
	else
		list_move_tail(job_node(job), &kc->running);
}

/* The same, for a job that has a place in the queue already and keeps it. */
static void requeue_in_place(struct kcopyd_client *kc, struct job *job, bool was_waiting)
{
	if (!was_waiting || job_is_finished(job) || !job_can_start(job))
		requeue(kc, job);
}

/* To their lanes, those of a lane at once: whoever has to be woken for it has to be once. */
static void send_outgoing(struct kcopyd_client *kc)
{
	kc->outgoing_bytes = 0;
	while (!list_is_empty(&kc->outgoing)) {
		struct lane *lane = job_lane_of_request(list_first(&kc->outgoing, struct lane_request, node));
		struct list_head same, *pos, *next;

		list_init(&same);
		for (pos = kc->outgoing.next; pos != &kc->outgoing; pos = next) {
			next = pos->next;
			if (job_lane_of_request(container_of(pos, struct lane_request, node)) == lane)
				list_move_tail(pos, &same);
		}
		lane_submit(lane, &same);
	}
}

/* A job's, see job_env. */
static void submit(const struct job_env *env, struct lane_request *request, uint64_t bytes)
{
	struct kcopyd_client *kc = container_of(env, struct kcopyd_client, env);

	list_add_tail(&request->node, &kc->outgoing);
	kc->outgoing_bytes += bytes;
	if (kc->outgoing_bytes >= OUTGOING_BYTES)
		send_outgoing(kc);
}

static void process_completed(struct kcopyd_client *kc, struct list_head *completed)
{
	while (!list_is_empty(completed)) {
		struct lane_request *request = list_first(completed, struct lane_request, node);
		struct job *job = job_of_request(request);
		bool was_waiting;

		list_del(&request->node);
		if (job_take_orphan(request)) {
			kc->num_orphans--;
			continue;
		}
		was_waiting = job_can_start(job);
		job_request_done(job, request);
		requeue_in_place(kc, job, was_waiting);
	}
}

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

static uint64_t now_ms(void)
{
	return now_ns() / NS_PER_MS;
}

/* A job's, see job_env. */
static void start_timer(const struct job_env *env, struct job_timer *timer, unsigned int ms)
{
	struct kcopyd_client *kc = container_of(env, struct kcopyd_client, env);
	struct list_head *pos = kc->timers.prev;

	timer->due_ms = now_ms() + ms;
	while (pos != &kc->timers && container_of(pos, struct job_timer, node)->due_ms > timer->due_ms)
		pos = pos->prev;
	list_add_tail(&timer->node, pos->next);
}

static struct job_timer *first_timer(const struct kcopyd_client *kc)
{
	return list_is_empty(&kc->timers) ? NULL : list_first(&kc->timers, struct job_timer, node);
}

static void process_timers(struct kcopyd_client *kc)
{
	struct job_timer *timer;
	uint64_t now;

	if (!first_timer(kc))
		return;
	now = now_ms(); /* once: a job that waits for no time at all cannot keep the others from going on */
	while ((timer = first_timer(kc)) && timer->due_ms <= now) {
		struct job *job = job_of_timer(timer);
		bool was_waiting = job_can_start(job);

		list_del(&timer->node);
		job_timer_due(job, timer);
		requeue_in_place(kc, job, was_waiting);
	}
}

/* With the lock held, when it is closing: may the thread end, or must kcopyd_client_destroy() hear that it cannot? */
static bool is_over(const struct kcopyd_client *kc)
{
	return kc->is_closing && (!kc->is_lingering || kc->num_orphans == 0);
}

/* Of the first timer, or the throttle; UINT64_MAX: nothing is waited for that only time brings. */
static uint64_t find_due_ns(const struct kcopyd_client *kc)
{
	const struct job_timer *timer = first_timer(kc);
	uint64_t due_ns = timer ? timer->due_ms * NS_PER_MS : UINT64_MAX;

	return due_ns < kc->throttled_ns ? due_ns : kc->throttled_ns;
}

/* With the lock held: until something comes, or the time for something has. */
static void wait_for_work(struct kcopyd_client *kc)
{
	uint64_t due_ns = find_due_ns(kc);
	bool is_due = false;

	while (list_is_empty(&kc->incoming) && list_is_empty(&kc->completed) && !kc->is_cancelling && !kc->is_looking &&
	       !kc->has_new_speed && !is_over(kc) && !is_due) {
		kc->is_waiting = true;
		if (due_ns < UINT64_MAX) {
			struct timespec until = { .tv_sec = (time_t)(due_ns / NS_PER_S),
						  .tv_nsec = (long)(due_ns % NS_PER_S) };

			is_due = pthread_cond_timedwait(&kc->work, &kc->lock, &until) == ETIMEDOUT;
		} else {
			pthread_cond_wait(&kc->work, &kc->lock);
		}
		kc->is_waiting = false;
	}
}

/* With the lock held. */
static void take_speed(struct kcopyd_client *kc)
{
	if (!kc->has_new_speed)
		return;
	kc->has_new_speed = false;
	if (kc->limit != kc->throttle.limit)
		throttle_set_limit(&kc->throttle, kc->limit);
	throttle_set_percent(&kc->throttle, kc->percent);
}

/* The bytes that the next chunk may have; 0: it may not be started yet. */
static uint64_t ask_throttle(struct kcopyd_client *kc, const struct job *job)
{
	uint64_t due_ns = UINT64_MAX, most;

	if (!job_is_throttled(job))
		return THROTTLE_ANY;
	most = throttle_ask(&kc->throttle, job_needs_pages(job), &due_ns);
	if (most == 0 && due_ns < kc->throttled_ns)
		kc->throttled_ns = due_ns;
	return most;
}

static void start_unpaged(struct kcopyd_client *kc)
{
	struct list_head held;

	list_init(&held);
	while (!list_is_empty(&kc->unpaged)) {
		struct job *job = job_of_node(kc->unpaged.next);
		uint64_t most;

		if (job_needs_pages(job)) {
			requeue(kc, job); /* another of its streams comes first now */
			continue;
		}
		most = ask_throttle(kc, job);
		if (most == 0) {
			list_move_tail(job_node(job), &held);
			continue;
		}
		job_start_chunk(job, most);
		requeue(kc, job);
	}
	list_splice_tail(&held, &kc->unpaged);
}

static void take_all(struct kcopyd_client *kc, struct list_head *all)
{
	struct list_head *lists[] = { &kc->waiting, &kc->unpaged, &kc->running };

	list_init(all);
	for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++)
		list_splice_tail(lists[i], all);
}

/* What may be started depends on it; and on that, which list a job belongs on. Those that wait stay in their order. */
static void look_at_tune(struct kcopyd_client *kc)
{
	struct list_head all;

	if (!tune_look(&kc->tune))
		return;
	take_all(kc, &all);
	while (!list_is_empty(&all))
		requeue(kc, job_of_node(all.next));
}

static void start_chunks(struct kcopyd_client *kc)
{
	kc->throttled_ns = UINT64_MAX;
	look_at_tune(kc);
	start_unpaged(kc);
	while (!list_is_empty(&kc->waiting)) {
		struct job *job = job_of_node(kc->waiting.next);
		uint64_t most = ask_throttle(kc, job);

		if (most == 0)
			break;
		if (!job_start_chunk(job, most)) {
			if (pages_taken(kc->pages) > 0)
				break; /* they will be put; nobody overtakes it */
			if (!job_starve(job))
				break; /* abandoned devices have them all; what it has under way needs none */
		}
		requeue(kc, job);
		if (!job_needs_pages(job))
			start_unpaged(kc); /* behind its data there is a hole, or the source is to be asked */
	}
}

static void cancel_jobs(struct kcopyd_client *kc)
{
	struct list_head all, *pos;

	take_all(kc, &all);
	while (!list_is_empty(&all)) {
		pos = all.next;
		job_cancel(job_of_node(pos));
		requeue(kc, job_of_node(pos));
	}
}

/* Those that wait stay in their order. */
static void look_in_jobs(struct kcopyd_client *kc)
{
	struct list_head all, *pos;

	take_all(kc, &all);
	while (!list_is_empty(&all)) {
		pos = all.next;
		kc->num_orphans += job_abandon(job_of_node(pos));
		job_drop_failed(job_of_node(pos));
		requeue(kc, job_of_node(pos));
	}
}

static void tune_for(struct kcopyd_client *kc, const struct job *job)
{
	if (job_shares_spindle(job))
		tune_may_alternate(&kc->tune);
	tune_need(&kc->tune, job_fewest_pages(job));
	/* Who says how much it may be needs all that it takes. */
	if (kc->env.max_lag > 0 && kc->env.max_lag != KCOPYD_LAG_AUTO)
		tune_off(&kc->tune);
}

/* New jobs. */
static void take_over(struct kcopyd_client *kc, struct list_head *incoming)
{
	while (!list_is_empty(incoming)) {
		struct job *job = job_of_node(incoming->next);

		job_drop_failed(job);
		tune_for(kc, job);
		kc->num_taken++;
		requeue(kc, job);
	}
}

static void call_back(struct kcopyd_client *kc)
{
	while (!list_is_empty(&kc->finished)) {
		struct list_head *node = kc->finished.next;

		list_del(node);
		kc->num_taken--;
		job_call_back(job_of_node(node));
		pthread_mutex_lock(&kc->lock);
		if (--kc->num_jobs == 0)
			pthread_cond_signal(&kc->idle);
		pthread_mutex_unlock(&kc->lock);
	}
}

static void free_client(struct kcopyd_client *kc)
{
	pages_destroy(kc->pages);
	pthread_cond_destroy(&kc->idle);
	pthread_cond_destroy(&kc->work);
	pthread_mutex_destroy(&kc->lock);
	free(kc);
}

/* With the lock held, after the last job: has the thread nothing left to do? Tells kcopyd_client_destroy(). */
static bool end(struct kcopyd_client *kc)
{
	if (kc->num_orphans > 0)
		kc->is_lingering = true;
	else
		kc->has_ended = true;
	pthread_cond_signal(&kc->idle);
	return kc->has_ended;
}

static void *client_main(void *arg)
{
	struct kcopyd_client *kc = arg;
	struct list_head incoming, completed;
	bool is_cancelling, is_looking, is_left;

	list_init(&incoming);
	list_init(&completed);
	for (;;) {
		pthread_mutex_lock(&kc->lock);
		wait_for_work(kc);
		list_splice_tail(&kc->incoming, &incoming);
		list_splice_tail(&kc->completed, &completed);
		is_cancelling = kc->is_cancelling;
		is_looking = kc->is_looking;
		kc->is_cancelling = false;
		kc->is_looking = false;
		take_speed(kc);
		if (kc->is_closing && kc->num_jobs == 0 && list_is_empty(&completed) && end(kc)) {
			is_left = kc->is_left;
			pthread_mutex_unlock(&kc->lock);
			if (is_left)
				free_client(kc);
			return NULL;
		}
		pthread_mutex_unlock(&kc->lock);

		/* Before the new ones are taken over: those accepted after the cancel are not meant. */
		if (is_cancelling)
			cancel_jobs(kc);
		take_over(kc, &incoming);
		process_completed(kc, &completed);
		/* After those that came back in time. */
		if (is_looking)
			look_in_jobs(kc);
		process_timers(kc);
		start_chunks(kc);
		send_outgoing(kc);
		call_back(kc);
	}
}

/* Any thread: records and queues. The requests may be several clients'. */
static void requests_complete(struct list_head *requests)
{
	while (!list_is_empty(requests)) {
		const struct job_env *env = job_env_of_request(list_first(requests, struct lane_request, node));
		struct kcopyd_client *kc = container_of(env, struct kcopyd_client, env);
		struct list_head same, *pos, *next;

		list_init(&same);
		for (pos = requests->next; pos != requests; pos = next) {
			next = pos->next;
			if (job_env_of_request(container_of(pos, struct lane_request, node)) == env)
				list_move_tail(pos, &same);
		}
		pthread_mutex_lock(&kc->lock);
		list_splice_tail(&same, &kc->completed);
		if (kc->is_waiting)
			pthread_cond_signal(&kc->work);
		pthread_mutex_unlock(&kc->lock);
	}
}

/* -- create, destroy ----------------------------------------------------------------------------- */

static unsigned int find_chunk_pages(unsigned int num_pages)
{
	unsigned int pages = num_pages / 2;

	if (pages > CHUNK_PAGES)
		pages = CHUNK_PAGES;
	return pages > 0 ? pages : 1;
}

int kcopyd_client_create(unsigned int num_pages, struct kcopyd_client **result)
{
	struct kcopyd_client *kc = calloc(1, sizeof(*kc));
	pthread_condattr_t monotonic;
	sigset_t all, old;
	int ret;

	if (!kc)
		return -ENOMEM;
	ret = pages_create(num_pages, &kc->pages);
	if (ret)
		goto err_client;
	kc->env.pages = kc->pages;
	kc->env.num_pages = num_pages;
	kc->env.chunk_pages = find_chunk_pages(num_pages);
	kc->env.reading = &kc->reading;
	kc->env.num_jobs = &kc->num_taken;
	kc->env.tune = &kc->tune;
	kc->env.retries = RETRIES;
	kc->env.retry_ms = RETRY_MS;
	kc->env.complete = requests_complete;
	kc->env.submit = submit;
	kc->env.wait = start_timer;
	kc->env.throttle = &kc->throttle;
	throttle_init(&kc->throttle, now_ns);
	tune_init(&kc->tune, num_pages, now_ns);
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
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&kc->work, &monotonic);
	pthread_condattr_destroy(&monotonic);
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
	pthread_cond_destroy(&kc->work);
	pthread_mutex_destroy(&kc->lock);
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
	pthread_cond_signal(&kc->work);
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
	free_client(kc);
}

void kcopyd_client_cancel(struct kcopyd_client *kc)
{
	struct list_head *pos;

	pthread_mutex_lock(&kc->lock);
	list_for_each (pos, &kc->incoming)
		job_cancel(job_of_node(pos));
	kc->is_cancelling = true;
	pthread_cond_signal(&kc->work);
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
	pthread_cond_signal(&kc->work);
	pthread_mutex_unlock(&kc->lock);
}

int kcopyd_client_set_throttle(struct kcopyd_client *kc, unsigned int percent)
{
	if (percent < 1 || percent > THROTTLE_NONE)
		return -EINVAL;
	pthread_mutex_lock(&kc->lock);
	kc->percent = percent;
	kc->has_new_speed = true;
	pthread_cond_signal(&kc->work);
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
		pthread_cond_signal(&kc->work);
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

/* -- jobs ---------------------------------------------------------------------------------------- */

static int check_region(const struct kcopyd_client *kc, const struct io_region *region, bool may_grow)
{
	const struct block_device *bdev = region->bdev;
	sector_t block, end;

	if (!bdev || !bdev->lane)
		return -EINVAL;
	block = bdev->logical_block / KCOPYD_SECTOR_BYTES;
	if (region->sector % block || region->count % block)
		return -EINVAL;
	if (bdev->logical_block > kc->env.chunk_pages * KCOPYD_PAGE_BYTES)
		return -EINVAL;
	if (__builtin_add_overflow(region->sector, region->count, &end) || end > INT64_MAX / KCOPYD_SECTOR_BYTES)
		return -EINVAL;
	if ((bdev->is_block || !may_grow) && end > kcopyd_device_sectors(bdev))
		return -EINVAL;
	return 0;
}

static int check_dests(const struct kcopyd_client *kc, const struct job_args *args)
{
	for (unsigned int i = 0; i < args->num_dests; i++) {
		const struct io_region *dest = &args->dests[i];
		int ret = check_region(kc, dest, true);

		if (ret)
			return ret;
		if (!dest->bdev->can_write)
			return -EBADF;
		if (dest->count != args->dests[0].count || (args->from && dest->count != args->from->count))
			return -EINVAL;
		if (args->from && kcopyd_regions_overlap(args->from, dest))
			return -EINVAL;
		for (unsigned int j = 0; j < i; j++)
			if (kcopyd_regions_overlap(&args->dests[j], dest))
				return -EINVAL;
	}
	return 0;
}

static int accept_job(struct kcopyd_client *kc, const struct job_args *args)
{
	struct job *job;
	int ret = job_create(&kc->env, args, &job);

	if (ret)
		return ret;
	pthread_mutex_lock(&kc->lock);
	list_add_tail(job_node(job), &kc->incoming);
	kc->num_jobs++;
	pthread_cond_signal(&kc->work);
	pthread_mutex_unlock(&kc->lock);
	return 0;
}

static int check_args(const struct job_args *args)
{
	if (args->num_dests == 0 || args->num_dests > KCOPYD_MAX_DESTS || !args->dests || !args->fn)
		return -EINVAL;
	return args->flags & ~KNOWN_FLAGS ? -EINVAL : 0;
}

/* What its transfers had better begin and end at, in bytes. A multiple of a sector. */
static unsigned int find_unit(const struct block_device *bdev)
{
	return bdev->is_direct && bdev->direct_align > bdev->logical_block ? bdev->direct_align : bdev->logical_block;
}

/*
 * How long its chunks are, and whether it may have to read and write in turns. Asking takes as long as to copy some
 * hundred KiB.
 */
static void ask_queues(const struct kcopyd_client *kc, struct job_args *args)
{
	unsigned int block = find_unit(args->from->bdev);

	args->chunk_pages = kc->env.chunk_pages;
	args->first_sectors = kc->first_sectors;
	args->shares_spindle = kc->is_alternating;
	if (args->from->count < ASK_QUEUES_SECTORS || kc->env.chunk_pages != find_chunk_pages(kc->env.num_pages))
		return;
	queue_ask(args->from->bdev);
	for (unsigned int i = 0; i < args->num_dests; i++) {
		struct block_device *bdev = args->dests[i].bdev;

		queue_ask(bdev);
		args->shares_spindle |= queue_shares_spindle(args->from->bdev, bdev);
		if (find_unit(bdev) > block)
			block = find_unit(bdev);
	}
	args->chunk_pages = queue_chunk_pages(args->dests, args->num_dests, kc->env.num_pages);
	/* Stripes of one, of which a block of another one is no part. */
	if ((uint64_t)args->chunk_pages * KCOPYD_PAGE_BYTES % block)
		args->chunk_pages = kc->env.chunk_pages;
	args->first_sectors = queue_first_sectors(args->dests, args->num_dests, args->chunk_pages, block);
}

/* Zones are written in order or not at all, as dm_kcopyd_copy() has it. */
static unsigned int add_write_seq(const struct job_args *args)
{
	for (unsigned int i = 0; i < args->num_dests; i++)
		if (args->dests[i].bdev->is_zoned)
			return args->flags | KCOPYD_WRITE_SEQ;
	return args->flags;
}

int kcopyd_copy(struct kcopyd_client *kc, struct io_region *from, unsigned int num_dests, struct io_region *dests,
		unsigned int flags, kcopyd_notify_fn fn, void *context)
{
	struct job_args args = { .kind = JOB_COPY,
				 .from = from,
				 .num_dests = num_dests,
				 .dests = dests,
				 .flags = flags,
				 .fn = fn,
				 .context = context };
	int ret = check_args(&args);

	if (ret)
		return ret;
	if (!from)
		return -EINVAL;
	ret = check_region(kc, from, false);
	if (ret)
		return ret;
	if (!from->bdev->can_read)
		return -EBADF;
	ret = check_dests(kc, &args);
	if (ret)
		return ret;
	args.flags = add_write_seq(&args);
	ask_queues(kc, &args);
	return accept_job(kc, &args);
}

int kcopyd_zero(struct kcopyd_client *kc, unsigned int num_dests, struct io_region *dests, unsigned int flags,
		kcopyd_notify_fn fn, void *context)
{
	struct job_args args = {
		.kind = JOB_ZERO, .num_dests = num_dests, .dests = dests, .flags = flags, .fn = fn, .context = context
	};
	int ret = check_args(&args);

	if (ret)
		return ret;
	ret = check_dests(kc, &args);
	if (ret)
		return ret;
	args.flags = add_write_seq(&args);
	return accept_job(kc, &args);
}

int kcopyd_flush(struct kcopyd_client *kc, unsigned int num_dests, struct io_region *dests, kcopyd_notify_fn fn,
		 void *context)
{
	struct job_args args = { .kind = JOB_FLUSH,
				 .num_dests = num_dests,
				 .dests = dests,
				 .flags = KCOPYD_IGNORE_ERROR,
				 .fn = fn,
				 .context = context };
	int ret = check_args(&args);

	if (ret)
		return ret;
	for (unsigned int i = 0; i < num_dests; i++)
		if (!dests[i].bdev || !dests[i].bdev->lane)
			return -EINVAL;
	return accept_job(kc, &args);
}
