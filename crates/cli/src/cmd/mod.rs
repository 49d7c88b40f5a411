// SPDX-License-Identifier: MIT OR Apache-2.0
//! The commands, a file each.

pub mod cargo;
pub mod cc;
pub mod cmp;
pub mod completions;
pub mod contexts;
pub mod diff;
pub mod doctor;
pub mod env;
pub mod install;
pub mod linux;
pub mod merge;
pub mod preload;
pub mod report;
pub mod run;
pub mod show;
pub mod trace;
mod traces;

use crate::error::Error;
use std::process::ExitCode;

/// A command with its arguments.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Compile and link C with instrumentation; use it instead of the compiler
    Cc(cc::Args),
    /// Compile and link C++ with instrumentation; use it instead of the compiler
    #[command(name = "c++")]
    Cxx(cc::Args),
    /// Print the compiler variables for a build system: CC and CXX
    Env(env::Args),
    /// List what rkcov needs on this machine, and how to install what is missing
    Doctor(doctor::Args),
    /// Run a program; record the code that it, its threads and its child processes run
    Run(run::Args),
    /// Run a client of the kernel's kcov with a kcov of its own process instead
    Preload(preload::Args),
    /// Report the files, functions and lines that traces covered
    // Cargo has an `--all` of its own.
    #[command(mut_arg("all_files", |arg| arg.visible_alias("all")))]
    Report(Box<report::Args>),
    /// What may be asked of contexts.
    #[command(flatten)]
    Question(contexts::Question),
    /// Show who ran a line or a function, and what they ran before it
    Show(show::Args),
    /// Tell who called whom, thread by thread, from traces that have the order
    Trace(trace::Args),
    /// Show what was compared, and the values that were never met: what a fuzzer would try
    Cmp(cmp::Args),
    /// Show the code that only one of two traces covered
    Diff(diff::Args),
    /// Write one trace file that has all of several
    Merge(merge::Args),
    /// Install the commands, the runtime, its header, manual pages and completions
    Install(install::Args),
    /// Remove the files that `rkcov install` installed
    Uninstall(install::Place),
    /// Print shell completions for this command
    Completions(completions::Args),
    /// Build and boot Linux with the Rust kcov, and run programs in it
    #[command(subcommand)]
    Linux(linux::Command),
}

impl Command {
    /// Runs the command and gives its exit status.
    ///
    /// # Errors
    /// The command failed.
    pub fn run(self) -> Result<ExitCode, Error> {
        match self {
            Self::Cc(args) => cc::run(args, cc::Language::C),
            Self::Cxx(args) => cc::run(args, cc::Language::Cxx),
            Self::Env(args) => env::run(&args),
            Self::Doctor(args) => doctor::run(&args),
            Self::Run(args) => run::run(&args),
            Self::Preload(args) => preload::run(&args),
            Self::Report(args) => Ok(report::run(*args)?),
            Self::Question(question) => Ok(contexts::run(&question)?),
            Self::Show(args) => Ok(show::run(&args)?),
            Self::Trace(args) => Ok(trace::run(&args)?),
            Self::Cmp(args) => Ok(cmp::run(&args)?),
            Self::Diff(args) => Ok(diff::run(&args)?),
            Self::Merge(args) => Ok(merge::run(&args)?),
            Self::Install(args) => install::install(&args),
            Self::Uninstall(place) => install::uninstall(&place),
            Self::Completions(args) => completions::run(&args),
            Self::Linux(command) => linux::run(&command),
        }
    }
}
