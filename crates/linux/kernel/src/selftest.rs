// SPDX-License-Identifier: GPL-2.0 OR MIT
//! A test at boot: an interrupt must not record into the task that it came upon.

use crate::rules::hot::Mode;
use crate::rules::sync::Ordering;
use crate::shim;
use crate::task::CurrentTask;
use core::ptr::addr_of;
use kernel::bindings;
use kernel::prelude::*;

/// Sets the mode, but no area: whatever is recorded faults. Timer interrupts come meanwhile.
pub(crate) fn run() {
    pr_info!("running self test\n");
    let task = CurrentTask::get();
    let jiffies = || {
        // SAFETY: a counter that the timer interrupt advances.
        unsafe { addr_of!(bindings::jiffies).read_volatile() }
    };
    let start = jiffies();
    let ticks = kernel::time::msecs_to_jiffies(300);
    // Another task may run instead of this one; what the scheduler runs for that is no interrupt.
    // SAFETY: enabled again below.
    unsafe { shim::rkcov_preempt_disable() };
    task.hot().mode.store(Mode::Pc as u32, Ordering::Relaxed);
    while jiffies().wrapping_sub(start) < ticks {}
    task.hot().mode.store(Mode::Off as u32, Ordering::Relaxed);
    // SAFETY: disabled above.
    unsafe { shim::rkcov_preempt_enable() };
    pr_info!("done running self test\n");
}
