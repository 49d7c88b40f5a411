// SPDX-License-Identifier: MIT OR Apache-2.0
//! What this machine has. A test passes over what needs more, and says so; where all tests are asked
//! for (`RKCOV_TEST_ALL`), that is a failure.

use std::process::Command;

/// Whether a command can be run at all.
pub(crate) fn can(command: &[&str]) -> bool {
    let output = Command::new(command[0]).args(&command[1..]).output();
    let why = match output {
        Ok(output) if output.status.success() => return true,
        Ok(output) => String::from_utf8_lossy(&output.stderr).into_owned(),
        Err(error) => format!("{error}; is its package installed?"),
    };
    let skips = std::env::var_os("RKCOV_TEST_ALL").is_none();
    assert!(skips, "cannot run {command:?}: {why}");
    println!("SKIPPED: cannot run {command:?}: {why}");
    false
}

/// Whether there is a program of this name that can say its version.
#[allow(dead_code, reason = "not every program of tests needs it")]
pub(crate) fn has(program: &str) -> bool {
    can(&[program, "--version"])
}
