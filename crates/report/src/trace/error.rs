// SPDX-License-Identifier: MIT OR Apache-2.0
//! What can be wrong with a trace file.

use std::io;
use std::path::PathBuf;

use super::{OLDEST, VERSION};

/// Where the advice begins in what is said of a trace of which a part can be read.
pub const ADVICE: &str = "; `--salvage` ";

/// Why bytes are not a trace. Offsets count from the beginning of the file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TraceError {
    /// There is nothing in it.
    #[error("the file is empty: nothing was ever recorded into it")]
    Empty,
    /// It does not begin as a trace does.
    #[error("this is not an rkcov trace; `rkcov run -o FILE -- PROGRAM` writes one")]
    NotATrace,
    /// It is of a format that this version does not know.
    #[error(
        "trace format {found} is newer than this rkcov, which reads {OLDEST} to {VERSION}; \
         report it with the rkcov that wrote it, or a newer one"
    )]
    Version {
        /// The version that the file names.
        found: u32,
    },
    /// It ends too early: its writer was killed, or a copy was cut.
    #[error(
        "the trace is unfinished: it ends at byte {at} without its end mark{ADVICE}\
         reads the part that is whole"
    )]
    Unfinished {
        /// Where the last whole section ends.
        at: u64,
    },
    /// Its bytes are not those that were written.
    #[error(
        "the trace is damaged at byte {at} ({what}){ADVICE}\
         reads the part before it, else record it again"
    )]
    Damaged {
        /// Where the damaged section, or what stands in its place, begins.
        at: u64,
        /// What shows it.
        what: &'static str,
    },
    /// Its bytes are those that were written, but they make no sense.
    #[error("the trace contradicts itself at byte {at} ({what}); what wrote it has a bug")]
    Malformed {
        /// Where the section begins.
        at: u64,
        /// What makes no sense.
        what: &'static str,
    },
    /// It has a section that a reader must understand and this one does not.
    #[error(
        "the trace has a section of kind {kind:#x} at byte {at}, which this rkcov does not know; \
         report it with the rkcov that wrote it, or a newer one"
    )]
    UnknownSection {
        /// The kind of the section.
        kind: u32,
        /// Where it begins.
        at: u64,
    },
}

/// Why a trace file cannot be read: which one; the source says why.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The file cannot be opened or read.
    #[error("cannot read {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is not a trace.
    #[error("{}", path.display())]
    Trace {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: TraceError,
    },
}
