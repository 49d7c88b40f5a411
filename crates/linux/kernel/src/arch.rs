// SPDX-License-Identifier: GPL-2.0 OR MIT
//! What a callback asks of the processor: who runs, in which context, called from where.
//!
//! Everything here is inlined into the callbacks. User memory may be open around them, and
//! `objtool` then allows no further call.

use core::arch::asm;
use kernel::bindings;

/// `PREEMPT_MASK` apart, the fields of the preempt count that tell contexts apart: NMI, hardirq,
/// and the bit for serving a softirq.
const CONTEXT_MASK: u32 = 0x00ff_0100;
/// Serving a softirq.
const SOFTIRQ: u32 = 0x0000_0100;

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

/// The current task's `task_struct`.
#[cfg(not(CONFIG_UML))]
#[inline(always)]
pub(crate) fn current() -> *mut u8 {
    let task;
    // SAFETY: reads the per-CPU variable that holds the current task. For code that a task runs it
    // never changes: the scheduler switches the variable and the stack together.
    unsafe {
        #[cfg(CONFIG_SMP)]
        asm!("mov {}, gs:[rip + pcpu_hot]", out(reg) task,
            options(pure, nomem, nostack, preserves_flags));
        #[cfg(not(CONFIG_SMP))]
        asm!("mov {}, [rip + pcpu_hot]", out(reg) task,
            options(pure, nomem, nostack, preserves_flags));
    }
    task
}

#[cfg(not(CONFIG_UML))]
#[inline(always)]
fn preempt_count() -> u32 {
    let count;
    // SAFETY: reads the per-CPU variable that holds the preempt count, 8 bytes behind the current
    // task (asserted below).
    unsafe {
        #[cfg(CONFIG_SMP)]
        asm!("mov {:e}, gs:[rip + pcpu_hot + 8]", out(reg) count,
            options(readonly, nostack, preserves_flags));
        #[cfg(not(CONFIG_SMP))]
        asm!("mov {:e}, [rip + pcpu_hot + 8]", out(reg) count,
            options(readonly, nostack, preserves_flags));
    }
    count
}

#[cfg(not(CONFIG_UML))]
const _: () = {
    type Hot = bindings::pcpu_hot__bindgen_ty_1__bindgen_ty_1;
    assert!(core::mem::offset_of!(Hot, current_task) == 0);
    assert!(core::mem::offset_of!(Hot, preempt_count) == 8);
};

/// `thread_info` of User Mode Linux: at the bottom of the stack.
#[cfg(CONFIG_UML)]
#[inline(always)]
fn thread_info() -> *mut bindings::thread_info {
    let stack: usize;
    // SAFETY: reads the stack pointer.
    unsafe { asm!("mov {}, rsp", out(reg) stack, options(nomem, nostack, preserves_flags)) };
    (stack & !bindings::RKCOV_THREAD_SIZE.wrapping_sub(1)) as *mut bindings::thread_info
}

/// The current task's `task_struct`.
#[cfg(CONFIG_UML)]
#[inline(always)]
pub(crate) fn current() -> *mut u8 {
    // SAFETY: kernel code runs on a kernel stack, at whose bottom `thread_info` stands.
    unsafe { (*thread_info()).task.cast() }
}

#[cfg(CONFIG_UML)]
#[inline(always)]
fn preempt_count() -> u32 {
    // SAFETY: as in `current`; an interrupt may change it and change it back.
    unsafe { core::ptr::addr_of!((*thread_info()).preempt_count).read_volatile() as u32 }
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
