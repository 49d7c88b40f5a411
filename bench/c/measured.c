/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Runs a program and writes into FILE what it and all that it waited for took: nanoseconds of
 * user time, of system time, and from start to end; and KiB of the largest process at its peak. It
 * is small itself, since a process inherits the peak of what it was forked from.
 *
 * Usage: measured FILE PROGRAM ARGUMENT...
 */
#include <stdio.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static long long nanoseconds(struct timeval time)
{
	return (time.tv_sec * 1000000LL + time.tv_usec) * 1000;
}

int main(int argc, char **argv)
{
	struct timespec begin, end;
	struct rusage usage;
	int status;
	pid_t child;
	FILE *file;

	if (argc < 3)
		return 2;
	clock_gettime(CLOCK_MONOTONIC, &begin);
	child = fork();
	if (child == 0) {
		execv(argv[2], argv + 2);
		_exit(127);
	}
	if (child < 0 || wait4(child, &status, 0, &usage) != child)
		return 1;
	clock_gettime(CLOCK_MONOTONIC, &end);
	file = fopen(argv[1], "w");
	if (!file)
		return 1;
	fprintf(file, "%lld %lld %lld %ld\n", nanoseconds(usage.ru_utime), nanoseconds(usage.ru_stime),
		(end.tv_sec - begin.tv_sec) * 1000000000LL + (end.tv_nsec - begin.tv_nsec),
		usage.ru_maxrss);
	if (fclose(file) || !WIFEXITED(status))
		return 1;
	return WEXITSTATUS(status);
}
