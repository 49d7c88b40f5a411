/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * rkcov_internal.h: functions of the runtime for parts and tests of rkcov. It is not installed, and these
 * functions may change with any version.
 */
#ifndef RKCOV_INTERNAL_H
#define RKCOV_INTERNAL_H

#include "rkcov.h"

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Returns a number that all copies (dup(), fork()) of a kcov share, or UINT64_MAX if fd is not a kcov.
 * librkcov-preload.so calls it before something other than rkcov_close(), such as dup2(), closes fd.
 */
uint64_t rkcov_number(int fd);

/*
 * Releases what the kcov of this number held if no copy of it is open any more. UINT64_MAX: what all such
 * kcovs held.
 */
void rkcov_forget(uint64_t number);

/*
 * Writes how many bytes descriptors, handles and areas use, and how many handles are registered, in this
 * process and in all that share its kcov through fork(). For tests that nothing leaks.
 */
void rkcov_usage(uint64_t *bytes, uint64_t *handles);

#ifdef __cplusplus
}
#endif

#endif /* RKCOV_INTERNAL_H */
