// SPDX-License-Identifier: GPL-2.0 OR MIT
//! The interface that the rules need from their host.

use crate::abi::{Errno, Words};
use crate::rules::hot::Hot;
use crate::rules::task::{Frames, Task};
use core::alloc::Layout;
use core::ptr::NonNull;

/// A lock without data; [`Locked`](crate::rules::lock::Locked) adds the data.
///
/// # Safety
/// At most one caller at a time is between `lock` and the matching `unlock`. The writes of one holder
/// are visible to the next.
pub unsafe trait RawLock: Sized {
    /// A value that `lock` passes to `unlock`: the interrupt state, in a kernel.
    type Saved: Copy;

    /// Initializes an unlocked lock in place: a kernel's locks must not move afterwards.
    ///
    /// # Safety
    /// `slot` is valid for writes, zeroed, and holds no lock yet.
    unsafe fn init(slot: *mut Self);

    /// Waits for the lock and takes it.
    fn lock(&self) -> Self::Saved;

    /// Releases the lock.
    ///
    /// # Safety
    /// The caller holds the lock, and `lock` returned `saved`.
    unsafe fn unlock(&self, saved: Self::Saved);
}

/// The buffer that a client maps. After it is dropped, its memory is freed as soon as no client maps
/// it. The last reference to a descriptor may be dropped in any context, so drop must work in any.
///
/// # Safety
/// From creation to drop, `base` returns the same address. There is room for the requested number of
/// words, zeroed at creation, aligned to eight bytes, and valid for reads and writes.
pub unsafe trait Buffer: Sized {
    /// The first word.
    fn base(&self) -> *mut crate::rules::sync::Word;

    /// Whether the calling process has this buffer in its memory. Processes that share a kcov may
    /// not share all buffers. For a process without the buffer, the descriptor has no buffer, and a
    /// section there for its listener gets no area.
    fn is_here(&self) -> bool {
        true
    }
}

/// The context that the caller runs in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Context {
    /// A task.
    Task,
    /// A softirq that interrupted a task.
    Softirq,
    /// A context without sections: a hard interrupt, an NMI; in userspace a signal handler that
    /// interrupted the rules themselves.
    Other,
}

/// The effect of a section inside a section of the same context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nesting {
    /// It is refused with one warning, as in Linux.
    Refuse,
    /// It suspends the outer section, or the task's own collection, until it stops.
    Suspend,
}

/// A misuse of annotations. Each kind is reported once.
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
    /// The message for a developer.
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

/// The environment that kcov runs in. It supplies tasks, locks and memory, and contains no rules.
///
/// # Safety
/// The methods behave as documented: the rules rely on this for memory safety.
pub unsafe trait Host: Sized + Sync + 'static {
    /// A lock that is held for constant time only; in a kernel, with interrupts off.
    type Lock: RawLock;
    /// A lock that is held while handles are registered or removed; it may sleep.
    type Mutex: RawLock;
    /// Memory for a client's buffer.
    type Buffer: Buffer;
    /// Identifies a task, for [`Host::is_gone`].
    type Owner: Copy;
    /// Storage for the state that a task's sections interrupted.
    type Frames: Frames<Self>;
    /// While it exists, nothing on this processor interrupts the calling task *and* calls the rules.
    /// In a kernel, interrupts are off. In userspace, [`Host::context`] returns [`Context::Other`] to
    /// signal handlers. Locks have the same effect while they are held.
    type Pin;

    /// The effect of a section inside a section.
    const NESTING: Nesting;
    /// Whether comparisons are instrumented.
    const COMPARISONS: bool;
    /// Whether [`KCOV_UNIQUE_ENABLE`](crate::abi::ioctl::KCOV_UNIQUE_ENABLE) is supported.
    const UNIQUE: bool;
    /// Whether subsystems 0x80 to 0xff may be used.
    const USER_SUBSYSTEMS: bool;
    /// Words of the areas that [`Host::take_softirq_area`] returns.
    const SOFTIRQ_AREA: Words;

    /// The caller's context.
    fn context(&self) -> Context;

    /// Prevents interrupts from changing the calling task's state.
    fn pin(&self) -> Self::Pin;

    /// The fields of `task` that the callbacks read.
    fn hot<'t>(&self, task: &'t Task<Self>) -> &'t Hot;

    /// Called, pinned, after the calling task began to record something else, as [`Host::hot`] says.
    /// `idle`: it records for no client, see
    /// [`Task::set_idle`](crate::rules::task::Task::set_idle).
    #[inline(always)]
    fn switched(&self, task: &Task<Self>, idle: bool) {
        let _ = (task, idle);
    }

    /// Allocates a client's buffer of `words` zeroed words.
    fn buffer(&self, words: Words) -> Option<Self::Buffer>;

    /// Allocates a zeroed block. Called without locks; may sleep.
    fn alloc(&self, layout: Layout) -> Option<NonNull<u8>>;

    /// Frees a block. Called without locks, in any context.
    ///
    /// # Safety
    /// `block` is from [`Host::alloc`] with this layout, and nobody uses it any more.
    unsafe fn free(&self, block: NonNull<u8>, layout: Layout);

    /// Takes this processor's area for a section in a softirq: a block of
    /// [`Area::layout`](crate::rules::area::Area::layout) for [`Host::SOFTIRQ_AREA`] words. The
    /// caller owns it until it puts it back.
    fn take_softirq_area(&self) -> Option<NonNull<u8>>;

    /// Puts back an area from [`Host::take_softirq_area`].
    fn put_softirq_area(&self, block: NonNull<u8>);

    /// Reports a warning to a developer, once for each kind.
    fn warn_once(&self, warning: Warning);

    /// The identity of the calling task.
    fn owner(&self) -> Self::Owner;

    /// Whether this task was killed with its process, so that it could not call the rules at its end.
    fn is_gone(&self, owner: Self::Owner) -> bool;

    /// Copies `into.len()` bytes of the client's memory at `address`.
    fn read_client(&self, address: usize, into: &mut [u8]) -> Result<(), Fault>;

    /// A number that a client cannot guess, the same at every call: keys the hash of handles.
    fn seed(&self) -> u64;
}
