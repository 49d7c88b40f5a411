/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* What test programs share. */
#ifndef WORK_H
#define WORK_H

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define CHECK(x)                                                                                  \
	do {                                                                                      \
		if (!(x)) {                                                                       \
			fprintf(stderr, "%s:%d: %s (errno %d)\n", __FILE__, __LINE__, #x, errno); \
			exit(1);                                                                  \
		}                                                                                 \
	} while (0)
#define FAILS(x, error) CHECK((x) == -1 && errno == (error))

#ifdef __cplusplus
extern "C"
#endif
/* Runs n rounds: at least n records. */
void work(int n);

#endif
