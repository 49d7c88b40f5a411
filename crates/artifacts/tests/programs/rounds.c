/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A client that does the same again and again. What its last round covered is printed; nothing of
 * the others is left.
 *
 * Usage: rounds ROUNDS [fork]
 */
#include <pthread.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "client.h"

/* Before these many rounds have passed, allocators and sanitizers are still growing. */
#define WARM (rounds / 2)

static volatile int sink;

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

UNINSTRUMENTED static void work_in_child(void)
{
	pid_t child = fork();
	int status;

	if (!child) {
		kcov_remote_start(HANDLE);
		child_work();
		kcov_remote_stop();
		_exit(0);
	}
	CHECK(child > 0 && waitpid(child, &status, 0) == child && !status);
}

UNINSTRUMENTED static void one_round(int forks, int last)
{
	struct client mine, theirs;

	client_open(&mine);
	client_open(&theirs);
	client_listen(&theirs, HANDLE, 5);
	client_enable(&mine);
	own_work();
	work_in_thread();
	if (forks)
		work_in_child();
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

UNINSTRUMENTED int main(int argc, char **argv)
{
	int rounds = argc > 1 ? atoi(argv[1]) : 1;
	int forks = argc > 2 && !strcmp(argv[2], "fork");
	struct usage was, now;

	for (int i = 1; i <= rounds; i++) {
		one_round(forks, i == rounds);
		if (i == WARM)
			usage_read(&was);
	}
	usage_read(&now);
	CHECK(!now.handles);
	if (rounds > 1)
		usage_compare(&was, &now);
	return 0;
}
