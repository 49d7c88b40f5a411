/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * rkcov_catch2.h: each test case of Catch2 (2 or 3) is a context of rkcov.
 *
 * Include it in one source of the test program: with Catch2 2, in the one that defines CATCH_CONFIG_MAIN or
 * CATCH_CONFIG_RUNNER, behind that. Under "rkcov run" the trace then says what each test case ran.
 */
#ifndef RKCOV_CATCH2_H
#define RKCOV_CATCH2_H

#include <rkcov.h>

#if __has_include(<catch2/catch_test_macros.hpp>)
#include <catch2/reporters/catch_reporter_event_listener.hpp>
#include <catch2/reporters/catch_reporter_registrars.hpp>
#else
#include <catch2/catch.hpp>
namespace Catch {
using EventListenerBase = TestEventListenerBase;
}
#endif

namespace rkcov {

class Catch2Listener : public Catch::EventListenerBase {
	rkcov_context_t context_ = 0;

public:
	using Catch::EventListenerBase::EventListenerBase;

	void testCaseStarting(Catch::TestCaseInfo const &test) override
	{
		context_ = rkcov_context(RKCOV_TEST, test.name.c_str());
		rkcov_enter(context_);
	}

	void testCaseEnded(Catch::TestCaseStats const &) override
	{
		rkcov_leave();
		rkcov_end(context_);
	}
};

CATCH_REGISTER_LISTENER(Catch2Listener)

} /* namespace rkcov */

#endif /* RKCOV_CATCH2_H */
