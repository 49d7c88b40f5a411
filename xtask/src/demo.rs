// SPDX-License-Identifier: MIT OR Apache-2.0
//! The demonstration: which lines of zstd ran on worker threads only.

use crate::shell::{self, heading, Error};
use crate::zstd::{self, Zstd};
use crate::{from_root, root, target_dir, work_dir};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Arguments of `cargo xtask demo`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The compiler that rkcov runs [default: gcc, then clang if it is installed]
    #[arg(long, value_name = "PROGRAM")]
    cc: Option<String>,
    /// The file to compress [default: the rkcov command itself]
    #[arg(long)]
    file: Option<PathBuf>,
}

/// Builds, runs and reports, printing each command before it runs.
///
/// # Errors
/// Something cannot be built, run or reported.
pub fn run(args: &Args) -> Result<(), Error> {
    let rkcov = build_rkcov()?;
    let file = args.file.clone().unwrap_or_else(|| rkcov.clone());
    let compilers = match &args.cc {
        Some(cc) => vec![cc.clone()],
        None => std::iter::once(String::from("gcc"))
            .chain(clang())
            .collect(),
    };
    for compiler in compilers {
        heading(&shell::line(&zstd::make(Path::new("rkcov"), &compiler)))?;
        let zstd = zstd::build(&rkcov, &compiler)?;
        fs::create_dir_all(work_dir("demo"))?;
        for threads in ["-T4", "--single-thread"] {
            let trace = work_dir("demo").join(format!(
                "{compiler}-{}.rkcov",
                threads.trim_start_matches('-')
            ));
            show(&mut collect(&rkcov, &zstd, threads, &file, &trace))?;
            show(report(&rkcov, &trace, "zstdmt_compress.c").args(["--functions", "--source"]))?;
        }
    }
    Ok(())
}

fn show(command: &mut Command) -> Result<(), Error> {
    heading(&shell::line(command))?;
    shell::run(command)
}

/// Builds the `rkcov` command and says where it is.
///
/// # Errors
/// It cannot be built.
pub fn build_rkcov() -> Result<PathBuf, Error> {
    build_command("rkcov", "dev")
}

/// Builds one of our commands, by a profile of cargo's, and says where it is.
///
/// # Errors
/// It cannot be built.
pub fn build_command(name: &str, profile: &str) -> Result<PathBuf, Error> {
    let mut build = Command::new("cargo");
    build.args(["build", "--quiet", "--package", "rkcov-cli", "--bin", name]);
    shell::run(build.args(["--profile", profile]).current_dir(root()))?;
    let folder = if profile == "dev" { "debug" } else { profile };
    Ok(target_dir().join(folder).join(name))
}

/// Where one of our commands is, and so the others.
pub(crate) fn folder(command: &Path) -> &Path {
    command.parent().unwrap_or(Path::new(""))
}

/// `rkcov run` with zstd compressing `file` on `threads`.
#[must_use]
pub fn collect(rkcov: &Path, zstd: &Zstd, threads: &str, file: &Path, trace: &Path) -> Command {
    let mut command = command(rkcov);
    command.args(["run", "-o"]).arg(from_root(trace)).arg("--");
    command
        .arg(from_root(&zstd.program))
        .args(["-q", "-f", threads]);
    command.args(["-o", "/dev/null"]).arg(from_root(file));
    command
}

/// `rkcov report` of what ran on no thread but workers in zstd's sources that match `filter`.
#[must_use]
pub fn report(rkcov: &Path, trace: &Path, filter: &str) -> Command {
    let mut command = command(rkcov);
    command.arg("report").arg(from_root(trace));
    command.args(["--thread", "workers", "--exclusive", "--filter", filter]);
    command
}

/// A command in the root of the repository: paths are short there.
fn command(rkcov: &Path) -> Command {
    let mut command = Command::new(from_root(rkcov));
    command.current_dir(root());
    command
}

/// The newest clang that is here, by name.
#[must_use]
pub fn clang() -> Option<String> {
    std::iter::once(String::from("clang"))
        .chain((14..40).rev().map(|version| format!("clang-{version}")))
        .find(|name| shell::has(name))
}
