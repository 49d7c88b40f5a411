int hot(int n)
{
	int found = 0;
	for (int i = 0; i < n; i++)
		if (i % 3)
			found++;
	return found;
}
