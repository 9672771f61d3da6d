/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Runs a fuzz target without libFuzzer, over the files and the directories of files that it is given: one test in TAP, which
 * names the input that a run died of. Part of 'make check', in every build.
 */
#include "target.h"

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Of whichever sanitizer this is built with: it ends the program in its own way. */
void __sanitizer_set_death_callback(void (*callback)(void)) __attribute__((weak));

static const char *program;
static const char *current; /* the input that runs, or NULL */
static unsigned int num_inputs;

static void say(const char *text)
{
	ssize_t ret = write(STDOUT_FILENO, text, strlen(text));

	(void)ret; /* the test has failed already */
}

static void tell_input(void)
{
	if (!current)
		return;
	say("not ok 1 - ");
	say(program);
	say(": died of ");
	say(current);
	say("\n");
	current = NULL;
}

/* Once: then the signal does what it would have done. */
static void die(int number)
{
	tell_input();
	raise(number);
}

static void catch_deaths(void)
{
	static const int numbers[] = { SIGABRT, SIGTERM, SIGSEGV, SIGBUS, SIGFPE, SIGILL };
	struct sigaction action = { .sa_handler = die, .sa_flags = (int)SA_RESETHAND };
	size_t num = sizeof(numbers) / sizeof(numbers[0]);

	if (__sanitizer_set_death_callback) {
		__sanitizer_set_death_callback(tell_input);
		num = 2; /* the rest are its own */
	}
	for (size_t i = 0; i < num; i++)
		sigaction(numbers[i], &action, NULL);
}

static _Noreturn void give_up(const char *path, const char *reason)
{
	printf("not ok 1 - %s: %s: %s\n", program, path, reason);
	exit(1);
}

static void run_file(const char *path, const struct stat *st)
{
	size_t bytes = (size_t)st->st_size;
	uint8_t *data = malloc(bytes ? bytes : 1);
	FILE *file = fopen(path, "rb");

	if (!data || !file || fread(data, 1, bytes, file) != bytes)
		give_up(path, errno ? strerror(errno) : "changed while it was read");
	fclose(file);
	current = path;
	LLVMFuzzerTestOneInput(data, bytes);
	current = NULL;
	num_inputs++;
	free(data);
}

static int is_visible(const struct dirent *entry)
{
	return entry->d_name[0] != '.';
}

static void run_path(const char *path)
{
	struct dirent **entries;
	struct stat st;
	int num;

	if (stat(path, &st))
		give_up(path, strerror(errno));
	if (!S_ISDIR(st.st_mode)) {
		run_file(path, &st);
		return;
	}
	num = scandir(path, &entries, is_visible, alphasort);
	if (num <= 0)
		give_up(path, num ? strerror(errno) : "no inputs");
	for (int i = 0; i < num; i++) {
		char *inner = format("%s/%s", path, entries[i]->d_name);

		run_path(inner);
		free(inner);
		free(entries[i]);
	}
	free(entries);
}

int main(int argc, char **argv)
{
	program = strrchr(argv[0], '/') ? strrchr(argv[0], '/') + 1 : argv[0];
	if (argc < 2) {
		fprintf(stderr, "usage: %s FILE|DIRECTORY...\n", argv[0]);
		return 2;
	}
	setvbuf(stdout, NULL, _IONBF, 0);
	catch_deaths();
	printf("1..1\n");
	for (int i = 1; i < argc; i++)
		run_path(argv[i]);
	printf("ok 1 - %s: %u inputs\n", program, num_inputs);
	return 0;
}
