/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A program that forks and executes with a descriptor open.
 *
 * Usage: processes server CHILDREN | both | exec | run | raw | leave
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "client.h"

extern char **environ;

static volatile int sink;

__attribute__((noinline)) static void child_work(void)
{
	sink++;
}

__attribute__((noinline)) static void parent_work(void)
{
	sink++;
}

UNINSTRUMENTED static int wait_for(pid_t child)
{
	int status;

	CHECK(child > 0 && waitpid(child, &status, 0) == child);
	return status;
}

/* How a child of the fork server ends. */
enum end { IN_ORDER, WITHOUT_A_WORD, KILLED, KILLED_WHILE_IT_LISTENS, ENDS };

UNINSTRUMENTED static void serve(struct client *client, enum end end)
{
	if (end == KILLED_WHILE_IT_LISTENS) {
		client_listen(client, HANDLE, 5);
		kcov_remote_start(HANDLE);
		child_work();
		kcov_remote_stop();
		raise(SIGKILL);
	}
	client_enable(client);
	child_work();
	if (end == KILLED)
		raise(SIGKILL);
	if (end == IN_ORDER)
		client_disable(client);
	_exit(0);
}

/* Every child finds the descriptor as the first did, however the one before it ended. */
UNINSTRUMENTED static void server(int children)
{
	struct client client;
	struct usage was, now;

	client_open(&client);
	for (int i = 0; i < children; i++) {
		enum end end = (enum end)(i % ENDS);
		pid_t child = fork();

		if (!child)
			serve(&client, end);
		CHECK(wait_for(child) == (end < KILLED ? 0 : SIGKILL));
		CHECK(client_count(&client) == 1);
		if (i < children - ENDS)
			client.cover[0] = 0;
		else
			client_print(&client, "child");
		if (i == 10 * ENDS)
			usage_read(&was);
	}
	/* What the last child left is cleared away when it is asked for. */
	client_listen(&client, HANDLE, 5);
	client_disable(&client);
	client_enable(&client);
	parent_work();
	client_disable(&client);
	client_print(&client, "parent");
	usage_read(&now);
	usage_compare(&was, &now, 256);
	client_close(&client);
}

/* Two children want one descriptor. One enables it; the other gets EINVAL as long as the first
 * has it, and enables it afterwards. */
UNINSTRUMENTED static void both(void)
{
	struct client client;
	int ready[2], go[2];
	pid_t children[2];
	char answers[2];

	client_open(&client);
	CHECK(!pipe(ready) && !pipe(go));
	for (int i = 0; i < 2; i++) {
		children[i] = fork();
		if (!children[i]) {
			char done;
			int failed = rkcov_ioctl(client.fd, KCOV_ENABLE, KCOV_TRACE_PC);

			CHECK(!failed || errno == EINVAL);
			CHECK(write(ready[1], failed ? "n" : "y", 1) == 1);
			CHECK(read(go[0], &done, 1) == 1);
			if (failed)
				FAILS(rkcov_ioctl(client.fd, KCOV_DISABLE, 0), EINVAL);
			else
				child_work();
			_exit(failed ? 1 : 0);
		}
	}
	CHECK(read(ready[0], &answers[0], 1) == 1 && read(ready[0], &answers[1], 1) == 1);
	CHECK((answers[0] == 'y') != (answers[1] == 'y'));
	CHECK(write(go[1], "gg", 2) == 2);
	CHECK(wait_for(children[0]) + wait_for(children[1]) == 1 << 8);
	client_print(&client, "child");
	client_enable(&client);
	parent_work();
	client_disable(&client);
	client_print(&client, "parent");
}

/* The new image has no kcov; the old one's descriptor can be enabled again. */
UNINSTRUMENTED static void exec(const char *self)
{
	struct client client;
	char number[16];
	pid_t child;

	client_open(&client);
	snprintf(number, sizeof(number), "%d", client.fd);
	child = fork();
	if (!child) {
		client_enable(&client);
		child_work();
		execl(self, self, "image", number, NULL);
		_exit(9);
	}
	CHECK(wait_for(child) == 0);
	client_print(&client, "child");
	client_enable(&client);
	parent_work();
	client_disable(&client);
	client_print(&client, "parent");
}

UNINSTRUMENTED static void image(int fd)
{
	CHECK(!rkcov_is_kcov(fd));
	FAILS(rkcov_ioctl(fd, KCOV_ENABLE, KCOV_TRACE_PC), EBADF);
	FAILS(fcntl(fd, F_GETFD), EBADF);
	child_work();
}

/* Programs that a collecting thread runs are none of its work. */
UNINSTRUMENTED static void run(const char *self)
{
	char *arguments[] = { (char *)self, "image", "99", NULL };
	struct client client;
	pid_t child;

	client_open(&client);
	client_enable(&client);
	parent_work();
	child = vfork();
	if (!child) {
		execv(self, arguments);
		_exit(9);
	}
	CHECK(wait_for(child) == 0);
	parent_work();
	CHECK(!posix_spawn(&child, self, NULL, NULL, arguments, environ));
	CHECK(wait_for(child) == 0);
	parent_work();
	CHECK(system("exit 3") == 3 << 8);
	parent_work();
	client_disable(&client);
	CHECK(client_count(&client) == 4);
	client_print(&client, "parent");
}

/* Children that libc knows nothing of: what they do with the descriptor is not their parent's. */
UNINSTRUMENTED static void raw(void)
{
	struct client client;

	client_open(&client);
	for (int how = 0; how < 2; how++) {
		pid_t child;

		client_enable(&client);
		parent_work();
		child = how ? syscall(SYS_fork) : syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
		if (!child) {
			FAILS(rkcov_ioctl(client.fd, KCOV_DISABLE, 0), EINVAL);
			FAILS(rkcov_ioctl(client.fd, KCOV_ENABLE, KCOV_TRACE_PC), EINVAL);
			child_work();
			_exit(0);
		}
		CHECK(wait_for(child) == 0);
		parent_work();
		client_disable(&client);
		CHECK(client_count(&client) == 2);
		client_print(&client, "parent");
	}
}

/* What a child did in a section that it leaves by _exit() is not delivered; nothing is in the way of
 * who comes next. */
UNINSTRUMENTED static void leave(void)
{
	struct client client;

	client_open(&client);
	for (int i = 0; i < 100; i++) {
		pid_t child;

		client_listen(&client, HANDLE, 5);
		child = fork();
		if (!child) {
			kcov_remote_start(i % 2 ? HANDLE : kcov_common_handle());
			child_work();
			_exit(0);
		}
		CHECK(wait_for(child) == 0 && !client_count(&client));
		kcov_remote_start(HANDLE);
		parent_work();
		kcov_remote_stop();
		client_disable(&client);
		CHECK(client_count(&client) == 1);
		client_print(&client, "parent");
	}
	client_close(&client);
}

UNINSTRUMENTED int main(int argc, char **argv)
{
	const char *how = argc > 1 ? argv[1] : "";

	if (!strcmp(how, "server"))
		server(atoi(argv[2]));
	else if (!strcmp(how, "both"))
		both();
	else if (!strcmp(how, "exec"))
		exec(argv[0]);
	else if (!strcmp(how, "image"))
		image(atoi(argv[2]));
	else if (!strcmp(how, "run"))
		run(argv[0]);
	else if (!strcmp(how, "raw"))
		raw();
	else if (!strcmp(how, "leave"))
		leave();
	else
		return 2;
	return 0;
}
