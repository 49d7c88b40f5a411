/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* What sections.c measures: one of two implementations. */
#include <stdint.h>

#define HANDLES 256 /* of one client */

/* One client of the calling thread; it has HANDLES handles at most. */
void *client_new(void);
/* Listens to n handles from `first` on. */
void client_enable(void *client, uint64_t first, unsigned int n);
void client_disable(void *client);

/*
 * Set while the handles are registered that others are measured beside: those are known to be free,
 * and the C one does not look for them first, which would take longer than all that is measured.
 */
extern int known_to_be_free;

void section_start(uint64_t handle);
void section_stop(void);

void die(const char *what);
