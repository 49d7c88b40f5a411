/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* One walk through the device: local, remote, inherited, forked, killed, closed. */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
#include "rkcov_internal.h"

#define HANDLE (RKCOV_SUBSYSTEM_USER | 1)
#define WORDS 1024

#define CHECK(x)                                                                                  \
	do {                                                                                      \
		if (!(x)) {                                                                       \
			fprintf(stderr, "line %d: %s (errno %d)\n", __LINE__, #x, errno);         \
			exit(1);                                                                  \
		}                                                                                 \
	} while (0)
#define FAILS(x, error) CHECK((x) == -1 && errno == (error))

static volatile int sink;

__attribute__((noinline)) static void work(int n)
{
	for (int i = 0; i < n; i++)
		sink += i;
}

static void section(uint64_t handle, int n)
{
	kcov_remote_start(handle);
	work(n);
	kcov_remote_stop();
}

static void *on_behalf(void *argument)
{
	section(kcov_common_handle(), 3);
	return argument;
}

static int wait_for(pid_t child)
{
	int status;

	CHECK(waitpid(child, &status, 0) == child);
	return status;
}

int main(void)
{
	struct {
		struct kcov_remote_arg head;
		uint64_t handles[1];
	} remote = { .head = { .area_size = WORDS, .num_handles = 1, .common_handle = 7 },
		     .handles = { 0 } };
	unsigned long argument = (unsigned long)&remote;
	struct rkcov_drops drops;
	uint64_t bytes, handles, bytes_now;
	unsigned long *cover, count;
	pthread_t thread;
	pid_t child;
	int fd, copy;

	remote.head.handles[0] = HANDLE;
	fd = rkcov_open();
	CHECK(fd >= 0 && rkcov_is_kcov(fd) && !rkcov_is_kcov(0));
	FAILS(rkcov_ioctl(fd, KCOV_ENABLE, 0), EINVAL);
	CHECK(rkcov_mmap(NULL, WORDS * 8, PROT_READ, MAP_SHARED, fd, 0) == MAP_FAILED);
	FAILS(rkcov_ioctl(fd, KCOV_INIT_TRACE, 1), EINVAL);
	CHECK(!rkcov_ioctl(fd, KCOV_INIT_TRACE, WORDS));
	FAILS(rkcov_ioctl(fd, KCOV_INIT_TRACE, WORDS), EBUSY);
	FAILS(rkcov_ioctl(fd, 1, 0), ENOTTY);
	FAILS(rkcov_ioctl(0, KCOV_ENABLE, 0), EBADF);
	CHECK(rkcov_mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0) == MAP_FAILED);

	/* A buffer that is no whole number of pages is mapped by its own length, rounded up or not. */
	copy = rkcov_open();
	CHECK(copy >= 0 && !rkcov_ioctl(copy, KCOV_INIT_TRACE, 513));
	cover = rkcov_mmap(NULL, 513 * 8, PROT_READ, MAP_SHARED, copy, 0);
	CHECK(cover != MAP_FAILED && !munmap(cover, 513 * 8));
	cover = rkcov_mmap(NULL, 8192, PROT_READ, MAP_SHARED, copy, 0);
	CHECK(cover != MAP_FAILED && !munmap(cover, 8192));
	CHECK(rkcov_mmap(NULL, 4096, PROT_READ, MAP_SHARED, copy, 0) == MAP_FAILED);
	CHECK(rkcov_mmap(NULL, SIZE_MAX, PROT_READ, MAP_SHARED, copy, 0) == MAP_FAILED);
	CHECK(!rkcov_close(copy));
	cover = rkcov_mmap(NULL, WORDS * 8, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	CHECK(cover != MAP_FAILED);

	/* From the calling thread. */
	CHECK(!rkcov_ioctl(fd, KCOV_ENABLE, KCOV_TRACE_PC));
	cover[0] = 0;
	work(5);
	count = cover[0];
	CHECK(count > 5);
	CHECK(!rkcov_ioctl(fd, KCOV_RESET_TRACE, 0) && cover[0] < 5);
	CHECK(!rkcov_ioctl(fd, KCOV_DISABLE, 0));
	count = cover[0];
	work(5);
	CHECK(cover[0] == count);

	/* From sections: a thread and a forked child inherit the common handle. */
	cover[0] = 0;
	CHECK(!rkcov_ioctl(fd, KCOV_REMOTE_ENABLE, argument));
	CHECK(!pthread_create(&thread, NULL, on_behalf, NULL) && !pthread_join(thread, NULL));
	count = cover[0];
	CHECK(count > 3);
	child = fork();
	if (!child) {
		CHECK(kcov_common_handle() == 7);
		FAILS(rkcov_ioctl(fd, KCOV_DISABLE, 0), EINVAL);
		section(HANDLE, 2);
		_exit(0);
	}
	CHECK(wait_for(child) == 0 && cover[0] > count);
	count = cover[0];
	section(HANDLE + 1, 9);
	CHECK(cover[0] == count);
	CHECK(!rkcov_ioctl(fd, KCOV_DISABLE, 0) && !kcov_common_handle());

	/* A child that is killed while it collects, or ends without a word, leaves nothing taken. */
	for (int killed = 0; killed < 2; killed++) {
		child = fork();
		if (!child) {
			CHECK(!rkcov_ioctl(fd, KCOV_REMOTE_ENABLE, argument));
			if (killed)
				raise(SIGKILL);
			_exit(0);
		}
		wait_for(child);
		CHECK(!rkcov_ioctl(fd, KCOV_REMOTE_ENABLE, argument));
		CHECK(!rkcov_ioctl(fd, KCOV_DISABLE, 0));
	}

	/* Arguments that are not there; a full buffer is counted. */
	FAILS(rkcov_ioctl(fd, KCOV_REMOTE_ENABLE, 8), EFAULT);
	CHECK(!rkcov_drops(fd, &drops) && !drops.full && !drops.stale);
	CHECK(!rkcov_ioctl(fd, KCOV_ENABLE, KCOV_TRACE_PC));
	cover[0] = WORDS - 1;
	work(4);
	CHECK(!rkcov_ioctl(fd, KCOV_DISABLE, 0));
	CHECK(!rkcov_drops(fd, &drops) && drops.full >= 4 && cover[0] == WORDS - 1);

	/* The buffer outlives the file; the file lives as long as a copy of it. */
	copy = dup(fd);
	CHECK(!rkcov_close(fd));
	FAILS(rkcov_ioctl(fd, KCOV_DISABLE, 0), EBADF);
	CHECK(!rkcov_ioctl(copy, KCOV_ENABLE, 0) && !rkcov_ioctl(copy, KCOV_DISABLE, 0));
	CHECK(!rkcov_close(copy));
	CHECK(cover[1] != 0);
	CHECK(!munmap(cover, WORDS * 8));

	/* Ten thousand rounds leave nothing behind, whoever else has copies meanwhile. */
	rkcov_usage(&bytes, &handles);
	for (int round = 0; round < 10000; round++) {
		fd = rkcov_open();
		CHECK(fd >= 0 && !rkcov_ioctl(fd, KCOV_INIT_TRACE, WORDS));
		CHECK(!rkcov_ioctl(fd, KCOV_REMOTE_ENABLE, argument));
		section(7, 1);
		if (round % 100 == 0) {
			child = fork();
			if (!child) {
				CHECK(rkcov_open() >= 0);
				raise(SIGKILL);
			}
			wait_for(child);
		}
		CHECK(!rkcov_ioctl(fd, KCOV_DISABLE, 0) && !rkcov_close(fd));
	}
	/* What the killed children had open is found at the next opens. */
	for (int round = 0; round < 100; round++) {
		fd = rkcov_open();
		CHECK(fd >= 0 && !rkcov_close(fd));
	}
	rkcov_usage(&bytes_now, &handles);
	if (bytes_now > bytes + 64 * 1024 || handles)
		fprintf(stderr, "%llu bytes grew to %llu, %llu handles\n",
			(unsigned long long)bytes, (unsigned long long)bytes_now,
			(unsigned long long)handles);
	CHECK(bytes_now <= bytes + 64 * 1024 && !handles);
	return 0;
}
