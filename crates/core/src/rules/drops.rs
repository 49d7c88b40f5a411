// SPDX-License-Identifier: GPL-2.0 OR MIT
//! What could not be delivered, counted.
//!
//! Linux 6.12 loses all of this silently. A client that sees zeros here knows that its silence
//! about a piece of code is meant.

use crate::rules::sync::{AtomicU64, Ordering};

/// Drop counters, of one descriptor or of all.
#[derive(Debug)]
#[repr(C)]
pub struct Drops {
    /// Records for which a buffer or an area had no room.
    pub full: AtomicU64,
    /// Records of sections whose descriptor was disabled or enabled anew meanwhile.
    pub stale: AtomicU64,
    /// Sections that got no area.
    pub no_area: AtomicU64,
    /// Sections nested deeper than a task can remember.
    pub deep: AtomicU64,
}

impl Drops {
    /// All zero.
    pub(crate) fn new() -> Self {
        let zero = || AtomicU64::new(0);
        Self {
            full: zero(),
            stale: zero(),
            no_area: zero(),
            deep: zero(),
        }
    }

    /// The counters now: full, stale, no area, deep. Not a snapshot of one moment.
    #[must_use]
    pub fn read(&self) -> [u64; 4] {
        [&self.full, &self.stale, &self.no_area, &self.deep].map(|n| n.load(Ordering::Relaxed))
    }
}

/// Adds to a counter.
pub(crate) fn add(counter: &AtomicU64, n: u64) {
    if n != 0 {
        counter.fetch_add(n, Ordering::Relaxed);
    }
}
