/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* bzip2: packs a part of the file, and unpacks that. */
#include <stdlib.h>
#include "bzlib.h"
#include "work.h"

/* libbz2 is built without stdio, and then wants this. */
void bz_internal_error(int code);
void bz_internal_error(int code)
{
	(void)code;
	die("bzip2");
}

unsigned long work(const unsigned char *bytes, size_t len)
{
	unsigned int size = len < 200000 ? (unsigned int)len : 200000, packed_size = size + 1024;
	char *packed = malloc(packed_size), *unpacked = malloc(size);
	unsigned long sum;

	next_piece();
	if (!packed || !unpacked ||
	    BZ2_bzBuffToBuffCompress(packed, &packed_size, (char *)bytes, size, 9, 0, 0))
		die("BZ2_bzBuffToBuffCompress");
	if (BZ2_bzBuffToBuffDecompress(unpacked, &size, packed, packed_size, 0, 0))
		die("BZ2_bzBuffToBuffDecompress");
	sum = packed_size + (unsigned char)unpacked[size - 1];
	free(packed);
	free(unpacked);
	return sum;
}
