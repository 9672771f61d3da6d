/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * libkcopyd: the kernel's copy daemon, in userspace. Copies a range of sectors from one block device or
 * file to one or more others, asynchronously, and answers with a read error and a bitmask of write errors.
 *
 * The core (io_region, kcopyd_client_create/destroy, kcopyd_copy, kcopyd_notify_fn) is the interface of
 * drivers/md/dm-kcopyd.c, name for name. The library prints nothing and never exits; it starts threads
 * (one per client, one per open device) with all signals blocked.
 *
 * Every call returns 0 or -errno unless it says otherwise.
 */
#ifndef KCOPYD_H
#define KCOPYD_H

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef uint64_t sector_t; /* 512-byte sectors, whatever the device's logical block */

#define KCOPYD_SECTOR_BYTES 512u
#define KCOPYD_PAGE_BYTES 4096u
#define KCOPYD_MAX_DESTS 32u

/* -- devices ------------------------------------------------------------------------------------- */

struct block_device; /* an open block device or regular file, with a thread of its own */

enum kcopyd_op { KCOPYD_OP_READ, KCOPYD_OP_WRITE, KCOPYD_OP_ZERO, KCOPYD_OP_FLUSH };

/*
 * Opens @path with the open(2) flags @open_flags (an access mode, O_EXCL, O_CREAT with mode 0666 and so
 * on; O_CLOEXEC and direct I/O are added here). -ENOTBLK: neither a block device nor a regular file.
 */
int kcopyd_device_open(const char *path, int open_flags, struct block_device **result);

/*
 * The same for a descriptor that is open already; on success the device owns @fd and its O_DIRECT flag.
 * Direct I/O is used wherever the descriptor can have it, page-cached blocking I/O otherwise.
 * -ENOENT: sysfs does not know the device, so that overlaps could not be seen.
 */
int kcopyd_device_open_fd(int fd, struct block_device **result);

/* Waits for requests still under way on it, unless it was abandoned; no job may be using it. NULL is allowed. */
void kcopyd_device_close(struct block_device *bdev);

/* The size when it was opened. Bytes: exact. Sectors: rounded up; the rest of a file's last one reads as zeros. */
uint64_t kcopyd_device_bytes(const struct block_device *bdev);
sector_t kcopyd_device_sectors(const struct block_device *bdev);

/* In bytes; 512 for a regular file. */
unsigned int kcopyd_device_logical_block(const struct block_device *bdev);

bool kcopyd_device_is_block(const struct block_device *bdev);  /* false: a regular file, which may grow */
bool kcopyd_device_is_direct(const struct block_device *bdev); /* false: every transfer is page-cached */
bool kcopyd_device_is_zoned(const struct block_device *bdev);

/* The zone of a zoned device that a sector is in. */
struct kcopyd_zone {
	sector_t sector, count; /* of the device */
	sector_t capacity;	/* so many of these can be written */
	bool is_sequential;	/* at its write pointer only; else anywhere */
	sector_t written;	/* in a sequential one: the write pointer, from its start */
};

/*
 * What the device says of it now, which may take a while (BLKREPORTZONE). -ENOTTY: it is not zoned. -EROFS: nothing can be
 * written there any more, and how far it was is not known.
 */
int kcopyd_device_zone(const struct block_device *bdev, sector_t sector, struct kcopyd_zone *zone);

/*
 * Is descriptor @fd open on the same file or disk, by whatever name (a partition; a loop, device-mapper or md device
 * over it)? True also if that cannot be found out.
 */
bool kcopyd_device_is_behind(const struct block_device *bdev, int fd);

/*
 * Is a sector of the device one of that file (as stat(2) has its numbers), or is it that file? If not, nothing else that
 * stands on that file alone has a sector in common with it.
 */
bool kcopyd_device_is_on_file(const struct block_device *bdev, uint64_t device, uint64_t inode);

/* Borrowed: valid until the device is closed. */
int kcopyd_device_fd(const struct block_device *bdev);

/*
 * For how many milliseconds the device has had requests, of whatever client, and has completed nothing: it does not
 * answer, or has a long flush to do. 0: it has none, or goes on. @op, or NULL: what it is waited for, if that is not 0; a
 * flush first. A client's thread that is held up in a callback may look like that. From any thread.
 */
unsigned int kcopyd_device_stalled_ms(const struct block_device *bdev, enum kcopyd_op *op);

/*
 * Gives up on a device that does not answer. Whatever is under way on it, and everything asked of it later, fails with
 * ETIMEDOUT at once, in the jobs of all clients: a destination is dropped, with IGNORE_ERROR, too; without a source a job
 * ends, with IGNORE_ERROR, too. Returns at once; from any thread. There is no way back but to open it again.
 *
 * The memory of a request that the kernel has got is left alone until the kernel gives it back: its pages stay out of
 * their client's reserve, and its client, if that is destroyed, and the device, if that is closed, are freed then, by
 * their own threads. If it never happens they are deliberately leaked. (Linux lets no process end that has such a
 * request: it stays, as a zombie or in state D, until the device answers.)
 *
 * If abandoned devices have so many pages that a job can get none, its destinations fail with ENOBUFS, and it ends. See
 * kcopyd_device_limit().
 */
void kcopyd_device_abandon(struct block_device *bdev);

/*
 * Nothing more is to be written to the device: for who learns elsewhere that it has lost data, from a flush that
 * failed. In the jobs of all clients, those to come, too, its destinations are dropped (their bits are set), with
 * IGNORE_ERROR, too; the observer is told nothing. What is under way is finished, and it can still be read and flushed.
 * Returns at once; from any thread. There is no way back but to open it again.
 */
void kcopyd_device_fail(struct block_device *bdev);

/*
 * The kernel gets requests of so many bytes for the device at a time at the most, or one request: no more of a reserve
 * than that can be lost if the device is abandoned. Flushes and zeroing do not count. And it gets them from the device's own
 * thread only: without a limit, a client's thread gives them to some devices itself, whose drivers never wait with that; if
 * one did, that client would do nothing else meanwhile. From any thread, at best before the first job.
 */
void kcopyd_device_limit(struct block_device *bdev, uint64_t bytes);

/* -- regions ------------------------------------------------------------------------------------- */

struct io_region {
	struct block_device *bdev; /* borrowed until the job's callback */
	sector_t sector;
	sector_t count; /* 0: empty */
};

/*
 * True if both have a sector in common, by whatever names: partitions, loop, device-mapper and md devices are followed
 * down to the disks and files that they stood on when they were opened. Also true where that cannot be told: anything
 * on an array, a pool or a snapshot may be anywhere in what it stands on. Volumes side by side in one pool do not
 * overlap, unless a device-mapper table could not be read (that needs CAP_SYS_ADMIN). What file system a file lies on
 * is not looked at.
 */
bool kcopyd_regions_overlap(const struct io_region *a, const struct io_region *b);

/*
 * Has what descriptor @fd is open on, as a whole, a sector in common with the region, by whatever name? 1 or 0; -errno:
 * it cannot be told. Cheaper than opening a block_device for the question.
 */
int kcopyd_region_is_behind(const struct io_region *region, int fd);

/* The same for @num regions, 64 at the most, at the cost of one; a bdev of NULL: none. Bit i: region i. 0 or -errno. */
int kcopyd_regions_are_behind(const struct io_region *regions, unsigned int num, int fd, uint64_t *behind);

/* -- clients ------------------------------------------------------------------------------------- */

struct kcopyd_client;

/*
 * Sets @num_pages pages of 4 KiB aside: all the data memory this client ever uses. How much of it is in use at a time,
 * 6 or 8 MiB to begin with, the client finds out while it copies. More than 16 MiB are populated here, of less 2 to 4 MiB, and the rest
 * before it is used; what the machine cannot give then the client goes on without. Fails here or never: -EINVAL for 0 pages,
 * -ENOMEM if they cannot be had, -EAGAIN if no thread can, -EMFILE or -ENFILE if no descriptor can.
 */
int kcopyd_client_create(unsigned int num_pages, struct kcopyd_client **result);

/*
 * Waits until every job of the client was called back, then frees everything; what abandoned devices still have, later.
 * Never from a callback. NULL is allowed.
 */
void kcopyd_client_destroy(struct kcopyd_client *kc);

/*
 * Every accepted job stops starting new chunks; what is in flight is finished. Jobs that had not got
 * through by then are called back with read_err -ECANCELED. Jobs accepted later are not affected. From
 * any thread.
 */
void kcopyd_client_cancel(struct kcopyd_client *kc);

/*
 * How often a place that failed is tried again, a little later each time (0.1 s, 0.2 s ... 5 s), before it is called
 * bad: 2 times unless this is called, before the client's first job. Neither the client's thread nor another device
 * waits meanwhile; but the chunk keeps its pages, so that others may come to wait for those.
 */
void kcopyd_client_set_retries(struct kcopyd_client *kc, unsigned int retries);

/*
 * A destination that has fallen so many bytes behind another one of its job (2 MiB at the least, half of the reserve at
 * the most) is split off: from there on the source is read for it apart, at its own pace, and the others go on at
 * theirs. KCOPYD_LAG_AUTO: half of what is in use, and only if the source and another destination had nothing to do for more than half
 * of the time lately, and there is neither a limit nor a throttle. 0, as long as this was not called: never, so that all go at the pace of
 * the slowest. Before the client's first job.
 *
 * Never with IGNORE_ERROR, nor with a reserve of less than 8 MiB.
 */
#define KCOPYD_LAG_AUTO UINT64_MAX
void kcopyd_client_set_max_lag(struct kcopyd_client *kc, uint64_t bytes);

/*
 * How many bytes a second are read from the sources of all the client's jobs together, at the most; 0: any number, as
 * without this call. What is read again because it could not be read counts as well, though that is not waited for; what
 * is only zeroed does not count. Exact over seconds: what was not used is made up for later only if it is less than a
 * fifth of a second's. The smaller the limit, the smaller the chunks: what is read in 1/20 s, but a page or logical block at
 * least. From any thread, also while jobs run.
 */
void kcopyd_client_set_limit(struct kcopyd_client *kc, uint64_t bytes_per_second);

/*
 * kcopyd's throttle (struct dm_kcopyd_throttle of linux/dm-kcopyd.h, raid1_resync_throttle of dm-mirror,
 * snapshot_copy_throttle of dm-snapshot): in what share of the time a request of the client may be in flight, on whatever
 * device. 100: always, as without this call. What is to be copied or zeroed is started in bursts of @percent of 0.2 s, as
 * far as the devices allow that. Flushes and retries wait for nothing, but count. -EINVAL: not 1 to 100. From any thread,
 * also while jobs run.
 */
int kcopyd_client_set_throttle(struct kcopyd_client *kc, unsigned int percent);

/* -- jobs ---------------------------------------------------------------------------------------- */

/* kcopyd's flags are given as 1 << bit (DM_KCOPYD_IGNORE_ERROR 1, WRITE_SEQ 2); ours start at bit 16. */
#define KCOPYD_IGNORE_ERROR (1u << 1) /* go on past every bad place; what cannot be read is written as zeros */
#define KCOPYD_WRITE_SEQ (1u << 2)    /* write each destination in order, one write in flight */
#define KCOPYD_DROP_FAILED (1u << 16) /* a destination that fails is left behind, the others go on */
#define KCOPYD_SPARSE (1u << 17)      /* what holds zeros only need not be read, nor written */
/* With neither IGNORE_ERROR nor DROP_FAILED the first error ends the job. */

/*
 * Runs once per accepted job, on the client's own thread; callbacks of one client never overlap. May start
 * jobs, must not destroy the client.
 *
 * @read_err: 0; 1 if the source had a read error; -ECANCELED if the job was cancelled before it was through.
 * @write_err: bit i is set if dests[i] failed. A bit is set for an error of that very destination only: with
 *   a read error, or a job that the first error ended, healthy destinations are short and their bits clear.
 */
typedef void (*kcopyd_notify_fn)(int read_err, unsigned int write_err, void *context);

/*
 * Copies @from to each of @dests (1 to 32, all of the source's count). Returns at once; @from and @dests are
 * copied. -EINVAL, and then @fn is never called: no or too many destinations, unknown flags, counts that
 * differ, a region that leaves its block device or the source file (a destination file grows) or is not aligned
 * to the logical block, overlap, a logical block larger than a chunk of the reserve. -EBADF: not open for reading
 * (writing). -ENOMEM. A count of 0 succeeds, asynchronously. From any thread, callbacks too.
 *
 * A read error is narrowed down to logical blocks, the first one first. Without IGNORE_ERROR everything before it
 * is written, nothing behind it, and the job ends; with it, the bad ones are written as zeros. A write error is
 * narrowed down likewise (in a file to what direct I/O needs): everything before the first bad block is written, then
 * the destination is dropped or the job ends; with IGNORE_ERROR exactly the bad ones are left out. Meanwhile nothing
 * behind the error is written to that destination. One that has vanished (ENXIO, ENODEV, ENOMEDIUM; or the kernel has
 * removed it, which is told as ENODEV) is dropped at once, with IGNORE_ERROR, too, and so is a zoned one at its first
 * bad block. What a sequential zone holds already, before its write pointer and equal to what was to be written, is no
 * error.
 *
 * Where nothing succeeds any more less is tried: after 16 bad blocks in a row there are no retries, and after 256 a
 * range that fails as a whole is called bad as a whole if its last, its first and its middle block fail, too.
 *
 * Success says that every write completed in full; only kcopyd_flush() says that it is on stable storage.
 */
int kcopyd_copy(struct kcopyd_client *kc, struct io_region *from, unsigned int num_dests, struct io_region *dests,
		unsigned int flags, kcopyd_notify_fn fn, void *context);

/*
 * Zeros, with KCOPYD_SPARSE: holes of a source file are not read (SEEK_DATA, SEEK_HOLE; they are what the file system says
 * when it comes to them), and what was read is looked at. On each destination they are zeroed by calls that guarantee that
 * zeros are read back: on a block device the write-zeroes command, which may unmap and never discards; in a file a hole is
 * made, or left as it is. Runs that are too short for it, and what a device or file system cannot zero, are written, and so
 * are all zeros for a zoned device. In a copy, what fails is told as a write, whichever way it was tried. Without the
 * flag everything is read and written.
 */

/* Zeroes each of @dests: as kcopyd_copy(), without a source. Takes no pages. Without KCOPYD_SPARSE zeros are written. */
int kcopyd_zero(struct kcopyd_client *kc, unsigned int num_dests, struct io_region *dests, unsigned int flags,
		kcopyd_notify_fn fn, void *context);

/*
 * Brings everything that completed on the devices of @dests (their ranges are ignored) to stable storage, all
 * of them in parallel. A flush that fails is a write error.
 */
int kcopyd_flush(struct kcopyd_client *kc, unsigned int num_dests, struct io_region *dests, kcopyd_notify_fn fn,
		 void *context);

/* -- observer ------------------------------------------------------------------------------------ */

struct kcopyd_error {
	enum kcopyd_op op;
	unsigned int dest;	 /* index into dests; meaningless for a read */
	struct io_region region; /* what failed, in sectors of its device; count 0 for a flush */
	int error;		 /* a positive errno */
	sector_t contiguous;	 /* not for a read: what dests[dest] holds without a gap, as in chunk_written */
	bool is_dropped;	 /* not for a read: nothing more is written to dests[dest] */
};

/*
 * Learns what happened, on the client's thread, before the job's callback; @context is the job's. Any member
 * may be NULL. An error is told once per bad area of a chunk, when it is final; one that went away never.
 */
struct kcopyd_observer {
	/*
	 * More than once for the same sectors, if a destination was split off; see kcopyd_client_set_max_lag(). Not for a
	 * hole that was not read.
	 */
	void (*chunk_read)(void *observer, void *context, const struct io_region *from);
	/*
	 * A chunk, or what is good of one between its bad areas. @contiguous: sectors that are written without a gap or
	 * error, counted from the start of dests[dest].
	 */
	void (*chunk_written)(void *observer, void *context, unsigned int dest, const struct io_region *to,
			      sector_t contiguous);
	/* Not with narrowed-down errors: of what chunk_written tells later, these sectors were zeroed without sending any. */
	void (*zeroed)(void *observer, void *context, unsigned int dest, const struct io_region *to);
	void (*error)(void *observer, void *context, const struct kcopyd_error *error);
	/* A destination was too far behind the others: it goes on alone, see kcopyd_client_set_max_lag(). */
	void (*split_off)(void *observer, void *context, unsigned int dest);
};

/* Before the client's first job. @ops is borrowed until the client is destroyed. */
void kcopyd_client_set_observer(struct kcopyd_client *kc, const struct kcopyd_observer *ops, void *observer);

#ifdef __cplusplus
}
#endif
#endif
