/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Sections as the kcov in C has them: one lock for all, a table of 16 chains that does not grow, a
 * list of all free areas in which a start looks for one of its size, and a lock for each client's
 * buffer. A handle is a block of its own.
 */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include "sections.h"

#define WORDS 512
#define CHAINS 16

struct client {
	pthread_mutex_t lock;
	unsigned long *buffer;
	unsigned int references, sequence, area_words;
	int enabled;
};

struct listener {
	struct listener *next;
	struct client *client;
	uint64_t handle;
};

struct area {
	struct area *next;
	unsigned int words;
	unsigned long records[];
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct listener *chains[CHAINS];
static struct area *areas;

static _Thread_local struct {
	struct client *client;
	struct area *area;
	unsigned int sequence;
} task __attribute__((tls_model("initial-exec")));

static struct listener **chain_of(uint64_t handle)
{
	return &chains[handle * 0x61c8864680b583ebull >> 60];
}

static struct listener *find(uint64_t handle)
{
	struct listener *listener = *chain_of(handle);

	while (listener && listener->handle != handle)
		listener = listener->next;
	return listener;
}

void *client_new(void)
{
	struct client *client = calloc(1, sizeof(*client));

	if (!client || !(client->buffer = calloc(WORDS, sizeof(long))))
		die("no memory");
	pthread_mutex_init(&client->lock, NULL);
	client->references = 1;
	client->area_words = WORDS;
	return client;
}

void client_enable(void *of, uint64_t first, unsigned int n)
{
	struct client *client = of;

	pthread_mutex_lock(&client->lock);
	client->sequence++;
	client->enabled = 1;
	pthread_mutex_lock(&lock);
	for (unsigned int i = 0; i < n; i++) {
		struct listener *listener;

		if (!known_to_be_free && find(first + i))
			die("a handle is taken");
		listener = malloc(sizeof(*listener));
		if (!listener)
			die("no memory");
		listener->handle = first + i;
		listener->client = client;
		listener->next = *chain_of(first + i);
		*chain_of(first + i) = listener;
	}
	pthread_mutex_unlock(&lock);
	pthread_mutex_unlock(&client->lock);
}

void client_disable(void *of)
{
	struct client *client = of;

	pthread_mutex_lock(&client->lock);
	pthread_mutex_lock(&lock);
	/* Nobody knows which handles were a client's: all are looked at. */
	for (unsigned int i = 0; i < CHAINS; i++) {
		struct listener **at = &chains[i];

		while (*at) {
			struct listener *listener = *at;

			if (listener->client != client) {
				at = &listener->next;
				continue;
			}
			*at = listener->next;
			free(listener);
		}
	}
	pthread_mutex_unlock(&lock);
	client->enabled = 0;
	client->sequence++;
	pthread_mutex_unlock(&client->lock);
}

void section_start(uint64_t handle)
{
	struct listener *listener;
	struct client *client;
	struct area **at, *area;
	unsigned int words;

	if (task.client)
		return;
	pthread_mutex_lock(&lock);
	listener = find(handle);
	if (!listener) {
		pthread_mutex_unlock(&lock);
		return;
	}
	client = listener->client;
	__atomic_add_fetch(&client->references, 1, __ATOMIC_RELAXED);
	task.sequence = client->sequence;
	words = client->area_words;
	for (at = &areas; *at && (*at)->words != words;)
		at = &(*at)->next;
	area = *at;
	if (area)
		*at = area->next;
	pthread_mutex_unlock(&lock);
	if (!area) {
		area = malloc(sizeof(*area) + words * sizeof(long));
		if (!area)
			die("no memory");
		area->words = words;
	}
	__atomic_store_n(&area->records[0], 0, __ATOMIC_RELAXED);
	task.area = area;
	__atomic_store_n(&task.client, client, __ATOMIC_RELEASE);
}

void section_stop(void)
{
	struct client *client = task.client;
	struct area *area = task.area;

	if (!client)
		return;
	__atomic_store_n(&task.client, NULL, __ATOMIC_RELEASE);
	pthread_mutex_lock(&client->lock);
	if (client->enabled && client->sequence == task.sequence) {
		unsigned long n = area->records[0], has = client->buffer[0];

		if (n > WORDS - 1 - has)
			n = WORDS - 1 - has;
		memcpy(&client->buffer[1 + has], &area->records[1], n * sizeof(long));
		client->buffer[0] = has + n;
	}
	pthread_mutex_unlock(&client->lock);
	pthread_mutex_lock(&lock);
	area->next = areas;
	areas = area;
	pthread_mutex_unlock(&lock);
	__atomic_sub_fetch(&client->references, 1, __ATOMIC_RELEASE);
}
