// SPDX-License-Identifier: GPL-2.0 OR MIT
//! The current task and the preempt count on arm64: `SP_EL0` holds the task, which holds the count.

use core::arch::asm;
use kernel::bindings;

/// The current task's `task_struct`.
#[inline(always)]
pub(crate) fn current() -> *mut u8 {
    let task;
    // SAFETY: reads the register that holds the current task in the kernel. For code that a task runs
    // it never changes: the scheduler switches the register and the stack together.
    unsafe {
        asm!("mrs {}, sp_el0", out(reg) task, options(pure, nomem, nostack, preserves_flags));
    }
    task
}

/// The low half of the preempt count: there are all fields of contexts.
#[inline(always)]
pub(crate) fn preempt_count() -> u32 {
    let count = current().wrapping_add(bindings::RKCOV_PREEMPT_COUNT);
    // SAFETY: a field of the current task; an interrupt may change it and change it back.
    unsafe { count.cast::<u32>().read_volatile() }
}
