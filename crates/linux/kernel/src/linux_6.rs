// SPDX-License-Identifier: GPL-2.0 OR MIT
//! What is particular to Linux 6.12.

#[cfg(CONFIG_UML)]
use core::arch::asm;
#[cfg(not(CONFIG_ARM64))]
use kernel::bindings;

/// What `kcov_common_handle()` returns.
pub(crate) type CommonHandle = u64;

/// The handle as the kernel's own type.
pub(crate) fn common_handle(handle: u64) -> CommonHandle {
    handle
}

/// What x86-64 calls its per-CPU variables.
#[cfg(all(CONFIG_X86_64, not(CONFIG_UML)))]
macro_rules! per_cpu {
    (current_task) => {
        "pcpu_hot"
    };
    (preempt_count) => {
        "pcpu_hot + 8"
    };
}
#[cfg(all(CONFIG_X86_64, not(CONFIG_UML)))]
pub(crate) use per_cpu;

// They are where the names above say.
#[cfg(all(CONFIG_X86_64, not(CONFIG_UML)))]
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
pub(crate) fn preempt_count() -> u32 {
    // SAFETY: as in `current`; an interrupt may change it and change it back.
    unsafe { core::ptr::addr_of!((*thread_info()).preempt_count).read_volatile() as u32 }
}
