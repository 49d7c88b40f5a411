// SPDX-License-Identifier: MIT OR Apache-2.0
//! What runs inside a guest's kernel beside the conformance suite, each as a command that boots what
//! it needs, says what it saw, and fails if that is not as it should be.
//!
//! A command's own module has both halves: `run()` on this machine, `inside()` in the guest, where
//! this program is also the first process.

mod differential;
mod documentation;
mod guest;
mod hot_path;
mod stress;
mod subjects;
mod symbols;

use clap::{Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;

/// Runs programs that use kcov inside guests, and checks their results.
#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the three C programs of Linux's documentation of kcov, unchanged
    Documentation(guest::Kernel),
    /// USB: listen to the hub thread by a global handle
    Usb(guest::Kernel),
    /// vhost: listen to a worker by a common handle
    Vhost(guest::Kernel),
    /// Run the same system calls under both kcovs, and compare the records
    Differential(differential::Differential),
    /// Use kcov in every way at once, with continuous checks
    Stress(stress::Stress),
    /// Measure what callbacks of both kcovs take, in User Mode Linux
    HotPath(hot_path::HotPath),
    /// What the first process of a guest is called with
    #[command(hide = true)]
    Linux { guest: String },
    /// The half of a command that runs in the guest
    #[command(hide = true, subcommand)]
    Inside(Inside),
}

#[derive(Subcommand)]
enum Inside {
    Documentation { program: PathBuf },
    HotPath,
    Usb,
    Vhost,
    Stress { minutes: u64, seed: u64 },
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Documentation(kernel) => documentation::run(&kernel),
        Command::Usb(kernel) => subjects::usb(&kernel),
        Command::Vhost(kernel) => subjects::vhost(&kernel),
        Command::Differential(differential) => differential::run(&differential),
        Command::Stress(stress) => stress::run(&stress),
        Command::HotPath(args) => hot_path::run(&args),
        Command::Linux { .. } => rkcov_guest::main().map_err(Into::into),
        Command::Inside(Inside::Documentation { program }) => documentation::inside(&program),
        Command::Inside(Inside::HotPath) => hot_path::inside(),
        Command::Inside(Inside::Usb) => subjects::usb_inside(),
        Command::Inside(Inside::Vhost) => subjects::vhost_inside(),
        Command::Inside(Inside::Stress { minutes, seed }) => stress::inside(minutes, seed),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("rkcov-guests: {error}");
            ExitCode::FAILURE
        }
    }
}
