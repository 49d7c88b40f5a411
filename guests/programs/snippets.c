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
#include <linux/random.h>
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
/* Runs of each snippet that do not count: in them the kernel does what it does only once, or the first few times. */
#define WARM_UPS 5
#define STACK (16 * PAGE)
/* The kernel has a node for so many process ids, and gives a processor so many inode numbers at a time. */
#define PID_BLOCK 64
#define INO_BATCH 1024
/* More than the files of one snippet. */
#define MANY 32

static char buffer[4 * PAGE] __attribute__((aligned(PAGE)));
/* The folder of debugfs. To look it up means to look at whatever mount has the same sum of two addresses. */
static int debugfs;
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

/* The last process that was made here. */
static pid_t last_child;

/* Sleeps for ten ticks of the clock and more, until a little after the first one of half a second. */
static void sleep_until_after_tick(void)
{
	const long half = 500000000;
	struct timespec time, tick;
	int ticks = 0;

	clock_gettime(CLOCK_REALTIME_COARSE, &time);
	clock_getres(CLOCK_REALTIME_COARSE, &tick);
	do {
		time.tv_nsec += tick.tv_nsec;
		time.tv_sec += time.tv_nsec / (2 * half);
		time.tv_nsec %= 2 * half;
	} while (++ticks < 10 || time.tv_nsec < half || time.tv_nsec >= half + tick.tv_nsec);
	time.tv_nsec += tick.tv_nsec / 8;
	if (clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, &time, NULL))
		fail("clock_nanosleep");
}

/* Makes processes until the end of a block of ids is far. */
static void place_next_process(void)
{
	while (last_child % PID_BLOCK >= PID_BLOCK - 10) {
		last_child = fork();
		if (last_child == -1)
			fail("fork");
		if (!last_child)
			_exit(0);
		waitpid(last_child, NULL, 0);
	}
}

/* Makes inodes until the end of a processor's numbers for them is far. */
static void place_next_inode(void)
{
	for (;;) {
		struct stat status;
		int p[2];

		if (pipe(p) || fstat(p[0], &status))
			fail("pipe");
		close(p[0]);
		close(p[1]);
		/* A batch ends with a multiple of its size. */
		if ((status.st_ino - 1) % INO_BATCH < INO_BATCH - 100)
			return;
	}
}

/*
 * Makes and removes files, at another part of a second than that at which runs begin. Linux 7.3 compares the time that
 * it finds in the memory of a new file with the time that it sets. So that is never a file's of the last run.
 */
static void make_files(void)
{
	const struct timespec some_ticks = { .tv_nsec = 50000000 };
	int files[MANY];

	nanosleep(&some_ticks, NULL);
	for (int i = 0; i < MANY; i++)
		if ((files[i] = memfd_create("file", 0)) == -1)
			fail("memfd_create");
	for (int i = 0; i < MANY; i++)
		close(files[i]);
}

/*
 * Brings to the same place what goes on from one run to the next: work that was left for later, which is done when
 * nothing else is; the clock that files take their times from, so that a tick is over and the next one far; the
 * kernel's stores of random numbers, which are empty after it was told to seed them anew; and counters.
 */
static void settle(void)
{
	static int random = -1;

	if (random == -1)
		random = open("/dev/urandom", O_RDONLY);
	place_next_process();
	make_files();
	place_next_inode();
	sleep_until_after_tick();
	if (ioctl(random, RNDRESEEDCRNG))
		fail("RNDRESEEDCRNG");
}

/* Has the pages of this process at hand, as its own, and the processor's lists of new pages emptied. */
static void touch_all(void)
{
	extern char __data_start[], _end[];
	volatile char stack[STACK];

	for (volatile char *data = __data_start; data < _end; data += PAGE)
		*data = *data;
	for (size_t i = 0; i < sizeof(stack); i += PAGE)
		stack[i] = 0;
	munmap(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), PAGE);
}

/* Memory that children do not have. */
static void *map(size_t bytes, int flags, int file)
{
	void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, flags, file, 0);

	if (memory == MAP_FAILED || madvise(memory, bytes, MADV_DONTFORK))
		fail("memory");
	return memory;
}

/* One run in a child. Answers how many different PCs are behind the count. */
static size_t run(const struct snippet *snippet, int kcov, unsigned long *words)
{
	int status;

	fflush(stdout);
	settle();
	words[0] = 0;
	last_child = fork();
	if (last_child == -1)
		fail("fork");
	if (!last_child) {
		alarm(60);
		touch_all();
		if (ioctl(kcov, KCOV_ENABLE, KCOV_TRACE_PC))
			fail("KCOV_ENABLE");
		snippet->run();
		if (ioctl(kcov, KCOV_DISABLE, 0))
			fail("KCOV_DISABLE");
		_exit(0);
	}
	if (waitpid(last_child, &status, 0) != last_child || status) {
		fprintf(stderr, "%s ended with status %#x\n", snippet->name, status);
		exit(1);
	}
	if (words[0] >= WORDS - 1) {
		fprintf(stderr, "%s has more PCs than there is room\n", snippet->name);
		exit(1);
	}
	return unique(words + 1, words[0]);
}

/* Who knows the part of a second of one clock then knows that of the others. */
static void set_clock(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	time.tv_sec += 1767225600 + (time.tv_nsec + 250000000) / 1000000000;
	time.tv_nsec = (time.tv_nsec + 250000000) % 1000000000;
	if (clock_settime(CLOCK_REALTIME, &time))
		fail("clock_settime");
}

static void write_to(const char *name, const char *text)
{
	int fd = open(name, O_WRONLY);

	if (fd == -1 || write(fd, text, strlen(text)) == -1)
		fail(name);
	close(fd);
}

int main(int argc, char **argv)
{
	int runs = argc > 1 ? atoi(argv[1]) : 20;
	int kcov = open("/sys/kernel/debug/kcov", O_RDWR);
	size_t bytes = WORDS * sizeof(unsigned long);
	unsigned long *words, *all = map(bytes, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	unsigned long *any = map(2 * bytes, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	const struct sched_param real_time = { .sched_priority = 1 };
	cpu_set_t first;

	debugfs = open("/sys/kernel/debug", O_PATH);
	set_clock();
	/* On one processor there is less that another could have done first. */
	CPU_ZERO(&first);
	CPU_SET(0, &first);
	sched_setaffinity(0, sizeof(first), &first);
	/* What the kernel does in tasks of its own waits until this one sleeps, and nobody sees to it that it has a share. */
	write_to("/proc/sys/kernel/sched_rt_runtime_us", "-1");
	write_to("/sys/kernel/debug/sched/fair_server/cpu0/runtime", "0");
	if (sched_setscheduler(0, SCHED_FIFO, &real_time))
		fail("sched_setscheduler");
	if (debugfs == -1 || kcov == -1 || ioctl(kcov, KCOV_INIT_TRACE, WORDS))
		fail("kcov");
	words = map(bytes, MAP_SHARED, kcov);
	for (size_t s = 0; s < sizeof(snippets) / sizeof(*snippets); s++) {
		size_t all_count, any_count;

		for (int i = 0; i < WARM_UPS; i++)
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
