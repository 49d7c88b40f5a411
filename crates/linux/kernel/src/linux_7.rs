// SPDX-License-Identifier: GPL-2.0 OR MIT
//! What is particular to Linux 7.

use kernel::bindings;

/// What `kcov_common_handle()` returns.
pub(crate) type CommonHandle = bindings::kcov_common_handle_id;

/// The handle as the kernel's own type.
pub(crate) fn common_handle(val: u64) -> CommonHandle {
    bindings::kcov_common_handle_id { val }
}

/// What x86-64 calls its per-CPU variables.
#[cfg(all(CONFIG_X86_64, not(CONFIG_UML)))]
macro_rules! per_cpu {
    (current_task) => {
        "current_task"
    };
    (preempt_count) => {
        "__preempt_count"
    };
}
#[cfg(all(CONFIG_X86_64, not(CONFIG_UML)))]
pub(crate) use per_cpu;

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
