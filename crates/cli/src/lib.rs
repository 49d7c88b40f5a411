// SPDX-License-Identifier: MIT OR Apache-2.0
//! The `rkcov` command, as a library so that its parts can be tested and shared by its binaries.
//!
//! A command is a file in [`cmd`]: its arguments, its help, and a `run` that puts the parts
//! together. What a command knows stands elsewhere: compilers in [`toolchain`], the compiler
//! wrapper's decisions in [`wrap`], collecting and reporting in crates of their own.
//!
//! Exit status: what the command says (`cc` and `run` take over the program's), 2 for a command
//! line that makes no sense, 126 and 127 for a program that cannot be run or found, as a shell
//! has it, 1 for every other failure.

#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod affected;
pub mod assembler;
pub mod cache;
pub mod cargo;
pub mod cmd;
pub mod collect;
pub mod config;
mod crowds;
#[cfg(feature = "debuginfod")]
mod debuginfod;
pub mod each;
pub mod error;
pub mod install;
mod live;
pub mod look;
pub mod manual;
mod pager;
mod per_test;
mod progress;
pub mod record;
pub mod reporter;
pub mod since;
pub mod toolchain;
pub mod wrap;

use clap::{CommandFactory, Parser};
use std::ffi::OsString;
use std::process::ExitCode;

/// Records which code ran for one piece of work, on all threads.
#[derive(Debug, Parser)]
#[command(
    name = "rkcov",
    version,
    propagate_version = false,
    max_term_width = 100
)]
struct Cli {
    #[command(subcommand)]
    command: cmd::Command,
}

/// The command line of `rkcov`, for its manual pages and completions.
pub(crate) fn command() -> clap::Command {
    Cli::command()
}

/// Runs the command line `args`, the program's own name first. By the name of an assembler, compilers
/// call us in its place.
#[must_use]
pub fn main(args: Vec<OsString>) -> ExitCode {
    if args
        .first()
        .is_some_and(|name| assembler::is_called_by(name))
    {
        return assembler::main(&args);
    }
    match Cli::parse_from(args).command.run() {
        Ok(code) => code,
        Err(error) => error::end("rkcov", &error),
    }
}
