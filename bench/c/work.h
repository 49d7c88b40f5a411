/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* What the driver and the libraries under measurement know of each other. */
#include <stddef.h>

/* Works through the file once. The result depends on all of the work. */
unsigned long work(const unsigned char *bytes, size_t len);

/* Called before each piece of the work. */
void next_piece(void);

/* Ends the program with a message. */
void die(const char *what);
