// SPDX-License-Identifier: MIT OR Apache-2.0
// C++ under C: exceptions that cross instrumented frames, and a thread of the language's own.
#include "join.h"

#include <stdexcept>
#include <string>
#include <thread>

namespace {

std::string joined(const char *const *words, std::size_t count)
{
	std::string all;

	if (count == 0)
		throw std::invalid_argument("no words");
	for (std::size_t i = 0; i < count; i++)
		all += words[i];
	return all;
}

} // namespace

extern "C" long join_length(const char *const *words, size_t count)
{
	long length = 0;

	std::thread worker([&] {
		try {
			length = static_cast<long>(joined(words, count).size());
		} catch (const std::invalid_argument &) {
			length = -1;
		}
	});
	worker.join();
	return length;
}
