// SPDX-License-Identifier: GPL-2.0 OR MIT
//! What the callbacks read of a task on every call.

use crate::rules::sync::{interrupt_fence, AtomicPtr, AtomicU32, Ordering, Word};
use core::ptr;

/// What a task records now: the value of the mode word, without its flags.
///
/// `Off`, `Pc` and `Cmp` have the numbers that Linux gives them in `enum kcov_mode`, since the
/// scheduler's header sets a flag in the same word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Mode {
    /// Nothing.
    Off = 0,
    /// Every PC.
    Pc = 2,
    /// Comparisons.
    Cmp = 3,
    /// Each PC once.
    Unique = 4,
}

/// The bits of the mode word that hold the [`Mode`] and [`SOFTIRQ`]; the others belong to the
/// host (`KCOV_IN_CTXSW` in Linux) and survive every change of mode.
pub const MODE_BITS: u32 = 0x0000_ffff;

/// Set in the mode word while what records is a section of a softirq. A callback that compares
/// the whole word with a [`Mode`] thereby leaves such a section alone unless it looks for it.
pub const SOFTIRQ: u32 = 0x0000_8000;

/// The fields of a task that the callbacks read, 16 bytes.
///
/// In Linux they lie over `kcov_mode`, `kcov_size` and `kcov_area` of `task_struct`. Only the task
/// itself, and what interrupts it, reads or writes them; the atomics are there for interrupts and
/// signals.
#[derive(Debug)]
#[repr(C)]
pub struct Hot {
    /// A [`Mode`] in [`MODE_BITS`], and flags.
    pub mode: AtomicU32,
    /// Records (not words) that fit behind the count word.
    pub limit: AtomicU32,
    /// The count word; records follow, and in unique mode the bitmap stands right before it.
    pub area: AtomicPtr<Word>,
}

impl Hot {
    /// A task that records nothing.
    #[cfg(not(loom))]
    #[must_use]
    pub const fn new() -> Self {
        Self {
            mode: AtomicU32::new(Mode::Off as u32),
            limit: AtomicU32::new(0),
            area: AtomicPtr::new(ptr::null_mut()),
        }
    }

    /// A task that records nothing.
    #[cfg(loom)]
    #[must_use]
    pub fn new() -> Self {
        Self {
            mode: AtomicU32::new(Mode::Off as u32),
            limit: AtomicU32::new(0),
            area: AtomicPtr::new(ptr::null_mut()),
        }
    }

    /// Stops recording. An interrupt sees either the old state whole or [`Mode::Off`].
    pub fn stop(&self) {
        self.set_mode_bits(Mode::Off as u32);
        interrupt_fence();
        self.limit.store(0, Ordering::Relaxed);
        self.area.store(ptr::null_mut(), Ordering::Relaxed);
    }

    /// Starts recording `mode_bits` (a [`Mode`], and perhaps [`SOFTIRQ`]) into `area`. The mode is
    /// written last, so that an interrupt never records into half a state.
    ///
    /// # Safety
    /// Until [`Hot::stop`] returns, `area` is a count word with `limit` records of the mode behind it,
    /// and in unique mode the bitmap stands before it: the callbacks write there.
    pub unsafe fn start(&self, mode_bits: u32, area: *mut Word, limit: u32) {
        self.stop();
        self.limit.store(limit, Ordering::Relaxed);
        self.area.store(area, Ordering::Relaxed);
        interrupt_fence();
        self.set_mode_bits(mode_bits);
    }

    fn set_mode_bits(&self, bits: u32) {
        let flags = self.mode.load(Ordering::Relaxed) & !MODE_BITS;
        self.mode.store(flags | bits, Ordering::Relaxed);
    }
}

impl Default for Hot {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use core::mem::{offset_of, size_of};

    #[test]
    fn lies_over_the_fields_of_task_struct() {
        assert_eq!(offset_of!(Hot, mode), 0);
        assert_eq!(offset_of!(Hot, limit), 4);
        assert_eq!(offset_of!(Hot, area), 8);
        assert_eq!(size_of::<Hot>(), 16);
    }

    #[test]
    fn flags_of_the_host_survive() {
        let hot = Hot::new();
        let word = Word::new(0);
        hot.mode.store(1 << 30, Ordering::Relaxed);
        let at = core::ptr::from_ref(&word).cast_mut();
        // SAFETY: no callback runs before it is stopped.
        unsafe { hot.start(Mode::Cmp as u32 | SOFTIRQ, at, 5) };
        assert_eq!(hot.mode.load(Ordering::Relaxed), 1 << 30 | SOFTIRQ | 3);
        hot.stop();
        assert_eq!(hot.mode.load(Ordering::Relaxed), 1 << 30);
        assert!(hot.area.load(Ordering::Relaxed).is_null());
    }
}
