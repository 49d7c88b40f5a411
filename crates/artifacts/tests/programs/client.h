/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A client of the device, for test programs: what it does itself is not instrumented. */
#ifndef CLIENT_H
#define CLIENT_H

#include <stdint.h>
#include "rkcov.h"
#include "work.h"

#ifdef __clang__
#define UNINSTRUMENTED __attribute__((no_sanitize("coverage"), noinline))
#else
#define UNINSTRUMENTED __attribute__((no_sanitize_coverage, noinline))
#endif

#define WORDS 8192
#define HANDLE (RKCOV_SUBSYSTEM_USER | 7)

#ifdef __cplusplus
extern "C" {
#endif

struct client {
	int fd;
	unsigned long *cover;
};

/* Opens, initialises and maps. */
void client_open(struct client *client);
void client_close(struct client *client);

/* From the calling thread; from sections with this handle, and with this common handle. */
void client_enable(struct client *client);
void client_listen(struct client *client, uint64_t handle, uint64_t common);
void client_disable(struct client *client);

/* Records that are there. */
unsigned long client_count(const struct client *client);

/* Prints each PC as "WHAT MODULE OFFSET" and empties the buffer. */
void client_print(struct client *client, const char *what);

/* What a process has: for programs that must not grow. */
struct usage {
	uint64_t bytes, handles;
	unsigned long files, maps, resident;
};

void usage_read(struct usage *usage);

/* Fails if now is more than it was, but for this many pages, and some mappings: libc keeps stacks. */
void usage_compare(const struct usage *was, const struct usage *now, unsigned long pages);

#ifdef __cplusplus
}
#endif

#endif
