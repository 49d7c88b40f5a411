/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * rkcov_gtest.h: each test of googletest is a context of rkcov.
 *
 * Include it in one source of the test program, or in all, or give "-include rkcov_gtest.h" to the
 * compiler. Under "rkcov run" the trace then says what each test ran, SetUp() and TearDown() included.
 * Its name is that of --gtest_filter: Suite.Test.
 */
#ifndef RKCOV_GTEST_H
#define RKCOV_GTEST_H

#include <rkcov.h>

#include <gtest/gtest.h>

#include <string>

namespace rkcov {

class GtestListener : public ::testing::EmptyTestEventListener {
	rkcov_context_t context_ = 0;

	void OnTestStart(const ::testing::TestInfo &test) override
	{
		std::string name = std::string(test.test_suite_name()) + "." + test.name();
		context_ = rkcov_context(RKCOV_TEST, name.c_str());
		rkcov_enter(context_);
	}

	void OnTestEnd(const ::testing::TestInfo &) override
	{
		rkcov_leave();
		rkcov_end(context_);
	}
};

/* Once in a program, however many of its sources include this. */
inline bool gtest_listens()
{
	static const bool listens = [] {
		/* googletest deletes it. */
		::testing::UnitTest::GetInstance()->listeners().Append(new GtestListener);
		return true;
	}();
	return listens;
}

namespace {
const bool gtest_listens_here __attribute__((unused)) = gtest_listens();
}

} /* namespace rkcov */

#endif /* RKCOV_GTEST_H */
