// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tests of pytest are contexts, by our plug-in: what each has run in an extension module.

use crate::here;
use crate::support::{succeed, Lab, Ran, Symbols, RKCOV};
use rkcov_report::trace::{ContextKind, Ended, Mode};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A Python that has what these tests need: that of the path, or else the system's.
fn python() -> Option<&'static str> {
    let needs = ["-c", "import pytest, setuptools, xdist"];
    let can = |python: &&str| {
        let output = Command::new(python).args(needs).output();
        output.is_ok_and(|output| output.status.success())
    };
    let system = "/usr/bin/python3";
    ["python3", system]
        .into_iter()
        .find(can)
        .or_else(|| here::can(&[system, needs[0], needs[1]]).then_some(system))
}

fn plug_in() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../python/pytest-rkcov")
}

/// pytest with the plug-in, which is not installed: arguments are to follow.
fn pytest(python: &str) -> [&str; 7] {
    let cache = "no:cacheprovider";
    [python, "-m", "pytest", "-p", "pytest_rkcov", "-p", cache]
}

/// It leaves nothing beside the sources, and finds the plug-in.
fn surroundings(command: &mut Command) -> &mut Command {
    command
        .env("PYTHONPATH", plug_in())
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env_remove("PYTEST_ADDOPTS")
}

#[test]
fn the_plug_ins_own_tests() {
    let Some(python) = python() else { return };
    let mut command = Command::new(python);
    command.args(["-m", "pytest", "-p", "no:cacheprovider", "tests"]);
    command.current_dir(plug_in());
    succeed(surroundings(&mut command));
}

const MODULE: &str = r#"
#include <Python.h>
#include <pthread.h>

static volatile int count;

int one(int x)
{
	if (x)
		count++; /* one, with something */
	else
		count--; /* one, with nothing */
	return count;
}
int two(void) { return ++count; }
int shared(void) { return ++count; }
int set_up(void) { return ++count; }
int native(void) { return ++count; }
static void *begin(void *nothing) { native(); return nothing; }

static PyObject *call_one(PyObject *self, PyObject *x) { return PyLong_FromLong(one(PyObject_IsTrue(x))); }
static PyObject *call_two(PyObject *self, PyObject *no) { return PyLong_FromLong(two()); }
static PyObject *call_shared(PyObject *self, PyObject *no) { return PyLong_FromLong(shared()); }
static PyObject *call_set_up(PyObject *self, PyObject *no) { return PyLong_FromLong(set_up()); }
static PyObject *call_native(PyObject *self, PyObject *no)
{
	pthread_t thread;

	if (pthread_create(&thread, NULL, begin, NULL) || pthread_join(thread, NULL))
		return PyErr_NoMemory();
	Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
	{"one", call_one, METH_O, NULL},
	{"two", call_two, METH_NOARGS, NULL},
	{"shared", call_shared, METH_NOARGS, NULL},
	{"set_up", call_set_up, METH_NOARGS, NULL},
	{"native", call_native, METH_NOARGS, NULL},
	{NULL, NULL, 0, NULL},
};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "pieces", NULL, -1, methods};
PyMODINIT_FUNC PyInit_pieces(void) { return PyModule_Create(&module); }
"#;

const SETUP: &str = "\
from setuptools import Extension, setup
setup(name='pieces', ext_modules=[Extension('pieces', ['pieces.c'])])
";

const TESTS: &str = "\
import threading
import pieces
import pytest

@pytest.fixture(scope='module')
def shared():
    pieces.shared()
    yield
    pieces.shared()

@pytest.fixture
def own():
    yield
    pieces.set_up()

def test_one(own, shared):
    pieces.one(1)

@pytest.mark.parametrize('what', ['a b', 'c'])
def test_each(what, shared):
    pieces.one(0) if what == 'c' else pieces.two()

def test_gr\u{fc}\u{df}e_fails():
    pieces.two()
    assert False

@pytest.mark.skip
def test_is_skipped():
    pieces.two()

def test_threads():
    thread = threading.Thread(target=pieces.two)
    thread.start()
    thread.join()
    pieces.native()
";

const PIECES: [&str; 5] = ["one", "two", "shared", "set_up", "native"];

/// A folder with the module, built by setuptools, and its tests.
fn built(python: &str) -> Lab {
    let lab = Lab::new();
    for (name, text) in [
        ("pieces.c", MODULE),
        ("setup.py", SETUP),
        ("test_pieces.py", TESTS),
    ] {
        fs::write(lab.path(name), text).unwrap();
    }
    let mut build = Command::new(python);
    build.args(["setup.py", "--quiet", "build_ext", "--inplace"]);
    build.current_dir(lab.path(""));
    build
        .env("CC", format!("{RKCOV} cc gcc"))
        .env("CFLAGS", "-O0");
    build.env_remove("LDSHARED");
    succeed(&mut build);
    lab
}

/// Runs the tests, of which one fails: with these words before pytest, and these behind.
fn tests(lab: &Lab, python: &str, before: &[&str], behind: &[&str]) -> Ran {
    let mut run = lab.run(Mode::Unique);
    surroundings(&mut run.command).current_dir(lab.path(""));
    let words = [before, &pytest(python), behind].concat();
    run.of(Path::new(words[0]), &words[1..])
}

/// Each context with the pieces that ran in it; "-" is none.
#[track_caller]
fn found(ran: &Ran) -> BTreeSet<(String, String)> {
    let trace = ran.exited(1);
    let symbols = Symbols::new(&trace);
    let mut found = BTreeSet::new();
    for stream in trace.streams() {
        let context = stream.info().context.and_then(|id| trace.context(id));
        let name = context.map_or("-".into(), |c| String::from_utf8_lossy(&c.name));
        for function in symbols.of(stream) {
            if PIECES.contains(&function) {
                found.insert((name.to_string(), function.to_owned()));
            }
        }
    }
    for context in trace.contexts() {
        assert_eq!(context.kind, ContextKind::Test);
        assert_ne!(context.ended, Ended::No);
    }
    assert_eq!(trace.contexts().len(), 6, "also for one that is skipped");
    found
}

/// What each ran. The name of the last is empty where its work is in no context.
fn expected(threads: &str) -> BTreeSet<(String, String)> {
    let test = |name: &str| match name {
        "-" => "-".to_owned(),
        name => format!("test_pieces.py::{name}"),
    };
    let all = [
        ("-", "shared"),
        ("test_each[a b]", "two"),
        ("test_each[c]", "one"),
        ("test_gr\u{fc}\u{df}e_fails", "two"),
        ("test_one", "one"),
        ("test_one", "set_up"),
        (threads, "native"),
        (threads, "two"),
    ];
    all.map(|(name, piece)| (test(name), piece.to_owned()))
        .into()
}

#[test]
fn each_test_of_pytest_is_a_context() {
    let Some(python) = python() else { return };
    let lab = built(python);
    let preload = [RKCOV, "preload"];

    let ran = tests(&lab, python, &preload, &[]);
    assert_eq!(found(&ran), expected("test_threads"));
    // By lines: who ran the two ways through a function.
    for (way, test) in [("something", "test_one"), ("nothing", "test_each[c]")] {
        let mut lines = (1..).zip(MODULE.lines());
        let line = lines.find(|(_, text)| text.contains(&format!("one, with {way}")));
        let place = format!("pieces.c:{}", line.unwrap().0);
        let mut question = Command::new(RKCOV);
        question
            .args(["tests", &place])
            .arg(lab.path("trace.rkcov"));
        let output = question.output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        let named = said.lines().filter(|line| line.contains("test_pieces.py"));
        assert_eq!(named.clone().count(), 1, "{place}: {said}");
        assert!(said.contains(test), "{place}: {said}");
    }

    // The runtime comes with the module. Python's libc does not know of it, so threads inherit nothing.
    let ran = tests(&lab, python, &[], &[]);
    assert_eq!(found(&ran), expected("-"));

    // Workers are processes.
    let ran = tests(&lab, python, &preload, &["-n", "2"]);
    assert_eq!(found(&ran), expected("test_threads"));
}

#[test]
fn without_a_collector_tests_pass_as_ever() {
    let Some(python) = python() else { return };
    let lab = built(python);
    for preload in [false, true] {
        let mut words: Vec<&str> = pytest(python).to_vec();
        if preload {
            words.splice(0..0, [RKCOV, "preload"]);
        }
        let mut command = Command::new(words[0]);
        surroundings(&mut command).current_dir(lab.path(""));
        let output = command.args(&words[1..]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(said.contains("1 failed, 4 passed, 1 skipped"), "{said}");
    }
}
