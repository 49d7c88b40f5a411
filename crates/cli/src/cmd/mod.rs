// SPDX-License-Identifier: MIT OR Apache-2.0
//! The commands, a file each.

pub mod doctor;
pub mod linux;
pub mod run;

use crate::error::Error;
use std::process::ExitCode;

/// A command with its arguments.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Say what this machine has for rkcov, and how to get what is missing
    Doctor(doctor::Args),
    /// Run a program and record what it, its threads and the programs it starts run
    Run(run::Args),
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
            Self::Doctor(args) => doctor::run(&args),
            Self::Run(args) => run::run(&args),
            Self::Linux(command) => linux::run(&command),
        }
    }
}
