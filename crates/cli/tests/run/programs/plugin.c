// A shared object: called through the function that an executable finds by this name.
#include <stddef.h>
#include <unistd.h>

static int loaded;
static char name[32];

__attribute__((constructor)) static void plugin_constructor(void)
{
	loaded = getpid() > 0;
}

__attribute__((noinline)) static int plugin_helper(int n)
{
	if (n > 5)
		return n + loaded;
	return -1;
}

int plugin_call(int n)
{
	// Grows the stack and the frame, so that the call is no tail call.
	name[n % sizeof name] = 1;
	return plugin_helper(n) * 2 + name[0];
}
