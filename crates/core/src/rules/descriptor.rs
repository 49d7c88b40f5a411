// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Descriptors: their states, and every way from one to the next.

use crate::abi::{CommonHandle, Errno, TraceMode, Words};
use crate::rules::area::Pool;
use crate::rules::drops::{self, Drops};
use crate::rules::host::{Buffer, Host};
use crate::rules::kcov::Kcov;
use crate::rules::lock::Locked;
use crate::rules::merge::{self, Target};
use crate::rules::registry::{Change, Handles};
use crate::rules::sync::{fence, interrupt_fence, AtomicU32, AtomicU64, Ordering, Word};
use core::alloc::Layout;
use core::cell::UnsafeCell;
use core::mem::replace;
use core::ops::Deref;
use core::ptr::{self, NonNull};

/// The state of a descriptor. See the picture in [`rules`](crate::rules).
pub(crate) enum Phase<H: Host> {
    /// Opened; no buffer yet.
    Empty,
    /// There is a buffer, and nobody collects into it.
    Ready,
    /// A task collects from itself.
    Local {
        /// That task.
        owner: H::Owner,
        /// Words of the buffer that are a bitmap; 0 unless in unique mode.
        bitmap: Words,
        /// The descriptor's [`Drops::local`] when it began: callbacks count there directly.
        local_before: u64,
    },
    /// Sections collect.
    Remote(Listener<H>),
    /// Handles are being registered or removed: enabled for other clients, deaf for sections.
    Changing(Listener<H>),
}

/// What a section needs to know of who listens to it.
pub(crate) struct Listener<H: Host> {
    /// The task that enabled.
    pub(crate) owner: H::Owner,
    /// What sections record.
    pub(crate) mode: TraceMode,
    /// The size of each section's area.
    pub(crate) area: Words,
    /// The nodes in the registry.
    pub(crate) handles: Handles<H>,
}

impl<H: Host> Clone for Listener<H> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<H: Host> Copy for Listener<H> {}

/// What a descriptor's lock guards.
///
/// A process that is killed while it has the lock leaves one phase or the next, never half of one:
/// the next phase is written where the last one was, and one store makes it the one that holds.
pub(crate) struct State<H: Host> {
    /// The phase under an even sequence number, and under an odd one.
    phases: (Phase<H>, Phase<H>),
    /// The number of the phase. A section remembers it: a section that began under another number
    /// recorded for another client, or for one that has gone, and is not delivered.
    sequence: u64,
    /// Areas for the next sections; empty unless the phase is `Remote`.
    pub(crate) pool: Pool,
}

/// Why a descriptor cannot be enabled now.
pub(crate) enum Refusal<H: Host> {
    /// It is, by this task, since this sequence number: that task may be gone.
    EnabledBy(H::Owner, u64),
    /// For this error.
    Error(Errno),
}

impl<H: Host> From<Errno> for Refusal<H> {
    fn from(errno: Errno) -> Self {
        Self::Error(errno)
    }
}

impl<H: Host> State<H> {
    fn new() -> Self {
        Self {
            phases: (Phase::Empty, Phase::Empty),
            sequence: 0,
            pool: Pool::new(),
        }
    }

    /// The phase that holds.
    pub(crate) fn phase(&self) -> &Phase<H> {
        match self.sequence % 2 {
            0 => &self.phases.0,
            _ => &self.phases.1,
        }
    }

    /// Whether the descriptor can be enabled: it has a buffer and nobody collects.
    pub(crate) fn check_ready(&self) -> Result<(), Refusal<H>> {
        match self.phase() {
            Phase::Ready => Ok(()),
            Phase::Empty => Err(Errno::Inval.into()),
            Phase::Local { owner, .. } => Err(Refusal::EnabledBy(*owner, self.sequence)),
            Phase::Remote(listener) | Phase::Changing(listener) => {
                Err(Refusal::EnabledBy(listener.owner, self.sequence))
            }
        }
    }

    /// The listener of sections that began under `sequence`.
    pub(crate) fn listener(&self, sequence: u64) -> Option<&Listener<H>> {
        match self.phase() {
            Phase::Remote(listener) if self.sequence == sequence => Some(listener),
            _ => None,
        }
    }

    /// The sequence number of the next phase.
    pub(crate) fn next_sequence(&self) -> u64 {
        self.sequence.wrapping_add(1)
    }

    /// Goes to another phase; sections that began before are stale from now on.
    pub(crate) fn go(&mut self, phase: Phase<H>) {
        let next = self.next_sequence();
        match next % 2 {
            0 => self.phases.0 = phase,
            _ => self.phases.1 = phase,
        }
        interrupt_fence();
        self.sequence = next;
    }
}

/// A client's buffer and its size.
pub(crate) struct Memory<B> {
    pub(crate) buffer: B,
    pub(crate) words: Words,
}

impl<B: Buffer> Memory<B> {
    /// Where merged records of `record_words` words go.
    pub(crate) fn target(&self, record_words: u32) -> Target {
        Target {
            base: self.buffer.base(),
            limit: self.words.records(record_words),
        }
    }

    /// The count word of a buffer whose first `bitmap` words are a bitmap.
    pub(crate) fn count(&self, bitmap: Words) -> *mut Word {
        self.buffer.base().wrapping_add(bitmap.get() as usize)
    }
}

/// One opened device.
pub struct Descriptor<H: Host> {
    kcov: &'static Kcov<H>,
    /// One for each opened file, for the task that enabled, and for each section.
    references: AtomicU64,
    /// Set once, under the lock, before `has_memory`.
    memory: UnsafeCell<Option<Memory<H::Buffer>>>,
    has_memory: AtomicU32,
    drops: Drops,
    pub(crate) state: Locked<H::Lock, State<H>>,
}

// SAFETY: `state` is behind its lock; `memory` is written once before it is shared.
unsafe impl<H: Host> Sync for Descriptor<H> {}

impl<H: Host> Descriptor<H> {
    /// What this descriptor could not deliver, since it was opened.
    #[must_use]
    pub fn drops(&self) -> &Drops {
        &self.drops
    }

    /// The buffer, if there is one and the calling process has it: one that was forked before it was
    /// made could neither read nor write it.
    pub(crate) fn memory(&self) -> Option<&Memory<H::Buffer>> {
        if self.has_memory.load(Ordering::Acquire) == 0 {
            return None;
        }
        // SAFETY: written before `has_memory` was, and never again.
        let memory = unsafe { (*self.memory.get()).as_ref() };
        memory.filter(|memory| memory.buffer.is_here())
    }

    /// `KCOV_INIT_TRACE`.
    pub(crate) fn init_trace(&self, size: u64) -> Result<(), Errno> {
        let words = Words::new(size)
            .filter(|w| *w >= Words::MIN)
            .ok_or(Errno::Inval)?;
        let buffer = self.kcov.host().buffer(words).ok_or(Errno::NoMem)?;
        let mut state = self.state.lock();
        if !matches!(state.phase(), Phase::Empty) {
            drop(state);
            return Err(Errno::Busy);
        }
        // SAFETY: nobody reads it before `has_memory`, and only the phase `Empty` leads here.
        unsafe { *self.memory.get() = Some(Memory { buffer, words }) };
        self.has_memory.store(1, Ordering::Release);
        state.go(Phase::Ready);
        Ok(())
    }

    /// `KCOV_RESET_TRACE`.
    pub(crate) fn reset_trace(&self) -> Result<(), Errno> {
        let memory = self.memory().ok_or(Errno::Inval)?;
        let mut state = self.state.lock();
        let bitmap = match *state.phase() {
            Phase::Local { bitmap, .. } => bitmap,
            Phase::Remote(_) => Words::default(),
            _ => return Err(Errno::Inval),
        };
        let sequence = state.sequence;
        // Under the lock, or a merge that is under way would put the old count back.
        // SAFETY: the bitmap is smaller than the buffer.
        unsafe { (*memory.count(bitmap)).store(0, Ordering::Release) };
        // The count first: who records meanwhile may record a PC twice, but never loses one.
        let words = bitmap.get() as usize;
        let mut from = 0_usize;
        loop {
            let to = from.saturating_add(merge::STEP as usize).min(words);
            for i in from..to {
                // SAFETY: as above; the caller's reference to the file keeps the buffer.
                unsafe { (*memory.buffer.base().wrapping_add(i)).store(0, Ordering::Relaxed) };
            }
            drop(state);
            if to == words {
                return Ok(());
            }
            from = to;
            state = self.state.lock();
            if state.sequence != sequence {
                // Disabled meanwhile: these words may be another collection's records by now.
                return Ok(());
            }
        }
    }

    /// Ends a local collection: "stop and release" for `KCOV_DISABLE` and the end of a task.
    pub(crate) fn release_local(&self) {
        let mut state = self.state.lock();
        let local_before = match *state.phase() {
            Phase::Local { local_before, .. } => local_before,
            _ => return,
        };
        // Before the next collection may begin, which counts in the same place.
        let local = self.drops.local.load(Ordering::Relaxed);
        state.go(Phase::Ready);
        drop(state);
        drops::add(&self.kcov.drops().full, local.wrapping_sub(local_before));
    }

    /// Ends a remote collection, likewise. Also takes back an enable that failed half-way. Answers
    /// the common handle that came with it.
    pub(crate) fn release_remote(&self, change: &mut Change<'_, H>) -> Option<CommonHandle> {
        let mut state = self.state.lock();
        let listener = match *state.phase() {
            Phase::Remote(listener) | Phase::Changing(listener) => listener,
            _ => return None,
        };
        // Not ready yet: who enables anew must find the old handles gone.
        state.go(Phase::Changing(listener));
        let handles = listener.handles;
        drop(state);
        change.remove_all(self.kcov.host(), &handles);
        let mut state = self.state.lock();
        state.go(Phase::Ready);
        let pool = replace(&mut state.pool, Pool::new());
        drop(state);
        pool.free_all(self.kcov.host());
        // SAFETY: out of the registry, and the phase that held the only lasting copy is gone.
        unsafe { handles.free(self.kcov.host()) };
        handles.common
    }

    /// Does for a task that was killed unheard what its end would have done, if `sequence` still
    /// is the number under which it was seen to have this descriptor enabled.
    pub(crate) fn reap(&self, sequence: u64, change: &mut Change<'_, H>) {
        let state = self.state.lock();
        if state.sequence != sequence {
            return;
        }
        match state.phase() {
            Phase::Local { .. } => {
                drop(state);
                self.release_local();
            }
            Phase::Remote(_) | Phase::Changing(_) => {
                drop(state);
                self.release_remote(change);
            }
            Phase::Empty | Phase::Ready => return,
        }
        // SAFETY: the reference that the task had while it collected, which it cannot drop.
        drop(unsafe { Ref::from_raw(ptr::from_ref(self)) });
    }
}

/// A counted reference to a [`Descriptor`].
#[repr(transparent)]
pub struct Ref<H: Host>(NonNull<Descriptor<H>>);

// SAFETY: descriptors are shared; the count is atomic.
unsafe impl<H: Host> Send for Ref<H> {}
// SAFETY: as above.
unsafe impl<H: Host> Sync for Ref<H> {}

impl<H: Host> Ref<H> {
    /// A new descriptor.
    pub(crate) fn open(kcov: &'static Kcov<H>) -> Result<Self, Errno> {
        let block = kcov
            .host()
            .alloc(Layout::new::<Descriptor<H>>())
            .ok_or(Errno::NoMem)?;
        let slot = block.cast::<Descriptor<H>>();
        let at = slot.as_ptr();
        // SAFETY: a new zeroed block of this layout; each field is written once.
        unsafe {
            ptr::addr_of_mut!((*at).kcov).write(kcov);
            ptr::addr_of_mut!((*at).references).write(AtomicU64::new(1));
            ptr::addr_of_mut!((*at).memory).write(UnsafeCell::new(None));
            ptr::addr_of_mut!((*at).has_memory).write(AtomicU32::new(0));
            ptr::addr_of_mut!((*at).drops).write(Drops::new());
            Locked::init(ptr::addr_of_mut!((*at).state), State::new());
        }
        Ok(Self(slot))
    }

    /// A new reference to a descriptor that somebody else keeps.
    ///
    /// # Safety
    /// There is a reference that lives until this returns.
    pub(crate) unsafe fn get(descriptor: *const Descriptor<H>) -> Self {
        // SAFETY: the caller's contract.
        unsafe {
            (*descriptor).references.fetch_add(1, Ordering::Relaxed);
            Self(NonNull::new_unchecked(descriptor.cast_mut()))
        }
    }

    /// The reference as a pointer, for a host's file object.
    #[must_use]
    pub fn into_raw(self) -> *const Descriptor<H> {
        let raw = self.0.as_ptr();
        core::mem::forget(self);
        raw
    }

    /// The reference that [`Ref::into_raw`] gave.
    ///
    /// # Safety
    /// `raw` is from `into_raw`, whose reference becomes this one.
    #[must_use]
    pub unsafe fn from_raw(raw: *const Descriptor<H>) -> Self {
        // SAFETY: the caller's contract: not null.
        Self(unsafe { NonNull::new_unchecked(raw.cast_mut()) })
    }

    /// Whether both refer to one descriptor.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl<H: Host> Clone for Ref<H> {
    fn clone(&self) -> Self {
        // SAFETY: `self` lives.
        unsafe { Self::get(self.0.as_ptr()) }
    }
}

impl<H: Host> Deref for Ref<H> {
    type Target = Descriptor<H>;

    fn deref(&self) -> &Descriptor<H> {
        // SAFETY: a counted reference.
        unsafe { self.0.as_ref() }
    }
}

impl<H: Host> Drop for Ref<H> {
    fn drop(&mut self) {
        if self.references.fetch_sub(1, Ordering::Release) != 1 {
            return;
        }
        fence(Ordering::Acquire);
        let host = self.kcov.host();
        // SAFETY: the last reference: nobody else can reach the descriptor. It was made in a block
        // of this layout.
        unsafe {
            ptr::drop_in_place(self.0.as_ptr());
            host.free(self.0.cast(), Layout::new::<Descriptor<H>>());
        }
    }
}
