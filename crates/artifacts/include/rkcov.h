/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * rkcov.h: kcov inside of a process.
 *
 * The device's calls are those that a client of /sys/kernel/debug/kcov makes, on a file descriptor
 * from rkcov_open(): rkcov_ioctl() with the commands of <linux/kcov.h>, rkcov_mmap(), and
 * rkcov_close(). dup(), fork() and exit do with it what they do with any file descriptor; exec
 * closes it. Each call answers as libc's does: -1 (rkcov_mmap(): MAP_FAILED) and errno.
 *
 * The annotations have the kernel's names. Between kcov_remote_start() and kcov_remote_stop() what
 * the calling thread runs is recorded for the client that listens to the handle, if there is one.
 * Sections nest: an inner one suspends the outer one, or what the thread collects from itself.
 *
 * "rkcov cc" finds this header and links what has these functions; for others, "rkcov install" puts
 * both where pkg-config knows of them.
 */
#ifndef RKCOV_H
#define RKCOV_H

#include <linux/kcov.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/types.h>

/* In headers of kernels that do not have them yet. */
#ifndef KCOV_UNIQUE_ENABLE
#define KCOV_UNIQUE_ENABLE _IOW('c', 103, unsigned long)
#endif
#ifndef KCOV_RESET_TRACE
#define KCOV_RESET_TRACE _IO('c', 104)
#endif

/* Subsystems from here to 0xff are for programs; Linux reserves those below. */
#define RKCOV_SUBSYSTEM_USER (0x80ull << 56)

#ifdef __cplusplus
extern "C" {
#endif

/* A new descriptor, or -1: ENOMEM (no memory, too many, or no /proc to open it through). */
int rkcov_open(void);

/* As ioctl(). The commands and their errors are those of the kernel's kcov; EBADF if fd is no
 * kcov of this process or of one that it was forked from. */
int rkcov_ioctl(int fd, unsigned long request, unsigned long argument);

/* As mmap(). length is the buffer's, rounded up to whole pages; offset is 0. */
void *rkcov_mmap(void *address, size_t length, int protection, int flags, int fd, off_t offset);

/* As close(). */
int rkcov_close(int fd);

/* 1 if fd is a kcov, else 0. */
int rkcov_is_kcov(int fd);

/* A number that all copies of a kcov have, UINT64_MAX if fd is none; and what to call with it after
 * a copy was closed by other means than rkcov_close(), as by dup2() (UINT64_MAX: any of them). */
uint64_t rkcov_number(int fd);
void rkcov_forget(uint64_t number);

/* The file descriptor that the runtime has for itself since the first rkcov_open(), or -1. Programs
 * that close whole ranges leave it open; after it was closed, rkcov_open() answers ENOMEM. */
int rkcov_kept(void);

/* What could not be delivered: counted since the descriptor was opened. */
struct rkcov_drops {
	uint64_t full;    /* records that found a buffer or an area full */
	uint64_t stale;   /* records of sections whose descriptor was disabled meanwhile */
	uint64_t no_area; /* sections that got no area */
	uint64_t deep;    /* sections nested too deep, of all descriptors */
};

/* Reads the counters. EBADF if fd is no kcov. */
int rkcov_drops(int fd, struct rkcov_drops *drops);

/* Bytes that descriptors, handles and areas take in this process and its relatives, and handles
 * that are registered: for tests of programs that must not grow. */
void rkcov_usage(uint64_t *bytes, uint64_t *handles);

/* Begins a section. handle 0, and one that nobody listens to, is no error. */
void kcov_remote_start(uint64_t handle);
void kcov_remote_start_common(uint64_t id);
void kcov_remote_start_usb(uint64_t id);
void kcov_remote_start_usb_softirq(uint64_t id);

/* Ends the section that began last. Without one it does nothing. */
void kcov_remote_stop(void);
void kcov_remote_stop_softirq(void);

/* The handle that work on the calling thread's behalf is to be annotated with, or 0. Threads and
 * forked children inherit it. */
uint64_t kcov_common_handle(void);

/* Contexts: pieces of work that have a name. "rkcov run" records each for itself.
 *
 * A program that has these in it links and runs without the runtime, too; they do nothing then. While
 * nobody collects, each is a load and a branch. */

/* A context: a handle of RKCOV_SUBSYSTEM_USER, for KCOV_REMOTE_ENABLE as others are. 0 if nobody
 * collects, or if there is no room. */
typedef uint64_t rkcov_context_t;

enum rkcov_kind {
	RKCOV_TEST = 1,
	RKCOV_REQUEST = 2,
	RKCOV_JOB = 3,
	RKCOV_INPUT = 4,
	RKCOV_USER = 5,
};

/* What the runtime has of them; for languages without headers, too. */
#define RKCOV_WEAK __attribute__((weak))
RKCOV_WEAK uint64_t __rkcov_context(uint32_t kind, const char *name, size_t length);
RKCOV_WEAK int __rkcov_contexts_wanted(void);
RKCOV_WEAK void __rkcov_enter(uint64_t context);
RKCOV_WEAK void __rkcov_leave(void);
RKCOV_WEAK void __rkcov_end(uint64_t context);
#undef RKCOV_WEAK

/* 1 if a context gets a number: for programs to which a name costs something. */
static inline int rkcov_contexts_wanted(void)
{
	return __rkcov_contexts_wanted && __rkcov_contexts_wanted();
}

/* A new context. Its name may have any bytes, and up to 1 MiB of them. Two contexts of one name are two.
 * It is a part of the context that the calling thread is in. */
static inline rkcov_context_t rkcov_context_bytes(enum rkcov_kind kind, const void *name, size_t length)
{
	return __rkcov_context ? __rkcov_context((uint32_t)kind, (const char *)name, length) : 0;
}

static inline rkcov_context_t rkcov_context(enum rkcov_kind kind, const char *name)
{
	return rkcov_contexts_wanted() ? rkcov_context_bytes(kind, name, strlen(name)) : 0;
}

/* Begins a section of the context on the calling thread, whose work is the context's until
 * rkcov_leave(). Any number of threads may be in a context, each any number of times. Threads that are
 * made there begin in it. For 0, and a context that has ended, the work is nobody's. */
static inline void rkcov_enter(rkcov_context_t context)
{
	if (__rkcov_enter)
		__rkcov_enter(context);
}

/* Ends the section that the calling thread began last. Without one it does nothing. */
static inline void rkcov_leave(void)
{
	if (__rkcov_leave)
		__rkcov_leave();
}

/* The work is over. What threads that are still in it run from now on is nobody's. */
static inline void rkcov_end(rkcov_context_t context)
{
	if (__rkcov_end)
		__rkcov_end(context);
}

#ifdef __cplusplus
}
#endif

#endif /* RKCOV_H */
