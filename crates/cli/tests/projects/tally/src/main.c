/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* tally PLUGIN WORD...: what each part of the project makes of the words. */
#include "join.h"
#include "tally.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

struct work {
	const char *text;
	size_t words;
};

static void *count_words(void *arg)
{
	struct work *work = arg;

	work->words = tally_words(work->text, strlen(work->text));
	return NULL;
}

static tally_weigh_fn *load(const char *plugin)
{
	void *module = dlopen(plugin, RTLD_NOW | RTLD_LOCAL);

	if (!module) {
		fprintf(stderr, "%s\n", dlerror());
		return NULL;
	}
	return (tally_weigh_fn *)dlsym(module, "tally_weigh");
}

int main(int argc, char **argv)
{
	struct work work = { .text = argc > 2 ? argv[2] : "" };
	tally_weigh_fn *weigh;
	pthread_t worker;

	if (argc < 2 || !(weigh = load(argv[1])))
		return 2;
	if (pthread_create(&worker, NULL, count_words, &work) || pthread_join(worker, NULL))
		return 1;
	printf("words %zu\n", work.words);
	printf("weight %u\n", weigh(work.text));
	printf("length %ld\n", join_length((const char *const *)argv + 2, (size_t)argc - 2));
	return 0;
}
