# SPDX-License-Identifier: MIT OR Apache-2.0
"""What the plug-in calls of a runtime that only takes notes."""

import gc
import os

import pytest
import pytest_rkcov


class Notes:
    """A runtime in which somebody collects, or nobody."""

    def __init__(self):
        self.collects = 1
        self.names = []
        self.stack = []
        self.ended = []
        # Which contexts the thread was in when a test asked.
        self.seen = []

    def wanted(self):
        return self.collects

    def make(self, kind, name, length):
        assert kind == pytest_rkcov.TEST and length == len(name)
        self.names.append(name.decode())
        return len(self.names)

    def enter(self, context):
        self.stack.append(context)

    def leave(self):
        self.stack.pop()

    def end(self, context):
        assert context not in self.stack
        self.ended.append(self.names[context - 1])

    def see(self, what):
        inner = self.stack[-1] if self.stack else 0
        self.seen.append((what, self.names[inner - 1] if inner else None))


@pytest.fixture
def notes(monkeypatch):
    notes = Notes()
    monkeypatch.setattr(pytest_rkcov, "find", lambda: notes)
    # Tests that are run here find it by this name.
    monkeypatch.setattr(pytest_rkcov, "notes", notes, raising=False)
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    return notes


def run(pytester, source, *arguments):
    # Node ids begin at the folder of the configuration.
    pytester.makeini("[pytest]\n")
    pytester.makepyfile(test_it="import pytest\nfrom pytest_rkcov import notes\n" + source)
    return pytester.runpytest_inprocess("-p", "pytest_rkcov", *arguments)


def test_each_test_is_a_context_with_its_node_id(pytester, notes):
    source = """
class TestClass:
    def test_method(self):
        notes.see("method")

@pytest.mark.parametrize("value", ["a b", "\\u00fc"])
def test_each(value):
    notes.see(value)

def test_fails():
    assert False

def test_skips():
    pytest.skip()

@pytest.mark.skip
def test_is_skipped():
    pass

@pytest.mark.xfail
def test_fails_as_expected():
    assert False

def test_gr\\u00fc\\u00dfe():
    notes.see("hello")
"""
    run(pytester, source.encode().decode("unicode_escape")).assert_outcomes(passed=4, failed=1, skipped=2, xfailed=1)
    ids = [
        "TestClass::test_method",
        "test_each[a b]",
        "test_each[\\xfc]",
        "test_fails",
        "test_skips",
        "test_is_skipped",
        "test_fails_as_expected",
        "test_grüße",
    ]
    ids = ["test_it.py::" + name for name in ids]
    assert notes.names == notes.ended == ids
    assert notes.stack == []
    assert notes.seen == [("method", ids[0]), ("a b", ids[1]), ("ü", ids[2]), ("hello", ids[7])]


def test_a_fixture_is_the_tests_unless_tests_share_it(pytester, notes):
    source = """
def both(scope, first):
    @pytest.fixture(scope=scope)
    def fixture(request):
        if first:
            request.getfixturevalue(first)
        notes.see(scope)
        yield
        notes.see(scope + " is over")
    return fixture

session = both("session", None)
module = both("module", "session")
function = both("function", "module")

def setup_module():
    notes.see("set-up")

def teardown_module():
    notes.see("tear-down")

def test_one(function):
    notes.see("one")

def test_two(function):
    notes.see("two")
"""
    run(pytester, source).assert_outcomes(passed=2)
    one, two = notes.names
    assert notes.seen == [
        ("set-up", None),
        ("session", None),
        ("module", None),
        ("function", one),
        ("one", one),
        ("function is over", one),
        ("function", two),
        ("two", two),
        ("function is over", two),
        ("module is over", None),
        ("tear-down", None),
        ("session is over", None),
    ]
    assert notes.stack == []


def test_fixtures_that_fail_leave_nothing_behind(pytester, notes):
    source = """
@pytest.fixture(scope="module")
def broken():
    raise ValueError

@pytest.fixture(scope="module")
def ends_badly():
    yield
    raise ValueError

def test_one(broken):
    pass

def test_two(ends_badly):
    notes.see("two")

def test_three(broken):
    pass
"""
    run(pytester, source).assert_outcomes(passed=1, errors=3)
    assert notes.stack == [] and len(notes.ended) == 3
    assert notes.seen == [("two", "test_it.py::test_two")]


def test_garbage_is_the_tests(pytester, notes):
    source = """
class Cycle:
    def __init__(self):
        self.me = self
    def __del__(self):
        notes.see("freed")

def test_one():
    Cycle()

def teardown_module():
    Cycle()

def test_two():
    notes.see("two")
"""
    more = """
import gc
from test_it import Cycle

def test_three():
    Cycle()
    gc.collect()
"""
    pytester.makepyfile(test_more=more)
    run(pytester, source).assert_outcomes(passed=3)
    one, two, three = notes.names
    assert notes.seen == [("freed", one), ("two", two), ("freed", None), ("freed", three)]


def test_garbage_from_before_is_not_freed_in_a_test(pytester, notes):
    source = """
import gc

class Cycle:
    def __init__(self):
        self.me = self
    def __del__(self):
        notes.see("freed")

gc.disable()
Cycle()

def test_one():
    Cycle()
    gc.collect()
"""
    run(pytester, source).assert_outcomes(passed=1)
    gc.enable()
    assert notes.seen == [("freed", "test_it.py::test_one")]
    gc.collect()
    assert notes.seen[1:] == [("freed", None)]


def test_nobody_collects(pytester, notes):
    notes.collects = 0
    source = """
@pytest.fixture(scope="module")
def fixture():
    yield

def test_one(fixture):
    notes.see("one")
"""
    run(pytester, source).assert_outcomes(passed=1)
    assert notes.seen == [("one", None)] and notes.names == notes.ended == []


def test_the_runtime_comes_in_the_test(pytester, notes, monkeypatch):
    there = []
    monkeypatch.setattr(pytest_rkcov, "find", lambda: notes if there else None)
    monkeypatch.setattr(notes, "comes", lambda: there.append(1), raising=False)
    source = """
@pytest.fixture
def fixture():
    notes.comes()
    notes.see("fixture")
    yield
    notes.see("fixture is over")

def test_one(fixture):
    notes.see("one")
"""
    run(pytester, source).assert_outcomes(passed=1)
    one = "test_it.py::test_one"
    assert notes.seen == [("fixture", None), ("one", one), ("fixture is over", one)]
    assert notes.ended == [one] and notes.stack == []


def test_a_forked_child_ends_nothing(notes):
    contexts = pytest_rkcov.Contexts()
    work = pytest_rkcov.Work(contexts, "one")
    work.enter()
    child = os.fork()
    if child == 0:
        work.leave()
        os._exit(0 if notes.ended == [] and notes.stack == [1] else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    work.leave()
    assert notes.ended == ["one"]


def test_names_are_bytes():
    assert pytest_rkcov.encoded("ü") == b"\xc3\xbc"
    assert pytest_rkcov.encoded("\udcff.py") == b"\xff.py"
    assert pytest_rkcov.encoded("\ud800") == rb"\ud800"


def test_there_is_no_runtime_here_or_it_can_be_called():
    runtime = pytest_rkcov.find()
    assert runtime is None or runtime.wanted() in (0, 1)
