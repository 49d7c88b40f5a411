/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* No annotated code: what the suite can test without any is left. */
#define _GNU_SOURCE
#include "agent.h"

#include <string.h>

char *subject_facts(void)
{
	return strdup("lacks sections there is no annotated code;"
		      "lacks markers there is no known code;"
		      "lacks comparisons there is no known code;"
		      "lacks softirq there is no annotated code;"
		      "lacks hardirq there is no annotated code;"
		      "lacks signal there is no annotated code;"
		      "lacks kernel-threads there is no annotated code");
}

const char *subject_run(struct words *words, struct seen *seen)
{
	(void)seen;
	words->at = words->end;
	return "sections there is no annotated code";
}
