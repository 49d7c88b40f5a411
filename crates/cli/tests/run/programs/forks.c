// Makes a child in the way that argv[1] says, which runs child(), and prints its process id.
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

__attribute__((noinline)) static int child(void)
{
	static volatile int n = 1;
	return n ? 0 : 1;
}

__attribute__((noinline)) static int parent(pid_t pid)
{
	int status;
	if (waitpid(pid, &status, 0) != pid)
		return 1;
	printf("%d\n", (int)pid);
	return status;
}

int main(int argc, char **argv)
{
	char *again[] = {argv[0], "child", NULL};
	const char *how = argv[argc - 1];
	pid_t pid;
	if (!strcmp(how, "child"))
		return child();
	if (!strcmp(how, "fork") || !strcmp(how, "exec")) {
		pid = fork();
		if (pid == 0) {
			if (!strcmp(how, "exec"))
				execv(argv[0], again);
			_exit(child());
		}
	} else if (!strcmp(how, "vfork")) {
		pid = vfork();
		if (pid == 0) {
			execv(argv[0], again);
			_exit(1);
		}
	} else if (!strcmp(how, "bare")) {
		// Behind libc's back; the child then ends in order, and the parent does not.
		pid = syscall(SYS_fork);
		if (pid == 0)
			pthread_exit(NULL);
		parent(pid);
		raise(SIGKILL);
	} else if (posix_spawn(&pid, argv[0], NULL, NULL, again, environ)) {
		return 1;
	}
	return parent(pid);
}
