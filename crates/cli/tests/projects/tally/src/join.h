/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef JOIN_H
#define JOIN_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The length of all words together, -1 for no words. */
long join_length(const char *const *words, size_t count);

#ifdef __cplusplus
}
#endif

#endif
