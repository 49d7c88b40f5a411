// SPDX-License-Identifier: MIT OR Apache-2.0
//! The trace file: what a collector writes and every report reads.
//!
//! `docs/trace-format.md` describes the bytes. A file is a sequence of sections, each with its
//! number, its length and checksums, so that no cut and no changed byte goes unnoticed. [`Writer`]
//! writes it front to back and holds one chunk of words in memory; [`Trace`] reads it where it
//! lies.
//!
//! ```
//! use rkcov_report::trace::{Info, Mode, Process, StreamInfo, Trace, Writer};
//!
//! let mut writer = Writer::new(Vec::new(), &Info::new(Mode::Trace))?;
//! let process = writer.process(&Process { pid: 71, ..Process::default() })?;
//! let mut thread = StreamInfo::new(process);
//! thread.count = 2;
//! thread.finished = true;
//! writer.stream(&thread, [0x401005, 0x40102a])?;
//! let bytes = writer.finish()?;
//!
//! let trace = Trace::parse(&bytes).unwrap();
//! let pcs: Vec<u64> = trace.streams()[0].words().collect();
//! assert_eq!(pcs, [0x401005, 0x40102a]);
//! # Ok::<(), std::io::Error>(())
//! ```

mod context;
mod error;
mod file;
mod format;
mod list;
mod loss;
mod merge;
mod reader;
mod sites;
#[cfg(test)]
mod tests;
mod writer;

use std::ffi::OsString;
use std::fmt;
use std::ops::Range;
use std::path::PathBuf;
use std::time::SystemTime;

pub use context::{Context, ContextId, ContextKind, Ended};
pub use error::{OpenError, TraceError, ADVICE};
pub use file::{Output, TraceFile};
pub use format::{MAGIC, OLDEST, VERSION};
pub use loss::{Loss, Scope};
pub use merge::{Incompatible, Merge};
pub use reader::{Stream, Trace};
pub use sites::SiteSet;
pub use writer::Writer;

/// What the words of a trace's streams are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Every PC, in the order in which they ran; one word a record.
    Trace,
    /// Each PC once, in the order of its first run; one word a record.
    Unique,
    /// Comparisons; four words a record.
    Cmp,
}

impl Mode {
    /// The name as `--mode` spells it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Trace => "trace",
            Self::Unique => "unique",
            Self::Cmp => "cmp",
        }
    }

    /// Words of one record.
    #[must_use]
    pub const fn record_words(self) -> u32 {
        match self {
            Self::Trace | Self::Unique => rkcov_abi::PC_WORDS,
            Self::Cmp => rkcov_abi::CMP_WORDS,
        }
    }
}

/// How a trace came to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Info {
    /// What wrote the file, such as `rkcov 0.1.0`.
    pub tool: String,
    /// What was recorded.
    pub mode: Mode,
    /// The command that was run, program first; empty if there was none.
    pub command: Vec<OsString>,
    /// The working directory of that command; empty if not known.
    pub directory: PathBuf,
    /// When recording began. Nanoseconds are kept; times before 1970 become 1970.
    pub started: SystemTime,
}

impl Info {
    /// A trace that this version of rkcov begins now, of no particular command.
    #[must_use]
    pub fn new(mode: Mode) -> Self {
        Self {
            tool: concat!("rkcov ", env!("CARGO_PKG_VERSION")).to_owned(),
            mode,
            command: Vec::new(),
            directory: PathBuf::new(),
            started: SystemTime::now(),
        }
    }
}

/// A process of a trace, by its place in the file. An exec makes a new one with the same pid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProcessId(u32);

impl ProcessId {
    /// Where the process stands in [`Trace::processes`].
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// How a process ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Exit {
    /// Not known: it is a grandchild, or was still running.
    #[default]
    Unknown,
    /// It ended with this status.
    Code(i32),
    /// This signal killed it.
    Signal(i32),
}

/// One program image that ran.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Process {
    /// The process id.
    pub pid: u32,
    /// The process id of the parent, 0 if not known.
    pub parent: u32,
    /// Its arguments, program first; empty if not known.
    pub command: Vec<OsString>,
    /// How it ended.
    pub exit: Exit,
}

/// A file of code in the memory of a process, or the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Module {
    /// The process that had it, or `None` if all had it: the kernel and its modules.
    pub process: Option<ProcessId>,
    /// The file: an executable, a shared library, a `vmlinux`.
    pub path: PathBuf,
    /// The build id, or empty if it has none.
    pub build_id: BuildId,
    /// Address in memory minus address in the file (`p_vaddr`), modulo 2^64.
    pub bias: u64,
    /// The addresses that the module occupied.
    pub range: Range<u64>,
    /// The executable parts of `range`.
    pub text: Vec<Range<u64>>,
}

/// The identity of a linked file: the content of its `NT_GNU_BUILD_ID` note.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BuildId(pub Vec<u8>);

impl BuildId {
    /// Whether the file has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for BuildId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for BuildId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BuildId({self})")
    }
}

/// What is known of a stream apart from its words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamInfo {
    /// The process that it belongs to.
    pub process: ProcessId,
    /// The id of the thread, 0 if the stream is not of one thread.
    pub tid: u32,
    /// The name of the thread; empty if not known.
    pub name: String,
    /// The piece of work that was recorded (a test, an input); empty if it was not split so.
    pub label: String,
    /// The handle under which it was recorded, 0 for none.
    pub handle: u64,
    /// Whether it is the first thread of its process.
    pub main: bool,
    /// Whether recording ended in order. Otherwise the last record may not have been written.
    pub finished: bool,
    /// The count word as it stood in the buffer. The program could write to it: see
    /// [`Stream::count_lost`].
    pub count: u64,
    /// How many records the buffer could hold.
    pub capacity: u64,
    /// What was not recorded.
    pub drops: Vec<Drops>,
    /// The context in which it was recorded.
    pub context: Option<ContextId>,
    /// The id of the thread of the same process that made this one, 0 if not known.
    pub creator: u32,
}

impl StreamInfo {
    /// Whether it is what a thread ran in a context that had ended: it has the handle of one, and is in none.
    #[must_use]
    pub fn is_after_context(&self) -> bool {
        let handle = rkcov_abi::Handle::from_raw(self.handle);
        let of_context =
            handle.is_some_and(|handle| handle.subsystem() == rkcov_abi::Subsystem::USER_FIRST);
        of_context && self.context.is_none()
    }

    /// A stream of `process` with nothing known and nothing in it.
    #[must_use]
    pub const fn new(process: ProcessId) -> Self {
        Self {
            process,
            tid: 0,
            name: String::new(),
            label: String::new(),
            handle: 0,
            main: false,
            finished: false,
            count: 0,
            capacity: rkcov_abi::Words::MAX.get() as u64,
            drops: Vec::new(),
            context: None,
            creator: 0,
        }
    }
}

/// Why records or sections were dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum DropReason {
    /// The buffer was full; counted in records.
    Full,
    /// The descriptor was disabled or enabled again before the section stopped; in records.
    Stale,
    /// There was no memory for a section's area; in sections.
    NoArea,
    /// There was no slot for a thread; in threads.
    NoSlot,
    /// Sections nested too deeply; in sections.
    TooDeep,
    /// It is not known what a module is: there was no room to keep it, or it has no name; in
    /// modules.
    UnknownModule,
    /// There was no room to keep what a process is; in processes.
    UnknownProcess,
    /// A process was invited and could not come; in processes.
    Refused,
    /// A process has the runtime of another version; in processes.
    Stranger,
    /// A process was still running when recording ended; in processes.
    StillRunning,
    /// There was no room for what the stores of a module record; in modules, for each thread.
    NoStores,
    /// There was no room for a context, or for a thread in one; in contexts.
    NoContext,
    /// There was no room to remember which checks of a module threads have been at; in modules.
    NoChecks,
    /// The program has set the base register for itself that checks and stores use; in threads.
    OwnBase,
    /// A reason that this version does not know, by its number.
    Other(u32),
}

impl DropReason {
    // 10 and 12 were never written.
    const fn from_raw(raw: u32) -> Self {
        match raw {
            1 => Self::Full,
            2 => Self::Stale,
            3 => Self::NoArea,
            4 => Self::NoSlot,
            5 => Self::TooDeep,
            6 => Self::UnknownModule,
            7 => Self::UnknownProcess,
            8 => Self::Refused,
            9 => Self::Stranger,
            11 => Self::StillRunning,
            13 => Self::NoStores,
            14 => Self::NoContext,
            15 => Self::NoChecks,
            16 => Self::OwnBase,
            other => Self::Other(other),
        }
    }

    const fn raw(self) -> u32 {
        match self {
            Self::Full => 1,
            Self::Stale => 2,
            Self::NoArea => 3,
            Self::NoSlot => 4,
            Self::TooDeep => 5,
            Self::UnknownModule => 6,
            Self::UnknownProcess => 7,
            Self::Refused => 8,
            Self::Stranger => 9,
            Self::StillRunning => 11,
            Self::NoStores => 13,
            Self::NoContext => 14,
            Self::NoChecks => 15,
            Self::OwnBase => 16,
            Self::Other(raw) => raw,
        }
    }
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => f.write_str("buffer full"),
            Self::Stale => f.write_str("stale section"),
            Self::NoArea => f.write_str("no area"),
            Self::NoSlot => f.write_str("no slot"),
            Self::TooDeep => f.write_str("nested too deeply"),
            Self::UnknownModule => f.write_str("module unknown"),
            Self::UnknownProcess => f.write_str("process unknown"),
            Self::Refused => f.write_str("refused"),
            Self::Stranger => f.write_str("another version"),
            Self::StillRunning => f.write_str("still running"),
            Self::NoStores => f.write_str("no room for stores"),
            Self::NoContext => f.write_str("no room for contexts"),
            Self::NoChecks => f.write_str("no room for checks"),
            Self::OwnBase => f.write_str("base register in use"),
            Self::Other(raw) => write!(f, "reason {raw}"),
        }
    }
}

/// How often something was dropped for one reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Drops {
    /// Why.
    pub reason: DropReason,
    /// How often, in the unit of the reason.
    pub count: u64,
}

impl From<&Loss> for Drops {
    fn from(loss: &Loss) -> Self {
        Self {
            reason: loss.reason,
            count: loss.count,
        }
    }
}

impl Drops {
    /// One for each reason, in the order in which these come first. A trace may say anything: no sum
    /// goes beyond the largest number.
    pub(crate) fn sums<'a>(all: impl IntoIterator<Item = &'a Self>) -> Vec<Self> {
        let mut sums: Vec<Self> = Vec::new();
        for drops in all {
            match sums.iter_mut().find(|sum| sum.reason == drops.reason) {
                Some(sum) => sum.count = sum.count.saturating_add(drops.count),
                None => sums.push(*drops),
            }
        }
        sums
    }
}

/// Reads `bytes` as a trace and touches all that it finds: a target for fuzzing, which must end
/// without a panic and in time and memory in proportion to the bytes.
#[doc(hidden)]
pub fn fuzz_read(bytes: &[u8]) {
    let strict = Trace::parse(bytes);
    let Ok((trace, wrong)) = Trace::salvage(bytes) else {
        return assert!(strict.is_err());
    };
    assert_eq!(strict.err(), wrong);
    for loss in trace.losses() {
        assert!(!loss.to_string().is_empty());
    }
    for stream in trace.streams() {
        assert!(trace.process(stream.info().process).is_some());
        assert!(stream.unwritten() <= stream.records());
        assert!(stream.pcs().all(|pc| pc != 0));
        assert!(stream.comparisons().count() as u64 <= stream.records());
        let context = stream.info().context;
        assert!(context.is_none_or(|id| trace.context(id).is_some()));
        for set in stream.sets() {
            let len = trace.site_tables()[set.table()].len();
            assert!(set.numbers().max().is_some_and(|max| (max as usize) < len));
            assert_eq!(set.words().count() as u64, set.numbers().len());
        }
    }
}
