// SPDX-License-Identifier: MIT OR Apache-2.0
// Test cases of Catch2 2, as Debian has it.
#define CATCH_CONFIG_MAIN
#include <catch2/catch.hpp>
#include <rkcov_catch2.h>

void one();
void two();

TEST_CASE("first, with a comma")
{
	one();
	SECTION("a") { REQUIRE(1 > 0); }
	SECTION("b") { REQUIRE(1 > 0); }
}

TEST_CASE("fails")
{
	two();
	REQUIRE(1 == 0);
}
