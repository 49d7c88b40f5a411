/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Counting words: the library of the test project. */
#ifndef TALLY_H
#define TALLY_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The number of words in `length` bytes of `text`. */
size_t tally_words(const char *text, size_t length);

/* A plugin's one symbol: makes a number of a word. */
typedef unsigned tally_weigh_fn(const char *word);

#ifdef __cplusplus
}
#endif

#endif
