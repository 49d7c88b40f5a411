# SPDX-License-Identifier: MIT OR Apache-2.0
"""Each test of pytest is a context of rkcov.

Under "rkcov run" the trace then says what each test ran in extension modules that rkcov has built. The name of the
context is the test's node id. Where nobody collects, nothing happens.
"""

import ctypes
import gc
import os
import sys

import pytest

# What rkcov.h calls RKCOV_TEST.
TEST = 1

# A context of no name: what runs there belongs to nobody.
NOBODY = 0


class Runtime:
    """The functions of rkcov's runtime that rkcov.h declares for other languages."""

    def __init__(self, library):
        def function(name, result, *arguments):
            found = library[name]
            found.restype, found.argtypes = result, arguments
            return found

        self.wanted = function("__rkcov_contexts_wanted", ctypes.c_int)
        self.make = function("__rkcov_context", ctypes.c_uint64, ctypes.c_uint32, ctypes.c_char_p, ctypes.c_size_t)
        self.enter = function("__rkcov_enter", None, ctypes.c_uint64)
        self.leave = function("__rkcov_leave", None)
        self.end = function("__rkcov_end", None, ctypes.c_uint64)


def find():
    """Finds the runtime of this process, or None.

    "rkcov preload" has loaded it for all to see. Otherwise the first extension module brings it, and Python hides from
    others what it loads for a module: then its name finds it.
    """
    if sys.platform != "linux":
        return None
    for name, mode in ((None, ctypes.DEFAULT_MODE), ("librkcov.so.0", os.RTLD_NOLOAD)):
        try:
            return Runtime(ctypes.CDLL(name, mode))
        except (AttributeError, OSError):
            continue
    return None


def encoded(name):
    """The bytes of a name. Those of a file's name are what they were, even if they are no text."""
    try:
        return name.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return name.encode("utf-8", "backslashreplace")


class Work:
    """A piece of work on the calling thread, for a test or for nobody."""

    def __init__(self, contexts, name=None):
        self.contexts = contexts
        self.name = name
        self.runtime = None
        self.context = NOBODY
        self.process = None

    def enter(self):
        """Enters its context, unless that was done or nobody collects."""
        if self.runtime is not None:
            return
        runtime = self.contexts.collecting()
        if runtime is None:
            return
        if self.name is not None:
            name = encoded(self.name)
            self.context = runtime.make(TEST, name, len(name))
        runtime.enter(self.context)
        self.runtime, self.process = runtime, os.getpid()

    def leave(self):
        """Leaves and ends the context. In a forked child it is the parent's to end."""
        if self.runtime is None or self.process != os.getpid():
            return
        # What this work leaves in cycles is not to be freed in other work.
        gc.collect()
        runtime, self.runtime = self.runtime, None
        runtime.leave()
        if self.name is not None:
            runtime.end(self.context)


class Contexts:
    """The plug-in's state in one run of pytest."""

    def __init__(self):
        self.runtime = None
        self.test = None

    def collecting(self):
        """The runtime, if somebody collects."""
        if self.runtime is None:
            self.runtime = find()
        if self.runtime is not None and self.runtime.wanted():
            return self.runtime
        return None

    @pytest.hookimpl(hookwrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item):
        self.test = Work(self, item.nodeid)
        self.test.enter()
        collects = self.test.runtime is not None
        if collects:
            # The garbage of others is not to be freed in this test: only what is new is looked at.
            gc.freeze()
        yield
        self.test.leave()
        if collects:
            gc.unfreeze()
        self.test = None

    # The runtime comes with the first extension module, which may be later than the test's beginning.
    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self):
        self.late()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_call(self):
        self.late()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_teardown(self):
        self.late()

    def late(self):
        if self.test is not None:
            self.test.enter()

    # A fixture that tests share is set up in the first of them and torn down in the last. It is no test's.
    @pytest.hookimpl(hookwrapper=True, tryfirst=True)
    def pytest_fixture_setup(self, fixturedef):
        if fixturedef.scope == "function":
            yield
            return
        shared = Work(self)

        def enter():
            if self.collecting():
                gc.collect()
                shared.enter()

        # What is added first is called last.
        fixturedef.addfinalizer(shared.leave)
        enter()
        yield
        shared.leave()
        fixturedef.addfinalizer(enter)


def pytest_configure(config):
    config.pluginmanager.register(Contexts(), "rkcov-contexts")
