// SPDX-License-Identifier: GPL-2.0 OR MIT
//! The atomics and cells that the rules use: the machine's, or loom's when the rules are
//! model-checked.

#[cfg(not(loom))]
pub use core::sync::atomic::{compiler_fence, fence, AtomicPtr, AtomicU32, AtomicU64};
#[cfg(loom)]
pub use loom::sync::atomic::{fence, AtomicPtr, AtomicU32, AtomicU64};

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

/// Adds 1 to `word` and answers what it held, unless that is `limit` or more. With the feature
/// `signals` nothing on this task comes in between.
#[inline(always)]
pub fn add_one_below(word: &Word, limit: u64) -> Option<u64> {
    let n = word.load(Ordering::Relaxed);
    if n >= limit {
        return None;
    }
    #[cfg(not(feature = "signals"))]
    {
        word.store(n.wrapping_add(1), Ordering::Relaxed);
        Some(n)
    }
    #[cfg(feature = "signals")]
    {
        let n = add_one(word);
        if n >= limit {
            // A handler has taken the last place meanwhile.
            word.store(n, Ordering::Relaxed);
            return None;
        }
        Some(n)
    }
}

/// Adds 1 to `word` in one instruction and answers what it held.
#[cfg(feature = "signals")]
#[inline(always)]
fn add_one(word: &Word) -> u64 {
    #[cfg(all(target_arch = "x86_64", not(any(loom, miri))))]
    {
        let mut n = 1_u64;
        // SAFETY: adds to a word that is valid by its reference. Without a lock prefix it is no
        // more atomic for other processors than a load and a store, and cheaper than with one.
        unsafe {
            core::arch::asm!(
                "xadd qword ptr [{word}], {n}",
                word = in(reg) word.as_ptr(),
                n = inout(reg) n,
                options(nostack),
            );
        }
        n
    }
    #[cfg(any(not(target_arch = "x86_64"), loom, miri))]
    return word.fetch_add(1, Ordering::Relaxed);
}

/// Adds 1 to a counter that only one task adds to, and interrupts on top of it.
///
/// In one instruction without a lock prefix, where that is known: other processors only read it.
/// With the feature `signals` a process that was forked by a bare system call may add to the
/// counter of the thread that it was copied from, so it is locked there.
#[inline(always)]
pub fn count_one(counter: &AtomicU64) {
    #[cfg(all(target_arch = "x86_64", not(any(feature = "signals", loom, miri))))]
    // SAFETY: adds to a word that is valid by its reference.
    unsafe {
        core::arch::asm!(
            "inc qword ptr [{counter}]",
            counter = in(reg) counter.as_ptr(),
            options(nostack),
        );
    }
    #[cfg(any(not(target_arch = "x86_64"), feature = "signals", loom, miri))]
    counter.fetch_add(1, Ordering::Relaxed);
}

/// Sets bits of `word`. With the feature `signals` nothing on this task comes in between.
#[inline(always)]
pub fn set_bits(word: &Word, bits: u64) {
    #[cfg(feature = "signals")]
    word.fetch_or(bits, Ordering::Relaxed);
    #[cfg(not(feature = "signals"))]
    word.store(word.load(Ordering::Relaxed) | bits, Ordering::Relaxed);
}

/// A cell whose accesses loom checks for races.
#[derive(Debug)]
pub struct SharedCell<T> {
    #[cfg(not(loom))]
    value: core::cell::UnsafeCell<T>,
    #[cfg(loom)]
    value: loom::cell::UnsafeCell<T>,
}

/// An access to a [`SharedCell`]: under loom, from its making to its end.
pub struct CellAccess<T> {
    #[cfg(not(loom))]
    value: *mut T,
    #[cfg(loom)]
    value: Option<loom::cell::MutPtr<T>>,
}

impl<T> SharedCell<T> {
    /// A cell with this value.
    pub fn new(value: T) -> Self {
        #[cfg(not(loom))]
        let value = core::cell::UnsafeCell::new(value);
        #[cfg(loom)]
        let value = loom::cell::UnsafeCell::new(value);
        Self { value }
    }

    /// Begins an access.
    #[inline(always)]
    pub fn access(&self) -> CellAccess<T> {
        #[cfg(not(loom))]
        let value = self.value.get();
        #[cfg(loom)]
        let value = Some(self.value.get_mut());
        CellAccess { value }
    }
}

impl<T> CellAccess<T> {
    /// The value's place.
    #[inline(always)]
    pub fn get(&self) -> *mut T {
        #[cfg(not(loom))]
        return self.value;
        #[cfg(loom)]
        // SAFETY: only the address is taken; who reads through it answers for that.
        return unsafe { core::ptr::from_mut(self.value.as_ref().unwrap().deref()) };
    }

    /// Ends the access.
    #[inline(always)]
    pub fn end(&mut self) {
        #[cfg(loom)]
        drop(self.value.take());
    }
}
