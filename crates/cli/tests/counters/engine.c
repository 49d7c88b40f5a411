// SPDX-License-Identifier: MIT OR Apache-2.0
// What a fuzzer has: it runs target() and prints how often each site ran, modulo 256, in the order of the
// code; sites that did not run are left out. It counts calls as well, for a build that calls.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

struct site {
    uintptr_t pc;
    uint8_t count;
};

static struct site sites[65536];
static size_t len;

static struct {
    uint8_t *start, *end;
    const uintptr_t *pcs, *pcs_end;
} modules[8];
static int with_counters, with_pcs;

void __sanitizer_cov_8bit_counters_init(uint8_t *start, uint8_t *end)
{
    for (int i = 0; i < with_counters; i++)
        if (modules[i].start == start)
            return;
    modules[with_counters].start = start;
    modules[with_counters++].end = end;
}

void __sanitizer_cov_pcs_init(const uintptr_t *start, const uintptr_t *end)
{
    for (int i = 0; i < with_pcs; i++)
        if (modules[i].pcs == start)
            return;
    modules[with_pcs].pcs = start;
    modules[with_pcs++].pcs_end = end;
}

void __sanitizer_cov_trace_pc(void)
{
    uintptr_t pc = (uintptr_t)__builtin_return_address(0);
    size_t i = 0;
    while (i < len && sites[i].pc != pc)
        i++;
    if (i == len)
        sites[len++].pc = pc;
    sites[i].count++;
}

static int by_pc(const void *a, const void *b)
{
    uintptr_t one = ((const struct site *)a)->pc, other = ((const struct site *)b)->pc;
    return (one > other) - (one < other);
}

int target(void);

int main(void)
{
    int functions = 0;
    printf("result %d\n", target());
    if (with_counters != with_pcs)
        return 2;
    for (int i = 0; i < with_counters; i++) {
        size_t counters = modules[i].end - modules[i].start;
        if (modules[i].pcs_end - modules[i].pcs != 2 * (long)counters)
            return 3;
        for (size_t k = 0; k < counters; k++) {
            sites[len++] = (struct site){modules[i].pcs[2 * k], modules[i].start[k]};
            functions += modules[i].pcs[2 * k + 1] & 1;
        }
    }
    qsort(sites, len, sizeof *sites, by_pc);
    for (size_t i = 0; i < len; i++)
        if (sites[i].count)
            printf("%d\n", sites[i].count);
    if (with_counters)
        fprintf(stderr, "%d modules, %zu sites, %d functions\n", with_counters, len, functions);
    return 0;
}
