// SPDX-License-Identifier: MIT OR Apache-2.0
//! The functions that instrumented code calls.
//!
//! Each has its off path first, which falls through to the return, and starts on a boundary of 32
//! bytes. In trace mode the assembly appends the PC itself, a transcription of
//! [`rkcov_core::append::append_pc`]; in unique mode it returns itself if the PC is known. All
//! else is in `record`, which gets the return address as an argument by a tail jump.

#[cfg(target_arch = "aarch64")]
mod aarch64;
#[cfg(test)]
mod tests;
#[cfg(target_arch = "x86_64")]
mod x86_64;

use crate::tls::{COPIES, UNATTACHED};
use rkcov_core::hot::Mode;

/// The bits that make a comparison's callback leave its off path: it is the one mode with bit 0.
pub(crate) const COMPARES: u32 = UNATTACHED | COPIES | 1;

const _: () = assert!(
    Mode::Cmp as u32 & 1 == 1
        && (Mode::Off as u32 | Mode::Pc as u32 | Mode::Unique as u32) & 1 == 0
);

extern "C" {
    /// Called by a check whose byte is 0: on x86-64 by its cold part, at whose return address the jump
    /// back stands.
    pub fn __rkcov_hit();
}

#[cfg(target_arch = "x86_64")]
extern "C" {
    /// `__sanitizer_cov_trace_pc_guard()` in objects in which most calls of it were made stores.
    pub fn __sanitizer_cov_trace_pc_store(guard: *mut u32);
    /// `__sanitizer_cov_trace_pc_guard_init()` in such objects.
    pub fn __sanitizer_cov_trace_pc_store_init(start: *mut u32, stop: *mut u32);
}

extern "C" {
    /// Called at every edge of the control flow.
    pub fn __sanitizer_cov_trace_pc();
    /// Called at every edge, with the edge's guard.
    pub fn __sanitizer_cov_trace_pc_guard(guard: *mut u32);
    /// Called once for each module, with the bounds of its guards.
    pub fn __sanitizer_cov_trace_pc_guard_init(start: *mut u32, stop: *mut u32);
    /// Called before an indirect call; the interface has no record for it.
    pub fn __sanitizer_cov_trace_pc_indir(callee: usize);
    /// Called before a comparison of two variables of one byte.
    pub fn __sanitizer_cov_trace_cmp1(arg1: u8, arg2: u8);
    /// Called before a comparison of two variables of two bytes.
    pub fn __sanitizer_cov_trace_cmp2(arg1: u16, arg2: u16);
    /// Called before a comparison of two variables of four bytes.
    pub fn __sanitizer_cov_trace_cmp4(arg1: u32, arg2: u32);
    /// Called before a comparison of two variables of eight bytes.
    pub fn __sanitizer_cov_trace_cmp8(arg1: u64, arg2: u64);
    /// Called before a comparison of a constant with a variable of one byte.
    pub fn __sanitizer_cov_trace_const_cmp1(arg1: u8, arg2: u8);
    /// Called before a comparison of a constant with a variable of two bytes.
    pub fn __sanitizer_cov_trace_const_cmp2(arg1: u16, arg2: u16);
    /// Called before a comparison of a constant with a variable of four bytes.
    pub fn __sanitizer_cov_trace_const_cmp4(arg1: u32, arg2: u32);
    /// Called before a comparison of a constant with a variable of eight bytes.
    pub fn __sanitizer_cov_trace_const_cmp8(arg1: u64, arg2: u64);
    /// Called before a comparison of two floats (gcc).
    pub fn __sanitizer_cov_trace_cmpf(arg1: f32, arg2: f32);
    /// Called before a comparison of two doubles (gcc).
    pub fn __sanitizer_cov_trace_cmpd(arg1: f64, arg2: f64);
    /// Called before a switch. `cases` holds the number of cases, their size in bits, and their
    /// values.
    pub fn __sanitizer_cov_trace_switch(value: u64, cases: *const u64);
}
