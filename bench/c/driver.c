/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Inflates a file of zlib's format REPEAT times, in pieces of 64 KiB, and prints the nanoseconds of
 * processor time that it took. With -DCOVER the runtime's collection may be on: then the count word
 * is set to 0 before each piece, so that the buffer, which is as large for every runtime, never
 * fills.
 *
 * Usage: driver FILE REPEAT off|on
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "zlib.h"

#ifdef COVER
/* Starts to collect PCs of the calling thread into a buffer of that many words. */
unsigned long *cover_on(size_t words);
#endif

#define PIECE (64 << 10)
#define WORDS (1 << 20)

static void die(const char *what)
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
	static unsigned char piece[PIECE];
	volatile unsigned long nobody = 0;
	volatile unsigned long *count = &nobody;
	unsigned long most = 0, sum = 0;
	struct timespec begin, end;
	unsigned char *packed;
	size_t len;

	if (argc != 4)
		die("usage: driver FILE REPEAT off|on");
	packed = read_file(argv[1], &len);
#ifdef COVER
	if (!strcmp(argv[3], "on")) {
		count = cover_on(WORDS);
		if (!count)
			die("cannot collect");
	}
#endif
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &begin);
	for (int i = atoi(argv[2]); i > 0; i--) {
		z_stream stream;
		int status;

		memset(&stream, 0, sizeof(stream));
		stream.next_in = packed;
		stream.avail_in = (uInt)len;
		if (inflateInit(&stream) != Z_OK)
			die("inflateInit");
		do {
			stream.next_out = piece;
			stream.avail_out = PIECE;
			*count = 0;
			status = inflate(&stream, Z_NO_FLUSH);
			if (*count > most)
				most = *count;
			sum += piece[0];
		} while (status == Z_OK);
		if (status != Z_STREAM_END)
			die("inflate");
		inflateEnd(&stream);
	}
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &end);
	if (most >= WORDS - 1)
		die("the buffer was full");
	if (!strcmp(argv[3], "on") != (most > 0))
		die("collection is not as asked");
	printf("%lld %lu %lu\n",
	       (end.tv_sec - begin.tv_sec) * 1000000000LL + (end.tv_nsec - begin.tv_nsec), most, sum);
	return 0;
}
