/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Annotated code in this process: sections, and the sites of subject.S between them. */
#define _GNU_SOURCE
#include "agent.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

void kcov_remote_start(uint64_t handle);
void kcov_remote_stop(void);
uint64_t kcov_common_handle(void);

/* subject.S: functions, and the addresses that their callbacks return to. */
enum { MARKERS = 1024, MOST_CASES = 64 };
extern const char subject_markers[], subject_second_marker[], subject_pc_marker[];

#define COMPARISONS(SITE)                                                                         \
	SITE(cmp1, uint8_t, 1, 0) SITE(cmp2, uint16_t, 2, 0)                                      \
	SITE(cmp4, uint32_t, 4, 0) SITE(cmp8, uint64_t, 8, 0)                                     \
	SITE(const_cmp1, uint8_t, 1, 1) SITE(const_cmp2, uint16_t, 2, 1)                          \
	SITE(const_cmp4, uint32_t, 4, 1) SITE(const_cmp8, uint64_t, 8, 1)

#define DECLARE(name, type, bytes, constant)                                                      \
	void subject_##name(type arg1, type arg2);                                                \
	extern const char subject_pc_##name[];
COMPARISONS(DECLARE)
void subject_switch(uint64_t value, const uint64_t *cases);
extern const char subject_pc_switch[];
#ifdef GUARDS
extern const uint32_t subject_first_guard[];
#endif

char *subject_facts(void)
{
	size_t stride = subject_second_marker - subject_markers;
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	fprintf(out, "markers %d %p %zu", MARKERS, (const void *)subject_pc_marker, stride);
#define TELL(name, type, bytes, constant)                                                         \
	fprintf(out, ";site compare %d %d %p", bytes, constant, (const void *)subject_pc_##name);
	COMPARISONS(TELL)
	for (int bits = 8; bits <= 64; bits *= 2)
		fprintf(out, ";site switch %d %p", bits, (const void *)subject_pc_switch);
#ifdef GUARDS
	fprintf(out, ";unique %u", *subject_first_guard);
#else
	fputs(";unique 0;lacks unique markers without guards have no numbers that the suite knows", out);
#endif
	fputs(";lacks softirq a process has none;lacks hardirq a process has none"
	      ";lacks kernel-threads a process has none", out);
	fclose(out);
	return text;
}

static void run_markers(uint64_t first, uint64_t count)
{
	size_t stride = subject_second_marker - subject_markers;

	for (uint64_t i = first; i < first + count; i++)
		((void (*)(void))(subject_markers + i % MARKERS * stride))();
}

/* Whether `word` was a comparison, which was then made. */
static bool compare(const char *word, struct words *words)
{
	const char *name = word;
	char full[16];

	if (!strncmp(word, "const", 5)) {
		snprintf(full, sizeof(full), "const_cmp%s", word + 5);
		name = full;
	}
#define MAKE(site, type, bytes, constant)                                                         \
	if (!strcmp(name, #site)) {                                                               \
		type arg1 = next_number(words), arg2 = next_number(words);                        \
		subject_##site(arg1, arg2);                                                       \
		return true;                                                                      \
	}
	COMPARISONS(MAKE)
	return false;
}

/* BITS VALUE [ CASE... ] */
static void run_switch(struct words *words)
{
	uint64_t bits = next_number(words), value = next_number(words);
	uint64_t table[MOST_CASES + 2] = { 0, bits };

	words->bad |= !take_word(words, "[");
	while (!words->bad && !take_word(words, "]")) {
		if (table[0] == MOST_CASES)
			words->bad = true;
		else
			table[2 + table[0]++] = next_number(words);
	}
	if (!words->bad)
		subject_switch(value, table);
}

/* What a signal handler is to run. volatile: raise() says that it calls nobody here. */
static __thread struct words *volatile in_handler;
static __thread struct seen *volatile seen_in_handler;
static __thread const char *volatile lacks_in_handler;

static void handle(int signal)
{
	(void)signal;
	lacks_in_handler = subject_run(in_handler, seen_in_handler);
}

/* { STEP... } in a signal handler on top of this. */
static const char *interrupt(struct words *words, struct seen *seen)
{
	struct sigaction action = { .sa_handler = handle, .sa_flags = SA_NODEFER };
	struct words *outer = in_handler;

	words->bad |= !take_word(words, "{");
	sigaction(SIGUSR1, &action, NULL);
	in_handler = words;
	seen_in_handler = seen;
	raise(SIGUSR1);
	in_handler = outer;
	words->bad |= !take_word(words, "}");
	return lacks_in_handler;
}

const char *subject_run(struct words *words, struct seen *seen)
{
	while (!words->bad && words->at < words->end && strcmp(*words->at, ";") &&
	       strcmp(*words->at, "}")) {
		const char *word = next_word(words), *need = NULL;

		if (!strcmp(word, "start")) {
			kcov_remote_start(next_handle(words));
		} else if (!strcmp(word, "stop")) {
			kcov_remote_stop();
		} else if (!strcmp(word, "common")) {
			uint64_t handle = kcov_common_handle();

			words->bad |= seen->count == MOST_SEEN;
			if (!words->bad)
				seen->handles[seen->count++] = handle;
		} else if (!strcmp(word, "pcs")) {
			uint64_t first = next_number(words), count = next_number(words);

			run_markers(first, count);
		} else if (!strcmp(word, "switch")) {
			run_switch(words);
		} else if (!strcmp(word, "signal")) {
			need = interrupt(words, seen);
		} else if (!strcmp(word, "softirq") || !strcmp(word, "hardirq")) {
			need = *word == 's' ? "softirq a process has none" :
					      "hardirq a process has none";
		} else {
			words->bad |= !compare(word, words);
		}
		if (need)
			return need;
	}
	return NULL;
}
