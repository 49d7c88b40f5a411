// SPDX-License-Identifier: MIT OR Apache-2.0
//! `cargo xtask`.

use clap::Parser;
use std::process::ExitCode;

/// The project's own commands
#[derive(Debug, Parser)]
#[command(name = "cargo xtask")]
enum Command {
    /// Build zstd with rkcov, compress a file, and show what ran on worker threads only
    Demo(xtask::demo::Args),
    /// Check formatting, lints and documentation, and run every test
    Test(xtask::test::Args),
    /// Build projects of Debian's archive with rkcov, run them, and check what is reported
    Projects(xtask::projects::Args),
    /// Run projects of crates.io under cargo rkcov, and check what is reported
    RustProjects(xtask::rust_projects::Args),
    /// Install what the tests need, or say what is missing
    Setup,
    /// Count the instructions that run in a kernel for one call of either kcov, and compare
    HotPath(xtask::hot_path::Args),
    /// Build programs with calls and with checks, and compare what they record and compute
    CheckDifferential(xtask::differential::matrix::Args),
    /// Compare two lcov tracefiles of the same run, line by line
    CompareLines(xtask::compare::Args),
}

fn main() -> ExitCode {
    let succeeded = |()| ExitCode::SUCCESS;
    let done = match Command::parse() {
        Command::Demo(args) => xtask::demo::run(&args).map(succeeded),
        Command::Test(args) => xtask::test::run(&args).map(succeeded),
        Command::Projects(args) => xtask::projects::run(&args).map(succeeded),
        Command::RustProjects(args) => xtask::rust_projects::run(&args).map(succeeded),
        Command::Setup => xtask::setup::run().map(succeeded),
        Command::HotPath(args) => xtask::hot_path::run(&args).map(succeeded),
        Command::CheckDifferential(args) => xtask::differential::matrix::run(&args).map(succeeded),
        Command::CompareLines(args) => xtask::compare::run(&args),
    };
    match done {
        Ok(status) => status,
        Err(error) => {
            eprintln!("xtask: {error}");
            ExitCode::FAILURE
        }
    }
}
