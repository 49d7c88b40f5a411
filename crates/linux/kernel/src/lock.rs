// SPDX-License-Identifier: GPL-2.0 OR MIT
//! The kernel's locks, as the rules want them: made in place, and with interrupts off.

use crate::rules::host::RawLock;
use crate::shim;
use kernel::bindings;
use kernel::types::Opaque;

/// A spinlock that is taken with interrupts off. The rules hold it for constant time only, so it
/// may be a raw one, which spins with real-time preemption too.
#[repr(transparent)]
pub(crate) struct SpinLock(Opaque<bindings::raw_spinlock_t>);

// SAFETY: mutual exclusion with acquire and release is what a spinlock is.
unsafe impl RawLock for SpinLock {
    type Saved = shim::IrqFlags;

    unsafe fn init(slot: *mut Self) {
        // SAFETY: the caller's contract.
        unsafe { shim::rkcov_spin_init(slot.cast()) };
    }

    fn lock(&self) -> Self::Saved {
        // SAFETY: made by `init`; the rules never take a lock that they hold.
        unsafe { shim::rkcov_spin_lock(self.0.get()) }
    }

    unsafe fn unlock(&self, saved: Self::Saved) {
        // SAFETY: the caller's contract.
        unsafe { shim::rkcov_spin_unlock(self.0.get(), saved) };
    }
}

// SAFETY: a lock is there to be shared.
unsafe impl Sync for SpinLock {}
// SAFETY: owned by no thread while unlocked; the rules do not move it (`RawLock::init`).
unsafe impl Send for SpinLock {}

/// A lock whose holder may sleep.
#[repr(transparent)]
pub(crate) struct Mutex(Opaque<bindings::mutex>);

// SAFETY: mutual exclusion with acquire and release is what a mutex is.
unsafe impl RawLock for Mutex {
    type Saved = ();

    unsafe fn init(slot: *mut Self) {
        // SAFETY: the caller's contract.
        unsafe { shim::rkcov_mutex_init(slot.cast()) };
    }

    fn lock(&self) {
        // SAFETY: made by `init`; the rules take it in task context only.
        unsafe { bindings::mutex_lock(self.0.get()) };
    }

    unsafe fn unlock(&self, (): ()) {
        // SAFETY: the caller's contract.
        unsafe { bindings::mutex_unlock(self.0.get()) };
    }
}

// SAFETY: a lock is there to be shared.
unsafe impl Sync for Mutex {}
// SAFETY: owned by no thread while unlocked; the rules do not move it (`RawLock::init`).
unsafe impl Send for Mutex {}
