// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Areas: the private buffers that sections record into.

use crate::abi::{TraceMode, Words};
use crate::rules::host::Host;
use crate::rules::sync::{interrupt_fence, AtomicU64, Ordering, Word};
use core::alloc::Layout;
use core::mem::size_of;
use core::ptr::{self, NonNull};

/// Where an area's memory goes when its section is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// Into the descriptor's pool, or back to [`Host::free`].
    Pool,
    /// Back to [`Host::put_softirq_area`].
    Softirq,
}

/// The head of an area; its words follow at once, the count word first.
#[repr(C, align(64))]
pub struct Area {
    next: Option<NonNull<Area>>,
    /// The descriptor's sequence number when the section began.
    pub(crate) sequence: u64,
    /// Records that found the area full.
    pub(crate) dropped: AtomicU64,
    words: Words,
    mode: TraceMode,
    source: Source,
}

impl Area {
    /// The memory of an area of `words` words, its head included.
    #[must_use]
    pub const fn layout(words: Words) -> Layout {
        // At most INT_MAX bytes and the head: fits isize on every 64-bit machine.
        let bytes =
            size_of::<Self>().wrapping_add((words.get() as usize).wrapping_mul(size_of::<Word>()));
        // SAFETY: the alignment is a power of two, and the size is far from isize::MAX.
        unsafe { Layout::from_size_align_unchecked(bytes, align_of_area()) }
    }
}

const fn align_of_area() -> usize {
    core::mem::align_of::<Area>()
}

/// The only reference to an area.
pub(crate) struct AreaBox(NonNull<Area>);

// SAFETY: the only reference to memory that is tied to no thread.
unsafe impl Send for AreaBox {}

impl AreaBox {
    /// A new area of `words` words.
    pub(crate) fn alloc<H: Host>(host: &H, words: Words) -> Option<Self> {
        let block = host.alloc(Area::layout(words))?;
        // SAFETY: a new block of this layout.
        Some(unsafe { Self::in_block(block, words, Source::Pool) })
    }

    /// The area that the host keeps for softirqs on this processor.
    pub(crate) fn softirq<H: Host>(host: &H) -> Option<Self> {
        let block = host.take_softirq_area()?;
        // SAFETY: the host gave us a block for this many words (`Host::take_softirq_area`).
        Some(unsafe { Self::in_block(block, H::SOFTIRQ_AREA, Source::Softirq) })
    }

    /// # Safety
    /// `block` is valid for `Area::layout(words)` and the caller's alone.
    unsafe fn in_block(block: NonNull<u8>, words: Words, source: Source) -> Self {
        let area = block.cast::<Area>();
        let head = Area {
            next: None,
            sequence: 0,
            dropped: AtomicU64::new(0),
            words,
            mode: TraceMode::Pc,
            source,
        };
        // SAFETY: the head is at the block's start; under loom each word is an object, made here.
        unsafe {
            area.write(head);
            #[cfg(loom)]
            for i in 0..words.get() as usize {
                area.add(1).cast::<Word>().add(i).write(Word::new(0));
            }
        }
        Self(area)
    }

    fn head(&self) -> &Area {
        // SAFETY: the only reference to a living area.
        unsafe { self.0.as_ref() }
    }

    /// Makes the area empty and remembers what the section records and since when.
    pub(crate) fn prepare(&mut self, mode: TraceMode, sequence: u64) {
        // SAFETY: the only reference to a living area.
        let head = unsafe { self.0.as_mut() };
        head.mode = mode;
        head.sequence = sequence;
        head.dropped.store(0, Ordering::Relaxed);
        self.count().store(0, Ordering::Relaxed);
    }

    /// The count word; the records follow.
    pub(crate) fn base(&self) -> *mut Word {
        self.0.as_ptr().wrapping_add(1).cast()
    }

    fn count(&self) -> &Word {
        // SAFETY: an area has at least one word, and it lives.
        unsafe { &*self.base() }
    }

    /// Where to count a record that finds the area full.
    pub(crate) fn dropped(&self) -> &AtomicU64 {
        &self.head().dropped
    }

    /// The sequence number of [`AreaBox::prepare`].
    pub(crate) fn sequence(&self) -> u64 {
        self.head().sequence
    }

    /// The mode of [`AreaBox::prepare`].
    pub(crate) fn mode(&self) -> TraceMode {
        self.head().mode
    }

    /// Records that fit.
    pub(crate) fn limit(&self) -> u32 {
        self.head().words.records(self.mode().record_words())
    }

    /// Records that are there.
    pub(crate) fn records(&self) -> u32 {
        let count = self.count().load(Ordering::Relaxed);
        u32::try_from(count).unwrap_or(u32::MAX).min(self.limit())
    }

    /// The words of the area, head not counted.
    pub(crate) fn words(&self) -> Words {
        self.head().words
    }

    /// Where the memory goes.
    pub(crate) fn source(&self) -> Source {
        self.head().source
    }

    /// Gives the memory back to where it came from.
    pub(crate) fn free<H: Host>(self, host: &H) {
        let layout = Area::layout(self.words());
        let source = self.source();
        // SAFETY: the only reference; under loom the words are objects, unmade here.
        unsafe {
            #[cfg(loom)]
            for i in 0..self.words().get() as usize {
                self.base().add(i).drop_in_place();
            }
            ptr::drop_in_place(self.0.as_ptr());
        }
        match source {
            // SAFETY: from `Host::alloc` with this layout (`AreaBox::alloc`).
            Source::Pool => unsafe { host.free(self.0.cast(), layout) },
            Source::Softirq => host.put_softirq_area(self.0.cast()),
        }
    }
}

/// Areas that wait for the next section: a list through their heads.
pub(crate) struct Pool {
    first: Option<NonNull<Area>>,
}

// SAFETY: owns its areas, which are tied to no thread.
unsafe impl Send for Pool {}

impl Pool {
    /// No areas.
    pub(crate) const fn new() -> Self {
        Self { first: None }
    }

    /// Takes one area.
    pub(crate) fn pop(&mut self) -> Option<AreaBox> {
        let area = self.first?;
        // SAFETY: areas in the list live and are the list's alone.
        self.first = unsafe { area.as_ref() }.next;
        Some(AreaBox(area))
    }

    /// Puts one area.
    pub(crate) fn push(&mut self, mut area: AreaBox) {
        // SAFETY: the only reference to a living area.
        unsafe { area.0.as_mut() }.next = self.first;
        interrupt_fence();
        self.first = Some(area.0);
    }

    /// Frees all areas. Not under a lock.
    pub(crate) fn free_all<H: Host>(mut self, host: &H) {
        while let Some(area) = self.pop() {
            area.free(host);
        }
    }
}
