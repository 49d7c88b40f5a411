// SPDX-License-Identifier: MIT OR Apache-2.0
// Tests of googletest, of each sort. The header comes by a flag.
#include <gtest/gtest.h>

void one();
void two();
void set_up();

struct Fixture : ::testing::Test {
	void SetUp() override { set_up(); }
};

struct Parameter : ::testing::TestWithParam<int> {};

TEST(Suite, First) { one(); }
TEST_F(Fixture, Fails)
{
	two();
	EXPECT_EQ(1, 2);
}
TEST_P(Parameter, Each)
{
	if (GetParam())
		one();
	else
		two();
}
INSTANTIATE_TEST_SUITE_P(Some, Parameter, ::testing::Values(0, 1));
