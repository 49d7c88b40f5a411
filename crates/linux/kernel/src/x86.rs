// SPDX-License-Identifier: GPL-2.0 OR MIT
//! The current task and the preempt count on x86-64: per-CPU variables, read in one instruction each.

use crate::release::per_cpu;
use core::arch::asm;

/// Where the variables of this processor begin.
#[cfg(CONFIG_SMP)]
macro_rules! segment {
    () => {
        "gs:"
    };
}
#[cfg(not(CONFIG_SMP))]
macro_rules! segment {
    () => {
        ""
    };
}

/// An operand of assembly: one of this processor's variables.
macro_rules! this_cpu {
    ($variable:tt) => {
        concat!(segment!(), "[rip + ", per_cpu!($variable), "]")
    };
}

/// The current task's `task_struct`.
#[inline(always)]
pub(crate) fn current() -> *mut u8 {
    let task;
    // SAFETY: reads the variable that holds the current task. For code that a task runs it never
    // changes: the scheduler switches the variable and the stack together.
    unsafe {
        asm!(concat!("mov {}, ", this_cpu!(current_task)), out(reg) task,
            options(pure, nomem, nostack, preserves_flags));
    }
    task
}

/// The preempt count, or its low half if it has 64 bits: there are all fields of contexts.
#[inline(always)]
pub(crate) fn preempt_count() -> u32 {
    let count;
    // SAFETY: reads the variable that holds the preempt count.
    unsafe {
        asm!(concat!("mov {:e}, ", this_cpu!(preempt_count)), out(reg) count,
            options(readonly, nostack, preserves_flags));
    }
    count
}
