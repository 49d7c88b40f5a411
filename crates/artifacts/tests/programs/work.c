/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Something to record. */
#include "work.h"

static volatile int sink;

void work(int n)
{
	for (int i = 0; i < n; i++)
		sink += i;
}
