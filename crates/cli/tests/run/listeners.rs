// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tests in C++ are contexts: what each has run, by the headers for the frameworks that are installed.

use crate::support::{succeed, Lab, Symbols, RKCOV};
use rkcov_report::trace::{ContextKind, Ended, Mode};
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

/// Builds and runs the tests, of which one fails. Gives each test with the functions of its own that it
/// ran; `None` if the framework is not installed.
fn tests_of(
    framework: &str,
    header: &str,
    include: &[&str],
    libraries: &[&str],
) -> Option<BTreeSet<(String, String)>> {
    if !Path::new("/usr/include").join(header).exists() {
        return None;
    }
    let lab = Lab::new();
    let program = lab.path("tests");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/run/programs/listeners");
    let (tests, pieces) = (lab.path("tests.o"), lab.path("pieces.o"));
    let mut compile = Command::new("g++");
    compile.args(["-std=c++17", "-O0", "-Wall", "-Wextra", "-Werror", "-c"]);
    compile.arg("-I").arg(lab.path("runtime")).args(include);
    compile.arg(folder.join(framework).with_extension("cc"));
    succeed(compile.arg("-o").arg(&tests));
    let rkcov = || {
        let mut command = Command::new(RKCOV);
        command.args(["c++", "-g", "-O1"]);
        command
    };
    let source = folder.join("pieces.cc");
    succeed(rkcov().arg("-c").arg(source).arg("-o").arg(&pieces));
    let mut link = rkcov();
    link.args([&tests, &pieces]).args(libraries).arg("-pthread");
    succeed(link.arg("-o").arg(&program));

    let ran = lab.run(Mode::Unique).of::<&str>(&program, &[]);
    let trace = ran.exited(1);
    let symbols = Symbols::new(&trace);
    let mut found = BTreeSet::new();
    for stream in trace.streams() {
        let context = stream.info().context.and_then(|id| trace.context(id));
        let name = context.map_or("-".into(), |c| String::from_utf8_lossy(&c.name));
        for function in symbols.of(stream) {
            for piece in ["one", "two", "set_up"] {
                if function == format!("_Z{}{piece}v", piece.len()) {
                    found.insert((name.to_string(), piece.to_owned()));
                }
            }
        }
    }
    for context in trace.contexts() {
        assert_eq!(context.kind, ContextKind::Test);
        assert_ne!(context.ended, Ended::No);
    }
    Some(found)
}

fn set(all: &[(&str, &str)]) -> BTreeSet<(String, String)> {
    let owned = |(name, piece): &(&str, &str)| ((*name).to_owned(), (*piece).to_owned());
    all.iter().map(owned).collect()
}

#[test]
fn tests_of_googletest() {
    let (include, libraries) = (["-include", "rkcov_gtest.h"], ["-lgtest_main", "-lgtest"]);
    let Some(found) = tests_of("gtest", "gtest/gtest.h", &include, &libraries) else {
        return;
    };
    let expected = [
        ("Fixture.Fails", "set_up"),
        ("Fixture.Fails", "two"),
        ("Some/Parameter.Each/0", "two"),
        ("Some/Parameter.Each/1", "one"),
        ("Suite.First", "one"),
    ];
    assert_eq!(found, set(&expected));
}

#[test]
fn test_cases_of_catch2() {
    if let Some(found) = tests_of("catch2", "catch2/catch.hpp", &[], &[]) {
        let expected = [("first, with a comma", "one"), ("fails", "two")];
        assert_eq!(found, set(&expected));
    }
}

#[test]
fn test_cases_of_doctest() {
    if let Some(found) = tests_of("doctest", "doctest/doctest.h", &[], &[]) {
        let expected = [("first", "one"), ("suite.fails", "two")];
        assert_eq!(found, set(&expected));
    }
}
