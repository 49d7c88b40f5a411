// Calls the shared object that is linked in, if one is, and each one in argv, which it closes
// again.
#include <dlfcn.h>
#include <stdio.h>

#ifdef LINKED
extern int plugin_call(int);
#endif

__attribute__((noinline)) static int call(int (*function)(int))
{
	return function ? function(10) : -1;
}

int main(int argc, char **argv)
{
	int sum = 0;
#ifdef LINKED
	sum += call(plugin_call);
#endif
	for (int i = 1; i < argc; i++) {
		void *plugin = dlopen(argv[i], RTLD_NOW | RTLD_LOCAL);
		if (!plugin) {
			fprintf(stderr, "%s\n", dlerror());
			return 1;
		}
		sum += call((int (*)(int))dlsym(plugin, "plugin_call"));
		dlclose(plugin);
	}
	printf("%d\n", sum);
	return 0;
}
