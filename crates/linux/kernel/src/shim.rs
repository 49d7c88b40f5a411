// SPDX-License-Identifier: GPL-2.0 OR MIT
//! The functions of `shim.c`.

use kernel::bindings;
use kernel::ffi::{c_char, c_int, c_uint, c_ulong, c_void};

/// The interrupt state before it was saved.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct IrqFlags(c_ulong);

extern "C" {
    pub(crate) fn rkcov_spin_init(lock: *mut bindings::raw_spinlock_t);
    pub(crate) fn rkcov_spin_lock(lock: *mut bindings::raw_spinlock_t) -> IrqFlags;
    pub(crate) fn rkcov_spin_unlock(lock: *mut bindings::raw_spinlock_t, saved: IrqFlags);
    pub(crate) fn rkcov_mutex_init(lock: *mut bindings::mutex);
    pub(crate) fn rkcov_irq_save() -> IrqFlags;
    pub(crate) fn rkcov_irq_restore(saved: IrqFlags);
    #[cfg(CONFIG_KCOV_SELFTEST)]
    pub(crate) fn rkcov_preempt_disable();
    #[cfg(CONFIG_KCOV_SELFTEST)]
    pub(crate) fn rkcov_preempt_enable();
    pub(crate) fn rkcov_cpu() -> c_uint;
    pub(crate) fn rkcov_cpus() -> c_uint;
    pub(crate) fn rkcov_alloc(bytes: usize) -> *mut c_void;
    pub(crate) fn rkcov_free(block: *mut c_void);
    pub(crate) fn rkcov_buffer(bytes: usize) -> *mut c_void;
    pub(crate) fn rkcov_warn(message: *const c_char);
    pub(crate) fn rkcov_random() -> u64;
    /// `device` is a `struct file_operations`, which no longer passes for a type of C in Linux 7: it
    /// has an empty structure in it.
    pub(crate) fn rkcov_create_files(device: *const c_void, drops: *const c_void) -> c_int;
}
