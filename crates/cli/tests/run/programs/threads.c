// Each of argv[1] threads runs a function of its own; they come and go one after another.
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

static int task_0(int n) { return n + 1; }
static int task_1(int n) { return n + 2; }
static int task_2(int n) { return n + 3; }
static int (*const tasks[])(int) = {task_0, task_1, task_2};

static void *work(void *argument)
{
	long n = (long)argument;
	char name[16];
	snprintf(name, sizeof name, "task_%ld", n);
	pthread_setname_np(pthread_self(), name);
	return (void *)(long)tasks[n](n);
}

int main(int argc, char **argv)
{
	long sum = 0;
	for (long n = 0; n < atoi(argv[argc - 1]); n++) {
		pthread_t thread;
		void *result;
		pthread_create(&thread, NULL, work, (void *)n);
		pthread_join(thread, &result);
		sum += (long)result;
	}
	printf("sum %ld\n", sum);
	return 7;
}
