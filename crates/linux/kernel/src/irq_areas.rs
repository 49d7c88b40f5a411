// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Areas for sections in softirqs, which cannot allocate: one for each processor.
//!
//! A softirq is not interrupted by another on its processor, so one area is enough; with real-time
//! preemption too, where a softirq may be preempted but not by another of its processor.

use crate::abi::Words;
use crate::rules::area::Area;
use crate::shim;
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicPtr, Ordering};
use kernel::bindings;

/// Words of an area.
pub(crate) const WORDS: Words = match Words::new(bindings::RKCOV_IRQ_AREA_SIZE as u64) {
    Some(words) => words,
    None => panic!("CONFIG_KCOV_IRQ_AREA_SIZE is too large"),
};

/// One slot for each processor: its area, unless a section has it.
static SLOTS: AtomicPtr<AtomicPtr<u8>> = AtomicPtr::new(ptr::null_mut());

/// Allocates the areas. Without them, sections in softirqs are counted as drops.
pub(crate) fn init() {
    // SAFETY: no precondition in a context that may sleep, which the boot is.
    let (cpus, slots) = unsafe {
        let cpus = shim::rkcov_cpus() as usize;
        let bytes = cpus.wrapping_mul(size_of::<AtomicPtr<u8>>());
        (cpus, shim::rkcov_alloc(bytes).cast::<AtomicPtr<u8>>())
    };
    if slots.is_null() {
        return;
    }
    for i in 0..cpus {
        // SAFETY: as above; i < cpus slots in the new block, where null is a valid slot.
        unsafe {
            let area = shim::rkcov_alloc(Area::layout(WORDS).size()).cast::<u8>();
            (*slots.wrapping_add(i)).store(area, Ordering::Relaxed);
        }
    }
    SLOTS.store(slots, Ordering::Release);
}

/// This processor's slot. The caller serves a softirq, so it stays on this processor.
fn slot() -> Option<&'static AtomicPtr<u8>> {
    let slots = NonNull::new(SLOTS.load(Ordering::Acquire))?;
    // SAFETY: the slots are never freed, and there is one for each possible processor.
    Some(unsafe { &*slots.as_ptr().wrapping_add(shim::rkcov_cpu() as usize) })
}

/// This processor's area.
pub(crate) fn take() -> Option<NonNull<u8>> {
    NonNull::new(slot()?.swap(ptr::null_mut(), Ordering::Acquire))
}

/// Gives the area back.
pub(crate) fn put(area: NonNull<u8>) {
    if let Some(slot) = slot() {
        slot.store(area.as_ptr(), Ordering::Release);
    }
}
