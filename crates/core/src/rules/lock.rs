// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Data behind a host's lock.

use crate::rules::host::RawLock;
use crate::rules::sync::{CellAccess, SharedCell};
use core::ops::{Deref, DerefMut};
use core::ptr;

/// A value that only the holder of its lock sees.
pub struct Locked<L: RawLock, T> {
    raw: L,
    value: SharedCell<T>,
}

// SAFETY: `raw` lets one caller at a time to `value`, and hands its writes on (`RawLock`).
unsafe impl<L: RawLock, T: Send> Sync for Locked<L, T> {}
// SAFETY: as for any owner of a T; the lock itself is not tied to a thread while it is not held.
unsafe impl<L: RawLock, T: Send> Send for Locked<L, T> {}

impl<L: RawLock, T> Locked<L, T> {
    /// Makes an unlocked value in place.
    ///
    /// # Safety
    /// `slot` is valid for writes, zeroed, and holds nothing yet.
    pub unsafe fn init(slot: *mut Self, value: T) {
        // SAFETY: the caller's contract; both places are fields of `slot`.
        unsafe {
            L::init(ptr::addr_of_mut!((*slot).raw));
            ptr::addr_of_mut!((*slot).value).write(SharedCell::new(value));
        }
    }

    /// Waits for the lock.
    pub fn lock(&self) -> Guard<'_, L, T> {
        let saved = self.raw.lock();
        Guard {
            access: self.value.access(),
            saved,
            lock: self,
        }
    }
}

/// The right to a [`Locked`] value, until dropped.
#[must_use = "the lock is given back when this is dropped"]
pub struct Guard<'a, L: RawLock, T> {
    // Dropped by hand, before the lock is given back.
    access: CellAccess<T>,
    saved: L::Saved,
    lock: &'a Locked<L, T>,
}

impl<L: RawLock, T> Deref for Guard<'_, L, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: this guard holds the lock, so nobody else reaches the value.
        unsafe { &*self.access.get() }
    }
}

impl<L: RawLock, T> DerefMut for Guard<'_, L, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: this guard holds the lock and is borrowed mutably.
        unsafe { &mut *self.access.get() }
    }
}

impl<L: RawLock, T> Drop for Guard<'_, L, T> {
    fn drop(&mut self) {
        self.access.end();
        // SAFETY: this guard took the lock and got `saved` for it.
        unsafe { self.lock.raw.unlock(self.saved) };
    }
}
