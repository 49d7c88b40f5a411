/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* What is instrumented of checked.c. */
int work(int n)
{
	int sum = 0;

	for (int i = 0; i < n; i++) {
		switch (i) {
		case 0: sum += 3; break;
		case 1: sum ^= n; break;
		case 2: sum *= 5; break;
		case 3: sum -= n; break;
		case 4: sum |= 64; break;
		case 5: sum <<= 1; break;
		case 6: sum = -sum; break;
		default: sum += i;
		}
	}
	return sum;
}
