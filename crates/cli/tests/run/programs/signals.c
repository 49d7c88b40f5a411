// A signal handler interrupts code that records, again and again. Prints how often each ran.
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

#ifdef __clang__
#define NOT_INSTRUMENTED __attribute__((no_sanitize("coverage")))
#else
#define NOT_INSTRUMENTED __attribute__((no_sanitize_coverage))
#endif

static volatile sig_atomic_t handled;
static volatile long ticked;

static void handler(int signal)
{
	if (signal > 5)
		handled++;
}

__attribute__((noinline)) static void tick(void)
{
	if (ticked >= 0)
		ticked++;
}

// Runs no instrumented code but in the handler.
NOT_INSTRUMENTED static void *quiet(void *unused)
{
	raise(SIGUSR1);
	return NULL;
}

int main(int argc, char **argv)
{
	struct itimerval timer = {{0, 50}, {0, 50}};
	struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART};
	if (!strcmp(argv[argc - 1], "first")) {
		pthread_t thread;
		stack_t stack = {.ss_sp = malloc(SIGSTKSZ), .ss_size = SIGSTKSZ};
		sigaltstack(&stack, NULL);
		action.sa_flags |= SA_ONSTACK;
		sigaction(SIGUSR1, &action, NULL);
		pthread_create(&thread, NULL, quiet, NULL);
		return pthread_join(thread, NULL);
	}
	sigaction(SIGALRM, &action, NULL);
	setitimer(ITIMER_REAL, &timer, NULL);
	while (handled < atoi(argv[argc - 1]))
		tick();
	signal(SIGALRM, SIG_IGN);
	printf("%d %ld\n", (int)handled, ticked);
	return 0;
}
