// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * A client of its own kcov, in the language that C and C++ share: it collects what another thread
 * does on its behalf. Exits with 0 if that is all there, and nothing where it collects nothing.
 */
#include <pthread.h>
#include <rkcov.h>
#include <stdio.h>
#include <sys/mman.h>

#define WORDS 4096

static volatile int done;

__attribute__((noinline)) static void work(int times)
{
	for (int i = 0; i < times; i++)
		done++;
}

static void *worker(void *argument)
{
	/* Inherited: nobody passes it along. */
	kcov_remote_start(kcov_common_handle());
	work(10);
	kcov_remote_stop();
	return argument;
}

static int in_a_thread(void)
{
	pthread_t thread;

	return pthread_create(&thread, NULL, worker, NULL) || pthread_join(thread, NULL);
}

int main(void)
{
	struct kcov_remote_arg argument = {};
	int fd = rkcov_open();
	void *memory;
	uint64_t *words, before;

	if (fd < 0 || rkcov_ioctl(fd, KCOV_INIT_TRACE, WORDS)) {
		perror("open");
		return 1;
	}
	memory = rkcov_mmap(NULL, WORDS * 8, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (memory == MAP_FAILED) {
		perror("map");
		return 1;
	}
	words = (uint64_t *)memory;
	argument.trace_mode = KCOV_TRACE_PC;
	argument.area_size = WORDS;
	argument.common_handle = 7;
	if (rkcov_ioctl(fd, KCOV_REMOTE_ENABLE, (unsigned long)&argument)) {
		perror("enable");
		return 1;
	}
	if (in_a_thread())
		return 1;
	before = __atomic_load_n(words, __ATOMIC_ACQUIRE);
	if (rkcov_ioctl(fd, KCOV_DISABLE, 0) || in_a_thread())
		return 1;
	printf("%llu PCs\n", (unsigned long long)before);
	if (before < 10 || words[0] != before)
		return 2;
	return rkcov_close(fd) != 0;
}
