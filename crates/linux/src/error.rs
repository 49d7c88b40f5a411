// SPDX-License-Identifier: MIT OR Apache-2.0
//! What can go wrong between a source package and a program's last word in a guest.

use crate::flavor::{Arch, Kcov};
use crate::install;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The failure of a step.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or folder could not be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Programs or packages are missing.
    #[error(
        "this machine lacks {}; \"rkcov linux setup{}\" installs what can be installed",
        missing.join(", "),
        arch.option()
    )]
    Missing {
        /// What is missing.
        missing: Vec<String>,
        /// For what guests.
        arch: Arch,
    },
    /// The kernel tree could not be changed.
    #[error(transparent)]
    Install(#[from] install::Error),
    /// A program that was needed failed.
    #[error("{what} failed, its output is in {}{}", log.display(), tail(log))]
    Step {
        /// What it was to do.
        what: String,
        /// What it printed.
        log: PathBuf,
    },
    /// No such kernel can be built.
    #[error("{0}: take --arch x86-64")]
    NoSuchKernel(&'static str),
    /// A guest cannot have so much, or not that.
    #[error("{0}")]
    NoSuchMachine(String),
    /// A file is not of a kernel that can be booted so.
    #[error("{}: {why}", kernel.display())]
    NoKernel {
        /// Which.
        kernel: PathBuf,
        /// What it is, and what to give instead.
        why: &'static str,
    },
    /// A kernel of the user's own lacks what a guest needs.
    #[error(
        "{}: this kernel lacks what a guest needs: build it with {}=y",
        vmlinux.display(),
        options.join("=y, ")
    )]
    Lacks {
        /// Its file with symbols.
        vmlinux: PathBuf,
        /// The options of its configuration.
        options: Vec<&'static str>,
    },
    /// A module cannot be loaded into a guest.
    #[error("{}: {why}", module.display())]
    Module {
        /// Its file, or what was given for one.
        module: PathBuf,
        /// Why.
        why: String,
    },
    /// Options that were asked for are not in the configuration that came out.
    #[error("the kernel cannot be configured as wanted: {} did not take effect", options.join(", "))]
    Config {
        /// The lines of the fragment.
        options: Vec<String>,
    },
    /// A kernel has another kcov than it should, or both.
    #[error("{}: built for the kcov in {wanted:?}, but the objects in it are those of {found:?}", vmlinux.display())]
    OtherKcov {
        /// The kernel.
        vmlinux: PathBuf,
        /// The kcov that it was built for.
        wanted: Kcov,
        /// Those that are in it.
        found: Vec<Kcov>,
    },
    /// There is no such program.
    #[error("cannot run {}: there is no such program", .0.to_string_lossy())]
    NoProgram(OsString),
    /// A program cannot be put into a guest.
    #[error("{}: cannot be run in a guest: {why}", program.to_string_lossy())]
    Program {
        /// Which.
        program: OsString,
        /// Why.
        why: String,
    },
    /// The guest did not come to its end in time, and was ended.
    #[error(
        "the guest {} after {} s; its console is in {}{}",
        if *begun { "was still running" } else { "had not started its first process" },
        limit.as_secs(),
        console.display(),
        tail(console)
    )]
    Hang {
        /// How long it was given.
        limit: Duration,
        /// Whether the kernel had come to its first process.
        begun: bool,
        /// What it printed.
        console: PathBuf,
    },
    /// The guest ended before it had said all: a panic, or a machine that does not start.
    #[error("the guest {how}; its console is in {}{}", console.display(), tail(console))]
    Died {
        /// In which way.
        how: String,
        /// What it printed.
        console: PathBuf,
    },
    /// Somebody wanted this process to end while the guest ran; the guest was ended.
    #[error("interrupted by signal {signal}; the guest is ended, its console is in {}", console.display())]
    Interrupted {
        /// The signal.
        signal: i32,
        /// What it printed.
        console: PathBuf,
    },
    /// The user left the guest by keys; it was ended.
    #[error("the guest was left and is ended; its console is in {}", console.display())]
    Left {
        /// What it printed.
        console: PathBuf,
    },
    /// The guest came to its end, but the kernel complained on the way.
    #[error("the kernel complained: {report}; its console is in {}", console.display())]
    Report {
        /// The first line of the complaint.
        report: String,
        /// What it printed.
        console: PathBuf,
    },
}

impl Error {
    /// The exit status of a command that failed this way: a shell's, if it is the program's fault
    /// or the user's wish.
    #[must_use]
    pub fn exit_status(&self) -> u8 {
        match self {
            Self::NoProgram(_) => 127,
            Self::Program { .. } => 126,
            Self::Interrupted { signal, .. } => 128_u8.wrapping_add(*signal as u8),
            _ => 1,
        }
    }
}

/// The result of a step.
pub type Result<T> = std::result::Result<T, Error>;

/// Names the file with which something failed.
pub(crate) fn io_error(path: impl AsRef<Path>) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::Io {
        path: path.as_ref().to_owned(),
        source,
    }
}

/// The last lines of a log, indented, for the end of a message.
fn tail(log: &Path) -> String {
    const LINES: usize = 15;
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().filter(|l| !l.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(LINES)..]
        .iter()
        .map(|line| format!("\n  | {}", line.trim_end()))
        .collect()
}
