/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Collection by rkcov's device. */
#include <sys/mman.h>
#include "rkcov.h"

unsigned long *cover_on(size_t words)
{
	int fd = rkcov_open();
	unsigned long *cover;

	if (fd < 0 || rkcov_ioctl(fd, KCOV_INIT_TRACE, words))
		return NULL;
	cover = rkcov_mmap(NULL, words * 8, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (cover == MAP_FAILED || rkcov_ioctl(fd, KCOV_ENABLE, KCOV_TRACE_PC))
		return NULL;
	return cover;
}
