/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * --expect=N:KEY=VALUE: operand N is the disk with that serial number, WWN, model or size, or nothing is written.
 */
#ifndef KCOPY_EXPECT_H
#define KCOPY_EXPECT_H

#include <stdbool.h>
#include <stdint.h>

#include "disk.h"

enum expect_key { EXPECT_SERIAL, EXPECT_WWN, EXPECT_MODEL, EXPECT_SIZE };

struct expect {
	unsigned int operand; /* its number: 0 the source, N destination N */
	enum expect_key key;
	char *value;	  /* owned, as given; not empty */
	uint64_t sectors; /* EXPECT_SIZE */
};

/* -EINVAL: @message (to be freed) is one line that quotes @text and says what is wrong. -ENOMEM. */
int expect_parse(const char *text, struct expect *expect, char **message);
/* "serial" ... */
const char *expect_key_name(enum expect_key key);

void expect_free(struct expect *expect);

/*
 * @disk: NULL for a regular file. @bytes: the operand's exact size; @is_size_known is false for a file that does not
 * exist yet. True: it is what was expected. Else @message (to be freed; NULL if out of memory) says what it is instead,
 * printable; what cannot be found out does not match.
 */
bool expect_matches(const struct expect *expect, const struct disk *disk, bool is_size_known, uint64_t bytes,
		    char **message);

#endif
