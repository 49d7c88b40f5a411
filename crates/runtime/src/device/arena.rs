// SPDX-License-Identifier: MIT OR Apache-2.0
//! Memory that a family of processes shares: one that opened a kcov, and those it forked since.
//!
//! It is reserved once and lies at one address in the whole family, so what the rules put there may
//! hold pointers. Blocks come in powers of two; free ones of a size form a stack that needs no lock:
//! a process that is killed here costs a block at most.

use crate::sys;
use core::alloc::Layout;
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Bytes of the smallest block, and the unit in which blocks are numbered.
const UNIT: u64 = 64;
/// Sizes of blocks: 64 bytes to 4 GiB.
const CLASSES: usize = 27;
const PAGE: u64 = 4096;
/// Bytes that are reserved, the first that can be had. Only what is touched takes memory.
const RESERVATIONS: [u64; 4] = [1 << 36, 1 << 33, 1 << 30, 1 << 27];

/// The arena's beginning. [`Arena::links`] follows on the next page.
#[repr(C, align(64))]
pub(crate) struct Arena {
    bytes: u64,
    /// Bytes from the beginning that were handed out at some time.
    used: AtomicU64,
    /// Tops of the stacks: block number in the low half, number of changes in the high one, which
    /// tells a block from itself after it was taken and put back.
    free: [AtomicU64; CLASSES],
    /// Bytes in blocks that are handed out now.
    live: AtomicU64,
}

impl Arena {
    /// Reserves an arena, with room for a `T` of the caller's before all blocks.
    pub(crate) fn reserve() -> Option<&'static Self> {
        RESERVATIONS.iter().find_map(|bytes| {
            let at = sys::map_shared_anonymous(*bytes as usize)
                .ok()?
                .cast::<Self>();
            let links = (*bytes / UNIT).wrapping_mul(4);
            let first = PAGE.wrapping_add(links).next_multiple_of(PAGE);
            let arena = Self {
                bytes: *bytes,
                used: AtomicU64::new(first),
                free: [const { AtomicU64::new(0) }; CLASSES],
                live: AtomicU64::new(0),
            };
            // SAFETY: a new mapping, larger than a page.
            unsafe {
                at.write(arena);
                Some(&*at)
            }
        })
    }

    /// Bytes in blocks that are handed out now, rounded up to the blocks' sizes.
    pub(crate) fn live(&self) -> u64 {
        self.live.load(Ordering::Relaxed)
    }

    fn at(&self, offset: u64) -> *mut u8 {
        ptr::from_ref(self)
            .cast_mut()
            .cast::<u8>()
            .wrapping_add(offset as usize)
    }

    /// The block of this number, if it is not 0.
    pub(crate) fn block(&self, number: u32) -> Option<NonNull<u8>> {
        let block = self.at(u64::from(number).wrapping_mul(UNIT));
        NonNull::new(block).filter(|_| number != 0)
    }

    /// The number of the block at this address.
    pub(crate) fn number(&self, address: usize) -> u32 {
        (address.wrapping_sub(ptr::from_ref(self).addr()) as u64 / UNIT) as u32
    }

    /// The class of blocks that this layout takes.
    fn class(layout: Layout) -> Option<usize> {
        let size = layout.size().max(layout.align()).max(UNIT as usize);
        if layout.align() > PAGE as usize {
            return None;
        }
        let class = size.checked_next_power_of_two()?.trailing_zeros();
        let class = class.checked_sub(UNIT.trailing_zeros())? as usize;
        (class < CLASSES).then_some(class)
    }

    /// Where it stands which block is below this one while it is free: in a table of its own, never in
    /// the block. A thread that loses the race for a block reads this word while the winner already
    /// writes to the block itself.
    fn link(&self, number: u64) -> &AtomicU32 {
        let at = PAGE.wrapping_add(number.wrapping_mul(4));
        // SAFETY: within the table, which has a word for each unit of the arena and is used by nothing
        // else; `number` is one of the arena's blocks.
        unsafe { &*self.at(at).cast::<AtomicU32>() }
    }

    /// A zeroed block.
    pub(crate) fn alloc(&self, layout: Layout) -> Option<NonNull<u8>> {
        #[cfg(test)]
        if crate::faults::strikes() {
            return None;
        }
        let class = Self::class(layout)?;
        let size = UNIT << class;
        let block = match self.pop(class) {
            Some(number) => {
                let block = self.at(number.wrapping_mul(UNIT));
                if size <= PAGE {
                    // SAFETY: the block is ours now. Larger ones were given back to the system,
                    // and come zeroed.
                    unsafe { ptr::write_bytes(block, 0, size as usize) };
                }
                block
            }
            None => self.at(self.extend(size)?),
        };
        self.live.fetch_add(size, Ordering::Relaxed);
        NonNull::new(block)
    }

    /// Gives a block back.
    ///
    /// # Safety
    /// `block` is from [`Arena::alloc`] with this layout, and nobody uses it any more.
    pub(crate) unsafe fn free(&self, block: NonNull<u8>, layout: Layout) {
        let Some(class) = Self::class(layout) else {
            return;
        };
        let size = UNIT << class;
        if size > PAGE {
            // SAFETY: the caller's contract: whole pages that nobody uses.
            unsafe { sys::discard(block.as_ptr(), size as usize) };
        }
        self.live.fetch_sub(size, Ordering::Relaxed);
        self.push(class, u64::from(self.number(block.addr().get())));
    }

    fn pop(&self, class: usize) -> Option<u64> {
        let top = self.free.get(class)?;
        let mut old = top.load(Ordering::Acquire);
        loop {
            let number = old & u64::from(u32::MAX);
            if number == 0 {
                return None;
            }
            let below = self.link(number).load(Ordering::Relaxed);
            let new = changed(old) | u64::from(below);
            match top.compare_exchange_weak(old, new, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return Some(number),
                Err(now) => old = now,
            }
        }
    }

    fn push(&self, class: usize, number: u64) {
        let Some(top) = self.free.get(class) else {
            return;
        };
        let mut old = top.load(Ordering::Relaxed);
        loop {
            self.link(number).store(old as u32, Ordering::Relaxed);
            let new = changed(old) | number;
            match top.compare_exchange_weak(old, new, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return,
                Err(now) => old = now,
            }
        }
    }

    /// Bytes that were never handed out.
    fn extend(&self, size: u64) -> Option<u64> {
        let mut old = self.used.load(Ordering::Relaxed);
        loop {
            let start = old.checked_next_multiple_of(size.min(PAGE))?;
            let end = start.checked_add(size).filter(|end| *end <= self.bytes)?;
            match self
                .used
                .compare_exchange_weak(old, end, Ordering::Relaxed, Ordering::Relaxed)
            {
                Ok(_) => return Some(start),
                Err(now) => old = now,
            }
        }
    }
}

/// The high half of the next value of a stack's top, or of another word with a block in its low half.
pub(crate) fn changed(top: u64) -> u64 {
    (top | u64::from(u32::MAX)).wrapping_add(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(bytes: usize) -> Layout {
        Layout::from_size_align(bytes, 8).unwrap()
    }

    #[test]
    fn blocks_are_zeroed_apart_and_reused() {
        let arena = Arena::reserve().unwrap();
        for bytes in [1, 64, 65, 4096, 4097, 1 << 20] {
            let (a, b) = (
                arena.alloc(layout(bytes)).unwrap(),
                arena.alloc(layout(bytes)).unwrap(),
            );
            assert!(a.addr().get().abs_diff(b.addr().get()) >= bytes);
            // SAFETY: blocks of this size, freed with it.
            unsafe {
                ptr::write_bytes(a.as_ptr(), 0xff, bytes);
                assert!(core::slice::from_raw_parts(b.as_ptr(), bytes)
                    .iter()
                    .all(|x| *x == 0));
                arena.free(a, layout(bytes));
                let c = arena.alloc(layout(bytes)).unwrap();
                assert_eq!(c, a, "the block that was free");
                assert!(core::slice::from_raw_parts(c.as_ptr(), bytes)
                    .iter()
                    .all(|x| *x == 0));
                arena.free(c, layout(bytes));
                arena.free(b, layout(bytes));
            }
        }
        assert_eq!(arena.live(), 0);
        assert!(
            arena.alloc(layout(5 << 30)).is_none(),
            "larger than any block"
        );
    }

    #[test]
    fn threads_never_get_the_same_block() {
        let arena = Arena::reserve().unwrap();
        std::thread::scope(|scope| {
            for id in 1..=4_u8 {
                scope.spawn(move || {
                    for _ in 0..20_000 {
                        let blocks = [64, 200].map(|n| (arena.alloc(layout(n)).unwrap(), n));
                        for (block, n) in blocks {
                            // SAFETY: a block of n bytes that is this thread's alone.
                            unsafe { ptr::write_bytes(block.as_ptr(), id, n) };
                        }
                        for (block, n) in blocks {
                            // SAFETY: as above.
                            let bytes = unsafe { core::slice::from_raw_parts(block.as_ptr(), n) };
                            assert!(bytes.iter().all(|b| *b == id));
                            // SAFETY: as above.
                            unsafe { arena.free(block, layout(n)) };
                        }
                    }
                });
            }
        });
        assert_eq!(arena.live(), 0);
    }
}
