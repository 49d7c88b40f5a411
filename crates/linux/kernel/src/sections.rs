// SPDX-License-Identifier: GPL-2.0 OR MIT
//! What the rest of the kernel calls: annotations around sections, and the lives of tasks.

use crate::host::{kcov, Linux};
use crate::release::{common_handle, CommonHandle};
use crate::rules::sync::Ordering;
use crate::task::{unborn, CurrentTask};
use kernel::bindings;

/// Begins a section. See `include/linux/kcov.h`.
#[no_mangle]
pub(crate) extern "C" fn kcov_remote_start(handle: u64) {
    if let Some(kcov) = kcov() {
        kcov.start(CurrentTask::get().rules(), handle);
    }
}

/// Ends a section.
#[no_mangle]
pub(crate) extern "C" fn kcov_remote_stop() {
    if let Some(kcov) = kcov() {
        kcov.stop(CurrentTask::get().rules());
    }
}

/// The handle to pass on to work that is done on the current task's behalf; 0 for none.
#[no_mangle]
pub(crate) extern "C" fn kcov_common_handle() -> CommonHandle {
    common_handle(kcov().map_or(0, |kcov| kcov.common_handle(CurrentTask::get().rules())))
}

/// A task is being made, so far a copy of the current one.
///
/// # Safety
/// `task` is a copy of the current task's `task_struct` that nobody else uses yet.
#[no_mangle]
pub(crate) unsafe extern "C" fn kcov_task_init(task: *mut bindings::task_struct) {
    let common = CurrentTask::get().rules().common(&Linux);
    // SAFETY: the caller's contract.
    unsafe { unborn(task) }.begin(&Linux, common);
}

/// The current task, which is `task`, ends.
#[no_mangle]
pub(crate) extern "C" fn kcov_task_exit(_task: *mut bindings::task_struct) {
    if let Some(kcov) = kcov() {
        kcov.exit(CurrentTask::get().rules());
    }
}

/// The scheduler begins to run in the current task. What it does there it does for others: no section has a part in it.
#[no_mangle]
pub(crate) extern "C" fn rkcov_prepare_schedule() {
    let task = CurrentTask::get();
    if task.rules().in_section(&Linux) {
        let mode = &task.hot().mode;
        mode.fetch_or(bindings::KCOV_IN_CTXSW, Ordering::Relaxed);
    }
}

// The signatures are those of the C header.
const _: () = {
    let _: [unsafe extern "C" fn(u64); 2] = [bindings::kcov_remote_start, kcov_remote_start];
    let _: [unsafe extern "C" fn(); 2] = [bindings::kcov_remote_stop, kcov_remote_stop];
    let _: [unsafe extern "C" fn(); 2] = [bindings::rkcov_prepare_schedule, rkcov_prepare_schedule];
    let _: [unsafe extern "C" fn() -> CommonHandle; 2] =
        [bindings::kcov_common_handle, kcov_common_handle];
    let _: [unsafe extern "C" fn(*mut bindings::task_struct); 4] = [
        bindings::kcov_task_init,
        kcov_task_init,
        bindings::kcov_task_exit,
        kcov_task_exit,
    ];
};
