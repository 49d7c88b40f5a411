// SPDX-License-Identifier: MIT OR Apache-2.0
//! What can go wrong in a command, and the exit status that says so.

use std::fmt;
use std::process::ExitCode;

/// The failure of a command.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Printing the command's own output.
    #[error("cannot write to standard output")]
    Output(#[from] std::io::Error),
}

impl Error {
    /// The exit status of a command that failed this way.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Output(_) => ExitCode::FAILURE,
        }
    }
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
