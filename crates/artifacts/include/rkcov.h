/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * rkcov.h: kcov inside a process.
 *
 * A client makes the same calls as on /sys/kernel/debug/kcov. rkcov_open() returns a file
 * descriptor. rkcov_ioctl() takes the commands of <linux/kcov.h>; rkcov_mmap() and rkcov_close()
 * work like mmap() and close(). dup(), fork() and exit treat the descriptor like any other; exec
 * closes it. On failure each call returns -1 (rkcov_mmap(): MAP_FAILED) and sets errno.
 *
 * Annotations have the kernel's names. Code that the calling thread runs between
 * kcov_remote_start() and kcov_remote_stop(), a section, is recorded for the client that listens to
 * the handle, if there is one. Sections nest: an inner section suspends the outer one, or the
 * thread's own collection.
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

/* Subsystems 0x80 to 0xff are for userspace programs. Linux reserves the lower ones. */
#define RKCOV_SUBSYSTEM_USER (0x80ull << 56)

#ifdef __cplusplus
extern "C" {
#endif

/* Opens a new descriptor. ENOMEM: no memory, too many descriptors, or no /proc. */
int rkcov_open(void);

/* Like ioctl(), with the commands and errors of the kernel's kcov. EBADF: neither this process nor
 * one that it was forked from opened fd as a kcov. */
int rkcov_ioctl(int fd, unsigned long request, unsigned long argument);

/* Like mmap(). length: the buffer's size, rounded up to whole pages. offset: 0. */
void *rkcov_mmap(void *address, size_t length, int protection, int flags, int fd, off_t offset);

/* Like close(). */
int rkcov_close(int fd);

/* Returns 1 if fd is a kcov, otherwise 0. */
int rkcov_is_kcov(int fd);

/* rkcov_number() returns a number that all copies (dup(), fork()) of a kcov share, or UINT64_MAX if
 * fd is not a kcov. Call rkcov_forget() with it after something other than rkcov_close() closed a
 * copy, such as dup2(). UINT64_MAX means any descriptor. */
uint64_t rkcov_number(int fd);
void rkcov_forget(uint64_t number);

/* Returns the file descriptor that the runtime keeps open since the first rkcov_open(), or -1. A
 * program that closes ranges of descriptors must leave it open; otherwise rkcov_open() fails with
 * ENOMEM. */
int rkcov_kept(void);

/* Losses, counted since the descriptor was opened. */
struct rkcov_drops {
	uint64_t full;    /* records for which a buffer or an area had no room */
	uint64_t stale;   /* records of sections whose descriptor was disabled before they stopped */
	uint64_t no_area; /* sections that got no area */
	uint64_t deep;    /* sections that were nested too deep, of all descriptors */
};

/* Reads the counters. EBADF: fd is not a kcov. */
int rkcov_drops(int fd, struct rkcov_drops *drops);

/* Appends the PCs of a buffer to the file path, a list that "rkcov report" and other commands read like a
 * trace. name: what reports call them, or NULL. buffer: as mapped, its first word is the count of PCs;
 * words: its size. The list also has the process and its modules, and may have any number of buffers
 * of any number of processes. EINVAL: words is 0; otherwise the errors of open() and write(). */
int rkcov_save(const char *path, const char *name, const uint64_t *buffer, size_t words);

/* Returns the bytes that descriptors, handles and areas use, and the number of registered handles,
 * in this process and all processes that share its kcov through fork(). For leak tests. */
void rkcov_usage(uint64_t *bytes, uint64_t *handles);

/* Begins a section. With handle 0, or a handle that no client listens to, nothing is recorded. */
void kcov_remote_start(uint64_t handle);
void kcov_remote_start_common(uint64_t id);
void kcov_remote_start_usb(uint64_t id);
void kcov_remote_start_usb_softirq(uint64_t id);

/* Ends the innermost section. Without a section it does nothing. */
void kcov_remote_stop(void);
void kcov_remote_stop_softirq(void);

/* Returns the calling thread's common handle, or 0. Use it for sections that do work for this
 * thread. Threads and forked children inherit it. */
uint64_t kcov_common_handle(void);

/* Contexts: named pieces of work. "rkcov run" records each context separately.
 *
 * A program that calls these functions also links and runs without the runtime; then they do nothing.
 * While nobody collects, each is a call, a load and a branch. */

/* A context: a handle of RKCOV_SUBSYSTEM_USER, which KCOV_REMOTE_ENABLE accepts like any other. 0 if
 * nobody collects, or if there is no room. */
typedef uint64_t rkcov_context_t;

enum rkcov_kind {
	RKCOV_TEST = 1,
	RKCOV_REQUEST = 2,
	RKCOV_JOB = 3,
	RKCOV_INPUT = 4,
	RKCOV_USER = 5,
};

/* The runtime's functions, also for languages that cannot use this header. */
#define RKCOV_WEAK __attribute__((weak))
RKCOV_WEAK uint64_t __rkcov_context(uint32_t kind, const char *name, size_t length);
RKCOV_WEAK int __rkcov_contexts_wanted(void);
RKCOV_WEAK void __rkcov_enter(uint64_t context);
RKCOV_WEAK void __rkcov_leave(void);
RKCOV_WEAK void __rkcov_end(uint64_t context);
#undef RKCOV_WEAK

/* What is recorded for a context begins and ends in these functions. They have no callbacks, so no report
 * shows them. */
#if defined(__clang__)
#define RKCOV_PLAIN static __attribute__((unused, noinline, no_sanitize("coverage")))
#elif __GNUC__ >= 12
#define RKCOV_PLAIN static __attribute__((unused, noinline, no_sanitize_coverage))
#else
#define RKCOV_PLAIN static inline
#endif

/* Returns 1 if contexts are collected: then build the name. */
RKCOV_PLAIN int rkcov_contexts_wanted(void)
{
	return __rkcov_contexts_wanted && __rkcov_contexts_wanted();
}

/* Creates a context. The name may contain any bytes, up to 1 MiB. Contexts with the same name are
 * different contexts. The parent is the context that the calling thread is in. */
RKCOV_PLAIN rkcov_context_t rkcov_context_bytes(enum rkcov_kind kind, const void *name, size_t length)
{
	return __rkcov_context ? __rkcov_context((uint32_t)kind, (const char *)name, length) : 0;
}

RKCOV_PLAIN rkcov_context_t rkcov_context(enum rkcov_kind kind, const char *name)
{
	return rkcov_contexts_wanted() ? rkcov_context_bytes(kind, name, strlen(name)) : 0;
}

/* Begins a section of the context on the calling thread. Until rkcov_leave(), the code that the thread
 * runs is recorded for the context. Any number of threads may be in a context, each any number of
 * times. Threads that are created there begin in it. For 0, and for a context that has ended, the code
 * is unattributed. */
RKCOV_PLAIN void rkcov_enter(rkcov_context_t context)
{
	if (__rkcov_enter)
		__rkcov_enter(context);
}

/* Ends the calling thread's innermost section. Without a section it does nothing. */
RKCOV_PLAIN void rkcov_leave(void)
{
	if (__rkcov_leave)
		__rkcov_leave();
}

/* Ends the context. Code that threads still run in it afterwards is unattributed. */
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
