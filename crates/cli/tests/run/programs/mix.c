// Deterministic code with many paths: a little machine that runs a little random program, in
// several threads, with different seeds.
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

enum { THREADS = 3, LENGTH = 900 };

static unsigned next(unsigned *state)
{
	*state = *state * 1664525 + 1013904223;
	return *state >> 16;
}

static unsigned gcd(unsigned a, unsigned b)
{
	while (b) {
		unsigned rest = a % b;
		a = b;
		b = rest;
	}
	return a;
}

static unsigned ackermann(unsigned m, unsigned n)
{
	if (m == 0)
		return n + 1;
	if (n == 0)
		return ackermann(m - 1, 1);
	return ackermann(m - 1, ackermann(m, n - 1));
}

static int classify(double x)
{
	if (x < 0.25)
		return x < 0.125 ? 1 : 2;
	return x > 0.75 ? 3 : 4;
}

static unsigned step(unsigned op, unsigned a, unsigned b, unsigned *state)
{
	switch (op) {
	case 0: return a + b;
	case 1: return a > b ? a - b : b - a;
	case 2: return gcd(a, b);
	case 3: return a && b ? a * b : a | b;
	case 5: return ackermann(a % 3, b % 4);
	case 8: return classify((next(state) & 1023) / 1024.0);
	case 13: for (unsigned i = 0; i < b % 7; i++)
			if (i & a)
				a ^= i << 3;
		return a;
	case 21: return (a & 1) ? a * 3 + 1 : a / 2;
	case 34: return b == 34 ? 35 : a == 34 ? 36 : 37;
	default: return a ^ b ^ op;
	}
}

static void *run(void *seed)
{
	unsigned state = (unsigned)(long)seed, registers[8] = {1, 2, 3, 4, 5, 6, 7, 8};
	for (int i = 0; i < LENGTH; i++) {
		unsigned op = next(&state) % 36, to = next(&state) % 8, from = next(&state) % 8;
		registers[to] = step(op, registers[to], registers[from], &state);
	}
	return (void *)(long)registers[0];
}

int main(void)
{
	pthread_t threads[THREADS];
	unsigned sum = 0;
	for (long i = 0; i < THREADS; i++)
		pthread_create(threads + i, NULL, run, (void *)(i + 1));
	for (int i = 0; i < THREADS; i++) {
		void *result;
		pthread_join(threads[i], &result);
		sum += (unsigned)(long)result;
	}
	printf("%u\n", sum);
	return 0;
}
