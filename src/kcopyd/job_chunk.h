/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Inside a job: its chunks and their requests, for job.c and its parts, job_read.c, job_write.c and job_narrow.c,
 * alone. All on the client's thread. An operand is an index into the destinations, or num_dests: the source.
 */
#ifndef KCOPYD_JOB_CHUNK_H
#define KCOPYD_JOB_CHUNK_H

#include <stdbool.h>
#include <stdint.h>

#include "device.h"
#include "job.h"
#include "lane.h"
#include "narrow.h"

/*
 * A chunk's transfer by one operand, one lane request at a time.
 *
 * An orphan: its device was abandoned while it had the request. The job goes on as if it had failed; the request and a
 * hold on the chunk's pages are left to the device until it gives them back, if it ever does, after the job's end,
 * too. Nothing more is asked of that operand, so nobody else wants the request meanwhile.
 */
struct chunk_request {
	struct lane_request lane;
	struct chunk *chunk;
	unsigned int operand;
	bool is_outstanding;		    /* with the lane, and waited for */
	bool is_orphan;			    /* with the lane, and not waited for */
	unsigned int first_page, num_pages; /* an orphan's hold; 0 pages: none */
	int error;			    /* once it is not waited for any more: 0 or -errno */
	uint64_t done;			    /* bytes known good when it failed */
	/* A destination's: */
	uint32_t reached;  /* bytes of the chunk that are through, piece by piece */
	uint32_t piece;	   /* bytes of the one that is under way */
	uint64_t zero_end; /* byte of the destination: what is to be zeroed and ends before it needs no request */
};

enum chunk_state { CHUNK_FREE, CHUNK_ASKING, CHUNK_READING, CHUNK_NARROWING, CHUNK_WRITING };

/*
 * Destinations that get the source at one pace: what is read for them is read for nobody else. A job begins with one
 * stream, for all of them; whoever is split off has another one for itself.
 */
struct stream {
	uint32_t dests; /* also those that were left behind */
	sector_t next;	/* chunks were started up to here */
	sector_t end;	/* what begins behind it is not written: the count, or the first unreadable sector */
	/* What the source has from next on, if that is before data_end; else it is to be asked. */
	sector_t hole_end; /* a hole up to here */
	sector_t data_end; /* then data */
	bool is_asking;
};

struct chunk {
	struct list_head node; /* its job's free list, or in_flight in ascending order */
	struct job *job;
	struct stream *stream; /* that it was started for */
	uint32_t dests;	       /* who is to have it: of its stream's then, those that were not split off since */
	enum chunk_state state;
	sector_t offset; /* from the regions' starts */
	sector_t count;
	unsigned int first_page, num_pages;
	char *buffer;	      /* of those pages, or zeros; NULL: it has none, and is to be zeroed */
	bool has_zeros;	      /* zero_pages is valid, and has a bit set */
	uint64_t *zero_pages; /* of the buffer: a bit for each that holds zeros only */
	unsigned int pending; /* transfers that are not settled, and one for whoever hands them out */
	uint32_t unwritten;   /* destinations that its write was not handed out to yet */
	uint32_t writing;     /* destinations that it was handed out to and that have not settled it */
	uint32_t written;     /* destinations that hold all of it */
	uint64_t failed;      /* operands whose transfer of it failed and is not settled: narrowed down, or to be */
	struct chunk_request *requests; /* num_dests writes, then the read */
};

/*
 * What becomes of an operand's failed transfers. One chunk at a time is narrowed down: the first that the operand has
 * not settled, so that the first bad block is found before any other.
 */
struct narrowing {
	struct job *job;
	unsigned int operand;
	unsigned int num_failed; /* chunks with this operand's failed bit */
	struct chunk *chunk;	 /* the one that is narrowed down; NULL: none is */
	struct narrow narrow;
	struct job_timer timer;
	uint32_t start, bytes; /* of the chunk: what was tried last */
	int error;	       /* that this ended with, or the last that failed */
	uint32_t told;	       /* bytes: up to here destinations' good areas were told, and bad areas noted */
	uint32_t end;	       /* nothing is known from here on */
	bool has_bad;
	uint32_t bad_start, bad_bytes; /* the bad area that it is in, not told yet; bytes 0: none */
	int bad_error;
};

/* Has a device had little to do lately? In nanoseconds of the monotonic clock. */
struct idle {
	bool is_wanted;
	bool was_idle; /* for more than half of the time before this one */
	uint64_t since;
	unsigned int under_way;
	uint64_t busy_since;
	uint64_t busy; /* of the time since, but for what is under way */
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
	unsigned int chunk_pages; /* a chunk's, at most */
	sector_t first;		  /* length of the first chunk; later ones begin whole chunks behind its end */
	bool shares_spindle;
	bool takes_at_once;
	unsigned int num_reading; /* chunks */

	sector_t count;
	struct stream *streams; /* room for num_dests */
	unsigned int num_streams;
	struct stream *stream_of[KCOPYD_MAX_DESTS];
	unsigned int lag;			    /* chunks: who is further behind is split off; 0: nobody is */
	unsigned int num_writing[KCOPYD_MAX_DESTS]; /* chunks that each destination has to write */
	struct job_timer watch;			    /* looks again, when it is known whether that is idle: */
	struct idle *idles;			    /* by operand, if they decide whether somebody is split off */

	bool is_ended; /* by an error: nothing new is started, read or written */
	bool is_cancelled;
	bool is_short; /* because it was cancelled, a chunk was given up */
	int read_err;
	bool has_told_bad; /* without IGNORE_ERROR: several streams may find ... */
	sector_t told_bad; /* ... the same unreadable sector, of the source */
	uint32_t write_err;
	uint32_t dead;			  /* destinations left behind */
	sector_t limit[KCOPYD_MAX_DESTS]; /* the first sector of each that failed or was left out */
	unsigned int num_failed;	  /* of all its narrowings */
	unsigned int num_orphans;
	bool is_called_back;	      /* it is here for its orphans only */
	struct narrowing *narrowings; /* num_dests + 1 */

	struct list_head free;	    /* chunks */
	struct list_head in_flight; /* chunks, ascending */
	unsigned int num_chunks;
	struct chunk chunks[]; /* followed by their requests, the narrowings, the streams and the zero_pages */
};

static inline uint32_t job_dest_mask(const struct job *job)
{
	return (uint32_t)(((uint64_t)1 << job->num_dests) - 1);
}

static inline uint32_t chunk_bytes(const struct chunk *chunk)
{
	return (uint32_t)(chunk->count * KCOPYD_SECTOR_BYTES);
}

/* The first chunk in flight that @dest is to have and has not settled: not written as far as it can be. NULL: none. */
struct chunk *job_first_unsettled(const struct job *job, unsigned int dest);

/* The first chunk in flight that could not be read, if all that those who are to have it get before was read. */
struct chunk *job_first_unreadable(const struct job *job);

static inline const struct io_region *job_region(const struct job *job, unsigned int operand)
{
	return operand == job->num_dests ? &job->from : &job->dests[operand];
}

/* Was its device abandoned? */
static inline bool job_has_abandoned(const struct job *job, unsigned int operand)
{
	return lane_is_abandoned(job_region(job, operand)->bdev->lane);
}

/* Behind this nothing more is written to the destination; if the job's flags, or no other one, want that it ends. */
void job_drop_dest(struct job *job, unsigned int dest);

/* Puts @bytes from byte @start of the chunk on its operand's lane. */
void chunk_submit(struct chunk *chunk, struct chunk_request *request, uint32_t start, uint64_t bytes);

/*
 * Does it read and write in turns? Then nothing is read while a chunk is to be written, and nothing written while one is
 * read. Not with several streams, which read at different places anyhow.
 */
bool job_alternates(const struct job *job);

/* Starts to be under way, at its place among the others: several streams read at different ones. */
void job_put_in_flight(struct job *job, struct chunk *chunk);

/* Drops what @pending counts; the last one gives the pages back and frees the chunk, once no destination waits for it
 * any more. */
void chunk_put(struct chunk *chunk);

/* Something was settled that others may have waited for. */
void job_go_on(struct job *job);

/* Is the job's first read error the end of what is copied? Then everybody is written to in the order of the source. */
static inline bool job_ends_at_read_errors(const struct job *job)
{
	return job->kind == JOB_COPY && !(job->flags & KCOPYD_IGNORE_ERROR);
}

/* -- job_stream.c -------------------------------------------------------------------------------- */

/* With the arguments set: one stream, at @streams. */
void job_init_streams(struct job *job, struct stream *streams);

/* Has it more to read, for anybody? */
bool stream_has_more(const struct job *job, const struct stream *stream);

/* The one whose chunk is to be started next. NULL: none may have one now. */
struct stream *job_next_stream(const struct job *job);

/* The source ends where this chunk does: for its stream, and for those that have not got so far. */
void chunk_end_source(const struct chunk *chunk);

/* Destinations that are not to be given one more chunk, beside those that they have to write. */
uint32_t job_full_dests(const struct job *job);

/* Something was written: is there who is too far behind the others of its stream? It goes on alone. */
void job_split_streams(struct job *job);

/* A read was submitted; or came back. */
void idle_begin(struct idle *idle);
void idle_end(struct idle *idle);

/* -- job_read.c ---------------------------------------------------------------------------------- */

/* Reads @bytes from byte @start of the chunk into its buffer. */
void chunk_read_range(struct chunk *chunk, uint32_t start, uint32_t bytes);

void chunk_read_done(struct chunk *chunk, const struct chunk_request *request);

/* Its device was abandoned before it could be read. */
void chunk_read_lost(struct chunk *chunk);

/* Narrowing down: these bytes cannot be read. False: nobody wants to know of more. */
bool chunk_read_bad(struct chunk *chunk, uint32_t start, uint32_t bytes);

/* Narrowing down is over; from byte @end on nothing is known. */
void chunk_read_settled(struct chunk *chunk, uint32_t end);

/* -- job_write.c --------------------------------------------------------------------------------- */

/* The buffer holds what the destinations are to have (or none is needed): hands the chunk to them. */
void chunk_start_writing(struct chunk *chunk);

/* Writes (or zeroes) @bytes from byte @start of the chunk to destination @dest. */
void chunk_write_range(struct chunk *chunk, unsigned int dest, uint32_t start, uint32_t bytes);

void chunk_write_done(struct chunk *chunk, struct chunk_request *request);

/* Narrowing down: what begins at byte @start cannot be written. False: the destination was dropped. */
bool chunk_write_bad(struct chunk *chunk, unsigned int dest, uint32_t start, bool is_gone);

/* Narrowing down: these bytes were written. */
void chunk_write_good(struct chunk *chunk, unsigned int dest, uint32_t start, uint32_t bytes);

/* Narrowing down: what begins at byte @start is not tried any more. */
void chunk_write_given_up(struct chunk *chunk, unsigned int dest, uint32_t start);

/* Narrowing down is over. */
void chunk_write_settled(struct chunk *chunk, unsigned int dest);

/* Hands out what waits for a destination and need not wait any longer. */
void job_hand_out_waiting(struct job *job);

void job_tell_error(const struct job *job, enum kcopyd_op op, unsigned int dest, const struct io_region *region,
		    int error);

/* -- job_sparse.c -------------------------------------------------------------------------------- */

/* Before the first chunk: is the source to be asked for its holes? */
bool job_has_extents(const struct job *job);

/* Asks what the source has from where the stream is; the chunk is in flight for it, with no sectors, until that is told. */
void job_ask_extent(struct job *job, struct stream *stream, struct chunk *chunk);
void chunk_extent_told(struct chunk *chunk, struct chunk_request *request);

/* Looks for zeros in the chunk's buffer, before it is handed to the destinations. */
void chunk_find_zeros(struct chunk *chunk);

/* Starts the chunk's transfer to destination @dest with the first of its pieces; of those, there is one at least. */
void chunk_start_pieces(struct chunk *chunk, unsigned int dest);

/* A piece completed; if it failed, the request tells now what of the chunk is known good. */
void chunk_piece_done(struct chunk *chunk, struct chunk_request *request);

/* Starts the next piece. False: that was the last. */
bool chunk_write_next(struct chunk *chunk, unsigned int dest);

/* -- job_narrow.c -------------------------------------------------------------------------------- */

void narrowing_init(struct narrowing *narrowing, struct job *job, unsigned int operand);

/* The transfer of the chunk by @operand failed, as its request says; it stays unsettled until it is narrowed down. */
void chunk_failed(struct chunk *chunk, unsigned int operand);

/* Is @operand narrowing the chunk down? */
bool chunk_is_narrowed(const struct chunk *chunk, unsigned int operand);

/* What was tried in narrowing it down completed. */
void chunk_narrow_done(struct chunk *chunk, const struct chunk_request *request);

/* Begins with the operand's next chunk, if its turn has come. True: and that is settled already. */
bool narrowing_start_next(struct narrowing *narrowing);

/* The wait for a retry is over, or to be: nobody wants it any more. */
void narrowing_end_wait(struct narrowing *narrowing);

#endif
