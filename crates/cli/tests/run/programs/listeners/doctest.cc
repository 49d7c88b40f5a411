// SPDX-License-Identifier: MIT OR Apache-2.0
// Test cases of doctest, in a suite and in none.
#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include <doctest/doctest.h>
#include <rkcov_doctest.h>

void one();
void two();

TEST_CASE("first")
{
	one();
	CHECK(1 > 0);
}

TEST_SUITE("suite")
{
	TEST_CASE("fails")
	{
		two();
		CHECK(1 == 0);
	}
}
