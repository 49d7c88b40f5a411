// SPDX-License-Identifier: GPL-2.0 OR MIT
//! What instrumented code calls: the hot path.
//!
//! A task that collects nothing costs a load and a compare. The mode word holds flags besides the
//! mode: the scheduler's while it switches tasks, and `SOFTIRQ` while a section of a softirq
//! records. With either it differs from a plain mode, and the first compare fails.

use crate::abi::{CmpType, Comparison};
use crate::arch::{caller_pc, contexts};
use crate::rules::append::{append_cmp, append_pc, Appended};
use crate::rules::hot::{Mode, SOFTIRQ};
use crate::rules::sync::{interrupt_fence, Ordering};
use crate::task::CurrentTask;

/// Whether the caller's code is recorded in this mode.
#[inline(always)]
fn records(task: &CurrentTask, wanted: Mode) -> bool {
    let mode = task.hot().mode.load(Ordering::Relaxed);
    let recorded = if mode == wanted as u32 {
        contexts().is_task()
    } else {
        mode == wanted as u32 | SOFTIRQ && contexts().is_softirq()
    };
    // An interrupt whose entry has not counted itself yet may come from here on; it finds the
    // state as it was set, the mode last (`Hot::start`).
    interrupt_fence();
    recorded
}

/// A basic block or an edge was entered.
#[no_mangle]
pub(crate) extern "C" fn __sanitizer_cov_trace_pc() {
    let task = CurrentTask::get();
    if !records(&task, Mode::Pc) {
        return;
    }
    let hot = task.hot();
    let area = hot.area.load(Ordering::Relaxed);
    let limit = hot.limit.load(Ordering::Relaxed);
    // SAFETY: while the mode is not `Off` the area holds `limit` records (`Hot::start`).
    if unsafe { append_pc(area, limit, caller_pc()) } == Appended::Full {
        // SAFETY: it tried to record, and every sink in a kernel has a counter.
        unsafe { task.rules().count_full() };
    }
}

#[inline(always)]
fn record_comparison(kind: CmpType, arg1: u64, arg2: u64, pc: u64) {
    let task = CurrentTask::get();
    if !records(&task, Mode::Cmp) {
        return;
    }
    let hot = task.hot();
    let area = hot.area.load(Ordering::Relaxed);
    let limit = hot.limit.load(Ordering::Relaxed);
    let record = Comparison {
        kind,
        arg1,
        arg2,
        pc,
    };
    // SAFETY: while the mode is not `Off` the area holds `limit` records (`Hot::start`).
    if unsafe { append_cmp(area, limit, record) } == Appended::Full {
        // SAFETY: it tried to record, and every sink in a kernel has a counter.
        unsafe { task.rules().count_full() };
    }
}

/// One callback for comparisons of integers of this type.
macro_rules! comparison {
    ($name:ident, $int:ty, $log2:expr, $const:expr) => {
        /// Two integers are about to be compared.
        #[no_mangle]
        pub(crate) extern "C" fn $name(arg1: $int, arg2: $int) {
            let kind = CmpType::new($log2, $const);
            record_comparison(kind, u64::from(arg1), u64::from(arg2), caller_pc());
        }
    };
}

comparison!(__sanitizer_cov_trace_cmp1, u8, 0, false);
comparison!(__sanitizer_cov_trace_cmp2, u16, 1, false);
comparison!(__sanitizer_cov_trace_cmp4, u32, 2, false);
comparison!(__sanitizer_cov_trace_cmp8, u64, 3, false);
comparison!(__sanitizer_cov_trace_const_cmp1, u8, 0, true);
comparison!(__sanitizer_cov_trace_const_cmp2, u16, 1, true);
comparison!(__sanitizer_cov_trace_const_cmp4, u32, 2, true);
comparison!(__sanitizer_cov_trace_const_cmp8, u64, 3, true);

/// A value is about to be compared with the cases of a switch.
///
/// # Safety
/// `cases` points to the number of cases, the value's size in bits, and that many cases.
#[no_mangle]
pub(crate) unsafe extern "C" fn __sanitizer_cov_trace_switch(value: u64, cases: *const u64) {
    // SAFETY: the caller's contract.
    let (count, bits) = unsafe { (*cases, *cases.wrapping_add(1)) };
    let Some(kind) = CmpType::of_switch(bits) else {
        return;
    };
    let mut case = cases.wrapping_add(2);
    let mut left = count;
    while left > 0 {
        // SAFETY: one of `count` cases, by the caller's contract.
        record_comparison(kind, unsafe { *case }, value, caller_pc());
        case = case.wrapping_add(1);
        left = left.wrapping_sub(1);
    }
}
