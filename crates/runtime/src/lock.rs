// SPDX-License-Identifier: MIT OR Apache-2.0
//! The one lock of the process: over the table of modules and the registration of processes.
//!
//! Whoever holds it has all signals blocked, so a signal handler never waits for its own thread.
//! It is held for short, never while calling the dynamic linker, and across `fork()`, so that a
//! child never finds it held by a thread that it does not have.

use crate::sys;
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, Ordering};

static HELD: AtomicBool = AtomicBool::new(false);

/// The lock is held until this is dropped.
#[must_use = "the lock is given back when this is dropped"]
pub(crate) struct Held {
    _signals: Option<sys::SignalsBlocked>,
}

pub(crate) fn take() -> Held {
    held(Some(sys::SignalsBlocked::new()))
}

/// The lock without a system call, for the end of the process: a sandbox may forbid what it has no
/// need of. A handler that interrupts this does not wait for the lock, since the process is in the
/// collector's table (see `run::exiting()`).
pub(crate) fn take_at_exit() -> Held {
    held(None)
}

fn held(signals: Option<sys::SignalsBlocked>) -> Held {
    while HELD
        .compare_exchange_weak(false, true, Ordering::Acquire, Ordering::Relaxed)
        .is_err()
    {
        sys::yield_now();
    }
    Held { _signals: signals }
}

impl Drop for Held {
    fn drop(&mut self) {
        HELD.store(false, Ordering::Release);
    }
}

/// What only the holder of the lock uses.
pub(crate) struct Guarded<T>(UnsafeCell<T>);

// SAFETY: `get()` takes the lock's only proof for as long as the reference lives.
unsafe impl<T: Send> Sync for Guarded<T> {}

impl<T> Guarded<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(UnsafeCell::new(value))
    }

    pub(crate) fn get<'h>(&'static self, _held: &'h mut Held) -> &'h mut T {
        // SAFETY: there is one `Held` at a time, and it is borrowed for as long as the reference.
        unsafe { &mut *self.0.get() }
    }
}
