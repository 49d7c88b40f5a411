/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#define _GNU_SOURCE
#include <dirent.h>
#include <link.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "client.h"
#include "rkcov_internal.h"

#define BYTES (WORDS * sizeof(unsigned long))

void client_open(struct client *client)
{
	client->fd = rkcov_open();
	CHECK(client->fd >= 0);
	CHECK(!rkcov_ioctl(client->fd, KCOV_INIT_TRACE, WORDS));
	client->cover = rkcov_mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, client->fd, 0);
	CHECK(client->cover != MAP_FAILED);
}

void client_close(struct client *client)
{
	CHECK(!munmap(client->cover, BYTES) && !rkcov_close(client->fd));
}

void client_enable(struct client *client)
{
	CHECK(!rkcov_ioctl(client->fd, KCOV_ENABLE, KCOV_TRACE_PC));
}

void client_listen(struct client *client, uint64_t handle, uint64_t common)
{
	struct kcov_remote_arg *argument = calloc(1, sizeof(*argument) + sizeof(handle));

	CHECK(argument);
	argument->trace_mode = KCOV_TRACE_PC;
	argument->area_size = WORDS;
	argument->num_handles = 1;
	argument->common_handle = common;
	argument->handles[0] = handle;
	CHECK(!rkcov_ioctl(client->fd, KCOV_REMOTE_ENABLE, (unsigned long)argument));
	free(argument);
}

void client_disable(struct client *client)
{
	CHECK(!rkcov_ioctl(client->fd, KCOV_DISABLE, 0));
}

unsigned long client_count(const struct client *client)
{
	return __atomic_load_n(client->cover, __ATOMIC_ACQUIRE);
}

struct place {
	unsigned long pc;
	const char *what;
	int found;
};

static int print_place(struct dl_phdr_info *info, size_t size, void *argument)
{
	struct place *place = argument;
	const char *name = info->dlpi_name && *info->dlpi_name ? info->dlpi_name : "/proc/self/exe";
	char path[4096];

	(void)size;
	for (int i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *header = &info->dlpi_phdr[i];
		unsigned long start = info->dlpi_addr + header->p_vaddr;

		if (header->p_type != PT_LOAD || place->pc - start >= header->p_memsz)
			continue;
		CHECK(realpath(name, path));
		printf("%s %s 0x%lx\n", place->what, path, place->pc - info->dlpi_addr);
		place->found = 1;
		return 1;
	}
	return 0;
}

void client_print(struct client *client, const char *what)
{
	unsigned long count = client_count(client);

	for (unsigned long i = 1; i <= count; i++) {
		struct place place = { client->cover[i], what, 0 };

		dl_iterate_phdr(print_place, &place);
		CHECK(place.found);
	}
	__atomic_store_n(client->cover, 0, __ATOMIC_RELAXED);
}

static unsigned long entries(const char *folder)
{
	DIR *open = opendir(folder);
	unsigned long n = 0;

	CHECK(open);
	while (readdir(open))
		n++;
	closedir(open);
	return n;
}

static unsigned long lines(const char *path)
{
	FILE *file = fopen(path, "r");
	unsigned long n = 0;

	CHECK(file);
	for (int c; (c = getc(file)) != EOF;)
		n += c == '\n';
	fclose(file);
	return n;
}

void usage_read(struct usage *usage)
{
	unsigned long total;
	FILE *statm = fopen("/proc/self/statm", "r");

	CHECK(statm && fscanf(statm, "%lu %lu", &total, &usage->resident) == 2);
	fclose(statm);
	rkcov_usage(&usage->bytes, &usage->handles);
	usage->files = entries("/proc/self/fd");
	usage->maps = lines("/proc/self/maps");
}

void usage_compare(const struct usage *was, const struct usage *now, unsigned long pages)
{
	int grown = now->bytes > was->bytes || now->handles > was->handles ||
		    now->files > was->files || now->maps > was->maps + 16 ||
		    now->resident > was->resident + pages;

	fprintf(stderr, "bytes %lu to %lu, handles %lu to %lu, files %lu to %lu, maps %lu to %lu, "
			"resident pages %lu to %lu\n",
		(unsigned long)was->bytes, (unsigned long)now->bytes, (unsigned long)was->handles,
		(unsigned long)now->handles, was->files, now->files, was->maps, now->maps,
		was->resident, now->resident);
	CHECK(!grown);
}
