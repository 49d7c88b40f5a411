/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A client that does the same again and again. What its last round covered is printed; in the
 * second half of the rounds nothing grows, but resident memory by as many pages as are said.
 *
 * Usage: rounds ROUNDS [PAGES [fork | pair]]. Of a pair, two threads go their rounds at once; they
 * also open the process's first kcovs at once.
 */
#include <pthread.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "client.h"

static _Thread_local volatile int sink;

__attribute__((noinline)) static void own_work(void)
{
	sink++;
}

__attribute__((noinline)) static void thread_work(void)
{
	sink++;
}

__attribute__((noinline)) static void child_work(void)
{
	sink++;
}

UNINSTRUMENTED static void *thread(void *unused)
{
	kcov_remote_start(kcov_common_handle());
	thread_work();
	kcov_remote_stop();
	return unused;
}

UNINSTRUMENTED static void work_in_thread(void)
{
	pthread_t id;

	CHECK(!pthread_create(&id, NULL, thread, NULL) && !pthread_join(id, NULL));
}

UNINSTRUMENTED static void work_in_child(uint64_t handle)
{
	pid_t child = fork();
	int status;

	if (!child) {
		kcov_remote_start(handle);
		child_work();
		kcov_remote_stop();
		_exit(0);
	}
	CHECK(child > 0 && waitpid(child, &status, 0) == child && !status);
}

UNINSTRUMENTED static void one_round(uint64_t number, int forks, int last)
{
	struct client mine, theirs;

	client_open(&mine);
	client_open(&theirs);
	client_listen(&theirs, HANDLE + number, 5 + number);
	client_enable(&mine);
	own_work();
	work_in_thread();
	if (forks)
		work_in_child(HANDLE + number);
	client_disable(&mine);
	client_disable(&theirs);
	CHECK(client_count(&mine) == 1 && client_count(&theirs) == (forks ? 2 : 1));
	if (last) {
		client_print(&mine, "mine");
		client_print(&theirs, "theirs");
	}
	client_close(&mine);
	client_close(&theirs);
}

static pthread_barrier_t both;
static int rounds = 1;
static unsigned long pages;

UNINSTRUMENTED static void *second(void *unused)
{
	pthread_barrier_wait(&both);
	for (int i = 1; i <= rounds; i++)
		one_round(1, 0, 0);
	return unused;
}

UNINSTRUMENTED int main(int argc, char **argv)
{
	const char *how = argc > 3 ? argv[3] : "";
	int pair = !strcmp(how, "pair");
	struct usage was, now;
	pthread_t other;

	if (argc > 1)
		rounds = atoi(argv[1]);
	if (argc > 2)
		pages = strtoul(argv[2], NULL, 10);
	/* What reading takes itself is there from now on. */
	usage_read(&now);
	if (pair) {
		CHECK(!pthread_barrier_init(&both, NULL, 2));
		CHECK(!pthread_create(&other, NULL, second, NULL));
		pthread_barrier_wait(&both);
	}
	for (int i = 1; i <= rounds; i++) {
		one_round(0, !strcmp(how, "fork"), i == rounds);
		if (i == rounds / 2)
			usage_read(&was);
	}
	if (pair)
		CHECK(!pthread_join(other, NULL));
	usage_read(&now);
	CHECK(!now.handles);
	if (rounds > 1)
		usage_compare(&was, &now, pages);
	return 0;
}
