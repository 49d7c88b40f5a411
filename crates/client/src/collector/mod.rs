// SPDX-License-Identifier: MIT OR Apache-2.0
//! Owns the memory that whole programs record into.
//!
//! A program that is linked with the runtime finds the collector by an environment variable
//! ([`Collector::environment`]), and so do the programs that it runs. Since the memory is ours, a
//! program that is killed loses nothing that it recorded.

mod memory;

use memory::Memory;
use rkcov_region::{self as region, Geometry, SlotState, MODULES, PROCESSES};
use std::ffi::OsString;
use std::io;
use std::ops::Range;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub use region::Recording;

/// What to collect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// What threads record.
    pub recording: Recording,
    /// Words of each thread's buffer: the count word and the records. Only words that are written
    /// take memory.
    pub buffer_words: u32,
}

/// Memory for programs to record into.
#[derive(Debug)]
pub struct Collector {
    memory: Memory,
    options: Options,
}

/// A process image that recorded, or could have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Where it stands among all; streams name it by this.
    pub index: u32,
    /// Its process id, as it sees it.
    pub pid: u32,
    /// Its parent's.
    pub parent: u32,
    /// The process that it was forked from, if it has not called `exec` since.
    pub forked_from: Option<u32>,
    /// When it came.
    pub start: SystemTime,
    /// Its executable.
    pub exe: PathBuf,
    /// Its command line.
    pub command: Vec<OsString>,
    /// Modules of the process that it was forked from with an index below this are its own too.
    inherited_modules: u32,
}

/// An executable or shared object that a process has loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Module {
    index: u32,
    process: u32,
    /// Its file.
    pub path: PathBuf,
    /// Its build id; empty if it has none.
    pub build_id: Vec<u8>,
    /// What was added to the addresses in the file.
    pub bias: u64,
    /// The addresses of its text.
    pub text: Range<u64>,
}

/// What one thread recorded.
#[derive(Debug)]
pub struct Stream {
    slot: memory::Slot,
    /// The process, by its index; the process itself may be unknown.
    pub process: u32,
    /// The thread's id.
    pub tid: u32,
    /// Its name.
    pub name: String,
    /// Whether the thread, or its process, has ended in order.
    pub finished: bool,
    /// The count word.
    pub count: u64,
    /// Records that the buffer can hold.
    pub capacity: u64,
    /// Records for which there was no room.
    pub dropped: u64,
}

impl Stream {
    /// The words behind the count word, no more than the count word says there are.
    pub fn words(&self) -> impl Iterator<Item = u64> + '_ {
        self.slot.records(self.count)
    }
}

/// What was not recorded, apart from what streams dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    /// Threads that found no slot.
    pub threads_without_slot: u32,
    /// What those threads would have recorded.
    pub records_without_slot: u64,
    /// Processes with a runtime of another version, and the version of the last of them.
    pub strangers: Option<(u64, u32)>,
    /// Processes that found no place in the table; their streams have an unknown process.
    pub processes: u32,
    /// Modules that found no place in the table.
    pub modules: u32,
}

impl Collector {
    /// Memory for programs that are yet to start.
    ///
    /// # Errors
    /// The system has no memory files, or no address space.
    pub fn new(options: Options) -> io::Result<Self> {
        let buffer_words = options.buffer_words.max(2);
        let options = Options {
            buffer_words,
            ..options
        };
        let memory = Memory::new(Geometry::new(options.recording, buffer_words))?;
        let token = memory::random()?;
        let header = &memory.directory().header;
        header.init(token, options.recording, buffer_words);
        Ok(Self { memory, options })
    }

    /// The environment variable, and its value, that invites a program to record here.
    #[must_use]
    pub fn environment(&self) -> (&'static str, String) {
        let token = &self.memory.directory().header.prefix.token;
        let token = token.load(Ordering::Relaxed);
        let path = self.memory.path();
        (region::ENVIRONMENT, format!("{token:x}:{path}"))
    }

    /// From now on no thread begins to record here. Those that do go on.
    pub fn close(&self) {
        let closed = &self.memory.directory().header.closed;
        closed.store(1, Ordering::Relaxed);
    }

    /// All processes so far.
    pub fn processes(&self) -> impl Iterator<Item = Process> + '_ {
        let directory = self.memory.directory();
        let entries = directory.header.processes.load(Ordering::Acquire) as usize;
        let entries = directory.processes.iter().take(entries);
        entries
            .enumerate()
            .filter(|(_, entry)| entry.is_ready())
            .map(|(index, entry)| Process {
                index: index as u32,
                pid: entry.pid.load(Ordering::Relaxed),
                parent: entry.parent.load(Ordering::Relaxed),
                forked_from: entry.forked_from(),
                start: time(entry.start.load(Ordering::Relaxed)),
                exe: OsString::from_vec(directory.text.get(&entry.exe).collect()).into(),
                command: arguments(directory.text.get(&entry.cmdline)),
                inherited_modules: entry.inherited_modules.load(Ordering::Relaxed),
            })
    }

    /// All modules so far.
    pub fn modules(&self) -> impl Iterator<Item = Module> + '_ {
        let directory = self.memory.directory();
        let entries = directory.header.modules.load(Ordering::Acquire) as usize;
        let entries = directory.modules.iter().take(entries);
        entries
            .enumerate()
            .filter(|(_, entry)| entry.is_ready())
            .map(|(index, entry)| {
                let (id, len) = entry.build_id();
                let text = |at: &std::sync::atomic::AtomicU64| at.load(Ordering::Relaxed);
                Module {
                    index: index as u32,
                    process: entry.process.load(Ordering::Relaxed),
                    path: OsString::from_vec(directory.text.get(&entry.path).collect()).into(),
                    build_id: id[..len].to_vec(),
                    bias: entry.bias.load(Ordering::Relaxed),
                    text: text(&entry.text_start)..text(&entry.text_end),
                }
            })
    }

    /// What every thread recorded so far.
    ///
    /// # Errors
    /// A slot cannot be mapped.
    pub fn streams(&self) -> impl Iterator<Item = io::Result<Stream>> + '_ {
        let slots = 0..self.memory.directory().tickets.touched();
        slots
            .map(|slot| self.stream(slot))
            .filter_map(io::Result::transpose)
    }

    fn stream(&self, slot: u32) -> io::Result<Option<Stream>> {
        let slot = self.memory.slot(slot)?;
        let header = slot.header();
        let state = header.state();
        if state == SlotState::Free {
            return Ok(None);
        }
        let name = header.name();
        let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
        let record = match self.options.recording {
            Recording::Trace | Recording::Unique => 1,
            Recording::Cmp => 4,
        };
        Ok(Some(Stream {
            process: header.process.load(Ordering::Relaxed),
            tid: header.tid.load(Ordering::Relaxed),
            name: String::from_utf8_lossy(name).into_owned(),
            finished: state != SlotState::Taken,
            count: slot.count(),
            capacity: u64::from((self.options.buffer_words - 1) / record),
            dropped: header.dropped.load(Ordering::Relaxed),
            slot: slot.with_record_words(record),
        }))
    }

    /// What was not recorded so far.
    #[must_use]
    pub fn losses(&self) -> Losses {
        let header = &self.memory.directory().header;
        let strangers = header.prefix.strangers.load(Ordering::Relaxed);
        let version = header.prefix.stranger_version.load(Ordering::Relaxed);
        let beyond = |used: u32, room: usize| used.saturating_sub(room as u32);
        Losses {
            threads_without_slot: header.threads_without_slot.load(Ordering::Relaxed),
            records_without_slot: header.records_without_slot.load(Ordering::Relaxed),
            strangers: (strangers > 0).then_some((strangers, version)),
            processes: beyond(header.processes.load(Ordering::Relaxed), PROCESSES),
            modules: beyond(header.modules.load(Ordering::Relaxed), MODULES),
        }
    }
}

/// The modules of `process`, its own and those that it was born with, out of all.
pub fn modules_of<'a>(
    process: &Process,
    processes: &'a [Process],
    modules: &'a [Module],
) -> Vec<&'a Module> {
    let mut of = Vec::new();
    let mut limits = vec![(process.index, u32::MAX)];
    let mut ancestor = Some(process);
    // An ancestor comes earlier in the table: a table that says otherwise is damaged.
    while let Some((parent, child)) = ancestor.and_then(|child| {
        let parent = child.forked_from.filter(|parent| *parent < child.index)?;
        Some((processes.iter().find(|p| p.index == parent)?, child))
    }) {
        let limit = limits.last().map_or(u32::MAX, |(_, limit)| *limit);
        limits.push((parent.index, child.inherited_modules.min(limit)));
        ancestor = Some(parent);
    }
    for (index, limit) in limits {
        of.extend(
            modules
                .iter()
                .filter(|module| module.process == index && module.index < limit),
        );
    }
    of
}

fn time(nanoseconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_nanos(nanoseconds)
}

fn arguments(bytes: impl Iterator<Item = u8>) -> Vec<OsString> {
    let mut bytes: Vec<u8> = bytes.collect();
    if bytes.pop_if(|last| *last == 0).is_none() && bytes.is_empty() {
        return Vec::new();
    }
    bytes
        .split(|byte| *byte == 0)
        .map(|argument| OsString::from_vec(argument.to_vec()))
        .collect()
}
