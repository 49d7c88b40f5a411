// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * System calls, a few at a time, each few with the kernel's coverage of many runs.
 *
 * usage: snippets RUNS
 *
 * Every run is a child of its own, which records itself, so that no run sees what another left. For
 * each snippet one line is printed: its name, how many different PCs any of its runs had, and the
 * PCs that all of its runs had.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/futex.h>
#include <linux/if_tun.h>
#include <linux/kcov.h>
#include <linux/membarrier.h>
#include <linux/netlink.h>
#include <mqueue.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/msg.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/sendfile.h>
#include <sys/shm.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <sys/times.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#define WORDS (1 << 17)
#define PAGE 4096

static char buffer[4 * PAGE] __attribute__((aligned(PAGE)));
static char path[] = "/tmp/file", other[] = "/tmp/other", folder[] = "/tmp/folder";

static int file(void)
{
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);

	write(fd, buffer, 100);
	return fd;
}

static void done(int fd)
{
	close(fd);
	unlink(path);
}

static void handler(int number)
{
	(void)number;
}

static int unix_pair(int type, int *fds)
{
	return socketpair(AF_UNIX, type, 0, fds);
}

static struct sockaddr_in loopback(int port)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(port) };

	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	return address;
}

static int bound(int type, struct sockaddr_in *address)
{
	socklen_t size = sizeof(*address);
	int fd = socket(AF_INET, type, 0);

	*address = loopback(0);
	bind(fd, (void *)address, size);
	getsockname(fd, (void *)address, &size);
	return fd;
}

static void nothing(void)
{
}

static void wait_all(void)
{
	while (wait(NULL) > 0)
		nothing();
}

static long futex(unsigned *word, int operation, unsigned value)
{
	return syscall(SYS_futex, word, operation, value, NULL, NULL, 0);
}

static void read_all(const char *name)
{
	int fd = open(name, O_RDONLY);

	while (read(fd, buffer, PAGE) > 0)
		nothing();
	close(fd);
}

struct snippet {
	const char *name;
	void (*run)(void);
};

#define S(name, ...) \
	static void snippet_##name(void) { __VA_ARGS__; }
#include "table.h"
#undef S

static const struct snippet snippets[] = {
#define S(name, ...) { #name, snippet_##name },
#include "table.h"
#undef S
};

static int ascending(const void *a, const void *b)
{
	unsigned long x = *(const unsigned long *)a, y = *(const unsigned long *)b;

	return x < y ? -1 : x > y;
}

/* Sorts, and leaves each only once. */
static size_t unique(unsigned long *pcs, size_t count)
{
	size_t kept = 0;

	qsort(pcs, count, sizeof(*pcs), ascending);
	for (size_t i = 0; i < count; i++)
		if (!kept || pcs[kept - 1] != pcs[i])
			pcs[kept++] = pcs[i];
	return kept;
}

static size_t both(unsigned long *a, size_t count, const unsigned long *b, size_t other_count)
{
	size_t kept = 0;

	for (size_t i = 0, j = 0; i < count && j < other_count;) {
		if (a[i] == b[j])
			a[kept++] = a[i];
		if (a[i] < b[j])
			i++;
		else if (a[i] > b[j])
			j++;
		else
			i++, j++;
	}
	return kept;
}

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

/* One run in a child. Answers how many different PCs are behind the count. */
static size_t run(const struct snippet *snippet, int kcov, unsigned long *words)
{
	int status;
	pid_t child;

	words[0] = 0;
	fflush(stdout);
	child = fork();
	if (child == -1)
		fail("fork");
	if (!child) {
		alarm(60);
		if (ioctl(kcov, KCOV_ENABLE, KCOV_TRACE_PC))
			fail("KCOV_ENABLE");
		snippet->run();
		if (ioctl(kcov, KCOV_DISABLE, 0))
			fail("KCOV_DISABLE");
		_exit(0);
	}
	if (waitpid(child, &status, 0) != child || status) {
		fprintf(stderr, "%s ended with status %#x\n", snippet->name, status);
		exit(1);
	}
	if (words[0] >= WORDS - 1) {
		fprintf(stderr, "%s has more PCs than there is room\n", snippet->name);
		exit(1);
	}
	return unique(words + 1, words[0]);
}

int main(int argc, char **argv)
{
	int runs = argc > 1 ? atoi(argv[1]) : 20;
	int kcov = open("/sys/kernel/debug/kcov", O_RDWR);
	size_t bytes = WORDS * sizeof(unsigned long);
	unsigned long *words, *all = malloc(bytes), *any = malloc(2 * bytes);
	cpu_set_t first;

	/* On one processor there is less that another could have done first. */
	CPU_ZERO(&first);
	CPU_SET(0, &first);
	sched_setaffinity(0, sizeof(first), &first);
	if (kcov == -1 || ioctl(kcov, KCOV_INIT_TRACE, WORDS))
		fail("kcov");
	words = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, kcov, 0);
	if (words == MAP_FAILED)
		fail("mmap");
	for (size_t s = 0; s < sizeof(snippets) / sizeof(*snippets); s++) {
		size_t all_count, any_count;

		/* What the kernel does only once. */
		run(&snippets[s], kcov, words);
		all_count = any_count = run(&snippets[s], kcov, words);
		memcpy(all, words + 1, all_count * sizeof(*all));
		memcpy(any, words + 1, any_count * sizeof(*any));
		for (int i = 1; i < runs; i++) {
			size_t count = run(&snippets[s], kcov, words);

			all_count = both(all, all_count, words + 1, count);
			memcpy(any + any_count, words + 1, count * sizeof(*any));
			any_count = unique(any, any_count + count);
		}
		printf("%s %zu", snippets[s].name, any_count);
		for (size_t i = 0; i < all_count; i++)
			printf(" %lx", all[i]);
		putchar('\n');
	}
	return 0;
}
