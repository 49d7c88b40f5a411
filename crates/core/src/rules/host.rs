// SPDX-License-Identifier: GPL-2.0 OR MIT
//! What the rules need of the place they run in.

use crate::abi::{Errno, Words};
use crate::rules::hot::Hot;
use crate::rules::task::{Frames, Task};
use core::alloc::Layout;
use core::ptr::NonNull;

/// A lock without its data; [`Locked`](crate::rules::lock::Locked) adds that.
///
/// # Safety
/// Between `lock` and the matching `unlock` no other caller is between them, and what one holder
/// wrote is visible to the next.
pub unsafe trait RawLock: Sized {
    /// What `unlock` needs of `lock`: the interrupt state, in a kernel.
    type Saved: Copy;

    /// Makes an unlocked lock in place: a kernel's locks must not move afterwards.
    ///
    /// # Safety
    /// `slot` is valid for writes, zeroed, and holds no lock yet.
    unsafe fn init(slot: *mut Self);

    /// Waits for the lock and takes it.
    fn lock(&self) -> Self::Saved;

    /// Gives it back.
    ///
    /// # Safety
    /// The caller holds the lock and `saved` is what `lock` answered.
    unsafe fn unlock(&self, saved: Self::Saved);
}

/// The buffer that a client maps. Dropping it gives the memory back once no client maps it; the
/// last reference to a descriptor may go in any context, so that must be possible there.
///
/// # Safety
/// From creation to drop, `base` answers the same address, at which as many zeroed words stand as
/// were asked for, aligned to eight bytes and valid for reads and writes.
pub unsafe trait Buffer: Sized {
    /// The first word.
    fn base(&self) -> *mut crate::rules::sync::Word;

    /// Whether the calling process has this buffer in its memory. Processes that share a kcov may
    /// not share all buffers; for one that lacks a descriptor's, the descriptor has none, and a
    /// section there for its listener gets no area.
    fn is_here(&self) -> bool {
        true
    }
}

/// Where the caller runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Context {
    /// On a task's own behalf.
    Task,
    /// In a softirq, on top of whatever task it interrupted.
    Softirq,
    /// Where no section can be: a hard interrupt, an NMI; in userspace a signal handler that
    /// interrupted the rules themselves.
    Other,
}

/// What a second section in one context does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nesting {
    /// Is refused with one warning, as in Linux.
    Refuse,
    /// Suspends what the task recorded until it stops.
    Suspend,
}

/// Something that should not have happened. Said once for each sort.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Warning {
    /// A section began in a context that has one, or in a task that collects from itself.
    Nested,
    /// A section began with a handle that has stray bits or a reserved subsystem.
    BadHandle,
    /// A task ended inside a section.
    ExitInSection,
}

impl Warning {
    /// What to tell a developer.
    #[must_use]
    pub const fn message(self) -> &'static str {
        match self {
            Self::Nested => "kcov_remote_start() inside a section or in a task that collects",
            Self::BadHandle => "kcov_remote_start() with a malformed handle",
            Self::ExitInSection => {
                "a task ended between kcov_remote_start() and kcov_remote_stop()"
            }
        }
    }
}

/// The client's memory could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault;

impl From<Fault> for Errno {
    fn from(Fault: Fault) -> Self {
        Self::Fault
    }
}

/// A place that kcov runs in: supplies tasks, locks and memory, and decides nothing.
///
/// # Safety
/// The methods do what they say: the rules rely on it for memory safety.
pub unsafe trait Host: Sized + Sync + 'static {
    /// Guards state for constant time only; in a kernel, with interrupts off.
    type Lock: RawLock;
    /// Held while handles are registered or removed; may sleep.
    type Mutex: RawLock;
    /// Memory for a client's buffer.
    type Buffer: Buffer;
    /// Names a task for as long as someone may ask whether it is gone.
    type Owner: Copy;
    /// Room for what a task's sections interrupted.
    type Frames: Frames<Self>;
    /// While it lives, nothing on this processor interrupts the calling task *and* calls the
    /// rules: interrupts off in a kernel; in userspace a mark that makes [`Host::context`] answer
    /// [`Context::Other`] to signal handlers. So do the locks, while they are held.
    type Pin;

    /// What a section inside a section does.
    const NESTING: Nesting;
    /// Whether comparisons are instrumented.
    const COMPARISONS: bool;
    /// Whether [`KCOV_UNIQUE_ENABLE`](crate::abi::ioctl::KCOV_UNIQUE_ENABLE) is there.
    const UNIQUE: bool;
    /// Whether subsystems 0x80 to 0xff may be used.
    const USER_SUBSYSTEMS: bool;
    /// Words of the areas that [`Host::take_softirq_area`] hands out.
    const SOFTIRQ_AREA: Words;

    /// Where the caller runs.
    fn context(&self) -> Context;

    /// Keeps the calling task's state from changing under the caller.
    fn pin(&self) -> Self::Pin;

    /// The fields of `task` that the callbacks read.
    fn hot<'t>(&self, task: &'t Task<Self>) -> &'t Hot;

    /// The calling task records something else from now on: what [`Host::hot`] says. `idle` tells
    /// whether that is what it records on no client's account, see
    /// [`Task::set_idle`](crate::rules::task::Task::set_idle). Called pinned.
    #[inline(always)]
    fn switched(&self, task: &Task<Self>, idle: bool) {
        let _ = (task, idle);
    }

    /// A client's buffer of `words` zeroed words.
    fn buffer(&self, words: Words) -> Option<Self::Buffer>;

    /// A zeroed block. Called without locks; may sleep.
    fn alloc(&self, layout: Layout) -> Option<NonNull<u8>>;

    /// Gives a block back. Called without locks, in any context.
    ///
    /// # Safety
    /// `block` is from [`Host::alloc`] with this layout, and nobody uses it any more.
    unsafe fn free(&self, block: NonNull<u8>, layout: Layout);

    /// An area for a section in a softirq on this processor: a block of
    /// [`Area::layout`](crate::rules::area::Area::layout) for [`Host::SOFTIRQ_AREA`] words, the
    /// caller's until it is put back.
    fn take_softirq_area(&self) -> Option<NonNull<u8>>;

    /// Takes back what [`Host::take_softirq_area`] gave.
    fn put_softirq_area(&self, block: NonNull<u8>);

    /// Tells a developer, once for each warning.
    fn warn_once(&self, warning: Warning);

    /// The calling task's name.
    fn owner(&self) -> Self::Owner;

    /// Whether this task ended without the rules having heard of it: killed with its process.
    fn is_gone(&self, owner: Self::Owner) -> bool;

    /// Copies `into.len()` bytes of the client's memory at `address`.
    fn read_client(&self, address: usize, into: &mut [u8]) -> Result<(), Fault>;

    /// A number that a client cannot guess, the same at every call: keys the hash of handles.
    fn seed(&self) -> u64;
}
