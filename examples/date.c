// SPDX-License-Identifier: MIT OR Apache-2.0
// Prints which day of the week a date is. docs/queries.md runs it with the dates of a hundred years.
//
//   rkcov cc -g date.c -o date && rkcov run -- ./date 2000-02-29
#include <stdio.h>

static int is_leap(int year)
{
	if (year % 4)
		return 0;
	if (year % 100)
		return 1;
	return year % 400 == 0;
}

static int days_of(int year, int month)
{
	if (month == 2)
		return is_leap(year) ? 29 : 28;
	if (month == 4 || month == 6 || month == 9 || month == 11)
		return 30;
	return 31;
}

static const char *weekday(int year, int month, int day)
{
	static const char *const names[] = {
		"Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday",
	};
	static const int before[] = { 0, 3, 2, 5, 0, 3, 5, 1, 4, 6, 2, 4 };

	// January and February count to the year before: then the leap day is the last of a year.
	if (month < 3)
		year--;
	return names[(year + year / 4 - year / 100 + year / 400 + before[month - 1] + day) % 7];
}

int main(int argc, char **argv)
{
	int year, month, day;

	if (argc != 2 || sscanf(argv[1], "%d-%d-%d", &year, &month, &day) != 3) {
		fprintf(stderr, "usage: date YEAR-MONTH-DAY\n");
		return 2;
	}
	if (year < 1 || month < 1 || month > 12 || day < 1 || day > days_of(year, month)) {
		printf("%s: there is no such day\n", argv[1]);
		return 1;
	}
	printf("%s: %s\n", argv[1], weekday(year, month, day));
	return 0;
}
