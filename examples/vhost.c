/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A client with its own worker thread, which uses the client's common handle. The kernel's vhost
 * workers work this way.
 *
 * Build: rkcov cc -g -no-pie -fno-pie -I crates/artifacts/include -o vhost examples/vhost.c
 * Run:   ./vhost | grep ^0x | addr2line -f -e vhost
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include "rkcov.h"

#define WORDS 4096
#define OUR_HANDLE 0x42

/* The device: each owner has its own worker, which works for this owner only. */
struct worker {
	pthread_t thread;
	uint64_t handle;
	int packets;
};

/* Not inlined: only edges are recorded, and an inlined copy might have no edge. */
__attribute__((noinline)) static void send_packet(int number)
{
	printf("# packet %d\n", number);
}

static void *run(void *argument)
{
	struct worker *worker = argument;

	for (int i = 0; i < worker->packets; i++) {
		kcov_remote_start(worker->handle);
		send_packet(i);
		kcov_remote_stop();
	}
	return NULL;
}

static int start(struct worker *worker, int packets)
{
	/* The caller is the owner: store its common handle for the worker's sections. */
	worker->handle = kcov_common_handle();
	worker->packets = packets;
	return pthread_create(&worker->thread, NULL, run, worker);
}

/* An owner that does not collect: its worker runs the same code, which is not recorded. */
static void *somebody_else(void *argument)
{
	struct worker worker;

	if (!start(&worker, 3))
		pthread_join(worker.thread, NULL);
	return argument;
}

int main(void)
{
	struct kcov_remote_arg argument = {
		.trace_mode = KCOV_TRACE_PC,
		.area_size = WORDS,
	};
	unsigned long *cover, count;
	struct worker worker;
	pthread_t other;
	int fd;

	if (pthread_create(&other, NULL, somebody_else, NULL))
		return 1;
	fd = rkcov_open();
	if (fd < 0)
		return perror("rkcov_open"), 1;
	if (rkcov_ioctl(fd, KCOV_INIT_TRACE, WORDS))
		return perror("KCOV_INIT_TRACE"), 1;
	cover = rkcov_mmap(NULL, WORDS * 8, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (cover == MAP_FAILED)
		return perror("rkcov_mmap"), 1;

	/* Collect from sections with our handle, which this thread carries from now on. */
	argument.common_handle = kcov_remote_handle(KCOV_SUBSYSTEM_COMMON, OUR_HANDLE);
	if (rkcov_ioctl(fd, KCOV_REMOTE_ENABLE, (unsigned long)&argument))
		return perror("KCOV_REMOTE_ENABLE"), 1;

	if (start(&worker, 2))
		return 1;
	pthread_join(worker.thread, NULL);
	pthread_join(other, NULL);

	count = __atomic_load_n(&cover[0], __ATOMIC_ACQUIRE);
	for (unsigned long i = 0; i < count; i++)
		printf("0x%lx\n", cover[i + 1]);
	if (rkcov_ioctl(fd, KCOV_DISABLE, 0))
		return perror("KCOV_DISABLE"), 1;
	munmap(cover, WORDS * 8);
	rkcov_close(fd);
	return 0;
}
