// Takes argv[1] steps, at most 40, each in a thread that then stays, and says its process id and the
// number of each step once it is done.
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static volatile int count;
static sem_t done;

#define STEPS(of) \
	of(1) of(2) of(3) of(4) of(5) of(6) of(7) of(8) of(9) of(10) \
	of(11) of(12) of(13) of(14) of(15) of(16) of(17) of(18) of(19) of(20) \
	of(21) of(22) of(23) of(24) of(25) of(26) of(27) of(28) of(29) of(30) \
	of(31) of(32) of(33) of(34) of(35) of(36) of(37) of(38) of(39) of(40)
#define DEFINE(n) __attribute__((noinline)) static void step_##n(void) { count += n; }
#define CASE(n) case n: step_##n(); break;

STEPS(DEFINE)

static void *take(void *number)
{
	switch ((long)number) {
		STEPS(CASE)
	}
	sem_post(&done);
	pause();
	return NULL;
}

int main(int argc, char **argv)
{
	sem_init(&done, 0, 0);
	for (long n = 1; n <= atoi(argv[argc - 1]); n++) {
		pthread_t thread;
		char line[32];
		if (pthread_create(&thread, NULL, take, (void *)n))
			return 1;
		sem_wait(&done);
		int length = snprintf(line, sizeof line, "%d %ld\n", (int)getpid(), n);
		if (write(1, line, length) != length)
			return 1;
	}
	return pause();
}
