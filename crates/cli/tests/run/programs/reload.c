// Loads ./one.so and ./two.so in turn under one name, argv[1] times, and closes each.
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static int load(const char *file)
{
	unlink("now.so");
	if (link(file, "now.so"))
		return -1;
	void *handle = dlopen("./now.so", RTLD_NOW);
	if (!handle) {
		puts(dlerror());
		return -1;
	}
	int (*version)(void) = (int (*)(void))dlsym(handle, "version");
	int found = version();
	dlclose(handle);
	return found;
}

int main(int argc, char **argv)
{
	int rounds = argc > 1 ? atoi(argv[1]) : 1;
	for (int n = 0; n < rounds; n++) {
		int one = load("one.so"), two = load("two.so");
		if (one != 1 || two != 2) {
			printf("round %d: %d %d\n", n, one, two);
			return 1;
		}
	}
	puts("closed");
	return 0;
}
