/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which directories hold no name with a colon: there "PLACE:START" is no file's name, and nobody has to ask for each START.
 * Directories of local file systems only, of which the time of the last change can be believed. Main thread only.
 */
#ifndef KCOPY_NAMES_H
#define KCOPY_NAMES_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>
#include <time.h>

#define NAMES_DIRECTORIES 4u

struct names_directory {
	char *path; /* owned; with the slash at its end, or empty; NULL: a free one */
	size_t length;
	bool is_known; /* the next three are valid */
	bool has_colon;
	dev_t dev;
	ino_t inode;
	struct timespec changed;
	unsigned int left; /* so often it is believed before it is asked whether it has changed */
};

/* Zeroed is empty. */
struct names {
	struct names_directory directories[NAMES_DIRECTORIES];
	unsigned int next; /* that is to be replaced */
};

/* False: there is no file @path, for certain; or a moment ago there was none, since names_doubt(). */
bool names_may_exist(struct names *names, const char *path);

/* Something may have happened since: whoever waits, or hears of others, says so. */
void names_doubt(struct names *names);

void names_free(struct names *names);

#endif
