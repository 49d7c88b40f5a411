/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A client of a thread that always runs, with one global handle for each instance. The kernel's
 * USB hub thread works this way.
 *
 * Build: rkcov cc -g -no-pie -fno-pie -I crates/artifacts/include -o hub examples/hub.c
 * Run:   ./hub | grep ^0x | addr2line -f -e hub
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include "rkcov.h"

#define WORDS 4096
#define BUSES 2
#define OUR_BUS 1

/* The hub: one thread handles the events of all buses. */
static int events[BUSES];
static int working, stop;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;

/* Not inlined: only edges are recorded, and an inlined copy might have no edge. */
__attribute__((noinline)) static void handle_event(int bus)
{
	printf("# an event of bus %d\n", bus);
}

static void *hub(void *argument)
{
	pthread_mutex_lock(&lock);
	while (!stop) {
		for (int bus = 0; bus < BUSES; bus++) {
			if (!events[bus])
				continue;
			events[bus]--;
			working++;
			pthread_mutex_unlock(&lock);
			/* A section: it is recorded for the client that listens to this bus. */
			kcov_remote_start_usb(bus);
			handle_event(bus);
			kcov_remote_stop();
			pthread_mutex_lock(&lock);
			working--;
			pthread_cond_broadcast(&changed);
		}
		if (!stop && !events[0] && !events[1])
			pthread_cond_wait(&changed, &lock);
	}
	pthread_mutex_unlock(&lock);
	return argument;
}

static void plug_in(int bus)
{
	pthread_mutex_lock(&lock);
	events[bus]++;
	pthread_cond_broadcast(&changed);
	while (events[bus] || working)
		pthread_cond_wait(&changed, &lock);
	pthread_mutex_unlock(&lock);
}

int main(void)
{
	struct kcov_remote_arg *argument;
	unsigned long *cover, count;
	pthread_t thread;
	int fd;

	if (pthread_create(&thread, NULL, hub, NULL))
		return 1;
	fd = rkcov_open();
	if (fd < 0)
		return perror("rkcov_open"), 1;
	if (rkcov_ioctl(fd, KCOV_INIT_TRACE, WORDS))
		return perror("KCOV_INIT_TRACE"), 1;
	cover = rkcov_mmap(NULL, WORDS * 8, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (cover == MAP_FAILED)
		return perror("rkcov_mmap"), 1;

	/* Collect from sections of one bus, in any thread. */
	argument = calloc(1, sizeof(*argument) + sizeof(uint64_t));
	if (!argument)
		return perror("calloc"), 1;
	argument->trace_mode = KCOV_TRACE_PC;
	argument->area_size = WORDS;
	argument->num_handles = 1;
	argument->handles[0] = kcov_remote_handle(KCOV_SUBSYSTEM_USB, OUR_BUS);
	if (rkcov_ioctl(fd, KCOV_REMOTE_ENABLE, (unsigned long)argument))
		return perror("KCOV_REMOTE_ENABLE"), 1;
	free(argument);

	plug_in(0);
	plug_in(OUR_BUS);

	count = __atomic_load_n(&cover[0], __ATOMIC_ACQUIRE);
	for (unsigned long i = 0; i < count; i++)
		printf("0x%lx\n", cover[i + 1]);
	if (rkcov_ioctl(fd, KCOV_DISABLE, 0))
		return perror("KCOV_DISABLE"), 1;
	munmap(cover, WORDS * 8);
	rkcov_close(fd);
	pthread_mutex_lock(&lock);
	stop = 1;
	pthread_cond_broadcast(&changed);
	pthread_mutex_unlock(&lock);
	pthread_join(thread, NULL);
	return 0;
}
