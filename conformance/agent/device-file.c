/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A kcov that is a file, for programs that were never told of rkcov: Linux's, or what the preload
 * library puts in its place.
 */
#include "agent.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#ifndef DEVICE
#define DEVICE "/sys/kernel/debug/kcov"
#endif

#ifdef PRELOADED
const char device_facts[] =
	"suspends;exact;"
	"lacks warnings a process has nobody to warn;"
	"lacks failures nothing makes an allocation fail on demand;"
	"lacks drops Linux has no call for them;"
	"lacks memory Linux has no call for it;"
	"lacks strangers processes share a kcov if one was forked from the other after the buffer was made";
#else
const char device_facts[] =
	"lacks warnings this agent does not look for them;"
	"lacks failures this agent makes none;"
	"lacks drops this agent does not look for them;"
	"lacks memory this agent does not look for it;"
	"lacks client32 this agent has 64 bits";
#endif

void device_begin(void)
{
#ifdef PRELOADED
	/* From here on, those that this one forks belong to its family. */
	close(device_open());
#endif
}

int device_open(void)
{
	return open(DEVICE, O_RDWR);
}

int device_ioctl(int fd, unsigned long request, unsigned long argument)
{
	return ioctl(fd, request, argument);
}

void *device_map(int fd, size_t bytes, int protection, uint64_t offset)
{
	return mmap(NULL, bytes, protection, MAP_SHARED, fd, (off_t)offset);
}

int device_close(int fd)
{
	return close(fd);
}

int device_drops(int fd, uint64_t drops[3])
{
	(void)fd, (void)drops;
	return -1;
}

int device_memory(uint64_t *bytes)
{
	(void)bytes;
	return -1;
}
