// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a family of processes has of one kcov, in its arena.

use super::arena::Arena;
use super::buffers::Names;
use super::files::Place;
use super::host::Userspace;
use super::robust;
use crate::mark::Mark;
use core::alloc::Layout;
use core::mem::MaybeUninit;
use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicU32, Ordering};
use rkcov_core::Kcov;

/// Most files that a family can have open at once.
pub(crate) const FILES: usize = 1 << 14;

/// One kcov and its open files.
pub(crate) struct Family {
    pub(crate) arena: &'static Arena,
    /// Which buffers live.
    pub(crate) buffers: Names,
    kcov: MaybeUninit<Kcov<Userspace>>,
    /// What each open file holds.
    pub(crate) files: [Place; FILES],
    /// No file from this number on was ever open.
    pub(crate) files_end: AtomicU32,
}

static FAMILY: AtomicPtr<Family> = AtomicPtr::new(ptr::null_mut());

/// The family of this process, if it has opened a kcov or was forked from one that had.
pub(crate) fn family() -> Option<&'static Family> {
    // SAFETY: null, or what `found()` made, which is never taken away.
    unsafe { FAMILY.load(Ordering::Acquire).as_ref() }
}

impl Family {
    pub(crate) fn kcov(&'static self) -> &'static Kcov<Userspace> {
        // SAFETY: initialised before the family was published.
        unsafe { self.kcov.assume_init_ref() }
    }
}

/// The family of this process, which it founds if there is none.
pub(crate) fn found() -> Option<&'static Family> {
    if let Some(family) = family() {
        return Some(family);
    }
    let lock = crate::lock::take();
    if let Some(family) = family() {
        return Some(family);
    }
    let arena = Arena::reserve()?;
    let slot = arena
        .alloc(Layout::new::<Family>())?
        .cast::<Family>()
        .as_ptr();
    // SAFETY: a zeroed block of this layout, in which empty files and free names are what they begin
    // as, and the kcov is in a zeroed place that never moves.
    unsafe {
        ptr::addr_of_mut!((*slot).arena).write(arena);
        Kcov::init(ptr::addr_of_mut!((*slot).kcov).cast(), Userspace);
    }
    Mark::Device.make(&lock);
    robust::learn();
    // Last: a section of another thread may find it from here on.
    FAMILY.store(slot, Ordering::Release);
    drop(lock);
    family()
}
