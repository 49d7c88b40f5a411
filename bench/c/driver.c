/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Has a file worked on REPEAT times, and prints the nanoseconds of processor time that it took. With
 * -DCOVER the runtime's collection may be on: then the count word is set to 0 before each piece of
 * the work, so that the buffer, which is as large for every runtime, never fills.
 *
 * Usage: driver FILE REPEAT off|on
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "work.h"

#ifdef COVER
/* Starts to collect PCs of the calling thread into a buffer of that many words. */
unsigned long *cover_on(size_t words);
#endif

#define WORDS (1 << 20)

static volatile unsigned long nobody;
static volatile unsigned long *count = &nobody;
static unsigned long most;

static void note(void)
{
	if (*count > most)
		most = *count;
}

void next_piece(void)
{
	note();
	*count = 0;
}

void die(const char *what)
{
	fprintf(stderr, "%s\n", what);
	exit(1);
}

static unsigned char *read_file(const char *path, size_t *len)
{
	FILE *file = fopen(path, "rb");
	unsigned char *bytes;

	if (!file || fseek(file, 0, SEEK_END))
		die(path);
	*len = (size_t)ftell(file);
	rewind(file);
	bytes = malloc(*len);
	if (!bytes || fread(bytes, 1, *len, file) != *len)
		die(path);
	fclose(file);
	return bytes;
}

int main(int argc, char **argv)
{
	struct timespec begin, end;
	unsigned long sum = 0;
	unsigned char *bytes;
	size_t len;

	if (argc != 4)
		die("usage: driver FILE REPEAT off|on");
	bytes = read_file(argv[1], &len);
#ifdef COVER
	if (!strcmp(argv[3], "on")) {
		count = cover_on(WORDS);
		if (!count)
			die("cannot collect");
	}
#endif
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &begin);
	for (int i = atoi(argv[2]); i > 0; i--)
		sum += work(bytes, len);
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &end);
	note();
	if (most >= WORDS - 1)
		die("the buffer was full");
	if (!strcmp(argv[3], "on") != (most > 0))
		die("collection is not as asked");
	printf("%lld %lu %lu\n",
	       (end.tv_sec - begin.tv_sec) * 1000000000LL + (end.tv_nsec - begin.tv_nsec), most, sum);
	return 0;
}
