// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Counters of losses.
//!
//! Linux 6.12 loses all of this silently. If all counters are zero, a client knows that code without
//! records did not run.

use crate::rules::sync::{AtomicU64, Ordering};

/// Drop counters, of one descriptor or of all.
#[derive(Debug)]
#[repr(C)]
pub struct Drops {
    /// Records for which a buffer or an area had no room.
    pub full: AtomicU64,
    /// Records of sections whose descriptor was disabled or enabled again before they stopped.
    pub stale: AtomicU64,
    /// Sections that got no area.
    pub no_area: AtomicU64,
    /// Sections nested deeper than a task has frames for.
    pub deep: AtomicU64,
    /// Of a descriptor: records of the task that collects from itself, for which the buffer had no
    /// room. Only that task adds here, without a lock: sections of an earlier collection may still
    /// add to `full`.
    pub(crate) local: AtomicU64,
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
            local: zero(),
        }
    }

    /// Reads the counters one after another: full, stale, no area, deep.
    #[must_use]
    pub fn read(&self) -> [u64; 4] {
        let [full, stale, no_area, deep, local] = [
            &self.full,
            &self.stale,
            &self.no_area,
            &self.deep,
            &self.local,
        ]
        .map(|n| n.load(Ordering::Relaxed));
        [full.wrapping_add(local), stale, no_area, deep]
    }
}

/// Adds to a counter.
pub(crate) fn add(counter: &AtomicU64, n: u64) {
    if n != 0 {
        counter.fetch_add(n, Ordering::Relaxed);
    }
}
