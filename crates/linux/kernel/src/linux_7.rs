// SPDX-License-Identifier: GPL-2.0 OR MIT
//! What is particular to Linux 7.

#[cfg(not(CONFIG_UML))]
use core::arch::asm;
use kernel::bindings;

/// What `kcov_common_handle()` returns.
pub(crate) type CommonHandle = bindings::kcov_common_handle_id;

/// The handle as the kernel's own type.
pub(crate) fn common_handle(val: u64) -> CommonHandle {
    bindings::kcov_common_handle_id { val }
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
        asm!("mov {}, gs:[rip + current_task]", out(reg) task,
            options(pure, nomem, nostack, preserves_flags));
        #[cfg(not(CONFIG_SMP))]
        asm!("mov {}, [rip + current_task]", out(reg) task,
            options(pure, nomem, nostack, preserves_flags));
    }
    task
}

/// The low half of the preempt count, which has all fields of contexts.
#[cfg(not(CONFIG_UML))]
#[inline(always)]
pub(crate) fn preempt_count() -> u32 {
    let count;
    // SAFETY: reads the per-CPU variable that holds the preempt count.
    unsafe {
        #[cfg(CONFIG_SMP)]
        asm!("mov {:e}, gs:[rip + __preempt_count]", out(reg) count,
            options(readonly, nostack, preserves_flags));
        #[cfg(not(CONFIG_SMP))]
        asm!("mov {:e}, [rip + __preempt_count]", out(reg) count,
            options(readonly, nostack, preserves_flags));
    }
    count
}

#[cfg(CONFIG_UML)]
extern "C" {
    static cpu_tasks: [*mut u8; 1];
}

/// The current task's `task_struct`: User Mode Linux has one processor here.
#[cfg(CONFIG_UML)]
#[inline(always)]
pub(crate) fn current() -> *mut u8 {
    // SAFETY: a variable of the kernel that only the scheduler writes.
    unsafe { core::ptr::addr_of!(cpu_tasks).cast::<*mut u8>().read_volatile() }
}

#[cfg(CONFIG_UML)]
#[inline(always)]
pub(crate) fn preempt_count() -> u32 {
    let count = current().wrapping_add(bindings::RKCOV_PREEMPT_COUNT);
    // SAFETY: a field of the current task; an interrupt may change it and change it back.
    unsafe { count.cast::<u32>().read_volatile() }
}
