/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "tally.h"

static int is_space(char c)
{
	return c == ' ' || c == '\n' || c == '\t';
}

size_t tally_words(const char *text, size_t length)
{
	size_t words = 0;
	int inside = 0;

	for (size_t i = 0; i < length; i++) {
		int space = is_space(text[i]);

		if (!space && !inside)
			words++;
		inside = !space;
	}
	return words;
}
