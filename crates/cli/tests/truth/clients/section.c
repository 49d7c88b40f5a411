// SPDX-License-Identifier: MIT OR Apache-2.0
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <rkcov.h>

static int in_section(int n)
{
	return n * 3;
}

static void *server(void *arg)
{
	int n;

	kcov_remote_start(RKCOV_SUBSYSTEM_USER | 7);
	n = in_section(5);
	kcov_remote_stop();
	printf("in_section() ran: %d\n", n);
	return arg;
}

int main(int argc, char **argv)
{
	struct kcov_remote_arg *a = calloc(1, sizeof(*a) + 8);
	int fd = rkcov_open();
	pthread_t t;

	a->trace_mode = KCOV_TRACE_PC;
	a->area_size = 1024;
	a->num_handles = 1;
	a->handles[0] = RKCOV_SUBSYSTEM_USER | 7;
	if (rkcov_ioctl(fd, KCOV_INIT_TRACE, 4096))
		return 1;
	if (argc > 1 && rkcov_ioctl(fd, KCOV_REMOTE_ENABLE, (unsigned long)a))
		return 2;
	pthread_create(&t, NULL, server, NULL);
	pthread_join(t, NULL);
	return 0;
}
