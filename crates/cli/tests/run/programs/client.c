// Collects from itself: a section that somebody listens to ("listen") or nobody does (""), or what the
// main thread runs ("local").
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <rkcov.h>

static int in_section(int n)
{
	return n * 3;
}

static int in_collection(int n)
{
	return n * 5;
}

static int in_neither(int n)
{
	return n * 7;
}

static void *server(void *argument)
{
	kcov_remote_start(RKCOV_SUBSYSTEM_USER | 7);
	in_section(5);
	kcov_remote_stop();
	return argument;
}

int main(int argc, char **argv)
{
	struct kcov_remote_arg *remote = calloc(1, sizeof *remote + 8);
	const char *how = argc > 1 ? argv[1] : "";
	int mode = argc > 2 ? KCOV_TRACE_CMP : KCOV_TRACE_PC;
	int fd = rkcov_open(), bad = 0;
	unsigned long *buffer;
	pthread_t thread;

	if (rkcov_ioctl(fd, KCOV_INIT_TRACE, 4096))
		return 1;
	buffer = rkcov_mmap(NULL, 4096 * 8, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (buffer == MAP_FAILED)
		return 2;
	if (!strcmp(how, "local")) {
		if (rkcov_ioctl(fd, KCOV_ENABLE, mode))
			return 3;
		buffer[0] = 0;
		in_collection(5);
		bad = mode == KCOV_TRACE_PC && buffer[0] == 0;
		return rkcov_ioctl(fd, KCOV_DISABLE, 0) || bad ? 4 : 0;
	}
	remote->trace_mode = mode;
	remote->area_size = 1024;
	remote->num_handles = 1;
	remote->handles[0] = RKCOV_SUBSYSTEM_USER | 7;
	if (!strcmp(how, "listen") &&
	    rkcov_ioctl(fd, KCOV_REMOTE_ENABLE, (unsigned long)remote))
		return 5;
	pthread_create(&thread, NULL, server, NULL);
	pthread_join(thread, NULL);
	if (!strcmp(how, "listen"))
		bad = mode == KCOV_TRACE_PC && buffer[0] == 0;
	return bad || (argc > 9 && in_neither(argc)) ? 6 : 0;
}
