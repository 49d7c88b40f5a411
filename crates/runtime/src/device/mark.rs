// SPDX-License-Identifier: MIT OR Apache-2.0
//! A mark in memory that the kernel wipes out in every forked child, libc's knowledge or not.
//!
//! A child that was made by a bare system call has a copy of its parent's thread, on which no
//! handler of libc's has run. The mark is one word to read, and a child of `vfork()`, which has
//! its parent's memory itself, does not lose it.

use crate::sys;
use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

static MARK: AtomicPtr<AtomicU32> = AtomicPtr::new(ptr::null_mut());

fn mark() -> Option<&'static AtomicU32> {
    // SAFETY: null, or the page that `make()` mapped, which is never taken away.
    unsafe { MARK.load(Ordering::Relaxed).as_ref() }
}

/// Makes the mark, once for the family's founder; children inherit its place.
pub(crate) fn make() {
    // Without it, on a kernel that cannot wipe, only the forks that libc knows of are seen.
    if let Ok(page) = sys::map_wiped_on_fork() {
        MARK.store(page.cast(), Ordering::Relaxed);
        set();
    }
}

/// This process knows that it is one of its own.
pub(crate) fn set() {
    if let Some(mark) = mark() {
        mark.store(1, Ordering::Relaxed);
    }
}

/// Whether this process is a forked child that has not been told so.
pub(crate) fn is_wiped() -> bool {
    mark().is_some_and(|mark| mark.load(Ordering::Relaxed) == 0)
}
