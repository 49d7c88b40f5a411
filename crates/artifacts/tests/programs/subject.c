/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* What the programs of Linux's documentation collect from, in place of a kernel: a read() that is
 * instrumented, and threads with sections. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include "rkcov.h"

static volatile unsigned long sink;

__attribute__((noinline)) static int is_bad_file(int fd)
{
	if (fd == (int)0x87654321)
		sink++;
	return fd < 0;
}

ssize_t read(int fd, void *buffer, size_t count)
{
	if (count == 0x12345678)
		sink++;
	if (is_bad_file(fd)) {
		errno = EBADF;
		return -1;
	}
	return buffer ? 0 : -1;
}

/* What runs in a section of each handle. */
__attribute__((noinline)) static void hub_event(void)
{
	sink++;
}

__attribute__((noinline)) static void hub_event_of_another_bus(void)
{
	sink++;
}

__attribute__((noinline)) static void vhost_worker(void)
{
	sink++;
}

__attribute__((noinline)) static void vhost_worker_of_another_client(void)
{
	sink++;
}

__attribute__((noinline)) static void outside_of_sections(void)
{
	sink++;
}

static void *hub_thread(void *argument)
{
	for (;;) {
		kcov_remote_start_usb(1);
		hub_event();
		kcov_remote_stop();
		outside_of_sections();
		kcov_remote_start_usb(2);
		hub_event_of_another_bus();
		kcov_remote_stop();
		usleep(100 * 1000);
	}
	return argument;
}

static void *vhost_thread(void *argument)
{
	for (;;) {
		kcov_remote_start_common(0x42);
		vhost_worker();
		kcov_remote_stop();
		outside_of_sections();
		kcov_remote_start_common(0x43);
		vhost_worker_of_another_client();
		kcov_remote_stop();
		usleep(100 * 1000);
	}
	return argument;
}

__attribute__((constructor)) static void start(void)
{
	const char *path = getenv("SUBJECT_BIAS");
	pthread_t thread;
	Dl_info info;
	FILE *file;

	if (!path || !dladdr((void *)start, &info))
		return;
	file = fopen(path, "w");
	if (!file)
		abort();
	fprintf(file, "%p\n", info.dli_fbase);
	fclose(file);
	if (pthread_create(&thread, NULL, hub_thread, NULL) ||
	    pthread_create(&thread, NULL, vhost_thread, NULL))
		abort();
}
