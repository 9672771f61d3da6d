/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Inside a client, for client.c and its parts, client_thread.c and client_jobs.c, alone.
 */
#ifndef KCOPYD_CLIENT_PARTS_H
#define KCOPYD_CLIENT_PARTS_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "client.h"
#include "job.h"
#include "kcopyd.h"
#include "lane.h"
#include "list.h"
#include "pages.h"
#include "throttle.h"
#include "tune.h"

struct kcopyd_client {
	struct list_head node; /* clients; guarded by clients_lock */
	struct job_env env;
	struct pages *pages; /* owned; the thread's alone */
	struct kcopyd_observer observer;
	pthread_t thread;
	sector_t first_sectors; /* for tests, as is_alternating */
	bool is_alternating;

	pthread_mutex_t lock;	    /* guards the rest of this block */
	pthread_cond_t idle;	    /* for destroy: num_jobs became 0, or has_ended or is_lingering was set */
	struct list_head incoming;  /* jobs not yet seen by the thread */
	struct list_head completed; /* requests */
	unsigned long num_jobs;	    /* accepted, not called back */
	bool is_waiting; /* the thread may sleep: whoever changes something of the below calls client_wake() */
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
	unsigned long num_copies;  /* jobs that it has and that are no flushes */
	unsigned long num_orphans; /* requests that abandoned devices have */
	/* A job is on one of these. */
	struct list_head waiting;  /* could start a chunk if they had pages, in the order in which they may */
	struct list_head unpaged;  /* can start a chunk, and need no pages for it */
	struct list_head running;  /* only chunks in flight to wait for */
	struct list_head finished; /* to be called back */
	struct list_head timers;   /* waits of jobs, the first to end first */
	struct list_head outgoing; /* requests for lanes */
	uint64_t outgoing_bytes;
	struct lane_collector collector; /* its event_fd: owned, what the thread sleeps on */
	struct throttle throttle;
	struct tune tune;
	uint64_t throttled_ns; /* when it is to be asked again; UINT64_MAX: at any time, or nobody waits for it */
};

/* -- client.c ------------------------------------------------------------------------------------ */

/* In pages, for a reserve of @num_pages: a chunk, unless a job's devices want another length. */
unsigned int client_find_chunk_pages(unsigned int num_pages);

/* Its thread has ended, or is about to. */
void client_free(struct kcopyd_client *kc);

/* -- client_thread.c ----------------------------------------------------------------------------- */

/* The thread; @arg is its client. */
void *client_main(void *arg);

/* With the lock held, or the client may be gone: there is something for the thread. */
void client_wake(struct kcopyd_client *kc);

/* CLOCK_MONOTONIC. */
uint64_t client_now_ns(void);

/* For struct job_env: complete, submit, wait. */
void client_requests_complete(struct list_head *requests);
void client_submit(const struct job_env *env, struct lane_request *request, uint64_t bytes);
void client_start_timer(const struct job_env *env, struct job_timer *timer, unsigned int ms);

#endif
