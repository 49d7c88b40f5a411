/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * An agent: a program whose threads and processes are the tasks of the conformance suite and do what
 * it tells them. docs/conformance.md says how one is built, and what the suite asks.
 *
 * - agent.c is the protocol, for every kcov;
 * - a device is the kcov under test: device-process.c, device-file.c;
 * - a subject is code that is annotated and known: subject.c with subject.S, or subject-none.c.
 */
#ifndef AGENT_H
#define AGENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Words of a line that are still to be read. */
struct words {
	char **at, **end;
	bool bad; /* something was missing or made no sense */
};

char *next_word(struct words *words);
bool take_word(struct words *words, const char *word);
uint64_t next_number(struct words *words);
uint64_t next_handle(struct words *words);

/*
 * The device. Calls answer as libc's do: -1 (MAP_FAILED) and errno.
 */

/* What is to be said of it, as ';'-separated facts. */
extern const char device_facts[];

/* Called once, before everything else. */
void device_begin(void);
int device_open(void);
int device_ioctl(int fd, unsigned long request, unsigned long argument);
void *device_map(int fd, size_t bytes, int protection, uint64_t offset);
int device_close(int fd);

/* Records dropped so far: full, stale, no area. -1: not counted. */
int device_drops(int fd, uint64_t drops[3]);

/* Bytes that the kcov holds. -1: unknown. */
int device_memory(uint64_t *bytes);

/*
 * The subject.
 */

enum { MOST_SEEN = 64 };

/* The common handles that code saw. */
struct seen {
	uint64_t handles[MOST_SEEN];
	size_t count;
};

/* What is to be said of it: answers facts that can be freed. */
char *subject_facts(void);

/* Runs steps until the end of the line, a ';' or a '}'. Answers NULL, or what is needed for them and
 * not there. */
const char *subject_run(struct words *words, struct seen *seen);

#endif
