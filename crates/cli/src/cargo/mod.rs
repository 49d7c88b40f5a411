// SPDX-License-Identifier: MIT OR Apache-2.0
//! `cargo rkcov`: any cargo project, instrumented, with nothing changed in it.
//!
//! Cargo itself builds, in a target folder of ours, and is told by its configuration to run *us* in
//! the place of rustc and rustdoc, and on request of the C compilers ([`tools`]). So every option of
//! cargo's means what it always means, and what is tested finds the environment that it always has. We say `--target` with the host's own name: then
//! cargo compiles for the target what is the project, without it build scripts and proc macros,
//! and the two can be told apart ([`rustc`]). The tests, or the program, run as children of a cargo
//! that runs as `rkcov run` would run it.

pub mod args;
pub mod kept;
mod linking;
pub mod project;
pub mod rustc;
pub mod tools;
pub mod traces;

use std::ffi::OsString;
use std::process::ExitCode;

/// What keeps `cargo rkcov` from doing what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Cargo, rustc or another tool cannot be started.
    #[error("cannot run {}", program.display())]
    Start {
        /// The program.
        program: OsString,
        /// What the system says.
        source: std::io::Error,
    },
    /// Cargo cannot say what the project is; it has said why.
    #[error("cargo cannot read the project")]
    Metadata(u8),
    /// Cargo says something that nobody understands.
    #[error("cannot understand cargo's description of the project")]
    Json(#[from] serde_json::Error),
    /// Code for another machine.
    #[error("rkcov has no runtime for {target}, only for {host}; omit --target, or give {host}")]
    Target {
        /// What was asked for.
        target: String,
        /// The machine that we run on.
        host: String,
    },
    /// A package that is not there.
    #[error("--include {0}: no such package in the project or its dependencies")]
    NoPackage(String),
    /// A package of cargo's `-p` that is not one of the workspace's.
    #[error("-p {0}: the workspace has no such package")]
    NoMember(String),
    /// Nothing would be instrumented.
    #[error("no package of the workspace is left to instrument")]
    NothingLeft,
    /// A gate for what does not run.
    #[error("--fail-under-lines does not work with --no-run, which runs nothing")]
    NothingToJudge,
    /// A folder or file of ours.
    #[error("cannot use {}", path.display())]
    File {
        /// Its path.
        path: std::path::PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// There is nothing to report yet.
    #[error("nothing is recorded yet in {}; `cargo rkcov test` or `cargo rkcov run` records", .0.display())]
    NoTraces(std::path::PathBuf),
}

impl Error {
    /// The exit status of a command that failed this way.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Metadata(status) => ExitCode::from(*status),
            Self::Target { .. }
            | Self::NoPackage(_)
            | Self::NoMember(_)
            | Self::NothingLeft
            | Self::NothingToJudge => ExitCode::from(2),
            Self::Start { .. } | Self::Json(_) | Self::File { .. } | Self::NoTraces(_) => {
                ExitCode::FAILURE
            }
        }
    }
}
