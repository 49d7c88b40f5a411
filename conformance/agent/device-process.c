/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The kcov of this process, through rkcov.h, and what only tests ask it. */
#include "agent.h"
#include "rkcov_internal.h"

#include <sys/mman.h>

const char device_facts[] =
	"suspends;exact;"
	"lacks warnings a process has nobody to warn;"
	"lacks failures nothing makes an allocation fail on demand;"
	"lacks strangers processes share a kcov if one was forked from the other after the buffer was made";

void device_begin(void)
{
	/* From here on, those that this one forks belong to its family. */
	rkcov_close(rkcov_open());
}

int device_open(void)
{
	return rkcov_open();
}

int device_ioctl(int fd, unsigned long request, unsigned long argument)
{
	return rkcov_ioctl(fd, request, argument);
}

void *device_map(int fd, size_t bytes, int protection, uint64_t offset)
{
	return rkcov_mmap(NULL, bytes, protection, MAP_SHARED, fd, (off_t)offset);
}

int device_close(int fd)
{
	return rkcov_close(fd);
}

int device_drops(int fd, uint64_t drops[3])
{
	struct rkcov_drops counted;

	if (rkcov_drops(fd, &counted))
		return -1;
	drops[0] = counted.full;
	drops[1] = counted.stale;
	drops[2] = counted.no_area;
	return 0;
}

int device_memory(uint64_t *bytes)
{
	uint64_t handles;

	rkcov_usage(bytes, &handles);
	return 0;
}
