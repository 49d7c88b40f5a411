// A library that counts in the file `ends` how often it was unloaded.
#include <fcntl.h>
#include <unistd.h>

#if V == 1
int version(void)
{
	return 1;
}
#else
static int two(int n)
{
	return n > 0 ? 2 : 3;
}

int version(void)
{
	return two(V);
}
#endif

__attribute__((destructor)) static void end(void)
{
	int fd = open("ends", O_WRONLY | O_APPEND | O_CREAT, 0666);
	if (write(fd, ".", 1) != 1)
		_exit(9);
	close(fd);
}
