// A shared object with a loop.
#ifndef NAME
#define NAME hot
#endif

int NAME(int n)
{
	int sum = 0;

	for (int i = 0; i < n; i++)
		if (i % 3)
			sum++;
	return sum;
}
