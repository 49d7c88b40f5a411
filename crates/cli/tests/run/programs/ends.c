// Threads that begin and end in the way that argv[1] says.
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <threads.h>
#include <unistd.h>

static pthread_key_t key;
static pthread_barrier_t barrier;
static volatile int count;

__attribute__((noinline)) static void destructor_1(void) { count++; }
__attribute__((noinline)) static void destructor_2(void) { count++; }
__attribute__((noinline)) static void destructor_3(void) { count++; }

// Runs in three rounds; the rounds are four at most.
static void destructor(void *round)
{
	if ((long)round == 1)
		destructor_1();
	if ((long)round == 2)
		destructor_2();
	if ((long)round == 3)
		destructor_3();
	else
		pthread_setspecific(key, (void *)((long)round + 1));
}

__attribute__((noinline)) static void cleanup(void *unused)
{
	count++;
}

__attribute__((noinline)) static void spin(void)
{
	count++;
}

__attribute__((noinline)) static void leave(void)
{
	// clang instruments no function that cannot return.
	if (count >= 0)
		pthread_exit(NULL);
}

static void *exits(void *unused)
{
	pthread_cleanup_push(cleanup, NULL);
	pthread_setspecific(key, (void *)1);
	leave();
	pthread_cleanup_pop(0);
	return NULL;
}

static void *waits(void *unused)
{
	pthread_cleanup_push(cleanup, NULL);
	pthread_barrier_wait(&barrier);
	for (;;)
		pause();
	pthread_cleanup_pop(0);
	return NULL;
}

static void *spins(void *unused)
{
	pthread_cleanup_push(cleanup, NULL);
	// Once for certain: a thread that waits long for a processor may be cancelled before it spins.
	spin();
	pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, NULL);
	pthread_barrier_wait(&barrier);
	for (;;)
		spin();
	pthread_cleanup_pop(0);
	return NULL;
}

static int c11(void *unused)
{
	spin();
	return 0;
}

static void *outlives(void *main)
{
	pthread_join(*(pthread_t *)main, NULL);
	spin();
	exit(0);
}

int main(int argc, char **argv)
{
	const char *how = argv[argc - 1];
	pthread_t thread;
	pthread_key_create(&key, destructor);
	pthread_barrier_init(&barrier, NULL, 2);
	if (!strcmp(how, "exit")) {
		pthread_create(&thread, NULL, exits, NULL);
	} else if (!strcmp(how, "cancel") || !strcmp(how, "cancel-async")) {
		pthread_create(&thread, NULL, strcmp(how, "cancel") ? spins : waits, NULL);
		pthread_barrier_wait(&barrier);
		usleep(1000);
		pthread_cancel(thread);
	} else if (!strcmp(how, "c11")) {
		thrd_create(&thread, c11, NULL);
	} else if (!strcmp(how, "outlive")) {
		static pthread_t self;
		self = pthread_self();
		pthread_create(&thread, NULL, outlives, &self);
		leave();
	} else if (!strcmp(how, "close")) {
		closefrom(3);
		pthread_create(&thread, NULL, exits, NULL);
	} else {
		for (int n = atoi(how); n > 0; n--) {
			pthread_create(&thread, NULL, exits, NULL);
			pthread_join(thread, NULL);
		}
		return 0;
	}
	return pthread_join(thread, NULL);
}
