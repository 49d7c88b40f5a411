/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * What sections cost. Prints nanoseconds of processor time of a thousand pairs of a start and a
 * stop, or of one pair of an enable and a disable of 256 handles.
 *
 * Usage: sections pairs HANDLES THREADS: so many handles are registered, and so many threads begin
 *        and end sections, each on a handle of its own as far as there are so many
 *        sections enable HANDLES: so many other handles are registered
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "sections.h"

/* As often as that, or for as long as that, whatever comes first. */
#define PAIRS 400000u
#define ENABLES 200u
#define NANOSECONDS 100000000u
#define FIRST (0x80ull << 56 | 1)
#define MOST_CLIENTS 256

static pthread_barrier_t ready, never;
static unsigned int handles, threads;

int known_to_be_free = 1;

void die(const char *what)
{
	fprintf(stderr, "sections: %s\n", what);
	exit(1);
}

static uint64_t now(void)
{
	struct timespec time;

	if (clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time))
		die("clock_gettime");
	return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

/* A client is one thread's: it listens until all is done. */
static void *listen_all(void *arg)
{
	unsigned int first = (unsigned int)(uintptr_t)arg * HANDLES;
	unsigned int n = handles - first < HANDLES ? handles - first : HANDLES;
	void *client = client_new();

	client_enable(client, FIRST + first, n);
	pthread_barrier_wait(&ready);
	pthread_barrier_wait(&never);
	return NULL;
}

static void *pairs(void *arg)
{
	unsigned int number = (unsigned int)(uintptr_t)arg, n = 0;
	/* Those that are used lie apart from each other. */
	uint64_t handle = FIRST + (uint64_t)number * 7919u % handles, begin, spent;

	/* The first one makes what later ones reuse. */
	section_start(handle);
	section_stop();
	begin = now();
	do {
		for (unsigned int i = 0; i < 100; i++) {
			section_start(handle);
			section_stop();
		}
		n += 100;
		spent = now() - begin;
	} while (n < PAIRS / threads && spent < NANOSECONDS / threads);
	return (void *)(uintptr_t)(spent * 1000u / n);
}

static uint64_t enables(void)
{
	void *client = client_new();
	uint64_t begin, spent;
	unsigned int n = 0;

	client_enable(client, FIRST + (1u << 24), HANDLES);
	client_disable(client);
	begin = now();
	do {
		client_enable(client, FIRST + (1u << 24), HANDLES);
		client_disable(client);
		n++;
		spent = now() - begin;
	} while (n < ENABLES && spent < NANOSECONDS);
	return spent / n;
}

int main(int argc, char **argv)
{
	pthread_t clients[MOST_CLIENTS], *workers;
	unsigned int owners;
	uint64_t sum = 0;

	if (argc < 3)
		die("usage: sections pairs HANDLES THREADS | enable HANDLES");
	handles = (unsigned int)atoi(argv[2]);
	owners = (handles + HANDLES - 1) / HANDLES;
	if (owners > MOST_CLIENTS)
		die("too many handles");
	pthread_barrier_init(&ready, NULL, owners + 1);
	pthread_barrier_init(&never, NULL, owners + 1);
	for (unsigned int i = 0; i < owners; i++)
		if (pthread_create(&clients[i], NULL, listen_all, (void *)(uintptr_t)i))
			die("pthread_create");
	pthread_barrier_wait(&ready);
	known_to_be_free = 0;
	if (!strcmp(argv[1], "enable")) {
		sum = enables();
	} else {
		threads = argc > 3 ? (unsigned int)atoi(argv[3]) : 1;
		workers = calloc(threads, sizeof(*workers));
		for (unsigned int i = 0; i < threads; i++)
			if (pthread_create(&workers[i], NULL, pairs, (void *)(uintptr_t)i))
				die("pthread_create");
		for (unsigned int i = 0; i < threads; i++) {
			void *result;

			pthread_join(workers[i], &result);
			sum += (uintptr_t)result;
		}
		sum /= threads;
	}
	printf("%llu\n", (unsigned long long)sum);
	fflush(stdout);
	/* To disable all those clients takes the one in C longer than all that was measured. */
	_exit(0);
}
