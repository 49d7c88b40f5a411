// SPDX-License-Identifier: MIT OR Apache-2.0
// A server whose requests have names: each is recorded for itself, on whatever thread of the pool it runs.
//
//   rkcov cc -g -pthread contexts.c -o contexts && rkcov run -- ./contexts
//   rkcov report --by context contexts.rkcov
#include <pthread.h>
#include <rkcov.h>
#include <stdio.h>
#include <stdlib.h>

// A piece of work for the pool. It carries the request that it is for.
struct job {
	struct job *next;
	rkcov_context_t context;
	void (*work)(int argument);
	int argument;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static struct job *first, **last = &first;
static int closed;

static void check(int failed, const char *what)
{
	if (failed) {
		fprintf(stderr, "%s failed\n", what);
		exit(1);
	}
}

static void give(rkcov_context_t context, void (*work)(int), int argument)
{
	struct job *job = malloc(sizeof(*job));
	check(!job, "malloc()");
	*job = (struct job){ .context = context, .work = work, .argument = argument };
	pthread_mutex_lock(&lock);
	*last = job;
	last = &job->next;
	pthread_cond_signal(&changed);
	pthread_mutex_unlock(&lock);
}

static struct job *take(void)
{
	pthread_mutex_lock(&lock);
	while (!first && !closed)
		pthread_cond_wait(&changed, &lock);
	struct job *job = first;
	if (job) {
		first = job->next;
		if (!first)
			last = &first;
	}
	pthread_mutex_unlock(&lock);
	return job;
}

static void *worker(void *unused)
{
	struct job *job;
	while ((job = take())) {
		rkcov_enter(job->context);
		job->work(job->argument);
		rkcov_leave();
		// After the last thread has left it: what runs in a context that has ended is in none.
		rkcov_end(job->context);
		free(job);
	}
	return unused;
}

static volatile int users = 9;

static void check_user(int id)
{
	if (id >= users)
		puts("no such user");
}

static void read_user(int id)
{
	check_user(id);
	printf("user %d\n", id);
}

static void delete_user(int id)
{
	check_user(id);
	users--;
}

static void send_mail(int id)
{
	printf("mail to %d\n", id);
}

int main(void)
{
	pthread_t pool[2];
	for (int i = 0; i < 2; i++)
		check(pthread_create(&pool[i], NULL, worker, NULL), "pthread_create()");
	// Two requests may have the same name.
	for (int i = 0; i < 2; i++)
		give(rkcov_context(RKCOV_REQUEST, "GET /users/7"), read_user, 7);
	give(rkcov_context(RKCOV_REQUEST, "DELETE /users/8"), delete_user, 8);
	give(rkcov_context(RKCOV_JOB, "mail"), send_mail, 7);
	pthread_mutex_lock(&lock);
	closed = 1;
	pthread_cond_broadcast(&changed);
	pthread_mutex_unlock(&lock);
	for (int i = 0; i < 2; i++)
		pthread_join(pool[i], NULL);
	return 0;
}
