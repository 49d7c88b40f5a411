// SPDX-License-Identifier: MIT OR Apache-2.0
// Work that has names. What it does is its argument.
#include <pthread.h>
#include <rkcov.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define PIECE __attribute__((noinline)) static void
static volatile int sum;

PIECE shared(void) { sum++; }
PIECE handle_a(void) { shared(); }
PIECE handle_b(void) { shared(); }
PIECE before_inner(void) { sum++; }
PIECE inner(void) { sum++; }
PIECE after_inner(void) { sum++; }
PIECE outside(void) { sum++; }
PIECE in_time(void) { sum++; }
PIECE late(void) { sum++; }

// A pool: threads that are there before the work, and a queue of one piece for each.
struct worker {
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	void (*work)(void);
	rkcov_context_t context;
	int stop;
};

static void *serve(void *argument)
{
	struct worker *self = argument;
	pthread_mutex_lock(&self->lock);
	for (;;) {
		while (!self->work && !self->stop)
			pthread_cond_wait(&self->changed, &self->lock);
		if (!self->work)
			break;
		rkcov_enter(self->context);
		self->work();
		rkcov_leave();
		self->work = NULL;
		pthread_cond_broadcast(&self->changed);
	}
	pthread_mutex_unlock(&self->lock);
	return NULL;
}

static void give(struct worker *to, rkcov_context_t context, void (*work)(void))
{
	pthread_mutex_lock(&to->lock);
	while (to->work)
		pthread_cond_wait(&to->changed, &to->lock);
	to->context = context;
	to->work = work;
	pthread_cond_broadcast(&to->changed);
	pthread_mutex_unlock(&to->lock);
}

static void finish(struct worker *worker)
{
	pthread_mutex_lock(&worker->lock);
	while (worker->work)
		pthread_cond_wait(&worker->changed, &worker->lock);
	worker->stop = 1;
	pthread_cond_broadcast(&worker->changed);
	pthread_mutex_unlock(&worker->lock);
	pthread_join(worker->thread, NULL);
}

static void pool(void)
{
	struct worker workers[2] = {
		{ .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER },
		{ .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER },
	};
	for (int i = 0; i < 2; i++)
		pthread_create(&workers[i].thread, NULL, serve, &workers[i]);
	rkcov_context_t a = rkcov_context(RKCOV_REQUEST, "GET /a");
	rkcov_context_t b = rkcov_context(RKCOV_REQUEST, "GET /b");
	// Each is served by both threads, and each thread serves both.
	for (int round = 0; round < 2; round++) {
		give(&workers[round], a, handle_a);
		give(&workers[1 - round], b, handle_b);
	}
	finish(&workers[0]);
	finish(&workers[1]);
	rkcov_end(a);
	rkcov_end(b);
}

static void nested(void)
{
	rkcov_enter(rkcov_context(RKCOV_TEST, "outer"));
	before_inner();
	rkcov_enter(rkcov_context(RKCOV_TEST, "inner"));
	inner();
	rkcov_leave();
	after_inner();
	rkcov_leave();
	outside();
	rkcov_leave();
}

static void *inherits(void *unused)
{
	in_time();
	return unused;
}

static void inherit(void)
{
	pthread_t thread;
	rkcov_enter(rkcov_context(RKCOV_TEST, "parent"));
	pthread_create(&thread, NULL, inherits, NULL);
	rkcov_leave();
	pthread_join(thread, NULL);
	pthread_create(&thread, NULL, inherits, NULL);
	pthread_join(thread, NULL);
}

static pthread_barrier_t barrier;

static void *outlives(void *unused)
{
	in_time();
	pthread_barrier_wait(&barrier);
	pthread_barrier_wait(&barrier);
	in_time();
	late();
	return unused;
}

static void ended(void)
{
	pthread_t thread;
	rkcov_context_t context = rkcov_context(RKCOV_JOB, "over");
	pthread_barrier_init(&barrier, NULL, 2);
	rkcov_enter(context);
	pthread_create(&thread, NULL, outlives, NULL);
	pthread_barrier_wait(&barrier);
	inner();
	rkcov_end(context);
	inner();
	rkcov_leave();
	// Over is over.
	rkcov_enter(context);
	handle_b();
	rkcov_leave();
	pthread_barrier_wait(&barrier);
	pthread_join(thread, NULL);
}

static void killed(void)
{
	rkcov_context_t first = rkcov_context(RKCOV_JOB, "first");
	rkcov_enter(first);
	handle_a();
	rkcov_leave();
	rkcov_end(first);
	rkcov_enter(rkcov_context(RKCOV_JOB, "second"));
	handle_b();
	kill(getpid(), SIGKILL);
}

static void names(void)
{
	static char name[10001];
	memset(name, 'n', 10000);
	void (*work[])(void) = { handle_a, handle_b, inner, late };
	for (int i = 0; i < 4; i++) {
		// The first two differ in the last byte; so do not the others.
		name[9999] = i == 0 ? 'x' : 'y';
		rkcov_enter(rkcov_context(RKCOV_USER, i < 2 ? name : "twice"));
		work[i]();
		rkcov_leave();
	}
	rkcov_enter(rkcov_context(RKCOV_USER, ""));
	outside();
	rkcov_leave();
}

static void forked(void)
{
	rkcov_enter(rkcov_context(RKCOV_TEST, "has a child"));
	pid_t child = fork();
	if (child == 0) {
		handle_a();
		// The parent's to leave.
		rkcov_leave();
		handle_b();
		exit(0);
	}
	waitpid(child, NULL, 0);
	rkcov_leave();
}

static void many(int count)
{
	char name[32];
	for (int i = 0; i < count; i++) {
		snprintf(name, sizeof(name), "job %d", i);
		rkcov_context_t context = rkcov_context(RKCOV_JOB, name);
		rkcov_enter(context);
		if (i % 2)
			handle_a();
		else
			handle_b();
		rkcov_leave();
		rkcov_end(context);
	}
}

static void deep(int count)
{
	rkcov_context_t first = rkcov_context(RKCOV_USER, "first");
	rkcov_context_t other = rkcov_context(RKCOV_USER, "other");
	rkcov_enter(first);
	for (int i = 0; i < count; i++)
		rkcov_enter(other);
	late();
	for (int i = 0; i < count; i++)
		rkcov_leave();
	inner();
	rkcov_leave();
	outside();
}

int main(int argc, char **argv)
{
	const char *what = argv[1];
	int count = argc > 2 ? atoi(argv[2]) : 0;
	if (!strcmp(what, "pool"))
		pool();
	else if (!strcmp(what, "nested"))
		nested();
	else if (!strcmp(what, "inherit"))
		inherit();
	else if (!strcmp(what, "ended"))
		ended();
	else if (!strcmp(what, "killed"))
		killed();
	else if (!strcmp(what, "names"))
		names();
	else if (!strcmp(what, "forked"))
		forked();
	else if (!strcmp(what, "many"))
		many(count);
	else if (!strcmp(what, "deep"))
		deep(count);
	else if (!strcmp(what, "plain"))
		outside();
	printf("%d\n", rkcov_context(RKCOV_USER, "last") != 0);
	return 0;
}
