/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A client that loads and unloads modules while it collects. Each argument is a module with a
 * function work(); what it covered is printed under that name, after it was closed.
 */
#include <dlfcn.h>
#include <pthread.h>
#include "client.h"

typedef void work_function(int);

UNINSTRUMENTED static void load(const char *path)
{
	void *module = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	work_function *function;

	if (!module)
		fprintf(stderr, "%s\n", dlerror());
	CHECK(module);
	function = (work_function *)dlsym(module, "work");
	CHECK(function);
	function(2);
	CHECK(!dlclose(module));
}

UNINSTRUMENTED static void *load_in_section(void *path)
{
	kcov_remote_start(kcov_common_handle());
	load(path);
	kcov_remote_stop();
	return NULL;
}

UNINSTRUMENTED int main(int argc, char **argv)
{
	struct client mine, theirs;
	pthread_t thread;

	client_open(&mine);
	client_open(&theirs);
	client_listen(&theirs, HANDLE, 5);
	client_enable(&mine);
	for (int i = 1; i < argc; i++) {
		load(argv[i]);
		CHECK(!pthread_create(&thread, NULL, load_in_section, argv[i]));
		CHECK(!pthread_join(thread, NULL));
	}
	client_disable(&mine);
	client_disable(&theirs);
	client_print(&mine, "mine");
	client_print(&theirs, "theirs");
	client_close(&mine);
	client_close(&theirs);
	return 0;
}
