/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A client's thread ("kcopyd") and the queue of its jobs. It owns every job; callers and lanes reach it only through two
 * lists, new jobs and completed requests.
 *
 * Who gets pages: the waiting jobs form one queue. Only its head may take pages, so nobody is overtaken while it waits;
 * after each chunk the head goes to the end, so a big job is passed by every small one once per chunk.
 */
#include "client_parts.h"

#include <poll.h>
#include <time.h>
#include <unistd.h>

/* A round's requests are submitted together, but nothing large waits for the rest of the round. */
#define OUTGOING_BYTES ((uint64_t)256 << 10)
#define NS_PER_MS UINT64_C(1000000)
#define NS_PER_S UINT64_C(1000000000)

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
		lane_submit(lane, &same, &kc->collector);
	}
}

/* A job's, see job_env. */
void client_submit(const struct job_env *env, struct lane_request *request, uint64_t bytes)
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

uint64_t client_now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

static uint64_t now_ms(void)
{
	return client_now_ns() / NS_PER_MS;
}

/* A job's, see job_env. */
void client_start_timer(const struct job_env *env, struct job_timer *timer, unsigned int ms)
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

/* Until somebody writes to it, or the time has come. */
static void wait_for_event(int event_fd, uint64_t due_ns)
{
	struct pollfd pollfd = { .fd = event_fd, .events = POLLIN };
	uint64_t events, now = due_ns < UINT64_MAX ? client_now_ns() : 0;

	if (due_ns < UINT64_MAX) {
		uint64_t ns = due_ns > now ? due_ns - now : 0;
		struct timespec time = { .tv_sec = (time_t)(ns / NS_PER_S), .tv_nsec = (long)(ns % NS_PER_S) };

		if (ppoll(&pollfd, 1, &time, NULL) <= 0)
			return;
	}
	(void)!read(event_fd, &events, sizeof(events));
}

/* With the lock held: until something may have come, or the time for something has. */
static void wait_for_work(struct kcopyd_client *kc)
{
	uint64_t due_ns = find_due_ns(kc);

	if (!list_is_empty(&kc->incoming) || !list_is_empty(&kc->completed) || kc->is_cancelling || kc->is_looking ||
	    kc->has_new_speed || is_over(kc))
		return;
	kc->is_waiting = true;
	pthread_mutex_unlock(&kc->lock);
	wait_for_event(kc->collector.event_fd, due_ns);
	pthread_mutex_lock(&kc->lock);
	kc->is_waiting = false;
}

void client_wake(struct kcopyd_client *kc)
{
	uint64_t one = 1;

	if (kc->is_waiting)
		(void)!write(kc->collector.event_fd, &one, sizeof(one));
	kc->is_waiting = false;
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
	while (!list_is_empty(&all)) {
		struct job *job = job_of_node(all.next);

		job_shape_changed(job);
		requeue(kc, job);
	}
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
	if (job_takes_at_once(job))
		tune_may_begin_with_least(&kc->tune);
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
		kc->num_copies += job_is_throttled(job);
		requeue(kc, job);
	}
}

static void call_back(struct kcopyd_client *kc)
{
	while (!list_is_empty(&kc->finished)) {
		struct list_head *node = kc->finished.next;

		list_del(node);
		kc->num_copies -= job_is_throttled(job_of_node(node));
		job_call_back(job_of_node(node));
		pthread_mutex_lock(&kc->lock);
		if (--kc->num_jobs == 0)
			pthread_cond_signal(&kc->idle);
		pthread_mutex_unlock(&kc->lock);
	}
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

/* What is used to begin with, while there is nothing else to do. */
static void prepare_pages(struct kcopyd_client *kc)
{
	bool is_idle = true;

	while (is_idle && pages_prepare(kc->pages, TUNE_FEW_PAGES)) {
		pthread_mutex_lock(&kc->lock);
		is_idle = list_is_empty(&kc->incoming) && !kc->is_closing;
		pthread_mutex_unlock(&kc->lock);
	}
}

void *client_main(void *arg)
{
	struct kcopyd_client *kc = arg;
	struct list_head incoming, completed;
	bool is_cancelling, is_looking, is_left;

	list_init(&incoming);
	list_init(&completed);
	prepare_pages(kc);
	for (;;) {
		pthread_mutex_lock(&kc->lock);
		wait_for_work(kc);
		pthread_mutex_unlock(&kc->lock);
		lane_collect(&kc->collector);
		pthread_mutex_lock(&kc->lock);
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
				client_free(kc);
			return NULL;
		}
		pthread_mutex_unlock(&kc->lock);
		lane_forget(&kc->collector);

		/* Before the new ones are taken over: those accepted after the cancel are not meant. */
		if (is_cancelling)
			cancel_jobs(kc);
		take_over(kc, &incoming);
		process_completed(kc, &completed);
		/* After those that came back in time. */
		if (is_looking) {
			look_in_jobs(kc);
			/* It is nobody's any more what was abandoned in between. */
			lane_forget(&kc->collector);
		}
		process_timers(kc);
		start_chunks(kc);
		send_outgoing(kc);
		call_back(kc);
	}
}

/* Any thread: records and queues. The requests may be several clients'. */
void client_requests_complete(struct list_head *requests)
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
		client_wake(kc);
		pthread_mutex_unlock(&kc->lock);
	}
}
