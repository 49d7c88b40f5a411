// A library that has its version from another one, which is loaded and unloaded with it.
#include <fcntl.h>
#include <unistd.h>

int inner(void);

int version(void)
{
	int n = inner();

	if (n > 2)
		return 0;
	return n;
}

__attribute__((destructor)) static void end(void)
{
	int fd = open("ends", O_WRONLY | O_APPEND | O_CREAT, 0666);
	if (write(fd, ".", 1) != 1)
		_exit(9);
	close(fd);
}
