/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Two clients on one pool of four workers. Both have the pool run the same functions, with other
 * inputs, at the same time: barriers inside the sections hold all workers, and a thread that works
 * for nobody, between the same points. Each client's set of PCs must be what it is when the client
 * is alone, in every round.
 *
 * Usage: isolation ROUNDS. Exit status 0 if the clients were isolated, 3 if not.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include "rkcov.h"

#define UNINSTRUMENTED __attribute__((no_sanitize_coverage, noinline))
#define WORDS 8192
#define WORKERS 4
#define MOST 4096

static void die(const char *what)
{
	perror(what);
	exit(2);
}

/* The subject: which lines run depends on the input. */
static volatile unsigned long result;

__attribute__((noinline)) static unsigned long digits(const char *text)
{
	unsigned long value = 0;

	while (*text >= '0' && *text <= '9')
		value = value * 10 + (unsigned long)(*text++ - '0');
	return value;
}

__attribute__((noinline)) static unsigned long words(const char *text)
{
	unsigned long count = 0;

	for (; *text; text++) {
		if (*text == ' ')
			count++;
		else if (*text >= 'A' && *text <= 'Z')
			count += 100;
	}
	return count;
}

__attribute__((noinline)) static void subject(const char *text)
{
	if (*text >= '0' && *text <= '9')
		result += digits(text);
	else
		result += words(text);
	if (strlen(text) > 8)
		result ^= 1;
}

/* The pool: in each round every worker runs one job. */
struct job {
	uint64_t handle;
	const char *text;
};

static struct job jobs[WORKERS];
static pthread_barrier_t begin, inside, after, end, opened, done;
static int active, stop;

UNINSTRUMENTED static void run(const struct job *job)
{
	if (job->handle)
		kcov_remote_start(job->handle);
	pthread_barrier_wait(&inside);
	if (job->text)
		subject(job->text);
	pthread_barrier_wait(&after);
	if (job->handle)
		kcov_remote_stop();
}

UNINSTRUMENTED static void *worker(void *argument)
{
	const struct job *job = argument;

	for (;;) {
		pthread_barrier_wait(&begin);
		if (stop)
			return NULL;
		run(job);
		pthread_barrier_wait(&end);
	}
}

/* Works for nobody, between the same barriers. */
UNINSTRUMENTED static void *bystander(void *argument)
{
	static const struct job nobody = { 0, "Nobody 1 asked FOR this" };
	static const struct job nothing = { 0, NULL };

	(void)argument;
	for (;;) {
		pthread_barrier_wait(&begin);
		if (stop)
			return NULL;
		run(active == 2 ? &nobody : &nothing);
		pthread_barrier_wait(&end);
	}
}

struct client {
	uint64_t handle;
	const char *texts[2];
	int fd;
	unsigned long *buffer;
	unsigned long alone[MOST], now[MOST];
	size_t alone_len, now_len;
};

static int compare(const void *a, const void *b)
{
	unsigned long x = *(const unsigned long *)a, y = *(const unsigned long *)b;

	return (x > y) - (x < y);
}

/* The client's records as a sorted set. */
UNINSTRUMENTED static size_t take(struct client *client, unsigned long *set)
{
	unsigned long count = __atomic_load_n(client->buffer, __ATOMIC_ACQUIRE);
	size_t len = 0;

	if (count > MOST) {
		fprintf(stderr, "%lu records\n", count);
		exit(2);
	}
	memcpy(set, client->buffer + 1, count * sizeof(*set));
	__atomic_store_n(client->buffer, 0, __ATOMIC_RELAXED);
	qsort(set, count, sizeof(*set), compare);
	for (size_t i = 0; i < count; i++)
		if (!len || set[len - 1] != set[i])
			set[len++] = set[i];
	return len;
}

UNINSTRUMENTED static void open_client(struct client *client)
{
	struct {
		struct kcov_remote_arg head;
		uint64_t handles[1];
	} argument = { .head = { .trace_mode = KCOV_TRACE_PC, .area_size = WORDS, .num_handles = 1 } };

	argument.handles[0] = client->handle;
	client->fd = rkcov_open();
	if (client->fd < 0)
		die("rkcov_open");
	if (rkcov_ioctl(client->fd, KCOV_INIT_TRACE, WORDS))
		die("KCOV_INIT_TRACE");
	client->buffer = rkcov_mmap(NULL, WORDS * 8, PROT_READ | PROT_WRITE, MAP_SHARED, client->fd, 0);
	if (client->buffer == MAP_FAILED)
		die("rkcov_mmap");
	if (rkcov_ioctl(client->fd, KCOV_REMOTE_ENABLE, (unsigned long)&argument))
		die("KCOV_REMOTE_ENABLE");
}

/* A client: the task that collects, for as long as it lives. */
UNINSTRUMENTED static void *owner(void *argument)
{
	struct client *client = argument;

	open_client(client);
	pthread_barrier_wait(&opened);
	pthread_barrier_wait(&done);
	if (rkcov_ioctl(client->fd, KCOV_DISABLE, 0) || rkcov_close(client->fd))
		die("KCOV_DISABLE");
	return NULL;
}

UNINSTRUMENTED static void round_of(struct client *a, struct client *b)
{
	struct client *of[WORKERS] = { a, b, a, b };

	active = (a != NULL) + (b != NULL);
	for (int i = 0; i < WORKERS; i++) {
		jobs[i].handle = of[i] ? of[i]->handle : 0;
		jobs[i].text = of[i] ? of[i]->texts[i / 2] : NULL;
	}
	pthread_barrier_wait(&begin);
	pthread_barrier_wait(&end);
}

static size_t shared_pcs(const struct client *a, const struct client *b)
{
	size_t shared = 0;

	for (size_t i = 0; i < a->alone_len; i++)
		for (size_t j = 0; j < b->alone_len; j++)
			shared += a->alone[i] == b->alone[j];
	return shared;
}

static int isolated(const struct client *client, int round)
{
	size_t bytes = client->alone_len * sizeof(*client->alone);

	if (client->now_len == client->alone_len && !memcmp(client->now, client->alone, bytes))
		return 1;
	fprintf(stderr, "round %d, handle %llx: %zu PCs, alone %zu\n", round,
		(unsigned long long)client->handle, client->now_len, client->alone_len);
	return 0;
}

UNINSTRUMENTED int main(int argc, char **argv)
{
	static struct client a = { .handle = RKCOV_SUBSYSTEM_USER | 1, .texts = { "1234567890", "9" } };
	static struct client b = { .handle = RKCOV_SUBSYSTEM_USER | 2,
				   .texts = { "to be", "OR NOT" } };
	pthread_t pool[WORKERS + 1], owners[2];
	int rounds = argc > 1 ? atoi(argv[1]) : 1;
	int good = 1;

	pthread_barrier_init(&opened, NULL, 3);
	pthread_barrier_init(&done, NULL, 3);
	pthread_barrier_init(&begin, NULL, WORKERS + 2);
	pthread_barrier_init(&end, NULL, WORKERS + 2);
	pthread_barrier_init(&inside, NULL, WORKERS + 1);
	pthread_barrier_init(&after, NULL, WORKERS + 1);
	pthread_create(&owners[0], NULL, owner, &a);
	pthread_create(&owners[1], NULL, owner, &b);
	pthread_barrier_wait(&opened);
	for (int i = 0; i < WORKERS; i++)
		pthread_create(&pool[i], NULL, worker, &jobs[i]);
	pthread_create(&pool[WORKERS], NULL, bystander, NULL);

	round_of(&a, NULL);
	a.alone_len = take(&a, a.alone);
	take(&b, b.alone);
	round_of(NULL, &b);
	b.alone_len = take(&b, b.alone);
	take(&a, a.now);
	size_t shared = shared_pcs(&a, &b);

	printf("%zu and %zu PCs, %zu shared\n", a.alone_len, b.alone_len, shared);
	if (!shared || shared == a.alone_len || shared == b.alone_len) {
		fprintf(stderr, "the subject does not tell the clients apart\n");
		return 2;
	}
	for (int round = 0; good && round < rounds; round++) {
		round_of(&a, &b);
		a.now_len = take(&a, a.now);
		b.now_len = take(&b, b.now);
		good = isolated(&a, round) && isolated(&b, round);
	}
	stop = 1;
	pthread_barrier_wait(&begin);
	for (int i = 0; i <= WORKERS; i++)
		pthread_join(pool[i], NULL);
	pthread_barrier_wait(&done);
	pthread_join(owners[0], NULL);
	pthread_join(owners[1], NULL);
	return good ? 0 : 3;
}
