// Loads shared objects in ways that make it hard to tell where a thread has been in them.
//   late FILE N      calls hot(N) of FILE in this thread and in another one, then after()
//   all FILE...      loads them all, calls hot(1) of each twice
//   replace ONE TWO  closes ONE behind the runtime's back; TWO comes to lie where it was
//   far FILE COPY GIB [block] [deny]
//                    has COPY lie a multiple of 8 GiB below FILE; calls hot(1) of both in two threads each.
//                    block: nothing more can be mapped below the largest mapping; deny: a sandbox allows
//                    no code to be written
//   base             a thread sets GS's base for itself
#define _GNU_SOURCE
#include <dlfcn.h>
#include <link.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

typedef int (*function)(int);

static int rounds = 1;

__attribute__((noinline)) int after(int n)
{
	return n + 7;
}

static void fail(const char *what)
{
	fprintf(stderr, "%s\n", what);
	exit(3);
}

static void *load(const char *file)
{
	void *handle = dlopen(file, RTLD_NOW | RTLD_LOCAL);

	if (!handle)
		fail(dlerror());
	return handle;
}

static function hot_of(void *handle)
{
	function hot = (function)dlsym(handle, "hot");

	if (!hot)
		fail(dlerror());
	return hot;
}

static void *call(void *hot)
{
	((function)hot)(rounds);
	return NULL;
}

static void in_thread(void *(*routine)(void *), void *argument)
{
	pthread_t thread;

	if (pthread_create(&thread, NULL, routine, argument))
		fail("no thread");
	pthread_join(thread, NULL);
}

// Where a module is: its start, and how many bytes it takes.
struct place {
	void *handle;
	unsigned long start, len;
};

static int visit(struct dl_phdr_info *info, size_t size, void *argument)
{
	struct place *place = argument;
	unsigned long end = 0;

	if (info->dlpi_addr != place->start)
		return 0;
	for (int i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *header = &info->dlpi_phdr[i];

		if (header->p_type == PT_LOAD && header->p_vaddr + header->p_memsz > end)
			end = header->p_vaddr + header->p_memsz;
	}
	place->len = (end + 4095) & ~4095ul;
	return 1;
}

static struct place place_of(const char *file)
{
	struct place place = { .handle = load(file) };
	struct link_map *map;

	if (dlinfo(place.handle, RTLD_DI_LINKMAP, &map))
		fail(dlerror());
	place.start = map->l_addr;
	dl_iterate_phdr(visit, &place);
	return place;
}

static void *reserve(unsigned long at, unsigned long len, int flags)
{
	return mmap((void *)at, len, PROT_NONE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | flags, -1, 0);
}

// Leaves no other room at or above `start` than `len` bytes there: what is mapped next lies there.
static void leave_room(unsigned long start, unsigned long len)
{
	for (unsigned long size = 256ul << 20; size >= 4096; size /= 16)
		for (;;) {
			char *at = reserve(0, size, 0);

			if (at == MAP_FAILED)
				fail("cannot reserve");
			if ((unsigned long)at < start) {
				munmap(at, size);
				break;
			}
		}
	// The lowest piece may end above, the room has to be whole.
	reserve(start, len, MAP_FIXED);
	munmap((void *)start, len);
}

static void block_below_the_largest(void)
{
	FILE *maps = fopen("/proc/self/maps", "r");
	unsigned long start, end, first = 0, most = 0;
	char line[512];

	while (maps && fgets(line, sizeof line, maps))
		if (sscanf(line, "%lx-%lx", &start, &end) == 2 && end - start > most) {
			most = end - start;
			first = start;
		}
	if (maps)
		fclose(maps);
	reserve(first - (64ul << 30), 64ul << 30, MAP_FIXED_NOREPLACE);
}

static void deny_written_code(void)
{
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mprotect, 0, 4),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[2])),
		BPF_STMT(BPF_ALU | BPF_AND | BPF_K, PROT_WRITE | PROT_EXEC),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, PROT_WRITE | PROT_EXEC, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | 13),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { sizeof filter / sizeof *filter, filter };

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
	    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program))
		fail("no filter");
}

extern char __executable_start[];

// With this base every check reads 1.
static void *with_a_base(void *argument)
{
	char *ones = mmap(NULL, 64 << 20, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	memset(ones, 1, 64 << 20);
	syscall(SYS_arch_prctl, 0x1001, ones - __executable_start);
	after(1);
	return argument;
}

int main(int argc, char **argv)
{
	const char *how = argc > 1 ? argv[1] : "";

	if (!strcmp(how, "late")) {
		function hot = hot_of(load(argv[2]));

		rounds = atoi(argv[3]);
		call(hot);
		in_thread(call, hot);
		return after(rounds) < 0;
	}
	if (!strcmp(how, "all")) {
		for (int i = 2; i < argc; i++) {
			function hot = hot_of(load(argv[i]));

			hot(1);
			hot(1);
		}
		return 0;
	}
	if (!strcmp(how, "replace")) {
		int (*close)(void *) = (int (*)(void *))dlsym(load("libc.so.6"), "dlclose");
		struct place one = place_of(argv[2]), two;

		call(hot_of(one.handle));
		close(one.handle);
		leave_room(one.start, one.len);
		two = place_of(argv[3]);
		if (two.start != one.start)
			fail("it lies elsewhere");
		call(hot_of(two.handle));
		return 0;
	}
	if (!strcmp(how, "far")) {
		struct place one = place_of(argv[2]), two;
		unsigned long start = one.start - (strtoul(argv[4], NULL, 0) << 30);

		for (int i = 5; i < argc; i++)
			if (!strcmp(argv[i], "block"))
				block_below_the_largest();
			else
				deny_written_code();
		leave_room(start, one.len);
		two = place_of(argv[3]);
		if (two.start != start)
			fail("it lies elsewhere");
		// The threads are there at the same time, so that each has a map of its own.
		call(hot_of(one.handle));
		in_thread(call, hot_of(two.handle));
		call(hot_of(two.handle));
		in_thread(call, hot_of(one.handle));
		return 0;
	}
	in_thread(with_a_base, NULL);
	return 0;
}
