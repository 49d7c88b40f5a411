/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Executes instrumented functions one instruction at a time. After each, the stack must lead through
 * outer() to main(): in the functions, in what stands beside them for their checks, and in rkcov.
 */
#define _GNU_SOURCE
#include <execinfo.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>
#include <unwind.h>

enum { FRAMES = 64, TRAP_FLAG = 0x100 };

extern void __rkcov_hit(void);
int main(int argc, char **argv);
static int outer(int n);

static unsigned long steps, hits;

#ifdef __clang__
#define UNINSTRUMENTED __attribute__((no_sanitize("coverage")))
#else
#define UNINSTRUMENTED __attribute__((no_sanitize_coverage))
#endif

UNINSTRUMENTED static const void *function_of(const void *pc)
{
	return _Unwind_FindEnclosingFunction((char *)pc + 1);
}

UNINSTRUMENTED static void trapped(int signal, siginfo_t *info, void *context)
{
	greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
	const void *at = (const void *)registers[REG_RIP];
	void *frames[FRAMES];
	int n, count = backtrace(frames, FRAMES);

	(void)signal;
	if (info->si_code == SI_KERNEL) {
		registers[REG_EFL] ^= TRAP_FLAG;
		return;
	}
	steps++;
	hits += function_of(at) == (const void *)__rkcov_hit;
	/* The first three at most are this handler, what libc returns to, and the instruction. */
	for (n = 0; n < count; n++)
		if (function_of((char *)frames[n] - 1) == (const void *)outer)
			break;
	while (n < count && function_of((char *)frames[n] - 1) != (const void *)main)
		n++;
	if (n < count)
		return;
	printf("after %lu instructions, at %p, the stack does not lead to main():\n", steps, at);
	fflush(stdout);
	backtrace_symbols_fd(frames, count, 1);
	_Exit(1);
}

/* Begins and ends to execute one instruction at a time. */
static inline void step(void)
{
	__asm__ volatile("int3" ::: "memory");
}

__attribute__((noinline)) static int leaf(int n)
{
	if (n % 3 == 0)
		return n * 5;
	if (n % 3 == 1)
		return n ^ 21;
	return n - 7;
}

__attribute__((noinline)) static int inner(int n)
{
	char room[96];
	int sum = 0;

	memset(room, n, sizeof(room));
	for (int i = 0; i < n; i++) {
		/* Pushes, so the stack has another height there. */
		switch ((room[i % 96] + i) % 4) {
		case 0: sum += leaf(i); break;
		case 1: sum -= leaf(i + 1) + leaf(i + 2); break;
		case 2: sum ^= snprintf(room, sizeof(room), "%d %d %d %d %d %d", i, n, sum, 4, 5, 6); break;
		default: sum++;
		}
	}
	return sum;
}

__attribute__((noinline)) static int outer(int n)
{
	int sum;

	step();
	sum = inner(n);
	step();
	return sum + 1;
}

int main(int argc, char **argv)
{
	struct sigaction action = { .sa_sigaction = trapped, .sa_flags = SA_SIGINFO };
	void *frames[FRAMES];
	int sum;

	(void)argc, (void)argv;
	/* Loads what it needs. */
	backtrace(frames, FRAMES);
	sigaction(SIGTRAP, &action, NULL);
	sum = outer(9);
	printf("%lu %lu\n", steps, hits);
	return sum == 0;
}
