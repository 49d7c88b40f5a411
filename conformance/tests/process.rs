// SPDX-License-Identifier: MIT OR Apache-2.0
//! The suite on the kcov of a process: from C with the runtime inside of the program (with a dynamic
//! linker and without), from C with the shared library, from Rust through the crate `rkcov`, and in a
//! program that was written for Linux's device, under the preload library.

#[path = "process/sanitizers.rs"]
mod sanitizers;
mod support;
#[path = "process/valgrind.rs"]
mod valgrind;

use rkcov_conformance::hosts::Kind;
use rkcov_conformance::live::program::Program;
use rkcov_conformance::result::Verdict;
use rkcov_conformance::{matrix, suite};
use std::time::Duration;
use support::Workshop;

/// How long a case may repeat itself here.
const PATIENCE: Duration = Duration::from_secs(1);

/// Plays everything. Results are compared with those that are kept; with `RKCOV_KEEP=1` each case is
/// played as often as it should be, and they take their place.
fn passes_and_is_kept(mut program: Program) {
    let keep = std::env::var_os("RKCOV_KEEP").is_some();
    program.patience = (!keep).then_some(PATIENCE);
    let kind = Kind::Agent(program);
    let mut results = suite::play_all(&kind);
    let failed: Vec<String> = results
        .iter()
        .filter_map(|(case, verdict)| match verdict {
            Verdict::Fail(why) => Some(format!("{case}: {why}")),
            _ => None,
        })
        .collect();
    assert!(failed.is_empty(), "{}", failed.join("\n\n"));
    for verdict in results.values_mut() {
        if let Verdict::Short(_) = verdict {
            *verdict = Verdict::Pass;
        }
    }
    if keep {
        matrix::keep(kind.name(), &results).unwrap();
    }
    let kept = matrix::kept().unwrap();
    let stale = "run `RKCOV_KEEP=1 cargo nextest run -p rkcov-conformance --test process`";
    assert_eq!(
        kept.get(kind.name()),
        Some(&results),
        "{}: {stale}",
        kind.name()
    );
}

#[test]
fn from_c_in_an_executable() {
    let workshop = Workshop::new();
    passes_and_is_kept(workshop.in_executable());
}

#[test]
fn from_c_in_a_static_executable() {
    let workshop = Workshop::new();
    passes_and_is_kept(workshop.in_static_executable());
}

#[test]
fn from_c_in_a_library() {
    let workshop = Workshop::new();
    passes_and_is_kept(workshop.in_library());
}

#[test]
fn from_rust() {
    let workshop = Workshop::new();
    passes_and_is_kept(workshop.in_rust());
}

#[test]
fn under_the_preload_library() {
    let workshop = Workshop::new();
    passes_and_is_kept(workshop.preloaded());
}
