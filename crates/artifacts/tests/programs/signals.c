/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A signal handler interrupts a thread that records, again and again, also in the middle of
 * callbacks and of the interface's calls.
 *
 * Usage: signals local | section TIMES. Prints how many records of tick() there should be and are,
 * and how many of the handler. In sections, the handler has one of its own.
 */
#include <signal.h>
#include <string.h>
#include <sys/time.h>
#include "client.h"

#define MOST 8

static volatile long handled, ticked;
static volatile int sections;

/* Records of one function, and its PCs. */
struct function {
	unsigned long pcs[MOST];
	int len;
};

static struct function of_tick, of_handler;

__attribute__((noinline)) static void tick(void)
{
	if (ticked >= 0)
		ticked++;
}

__attribute__((noinline)) static void handler_work(void)
{
	if (handled >= 0)
		handled++;
}

UNINSTRUMENTED static void handler(int signal)
{
	(void)signal;
	if (sections)
		kcov_remote_start(HANDLE);
	handler_work();
	if (sections)
		kcov_remote_stop();
}

UNINSTRUMENTED static void learn(struct client *client, void (*run)(void), struct function *function)
{
	unsigned long count;

	client->cover[0] = 0;
	run();
	count = client_count(client);
	CHECK(count > 0 && count <= MOST);
	memcpy(function->pcs, client->cover + 1, count * sizeof(unsigned long));
	function->len = (int)count;
	client->cover[0] = 0;
}

UNINSTRUMENTED static int has(const struct function *function, unsigned long pc)
{
	for (int i = 0; i < function->len; i++)
		if (function->pcs[i] == pc)
			return 1;
	return 0;
}

/* Counts the records of a client's buffer, and empties it. No signal comes meanwhile. */
UNINSTRUMENTED static void count(struct client *client, long *ticks, long *handlers)
{
	unsigned long records = client_count(client);

	CHECK(records < WORDS - 1);
	for (unsigned long i = 1; i <= records; i++) {
		if (has(&of_tick, client->cover[i])) {
			++*ticks;
		} else {
			CHECK(has(&of_handler, client->cover[i]));
			++*handlers;
		}
	}
	client->cover[0] = 0;
}

UNINSTRUMENTED int main(int argc, char **argv)
{
	struct itimerval timer = { { 0, 50 }, { 0, 50 } };
	long ticks = 0, handlers = 0;
	struct client client;
	sigset_t alarm;
	long times;

	CHECK(argc == 3);
	times = atol(argv[2]);
	client_open(&client);
	client_enable(&client);
	learn(&client, tick, &of_tick);
	learn(&client, handler_work, &of_handler);
	if (!strcmp(argv[1], "section")) {
		client_disable(&client);
		client_listen(&client, HANDLE, 0);
		sections = 1;
	}
	sigemptyset(&alarm);
	sigaddset(&alarm, SIGALRM);
	sigprocmask(SIG_BLOCK, &alarm, NULL);
	CHECK(signal(SIGALRM, handler) != SIG_ERR);
	handled = ticked = 0;
	CHECK(!setitimer(ITIMER_REAL, &timer, NULL));
	while (handled < times) {
		sigprocmask(SIG_UNBLOCK, &alarm, NULL);
		for (int i = 0; i < 100; i++) {
			if (sections)
				kcov_remote_start(HANDLE);
			tick();
			tick();
			if (sections)
				kcov_remote_stop();
		}
		sigprocmask(SIG_BLOCK, &alarm, NULL);
		count(&client, &ticks, &handlers);
	}
	printf("%ld %ld %ld %ld\n", ticked * of_tick.len, ticks, handled * of_handler.len, handlers);
	return 0;
}
