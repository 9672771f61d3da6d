/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "pool.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "guard_use.h"
#include "log.h"
#include "names.h"
#include "refresh.h"
#include "signals.h"
#include "text.h"

/* More sectors than any file can have. */
#define ALL_SECTORS ((sector_t)1 << 54)

/* Smaller regions are not searched for what begins in them: asking would take longer than copying. */
#define SEARCHED_SECTORS ((sector_t)2048)

#define MAX_FORBIDDEN 2u
#define BUCKETS 256u

/* A device that has requests and has completed none for so long is not asked to read, where somebody sees to it. */
#define BUSY_MS 1000u

/* No number of so few digits is beyond what a range may be. */
#define QUICK_DIGITS 15

/* So many destinations that were written and closed are known again. */
#define MAX_WRITTEN 1024u

struct written {
	dev_t dev;   /* of the device, or of the file's file system ... */
	ino_t inode; /* ... and of the file */
};

struct disk_claim {
	dev_t whole;
	bool is_exclusive;
	struct locks *locks; /* owned */
};

/* Destinations come first: entry i is operand i + 1 of the view. */
struct pool {
	const struct guard_options *options;  /* borrowed */
	struct guard view;		      /* of all destinations, for those who ask what else is ours */
	struct operand dests[POOL_SLOTS + 1]; /* the first is never used */
	struct operand sources[POOL_SLOTS];
	struct pool_entry entries[POOL_MOST];
	bool may_overlap[POOL_MOST][POOL_MOST]; /* has any sector of one a sector of the other? */
	struct pool_set others[POOL_MOST];	/* the same, without those of the same device or file */
	int buckets[BUCKETS];			/* by place: the first entry of a chain, or -1 */
	int chain[POOL_MOST];
	unsigned int num_colons; /* places of these with a colon in them */
	struct names names;
	uint64_t reserve_bytes;	   /* 0: not shared */
	struct disk_claim *claims; /* owned: the locks on disks */
	unsigned int num_claims;
	int forbidden[MAX_FORBIDDEN];
	const char *forbidden_names[MAX_FORBIDDEN];
	unsigned int num_forbidden;
	struct written written[MAX_WRITTEN]; /* a ring */
	unsigned long num_written;
	unsigned long clock;
};

void pool_set_put(struct pool_set *set, unsigned int index, bool is_in)
{
	uint64_t bit = UINT64_C(1) << index % 64;

	set->bits[index / 64] = is_in ? set->bits[index / 64] | bit : set->bits[index / 64] & ~bit;
}

static bool is_dest(const struct pool_entry *entry)
{
	return entry->index < POOL_SLOTS;
}

static bool is_used(const struct pool_entry *entry)
{
	return entry->operand->name;
}

static void reset(struct pool_entry *entry)
{
	*entry->operand =
		(struct operand){ .number = is_dest(entry) ? entry->index + 1 : 0, .dir_fd = -1, .backing_fd = -1 };
	entry->is_begun = false;
	entry->is_trusted = false;
	entry->stall = (struct stall){ .ms = 0 };
	entry->users = 0;
	entry->gets = 0;
}

int pool_create(const struct guard_options *options, struct pool **result)
{
	struct pool *pool = calloc(1, sizeof(*pool));

	if (!pool)
		return -ENOMEM;
	pool->options = options;
	pool->view = (struct guard){ .options = options, .num_dests = POOL_SLOTS, .operands = pool->dests };
	pool->dests[0] = (struct operand){ .dir_fd = -1, .backing_fd = -1 };
	for (unsigned int i = 0; i < POOL_MOST; i++) {
		pool->entries[i].index = i;
		pool->entries[i].operand = i < POOL_SLOTS ? &pool->dests[i + 1] : &pool->sources[i - POOL_SLOTS];
		reset(&pool->entries[i]);
	}
	for (unsigned int i = 0; i < BUCKETS; i++)
		pool->buckets[i] = -1;
	*result = pool;
	return 0;
}

void pool_forbid(struct pool *pool, int fd, const char *what)
{
	pool->forbidden[pool->num_forbidden] = fd;
	pool->forbidden_names[pool->num_forbidden++] = what;
}

struct pool_entry *pool_at(struct pool *pool, unsigned int index)
{
	struct pool_entry *entry = &pool->entries[index];

	return is_used(entry) && entry->operand->bdev ? entry : NULL;
}

/* -- by place ------------------------------------------------------------------------------------ */

static unsigned int bucket_of(const char *place, size_t length)
{
	unsigned int hash = 5381;

	for (size_t i = 0; i < length; i++)
		hash = hash * 33 + (unsigned char)place[i];
	return hash % BUCKETS;
}

static unsigned int bucket_of_entry(const struct pool_entry *entry)
{
	return bucket_of(entry->operand->spec.place, strlen(entry->operand->spec.place));
}

static bool is_place(const struct pool *pool, int index, const char *place, size_t length)
{
	const char *own = pool->entries[index].operand->spec.place;

	return strncmp(own, place, length) == 0 && !own[length];
}

static struct pool_entry *find(const struct pool *pool, const char *place, size_t length, bool is_source)
{
	for (int i = pool->buckets[bucket_of(place, length)]; i >= 0; i = pool->chain[i])
		if ((i >= (int)POOL_SLOTS) == is_source && is_place(pool, i, place, length))
			return (struct pool_entry *)&pool->entries[i];
	return NULL;
}

static void link_entry(struct pool *pool, const struct pool_entry *entry)
{
	int *bucket = &pool->buckets[bucket_of_entry(entry)];

	pool->chain[entry->index] = *bucket;
	*bucket = (int)entry->index;
	pool->num_colons += strchr(entry->operand->spec.place, ':') != NULL;
}

static void unlink_entry(struct pool *pool, const struct pool_entry *entry)
{
	int *link = &pool->buckets[bucket_of_entry(entry)];

	while (*link >= 0 && *link != (int)entry->index)
		link = &pool->chain[*link];
	if (*link < 0)
		return;
	*link = pool->chain[entry->index];
	pool->num_colons -= strchr(entry->operand->spec.place, ':') != NULL;
}

static bool is_open(const struct pool *pool, const char *place)
{
	size_t length = strlen(place);

	for (int i = pool->buckets[bucket_of(place, length)]; i >= 0; i = pool->chain[i])
		if (is_place(pool, i, place, length))
			return true;
	return false;
}

/* A spec_exists_fn: what is open need not be looked for. */
static bool exists(const char *place, void *context)
{
	struct pool *pool = context;

	/* Of a long list, each operand with its range is asked for, and none is open. */
	if ((pool->num_colons || !strchr(place, ':')) && is_open(pool, place))
		return true;
	if (!spec_is_tag(place) && !names_may_exist(&pool->names, place))
		return false;
	return operand_exists(place, NULL);
}

void pool_doubt_names(struct pool *pool)
{
	names_doubt(&pool->names);
}

/* Will it be created by a copy to an entry? */
static bool pool_is_new(const struct pool *pool, const char *path)
{
	const struct pool_entry *entry = find(pool, path, strlen(path), false);

	return entry && entry->operand->is_new && !entry->operand->bdev;
}

/* -- closing ------------------------------------------------------------------------------------- */

static struct written identity_of(const struct operand *operand)
{
	if (operand->is_block)
		return (struct written){ .dev = operand->rdev };
	return (struct written){ .dev = operand->file_dev, .inode = operand->file_inode };
}

/* Did a copy of ours write to it, before it was closed and opened again? */
static bool was_written(const struct pool *pool, const struct operand *operand)
{
	struct written own = identity_of(operand);

	for (unsigned long i = 0; i < pool->num_written && i < MAX_WRITTEN; i++)
		if (pool->written[i].dev == own.dev && pool->written[i].inode == own.inode)
			return true;
	return false;
}

static void close_entry(struct pool *pool, struct pool_entry *entry)
{
	struct operand *operand = entry->operand;

	unlink_entry(pool, entry);
	if (entry->is_begun && operand->bdev && !entry->stall.is_abandoned) {
		operand->region = (struct io_region){ operand->bdev, entry->first, entry->end - entry->first };
		refresh_after(operand);
		pool->written[pool->num_written++ % MAX_WRITTEN] = identity_of(operand);
	}
	operand_close(operand);
	reset(entry);
}

/* Files first, and last of all those that will not answer when they are opened again. */
static unsigned int rank(const struct pool_entry *entry)
{
	return entry->stall.is_abandoned ? 2 : entry->operand->is_block;
}

/* A free one of a kind; the one that was not asked for for the longest time, by rank(). NULL: all have users. */
static struct pool_entry *find_free(struct pool *pool, bool is_source)
{
	struct pool_entry *begin = &pool->entries[is_source ? POOL_SLOTS : 0], *best = NULL;

	for (struct pool_entry *entry = begin; entry < begin + POOL_SLOTS; entry++) {
		if (!is_used(entry))
			return entry;
		if (entry->users)
			continue;
		if (!best || rank(entry) < rank(best) || (rank(entry) == rank(best) && entry->used < best->used))
			best = entry;
	}
	if (best)
		close_entry(pool, best);
	return best;
}

static void *close_device(void *operand)
{
	operand_close_device(operand);
	return NULL;
}

void pool_close_sources(struct pool *pool)
{
	pthread_t threads[POOL_SLOTS];
	bool is_begun[POOL_SLOTS] = { false };
	sigset_t all, old;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	for (unsigned int i = 0; i < POOL_SLOTS; i++)
		is_begun[i] = pool->sources[i].bdev &&
			      pthread_create(&threads[i], NULL, close_device, &pool->sources[i]) == 0;
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	for (unsigned int i = 0; i < POOL_SLOTS; i++)
		if (is_begun[i])
			pthread_join(threads[i], NULL);
}

void pool_destroy(struct pool *pool)
{
	if (!pool)
		return;
	/* First: udev looks at a disk when a descriptor that could write is closed, and some of its versions not later. */
	for (unsigned int i = 0; i < pool->num_claims; i++)
		locks_release(pool->claims[i].locks);
	free(pool->claims);
	pool_close_sources(pool);
	for (unsigned int i = 0; i < POOL_MOST; i++)
		if (is_used(&pool->entries[i]))
			close_entry(pool, &pool->entries[i]);
	names_free(&pool->names);
	free(pool);
}

/* -- locks --------------------------------------------------------------------------------------- */

static struct disk_claim *find_claim(struct pool *pool, dev_t whole)
{
	struct disk_claim *claims;

	for (unsigned int i = 0; i < pool->num_claims; i++)
		if (pool->claims[i].whole == whole)
			return &pool->claims[i];
	claims = reallocarray(pool->claims, pool->num_claims + 1, sizeof(claims[0]));
	if (!claims)
		return NULL;
	pool->claims = claims;
	claims[pool->num_claims] = (struct disk_claim){ .whole = whole };
	return &claims[pool->num_claims++];
}

/* Its whole disk, once for all operands on it; one that is only read is locked again if it is to be written. */
static void lock_disk(struct pool *pool, struct operand *operand, bool is_exclusive)
{
	struct lock_wish wish = { .rdev = operand->rdev, .is_exclusive = is_exclusive };
	struct disk_claim *claim = find_claim(pool, alias_whole_disk(operand->rdev));

	if (claim && claim->locks && (claim->is_exclusive || !is_exclusive))
		return;
	if (!claim) {
		operand_problem(operand, "%s", strerror(ENOMEM));
		return;
	}
	locks_release(claim->locks);
	claim->locks = NULL;
	claim->is_exclusive = is_exclusive;
	if (locks_take(&wish, 1, pool->options->lock_mode, &claim->locks))
		operand_problem(operand, "%s", strerror(ENOMEM));
	else
		guard_tell_lock(operand, &wish);
	free(wish.whole_path);
	if (operand->is_bad) {
		locks_release(claim->locks);
		claim->locks = NULL;
	}
}

/* -- opening ------------------------------------------------------------------------------------- */

static bool is_same(const struct operand *a, const struct operand *b)
{
	if (a->is_new || b->is_new || a->is_block != b->is_block)
		return false;
	return a->is_block ? a->rdev == b->rdev : a->file_dev == b->file_dev && a->file_inode == b->file_inode;
}

/* A file that the pool has created is what it is now. */
static void learn_inode(struct operand *operand)
{
	struct stat st;

	if (operand->is_block || !operand->bdev || fstat(kcopyd_device_fd(operand->bdev), &st))
		return;
	operand->file_dev = st.st_dev;
	operand->file_inode = st.st_ino;
}

/* Another entry of the same device or file, of a kind; NULL: there is none. */
static struct pool_entry *find_same(struct pool *pool, const struct pool_entry *wanted, bool is_source)
{
	struct pool_entry *begin = &pool->entries[is_source ? POOL_SLOTS : 0];

	for (struct pool_entry *entry = begin; entry < begin + POOL_SLOTS; entry++)
		if (entry != wanted && is_used(entry) && is_same(entry->operand, wanted->operand))
			return entry;
	return NULL;
}

static struct io_region whole_of(const struct operand *operand)
{
	return (struct io_region){ operand->bdev, 0,
				   operand->is_block ? kcopyd_device_sectors(operand->bdev) : ALL_SECTORS };
}

static void limit_all(struct pool *pool)
{
	unsigned int num = 0;

	for (unsigned int i = 0; i < POOL_SLOTS; i++)
		num += pool_at(pool, i) != NULL;
	for (unsigned int i = 0; pool->reserve_bytes && i < POOL_SLOTS; i++)
		if (pool_at(pool, i))
			kcopyd_device_limit(pool_at(pool, i)->operand->bdev, pool->reserve_bytes / (num + 1));
	/* Sources are never given up, but must not hold up the client itself. */
	for (unsigned int i = POOL_SLOTS; pool->reserve_bytes && i < POOL_MOST; i++)
		if (pool_at(pool, i))
			kcopyd_device_limit(pool_at(pool, i)->operand->bdev, pool->reserve_bytes);
}

void pool_share(struct pool *pool, uint64_t reserve_bytes)
{
	pool->reserve_bytes = reserve_bytes;
	limit_all(pool);
}

/* What is still to be created has nothing in common with anything. */
static void compare_with_all(struct pool *pool, struct pool_entry *entry)
{
	const struct operand *own = entry->operand;
	struct io_region whole = { .bdev = NULL }, other;

	if (own->bdev)
		whole = whole_of(own);
	entry->group = entry->index;
	for (unsigned int i = 0; i < POOL_MOST; i++) {
		const struct operand *operand = pool->entries[i].operand;
		bool may = false, is_in_group = false;

		if (own->bdev && operand->bdev) {
			other = whole_of(operand);
			may = kcopyd_regions_overlap(&whole, &other);
			is_in_group = is_same(own, operand);
		}
		if (is_in_group)
			entry->group = pool->entries[i].group;
		pool->may_overlap[i][entry->index] = may;
		pool->may_overlap[entry->index][i] = may;
		pool_set_put(&pool->others[i], entry->index, may && !is_in_group);
		pool_set_put(&pool->others[entry->index], i, may && !is_in_group);
	}
	limit_all(pool);
}

static void check_forbidden(const struct pool *pool, struct operand *operand)
{
	for (unsigned int i = 0; operand->bdev && i < pool->num_forbidden; i++)
		if (kcopyd_device_is_behind(operand->bdev, pool->forbidden[i]))
			operand_problem(operand, "is %s, too", pool->forbidden_names[i]);
}

static void open_source(struct pool *pool, struct pool_entry *entry)
{
	struct operand *operand = entry->operand;

	if (operand->is_block)
		lock_disk(pool, operand, false);
	else if (find_same(pool, entry, false))
		operand->lock_mode = LOCK_NO; /* ours would be in our own way */
	operand_open(operand, pool->dests, POOL_SLOTS);
	if (!operand->bdev)
		return;
	operand->region = whole_of(operand);
	guard_check_source(operand);
}

/* Nobody else can claim a partition of a disk that is ours; and our own claim would look like another's. */
static bool is_on_our_disk(const struct pool *pool, const struct operand *operand)
{
	dev_t whole = alias_whole_disk(operand->rdev);

	for (unsigned int i = 1; i <= POOL_SLOTS; i++)
		if (pool->dests[i].is_block && pool->dests[i].bdev && pool->dests[i].rdev == whole)
			return true;
	return false;
}

static void open_dest(struct pool *pool, struct pool_entry *entry)
{
	struct operand *operand = entry->operand;

	if (operand->is_new)
		return;
	if (operand->is_block)
		lock_disk(pool, operand, true);
	if (operand->is_block && is_on_our_disk(pool, operand))
		operand->was_asked = true;
	else
		operand_ask_busy(operand);
	operand_open(operand, pool->dests, POOL_SLOTS);
	if (!operand->bdev)
		return;
	operand->region = whole_of(operand);
	guard_check_destination(&pool->view, operand);
	if (operand->is_bad)
		return;
	entry->is_trusted = was_written(pool, operand);
	operand->was_probed = true;
	operand->region.count = kcopyd_device_sectors(operand->bdev);
	if (operand->region.count) {
		contents_begin(&operand->region, operand->is_block ? operand->rdev : 0);
		operand->contents_error =
			-contents_find(&operand->region, operand->is_block ? operand->rdev : 0, &operand->contents);
	}
	operand->region.count = 0; /* or it would be an operand for look_at_alias() and the like */
}

/* What was found wrong is the caller's to report. */
static void move_problems(struct operand *from, struct operand *to)
{
	to->is_bad |= from->is_bad;
	if (from->num_problems == 0)
		return;
	to->problems = from->problems;
	to->num_problems = from->num_problems;
	from->problems = NULL;
	from->num_problems = 0;
}

/* @operand is found; @entry is free. */
static int begin_entry(const struct pool *pool, const struct operand *operand, struct pool_entry *entry)
{
	struct operand *own = entry->operand;

	own->is_dry = pool->options->is_dry;
	own->lock_mode = pool->options->lock_mode;
	own->spec.place = strdup(operand->spec.place);
	own->path = strdup(operand->path);
	own->name = strdup(operand->name);
	if (own->spec.place && own->path && own->name)
		return 0;
	free(own->spec.place);
	free(own->path);
	free(own->name);
	reset(entry);
	return -ENOMEM;
}

/* Of the same thing by another name, or of the other kind. 0: there is none, and none in the way. */
static int find_other(struct pool *pool, struct pool_entry *entry, bool is_source, struct pool_entry **other)
{
	struct pool_entry *reader;

	*other = find_same(pool, entry, is_source);
	if (*other || is_source || entry->operand->is_block)
		return 0;
	/* Our own lock for reading would keep us from writing. */
	reader = find_same(pool, entry, true);
	if (reader && reader->users)
		return -EAGAIN;
	if (reader)
		close_entry(pool, reader);
	return 0;
}

static int open_entry(struct pool *pool, struct operand *operand, bool is_source, struct pool_entry **result)
{
	struct pool_entry *entry = find_free(pool, is_source), *other = NULL;
	int ret;

	if (!entry)
		return -EAGAIN;
	ret = begin_entry(pool, operand, entry);
	if (ret) {
		operand_problem(operand, "%s", strerror(-ret));
		return -EINVAL;
	}
	link_entry(pool, entry);
	operand_look(entry->operand);
	ret = entry->operand->is_bad ? -EINVAL : find_other(pool, entry, is_source, &other);
	if (ret == 0 && !other) {
		if (is_source)
			open_source(pool, entry);
		else
			open_dest(pool, entry);
		learn_inode(entry->operand);
		guard_check_output(entry->operand);
		check_forbidden(pool, entry->operand);
		ret = entry->operand->is_bad || (!entry->operand->bdev && !entry->operand->is_new) ? -EINVAL : 0;
	}
	move_problems(entry->operand, operand);
	if (ret || other)
		close_entry(pool, entry);
	else
		compare_with_all(pool, entry);
	*result = other ? other : entry;
	return ret;
}

/* A source that another copy has made longer is opened again. */
static bool has_grown(const struct pool_entry *entry)
{
	struct stat st;

	return !entry->operand->is_block && fstat(kcopyd_device_fd(entry->operand->bdev), &st) == 0 &&
	       (uint64_t)st.st_size != kcopyd_device_bytes(entry->operand->bdev);
}

static void fill(struct operand *operand, const struct operand *own)
{
	free(operand->path);
	operand->path = own->path;
	operand->bdev = own->bdev;
	operand->is_shared = true;
	operand->is_block = own->is_block;
	operand->is_new = own->is_new && !own->bdev;
	operand->leaf = own->leaf;
	operand->dir_fd = own->dir_fd;
	operand->file_dev = own->file_dev;
	operand->file_inode = own->file_inode;
	operand->rdev = own->rdev;
	operand->is_dry = own->is_dry;
}

/* False: it is no number, or one for spec_parse(). */
static bool read_number(const char **text, uint64_t *number)
{
	const char *begin = *text;

	*number = 0;
	for (; **text >= '0' && **text <= '9' && *text - begin < QUICK_DIGITS; ++*text)
		*number = *number * 10 + (uint64_t)(**text - '0');
	return *text > begin;
}

/*
 * What most lines of a long list say: a place that is open, and plain numbers. Comes to the same as operand_read(). NULL:
 * that has to be asked.
 */
static struct pool_entry *read_quickly(struct pool *pool, struct operand *operand, unsigned int number,
				       const char *text)
{
	const char *colon = strrchr(text, ':'), *at;
	struct spec spec = { .has_start = true };
	struct pool_entry *entry;

	if (!colon || spec_is_tag(text))
		return NULL;
	at = colon + 1;
	if (!read_number(&at, &spec.start))
		return NULL;
	spec.has_count = *at == '+';
	if (spec.has_count && (++at, !read_number(&at, &spec.count) || spec.count == 0))
		return NULL;
	entry = *at ? NULL : find(pool, text, (size_t)(colon - text), number == 0);
	if (!entry || (number == 0 && has_grown(entry)) || exists(text, pool))
		return NULL;
	operand->number = number;
	operand->backing_fd = -1;
	operand->spec = spec;
	operand->spec.place = entry->operand->spec.place;
	operand->name = entry->operand->name;
	return entry;
}

/* The entry's operand is what the text of @operand names. */
static int get(struct pool *pool, struct pool_entry *entry, struct operand *operand, struct pool_entry **result)
{
	entry->users++;
	entry->gets++;
	entry->used = ++pool->clock;
	fill(operand, entry->operand);
	*result = entry;
	return 0;
}

int pool_get(struct pool *pool, struct operand *operand, unsigned int number, const char *text,
	     struct pool_entry **result)
{
	struct pool_entry *entry = read_quickly(pool, operand, number, text);
	bool is_source = number == 0;
	int ret;

	*result = NULL;
	if (entry)
		return get(pool, entry, operand, result);
	operand_read(operand, number, text, exists, pool);
	if (operand->is_bad)
		return -EINVAL;
	entry = find(pool, operand->spec.place, strlen(operand->spec.place), is_source);
	if (entry && is_source && has_grown(entry)) {
		if (entry->users)
			return -EAGAIN;
		close_entry(pool, entry);
		entry = NULL;
	}
	if (!entry && is_source && pool_is_new(pool, operand->spec.place))
		return -ENOENT;
	if (!entry) {
		operand_find(operand);
		ret = operand->is_bad ? -EINVAL : open_entry(pool, operand, is_source, &entry);
		if (ret)
			return ret == -EINVAL && signals_pending() && operand->num_problems == 0 ? -EINTR : ret;
	}
	return get(pool, entry, operand, result);
}

void pool_put(struct pool_entry *entry, struct operand *operand)
{
	if (entry && operand->name == entry->operand->name) {
		operand->name = NULL;
		operand->spec.place = NULL;
	}
	if (entry)
		entry->users--;
	if (operand->is_shared) {
		operand->path = NULL;
		operand->leaf = NULL;
		operand->dir_fd = -1;
	}
	operand->is_shared = true; /* also where it was never opened */
	operand_close(operand);
}

/* -- before a write ------------------------------------------------------------------------------ */

static void refuse(struct operand *operand, const struct content *item)
{
	operand_problem(operand, "would overwrite %s; --force to do it anyway",
			item->text ? item->text : strerror(ENOMEM));
}

/* What begins where the region begins, though nothing says so. 0 or -EAGAIN. */
static int check_start(const struct pool *pool, const struct pool_entry *entry, struct operand *operand)
{
	const struct io_region *region = &operand->region;
	struct contents found;
	int ret;

	if (region->count < SEARCHED_SECTORS || region->sector == 0 || !region->bdev)
		return 0;
	for (size_t i = 0; i < entry->operand->contents.num; i++)
		if (entry->operand->contents.items[i].offset == region->sector * KCOPYD_SECTOR_BYTES)
			return 0;
	if (pool->reserve_bytes && kcopyd_device_stalled_ms(region->bdev, NULL) >= BUSY_MS)
		return -EAGAIN;
	ret = contents_find_start(region, &found);
	for (size_t i = 0; i < found.num; i++)
		refuse(operand, &found.items[i]);
	if (ret)
		operand_problem(
			operand,
			"what would be overwritten is not known, as it cannot be read: %s; --force to do it anyway",
			strerror(-ret));
	contents_free(&found);
	return 0;
}

/* What begins there now may be ours. */
static bool is_written(const struct pool_entry *entry, sector_t sector)
{
	return entry->is_trusted || (entry->is_begun && sector >= entry->first && sector < entry->end);
}

int pool_check_contents(struct pool *pool, const struct pool_entry *entry, struct operand *operand)
{
	const struct contents *contents = &entry->operand->contents;

	if (pool->options->is_forced || !operand->region.bdev || entry->is_trusted || entry->stall.is_abandoned)
		return 0;
	if (entry->operand->contents_error)
		operand_problem(
			operand,
			"what would be overwritten is not known, as it cannot be read: %s; --force to do it anyway",
			strerror(entry->operand->contents_error));
	for (size_t i = 0; i < contents->num; i++)
		if (contents_is_hit(&contents->items[i], &operand->region))
			refuse(operand, &contents->items[i]);
	if (!operand->is_bad && !is_written(entry, operand->region.sector) && check_start(pool, entry, operand))
		return -EAGAIN;
	return operand->is_bad ? -EINVAL : 0;
}

/* A new one is created with the length that its first copy needs. */
static void create(struct pool *pool, struct pool_entry *entry, struct operand *operand)
{
	struct operand *own = entry->operand;

	own->region = operand->region;
	operand_prepare(own);
	names_doubt(&pool->names);
	own->region = (struct io_region){ .bdev = own->bdev };
	move_problems(own, operand);
	own->is_bad = false; /* the next copy to it may have more luck */
	if (operand->is_bad || !own->bdev)
		return;
	learn_inode(own);
	compare_with_all(pool, entry);
	fill(operand, own);
	operand->region.bdev = own->bdev;
}

static void tell_loss(const struct operand *operand)
{
	for (size_t i = 0; i < operand->contents.num; i++)
		log_info("%s: holds, and may lose, %s", operand->name,
			 operand->contents.items[i].text ? operand->contents.items[i].text : strerror(ENOMEM));
}

int pool_begin(struct pool *pool, struct pool_entry *entry, struct operand *operand)
{
	struct operand *own = entry->operand;
	const struct io_region *region = &operand->region;

	if (entry->stall.is_abandoned)
		return 0; /* the engine will say that */
	if (own->is_new && !own->bdev) {
		operand->path = NULL; /* of the entry's, which fill() gives again */
		create(pool, entry, operand);
	} else {
		operand->is_new = false;
		operand->bdev = own->bdev;
		operand->region.bdev = own->bdev;
		operand_prepare(operand);
	}
	if (operand->is_bad)
		return -EINVAL;
	if (!entry->is_begun) {
		own->region = whole_of(own);
		refresh_before(own);
		own->region.count = 0;
		if (pool->options->is_forced)
			tell_loss(own);
		entry->first = region->sector;
		entry->end = region->sector + region->count;
	}
	entry->is_begun = true;
	if (region->sector < entry->first)
		entry->first = region->sector;
	if (region->sector + region->count > entry->end)
		entry->end = region->sector + region->count;
	return 0;
}

const bool *pool_overlaps(const struct pool *pool, const struct pool_entry *entry)
{
	return pool->may_overlap[entry->index];
}

const struct pool_set *pool_others(const struct pool *pool, const struct pool_entry *entry)
{
	return &pool->others[entry->index];
}
