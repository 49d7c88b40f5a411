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

#ifdef __cplusplus
}
#endif

#endif /* RKCOV_H */
