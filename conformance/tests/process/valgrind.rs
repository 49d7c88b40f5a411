// SPDX-License-Identifier: MIT OR Apache-2.0
//! The suite on the kcov of a process under valgrind: whatever it says of any process fails.
//! `.ci/valgrind` runs it.

use std::time::Duration;

use crate::sanitizers::nothing_is_said;
use crate::support::Workshop;

#[test]
#[ignore = "half an hour; run by .ci/valgrind"]
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
    nothing_is_said(program, &said);
}
