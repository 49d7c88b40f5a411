/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A program that knows Linux's kcov only: every way to get, copy and lose its files. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <linux/kcov.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
#include "work.h"

#define PATH "/sys/kernel/debug/kcov"
#define WORDS 1024
#define BYTES (WORDS * sizeof(unsigned long))

static void *map(int fd)
{
	return mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
}

/* What work(5) records through fd. */
static unsigned long collect(int fd, unsigned long *cover)
{
	unsigned long count;

	CHECK(!ioctl(fd, KCOV_ENABLE, KCOV_TRACE_PC));
	__atomic_store_n(&cover[0], 0, __ATOMIC_RELAXED);
	work(5);
	count = __atomic_load_n(&cover[0], __ATOMIC_RELAXED);
	CHECK(!ioctl(fd, KCOV_DISABLE, 0));
	return count;
}

/* Bytes that the runtime holds: what the program itself need not know. */
static unsigned long held(void)
{
	void (*usage)(unsigned long *, unsigned long *);
	unsigned long bytes, handles;

	usage = (void (*)(unsigned long *, unsigned long *))dlsym(RTLD_DEFAULT, "rkcov_usage");
	CHECK(usage);
	usage(&bytes, &handles);
	return bytes;
}

static int open_initialised(void)
{
	int fd = open(PATH, O_RDWR);

	CHECK(fd >= 0 && !ioctl(fd, KCOV_INIT_TRACE, WORDS));
	return fd;
}

/* All other files stay what they are. */
static void others(void)
{
	const char *volatile nothing = NULL;
	char text[8] = "";
	int fd, pair[2];
	void *page;

	FAILS(open(PATH "x", O_RDONLY), ENOENT);
	FAILS(open("/sys/kernel/debug/kco\x01", O_RDONLY), ENOENT);
	FAILS(open(nothing, O_RDONLY), EFAULT);
	FAILS(ioctl(-1, KCOV_ENABLE, 0), EBADF);
	FAILS(close(-1), EBADF);
	fd = open("work.tmp", O_RDWR | O_CREAT | O_TRUNC, 0640);
	CHECK(fd >= 0 && !unlink("work.tmp") && write(fd, "hello", 5) == 5);
	FAILS(ioctl(fd, KCOV_INIT_TRACE, WORDS), ENOTTY);
	page = mmap(NULL, 5, PROT_READ, MAP_PRIVATE, fd, 0);
	CHECK(page != MAP_FAILED && !memcmp(page, "hello", 5) && !munmap(page, 5));
	page = mmap(NULL, BYTES, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(page != MAP_FAILED && !munmap(page, BYTES));
	CHECK(!pipe(pair) && dup2(fd, pair[0]) == pair[0] && dup3(fd, pair[1], O_CLOEXEC) == pair[1]);
	CHECK(pread(pair[0], text, 5, 0) == 5 && !strcmp(text, "hello"));
	errno = 77;
	CHECK(!close(pair[0]) && !close(pair[1]) && !close(fd) && errno == 77);
	FAILS(close(fd), EBADF);
}

int main(void)
{
	volatile int flags = O_RDWR;
	unsigned long *cover, *again, before;
	int fd, copy, other, status;
	pid_t child;

	others();

	/* Every way to open one; the numbers of files are handed out as ever. */
	fd = open(PATH, flags);
	CHECK(fd == 3 && !close(fd));
	fd = openat(AT_FDCWD, PATH, flags);
	CHECK(fd == 3 && !close(fd));
	fd = open64(PATH, flags);
	CHECK(fd == 3 && !close(fd));
	fd = openat64(99, PATH, flags | O_CLOEXEC);
	CHECK(fd == 3 && !close(fd));
	FAILS(close(fd), EBADF);

	/* It answers as the kernel's does. */
	fd = open(PATH, O_RDWR);
	FAILS(ioctl(fd, KCOV_ENABLE, KCOV_TRACE_PC), EINVAL);
	CHECK(map(fd) == MAP_FAILED && errno == EINVAL);
	FAILS(ioctl(fd, KCOV_INIT_TRACE, 1), EINVAL);
	CHECK(!ioctl(fd, KCOV_INIT_TRACE, WORDS));
	FAILS(ioctl(fd, KCOV_INIT_TRACE, WORDS), EBUSY);
	FAILS(ioctl(fd, _IO('c', 99), 0), ENOTTY);
	FAILS(ioctl(fd, TCGETS, &status), ENOTTY);
	cover = map(fd);
	again = map(fd);
	CHECK(cover != MAP_FAILED && again != MAP_FAILED && cover != again);
	CHECK(collect(fd, cover) >= 5 && again[0] == cover[0]);

	/* Every way to copy one: any copy will do, until the last is closed. */
	copy = dup(fd);
	CHECK(collect(copy, cover) >= 5 && !close(fd) && collect(copy, cover) >= 5);
	fd = fcntl(copy, F_DUPFD, 20);
	CHECK(fd >= 20 && !close(copy) && collect(fd, cover) >= 5);
	copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	CHECK(dup2(copy, fd) == fd && dup2(fd, fd) == fd && collect(fd, cover) >= 5);
	CHECK(dup3(fd, 40, O_CLOEXEC) == 40 && !close(fd) && !close(copy));
	CHECK(collect(40, cover) >= 5);

	/* A copy over another kcov closes that one, and gives back what it held. */
	before = held();
	other = open_initialised();
	CHECK(held() > before && dup2(40, other) == other && held() == before && !close(other));
	other = open_initialised();
	CHECK(held() > before && dup3(40, other, O_CLOEXEC) == other && held() == before && !close(other));
	other = open_initialised();
	CHECK(!ioctl(other, KCOV_ENABLE, KCOV_TRACE_PC));
	CHECK(dup2(40, other) == other);
	FAILS(ioctl(other, KCOV_INIT_TRACE, WORDS), EBUSY);
	CHECK(!close(40));
	FAILS(ioctl(40, KCOV_DISABLE, 0), EBADF);

	/* Closed while it collects, it collects on, as in Linux: the task has the descriptor. */
	CHECK(!close(other));
	fd = open_initialised();
	FAILS(ioctl(fd, KCOV_ENABLE, KCOV_TRACE_PC), EBUSY);
	CHECK(!munmap(cover, BYTES) && !munmap(again, BYTES));

	/* A child has no descriptor that collects from it; it uses its parent's. */
	cover = map(fd);
	child = fork();
	if (!child) {
		CHECK(collect(fd, cover) >= 5);
		CHECK(!close_range(3, ~0U, 0));
		FAILS(ioctl(fd, KCOV_DISABLE, 0), EBADF);
		fd = open_initialised();
		CHECK(fd == 3 && !close(fd));
		closefrom(3);
		for (fd = 3; fd < 1024; fd++)
			close(fd);
		fd = open_initialised();
		cover = map(fd);
		CHECK(fd == 3 && collect(fd, cover) >= 5);
		exit(0);
	}
	CHECK(waitpid(child, &status, 0) == child && status == 0);
	CHECK(cover[0] >= 5);

	/* An ordinary program that is run sees nothing of it. */
	CHECK(system("test ! -e /proc/self/fd/3") == 0);
	return 0;
}
