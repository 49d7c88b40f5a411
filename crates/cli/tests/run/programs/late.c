// Runs late() only if it is told to, in one of several ways in which a child gets out of sight.
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static char *self;

int late(int n)
{
	return n + 7;
}

int early(int n)
{
	return n + 3;
}

static int run(char *what, char **environment)
{
	char *argv[] = { self, what, NULL };
	pid_t pid;
	int status;

	if (posix_spawn(&pid, self, NULL, NULL, argv, environment))
		return 1;
	waitpid(pid, &status, 0);
	return status;
}

int main(int argc, char **argv)
{
	char *what = argc > 1 ? argv[1] : "";
	char *nothing[] = { NULL };

	self = argv[0];
	if (!strcmp(what, "late"))
		return late(argc) < 0;
	if (!strcmp(what, "many")) {
		int n = atoi(argv[2]);

		for (int i = 1; i <= n; i++)
			if (run(i == n ? "late" : "early", environ))
				return 2;
		return 0;
	}
	if (!strcmp(what, "cleared"))
		return run("late", nothing);
	if (!strcmp(what, "closed")) {
		pid_t pid = fork();
		int status;

		if (pid == 0) {
			char *argv[] = { self, "late", NULL };

			for (int fd = 3; fd < 1024; fd++)
				close(fd);
			execve(self, argv, nothing);
			_exit(3);
		}
		waitpid(pid, &status, 0);
		return status;
	}
	if (!strcmp(what, "fexecve")) {
		char *argv[] = { self, "late", NULL };

		fexecve(open(self, O_RDONLY | O_CLOEXEC), argv, nothing);
		return 4;
	}
	if (!strcmp(what, "daemon")) {
		if (fork())
			exit(0);
		setsid();
		if (fork())
			_exit(0);
		usleep(2500000);
		return late(argc) < 0;
	}
	if (!strcmp(what, "background")) {
		char *argv[] = { self, "late", NULL };

		if (fork())
			exit(0);
		setsid();
		for (int fd = 3; fd < 1024; fd++)
			close(fd);
		usleep(300000);
		execve(self, argv, argc > 2 ? nothing : environ);
		_exit(5);
	}
	return early(argc) < 0;
}
