// SPDX-License-Identifier: MIT OR Apache-2.0
//! The suite on the kcov of a process whose program is built for a sanitizer: whatever it says of
//! any process fails. `.ci/sanitizers` runs it.

use std::fs;
use std::time::Duration;

use crate::support::Workshop;
use rkcov_conformance::hosts::Kind;
use rkcov_conformance::live::program::Program;
use rkcov_conformance::result::Verdict;
use rkcov_conformance::suite;

/// How long a case may repeat itself here.
const PATIENCE: Duration = Duration::from_secs(1);

/// Plays everything on the kcov of a process; `said` is a folder for what is complained of, a file for each process.
/// What the suite itself does on purpose is `expected`.
pub(crate) fn nothing_is_said(
    mut program: Program,
    said: &tempfile::TempDir,
    expected: impl Fn(&str) -> bool,
) {
    program.patience = program.patience.or(Some(PATIENCE));
    let results = suite::play_all(&Kind::Agent(program));
    let passed = results
        .values()
        .filter(|v| matches!(v, Verdict::Pass | Verdict::Short(_)))
        .count();
    println!("{passed} cases passed");
    assert!(passed > 200, "only {passed} cases passed");
    let mut wrong: Vec<String> = results
        .iter()
        .filter_map(|(case, verdict)| match verdict {
            Verdict::Fail(why) => Some(format!("{case}: {why}")),
            _ => None,
        })
        .collect();
    for file in fs::read_dir(said.path()).unwrap() {
        let text = fs::read_to_string(file.unwrap().path()).unwrap();
        wrong.extend(Some(text).filter(|text| !text.trim().is_empty() && !expected(text)));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

fn variable(name: &str, value: String) -> (std::ffi::OsString, std::ffi::OsString) {
    (name.into(), value.into())
}

#[test]
#[ignore = "minutes; run by .ci/sanitizers"]
fn addresses() {
    let (workshop, said) = (Workshop::new(), tempfile::tempdir().unwrap());
    let mut program = workshop.sanitized("address");
    let log = said.path().join("asan");
    // Killed processes cannot say what they leak, and rounds are counted by the suite itself;
    // it also writes to maps that must not be written to.
    let options = format!(
        "log_path={}:detect_leaks=0:handle_segv=0:handle_sigbus=0",
        log.display()
    );
    program.environment.push(variable("ASAN_OPTIONS", options));
    nothing_is_said(program, &said, |_| false);
}

#[test]
#[ignore = "minutes; run by .ci/sanitizers"]
fn threads() {
    let (workshop, said) = (Workshop::new(), tempfile::tempdir().unwrap());
    let mut program = workshop.sanitized("thread");
    let log = said.path().join("tsan");
    // What the agent's own threads do follows one another at the word of the suite, another process.
    let known = program.path.with_extension("supp");
    fs::write(&known, "race:agent.c\n").unwrap();
    let options = format!(
        "log_path={}:suppressions={}:die_after_fork=0:handle_segv=0:handle_sigbus=0",
        log.display(),
        known.display()
    );
    program.environment.push(variable("TSAN_OPTIONS", options));
    nothing_is_said(program, &said, |_| false);
}
