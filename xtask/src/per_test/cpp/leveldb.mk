# SPDX-License-Identifier: MIT OR Apache-2.0
# leveldb's library, and its tests with the system's googletest: a program for each source. db_test needs another library.
CXXFLAGS := -std=c++17 -g -O0 -DLEVELDB_PLATFORM_POSIX=1 -Iinclude -I. -pthread
folders := db helpers/memenv issues table util
all := $(filter-out %_windows.cc %_windows_test.cc db/leveldbutil.cc,$(foreach folder,$(folders),$(wildcard $(folder)/*.cc)))
tests := $(filter-out db/db_test.cc,$(filter %_test.cc,$(all)))
library := $(patsubst %.cc,rkcov/%.o,$(filter-out %_test.cc,$(all)))

programs: $(patsubst %.cc,rkcov/%,$(notdir $(tests)))

define program
rkcov/$(basename $(notdir $(1))): rkcov/$(basename $(1)).o $(library)
	$$(CXX) -pthread $$^ -lgmock -lgtest -o $$@
endef
$(foreach test,$(tests),$(eval $(call program,$(test))))

rkcov/%_test.o: CXXFLAGS += -include rkcov_gtest.h
rkcov/%.o: %.cc
	@mkdir -p $(@D)
	$(CXX) $(CXXFLAGS) -c $< -o $@

.SECONDARY:
