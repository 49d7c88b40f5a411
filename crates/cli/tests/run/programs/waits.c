// Says "ready", counts the signals it gets, and ends when it is told to: by SIGTERM, or by the end
// of its standard input.
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static volatile sig_atomic_t interrupts, terminated;

static void interrupted(int signal)
{
	interrupts++;
}

static void terminate(int signal)
{
	terminated = 1;
}

int main(void)
{
	char byte;
	struct sigaction action = {.sa_handler = interrupted};
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGUSR1, &action, NULL);
	action.sa_handler = terminate;
	sigaction(SIGTERM, &action, NULL);
	puts("ready");
	fflush(stdout);
	while (!terminated) {
		ssize_t length = read(0, &byte, 1);
		if (length == 0)
			break;
		if (length == 1 && byte == '?') {
			printf("%d interrupts\n", (int)interrupts);
			fflush(stdout);
		}
	}
	return terminated ? 15 : 4;
}
