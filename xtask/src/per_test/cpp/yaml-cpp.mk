# SPDX-License-Identifier: MIT OR Apache-2.0
# yaml-cpp's library, and all of its tests with the system's googletest: one program.
CXXFLAGS := -std=c++17 -g -O0 -Iinclude -Isrc -Itest -Itest/integration
library := $(wildcard src/*.cpp src/contrib/*.cpp)
tests := $(wildcard test/*.cpp test/integration/*.cpp test/node/*.cpp)

rkcov/run_tests: $(patsubst %.cpp,rkcov/%.o,$(library) $(tests))
	$(CXX) $^ -lgmock -lgtest -o $@

rkcov/test/%.o: CXXFLAGS += -include rkcov_gtest.h
rkcov/%.o: %.cpp
	@mkdir -p $(@D)
	$(CXX) $(CXXFLAGS) -c $< -o $@
