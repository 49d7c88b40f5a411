// SPDX-License-Identifier: GPL-2.0 OR MIT
//! kcov's fields of `task_struct`.

use crate::arch;
use crate::host::Linux;
use crate::rules::hot::Hot;
use crate::rules::task::Task;
use core::marker::PhantomData;
use core::mem::{align_of, offset_of, size_of};
use core::ptr;
use kernel::bindings;

/// `kcov_mode`, `kcov_size` and `kcov_area`, from the start of `task_struct`.
const HOT: usize = bindings::RKCOV_HOT;
/// `rkcov_task`, likewise.
const COLD: usize = bindings::RKCOV_TASK;

// The three fields follow each other as `Hot` has them, and `rkcov_task` has room.
const _: () = {
    assert!(bindings::RKCOV_HOT_LIMIT == HOT + offset_of!(Hot, limit));
    assert!(bindings::RKCOV_HOT_AREA == HOT + offset_of!(Hot, area));
    assert!(HOT % align_of::<Hot>() == 0);
    assert!(COLD % align_of::<Task<Linux>>() == 0);
    assert!(size_of::<Task<Linux>>() <= bindings::RKCOV_TASK_SIZE);
};

/// The task that runs, or that was interrupted.
pub(crate) struct CurrentTask {
    task: *const u8,
    /// Not to be handed to another task.
    not_send: PhantomData<*const ()>,
}

impl CurrentTask {
    /// The task that runs.
    #[inline(always)]
    pub(crate) fn get() -> Self {
        Self {
            task: arch::current(),
            not_send: PhantomData,
        }
    }

    /// What the callbacks read.
    #[inline(always)]
    pub(crate) fn hot(&self) -> &Hot {
        // SAFETY: the current task outlives the code that it runs, and the fields are as asserted.
        unsafe { &*self.task.wrapping_add(HOT).cast() }
    }

    /// All the rest.
    #[inline(always)]
    pub(crate) fn rules(&self) -> &Task<Linux> {
        // SAFETY: as for `hot`. Zeroed memory, which the first task of a processor has, is a task
        // that collects nothing, and every other one went through `kcov_task_init`.
        unsafe { &*self.task.wrapping_add(COLD).cast() }
    }
}

/// The rules' state of a task that does not run yet.
///
/// # Safety
/// `task` is a `task_struct` that nobody else uses for as long as the reference lives.
pub(crate) unsafe fn unborn<'t>(task: *mut bindings::task_struct) -> &'t Task<Linux> {
    // SAFETY: the caller's contract, and the fields are as asserted.
    unsafe { &*task.cast::<u8>().wrapping_add(COLD).cast() }
}

/// The fields that the callbacks read, of the task whose other state this is.
pub(crate) fn hot_of(task: &Task<Linux>) -> &Hot {
    let start = ptr::from_ref(task).cast::<u8>().wrapping_sub(COLD);
    // SAFETY: a `Task<Linux>` only ever stands in a `task_struct`, at this place.
    unsafe { &*start.wrapping_add(HOT).cast() }
}
