/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Inside a job: its chunks and their requests, for job.c and its two halves, job_read.c and job_write.c, alone. All on
 * the client's thread.
 */
#ifndef KCOPYD_JOB_CHUNK_H
#define KCOPYD_JOB_CHUNK_H

#include <stdbool.h>
#include <stdint.h>

#include "job.h"
#include "lane.h"
#include "narrow.h"

struct chunk_request {
	struct lane_request lane;
	struct chunk *chunk;
	unsigned int dest; /* meaningless for the read */
};

enum chunk_state { CHUNK_FREE, CHUNK_READING, CHUNK_NARROWING, CHUNK_WRITING };

struct chunk {
	struct list_head node; /* its job's free list, or in_flight in ascending order */
	struct job *job;
	enum chunk_state state;
	sector_t offset; /* from the regions' starts */
	sector_t count;
	unsigned int first_page, num_pages;
	char *buffer;		  /* of those pages */
	unsigned int outstanding; /* requests on lanes, and one for whoever hands them out */
	uint32_t unwritten;	  /* destinations that its write was not handed out to yet */
	uint32_t written;	  /* destinations that hold it */
	struct narrow narrow;
	uint32_t bad_start, bad_bytes; /* the bad area that narrowing is in, not told yet; bytes 0: none */
	int bad_error;
	bool has_bad;			/* something of it could not be read */
	int last_error;			/* of a read */
	struct chunk_request *requests; /* num_dests writes, then the read */
};

struct job {
	struct list_head node; /* one of the client's lists */
	const struct job_env *env;
	enum job_kind kind;
	unsigned int flags;
	unsigned int num_dests;
	kcopyd_notify_fn fn;
	void *context;
	struct io_region from;
	struct io_region dests[KCOPYD_MAX_DESTS];
	unsigned int block;	  /* bytes: the largest logical block of all */
	unsigned int align_pages; /* the same: a chunk is a multiple of it */

	sector_t next; /* chunks were started up to here */
	sector_t end;  /* what begins behind it is not written: the count, or the first unreadable sector */
	bool is_ended; /* by an error: nothing new is started, read or written */
	bool is_cancelled;
	bool is_short; /* because it was cancelled, a chunk was given up */
	int read_err;
	uint32_t write_err;
	uint32_t dead;			  /* destinations left behind */
	sector_t limit[KCOPYD_MAX_DESTS]; /* the first sector of each that failed or was left out */

	struct list_head free;	    /* chunks */
	struct list_head in_flight; /* chunks, ascending */
	unsigned int num_chunks;
	struct chunk chunks[]; /* followed by their requests */
};

static inline uint32_t job_dest_mask(const struct job *job)
{
	return (uint32_t)(((uint64_t)1 << job->num_dests) - 1);
}

/* Puts the request on @bdev's lane; the chunk has one more outstanding. */
void chunk_submit(struct chunk *chunk, struct chunk_request *request, struct block_device *bdev);

/* Drops a reference; the last one gives the pages back and frees the chunk, once no destination waits for it any more.
 */
void chunk_put(struct chunk *chunk);

/* -- job_read.c ---------------------------------------------------------------------------------- */

/* Reads @bytes from byte @start of the chunk into its buffer. */
void chunk_read_range(struct chunk *chunk, uint32_t start, uint32_t bytes);

/* The read completed or failed: narrows down, or goes on to write. */
void chunk_read_done(struct chunk *chunk, const struct lane_request *request);

/* -- job_write.c --------------------------------------------------------------------------------- */

/* The buffer holds what the destinations are to have (or none is needed): hands the chunk to them. */
void chunk_start_writing(struct chunk *chunk);
void chunk_write_done(struct chunk *chunk, struct chunk_request *request);

/* With WRITE_SEQ, something that others waited for has settled. */
void job_hand_out_waiting(struct job *job);

void job_tell_error(const struct job *job, enum kcopyd_op op, unsigned int dest, const struct io_region *region,
		    int error);

#endif
