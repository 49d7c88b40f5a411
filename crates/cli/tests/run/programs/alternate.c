// A handler on an alternate stack of argv[1] bytes more than the kernel needs, below which nothing is
// mapped. It is the first instrumented code of its thread; with a second argument, of a forked child.
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#ifdef __clang__
#define PLAIN __attribute__((no_sanitize("coverage")))
#else
#define PLAIN __attribute__((no_sanitize_coverage))
#endif
#define PAGE 4096ul

static unsigned long extra;
static int forks;
static volatile int result;

__attribute__((noinline)) static int handled(int n)
{
	if (n > 1)
		return 2;
	return n;
}

static void handler(int signal)
{
	result = handled(signal);
}

PLAIN static void *thread(void *argument)
{
	size_t size = getauxval(AT_MINSIGSTKSZ) + extra;
	size_t whole = (size + PAGE - 1) / PAGE * PAGE;
	char *memory = mmap(NULL, whole + PAGE, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	stack_t alternate = {.ss_sp = memory + PAGE, .ss_size = size};

	mprotect(memory, PAGE, PROT_NONE);
	sigaltstack(&alternate, NULL);
	if (forks) {
		pid_t child = fork();

		if (child) {
			int status = -1;

			waitpid(child, &status, 0);
			if (status)
				printf("the child died: %x\n", status);
			return argument;
		}
	}
	raise(SIGUSR1);
	if (forks)
		_exit(0);
	return argument;
}

int main(int argc, char **argv)
{
	struct sigaction action = {.sa_handler = handler, .sa_flags = SA_ONSTACK};
	pthread_t other;

	extra = argc > 1 ? strtoul(argv[1], NULL, 0) : 0;
	forks = argc > 2;
	sigaction(SIGUSR1, &action, NULL);
	pthread_create(&other, NULL, thread, NULL);
	pthread_join(other, NULL);
	puts("ok");
	return 0;
}
