// Prints how many bytes of stack a handler takes whose callback is the first of its thread, over one
// that has no callback. With an argument, in a child that has just been forked.
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define SIZE (1 << 16)
#define PLAIN __attribute__((noinline, no_sanitize_coverage))

static char *stack;
static int forks;

static void recorded(int signal)
{
	(void)signal;
}

PLAIN static void plain(int signal)
{
	(void)signal;
}

PLAIN static long taken(int signal)
{
	memset(stack, 0xa5, SIZE);
	raise(signal);
	long from = 0;
	while (stack[from] == (char)0xa5)
		from++;
	return SIZE - from;
}

PLAIN static void *thread(void *argument)
{
	(void)argument;
	stack = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	stack_t alternate = {.ss_sp = stack, .ss_size = SIZE};
	sigaltstack(&alternate, NULL);
	if (forks) {
		pid_t child = fork();
		if (child) {
			int status;
			waitpid(child, &status, 0);
			return NULL;
		}
	}
	long without = taken(SIGUSR1), with = taken(SIGUSR2);
	printf("%ld\n", with - without);
	fflush(stdout);
	if (forks)
		_exit(0);
	return NULL;
}

int main(int argc, char **argv)
{
	(void)argv;
	forks = argc > 1;
	struct sigaction action = {.sa_handler = plain, .sa_flags = SA_ONSTACK};
	sigaction(SIGUSR1, &action, NULL);
	action.sa_handler = recorded;
	sigaction(SIGUSR2, &action, NULL);
	pthread_t other;
	pthread_create(&other, NULL, thread, NULL);
	pthread_join(other, NULL);
	return 0;
}
