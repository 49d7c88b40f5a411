// SPDX-License-Identifier: MIT OR Apache-2.0
//! Owns the memory that whole programs record into.
//!
//! A program that is linked with the runtime finds the collector by an environment variable
//! ([`Collector::environment`]). So do the programs that it runs. The memory belongs to this process,
//! so a program that is killed loses no records.

mod alive;
mod contexts;
mod memory;
mod stream;
#[cfg(test)]
mod tests;

use alive::Alive;
use memory::{Lent, Memory};
use rkcov_region::{self as region, Geometry, Guards, Piece, SlotState, Stores};
use rustix::process::{test_kill_process, Pid};
use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::io;
use std::ops::Range;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub use contexts::Context;
pub use region::{Bounds, Lost, Recording, Refusal, REFUSAL, VERSION};
use stream::Spool;
pub use stream::{Stream, StreamInfo};

/// If this many slots are in use, the slots of threads and contexts that have ended are emptied.
const MANY_SLOTS: u64 = 512;
/// The same, for bytes of memory.
const MUCH_MEMORY: u64 = 256 << 20;

/// The largest buffer in words, as in any kcov.
pub const MOST_BUFFER_WORDS: u32 = rkcov_abi::Words::MAX.get();

/// What to collect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// What threads record.
    pub recording: Recording,
    /// Words of each thread's buffer: the count word and the records. Only words that are written
    /// take memory.
    pub buffer_words: u32,
    /// The sizes of the tables.
    pub bounds: Bounds,
}

impl Options {
    /// Collects `recording` into buffers of `buffer_words` words.
    #[must_use]
    pub const fn new(recording: Recording, buffer_words: u32) -> Self {
        Self {
            recording,
            buffer_words,
            bounds: Bounds::ALL,
        }
    }
}

/// Memory for programs to record into.
#[derive(Debug)]
pub struct Collector {
    memory: Memory,
    options: Options,
    spool: Spool,
    /// Our namespace of process ids.
    pid_namespace: u64,
    /// The memory, as programs inherit it.
    lent: Option<Lent>,
    began: (u64, SystemTime),
}

/// What the ticks of the processor that streams have are in time.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    from: (u64, SystemTime),
    to: (u64, SystemTime),
}

impl Clock {
    /// When that was; `None` for 0.
    #[must_use]
    pub fn time(&self, ticks: u64) -> Option<SystemTime> {
        let (from, since) = self.from;
        let all = self.to.1.duration_since(since).unwrap_or_default();
        let ran = self.to.0.wrapping_sub(from).max(1);
        let part = all.as_nanos() * u128::from(ticks.saturating_sub(from)) / u128::from(ran);
        let part = Duration::from_nanos(u64::try_from(part).unwrap_or(u64::MAX));
        (ticks != 0).then(|| since + part.min(all))
    }

    /// How many ticks there are in so much time.
    #[must_use]
    pub fn ticks(&self, time: Duration) -> u64 {
        let (from, since) = self.from;
        let all = self.to.1.duration_since(since).unwrap_or_default();
        let ran = u128::from(self.to.0.wrapping_sub(from));
        let ticks = ran * time.as_nanos() / all.as_nanos().max(1);
        u64::try_from(ticks).unwrap_or(u64::MAX)
    }
}

/// A process image that recorded, or could have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its index; streams refer to it by this.
    pub index: u32,
    /// Its process id in its own namespace.
    pub pid: u32,
    /// Its parent's.
    pub parent: u32,
    /// The process that it was forked from, if it has not called `exec` since.
    pub forked_from: Option<u32>,
    /// When it started to record.
    pub start: SystemTime,
    /// Its executable.
    pub exe: PathBuf,
    /// Its command line.
    pub command: Vec<OsString>,
    /// Modules with an index below this of the process that it was forked from are its own too.
    inherited_modules: u32,
}

/// A file of code: an executable or shared object, wherever it is loaded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    /// The file.
    pub path: PathBuf,
    /// Its build id; empty if it has none.
    pub build_id: Vec<u8>,
    /// The addresses of its text in the file.
    text: Range<u64>,
}

/// An image that a process has loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Module {
    index: u32,
    process: u32,
    /// What it is.
    pub image: Arc<Image>,
    /// The address in memory minus the address in the file.
    pub bias: u64,
}

impl Module {
    /// The addresses of its text.
    #[must_use]
    pub fn text(&self) -> Range<u64> {
        let text = &self.image.text;
        let start = text.start.wrapping_add(self.bias);
        // The end of a damaged entry may lie before the start.
        start..text.end.wrapping_add(self.bias).max(start)
    }
}

/// Losses, apart from records that streams dropped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    /// Threads that found no slot.
    pub threads_without_slot: u32,
    /// The records that those threads lost.
    pub records_without_slot: u64,
    /// Processes with a runtime of another version, and the version of the last of them.
    pub strangers: Option<(u64, u32)>,
    /// Processes that found the memory and could not use it, by reason.
    pub refused: Vec<(Refusal, u32)>,
    /// Processes for which the table had no room; their streams have an unknown process.
    pub processes: u32,
    /// Unknown modules of processes.
    pub unknown_modules: u32,
    /// Contexts, or times that a thread entered one, for which there was no room.
    pub contexts: u32,
    /// What else processes could not record, or may not have recorded, by reason.
    pub lost: Vec<(Lost, u32)>,
    /// Images whose loaded modules found no room in the table, and the number of such modules.
    pub unplaced: Vec<(Image, u32)>,
}

impl Collector {
    /// Allocates memory for programs that start later.
    ///
    /// # Errors
    /// The system has no memory files, or no address space.
    pub fn new(options: Options) -> io::Result<Self> {
        let buffer_words = options.buffer_words.clamp(2, MOST_BUFFER_WORDS);
        let options = Options {
            buffer_words,
            ..options
        };
        let memory = Memory::new(Geometry::new(options.recording, buffer_words))?;
        let path = memory.path();
        let token = memory::random()?;
        let header = &memory.directory().header;
        let bounds = options.bounds.clamped();
        header.init(token, options.recording, buffer_words, bounds);
        header.set_path(path.as_bytes());
        Ok(Self {
            memory,
            options,
            lent: None,
            began: now(),
            spool: Spool::default(),
            pid_namespace: std::fs::metadata("/proc/self/ns/pid").map_or(0, |meta| meta.ino()),
        })
    }

    /// The environment variable, and its value, that tells a program to record here.
    #[must_use]
    pub fn environment(&self) -> (&'static str, String) {
        let token = &self.memory.directory().header.prefix.token;
        let token = token.load(Ordering::Relaxed);
        let path = self.memory.path();
        (region::ENVIRONMENT, format!("{token:x}:{path}"))
    }

    /// From now on, programs that this process starts inherit the memory as a file descriptor. So they
    /// find it without the environment variable, as another user, and without `/proc`.
    ///
    /// Only one collector of a process can do this at a time.
    pub fn lend(&mut self) {
        if self.lent.is_none() {
            self.lent = self.memory.lend();
        }
    }

    /// From now on, no new thread begins to record here. Threads that record already continue.
    pub fn close(&self) {
        let closed = &self.memory.directory().header.closed;
        closed.store(1, Ordering::Relaxed);
    }

    /// What threads record.
    #[must_use]
    pub const fn recording(&self) -> Recording {
        self.options.recording
    }

    /// What ticks mean, until now.
    #[must_use]
    pub fn clock(&self) -> Clock {
        Clock {
            from: self.began,
            to: now(),
        }
    }

    /// All processes so far.
    pub fn processes(&self) -> impl Iterator<Item = Process> + '_ {
        let directory = self.memory.directory();
        let entries = directory.header.processes.load(Ordering::Acquire);
        let entries = entries.min(self.bounds().processes) as usize;
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
                exe: self.path(entry.exe.get()),
                command: arguments(self.memory.line(entry.cmdline.get())),
                inherited_modules: entry.inherited_modules.load(Ordering::Relaxed),
            })
    }

    /// All modules so far.
    pub fn modules(&self) -> impl Iterator<Item = Module> + '_ {
        let directory = self.memory.directory();
        let entries = directory.header.loaded.load(Ordering::Acquire);
        let entries = entries.min(self.bounds().loaded) as usize;
        let entries = directory.loaded.iter().take(entries).enumerate();
        let mut images: HashMap<u32, Arc<Image>> = HashMap::new();
        entries.filter_map(move |(index, entry)| {
            let number = entry.image()?;
            let image = match images.get(&number) {
                Some(image) => Arc::clone(image),
                None => {
                    let image = Arc::new(self.image(directory.images.get(number)?));
                    images.insert(number, Arc::clone(&image));
                    image
                }
            };
            Some(Module {
                index: index as u32,
                process: entry.process.load(Ordering::Relaxed),
                image,
                bias: entry.bias.load(Ordering::Relaxed),
            })
        })
    }

    fn bounds(&self) -> Bounds {
        self.options.bounds.clamped()
    }

    fn image(&self, entry: &region::Image) -> Image {
        let (id, len) = entry.build_id();
        let at = |at: &AtomicU64| at.load(Ordering::Relaxed);
        Image {
            path: self.path(entry.path.get()),
            build_id: id[..len].to_vec(),
            text: at(&entry.text_start)..at(&entry.text_end),
        }
    }

    fn path(&self, piece: Piece) -> PathBuf {
        let paths = &self.memory.directory().paths;
        OsString::from_vec(paths.get(piece).collect()).into()
    }

    /// The records of all threads so far.
    ///
    /// # Errors
    /// A slot cannot be mapped.
    pub fn streams(&self) -> impl Iterator<Item = io::Result<Stream>> + '_ {
        let slots = 0..self.memory.directory().tickets.touched();
        let stores = self.stores();
        let in_slots = slots
            .filter(|slot| self.head(*slot).state() != SlotState::Free)
            .flat_map(move |slot| match self.streams_in(slot, &stores) {
                Ok(streams) => streams.into_iter().map(Ok).collect(),
                Err(error) => vec![Err(error)],
            });
        self.spool.streams().chain(in_slots)
    }

    fn head(&self, slot: u32) -> &region::Slot {
        &self.memory.directory().slots[slot as usize]
    }

    /// The modules with stores of each process.
    fn stores(&self) -> HashMap<u32, Vec<Guards>> {
        let directory = self.memory.directory();
        let used = directory.stores_used.load(Ordering::Acquire) as usize;
        let mut of = HashMap::<u32, Vec<Guards>>::new();
        for guards in directory.stores.iter().take(used).filter_map(Stores::get) {
            of.entry(guards.process).or_default().push(guards);
        }
        of
    }

    fn streams_in(&self, slot: u32, stores: &HashMap<u32, Vec<Guards>>) -> io::Result<Vec<Stream>> {
        let head = self.head(slot);
        let modules = stores.get(&head.process.load(Ordering::Relaxed));
        let stored = self
            .memory
            .stored(slot, modules.map_or(&[], Vec::as_slice))?;
        let buffer = || self.memory.buffer(slot);
        Stream::in_slot(head, buffer, stored, self.options.recording)
    }

    /// If many slots or much memory are in use, moves the records of threads that have ended, or have
    /// left a context, into a file, and frees their slots. Call it periodically while a program runs.
    ///
    /// # Errors
    /// The file cannot be created or written. No records are lost, but slots or memory may run out.
    pub fn relieve(&mut self) -> io::Result<()> {
        let tickets = &self.memory.directory().tickets;
        if tickets.in_use() < MANY_SLOTS && self.memory.bytes()? < MUCH_MEMORY {
            return Ok(());
        }
        let mut gone = HashMap::new();
        let stores = self.stores();
        for slot in 0..tickets.touched() {
            let process = self.head(slot).process.load(Ordering::Relaxed);
            let over = match self.head(slot).state() {
                SlotState::Free => false,
                SlotState::Finished => true,
                SlotState::Taken | SlotState::Exiting => {
                    *gone.entry(process).or_insert_with(|| self.is_gone(process))
                }
            };
            if over {
                self.empty(slot, &stores)?;
            }
        }
        Ok(())
    }

    /// Moves a slot that nobody writes to any more into the spool, and makes it free.
    fn empty(&mut self, slot: u32, stores: &HashMap<u32, Vec<Guards>>) -> io::Result<()> {
        for stream in self.streams_in(slot, stores)? {
            self.spool.put(&stream)?;
        }
        // The head first: were it left behind, its records would be there twice.
        self.head(slot).clear();
        self.memory.clear(slot)?;
        self.memory.directory().tickets.put_back(slot);
        Ok(())
    }

    /// Whether a process is known to have died. In another namespace its number says nothing to
    /// us, and if it was given to a new process meanwhile, the old one seems to live: both are no.
    fn is_gone(&self, process: u32) -> bool {
        let table = &self.memory.directory().processes;
        let Some(entry) = table.get(process as usize).filter(|p| p.is_ready()) else {
            return false;
        };
        let namespace = entry.pid_namespace.load(Ordering::Relaxed);
        // A number that is no process id is none of a process that we know.
        let pid = i32::try_from(entry.pid.load(Ordering::Relaxed)).ok();
        let pid = pid.and_then(Pid::from_raw);
        self.pid_namespace != 0
            && namespace == self.pid_namespace
            && pid.is_some_and(|pid| test_kill_process(pid) == Err(rustix::io::Errno::SRCH))
    }

    /// The processes that have not ended, each with its last image if it called `exec`; and the number
    /// of others that may record and have not begun.
    #[must_use]
    pub fn running(&self) -> (Vec<Process>, usize) {
        /// One look may miss a process whose parent has ended between the list and its entry.
        const LOOKS: usize = 3;
        let mut looks = (0..LOOKS).map(|_| self.look_for_running());
        let found = looks.find(|(known, others)| !known.is_empty() || *others > 0);
        found.unwrap_or_default()
    }

    fn look_for_running(&self) -> (Vec<Process>, usize) {
        let table = &self.memory.directory().processes;
        let mut last = HashMap::new();
        for process in self.processes() {
            let entry = table.get(process.index as usize);
            let namespace = entry.map_or(0, |e| e.pid_namespace.load(Ordering::Relaxed));
            last.insert((namespace, process.pid), process);
        }
        let alive = Alive::now(self.pid_namespace, self.memory.inode());
        let me = (self.pid_namespace, std::process::id());
        let parent = rustix::process::getppid().map_or(0, |pid| pid.as_raw_nonzero().get() as u32);
        let ours = [me, (self.pid_namespace, parent)];
        let newcomers = alive.newcomers(|one| last.contains_key(one) || ours.contains(one));
        last.retain(|(namespace, pid), process| {
            let since = process.start.duration_since(UNIX_EPOCH).unwrap_or_default();
            // Without `/proc` a process does not know its namespace: it is ours, in most cases.
            let namespace = if *namespace == 0 {
                self.pid_namespace
            } else {
                *namespace
            };
            alive.has(namespace, *pid, since)
        });
        let mut running: Vec<_> = last.into_values().collect();
        running.sort_by_key(|process| process.index);
        (running, newcomers)
    }

    /// The losses so far.
    #[must_use]
    pub fn losses(&self) -> Losses {
        let header = &self.memory.directory().header;
        let strangers = header.prefix.strangers.load(Ordering::Relaxed);
        let version = header.prefix.stranger_version.load(Ordering::Relaxed);
        let refused = Refusal::ALL.into_iter().zip(&header.refused);
        let refused = refused.map(|(why, count)| (why, count.load(Ordering::Relaxed)));
        let lost = Lost::ALL.into_iter().zip(&header.lost);
        let lost = lost.map(|(what, count)| (what, count.load(Ordering::Relaxed)));
        let images = self.memory.directory().images.iter();
        let unplaced = images.map(|image| (image, image.unplaced.load(Ordering::Relaxed)));
        let processes = header.processes.load(Ordering::Relaxed);
        Losses {
            threads_without_slot: header.threads_without_slot.load(Ordering::Relaxed),
            records_without_slot: header.records_without_slot.load(Ordering::Relaxed),
            strangers: (strangers > 0).then_some((strangers, version)),
            refused: refused.filter(|(_, count)| *count > 0).collect(),
            processes: processes.saturating_sub(self.bounds().processes),
            unknown_modules: header.unknown_modules.load(Ordering::Relaxed),
            contexts: header.contexts_lost.load(Ordering::Relaxed),
            lost: lost.filter(|(_, count)| *count > 0).collect(),
            unplaced: unplaced
                .filter(|(_, count)| *count > 0)
                .map(|(image, count)| (self.image(image), count))
                .collect(),
        }
    }
}

/// Which modules each process has: its own, and those that it was born with.
#[derive(Debug)]
pub struct Inheritance<'a> {
    processes: HashMap<u32, &'a Process>,
    modules: HashMap<u32, Vec<&'a Module>>,
}

impl<'a> Inheritance<'a> {
    /// Of all `processes` and `modules` of a collector.
    #[must_use]
    pub fn new(processes: &'a [Process], modules: &'a [Module]) -> Self {
        let mut of = HashMap::<u32, Vec<&Module>>::new();
        // A process whose own table is full may name a module again.
        let mut seen = HashSet::new();
        for module in modules {
            let image = Arc::as_ptr(&module.image);
            if seen.insert((module.process, image, module.bias)) {
                of.entry(module.process).or_default().push(module);
            }
        }
        Self {
            processes: processes.iter().map(|p| (p.index, p)).collect(),
            modules: of,
        }
    }

    /// The modules of `process`.
    #[must_use]
    pub fn modules(&self, process: &Process) -> Vec<&'a Module> {
        let mut found = Vec::new();
        let mut next = Some((process, u32::MAX));
        while let Some((owner, limit)) = next {
            let own = self.modules.get(&owner.index).into_iter().flatten();
            found.extend(own.filter(|module| module.index < limit));
            // An ancestor comes earlier in the table: a table that says otherwise is damaged.
            let parent = owner.forked_from.filter(|parent| *parent < owner.index);
            next = parent
                .and_then(|parent| self.processes.get(&parent))
                .map(|parent| (*parent, limit.min(owner.inherited_modules)));
        }
        found
    }
}

fn now() -> (u64, SystemTime) {
    (region::ticks(), SystemTime::now())
}

fn time(nanoseconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_nanos(nanoseconds)
}

fn arguments(mut bytes: Vec<u8>) -> Vec<OsString> {
    if bytes.pop_if(|last| *last == 0).is_none() && bytes.is_empty() {
        return Vec::new();
    }
    bytes
        .split(|byte| *byte == 0)
        .map(|argument| OsString::from_vec(argument.to_vec()))
        .collect()
}
