// Forks argv[1] times while other threads record, begin and end all the time. Each child starts a
// thread of its own; every seventh is killed. Prints how many threads of children got to say so.
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static atomic_int stop;
static atomic_int *said;

__attribute__((noinline)) static int noise(int n)
{
	return n % 3 ? n * 2 : n + 1;
}

static void *brief(void *unused)
{
	for (int n = 0; n < 100; n++)
		noise(n);
	return NULL;
}

static void *makes_threads(void *unused)
{
	while (!atomic_load(&stop)) {
		pthread_t thread;
		if (!pthread_create(&thread, NULL, brief, NULL))
			pthread_join(thread, NULL);
	}
	return NULL;
}

__attribute__((noinline)) static void *of_child(void *unused)
{
	atomic_fetch_add(said, 1);
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t threads[3];
	said = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	for (int i = 0; i < 3; i++)
		pthread_create(threads + i, NULL, makes_threads, NULL);
	for (int n = 0; n < atoi(argv[argc - 1]); n++) {
		pid_t pid = fork();
		if (pid < 0)
			return 1;
		if (pid == 0) {
			pthread_t thread;
			pthread_create(&thread, NULL, of_child, NULL);
			pthread_join(thread, NULL);
			if (n % 7 == 0)
				raise(SIGKILL);
			_exit(0);
		}
		waitpid(pid, NULL, 0);
	}
	atomic_store(&stop, 1);
	for (int i = 0; i < 3; i++)
		pthread_join(threads[i], NULL);
	printf("%d\n", atomic_load(said));
	return 0;
}
