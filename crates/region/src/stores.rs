// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sites that are recorded by a store: where their bytes lie in a slot.
//!
//! A store writes 1 into the byte of its guard, in the map of its thread. For each process and each
//! module with stores there is an entry here; the first
//! [`Geometry::STORES_BYTES`](crate::Geometry::STORES_BYTES) of a slot hold the bytes of all guards, in
//! whole pages, at the same offset in each slot of the process.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Entries of the table.
pub const STORES: usize = 1 << 18;
/// Bytes of one guard.
pub const GUARD: u64 = 4;
/// Which byte of a guard says that its store had run when the context of the slot ended. The first byte is
/// the store's own.
pub const STORED_BEFORE: usize = 2;

/// The guards of one module in one process.
#[derive(Debug)]
#[repr(C)]
pub struct Stores {
    pub(crate) ready: AtomicU32,
    pub(crate) process: AtomicU32,
    pub(crate) start: AtomicU64,
    pub(crate) len: AtomicU64,
    pub(crate) offset: AtomicU64,
}

/// What an entry says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Guards {
    /// Index of the process.
    pub process: u32,
    /// The address of the first guard.
    pub start: u64,
    /// Bytes of all guards.
    pub len: u64,
    /// Where the byte of the first guard is in a slot.
    pub offset: u64,
}

impl Stores {
    /// Publishes an entry that was taken.
    pub fn set(&self, guards: &Guards) {
        self.process.store(guards.process, Ordering::Relaxed);
        self.start.store(guards.start, Ordering::Relaxed);
        self.len.store(guards.len, Ordering::Relaxed);
        self.offset.store(guards.offset, Ordering::Relaxed);
        self.ready.store(1, Ordering::Release);
    }

    /// What it says, if it was published.
    #[must_use]
    pub fn get(&self) -> Option<Guards> {
        (self.ready.load(Ordering::Acquire) != 0).then(|| Guards {
            process: self.process.load(Ordering::Relaxed),
            start: self.start.load(Ordering::Relaxed),
            len: self.len.load(Ordering::Relaxed),
            offset: self.offset.load(Ordering::Relaxed),
        })
    }
}
