/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A plugin: loaded while the program runs. */
#include "tally.h"

unsigned tally_weigh(const char *word);

unsigned tally_weigh(const char *word)
{
	unsigned weight = 0;

	while (*word)
		weight += (unsigned char)*word++;
	return weight;
}
