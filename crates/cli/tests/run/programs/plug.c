int plugin(int n)
{
	if (n > 3)
		return 1;
	return n;
}
