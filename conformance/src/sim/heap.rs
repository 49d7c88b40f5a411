// SPDX-License-Identifier: MIT OR Apache-2.0
//! Memory that watches its users: guards around every block, nothing given out twice, and what was
//! freed must stay as it was left.

use std::alloc::{alloc_zeroed, dealloc, handle_alloc_error, Layout};
use std::collections::BTreeMap;
use std::ptr::NonNull;

/// Bytes before and behind each block.
const GUARD: usize = 64;
const GUARD_BYTE: u8 = 0xa5;
const FREED_BYTE: u8 = 0xdd;
/// Blocks beyond this size are given back when they are freed, and no longer watched.
const LARGE: usize = 1 << 20;

#[derive(Debug)]
struct Block {
    layout: Layout,
    freed: bool,
}

impl Block {
    fn whole(&self) -> Layout {
        let size = self.layout.size() + 2 * GUARD;
        Layout::from_size_align(size, GUARD.max(self.layout.align())).expect("a small block")
    }
}

/// All memory that a kcov got, the freed blocks too (but for large ones).
#[derive(Debug, Default)]
pub(super) struct Heap {
    blocks: BTreeMap<usize, Block>,
    /// The allocation that is to fail, counted down.
    fail: Option<u32>,
    failed: bool,
    /// Allocations that were asked for, failed ones too.
    asked: u64,
}

// SAFETY: plain memory that this value owns.
unsafe impl Send for Heap {}

impl Heap {
    /// The `nth` allocation from now on fails, counted from 1; or none does.
    pub(super) fn fail(&mut self, nth: Option<u32>) {
        self.fail = nth;
        if nth.is_some() {
            self.failed = false;
        }
    }

    /// Whether the allocation that was to fail did.
    pub(super) fn failed(&self) -> bool {
        self.failed
    }

    /// How many allocations were asked for.
    pub(super) fn asked(&self) -> u64 {
        self.asked
    }

    /// Counts an allocation; `true` if it is the one that fails.
    pub(super) fn fails(&mut self) -> bool {
        self.asked += 1;
        match &mut self.fail {
            Some(1) => {
                self.fail = None;
                self.failed = true;
                true
            }
            Some(n) => {
                *n = n.saturating_sub(1);
                false
            }
            None => false,
        }
    }

    /// A zeroed block, between guards.
    pub(super) fn alloc(&mut self, layout: Layout) -> NonNull<u8> {
        assert!(layout.align() <= GUARD, "{layout:?}");
        let block = Block {
            layout,
            freed: false,
        };
        let whole = block.whole();
        // SAFETY: the layout has the guards' size at least.
        let start = unsafe { alloc_zeroed(whole) };
        let Some(start) = NonNull::new(start) else {
            handle_alloc_error(whole)
        };
        // SAFETY: all of it lies in the new block.
        let user = unsafe {
            let user = start.add(GUARD);
            start.write_bytes(GUARD_BYTE, GUARD);
            user.add(layout.size()).write_bytes(GUARD_BYTE, GUARD);
            user
        };
        self.blocks.insert(user.as_ptr() as usize, block);
        user
    }

    /// Takes a block back.
    pub(super) fn free(&mut self, user: NonNull<u8>, layout: Layout) {
        let block = self.blocks.get_mut(&(user.as_ptr() as usize));
        let block = block.expect("freed a block that was never given out");
        assert!(!block.freed, "freed twice: {layout:?}");
        assert_eq!(block.layout, layout, "freed with another layout");
        if layout.size() > LARGE {
            let whole = block.whole();
            self.blocks.remove(&(user.as_ptr() as usize));
            // SAFETY: from `alloc` with this layout, and nobody uses it any more.
            unsafe { dealloc(user.as_ptr().sub(GUARD), whole) };
            return;
        }
        block.freed = true;
        // SAFETY: the block is ours again.
        unsafe { user.write_bytes(FREED_BYTE, layout.size()) };
    }

    /// Whether there is a living block at this address.
    pub(super) fn lives(&self, address: usize) -> bool {
        self.blocks.get(&address).is_some_and(|b| !b.freed)
    }

    /// The layouts of all living blocks.
    pub(super) fn living(&self) -> impl Iterator<Item = Layout> + '_ {
        self.blocks.values().filter(|b| !b.freed).map(|b| b.layout)
    }

    /// Looks at every guard and every freed block.
    pub(super) fn check(&self) -> Result<(), String> {
        for (&address, block) in &self.blocks {
            let size = block.layout.size();
            // SAFETY: a block of ours, guards included, which lives until `self` is dropped.
            let bytes = unsafe {
                std::slice::from_raw_parts((address - GUARD) as *const u8, size + 2 * GUARD)
            };
            let (before, rest) = bytes.split_at(GUARD);
            let (user, behind) = rest.split_at(size);
            let whole = |bytes: &[u8], byte| bytes.iter().all(|&b| b == byte);
            if !whole(before, GUARD_BYTE) || !whole(behind, GUARD_BYTE) {
                return Err(format!("written outside a block of {:?}", block.layout));
            }
            if block.freed && !whole(user, FREED_BYTE) {
                return Err(format!("written to after free: {:?}", block.layout));
            }
        }
        Ok(())
    }
}

impl Drop for Heap {
    fn drop(&mut self) {
        for (&address, block) in &self.blocks {
            // SAFETY: from `alloc` with this layout, and nobody can ask this heap any more.
            unsafe { dealloc((address - GUARD) as *mut u8, block.whole()) };
        }
    }
}
