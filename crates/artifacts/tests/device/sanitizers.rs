// SPDX-License-Identifier: MIT OR Apache-2.0
//! Clients under the sanitizers: they behave as ever, and nothing is reported.
//!
//! The runtime is in the executable. In a library it would come after what a sanitizer defines
//! under the callbacks' names. `.ci/programs` runs these.

use crate::ends::WAYS;
use crate::rounds::{goes_its_round, goes_its_round_and_forks};
use crate::support::{covered, lists, succeed, Compiler, Lab, OBJECT};
use std::process::Command;

/// Compilers, and their flags of the sanitizers.
fn all() -> impl Iterator<Item = (Compiler, &'static [&'static str])> {
    let sanitizers: [&[&str]; 2] = [&["-fsanitize=address"], &["-fsanitize=thread"]];
    Compiler::all().flat_map(move |compiler| sanitizers.map(|flags| (compiler, flags)))
}

/// A program whose sanitizer does not keep for long what was freed, so that it does not grow.
fn sanitized(program: &std::path::Path) -> Command {
    let mut command = Command::new(program);
    command.env("ASAN_OPTIONS", "quarantine_size_mb=1:detect_leaks=1");
    command.env("TSAN_OPTIONS", "halt_on_error=1");
    command
}

#[test]
#[ignore = "half a minute"]
fn every_way_out_of_a_section() {
    for (compiler, flags) in all() {
        let lab = Lab::new();
        let program = lab.client(compiler, "leaves.cc", OBJECT, flags);
        for (way, section) in WAYS {
            let printed = succeed(sanitized(&program).arg(way));
            let expected = lists([("mine", &["own_work"]), ("theirs", section)]);
            assert_eq!(covered(&printed), expected, "{compiler:?} {flags:?} {way}");
        }
    }
}

#[test]
#[ignore = "half a minute"]
fn modules_that_come_and_go() {
    for (compiler, flags) in all() {
        let lab = Lab::new();
        let instrumented = [compiler.instrumentation(), flags].concat();
        let object = lab.object(compiler.name("work.c"), "work.c", &instrumented);
        let arguments = [&["-shared", "rkcov-module.o"], flags].concat();
        let module = lab.link(compiler.name("work.c"), "work.so", &[object], &arguments);
        let runtime = [OBJECT, crate::builds::EXPORTS].concat();
        let program = lab.client(compiler, "modules.c", &runtime, flags);
        let printed = succeed(sanitized(&program).arg(module));
        // The compilers instrument what the sanitizers add, too: the module's constructor.
        let covered = covered(&printed);
        for client in ["mine", "theirs"] {
            assert!(covered[client].contains("work"), "{compiler:?} {flags:?}");
        }
    }
}

#[test]
#[ignore = "minutes"]
fn ten_thousand_rounds() {
    for (compiler, flags) in all() {
        let lab = Lab::new();
        let program = lab.client(compiler, "rounds.c", OBJECT, flags);
        // What sanitizers know of each thread grows.
        goes_its_round(sanitized(&program).args(["10000", "10000"]));
        goes_its_round(sanitized(&program).args(["500", "10000", "pair"]));
        goes_its_round_and_forks(sanitized(&program).args(["500", "10000"]));
    }
}

#[test]
#[ignore = "minutes"]
fn ten_thousand_forks() {
    for (compiler, flags) in all() {
        if compiler == Compiler::Gcc {
            let lab = Lab::new();
            let program = lab.client(compiler, "rounds.c", OBJECT, flags);
            goes_its_round_and_forks(sanitized(&program).args(["10000", "10000"]));
        }
    }
}

/// The sanitizer's library and ours both stand before libc's `pthread_create()`.
#[test]
#[ignore = "half a minute"]
fn a_sanitizer_and_the_runtime_in_libraries() {
    for flags in [["-fsanitize=address"], ["-fsanitize=thread"]] {
        let lab = Lab::new();
        let program = lab.client(Compiler::Gcc, "rounds.c", crate::support::LIBRARY, &flags);
        goes_its_round(sanitized(&program).arg("1"));
    }
}
