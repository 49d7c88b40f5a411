// SPDX-License-Identifier: MIT OR Apache-2.0
//! The commands, a file each.

pub mod cargo;
pub mod cc;
pub mod completions;
pub mod diff;
pub mod doctor;
pub mod env;
pub mod install;
pub mod linux;
pub mod preload;
pub mod report;
pub mod run;

use crate::error::Error;
use std::process::ExitCode;

/// A command with its arguments.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Compile and link C, instrumented: use it in a compiler's place
    Cc(cc::Args),
    /// Compile and link C++, instrumented: use it in a compiler's place
    #[command(name = "c++")]
    Cxx(cc::Args),
    /// Print what a build system has to be told: CC and CXX
    Env(env::Args),
    /// Say what this machine has for rkcov, and how to get what is missing
    Doctor(doctor::Args),
    /// Run a program and record what it, its threads and the programs it starts run
    Run(run::Args),
    /// Run a program that was written for the kernel's kcov, with one of its own process
    Preload(preload::Args),
    /// Say what trace files recorded: files, functions and lines
    Report(Box<report::Args>),
    /// Say what only one of two traces ran
    Diff(diff::Args),
    /// Put the runtime, its header and this command where compilers and pkg-config find them
    Install(install::Args),
    /// Remove what `rkcov install` put there
    Uninstall(install::Place),
    /// Print a shell's completions of this command
    Completions(completions::Args),
    /// Build and boot a Linux that has the Rust kcov, and run programs in it
    #[command(subcommand)]
    Linux(linux::Command),
}

impl Command {
    /// Runs the command and gives its exit status.
    ///
    /// # Errors
    /// Whatever kept the command from doing what it was asked.
    pub fn run(self) -> Result<ExitCode, Error> {
        match self {
            Self::Cc(args) => cc::run(args, cc::Language::C),
            Self::Cxx(args) => cc::run(args, cc::Language::Cxx),
            Self::Env(args) => env::run(&args),
            Self::Doctor(args) => doctor::run(&args),
            Self::Run(args) => run::run(&args),
            Self::Preload(args) => preload::run(&args),
            Self::Report(args) => Ok(report::run(&args)?),
            Self::Diff(args) => Ok(diff::run(&args)?),
            Self::Install(args) => install::install(&args),
            Self::Uninstall(place) => install::uninstall(&place),
            Self::Completions(args) => completions::run(&args),
            Self::Linux(command) => linux::run(&command),
        }
    }
}
