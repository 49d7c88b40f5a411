// SPDX-License-Identifier: GPL-2.0 OR MIT
//! The atomics that the rules use: the machine's, or loom's when the rules are model-checked.

#[cfg(not(loom))]
pub use core::sync::atomic::{compiler_fence, AtomicPtr, AtomicU32, AtomicU64};
#[cfg(loom)]
pub use loom::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64};

pub use core::sync::atomic::Ordering;

/// One word of a buffer or an area. Clients write to buffers whenever they like, and interrupts
/// and signals come between any two instructions, so every access is atomic; relaxed ones compile
/// to plain moves.
pub type Word = AtomicU64;

/// Keeps the compiler from moving memory accesses across this point, as an interrupt or a signal
/// on this very task would see them. Other processors are not concerned.
#[inline(always)]
pub fn interrupt_fence() {
    #[cfg(not(loom))]
    compiler_fence(Ordering::SeqCst);
}
