/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A process that is killed after any instruction of a call leaves its family in order.
 *
 * For each call, a child is stepped through it by ptrace and killed after its first instruction;
 * another one after its second; and so on to the call's end. After each, what the child had can be
 * had at once, what others have is as it was, and little memory is left.
 *
 * Usage: steps [CALL|all [STRIDE [FIRST]]]. Prints for each call how many instructions it has.
 */
#define _GNU_SOURCE
#include "rkcov_internal.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
	WORDS = 512,
	WITNESSES = 24, /* handles of one who only watches: they share tables with the others */
	MOST = 48,	/* handles of a child's */
	LEFT = 1 << 16, /* bytes that one who is killed leaves at most */
};

static const char *call_name;
static unsigned long step;

static void failed(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));

static void failed(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	fprintf(stderr, "%s, killed after %lu instructions: ", call_name, step);
	vfprintf(stderr, format, arguments);
	fputc('\n', stderr);
	exit(1);
}

static void stands_still(int signal)
{
	(void)signal;
	failed("the family stands still");
}

#define CHECK(condition, ...)                                                                     \
	do {                                                                                      \
		if (!(condition))                                                                 \
			failed(__VA_ARGS__);                                                      \
	} while (0)

struct client {
	int fd;
	uint64_t *buffer;
};

static struct client open_client(void)
{
	struct client client = { .fd = rkcov_open() };

	CHECK(client.fd >= 0, "rkcov_open(): %m");
	CHECK(!rkcov_ioctl(client.fd, KCOV_INIT_TRACE, WORDS), "KCOV_INIT_TRACE: %m");
	client.buffer = rkcov_mmap(NULL, WORDS * 8, PROT_READ | PROT_WRITE, MAP_SHARED, client.fd, 0);
	CHECK(client.buffer != MAP_FAILED, "rkcov_mmap(): %m");
	return client;
}

static void close_client(struct client *client)
{
	munmap(client->buffer, WORDS * 8);
	CHECK(!rkcov_close(client->fd), "rkcov_close(): %m");
}

static uint64_t handle_of(unsigned owner, unsigned number)
{
	return RKCOV_SUBSYSTEM_USER | owner << 16 | number;
}

static int listen_for(int fd, const uint64_t *handles, unsigned count)
{
	struct {
		struct kcov_remote_arg head;
		uint64_t handles[MOST];
	} argument = { .head = { .trace_mode = KCOV_TRACE_PC, .area_size = 16 } };

	argument.head.num_handles = count;
	memcpy((char *)&argument + sizeof(argument.head), handles, count * sizeof(*handles));
	return rkcov_ioctl(fd, KCOV_REMOTE_ENABLE, (unsigned long)&argument);
}

static int listen_to(int fd, unsigned owner, unsigned count)
{
	uint64_t handles[MOST];

	for (unsigned i = 0; i < count; i++)
		handles[i] = handle_of(owner, i);
	return listen_for(fd, handles, count);
}

void __sanitizer_cov_trace_pc(void);

/* A section with two records. */
static void section(uint64_t handle)
{
	kcov_remote_start(handle);
	__sanitizer_cov_trace_pc();
	__sanitizer_cov_trace_pc();
	kcov_remote_stop();
}

/*
 * The calls. The child's descriptor is its parent's, as with a fork server, or its own.
 */
static struct client shared;

static void enable(void)
{
	rkcov_ioctl(shared.fd, KCOV_ENABLE, KCOV_TRACE_PC);
}

static void disable(void)
{
	rkcov_ioctl(shared.fd, KCOV_DISABLE, 0);
}

static void remote_enable(void)
{
	listen_to(shared.fd, 2, 3);
}

/* So many that tables grow. */
static void remote_enable_many(void)
{
	listen_to(shared.fd, 2, MOST);
}

static void one_section(void)
{
	section(handle_of(1, 5));
}

static void open_one(void)
{
	rkcov_open();
}

static void init_trace(void)
{
	rkcov_ioctl(shared.fd, KCOV_INIT_TRACE, WORDS);
}

static int own = -1;

static void open_own(void)
{
	own = rkcov_open();
}

static void init_own(void)
{
	rkcov_ioctl(own, KCOV_INIT_TRACE, WORDS);
}

static void close_own(void)
{
	rkcov_close(own);
}

static void open_and_init_own(void)
{
	open_own();
	init_own();
}

static void listen_to_own_section(void)
{
	remote_enable();
	kcov_remote_start(handle_of(2, 1));
	__sanitizer_cov_trace_pc();
}

static void fail_at_the_last(void)
{
	/* The witness has it. */
	const uint64_t handles[] = { handle_of(2, 0), handle_of(2, 1), handle_of(1, 0) };

	listen_for(shared.fd, handles, 3);
}

static void nothing(void)
{
}

static const struct call {
	const char *name;
	void (*before)(void); /* not stepped through */
	void (*call)(void);
} calls[] = {
	{ "open", nothing, open_one },
	{ "init", open_own, init_own },
	{ "init-again", nothing, init_trace },
	{ "close", open_and_init_own, close_own },
	{ "enable", nothing, enable },
	{ "disable", enable, disable },
	{ "remote-enable", nothing, remote_enable },
	{ "remote-enable-many", nothing, remote_enable_many },
	{ "remote-enable-taken", nothing, fail_at_the_last },
	{ "remote-disable", remote_enable, disable },
	{ "remote-disable-many", remote_enable_many, disable },
	{ "section", nothing, one_section },
	{ "own-section", listen_to_own_section, kcov_remote_stop },
};

static struct client witness;
static unsigned long witnessed;

/* One task listens to one set of handles: the witness has a thread of its own. */
static void *watch(void *ready)
{
	CHECK(!listen_to(witness.fd, 1, WITNESSES), "the witness: %m");
	pthread_barrier_wait(ready);
	for (;;)
		pause();
	return NULL;
}

/* What must hold after each death. */
static void verify(uint64_t bytes_before)
{
	uint64_t bytes, handles;

	/* Others' handles are found. */
	for (unsigned i = 0; i < WITNESSES; i++) {
		__atomic_store_n(witness.buffer, 0, __ATOMIC_RELAXED);
		section(handle_of(1, i));
		CHECK(witness.buffer[0] == 2, "the witness's handle %u has %llu records", i,
		      (unsigned long long)witness.buffer[0]);
	}
	__atomic_store_n(witness.buffer, 0, __ATOMIC_RELAXED);
	/* The child's handles can be had, more than once, by another and by the same descriptor. */
	for (unsigned round = 0; round < 2; round++) {
		struct client other = open_client();

		CHECK(!listen_to(other.fd, 2, MOST), "another's enable: %m");
		section(handle_of(2, 1));
		section(handle_of(2, MOST - 1));
		CHECK(other.buffer[0] == 4, "another has %llu records",
		      (unsigned long long)other.buffer[0]);
		CHECK(!rkcov_ioctl(other.fd, KCOV_DISABLE, 0), "another's disable: %m");
		close_client(&other);
		CHECK(!listen_to(shared.fd, 2, MOST), "the shared one's remote enable: %m");
		memset(shared.buffer, 0, WORDS * 8);
		section(handle_of(2, 1));
		CHECK(shared.buffer[0] == 2, "the shared one has %llu records",
		      (unsigned long long)shared.buffer[0]);
		CHECK(!rkcov_ioctl(shared.fd, KCOV_DISABLE, 0), "the shared one's disable: %m");
		CHECK(!rkcov_ioctl(shared.fd, KCOV_ENABLE, KCOV_TRACE_PC), "its enable: %m");
		memset(shared.buffer, 0, WORDS * 8);
		__sanitizer_cov_trace_pc();
		CHECK(!rkcov_ioctl(shared.fd, KCOV_DISABLE, 0), "its disable: %m");
		CHECK(shared.buffer[0] == 1, "it has %llu records",
		      (unsigned long long)shared.buffer[0]);
	}
	rkcov_forget(UINT64_MAX);
	rkcov_usage(&bytes, &handles);
	CHECK(handles == WITNESSES, "%llu handles are registered", (unsigned long long)handles);
	CHECK(bytes <= bytes_before + LEFT, "%llu bytes are left",
	      (unsigned long long)(bytes - bytes_before));
	witnessed++;
}

static void stopped(pid_t child, int signal, int *status)
{
	CHECK(waitpid(child, status, 0) == child, "waitpid(): %m");
	CHECK(WIFSTOPPED(*status) && WSTOPSIG(*status) == signal, "a child has the status %#x",
	      *status);
}

/* Kills a child in mid-call; `false` if the call ended before. */
static bool kill_after(const struct call *call, unsigned long instructions)
{
	bool ended = false;
	pid_t child = fork();
	int status;

	CHECK(child >= 0, "fork(): %m");
	if (!child) {
		ptrace(PTRACE_TRACEME, 0, NULL, NULL);
		call->before();
		raise(SIGSTOP);
		call->call();
		raise(SIGSTOP);
		_exit(0);
	}
	stopped(child, SIGSTOP, &status);
	for (unsigned long i = 0; i < instructions && !ended; i++) {
		CHECK(!ptrace(PTRACE_SINGLESTEP, child, NULL, NULL), "PTRACE_SINGLESTEP: %m");
		CHECK(waitpid(child, &status, 0) == child, "waitpid(): %m");
		CHECK(WIFSTOPPED(status), "a child ended with %#x", status);
		ended = WSTOPSIG(status) == SIGSTOP;
		CHECK(ended || WSTOPSIG(status) == SIGTRAP, "a child got the signal %d",
		      WSTOPSIG(status));
	}
	kill(child, SIGKILL);
	CHECK(waitpid(child, &status, 0) == child, "waitpid(): %m");
	return !ended;
}

int main(int argc, char **argv)
{
	unsigned long stride = argc > 2 ? strtoul(argv[2], NULL, 0) : 1;
	unsigned long first = argc > 3 ? strtoul(argv[3], NULL, 0) : 0;
	pthread_barrier_t ready;
	pthread_t thread;

	if (!stride) {
		fprintf(stderr, "usage: %s [CALL [STRIDE [FIRST]]]\n", argv[0]);
		return 2;
	}
	call_name = "nothing";
	signal(SIGALRM, stands_still);
	witness = open_client();
	shared = open_client();
	pthread_barrier_init(&ready, NULL, 2);
	CHECK(!pthread_create(&thread, NULL, watch, &ready), "pthread_create()");
	pthread_barrier_wait(&ready);
	for (unsigned i = 0; i < sizeof(calls) / sizeof(*calls); i++) {
		uint64_t bytes, handles, after;

		if (argc > 1 && strcmp(argv[1], calls[i].name) && strcmp(argv[1], "all"))
			continue;
		call_name = calls[i].name;
		rkcov_usage(&bytes, &handles);
		verify(bytes);
		rkcov_usage(&bytes, &handles);
		for (step = first;; step += stride) {
			uint64_t before;
			bool going;

			alarm(60);
			rkcov_usage(&before, &handles);
			going = kill_after(&calls[i], step);
			verify(before);
			if (!going)
				break;
		}
		rkcov_usage(&after, &handles);
		printf("%s: %lu instructions, %llu bytes left\n", call_name, step,
		       (unsigned long long)(after - bytes));
		fflush(stdout);
	}
	CHECK(witnessed, "there is no call %s", argv[1]);
	return 0;
}
