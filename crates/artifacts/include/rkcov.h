/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * rkcov.h: kcov inside a process.
 *
 * A client makes the same calls as on /sys/kernel/debug/kcov. rkcov_open() returns a file
 * descriptor. rkcov_ioctl() takes the commands of <linux/kcov.h>; rkcov_mmap() and rkcov_close()
 * work like mmap() and close(). dup(), fork() and exit treat the descriptor like any other; exec
 * closes it.
 *
 * Annotations have the kernel's names. Code that the calling thread runs between
 * kcov_remote_start() and kcov_remote_stop(), a section, is recorded for the client that listens to
 * the handle, if there is one.
 *
 * Any thread may call each function at any time, also several at once, unless its comment says
 * otherwise. A signal handler may call rkcov_ioctl(), begin and end sections, and enter and leave
 * contexts; docs/kcov.md says what is recorded there. Functions that return int return 0 or -1, and set
 * errno if they return -1, unless their comment says otherwise. Others do not use errno.
 *
 * "rkcov cc" finds this header and links the runtime. To build without it, run "rkcov install":
 * pkg-config then finds the header and the runtime as "rkcov".
 */
#ifndef RKCOV_H
#define RKCOV_H

#include <linux/kcov.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/types.h>

/* Not in <linux/kcov.h> yet: the proposal's definitions. */
#ifndef KCOV_UNIQUE_ENABLE
#define KCOV_UNIQUE_ENABLE _IOW('c', 103, unsigned long)
#endif
#ifndef KCOV_RESET_TRACE
#define KCOV_RESET_TRACE _IO('c', 104)
#endif

/*
 * The first subsystem for handles of userspace programs: 0x80 to 0xff, in the top byte. Linux reserves
 * the lower ones. For kcov_remote_handle().
 */
#define RKCOV_SUBSYSTEM_USER (0x80ull << 56)

#ifdef __cplusplus
extern "C" {
#endif

/*
 * The device
 */

/*
 * Opens a new kcov, which has no buffer yet.
 *
 * Returns its file descriptor, or -1.
 * Errors: ENOMEM: no memory, no room for another kcov or another file, or no /proc.
 */
int rkcov_open(void);

/*
 * Like ioctl() on the kernel's device. argument: as the request says; the address of a struct is
 * passed as a number.
 *
 * KCOV_ENABLE, KCOV_UNIQUE_ENABLE and KCOV_REMOTE_ENABLE make the calling thread the owner. Only the
 * owner can call KCOV_DISABLE. The end of the owner disables the kcov.
 *
 * Errors: EBADF: neither this process nor one that it was forked from opened fd as a kcov. EBUSY: the
 * call is in a signal handler that interrupted rkcov on this thread. Otherwise those of the request,
 * in docs/kcov.md.
 */
int rkcov_ioctl(int fd, unsigned long request, unsigned long argument);

/*
 * Like mmap(): maps the buffer, which KCOV_INIT_TRACE has made. A buffer may be mapped several times. It
 * stays there until the last mapping is unmapped, by munmap(), also if fd is closed before.
 *
 * address: where, or NULL. length: the size of the buffer in bytes; it is rounded up to whole pages.
 * protection: PROT_READ, or PROT_READ | PROT_WRITE. flags: MAP_SHARED; with MAP_FIXED, address is
 * taken as it is. offset: 0.
 *
 * Returns the address of the buffer, or MAP_FAILED, and sets errno then.
 * Errors: EBADF: fd is not a kcov; EINVAL: there is no buffer, another length or offset, or the buffer
 * was made after this process was forked; ENOMEM, and the other errors of mmap().
 */
void *rkcov_mmap(void *address, size_t length, int protection, int flags, int fd, off_t offset);

/*
 * Like close(). With the last copy of a kcov its handles and its memory are released at once. close()
 * and dup2() may close copies too; then they are released by a later rkcov_open().
 *
 * As with any file, no other thread may use fd meanwhile.
 * Errors: those of close().
 */
int rkcov_close(int fd);

/* Returns 1 if fd is a kcov of this process or of one that it was forked from, otherwise 0. */
int rkcov_is_kcov(int fd);

/*
 * Returns the file descriptor that the runtime keeps open since the first rkcov_open(), or -1. A
 * program that closes ranges of file descriptors must leave it open; otherwise rkcov_open() fails with
 * ENOMEM.
 */
int rkcov_kept(void);

/* What was lost since the descriptor was opened. */
struct rkcov_drops {
	uint64_t full;    /* records for which a buffer or an area had no room */
	uint64_t stale;   /* records of sections whose descriptor was disabled before they stopped */
	uint64_t no_area; /* sections that got no area */
	uint64_t deep;    /* sections that were nested too deep, of all descriptors */
};

/*
 * Writes the counters of fd to drops.
 *
 * Errors: EBADF: fd is not a kcov.
 */
int rkcov_drops(int fd, struct rkcov_drops *drops);

/*
 * Appends the PCs of a buffer to a file: a list that "rkcov report" and other commands read like a
 * trace. The list also has the process and its modules. A file may have any number of buffers of any
 * number of processes, which may append at the same time.
 *
 * path: the file, which is created if it is not there. name: what reports call these PCs, or NULL.
 * buffer: as mapped; its first word is the number of PCs. words: its size in words of eight bytes. The
 * buffer should not change meanwhile, so disable first.
 *
 * Errors: EINVAL: path or buffer is NULL, or words is 0; and those of open() and write().
 */
int rkcov_save(const char *path, const char *name, const uint64_t *buffer, size_t words);

/*
 * Sections
 */

/*
 * Begins a section on the calling thread. With handle 0, or a handle that no client listens to, nothing
 * is recorded. Sections nest, up to eight: an inner section suspends the outer one, or the thread's own
 * collection. Deeper sections record nothing, and are counted.
 *
 * kcov_remote_handle() of <linux/kcov.h> makes a handle. The _common form takes a common handle's
 * instance, the _usb forms a bus number. In a process _softirq makes no difference.
 */
void kcov_remote_start(uint64_t handle);
void kcov_remote_start_common(uint64_t id);
void kcov_remote_start_usb(uint64_t id);
void kcov_remote_start_usb_softirq(uint64_t id);

/* Ends the innermost section of the calling thread. Without a section it does nothing. */
void kcov_remote_stop(void);
void kcov_remote_stop_softirq(void);

/*
 * Returns the calling thread's common handle, or 0. Use it for sections on other threads that do work
 * for this thread. Threads and forked children inherit it.
 */
uint64_t kcov_common_handle(void);

/*
 * Contexts
 *
 * A context is a named piece of work. "rkcov run" records each context separately.
 *
 * A program that calls these functions also links and runs without the runtime; then they do nothing.
 * While nobody collects, each is a call, a load and a branch.
 */

/*
 * A context: a handle of RKCOV_SUBSYSTEM_USER, which KCOV_REMOTE_ENABLE accepts like any other. 0 is no
 * context. It may be passed to other threads, and to forked processes.
 */
typedef uint64_t rkcov_context_t;

/* What sort of work a context is. Reports show it. */
enum rkcov_kind {
	RKCOV_TEST = 1,
	RKCOV_REQUEST = 2,
	RKCOV_JOB = 3,
	RKCOV_INPUT = 4,
	RKCOV_USER = 5, /* any other */
};

/*
 * The runtime's side of the functions below, for languages that cannot use this header. C and C++ do not
 * call them: without the runtime, their addresses are NULL.
 */
#define RKCOV_WEAK __attribute__((weak))
RKCOV_WEAK uint64_t __rkcov_context(uint32_t kind, const char *name, size_t length);
RKCOV_WEAK int __rkcov_contexts_wanted(void);
RKCOV_WEAK void __rkcov_enter(uint64_t context);
RKCOV_WEAK void __rkcov_leave(void);
RKCOV_WEAK void __rkcov_end(uint64_t context);
#undef RKCOV_WEAK

/*
 * What is recorded for a context begins and ends in these functions. They have no callbacks, so no report
 * shows them.
 */
#if defined(__clang__)
#define RKCOV_PLAIN static __attribute__((unused, noinline, no_sanitize("coverage")))
#elif __GNUC__ >= 12
#define RKCOV_PLAIN static __attribute__((unused, noinline, no_sanitize_coverage))
#else
#define RKCOV_PLAIN static inline
#endif

/* Returns 1 if somebody collects, otherwise 0: then there is no need to build a name for rkcov_context(). */
RKCOV_PLAIN int rkcov_contexts_wanted(void)
{
	return __rkcov_contexts_wanted && __rkcov_contexts_wanted();
}

/*
 * Creates a context. name: length bytes of any value, up to 1 MiB, which are copied. Contexts with the
 * same name are different contexts. The parent is the context that the calling thread is in.
 *
 * Returns the context, or 0 if nobody collects or if there is no room for it.
 */
RKCOV_PLAIN rkcov_context_t rkcov_context_bytes(enum rkcov_kind kind, const void *name, size_t length)
{
	return __rkcov_context ? __rkcov_context((uint32_t)kind, (const char *)name, length) : 0;
}

/* Like rkcov_context_bytes(), with a name that ends with a zero byte. */
RKCOV_PLAIN rkcov_context_t rkcov_context(enum rkcov_kind kind, const char *name)
{
	return rkcov_contexts_wanted() ? rkcov_context_bytes(kind, name, strlen(name)) : 0;
}

/*
 * Begins a section of the context on the calling thread. Until rkcov_leave() on the same thread, the code
 * that the thread runs is recorded for the context. Any number of threads may be in a context, each any
 * number of times. Threads that are created there begin in it. For 0, and for a context that has ended,
 * the code is unattributed.
 */
RKCOV_PLAIN void rkcov_enter(rkcov_context_t context)
{
	if (__rkcov_enter)
		__rkcov_enter(context);
}

/* Ends the calling thread's innermost section, as kcov_remote_stop() does. Without one it does nothing. */
RKCOV_PLAIN void rkcov_leave(void)
{
	if (__rkcov_leave)
		__rkcov_leave();
}

/*
 * Ends the context: the work is done. It waits for no thread. Code that threads still run in it afterwards
 * is unattributed. Each of them calls rkcov_leave() as usual. For 0 it does nothing.
 */
RKCOV_PLAIN void rkcov_end(rkcov_context_t context)
{
	if (__rkcov_end)
		__rkcov_end(context);
}

#undef RKCOV_PLAIN

#ifdef __cplusplus
}
#endif

#endif /* RKCOV_H */
