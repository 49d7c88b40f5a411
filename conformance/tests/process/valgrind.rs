// SPDX-License-Identifier: MIT OR Apache-2.0
//! The suite on the kcov of a process under valgrind: whatever it says of any process fails.
//! `.ci/valgrind` runs it.

use std::time::Duration;

use crate::sanitizers::nothing_is_said;
use crate::support::Workshop;

#[test]
#[ignore = "minutes; run by .ci/valgrind"]
fn of_an_executable() {
    let (workshop, said) = (Workshop::new(), tempfile::tempdir().unwrap());
    let mut program = workshop.in_executable();
    let log = said.path().join("%p");
    // Killed processes leak, and rounds are counted by the suite itself.
    let arguments = [
        "--quiet".into(),
        "--leak-check=no".into(),
        "--trace-children=yes".into(),
        format!("--log-file={}", log.display()),
        program.path.display().to_string(),
    ];
    program.arguments = arguments.map(Into::into).to_vec();
    program.path = "valgrind".into();
    program.patience = Some(Duration::ZERO);
    nothing_is_said(program, &said, is_death_by_a_write);
}

/// All that is said is that the agent died of writing into a map that must not be written to.
fn is_death_by_a_write(text: &str) -> bool {
    let mut said = text.lines().filter_map(|line| {
        let (_, said) = line.strip_prefix("==")?.split_once("==")?;
        Some(said.trim()).filter(|said| !said.is_empty())
    });
    let mut next = |what: &str| said.next().is_some_and(|said| said.contains(what));
    next("default action of signal 11")
        && next("Bad permissions")
        && next(": use_map (agent.c:")
        && said.all(|said| said.contains(" (agent.c:"))
}
