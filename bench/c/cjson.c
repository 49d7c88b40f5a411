/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* cJSON: parses each line of the file, and writes what it parsed. */
#include <stdlib.h>
#include <string.h>
#include "cJSON.h"
#include "work.h"

unsigned long work(const unsigned char *bytes, size_t len)
{
	const char *at = (const char *)bytes, *end = at + len;
	unsigned long sum = 0;

	while (at < end) {
		const char *line = at;
		const char *newline = memchr(line, '\n', (size_t)(end - line));
		cJSON *value;
		char *text;

		at = newline ? newline + 1 : end;
		next_piece();
		value = cJSON_ParseWithLength(line, (size_t)(at - line));
		text = value ? cJSON_PrintUnformatted(value) : NULL;
		if (!text)
			die("cJSON");
		sum += strlen(text);
		free(text);
		cJSON_Delete(value);
	}
	return sum;
}
