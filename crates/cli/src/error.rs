// SPDX-License-Identifier: MIT OR Apache-2.0
//! What can go wrong in a command, and the exit status that says so.

use crate::cmd::{cc, env};
use rkcov::program::Outcome;
use std::ffi::OsString;
use std::fmt;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

/// The failure of a command.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A compiler was not run.
    #[error(transparent)]
    Cc(#[from] cc::Failure),
    /// Cargo cannot do what it is to do.
    #[error(transparent)]
    Cargo(#[from] crate::cargo::Error),
    /// The variables for a build system cannot be said.
    #[error(transparent)]
    Env(#[from] env::Failure),
    /// Printing the command's own output.
    #[error("cannot write to standard output")]
    Output(#[from] io::Error),
    /// The program of `rkcov run` is not there, or cannot be started.
    #[error("cannot run {}", program.display())]
    Program {
        /// As it was given.
        program: OsString,
        /// What the system says.
        source: io::Error,
    },
    /// The program of `rkcov run` is not there, and something like it is.
    #[error("cannot run {}: there is no such program; {hint}", program.display())]
    NoProgram {
        /// As it was given.
        program: OsString,
        /// What may be meant.
        hint: String,
    },
    /// The folder of the trace is not there.
    #[error("{}: no such folder", .0.display())]
    NoFolder(PathBuf),
    /// An input of `rkcov run --each` is not there.
    #[error("cannot read the input {}", path.display())]
    Input {
        /// As it was given.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The runtime's files cannot be unpacked.
    #[error("cannot unpack the runtime")]
    Unpack(#[source] io::Error),
    /// There is no memory for programs to record into.
    #[error("cannot allocate memory for records (`ulimit -f` and `ulimit -v` limit it)")]
    Memory(#[source] io::Error),
    /// The trace cannot be written.
    #[error("cannot write {}", path.display())]
    Trace {
        /// The trace file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The program has run, but its trace cannot be written.
    #[error("the trace is lost: cannot write {}", path.display())]
    Lost {
        /// The trace file.
        path: PathBuf,
        /// How the program ended.
        outcome: Outcome,
        /// What the system says.
        source: io::Error,
    },
    /// There is no report.
    #[error(transparent)]
    Report(#[from] crate::reporter::Error),
    /// A question has no answer.
    #[error(transparent)]
    Question(#[from] crate::cmd::contexts::Error),
    /// The runtime cannot be installed, or removed again.
    #[error(transparent)]
    Files(#[from] crate::install::Error),
    /// A kernel tree that cannot be changed.
    #[error(transparent)]
    Install(#[from] rkcov_linux::install::Error),
    /// A kernel that cannot be built, or a guest that did not come to its end.
    #[error(transparent)]
    Linux(#[from] rkcov_linux::Error),
    /// A shell that nobody can type into.
    #[error("standard input is not a terminal: give a program, as in \"rkcov linux shell -- ls\", or a terminal")]
    NoTerminal,
    /// A guest of another machine, for which this one has no shell.
    #[error("this machine's shell does not run on arm64: give a program that does, as in \"rkcov linux shell --arch arm64 -- ./busybox sh\"")]
    NoShell,
    /// A guest that could not do its job.
    #[error("in the guest: {why}")]
    Guest {
        /// What it says.
        why: String,
    },
}

impl Error {
    /// The exit status of a command that failed this way.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Program { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                ExitCode::from(127)
            }
            Self::NoProgram { .. } => ExitCode::from(127),
            Self::Program { .. } => ExitCode::from(126),
            // What the program says of itself is worth more.
            Self::Lost { outcome, .. } if *outcome != Outcome::Exited(0) => {
                ExitCode::from(outcome.shell_status())
            }
            Self::Output(error) if is_closed(error) => ExitCode::from(CLOSED_PIPE),
            Self::Output(_)
            | Self::Unpack(_)
            | Self::Memory(_)
            | Self::Trace { .. }
            | Self::NoFolder(_)
            | Self::Input { .. }
            | Self::Lost { .. }
            | Self::Report(_)
            | Self::Question(_)
            | Self::Files(_)
            | Self::Install(_)
            | Self::Guest { .. }
            | Self::NoTerminal
            | Self::NoShell
            | Self::Env(_) => ExitCode::FAILURE,
            Self::Linux(failure) => ExitCode::from(failure.exit_status()),
            Self::Cc(failure) => failure.exit_code(),
            Self::Cargo(failure) => failure.exit_code(),
        }
    }
}

/// The exit status of a program that is ended because nobody reads its output any more.
pub const CLOSED_PIPE: u8 = 128 + 13;

/// Ends the command `name`, which failed: says why and gives the exit status.
pub(crate) fn end(name: &str, error: &Error) -> ExitCode {
    if !matches!(error, Error::Output(error) if is_closed(error)) {
        say(format_args!("{name}: {}", Chain(error)));
    }
    error.exit_code()
}

fn is_closed(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::BrokenPipe
}

/// Says a line on standard error. If nobody listens there, nothing is to be done about it.
pub(crate) fn say(line: impl fmt::Display) {
    let _ = io::stderr().write_all(format!("{line}\n").as_bytes());
}

/// An error with its causes, on one line.
pub struct Chain<'a>(pub &'a dyn std::error::Error);

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut next = self.0.source();
        while let Some(cause) = next {
            write!(f, ": {cause}")?;
            next = cause.source();
        }
        Ok(())
    }
}
