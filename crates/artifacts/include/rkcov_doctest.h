/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * rkcov_doctest.h: each test case of doctest is a context of rkcov.
 *
 * Include it in one source of the test program. Under "rkcov run" the trace then says what each test case
 * ran. Its name is that of the test case, behind that of its suite and a dot, if it has one.
 */
#ifndef RKCOV_DOCTEST_H
#define RKCOV_DOCTEST_H

#include <rkcov.h>

#include <doctest/doctest.h>

#include <string>

namespace rkcov {

class DoctestListener : public doctest::IReporter {
	rkcov_context_t context_ = 0;

public:
	explicit DoctestListener(const doctest::ContextOptions &) {}

	void test_case_start(const doctest::TestCaseData &test) override
	{
		std::string name;
		if (test.m_test_suite && *test.m_test_suite)
			name = std::string(test.m_test_suite) + ".";
		name += test.m_name;
		context_ = rkcov_context(RKCOV_TEST, name.c_str());
		rkcov_enter(context_);
	}

	void test_case_end(const doctest::CurrentTestCaseStats &) override
	{
		rkcov_leave();
		rkcov_end(context_);
	}

	void report_query(const doctest::QueryData &) override {}
	void test_run_start() override {}
	void test_run_end(const doctest::TestRunStats &) override {}
	void test_case_reenter(const doctest::TestCaseData &) override {}
	void test_case_exception(const doctest::TestCaseException &) override {}
	void subcase_start(const doctest::SubcaseSignature &) override {}
	void subcase_end() override {}
	void log_assert(const doctest::AssertData &) override {}
	void log_message(const doctest::MessageData &) override {}
	void test_case_skipped(const doctest::TestCaseData &) override {}
};

} /* namespace rkcov */

REGISTER_LISTENER("rkcov", 1, rkcov::DoctestListener);

#endif /* RKCOV_DOCTEST_H */
