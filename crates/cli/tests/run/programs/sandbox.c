// Locks itself into a sandbox and ends there. argv[1]: `e` exits, `t` has a thread end, `p` loads a
// library first. Any system call but those that the program and libc make kills it.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define ALLOW(n) \
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, n, 0, 1), \
	BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)

static void lock(void)
{
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		ALLOW(SYS_read),
		ALLOW(SYS_write),
		ALLOW(SYS_exit_group),
		// The end of a thread, as libc has it.
		ALLOW(SYS_exit),
		ALLOW(SYS_madvise),
		ALLOW(SYS_rt_sigprocmask),
		ALLOW(SYS_futex),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
	};
	// At an exit alone there is less: the last four are for threads.
	struct sock_fprog all = {sizeof filter / sizeof *filter, filter};
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &all))
		_exit(7);
}

static void lock_all(void)
{
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		ALLOW(SYS_read),
		ALLOW(SYS_write),
		ALLOW(SYS_exit_group),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
	};
	struct sock_fprog all = {sizeof filter / sizeof *filter, filter};
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &all))
		_exit(7);
}

__attribute__((noinline)) static int parse(const char *text)
{
	int depth = 0;
	while (*text) {
		if (*text == '{')
			depth++;
		text++;
	}
	return depth;
}

static void *work(void *argument)
{
	pthread_setname_np(pthread_self(), "worker");
	int depth = parse("{{");
	lock();
	for (int n = 0; n < 10000; n++)
		parse("{ { {");
	depth += parse(argument);
	return (void *)(long)depth;
}

int main(int argc, char **argv)
{
	int depth = 3;
	if (argc < 2)
		return 8;
	if (argv[1][0] == 'p') {
		void *plugin = dlopen("./plugin.so", RTLD_NOW);
		if (!plugin) {
			puts(dlerror());
			return 9;
		}
		((int (*)(int))dlsym(plugin, "plugin"))(1);
	}
	if (argv[1][0] == 't') {
		pthread_t thread;
		void *result;
		pthread_create(&thread, NULL, work, "{");
		pthread_join(thread, &result);
		depth = (int)(long)result;
	} else {
		lock_all();
		for (int n = 0; n < 10000; n++)
			parse("{ { {");
		depth = parse("{{}{");
	}
	if (depth != 3 || write(1, "3\n", 2) != 2)
		return 10;
	// Not what main() returns: exit() runs destructors.
	exit(0);
}
