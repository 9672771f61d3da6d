/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "identity.h"

#include <errno.h>
#include <stdlib.h>

static sector_t least(sector_t a, sector_t b)
{
	return a < b ? a : b;
}

static sector_t most(sector_t a, sector_t b)
{
	return a > b ? a : b;
}

/* The room doubles whenever it is full. */
int identity_add(struct identity *identity, const struct piece *piece)
{
	unsigned int num = identity->num_pieces;
	struct piece *pieces;

	if ((num & (num - 1)) == 0) {
		pieces = reallocarray(identity->pieces, num ? 2 * num : 1, sizeof(*pieces));
		if (!pieces)
			return -ENOMEM;
		identity->pieces = pieces;
	}
	identity->pieces[identity->num_pieces++] = *piece;
	return 0;
}

int identity_add_whole(struct identity *identity, dev_t disk, ino_t inode)
{
	struct piece piece = {
		.count = PIECE_TO_END, .base_count = PIECE_TO_END, .disk = disk, .inode = inode, .is_exact = true
	};

	return identity_add(identity, &piece);
}

void identity_release(struct identity *identity)
{
	free(identity->pieces);
	*identity = (struct identity){ 0 };
}

int identity_add_through(struct identity *identity, const struct piece *leg, const struct identity *below)
{
	int ret = 0;

	for (unsigned int i = 0; i < below->num_pieces && ret == 0; i++) {
		const struct piece *p = &below->pieces[i];
		sector_t first = most(leg->base_sector, p->sector);
		sector_t end = least(leg->base_sector + leg->base_count, p->sector + p->count);
		struct piece piece = *p;

		if (first >= end)
			continue;
		piece.sector = leg->sector;
		piece.count = leg->count;
		if (leg->is_exact) {
			piece.sector += first - leg->base_sector;
			piece.count = end - first;
		}
		if (p->is_exact) {
			piece.base_sector += first - p->sector;
			piece.base_count = end - first;
			piece.is_exact = leg->is_exact;
			piece.is_uncertain = leg->is_uncertain;
			piece.is_all = leg->is_all;
			piece.holder = leg->holder;
		}
		ret = identity_add(identity, &piece);
	}
	return ret;
}

/* The sectors of the base, @first to @end, that may hold some of the device's. False: none. */
static bool clip(const struct piece *piece, sector_t sector, sector_t count, sector_t *first, sector_t *end)
{
	sector_t from = most(sector, piece->sector);
	sector_t to = least(sector + count, piece->sector + piece->count);

	if (from >= to)
		return false;
	*first = piece->base_sector;
	*end = piece->base_sector + piece->base_count;
	if (piece->is_exact) {
		*end = *first + (to - piece->sector);
		*first += from - piece->sector;
	}
	return true;
}

static bool has_same_base(const struct piece *a, const struct piece *b)
{
	return a->disk == b->disk && a->inode == b->inode;
}

/*
 * Of two opaque pieces nothing is known but that their holders, if they are different ones, share no sectors: volumes of
 * one pool. Unless each says that it fills its range: stripes, of which several tables may name the same place.
 */
static bool is_comparable(const struct piece *a, const struct piece *b)
{
	if (a->is_exact || b->is_exact)
		return true;
	return a->holder != b->holder && (a->is_uncertain || b->is_uncertain || (a->is_all && b->is_all));
}

bool identity_has_overlap(const struct identity *a, sector_t a_sector, sector_t a_count, const struct identity *b,
			  sector_t b_sector, sector_t b_count)
{
	sector_t a_first, a_end, b_first, b_end;

	for (unsigned int i = 0; i < a->num_pieces; i++) {
		if (!clip(&a->pieces[i], a_sector, a_count, &a_first, &a_end))
			continue;
		for (unsigned int j = 0; j < b->num_pieces; j++) {
			if (!has_same_base(&a->pieces[i], &b->pieces[j]) ||
			    !is_comparable(&a->pieces[i], &b->pieces[j]) ||
			    !clip(&b->pieces[j], b_sector, b_count, &b_first, &b_end))
				continue;
			if (a_first < b_end && b_first < a_end)
				return true;
		}
	}
	return false;
}

bool identity_has_common_base(const struct identity *a, const struct identity *b)
{
	for (unsigned int i = 0; i < a->num_pieces; i++)
		for (unsigned int j = 0; j < b->num_pieces; j++)
			if (has_same_base(&a->pieces[i], &b->pieces[j]))
				return true;
	return false;
}
