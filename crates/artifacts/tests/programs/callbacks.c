/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Calls callbacks by name and counts what becomes of the records by the drop counters alone.
 */
#include <stdio.h>
#include <stdlib.h>
#include "rkcov.h"

void __sanitizer_cov_trace_pc(void);
void __sanitizer_cov_trace_pc_guard(uint32_t *guard);
void __sanitizer_cov_trace_cmp1(uint8_t a, uint8_t b);
void __sanitizer_cov_trace_cmp4(uint32_t a, uint32_t b);
void __sanitizer_cov_trace_switch(uint64_t value, uint64_t *cases);

static void check(int line, int good)
{
	if (!good) {
		printf("line %d\n", line);
		exit(1);
	}
}
#define CHECK(x) check(__LINE__, (x))

static uint64_t full(int fd)
{
	struct rkcov_drops drops;

	CHECK(!rkcov_drops(fd, &drops));
	return drops.full;
}

int main(void)
{
	uint64_t cases[] = { 3, 32, 1, 2, 3 };
	uint32_t guard = 1;
	int fd = rkcov_open();

	CHECK(fd >= 0 && !rkcov_ioctl(fd, KCOV_INIT_TRACE, 6));
	__sanitizer_cov_trace_pc();
	__sanitizer_cov_trace_pc_guard(&guard);
	__sanitizer_cov_trace_cmp4(1, 2);
	CHECK(full(fd) == 0);

	/* Five PCs fit; comparisons are not recorded. */
	CHECK(!rkcov_ioctl(fd, KCOV_ENABLE, KCOV_TRACE_PC));
	for (int i = 0; i < 4; i++) {
		__sanitizer_cov_trace_pc();
		__sanitizer_cov_trace_pc_guard(&guard);
		__sanitizer_cov_trace_cmp1(1, 2);
	}
	CHECK(full(fd) == 3);
	CHECK(!rkcov_ioctl(fd, KCOV_RESET_TRACE, 0));
	__sanitizer_cov_trace_pc();
	CHECK(full(fd) == 3 && !rkcov_ioctl(fd, KCOV_DISABLE, 0));

	/* One comparison fits; PCs are not recorded. */
	CHECK(!rkcov_ioctl(fd, KCOV_ENABLE, KCOV_TRACE_CMP) && !rkcov_ioctl(fd, KCOV_RESET_TRACE, 0));
	__sanitizer_cov_trace_pc();
	__sanitizer_cov_trace_cmp1(1, 2);
	CHECK(full(fd) == 3);
	__sanitizer_cov_trace_cmp4(1, 2);
	__sanitizer_cov_trace_switch(7, cases);
	CHECK(full(fd) == 3 + 1 + 3 && !rkcov_ioctl(fd, KCOV_DISABLE, 0));

	/* Unique: a bitmap of two words, three PCs. A guard counts once, full or not. */
	CHECK(!rkcov_ioctl(fd, KCOV_UNIQUE_ENABLE, 2) && !rkcov_ioctl(fd, KCOV_RESET_TRACE, 0));
	for (int i = 0; i < 9; i++)
		for (guard = 1; guard <= 5; guard++)
			__sanitizer_cov_trace_pc_guard(&guard);
	CHECK(full(fd) == 7 + 2 && !rkcov_ioctl(fd, KCOV_DISABLE, 0));
	puts("all callbacks");
	return 0;
}
