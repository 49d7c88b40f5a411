// SPDX-License-Identifier: GPL-2.0 OR MIT
//! What kcov knows of a task.

use crate::abi::{CommonHandle, TraceMode, Words};
use crate::rules::area::{AreaBox, Source};
use crate::rules::descriptor::{Memory, Ref};
use crate::rules::host::{Buffer, Context, Host};
use crate::rules::hot::{Mode, MODE_BITS, SOFTIRQ};
use crate::rules::sync::{count_one, AtomicPtr, AtomicU32, AtomicU64, Ordering, Word};
use core::cell::UnsafeCell;
use core::mem::replace;
use core::ptr;

/// Where records go: what the callbacks are told.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Sink {
    mode_bits: u32,
    limit: u32,
    area: *mut Word,
    bitmap_bits: u64,
    full: *const AtomicU64,
}

impl Sink {
    /// Nowhere.
    pub const OFF: Self = Self {
        mode_bits: Mode::Off as u32,
        limit: 0,
        area: ptr::null_mut(),
        bitmap_bits: 0,
        full: ptr::null(),
    };

    /// Into `base`: there `bitmap` words of a bitmap ([`Mode::Unique`] only, elsewhere it is 0),
    /// and behind them `trace` words, the count word first. Records that find no room are counted
    /// in `full`, unless it is null.
    ///
    /// # Safety
    /// As long as a task may record there, all those words are valid, `trace` is not 0, and `full` is
    /// null or valid and nobody else adds to it.
    #[must_use]
    pub unsafe fn new(
        mode: Mode,
        base: *mut Word,
        bitmap: Words,
        trace: Words,
        full: *const AtomicU64,
    ) -> Self {
        let record_words = match mode {
            Mode::Off => return Self::OFF,
            Mode::Pc | Mode::Unique => TraceMode::Pc.record_words(),
            Mode::Cmp => TraceMode::Cmp.record_words(),
        };
        Self {
            mode_bits: mode as u32,
            limit: trace.records(record_words),
            area: base.wrapping_add(bitmap.get() as usize),
            bitmap_bits: u64::from(bitmap.get()).wrapping_mul(64),
            full,
        }
    }

    fn of_section(area: &AreaBox) -> Self {
        let softirq = match area.source() {
            Source::Softirq => SOFTIRQ,
            Source::Pool => 0,
        };
        Self {
            mode_bits: Mode::from(area.mode()) as u32 | softirq,
            limit: area.limit(),
            area: area.base(),
            bitmap_bits: 0,
            full: area.dropped(),
        }
    }
}

impl From<TraceMode> for Mode {
    fn from(mode: TraceMode) -> Self {
        match mode {
            TraceMode::Pc => Self::Pc,
            TraceMode::Cmp => Self::Cmp,
        }
    }
}

/// A section that somebody listens to.
#[repr(C)]
pub struct Section<H: Host> {
    pub(crate) descriptor: Ref<H>,
    pub(crate) area: AreaBox,
}

/// On whose account a task runs.
#[repr(u64)]
pub enum Recording<H: Host> {
    /// Its own: its local descriptor's, if it has one.
    Base = 0,
    /// That of a section.
    Section(Section<H>),
    /// That of a section to which nobody listens: nobody's.
    Unattributed,
}

/// Room for what sections interrupted.
///
/// # Safety
/// `slots` always answers the same slots, and zeroed memory is a value whose slots are all
/// [`Recording::Base`].
pub unsafe trait Frames<H: Host>: Sized {
    /// All slots.
    fn slots(&mut self) -> &mut [Recording<H>];
    /// All slots `Base`.
    fn new() -> Self;
}

// SAFETY: an array is its elements, and `Base` is the variant with tag 0 (`repr(u64)`).
unsafe impl<H: Host, const N: usize> Frames<H> for [Recording<H>; N] {
    fn slots(&mut self) -> &mut [Recording<H>] {
        self
    }

    fn new() -> Self {
        core::array::from_fn(|_| Recording::Base)
    }
}

/// What only the task itself touches, pinned.
#[repr(C)]
pub(crate) struct Own<H: Host> {
    /// What collects from this task, and where to.
    pub(crate) local: Option<Ref<H>>,
    local_sink: Sink,
    /// What this task collects into from sections.
    pub(crate) remote: Option<Ref<H>>,
    /// What sections on this task's behalf are found by; children inherit it.
    pub(crate) common: Option<CommonHandle>,
    idle: Sink,
    current: Recording<H>,
    /// Frames in use.
    depth: u32,
    /// Sections beyond the last frame.
    deep: u32,
    /// The mode word's flags, while a softirq section has them put aside.
    flags: u32,
    frames: H::Frames,
}

/// A task's side of kcov. Zeroed memory is a task that collects nothing.
///
/// It is not `Sync`: a `&Task` is in the hands of the task itself, or of an interrupt on top of it.
#[repr(C)]
pub struct Task<H: Host> {
    /// Where a callback counts a record that finds no room. Valid while the mode is not `Off`.
    pub full: AtomicPtr<AtomicU64>,
    /// In unique mode: bits of the bitmap, a multiple of 64.
    pub bitmap_bits: AtomicU64,
    /// In unique mode: the bitmap, which ends where [`Hot::area`](crate::rules::hot::Hot::area)
    /// points.
    pub bitmap: AtomicPtr<Word>,
    /// Sections begun in [`Context::Other`] on top of this task, where frames cannot be touched.
    muted: AtomicU32,
    /// The mode bits that the first of them found.
    muted_mode: AtomicU32,
    own: UnsafeCell<Own<H>>,
}

impl<H: Host> Task<H> {
    /// A task that collects nothing.
    #[must_use]
    pub fn new() -> Self {
        Self {
            full: AtomicPtr::new(ptr::null_mut()),
            bitmap_bits: AtomicU64::new(0),
            bitmap: AtomicPtr::new(ptr::null_mut()),
            muted: AtomicU32::new(0),
            muted_mode: AtomicU32::new(0),
            own: UnsafeCell::new(Own {
                local: None,
                local_sink: Sink::OFF,
                remote: None,
                common: None,
                idle: Sink::OFF,
                current: Recording::Base,
                depth: 0,
                deep: 0,
                flags: 0,
                frames: H::Frames::new(),
            }),
        }
    }

    /// Makes this, a task that was just born, a child of `parent`: it inherits the common handle
    /// and nothing else. What a copy of the parent's state holds besides, as after `fork()`, stays
    /// the parent's and is forgotten here.
    pub fn begin(&self, host: &H, common: Option<CommonHandle>) {
        let child = Self::new();
        let own = child.own.into_inner();
        let _pin = host.pin();
        host.hot(self).stop();
        self.muted.store(0, Ordering::Relaxed);
        // SAFETY: pinned; overwritten without dropping, since references in it are not ours.
        unsafe { self.own.get().write(Own { common, ..own }) };
        host.switched(self, true);
    }

    /// Gives a task that was just born, and collects nothing yet, the common handle of its parent.
    pub fn inherit(&self, host: &H, common: CommonHandle) {
        self.pinned(host, |own| own.common = Some(common));
    }

    /// The common handle that children of this task inherit.
    pub fn common(&self, host: &H) -> Option<CommonHandle> {
        self.pinned(host, |own| own.common)
    }

    /// What the task records while it runs on no client's account: nothing, unless somebody who
    /// collects from whole processes says otherwise.
    pub fn set_idle(&self, host: &H, sink: Sink) {
        self.pinned(host, |own| {
            own.idle = sink;
            self.apply(host, own);
        });
    }

    /// A callback found no room for a record. Inlined, since a kernel's callbacks must not call.
    ///
    /// # Safety
    /// The caller is a callback that tried to record for this task, into a sink with a counter.
    #[inline(always)]
    pub unsafe fn count_full(&self) {
        // SAFETY: `apply` set it together with the mode, which is not `Off` in a callback that
        // tried to record: the counter lives as long as the task records there.
        count_one(unsafe { &*self.full.load(Ordering::Relaxed) });
    }

    /// Runs `f` on what is the task's own, with nothing in between.
    pub(crate) fn pinned<R>(&self, host: &H, f: impl FnOnce(&mut Own<H>) -> R) -> R {
        let _pin = host.pin();
        // SAFETY: this is the task itself (`Task` is not `Sync`), and pinned: an interrupt that
        // calls the rules now is in `Context::Other`, which touches nothing of this. `f` is this
        // crate's and does not come back here.
        f(unsafe { &mut *self.own.get() })
    }

    /// Tells the callbacks what holds now.
    fn apply(&self, host: &H, own: &mut Own<H>) {
        let (sink, idle) = match &own.current {
            _ if self.muted.load(Ordering::Relaxed) > 0 => (Sink::OFF, false),
            _ if own.deep > 0 => (own.idle, true),
            Recording::Section(section) => (Sink::of_section(&section.area), false),
            Recording::Base if own.local.is_some() => (own.local_sink, false),
            Recording::Base | Recording::Unattributed => (own.idle, true),
        };
        let hot = host.hot(self);
        hot.stop();
        self.full.store(sink.full.cast_mut(), Ordering::Relaxed);
        self.bitmap_bits.store(sink.bitmap_bits, Ordering::Relaxed);
        let bitmap_words = (sink.bitmap_bits / 64) as usize;
        self.bitmap
            .store(sink.area.wrapping_sub(bitmap_words), Ordering::Relaxed);
        if sink.mode_bits != Mode::Off as u32 {
            // SAFETY: whoever made the sink vouches for its memory until another one is set, and the
            // task that set this one keeps what it lies in.
            unsafe { hot.start(sink.mode_bits, sink.area, sink.limit) };
        }
        host.switched(self, idle);
    }

    /// Begins a local collection into the trace of `memory` behind its bitmap. The base's
    /// recording changes; a section that is under way goes on.
    pub(crate) fn set_local(
        &self,
        host: &H,
        descriptor: Ref<H>,
        mode: Mode,
        memory: &Memory<H::Buffer>,
        bitmap: Words,
    ) {
        let full = ptr::from_ref(&descriptor.drops().local);
        let trace = memory.words.saturating_sub(bitmap);
        // SAFETY: the task keeps the descriptor, and so its buffer and counters, while it collects.
        let sink = unsafe { Sink::new(mode, memory.buffer.base(), bitmap, trace, full) };
        self.pinned(host, |own| {
            own.local_sink = sink;
            own.local = Some(descriptor);
            self.apply(host, own);
        });
    }

    /// Whether a descriptor collects from this task.
    pub(crate) fn has_local(&self, host: &H) -> bool {
        self.pinned(host, |own| own.local.is_some())
    }

    /// Ends the local collection.
    pub(crate) fn take_local(&self, host: &H) -> Option<Ref<H>> {
        self.pinned(host, |own| {
            let local = own.local.take();
            self.apply(host, own);
            own.local_sink = Sink::OFF;
            local
        })
    }

    /// The innermost section is a softirq's.
    fn in_softirq_section(own: &Own<H>) -> bool {
        matches!(&own.current, Recording::Section(s) if s.area.source() == Source::Softirq)
    }

    /// Whether a section may begin in `context` where sections do not nest.
    pub(crate) fn accepts_section(&self, host: &H, context: Context) -> bool {
        self.pinned(host, |own| match context {
            Context::Task => matches!(own.current, Recording::Base) && own.local.is_none(),
            Context::Softirq => !Self::in_softirq_section(own),
            Context::Other => false,
        })
    }

    /// Goes on with a section. Without a free frame the depth alone is counted, nothing is recorded,
    /// and the section comes back.
    pub(crate) fn push(&self, host: &H, section: Section<H>) -> Result<(), Section<H>> {
        self.pinned(host, |own| {
            if !self.put_aside(host, own) {
                return Err(section);
            }
            self.go_on(host, own, Some(section));
            Ok(())
        })
    }

    /// The first half of [`Task::push`], before it is known whose section it is: what was recorded
    /// until now is put aside, and nothing is recorded. `false` without a free frame: there is no
    /// second half.
    pub(crate) fn suspend(&self, host: &H) -> bool {
        self.pinned(host, |own| self.put_aside(host, own))
    }

    /// The second half: goes on with the section, or with one to which nobody listens.
    pub(crate) fn resume(&self, host: &H, section: Option<Section<H>>) {
        self.pinned(host, |own| self.go_on(host, own, section));
    }

    fn put_aside(&self, host: &H, own: &mut Own<H>) -> bool {
        if own.deep == 0 {
            if let Some(slot) = own.frames.slots().get_mut(own.depth as usize) {
                *slot = replace(&mut own.current, Recording::Unattributed);
                own.depth = own.depth.wrapping_add(1);
                host.hot(self).stop();
                return true;
            }
        }
        own.deep = own.deep.saturating_add(1);
        self.apply(host, own);
        false
    }

    fn go_on(&self, host: &H, own: &mut Own<H>, section: Option<Section<H>>) {
        if let Some(section) = section {
            own.current = Recording::Section(section);
            if Self::in_softirq_section(own) {
                // What the interrupted code does (a context switch) is not the section's.
                let mode = &host.hot(self).mode;
                let word = mode.load(Ordering::Relaxed);
                own.flags = word & !MODE_BITS;
                mode.store(word & MODE_BITS, Ordering::Relaxed);
            }
        }
        self.apply(host, own);
    }

    /// Ends the innermost section and goes back to what it interrupted. `only` says in which
    /// context that section must have begun where sections do not nest. Answers what ended;
    /// `None` if there was nothing to end, or nothing but a count.
    pub(crate) fn pop(&self, host: &H, only: Option<Context>) -> Option<Recording<H>> {
        self.pinned(host, |own| {
            if own.deep > 0 {
                own.deep = own.deep.wrapping_sub(1);
                self.apply(host, own);
                return None;
            }
            let softirq = Self::in_softirq_section(own);
            if only.is_some_and(|context| (context == Context::Softirq) != softirq) {
                return None;
            }
            let outer = own.depth.checked_sub(1)?;
            let slot = own.frames.slots().get_mut(outer as usize)?;
            let resumed = replace(slot, Recording::Base);
            own.depth = outer;
            let ended = replace(&mut own.current, resumed);
            self.apply(host, own);
            if softirq {
                let mode = &host.hot(self).mode;
                mode.store(mode.load(Ordering::Relaxed) | own.flags, Ordering::Relaxed);
            }
            Some(ended)
        })
    }

    /// Whether the task is inside any section.
    pub(crate) fn in_section(&self, host: &H) -> bool {
        self.pinned(host, |own| own.depth > 0)
    }

    /// How many sections the task is in. Where it is more than there are frames for, those beyond count,
    /// too.
    pub fn sections(&self, host: &H) -> u32 {
        self.pinned(host, |own| own.depth.saturating_add(own.deep))
    }

    /// A section begins in [`Context::Other`] where sections suspend: nothing may be recorded for
    /// whoever was interrupted, and no frame can be touched.
    pub(crate) fn mute(&self, host: &H) {
        let mode = &host.hot(self).mode;
        let muted = self.muted.load(Ordering::Relaxed);
        self.muted.store(muted.saturating_add(1), Ordering::Relaxed);
        if muted == 0 {
            let word = mode.load(Ordering::Relaxed);
            self.muted_mode.store(word & MODE_BITS, Ordering::Relaxed);
            mode.store(word & !MODE_BITS, Ordering::Relaxed);
        }
    }

    /// The end of such a section; `false` if there is none.
    pub(crate) fn unmute(&self, host: &H) -> bool {
        let Some(muted) = self.muted.load(Ordering::Relaxed).checked_sub(1) else {
            return false;
        };
        self.muted.store(muted, Ordering::Relaxed);
        if muted == 0 {
            let mode = &host.hot(self).mode;
            let word = mode.load(Ordering::Relaxed) & !MODE_BITS;
            mode.store(
                word | self.muted_mode.load(Ordering::Relaxed),
                Ordering::Relaxed,
            );
        }
        true
    }
}

impl<H: Host> Default for Task<H> {
    fn default() -> Self {
        Self::new()
    }
}
