// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is not in a trace, and of whom.

use std::fmt;
use std::path::PathBuf;

use super::{BuildId, DropReason, ProcessId};

/// Something that ran, or may have run, and is not in the trace.
///
/// Whatever is lost, for whatever reason, is one of these; [`Trace::losses`](super::Trace::losses)
/// has them all. A report takes no code that a loss is about for code that did not run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// Why.
    pub reason: DropReason,
    /// How much, in the unit of the reason.
    pub count: u64,
    /// Of whom.
    pub scope: Scope,
    /// What else there is to say, for people; may be empty.
    pub note: String,
}

/// What a [`Loss`] is about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Scope {
    /// Nobody knows: any code may have run.
    #[default]
    Trace,
    /// The code that this process had loaded.
    Process(ProcessId),
    /// What this stream recorded: its place in [`Trace::streams`](super::Trace::streams).
    Stream(usize),
    /// The code of one file, in any process.
    Module {
        /// The file.
        path: PathBuf,
        /// Its build id; empty if it has none.
        build_id: BuildId,
    },
}

impl Loss {
    /// A loss of which nobody knows what it is about.
    #[must_use]
    pub const fn new(reason: DropReason, count: u64) -> Self {
        Self {
            reason,
            count,
            scope: Scope::Trace,
            note: String::new(),
        }
    }
}

impl fmt::Display for Loss {
    /// How much was lost and why: a part of a sentence, without a name of who lost it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (one, many) = self.reason.unit();
        let unit = if self.count == 1 { one } else { many };
        write!(f, "{} {unit} {}", self.count, self.reason.what_became())?;
        if let Scope::Module { path, .. } = &self.scope {
            write!(f, " ({})", path.display())?;
        }
        if !self.note.is_empty() {
            write!(f, ": {}", self.note)?;
        }
        Ok(())
    }
}

impl DropReason {
    /// What losses of this reason are counted in: one, and many.
    #[must_use]
    pub const fn unit(self) -> (&'static str, &'static str) {
        match self {
            Self::Full | Self::Stale | Self::Other(_) => ("record", "records"),
            Self::NoArea | Self::TooDeep | Self::OfOthers => ("section", "sections"),
            Self::NoSlot => ("thread", "threads"),
            Self::UnknownModule | Self::NoStores => ("module", "modules"),
            Self::NoContext => ("context", "contexts"),
            Self::UnknownProcess
            | Self::Refused
            | Self::Stranger
            | Self::Unseen
            | Self::StillRunning => ("process", "processes"),
        }
    }

    /// Whether it is one of records, sections or threads that a larger buffer, or less of them, would
    /// have kept.
    #[must_use]
    pub const fn is_drop(self) -> bool {
        matches!(
            self,
            Self::Full | Self::Stale | Self::NoArea | Self::NoSlot | Self::TooDeep | Self::Other(_)
        )
    }

    /// What became of that, behind its number and unit.
    const fn what_became(self) -> &'static str {
        match self {
            Self::Full => "lost: a thread's buffer was full",
            Self::Stale => "lost: the client had stopped before the section ended",
            Self::NoArea => "lost: there was no memory for them",
            Self::NoSlot => "not recorded: there was no room for more threads",
            Self::TooDeep => "lost: they nested too deeply",
            Self::UnknownModule => "not known: the code that ran in them has no name",
            Self::UnknownProcess => "not known: there was no room for more processes",
            Self::Refused => "not recorded",
            Self::Stranger => "not recorded: built with another version of rkcov",
            Self::Unseen => "not recorded: instrumented, but without a way to rkcov",
            Self::StillRunning => "still running: what they run from now on is not in the trace",
            Self::NoStores => "not recorded: there was no room for what its stores say",
            Self::NoContext => "not known: there was no room for more, or they nested too deeply",
            Self::OfOthers => "recorded for another client, and not here",
            Self::Other(_) => "lost for a reason that this version of rkcov does not know",
        }
    }
}
