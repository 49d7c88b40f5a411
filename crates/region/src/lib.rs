// SPDX-License-Identifier: MIT OR Apache-2.0
//! The memory that `rkcov run` (the collector) shares with every process that it collects from.
//!
//! One sparse memory file, owned by the collector:
//!
//! ```text
//! 0                          Directory: header, tickets, slots' heads, processes, images, paths
//! LINES_OFFSET               command lines
//! NAMES_OFFSET               names of contexts
//! slot_offset(0)             slot 0: bytes of guards | bitmap | count word | records
//! slot_offset(1)             slot 1
//! ...
//! ```
//!
//! Pages that nobody writes cost nothing, so tables and slots are as large as any program needs.
//! Everything is an atomic, since any process may read and write anything at any time. The
//! collector trusts no number that it reads here: a program may have scribbled over it. Writers
//! publish an entry of a table by storing its `ready` word last, with release.
//!
//! A *slot* is what one thread records into while it is in one context, or in none. It is taken once: a
//! thread that ends, or leaves the context, leaves it as [`SlotState::Finished`], and only the collector
//! makes it free again, after it has stored what is in it. What is known of a slot apart from its words,
//! its head, lies in the directory.

#![no_std]

use core::mem::size_of;
use core::sync::atomic::{AtomicU32, AtomicU64, AtomicU8, Ordering};

mod contexts;
#[cfg(test)]
mod layout;
mod stores;
mod tables;
mod tickets;

pub use contexts::{
    Assignment, Context, Made, Maker, CONTEXTS, CONTEXT_ENVIRONMENT, MAKER_ENVIRONMENT, NAME_MAX,
};
pub use stores::{Guards, Stores, GUARD, STORED_BEFORE, STORES};
pub use tables::{
    Image, ImageKey, Images, Index, Loaded, Paths, Piece, Process, Text, BUILD_ID_MAX,
};
pub use tickets::Tickets;

/// The environment variable that tells a process about its collector; see [`Invitation`].
pub const ENVIRONMENT: &str = "RKCOV_RUN";

/// The number of the file descriptor by which programs inherit the region, if nobody closes it:
/// that of a program which was started with another environment, by another user, or where there is
/// no `/proc`. Also the number under which a process that is looked for among the parents has it.
pub const INHERITED_FD: i32 = 1021;

/// What the link in `/proc` of a descriptor of the region begins with.
pub const LINK: &[u8] = b"/memfd:rkcov";

/// Bytes of [`Header::path`], a zero byte at its end included.
pub const HOME_MAX: usize = 64;

/// The version of everything in this crate. A process whose runtime has another version only adds
/// itself to [`Prefix::strangers`].
pub const VERSION: u32 = 7;

/// What a process says that is invited and cannot come, before it says why. So it stands in every
/// file that has the runtime in it.
pub const REFUSAL: &[u8] = b"rkcov: this process is not recorded: ";

/// Slots in a region.
pub const SLOTS: usize = 1 << 16;
/// Entries of the process table.
pub const PROCESSES: usize = 1 << 20;
/// Images: files of code, each once.
pub const IMAGES: usize = 1 << 16;
/// Modules of all processes: each is an image at an address.
pub const LOADED: usize = 1 << 23;
/// Bytes of the paths of images and executables, each path once.
pub const PATH_BYTES: usize = 1 << 26;
/// Bytes of all command lines.
pub const LINE_BYTES: u64 = 1 << 28;
/// Bytes from the start of the region to the command lines. Whoever needs some of them maps these.
pub const LINES_OFFSET: u64 = size_of::<Directory>() as u64;
/// Bytes of the names of all contexts.
pub const NAME_BYTES: u64 = 1 << 32;
/// Bytes from the start of the region to the names of contexts.
pub const NAMES_OFFSET: u64 = LINES_OFFSET + LINE_BYTES;

const MAGIC: u64 = u64::from_le_bytes(*b"rkcovRUN");
const PAGE: u64 = 4096;

/// The start of the region, the same in all versions for ever.
#[derive(Debug)]
#[repr(C)]
pub struct Prefix {
    magic: AtomicU64,
    version: AtomicU32,
    /// The version of the last stranger's runtime.
    pub stranger_version: AtomicU32,
    /// Processes that found a version here which is not theirs, and therefore recorded nothing.
    pub strangers: AtomicU64,
    /// A random number that is also in the invitation, so that a process which outlived its
    /// collector does not mistake another collector for it.
    pub token: AtomicU64,
}

/// What a reader found in a [`Prefix`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A region of this version.
    Known,
    /// A region of another version.
    Version(u32),
    /// Something else.
    Foreign,
}

impl Prefix {
    /// Marks the region as one of this version.
    pub fn init(&self, token: u64) {
        self.version.store(VERSION, Ordering::Relaxed);
        self.token.store(token, Ordering::Relaxed);
        self.magic.store(MAGIC, Ordering::Release);
    }

    /// Whether this is a region, and of which version.
    #[must_use]
    pub fn kind(&self) -> Kind {
        if self.magic.load(Ordering::Acquire) != MAGIC {
            return Kind::Foreign;
        }
        match self.version.load(Ordering::Relaxed) {
            VERSION => Kind::Known,
            other => Kind::Version(other),
        }
    }
}

/// What a thread records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Recording {
    /// Every PC, in the order in which the thread ran them.
    Trace = 0,
    /// Comparisons.
    Cmp = 1,
    /// Each PC once.
    Unique = 2,
}

impl Recording {
    /// The recording with this number.
    #[must_use]
    pub const fn from_raw(raw: u32) -> Option<Self> {
        match raw {
            0 => Some(Self::Trace),
            1 => Some(Self::Cmp),
            2 => Some(Self::Unique),
            _ => None,
        }
    }
}

/// Where the parts of a slot are; the same for all slots of a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    bitmap_words: u64,
    buffer_words: u64,
}

impl Geometry {
    /// Bits of the bitmap in [`Recording::Unique`]. A site takes one bit if it has a guard, and
    /// otherwise each byte of its module's text does, so this many bytes of text: 256 MiB.
    pub const UNIQUE_BITS: u64 = 1 << 28;
    /// Room for the guards of stores in [`Recording::Unique`]: four million sites.
    pub const STORES_BYTES: u64 = 1 << 24;

    /// Slots with a buffer of `buffer_words` words (the count word and the records).
    #[must_use]
    pub const fn new(recording: Recording, buffer_words: u32) -> Self {
        Self {
            bitmap_words: match recording {
                Recording::Unique => Self::UNIQUE_BITS / 64,
                Recording::Trace | Recording::Cmp => 0,
            },
            buffer_words: buffer_words as u64,
        }
    }

    /// Words of the count word and the records.
    #[must_use]
    pub const fn buffer_words(&self) -> u64 {
        self.buffer_words
    }

    /// Bits of the bitmap, a multiple of 64.
    #[must_use]
    pub const fn bitmap_bits(&self) -> u64 {
        self.bitmap_words * 64
    }

    /// Bytes at the start of a slot for the guards of modules with stores, see [`Stores`].
    #[must_use]
    pub const fn stores_bytes(&self) -> u64 {
        if self.bitmap_words == 0 {
            0
        } else {
            Self::STORES_BYTES
        }
    }

    /// Bytes of the bitmap.
    #[must_use]
    pub const fn bitmap_bytes(&self) -> u64 {
        self.bitmap_words * 8
    }

    /// Bytes from the start of a slot to its count word.
    #[must_use]
    pub const fn count_offset(&self) -> u64 {
        self.stores_bytes() + self.bitmap_bytes()
    }

    /// Bytes of a slot, whole pages.
    #[must_use]
    pub const fn slot_bytes(&self) -> u64 {
        (self.count_offset() + self.buffer_words * 8).next_multiple_of(PAGE)
    }

    /// Bytes from the start of the region to a slot.
    #[must_use]
    pub const fn slot_offset(&self, slot: u32) -> u64 {
        NAMES_OFFSET + NAME_BYTES + self.slot_bytes() * slot as u64
    }

    /// Bytes of the whole region.
    #[must_use]
    pub const fn region_bytes(&self) -> u64 {
        self.slot_offset(SLOTS as u32)
    }
}

/// What holds for the whole region.
#[derive(Debug)]
#[repr(C)]
pub struct Header {
    /// Tells what this is.
    pub prefix: Prefix,
    recording: AtomicU32,
    buffer_words: AtomicU32,
    /// Not 0 once the collector has stopped: nobody takes a slot any more.
    pub closed: AtomicU32,
    /// Entries of the process table that were taken; may pass [`Bounds::processes`].
    pub processes: AtomicU32,
    /// Entries of the table of loaded images that were taken; may pass [`Bounds::loaded`].
    pub loaded: AtomicU32,
    /// Modules of processes of which nobody knows what they are: their image found no room, or has
    /// no path.
    pub unknown_modules: AtomicU32,
    /// Threads that found no slot, or could not map it.
    pub threads_without_slot: AtomicU32,
    /// What those threads would have recorded.
    pub records_without_slot: AtomicU64,
    /// What else was lost, by the number of a [`Lost`].
    pub lost: [AtomicU32; LOST],
    /// Threads that have taken a slot: the last of them has this serial number.
    pub threads: AtomicU64,
    /// Processes that recorded nothing, by the number of a [`Refusal`].
    pub refused: [AtomicU32; REFUSALS],
    /// Bytes of the command lines that were taken; may pass [`Bounds::line_bytes`].
    pub lines: AtomicU64,
    /// Contexts that were taken; may pass [`Bounds::contexts`].
    pub contexts: AtomicU32,
    /// 1 + the index of the context that all work is in which is in no other, 0 if there is none.
    pub context: AtomicU32,
    /// Contexts, or times that a thread entered one, of which nothing is known: there was no room.
    pub contexts_lost: AtomicU32,
    /// Bytes of the names that were taken; may pass [`NAME_BYTES`].
    pub names: AtomicU64,
    bounds: [AtomicU64; 6],
    path: [AtomicU8; HOME_MAX],
}

/// What a process that records could not record, or may not have recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Lost {
    /// Modules, or threads in them, whose stores are not recorded: there was no room.
    Stores = 0,
    /// Modules whose checks may not have called: there was no room to remember where threads were.
    Checks = 1,
    /// Threads in which checks and stores lead elsewhere: the program has set GS's base for itself.
    Base = 2,
    /// Modules that came to lie where another one had been, so that their PCs are taken for its.
    Place = 3,
}

/// How many [`Lost`]s there are.
pub const LOST: usize = 4;

impl Lost {
    /// All of them.
    pub const ALL: [Self; LOST] = [Self::Stores, Self::Checks, Self::Base, Self::Place];
}

/// Why a process that was invited did not come. One that finds no way to the memory cannot say so here:
/// it says so on its standard error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Refusal {
    /// It has no room to map the directory.
    NoRoom = 0,
    /// It has rights that who started it has not (setuid), and trusts nobody.
    Secure = 1,
}

/// How many [`Refusal`]s there are.
pub const REFUSALS: usize = 2;

impl Refusal {
    /// All of them.
    pub const ALL: [Self; REFUSALS] = [Self::NoRoom, Self::Secure];
}

/// How much of the tables is used. Never more than there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Entries of the process table.
    pub processes: u32,
    /// Images.
    pub images: u32,
    /// Images in processes.
    pub loaded: u32,
    /// Bytes of paths.
    pub path_bytes: u64,
    /// Bytes of command lines.
    pub line_bytes: u64,
    /// Contexts.
    pub contexts: u32,
}

impl Bounds {
    /// All that there is.
    pub const ALL: Self = Self {
        processes: PROCESSES as u32,
        images: IMAGES as u32,
        loaded: LOADED as u32,
        path_bytes: PATH_BYTES as u64,
        line_bytes: LINE_BYTES,
        contexts: CONTEXTS as u32,
    };

    /// Not more than there is.
    #[must_use]
    pub fn clamped(self) -> Self {
        Self {
            processes: self.processes.min(Self::ALL.processes),
            images: self.images.min(Self::ALL.images),
            loaded: self.loaded.min(Self::ALL.loaded),
            path_bytes: self.path_bytes.min(Self::ALL.path_bytes),
            line_bytes: self.line_bytes.min(Self::ALL.line_bytes),
            contexts: self.contexts.min(Self::ALL.contexts),
        }
    }
}

impl Default for Bounds {
    fn default() -> Self {
        Self::ALL
    }
}

impl Header {
    /// Fills in a new region.
    pub fn init(&self, token: u64, recording: Recording, buffer_words: u32, bounds: Bounds) {
        let values = [
            u64::from(bounds.processes),
            u64::from(bounds.images),
            u64::from(bounds.loaded),
            bounds.path_bytes,
            bounds.line_bytes,
            u64::from(bounds.contexts),
        ];
        for (to, from) in self.bounds.iter().zip(values) {
            to.store(from, Ordering::Relaxed);
        }
        self.recording.store(recording as u32, Ordering::Relaxed);
        self.buffer_words.store(buffer_words, Ordering::Relaxed);
        self.prefix.init(token);
    }

    /// Sets the path by which processes can open the region. One that is too long is left out.
    pub fn set_path(&self, path: &[u8]) {
        if path.len() < HOME_MAX {
            for (to, from) in self.path.iter().zip(path) {
                to.store(*from, Ordering::Relaxed);
            }
        }
    }

    /// The path by which processes can open the region, behind it zeros.
    #[must_use]
    pub fn path(&self) -> [u8; HOME_MAX] {
        core::array::from_fn(|i| self.path[i].load(Ordering::Relaxed))
    }

    /// Counts one of what is lost.
    pub fn lose(&self, what: Lost) {
        self.lost[what as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// How much of the tables is used.
    #[must_use]
    pub fn bounds(&self) -> Bounds {
        let [processes, images, loaded, path_bytes, line_bytes, contexts] = &self.bounds;
        let number = |n: &AtomicU64| u32::try_from(n.load(Ordering::Relaxed)).unwrap_or(u32::MAX);
        Bounds {
            processes: number(processes),
            images: number(images),
            loaded: number(loaded),
            path_bytes: path_bytes.load(Ordering::Relaxed),
            line_bytes: line_bytes.load(Ordering::Relaxed),
            contexts: number(contexts),
        }
        .clamped()
    }

    /// What is recorded, and where in each slot. `None` if the region says nonsense.
    #[must_use]
    pub fn recording(&self) -> Option<(Recording, Geometry)> {
        let recording = Recording::from_raw(self.recording.load(Ordering::Relaxed))?;
        let words = self.buffer_words.load(Ordering::Relaxed);
        (words >= 2).then(|| (recording, Geometry::new(recording, words)))
    }
}

/// The fixed part of the region, mapped whole by everyone.
#[derive(Debug)]
#[repr(C, align(4096))]
pub struct Directory {
    /// What holds for the whole region.
    pub header: Header,
    /// Which slots are free.
    pub tickets: Tickets<SLOTS>,
    /// The head of each slot.
    pub slots: [Slot; SLOTS],
    /// Every process, in the order in which they came.
    pub processes: [Process; PROCESSES],
    /// Every file of code.
    pub images: Images<IMAGES, { 2 * IMAGES }>,
    /// Every module of every process.
    pub loaded: [Loaded; LOADED],
    /// Paths of images and executables.
    pub paths: Paths<PATH_BYTES, { 2 * IMAGES }>,
    /// Entries of `stores` that were taken; may pass [`STORES`].
    pub stores_used: AtomicU32,
    /// The guards of modules with stores.
    pub stores: [Stores; STORES],
    /// Every context, in the order in which they were made.
    pub contexts: [Context; CONTEXTS],
}

impl Directory {
    /// Adds a module to those of a process. `false` if what the module is could not be kept; that
    /// is counted.
    pub fn add_module(&self, process: u32, path: &[&[u8]], bias: u64, image: ImageKey<'_>) -> bool {
        let bounds = self.header.bounds();
        let unknown = || {
            self.header.unknown_modules.fetch_add(1, Ordering::Relaxed);
            false
        };
        if path.iter().all(|piece| piece.is_empty()) {
            return unknown();
        }
        let Some(path) = self.paths.put(path, bounds.path_bytes) else {
            return unknown();
        };
        let key = ImageKey { path, ..image };
        let Some(image) = self.images.put(&key, bounds.images) else {
            return unknown();
        };
        let index = self.header.loaded.fetch_add(1, Ordering::AcqRel);
        let entry = self.loaded.get(index as usize);
        let Some(entry) = entry.filter(|_| index < bounds.loaded) else {
            if let Some(image) = self.images.get(image) {
                image.unplaced.fetch_add(1, Ordering::Relaxed);
            }
            return false;
        };
        entry.process.store(process, Ordering::Relaxed);
        entry.bias.store(bias, Ordering::Relaxed);
        entry.set_image(image);
        true
    }
}

/// Where a slot is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum SlotState {
    /// Nobody's, all zero.
    Free = 0,
    /// A thread records into it, or its process has died.
    Taken = 1,
    /// The thread has ended and will not touch it again.
    Finished = 2,
    /// The thread called `exit()`; destructors may still record.
    Exiting = 3,
}

/// The head of a slot. Threads count their drops there, so each has a cache line of its own.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct Slot {
    state: AtomicU32,
    /// Index of the process in the process table.
    pub process: AtomicU32,
    /// The thread's id in the kernel.
    pub tid: AtomicU32,
    /// Records for which there was no room.
    pub dropped: AtomicU64,
    /// The thread's serial number, from 1; slots and ids are used again.
    pub serial: AtomicU64,
    /// The serial number of the thread that made it, or whose process was forked, 0 for none. One that
    /// had no slot passes on its own.
    pub maker: AtomicU64,
    /// When the thread took the slot, and when it left it, in ticks of the processor.
    pub ticks: [AtomicU64; 2],
    name: [AtomicU8; 16],
    /// 1 + the index of the context that the thread is in, 0 for none.
    pub context: AtomicU32,
    /// The kernel's id of the thread that made this one, 0 if not known.
    pub creator: AtomicU32,
    /// The context, and how many records there were when it ended: see [`Slot::end_context`].
    over: AtomicU64,
}

impl Slot {
    /// Where the slot is in its life.
    #[must_use]
    pub fn state(&self) -> SlotState {
        match self.state.load(Ordering::Acquire) {
            0 => SlotState::Free,
            2 => SlotState::Finished,
            3 => SlotState::Exiting,
            _ => SlotState::Taken,
        }
    }

    /// Makes everything zero, the state last. Only the collector calls this.
    pub fn clear(&self) {
        self.process.store(0, Ordering::Relaxed);
        self.tid.store(0, Ordering::Relaxed);
        self.dropped.store(0, Ordering::Relaxed);
        self.serial.store(0, Ordering::Relaxed);
        self.maker.store(0, Ordering::Relaxed);
        for ticks in &self.ticks {
            ticks.store(0, Ordering::Relaxed);
        }
        self.set_name(&[0; 16]);
        self.context.store(0, Ordering::Relaxed);
        self.creator.store(0, Ordering::Relaxed);
        self.over.store(0, Ordering::Relaxed);
        self.set_state(SlotState::Free);
    }

    /// Moves the slot on. What was stored before is visible to whoever sees the new state.
    pub fn set_state(&self, state: SlotState) {
        self.state.store(state as u32, Ordering::Release);
    }

    /// The slot's context has ended, and the thread goes on: the first `records` are of the context, and
    /// what comes later is of none. Only the first end counts. If the slot has become another context's
    /// meanwhile, this says nothing.
    pub fn end_context(&self, context: u32, records: u32) {
        let word = u64::from(context) << 32 | u64::from(records);
        let first = self
            .over
            .compare_exchange(0, word, Ordering::AcqRel, Ordering::Relaxed);
        if let Err(other) = first {
            let stale = other >> 32 != u64::from(context);
            if stale && self.context.load(Ordering::Relaxed) == context {
                let _ =
                    self.over
                        .compare_exchange(other, word, Ordering::AcqRel, Ordering::Relaxed);
            }
        }
    }

    /// How many records are of the slot's context, if that ended while the thread was in it.
    #[must_use]
    pub fn context_ended(&self) -> Option<u32> {
        let over = self.over.load(Ordering::Acquire);
        let of = over >> 32;
        (of != 0 && of == u64::from(self.context.load(Ordering::Relaxed))).then_some(over as u32)
    }

    /// The thread's name, padded with zeros.
    #[must_use]
    pub fn name(&self) -> [u8; 16] {
        core::array::from_fn(|i| self.name[i].load(Ordering::Relaxed))
    }

    /// Sets the thread's name.
    pub fn set_name(&self, name: &[u8; 16]) {
        for (to, from) in self.name.iter().zip(name) {
            to.store(*from, Ordering::Relaxed);
        }
    }
}

/// Ticks of the processor: a clock that needs no system call, which a sandbox may forbid.
#[must_use]
pub fn ticks() -> u64 {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the instruction is there on every such processor, and touches no memory.
    unsafe {
        core::arch::x86_64::_rdtsc()
    }
    #[cfg(target_arch = "aarch64")]
    {
        let ticks: u64;
        // SAFETY: reads a register that programs may read.
        unsafe {
            core::arch::asm!("mrs {0}, cntvct_el0", out(reg) ticks, options(nomem, nostack));
        }
        ticks
    }
}

/// What [`ENVIRONMENT`] says: which region, and how to reach it.
///
/// The value is `TOKEN:PATH`, the token in hexadecimal without prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Invitation<'a> {
    /// Must be equal to [`Prefix::token`].
    pub token: u64,
    /// A path to open, read-write.
    pub path: &'a [u8],
}

impl<'a> Invitation<'a> {
    /// Reads the variable's value.
    #[must_use]
    pub fn parse(value: &'a [u8]) -> Option<Self> {
        let (token, path) = parse_token(value)?;
        if path.first() != Some(&b'/') {
            return None;
        }
        Some(Self { token, path })
    }
}

/// The token before a colon, and what stands behind it.
fn parse_token(value: &[u8]) -> Option<(u64, &[u8])> {
    let colon = value.iter().position(|b| *b == b':')?;
    let (digits, rest) = value.split_at(colon);
    if digits.is_empty() || digits.len() > 16 {
        return None;
    }
    let mut token = 0_u64;
    for byte in digits {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            _ => return None,
        };
        token = token << 4 | u64::from(digit);
    }
    Some((token, rest.get(1..)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefix_never_moves() {
        use core::mem::offset_of;
        assert_eq!(offset_of!(Directory, header), 0);
        assert_eq!(offset_of!(Header, prefix), 0);
        assert_eq!(offset_of!(Prefix, magic), 0);
        assert_eq!(offset_of!(Prefix, version), 8);
        assert_eq!(offset_of!(Prefix, stranger_version), 12);
        assert_eq!(offset_of!(Prefix, strangers), 16);
        assert_eq!(offset_of!(Prefix, token), 24);
    }

    #[test]
    fn parts_of_a_slot_do_not_overlap() {
        for recording in [Recording::Trace, Recording::Cmp, Recording::Unique] {
            for words in [2, 511, 512, 513, u32::MAX] {
                let g = Geometry::new(recording, words);
                let bitmap = g.bitmap_bits() / 8;
                assert_eq!(g.count_offset(), g.stores_bytes() + bitmap);
                assert!(g.count_offset() + g.buffer_words() * 8 <= g.slot_bytes());
                assert_eq!(g.slot_bytes() % PAGE, 0);
                assert_eq!(g.slot_offset(7) + g.slot_bytes(), g.slot_offset(8));
                assert!(i64::try_from(g.region_bytes()).is_ok());
            }
        }
        assert_eq!(LINES_OFFSET % PAGE, 0);
        assert_eq!(LINE_BYTES % PAGE, 0);
        assert_eq!(NAMES_OFFSET % PAGE, 0);
        assert_eq!(NAME_BYTES % PAGE, 0);
    }

    #[test]
    fn kinds() {
        let prefix = Prefix {
            magic: AtomicU64::new(0),
            version: AtomicU32::new(0),
            stranger_version: AtomicU32::new(0),
            strangers: AtomicU64::new(0),
            token: AtomicU64::new(0),
        };
        assert_eq!(prefix.kind(), Kind::Foreign);
        prefix.init(5);
        assert_eq!(prefix.kind(), Kind::Known);
        prefix.version.store(VERSION + 1, Ordering::Relaxed);
        assert_eq!(prefix.kind(), Kind::Version(VERSION + 1));
    }

    #[test]
    fn invitations() {
        let parse = |text: &'static str| Invitation::parse(text.as_bytes());
        assert_eq!(
            parse("1f:/proc/7/fd/3"),
            Some(Invitation {
                token: 0x1f,
                path: b"/proc/7/fd/3"
            })
        );
        assert_eq!(
            parse("ffffffffffffffff:/x").map(|i| i.token),
            Some(u64::MAX)
        );
        for bad in [
            "",
            ":",
            ":/x",
            "1",
            "1:",
            "1:x",
            "g:/x",
            "1F:/x",
            "11111111111111111:/x",
        ] {
            assert_eq!(parse(bad), None, "{bad:?}");
        }
    }
}
