// SPDX-License-Identifier: MIT OR Apache-2.0
//! Named pieces of work.

use std::fmt;
use std::time::SystemTime;

use super::ProcessId;

/// A named piece of work: streams say which one they were recorded in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Context {
    /// What sort of work it is.
    pub kind: ContextKind,
    /// Its name, as it was given: in most cases UTF-8. Two contexts may have one name.
    pub name: Vec<u8>,
    /// The context that it is a part of.
    pub parent: Option<ContextId>,
    /// The process that it is of, if it is of one.
    pub process: Option<ProcessId>,
    /// When it began, if that is known.
    pub began: Option<SystemTime>,
    /// Whether it has ended.
    pub ended: Ended,
}

impl Context {
    /// A context of which no more is known, and which has not ended.
    #[must_use]
    pub fn new(kind: ContextKind, name: impl Into<Vec<u8>>) -> Self {
        Self {
            kind,
            name: name.into(),
            parent: None,
            process: None,
            began: None,
            ended: Ended::No,
        }
    }
}

/// A context of a trace, by its place in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContextId(pub(super) u32);

impl ContextId {
    /// Where the context stands in [`Trace::contexts`](super::Trace::contexts).
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// Whether a context has ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ended {
    /// It had not when recording ended.
    #[default]
    No,
    /// It has; nobody wrote down when.
    Yes,
    /// It has, then.
    At(SystemTime),
}

/// What sort of work a context is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum ContextKind {
    /// A test.
    Test,
    /// A request to a server.
    Request,
    /// A job, such as of a queue.
    Job,
    /// An input that a program was run with.
    Input,
    /// Whatever a user names.
    User,
    /// A process, by its command line.
    Process,
    /// A kind that this version does not know, by its number.
    Other(u32),
}

impl ContextKind {
    const KNOWN: [(Self, u32, &'static str); 6] = [
        (Self::Test, 1, "test"),
        (Self::Request, 2, "request"),
        (Self::Job, 3, "job"),
        (Self::Input, 4, "input"),
        (Self::User, 5, "user"),
        (Self::Process, 6, "process"),
    ];

    /// The kind with this number.
    #[must_use]
    pub fn from_raw(raw: u32) -> Self {
        let known = Self::KNOWN.iter().find(|(_, number, _)| *number == raw);
        known.map_or(Self::Other(raw), |(kind, _, _)| *kind)
    }

    /// Its number.
    #[must_use]
    pub fn raw(self) -> u32 {
        match self {
            Self::Other(raw) => raw,
            kind => Self::KNOWN
                .iter()
                .find(|(known, _, _)| *known == kind)
                .map_or(0, |(_, raw, _)| *raw),
        }
    }
}

impl fmt::Display for ContextKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Self::KNOWN.iter().find(|(known, _, _)| known == self) {
            Some((_, _, name)) => f.write_str(name),
            None => write!(f, "kind {}", self.raw()),
        }
    }
}
