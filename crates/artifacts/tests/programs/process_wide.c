/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A runtime with the interface of rkcov's and one fault: what is recorded is the whole process's,
 * as with the counters of gcov or of a fuzzer. A test of isolation that passes with this one tests
 * nothing.
 */
#include <stdlib.h>
#include <sys/mman.h>
#include "rkcov.h"

#define CLIENTS 4

static unsigned long *buffers[CLIENTS], sizes[CLIENTS];
static int clients, sections;

void __sanitizer_cov_trace_pc(void)
{
	unsigned long pc = (unsigned long)__builtin_return_address(0);

	if (!__atomic_load_n(&sections, __ATOMIC_RELAXED))
		return;
	for (int i = 0; i < clients; i++) {
		unsigned long n = __atomic_add_fetch(buffers[i], 1, __ATOMIC_RELAXED);

		if (n < sizes[i])
			buffers[i][n] = pc;
	}
}

int rkcov_open(void)
{
	return __atomic_fetch_add(&clients, 1, __ATOMIC_RELAXED);
}

int rkcov_ioctl(int fd, unsigned long request, unsigned long argument)
{
	if (request == KCOV_INIT_TRACE) {
		buffers[fd] = calloc(argument, sizeof(**buffers));
		sizes[fd] = argument;
	}
	return 0;
}

void *rkcov_mmap(void *address, size_t length, int protection, int flags, int fd, off_t offset)
{
	(void)address, (void)length, (void)protection, (void)flags, (void)offset;
	return buffers[fd];
}

int rkcov_close(int fd)
{
	return fd < 0;
}

void kcov_remote_start(uint64_t handle)
{
	(void)handle;
	__atomic_fetch_add(&sections, 1, __ATOMIC_RELAXED);
}

void kcov_remote_stop(void)
{
	__atomic_fetch_sub(&sections, 1, __ATOMIC_RELAXED);
}
