/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* zlib: inflates in pieces of 64 KiB. */
#include <string.h>
#include "work.h"
#include "zlib.h"

#define PIECE (64 << 10)

unsigned long work(const unsigned char *bytes, size_t len)
{
	static unsigned char piece[PIECE];
	unsigned long sum = 0;
	z_stream stream;
	int status;

	memset(&stream, 0, sizeof(stream));
	stream.next_in = (unsigned char *)bytes;
	stream.avail_in = (uInt)len;
	if (inflateInit(&stream) != Z_OK)
		die("inflateInit");
	do {
		stream.next_out = piece;
		stream.avail_out = PIECE;
		next_piece();
		status = inflate(&stream, Z_NO_FLUSH);
		sum += piece[0];
	} while (status == Z_OK);
	if (status != Z_STREAM_END)
		die("inflate");
	inflateEnd(&stream);
	return sum;
}
