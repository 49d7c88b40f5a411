// Instrumented functions that a static program's start code calls before there is thread-local
// storage: a resolver of our own, and the one that the compiler makes for `versions`.
#include <stdio.h>

__attribute__((noinline)) static int chosen(int n)
{
	if (n > 5)
		return n;
	return n + 1;
}

static int (*resolve(void))(int)
{
	return chosen;
}

int ours(int n) __attribute__((ifunc("resolve")));

__attribute__((target_clones("avx2", "default"))) int versions(const int *numbers, int n)
{
	int sum = 0;
	for (int i = 0; i < n; i++)
		sum += numbers[i];
	return sum;
}

int main(void)
{
	int numbers[4] = {1, 2, 3, 4};
	printf("%d %d\n", ours(1), versions(numbers, 4));
	return 0;
}
