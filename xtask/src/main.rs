// SPDX-License-Identifier: MIT OR Apache-2.0
//! `cargo xtask`.

use clap::Parser;
use std::process::ExitCode;

/// The project's own commands
#[derive(Debug, Parser)]
#[command(name = "cargo xtask")]
enum Command {
    /// Build zstd with rkcov, compress a file, and show the lines that only worker threads ran
    Demo(xtask::demo::Args),
    /// Check formatting, lints and documentation, and run every test
    Test(xtask::test::Args),
    /// Build projects from Debian's archive with rkcov, run them, and check the reports
    Projects(xtask::projects::Args),
    /// Run projects from crates.io under cargo rkcov, and check the reports
    RustProjects(xtask::rust_projects::Args),
    /// Compare what each test of a crate ran among all tests with what it runs alone
    PerTest(xtask::per_test::Args),
    /// The same for tests of googletest in projects from Debian's archive
    PerTestCpp(xtask::per_test::cpp::Args),
    /// The same for tests of pytest in packages from PyPI with extension modules
    PerTestPython(xtask::per_test::python::Args),
    /// Build the book of the documentation, in target/book, and check its links
    Book(xtask::book::Args),
    /// Run each test of a program alone: for per-test
    #[command(hide = true)]
    PerTestAlone(xtask::per_test::alone::Args),
    /// Undo what releases of crates have changed, and look whether the tests that change are named
    Affected(xtask::affected::Args),
    /// Fetch the sources of a Debian package, and print their folder
    Sources(xtask::sources::Args),
    /// Install the programs that the tests need, or list what is missing
    Setup,
    /// Count the instructions of one callback call in a kernel, for both kcovs, and compare
    HotPath(xtask::hot_path::Args),
    /// Build programs with calls and with checks, and compare their records and results
    CheckDifferential(xtask::differential::matrix::Args),
    /// Make the files of a release: a Debian package, an archive, and their checksums
    Dist(xtask::dist::Args),
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
        Command::PerTest(args) => xtask::per_test::run(&args).map(succeeded),
        Command::PerTestCpp(args) => xtask::per_test::cpp::run(&args).map(succeeded),
        Command::PerTestPython(args) => xtask::per_test::python::run(&args).map(succeeded),
        Command::Book(args) => xtask::book::run(&args).map(succeeded),
        Command::PerTestAlone(args) => xtask::per_test::alone::run(&args).map(succeeded),
        Command::Affected(args) => xtask::affected::run(&args).map(succeeded),
        Command::Sources(args) => xtask::sources::run(&args).map(succeeded),
        Command::Setup => xtask::setup::run().map(succeeded),
        Command::HotPath(args) => xtask::hot_path::run(&args).map(succeeded),
        Command::CheckDifferential(args) => xtask::differential::matrix::run(&args).map(succeeded),
        Command::Dist(args) => xtask::dist::run(&args).map(succeeded),
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
