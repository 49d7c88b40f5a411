/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Ways out of a section. Usage: leaves exception | unguarded | jump | handler | deep | exit | cancel
 */
#include <csetjmp>
#include <csignal>
#include <cstring>
#include <pthread.h>
#include <stdexcept>
#include <unistd.h>
#include "client.h"
#include "rkcov_internal.h"

namespace {

volatile int sink;

#define MARKER(name) extern "C" __attribute__((noinline)) void name() { sink = sink + 1; }
MARKER(own_work)
MARKER(inside)
MARKER(outside)
MARKER(in_destructor)
MARKER(in_key_destructor)

extern "C" __attribute__((noinline)) void throws()
{
	sink = sink + 1;
	if (sink)
		throw std::runtime_error("out");
}

client mine, theirs;

/* The section of a client in C++. */
struct Section {
	UNINSTRUMENTED explicit Section(uint64_t handle) { kcov_remote_start(handle); }
	UNINSTRUMENTED ~Section() { kcov_remote_stop(); }
};

/* Both descriptors are there; the calling thread collects from itself, and sections do. */
UNINSTRUMENTED void open_both()
{
	client_open(&mine);
	client_open(&theirs);
	client_listen(&theirs, HANDLE, 5);
	client_enable(&mine);
}

UNINSTRUMENTED void print_both()
{
	client_disable(&mine);
	client_disable(&theirs);
	client_print(&mine, "mine");
	client_print(&theirs, "theirs");
	client_close(&mine);
	client_close(&theirs);
}

/* An exception leaves a guarded section: it ends where the guard does. */
UNINSTRUMENTED void guarded()
{
	try {
		Section section(HANDLE);
		throws();
	} catch (const std::runtime_error &) {
		own_work();
	}
}

/* Without a guard it goes on until somebody stops it, in the frame that catches. */
UNINSTRUMENTED void unguarded()
{
	try {
		kcov_remote_start(HANDLE);
		throws();
	} catch (const std::runtime_error &) {
		outside();
		kcov_remote_stop();
	}
	own_work();
}

UNINSTRUMENTED void jump()
{
	static jmp_buf back;

	if (!setjmp(back)) {
		kcov_remote_start(HANDLE);
		inside();
		longjmp(back, 1);
	}
	kcov_remote_stop();
	own_work();
}

/* A handler interrupts the thread's own work, begins a section, and leaves by a jump. */
sigjmp_buf out_of_handler;

UNINSTRUMENTED void handler(int)
{
	kcov_remote_start(HANDLE);
	inside();
	siglongjmp(out_of_handler, 1);
}

UNINSTRUMENTED void jump_out_of_handler()
{
	signal(SIGUSR1, handler);
	own_work();
	if (!sigsetjmp(out_of_handler, 1))
		raise(SIGUSR1);
	kcov_remote_stop();
	own_work();
}

/* Many jumps that nobody cleans up after: deeper than there are frames nothing is recorded, and
 * as many stops lead back. */
UNINSTRUMENTED void deep()
{
	static jmp_buf back;
	static volatile int depth;

	if (depth < 20) {
		setjmp(back);
		if (depth++ < 20) {
			kcov_remote_start(HANDLE);
			inside();
			longjmp(back, 1);
		}
	}
	for (int i = 0; i < 20; i++)
		kcov_remote_stop();
	own_work();
	kcov_remote_stop();
	own_work();
}

/* Threads that end inside of a section, with destructors that run instrumented code. */
pthread_key_t key;

UNINSTRUMENTED void key_destructor(void *)
{
	in_key_destructor();
}

struct Late {
	int value;
	UNINSTRUMENTED ~Late() { in_destructor(); }
};
thread_local Late late;

UNINSTRUMENTED void begin_to_end()
{
	late.value = 1;
	pthread_setspecific(key, &late);
	kcov_remote_start(kcov_common_handle());
	inside();
}

UNINSTRUMENTED void *exits(void *)
{
	begin_to_end();
	pthread_exit(nullptr);
}

UNINSTRUMENTED void *waits(void *barrier)
{
	begin_to_end();
	pthread_barrier_wait(static_cast<pthread_barrier_t *>(barrier));
	for (;;)
		pause();
}

UNINSTRUMENTED void end_a_thread(bool cancel)
{
	pthread_barrier_t barrier;
	pthread_t thread;

	pthread_key_create(&key, key_destructor);
	pthread_barrier_init(&barrier, nullptr, 2);
	CHECK(!pthread_create(&thread, nullptr, cancel ? waits : exits, &barrier));
	if (cancel) {
		pthread_barrier_wait(&barrier);
		pthread_cancel(thread);
	}
	CHECK(!pthread_join(thread, nullptr));
	own_work();
}

} // namespace

UNINSTRUMENTED int main(int argc, char **argv)
{
	const char *how = argc > 1 ? argv[1] : "";

	open_both();
	if (!strcmp(how, "exception"))
		guarded();
	else if (!strcmp(how, "unguarded"))
		unguarded();
	else if (!strcmp(how, "jump"))
		jump();
	else if (!strcmp(how, "handler"))
		jump_out_of_handler();
	else if (!strcmp(how, "deep"))
		deep();
	else if (!strcmp(how, "exit") || !strcmp(how, "cancel"))
		end_a_thread(!strcmp(how, "cancel"));
	else
		return 2;
	print_both();
	uint64_t bytes, handles;
	rkcov_usage(&bytes, &handles);
	CHECK(!handles);
	return 0;
}
