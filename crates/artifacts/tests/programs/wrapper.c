/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A program's own pthread_create(): says that it was called, and calls the next one. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <unistd.h>
#include "work.h"

typedef void *routine_function(void *);
typedef int create_function(pthread_t *, const pthread_attr_t *, routine_function *, void *);

int WRAPPER(pthread_t *thread, const pthread_attr_t *attributes, routine_function *routine,
	    void *argument);
create_function REAL __attribute__((weak));

int WRAPPER(pthread_t *thread, const pthread_attr_t *attributes, routine_function *routine,
	    void *argument)
{
	create_function *create = REAL;

	if (create == WRAPPER)
		create = (create_function *)dlsym(RTLD_NEXT, "pthread_create");
	CHECK(write(2, "wrapped\n", 8) == 8);
	return create(thread, attributes, routine, argument);
}
