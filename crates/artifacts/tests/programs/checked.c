/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Runs instrumented code and prints the records. Linked with --wrap=__rkcov_hit, it counts what checks
 * call, too.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include "rkcov.h"

int work(int n);

static int fd;
static uint64_t *area;
unsigned long hits;

__asm__(".text\n\t.globl __wrap___rkcov_hit\n__wrap___rkcov_hit:\n\t"
	"adrp x16, hits\n\tldr x17, [x16, :lo12:hits]\n\tadd x17, x17, 1\n\t"
	"str x17, [x16, :lo12:hits]\n\tb __real___rkcov_hit\n");

static void check(int line, int good)
{
	if (!good) {
		printf("line %d\n", line);
		exit(1);
	}
}
#define CHECK(x) check(__LINE__, (x))

enum { WORDS = 1 << 16, BITMAP = 1 << 15 };

static void collect(int unique)
{
	fd = rkcov_open();
	CHECK(fd >= 0 && !rkcov_ioctl(fd, KCOV_INIT_TRACE, WORDS));
	area = rkcov_mmap(NULL, WORDS * sizeof(*area), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	CHECK(area != MAP_FAILED);
	area += unique ? BITMAP : 0;
	CHECK(!(unique ? rkcov_ioctl(fd, KCOV_UNIQUE_ENABLE, BITMAP) : rkcov_ioctl(fd, KCOV_ENABLE, KCOV_TRACE_PC)));
}

/* Since the last time. */
static void print(const char *what)
{
	printf("%s:", what);
	for (uint64_t n = 1; n <= area[0]; n++)
		printf(" %#lx", (unsigned long)area[n]);
	printf("\n");
	area[0] = 0;
}

static void *other(void *unused)
{
	work(9);
	return unused;
}

/* In memory that is not clear. */
static void run_elsewhere(void)
{
	enum { SIZE = 1 << 20 };
	pthread_attr_t attributes;
	pthread_t thread;
	void *stack = aligned_alloc(4096, SIZE);

	CHECK(stack && !pthread_attr_init(&attributes));
	memset(stack, 0xa5, SIZE);
	CHECK(!pthread_attr_setstack(&attributes, stack, SIZE));
	CHECK(!pthread_create(&thread, &attributes, other, NULL) && !pthread_join(thread, NULL));
	free(stack);
}

int main(void)
{
	pthread_t thread;

	work(9);
	run_elsewhere();
	printf("nobody collects: %lu hits\n", hits);

	collect(1);
	work(2);
	work(2);
	print("unique");
	work(9);
	print("more");
	CHECK(!rkcov_ioctl(fd, KCOV_DISABLE, 0));

	collect(0);
	work(2);
	work(2);
	work(9);
	print("trace");
	CHECK(!pthread_create(&thread, NULL, other, NULL) && !pthread_join(thread, NULL));
	work(1);
	print("of one thread");
	CHECK(!rkcov_ioctl(fd, KCOV_DISABLE, 0));
	work(9);
	printf("hits: %lu\n", hits);
	return 0;
}
