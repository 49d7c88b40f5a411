// SPDX-License-Identifier: MIT OR Apache-2.0
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <errno.h>
#include <sys/mman.h>
#include <rkcov.h>
static int f(int n) { return n * 3; }
static int g(int n) { return n + 3; }
int main(int argc, char **argv)
{
	int fd = rkcov_open(), n;
	unsigned long *b;
	if (rkcov_ioctl(fd, KCOV_INIT_TRACE, 4096))
		return 1;
	b = rkcov_mmap(NULL, 4096 * 8, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (rkcov_ioctl(fd, KCOV_ENABLE, KCOV_TRACE_PC))
		printf("enable: %s\n", strerror(errno));
	b[0] = 0;
	n = f(5);
	printf("f() ran: %d, %lu records\n", n, b[0]);
	if (rkcov_ioctl(fd, KCOV_DISABLE, 0))
		printf("disable: %s\n", strerror(errno));
	return g(n) == 0;
}
