// SPDX-License-Identifier: MIT OR Apache-2.0
// Ways out of C functions, and ways through them that are easily taken for one another.
#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

volatile int sink;
static sem_t asleep;

#define N __attribute__((noinline))

N int wide(int n)
{
	int r;
	switch (n) {
	case 0:
		r = 10;
		break;
	case 1:
		r = 21;
		break;
	case 2:
		r = 32;
		/* fall through */
	case 3:
		r = 43;
		break;
	case 4:
		sink = 2;
		r = 54;
		break;
	case 5:
		r = sink;
		break;
	case 6:
	case 7:
		r = sink + 1;
		break;
	case 8:
		r = 9;
		sink = 4;
		break;
	default:
		r = -1;
	}
	sink = r;
	return r;
}

N int vm(const char *code)
{
	static void *const labels[] = { &&stop, &&inc, &&dec, &&twice, &&bad };
	int acc = 0;
	goto *labels[*code++ - '0'];
inc:
	acc++;
	goto *labels[*code++ - '0'];
dec:
	acc--;
	goto *labels[*code++ - '0'];
twice:
	acc *= 2;
	goto *labels[*code++ - '0'];
bad:
	sink = 99;
	goto *labels[*code++ - '0'];
stop:
	return acc;
}

static void leave(void)
{
	sink = 1;
	pthread_exit(NULL);
}

static void (*volatile indirect)(void) = leave;

N void *worker(void *arg)
{
	(void)arg;
	sink = 2;
	indirect();
	sink = 3;
	return NULL;
}

N void *forever(void *arg)
{
	int *p = arg;
	for (;;) {
		sink++;
		if (*p == 77)
			break;
		sem_post(&asleep);
		sleep(100);
		sink += 2;
	}
	sink = 5;
	return NULL;
}

static sigjmp_buf back;

static void handler(int n)
{
	(void)n;
	siglongjmp(back, 1);
}

N void signalled(void)
{
	sink = 6;
	raise(SIGUSR1);
	sink = 7;
}

N int merged(int a, int b)
{
	int x = 0;
	if (a)
		x = a;
	if (b)
		x += sink;
	else
		x -= sink;
	return x;
}

N int chain(int n)
{
	if (n == 0)
		return 1;
	int rest = chain(n - 1);
	sink = rest;
	return rest + 1;
}

N int shortcut(int a, int b)
{
	if (a && b)
		return 1;
	if (a || b)
		return 2;
	return a ? 3 : 4;
}

static int order(const void *a, const void *b)
{
	return *(const int *)a - *(const int *)b;
}

N void sorted(void)
{
	int all[] = { 3, 1, 2 };
	qsort(all, 3, sizeof *all, order);
	sink = all[0];
}

N void checked(int n)
{
	if (n < 0) {
		fprintf(stderr, "bad %d\n", n);
		abort();
	}
	sink = n;
}

N void quits(int n)
{
	checked(n);
	if (n > 3)
		_exit(n);
	checked(n + 1);
}

static jmp_buf env;

N void jump(int really)
{
	if (really)
		longjmp(env, 1);
	sink++;
}

N int behind(int really)
{
	jump(really);
	sink += 2;
	return sink;
}

N int straight(int a)
{
	sink = a;
	printf("%d\n", a);
	sink = a + 1;
	return wide(a);
}

int main(void)
{
	pthread_t a, b;
	int never = 0;
	if (setjmp(env) == 0) {
		behind(1);
		sink = 3;
	} else {
		sink = 4;
	}
	sink = straight(4);
	wide(1);
	wide(2);
	wide(6);
	wide(100);
	vm("112320");
	pthread_create(&a, NULL, worker, NULL);
	pthread_join(a, NULL);
	pthread_create(&b, NULL, forever, &never);
	signal(SIGUSR1, handler);
	if (sigsetjmp(back, 1) == 0) {
		signalled();
		sink = 8;
	} else {
		sink = 9;
	}
	sink = merged(0, 1);
	chain(3);
	sink = shortcut(1, 0);
	sorted();
	quits(2);
	sem_wait(&asleep);
	quits(2);
	puts("end");
	fflush(stdout);
	exit(0);
	return 0;
}
