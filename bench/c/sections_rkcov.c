/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Sections of rkcov's runtime. */
#include <stdlib.h>
#include <sys/mman.h>
#include "rkcov.h"
#include "sections.h"

#define WORDS 512

void *client_new(void)
{
	int *fd = malloc(sizeof(*fd));

	if (!fd || (*fd = rkcov_open()) < 0 || rkcov_ioctl(*fd, KCOV_INIT_TRACE, WORDS) ||
	    rkcov_mmap(NULL, WORDS * 8, PROT_READ | PROT_WRITE, MAP_SHARED, *fd, 0) == MAP_FAILED)
		die("no client");
	return fd;
}

void client_enable(void *client, uint64_t first, unsigned int n)
{
	struct kcov_remote_arg *arg = calloc(1, sizeof(*arg) + n * 8);

	if (!arg)
		die("no memory");
	arg->trace_mode = KCOV_TRACE_PC;
	arg->area_size = WORDS;
	arg->num_handles = n;
	for (unsigned int i = 0; i < n; i++)
		arg->handles[i] = first + i;
	if (rkcov_ioctl(*(int *)client, KCOV_REMOTE_ENABLE, (unsigned long)arg))
		die("KCOV_REMOTE_ENABLE");
	free(arg);
}

void client_disable(void *client)
{
	if (rkcov_ioctl(*(int *)client, KCOV_DISABLE, 0))
		die("KCOV_DISABLE");
}

void section_start(uint64_t handle)
{
	kcov_remote_start(handle);
}

void section_stop(void)
{
	kcov_remote_stop();
}
