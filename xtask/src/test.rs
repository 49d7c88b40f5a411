// SPDX-License-Identifier: MIT OR Apache-2.0
//! All that has to pass before a change goes in.

use crate::shell::{self, heading, Error};
use crate::{root, setup};
use std::process::Command;

/// Arguments of `cargo xtask test`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Do not check what is missing on this machine; skip tests that need it
    #[arg(long)]
    no_setup: bool,
    /// Run only tests whose names contain this
    filter: Option<String>,
}

/// Formatting, lints, documentation, and every test.
///
/// # Errors
/// The first of them that does not pass.
pub fn run(args: &Args) -> Result<(), Error> {
    if !args.no_setup {
        setup::run()?;
    }
    if args.filter.is_none() {
        step(cargo(["fmt", "--check"]))?;
        // The fuzz targets have a lock file of their own: a new dependency has to be in both.
        step(cargo([
            "fetch",
            "--locked",
            "--manifest-path",
            "fuzz/Cargo.toml",
        ]))?;
        step(cargo([
            "clippy",
            "--workspace",
            "--all-targets",
            "--",
            "-D",
            "warnings",
        ]))?;
        // As programs use it that are no collectors.
        step(cargo([
            "clippy",
            "--package",
            "rkcov",
            "--all-targets",
            "--",
            "-D",
            "warnings",
        ]))?;
        let mut doc = cargo(["doc", "--workspace", "--no-deps"]);
        doc.env("RUSTDOCFLAGS", "-D warnings");
        step(doc)?;
        step(cargo(["test", "--workspace", "--doc"]))?;
    }
    let mut test = if shell::has("cargo-nextest") {
        cargo(["nextest", "run", "--workspace", "--no-fail-fast"])
    } else {
        cargo(["test", "--workspace", "--all-targets", "--no-fail-fast"])
    };
    step({
        test.args(&args.filter);
        if !args.no_setup {
            // What a test would pass over, for want of a program or of a right, is then a failure.
            test.env("RKCOV_TEST_ALL", "1");
        }
        test
    })
}

fn step(mut command: Command) -> Result<(), Error> {
    heading(&shell::line(&command))?;
    shell::run(&mut command)
}

fn cargo<const N: usize>(args: [&str; N]) -> Command {
    let mut command = Command::new("cargo");
    command.args(args).current_dir(root());
    command
}
