// Cleans up as test harnesses do: by a signal to the whole group, itself included.
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

static int work(int n)
{
	if (n > 2)
		return 1;
	return 0;
}

int main(int argc, char **argv)
{
	work(4);
	if (!fork()) {
		work(1);
		pause();
	}
	usleep(200000);
	kill(0, argc > 1 ? atoi(argv[1]) : SIGTERM);
	usleep(300000);
	return 5;
}
