// SPDX-License-Identifier: MIT OR Apache-2.0
//! Marks in memory that the kernel wipes out in every forked child, libc's knowledge or not.
//!
//! A child that was made by a bare system call has a copy of its parent's thread, on which no
//! handler of libc's has run. A mark is one word to read, and a child of `vfork()`, which has
//! its parent's memory itself, does not lose it. The device and `rkcov run` have one each, since
//! each learns of such a child at another moment.

use crate::{lock, sys};
use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

/// One page.
#[repr(C)]
struct Marks([AtomicU32; 2]);

/// Whose mark it is.
#[derive(Clone, Copy)]
#[repr(usize)]
pub(crate) enum Mark {
    /// The device's.
    Device = 0,
    /// That of `rkcov run`.
    Run = 1,
}

static MARKS: AtomicPtr<Marks> = AtomicPtr::new(ptr::null_mut());

impl Mark {
    fn word(self) -> Option<&'static AtomicU32> {
        // SAFETY: null, or the page that `make()` mapped, which is never taken away.
        let marks = unsafe { MARKS.load(Ordering::Acquire).as_ref() }?;
        marks.0.get(self as usize)
    }

    /// Makes the mark. Children inherit its place. The lock is held, so that there is one page.
    pub(crate) fn make(self, _lock: &lock::Held) {
        if MARKS.load(Ordering::Acquire).is_null() {
            // Without it, on a kernel that cannot wipe, only the forks that libc knows of are seen.
            if let Ok(page) = sys::map_wiped_on_fork() {
                MARKS.store(page.cast(), Ordering::Release);
                Self::Device.set();
                Self::Run.set();
            }
        }
        self.set();
    }

    /// This process knows that it is one of its own.
    pub(crate) fn set(self) {
        if let Some(mark) = self.word() {
            mark.store(1, Ordering::Relaxed);
        }
    }

    /// Whether this process is a forked child that has not been told so.
    pub(crate) fn is_wiped(self) -> bool {
        self.word()
            .is_some_and(|mark| mark.load(Ordering::Relaxed) == 0)
    }
}
