/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The public calls that give a client something to do: whether the arguments are valid, and what a copy's devices want.
 */
#include <errno.h>

#include "client_parts.h"
#include "device.h"
#include "queue.h"

/* A job of fewer does not ask what its devices are like. */
#define ASK_QUEUES_SECTORS ((sector_t)8 << 11)
#define KNOWN_FLAGS (KCOPYD_IGNORE_ERROR | KCOPYD_WRITE_SEQ | KCOPYD_DROP_FAILED | KCOPYD_SPARSE)

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
	client_wake(kc);
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
	if (args->from->count < ASK_QUEUES_SECTORS || kc->env.chunk_pages != client_find_chunk_pages(kc->env.num_pages))
		return;
	queue_ask(args->from->bdev);
	for (unsigned int i = 0; i < args->num_dests; i++) {
		struct block_device *bdev = args->dests[i].bdev;

		queue_ask(bdev);
		args->shares_spindle |= queue_shares_spindle(args->from->bdev, bdev);
		if (find_unit(bdev) > block)
			block = find_unit(bdev);
	}
	args->takes_at_once = queue_takes_at_once(args->from, args->dests, args->num_dests);
	args->chunk_pages = queue_chunk_pages(args->dests, args->num_dests, kc->env.num_pages, args->takes_at_once);
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
