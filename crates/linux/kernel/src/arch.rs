// SPDX-License-Identifier: GPL-2.0 OR MIT
//! What a callback asks of the processor: who runs, in which context, called from where.
//!
//! Everything here is inlined into the callbacks. User memory may be open around them, and
//! `objtool` then allows no further call.

#[cfg(CONFIG_ARM64)]
use crate::arm64 as place;
#[cfg(CONFIG_UML)]
use crate::release as place;
#[cfg(all(CONFIG_X86_64, not(CONFIG_UML)))]
use crate::x86 as place;
use kernel::bindings;
pub(crate) use place::current;
use place::preempt_count;

/// Serving a softirq.
const SOFTIRQ: u32 = bindings::RKCOV_SOFTIRQ_OFFSET as u32;
/// The fields of the preempt count that tell contexts apart: NMI, hardirq, and the bit for serving
/// a softirq.
const CONTEXT_MASK: u32 = bindings::RKCOV_INTERRUPT_MASK as u32 | SOFTIRQ;

/// Where the caller runs, seen from the preempt count.
#[derive(Clone, Copy)]
pub(crate) struct Contexts(u32);

impl Contexts {
    /// On a task's own behalf.
    #[inline(always)]
    pub(crate) fn is_task(self) -> bool {
        self.0 == 0
    }

    /// In a softirq, and in no interrupt on top of it.
    #[inline(always)]
    pub(crate) fn is_softirq(self) -> bool {
        self.0 == SOFTIRQ
    }
}

/// Where the caller runs.
#[inline(always)]
pub(crate) fn contexts() -> Contexts {
    #[cfg(not(CONFIG_PREEMPT_RT))]
    return Contexts(preempt_count() & CONTEXT_MASK);
    // There the preempt count does not say whether a softirq is served; the task does.
    #[cfg(CONFIG_PREEMPT_RT)]
    {
        let disabled = current()
            .wrapping_add(bindings::RKCOV_SOFTIRQ_DISABLE_CNT)
            .cast::<u32>();
        // SAFETY: a field of the current task, which only that task writes.
        let softirq = unsafe { disabled.read_volatile() } & SOFTIRQ;
        return Contexts(preempt_count() & CONTEXT_MASK & !SOFTIRQ | softirq);
    }
}

extern "C" {
    #[link_name = "llvm.returnaddress"]
    fn return_address(level: i32) -> *const u8;
    #[cfg(CONFIG_RANDOMIZE_BASE)]
    static _text: u8;
}

/// The return address of the function that this is inlined into, as if the kernel had been loaded
/// where it was linked for: the same in every boot.
#[inline(always)]
pub(crate) fn caller_pc() -> u64 {
    // SAFETY: level 0 is this very function, which has a caller.
    let pc = unsafe { return_address(0) } as u64;
    #[cfg(CONFIG_RANDOMIZE_BASE)]
    {
        let moved_by = core::ptr::addr_of!(_text) as u64;
        return pc.wrapping_sub(moved_by.wrapping_sub(bindings::RKCOV_LINKED_AT as u64));
    }
    #[cfg(not(CONFIG_RANDOMIZE_BASE))]
    pc
}
