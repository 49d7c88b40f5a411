// SPDX-License-Identifier: MIT OR Apache-2.0
//! Losses: what is missing in a trace, and where.

use std::fmt;
use std::path::PathBuf;

use super::{BuildId, DropReason, ProcessId};

/// Something that ran, or may have run, and is not in the trace.
///
/// [`Trace::losses`](super::Trace::losses) has all losses. A report never shows code in the scope of
/// a loss as uncovered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// The reason.
    pub reason: DropReason,
    /// The amount, in the unit of the reason.
    pub count: u64,
    /// The code or records that the loss concerns.
    pub scope: Scope,
    /// More information, for people; may be empty.
    pub note: String,
}

/// What a [`Loss`] concerns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Scope {
    /// Not known: any code may have run.
    #[default]
    Trace,
    /// The code that this process had loaded.
    Process(ProcessId),
    /// The code of this stream: its index in [`Trace::streams`](super::Trace::streams).
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
    /// A loss that may concern any code.
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
    /// The amount and the reason: a part of a sentence, without the name of the thread or process.
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
    /// The unit of losses of this reason, in singular and plural.
    #[must_use]
    pub const fn unit(self) -> (&'static str, &'static str) {
        match self {
            Self::Full | Self::Stale | Self::Other(_) => ("record", "records"),
            Self::NoArea | Self::TooDeep => ("section", "sections"),
            Self::NoSlot | Self::OwnBase => ("thread", "threads"),
            Self::UnknownModule | Self::NoStores | Self::NoChecks => ("module", "modules"),
            Self::NoContext => ("context", "contexts"),
            Self::UnknownProcess | Self::Refused | Self::Stranger | Self::StillRunning => {
                ("process", "processes")
            }
        }
    }

    /// Whether records, sections or threads were dropped for want of room: a larger buffer, or fewer
    /// of them, would have avoided the loss.
    #[must_use]
    pub const fn is_drop(self) -> bool {
        matches!(
            self,
            Self::Full | Self::Stale | Self::NoArea | Self::NoSlot | Self::TooDeep | Self::Other(_)
        )
    }

    /// The text after the number and the unit.
    const fn what_became(self) -> &'static str {
        match self {
            Self::Full => "lost: a thread's buffer was full",
            Self::Stale => "lost: the client disabled before the section stopped",
            Self::NoArea => "lost: no memory",
            Self::NoSlot => "not recorded: no room for more threads",
            Self::TooDeep => "lost: nested too deeply",
            Self::UnknownModule => "unknown: PCs in them cannot be resolved",
            Self::UnknownProcess => "unknown: no room for more processes",
            Self::Refused => "not recorded",
            Self::Stranger => "not recorded: built with another version of rkcov",
            Self::StillRunning => {
                "still running: code that they run from now on is not in the trace"
            }
            Self::NoStores => "not recorded: no room for the records of stores",
            Self::NoContext => "unknown: no room for more, or nested too deeply",
            Self::NoChecks => "not fully recorded: no room to note which checks were reached",
            Self::OwnBase => "not fully recorded: the program uses the GS base itself",
            Self::Other(_) => "lost for a reason that this version of rkcov does not know",
        }
    }
}
