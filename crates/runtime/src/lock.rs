// SPDX-License-Identifier: MIT OR Apache-2.0
//! The one lock of the process: over the table of modules and the registration of processes.
//!
//! Whoever holds it has all signals blocked, so a signal handler never waits for its own thread.
//! It is held for short, never while calling the dynamic linker, and across `fork()`, so that a
//! child never finds it held by a thread that it does not have.

use crate::sys;
use core::sync::atomic::{AtomicBool, Ordering};

static HELD: AtomicBool = AtomicBool::new(false);

/// The lock is held until this is dropped.
pub(crate) struct Held {
    _signals: sys::SignalsBlocked,
}

pub(crate) fn take() -> Held {
    let signals = sys::SignalsBlocked::new();
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
