// SPDX-License-Identifier: MIT OR Apache-2.0
// Loops, a switch, a computed goto, recursion, setjmp, calls at the end, and code that does not run.
#include <setjmp.h>
#include <stdio.h>

static jmp_buf back;

static int loop(int n)
{
    int sum = 0;
    for (int i = 0; i < n; i++)
        sum += i % 3 ? i : -i;
    return sum;
}

__attribute__((noinline)) static int choose(int n)
{
    switch (n % 7) {
    case 0: return 11;
    case 1: return n + 2;
    case 2: return n * 3;
    case 3: puts("three"); /* fall through */
    case 4: return 5;
    default: return -n;
    }
}

static int hop(int n)
{
    static void *const to[] = {&&even, &&odd, &&end};
    int steps = 0;
    goto *to[n % 2];
even:
    steps += 2;
    if (steps > 20)
        goto *to[2];
odd:
    steps += 1;
    goto *to[steps % 3 ? 0 : 1];
end:
    return steps;
}

static int deep(int n)
{
    return n < 2 ? n : deep(n - 1) + deep(n - 2);
}

__attribute__((noinline, cold)) static void never(void)
{
    puts("never");
}

__attribute__((noinline)) static void jump_back(int n)
{
    if (n > 3)
        longjmp(back, n);
    jump_back(n + 1);
}

int last(int n)
{
    return choose(n + 1);
}

int target(void)
{
    int sum = loop(1000);
    for (int i = 0; i < 20; i++)
        sum += choose(i) + last(i) + hop(i);
    sum += deep(15);
    int from = setjmp(back);
    if (from == 0)
        jump_back(0);
    if (sum == 12345)
        never();
    return sum + from;
}
