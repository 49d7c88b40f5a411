// SPDX-License-Identifier: MIT OR Apache-2.0
//! A client that does the same again and again, and has nothing left of it.
//!
//! Those that take long are ignored here; `.ci/programs` runs them.

use crate::support::{covered, lists, succeed, Compiler, Lab, OBJECT, STATIC};
use std::process::Command;

/// What a client covers that goes its round once: itself, and a thread that works for it.
const ROUND: [(&str, &[&str]); 2] = [("mine", &["own_work"]), ("theirs", &["thread_work"])];

const ROUND_WITH_A_CHILD: [(&str, &[&str]); 2] = [
    ("mine", &["own_work"]),
    ("theirs", &["thread_work", "child_work"]),
];

/// Runs `rounds` without children; it covers what it should.
#[track_caller]
pub(crate) fn goes_its_round(program: &mut Command) {
    let printed = succeed(program);
    assert_eq!(covered(&printed), lists(ROUND), "{program:?}");
}

/// The same with a child in each round.
#[track_caller]
pub(crate) fn goes_its_round_and_forks(program: &mut Command) {
    let printed = succeed(program.arg("fork"));
    assert_eq!(covered(&printed), lists(ROUND_WITH_A_CHILD), "{program:?}");
}

#[test]
fn five_hundred_rounds() {
    for compiler in Compiler::all() {
        for runtime in [OBJECT, STATIC] {
            let lab = Lab::new();
            let program = lab.client(compiler, "rounds.c", runtime, &[]);
            goes_its_round(Command::new(&program).args(["500", "256"]));
            goes_its_round(Command::new(&program).args(["500", "256", "pair"]));
            goes_its_round_and_forks(Command::new(&program).args(["500", "256"]));
        }
    }
}

/// What the first client of a process makes ready is ready for every client: for one, too, that comes
/// while another thread makes it.
#[test]
fn two_first_clients_at_once() {
    for compiler in Compiler::all() {
        let lab = Lab::new();
        let program = lab.client(compiler, "rounds.c", OBJECT, &[]);
        for _ in 0..300 {
            // It fails if a record is missing.
            succeed(Command::new(&program).args(["1", "256", "pair"]));
        }
    }
}

#[test]
#[ignore = "half a minute"]
fn ten_thousand_rounds() {
    let lab = Lab::new();
    let program = lab.client(Compiler::Gcc, "rounds.c", OBJECT, &[]);
    goes_its_round(Command::new(&program).args(["10000", "256"]));
    goes_its_round(Command::new(&program).args(["10000", "256", "pair"]));
    goes_its_round_and_forks(Command::new(&program).args(["10000", "256"]));
}

#[test]
#[ignore = "a minute"]
fn ten_thousand_rounds_under_valgrind() {
    let lab = Lab::new();
    let program = lab.client(Compiler::Gcc, "rounds.c", OBJECT, &[]);
    let valgrind = || {
        let mut valgrind = Command::new("valgrind");
        valgrind.args(["--quiet", "--error-exitcode=9", "--leak-check=full"]);
        valgrind.args(["--show-leak-kinds=all", "--errors-for-leak-kinds=all"]);
        valgrind.arg(&program);
        valgrind
    };
    // What it knows of each thread grows.
    goes_its_round(valgrind().args(["10000", "2000"]));
    goes_its_round(valgrind().args(["500", "2000", "pair"]));
    goes_its_round_and_forks(valgrind().args(["200", "2000"]));
}
