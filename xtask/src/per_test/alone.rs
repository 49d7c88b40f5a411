// SPDX-License-Identifier: MIT OR Apache-2.0
//! Runs each test of a program of libtest in a process of its own: `cargo test` calls this in the
//! place of the program, as its runner.

use crate::shell::{self, Error};
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Arguments of `cargo xtask per-test-alone`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Run each test so often
    #[arg(long, default_value_t = 1)]
    times: u32,
    /// Only the tests in this file: lines of a program's file name, a space, and a test's name
    #[arg(long)]
    only: Option<PathBuf>,
    /// The program
    program: PathBuf,
    /// Its arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

/// Lists the tests and runs them one after another. Whether they fail is not asked: what they run
/// is.
///
/// # Errors
/// The program cannot list its tests, or cannot be run.
pub fn run(args: &Args) -> Result<(), Error> {
    let list = |more: &[&str]| {
        let mut list = Command::new(&args.program);
        list.args(["--list", "--format", "terse"]).args(more);
        shell::read(list.args(&args.arguments))
    };
    let listed = list(&[])?;
    // A process that is told to run one of these alone runs none.
    let ignored = list(&["--ignored"])?;
    let only = match &args.only {
        Some(file) => Some(fs::read_to_string(file)?),
        None => None,
    };
    let program = file_name(&args.program);
    let wanted = |test: &str| {
        let line = format!("{program} {test}");
        only.as_ref()
            .is_none_or(|only| only.lines().any(|one| one == line))
    };
    let tests = listed
        .lines()
        .filter_map(|line| line.strip_suffix(": test"));
    let is_ignored = |test: &str| {
        let mut ignored = ignored.lines();
        ignored.any(|line| line.strip_suffix(": test") == Some(test))
    };
    for test in tests.filter(|test| wanted(test) && !is_ignored(test)) {
        for _ in 0..args.times {
            let mut alone = Command::new(&args.program);
            alone.args(["--exact", test]).args(&args.arguments);
            alone.stdin(Stdio::null()).stdout(Stdio::null());
            alone.stderr(Stdio::null()).status()?;
        }
    }
    Ok(())
}

/// The last part of a path, as text.
pub(super) fn file_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}
