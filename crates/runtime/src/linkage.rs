// SPDX-License-Identifier: MIT OR Apache-2.0
//! What differs between a program with a dynamic linker and a static one.
//!
//! The object file has both, and the names `rkcov_pin` and `__real_pthread_create` are bound when
//! it is prelinked: to the functions below for dynamic programs; for static ones to
//! [`rkcov_pin_static`] and to what `-Wl,--wrap=pthread_create` supplies.

use core::ffi::{c_char, CStr};

/// Keeps the module of this name, which is loaded, from being unloaded.
///
/// # Safety
/// `name` is null or a C string.
#[cfg_attr(rkcov_object, no_mangle)]
pub unsafe extern "C" fn rkcov_pin_dynamic(name: *const c_char) {
    // SAFETY: the caller's contract.
    let is_executable = name.is_null() || unsafe { CStr::from_ptr(name) }.is_empty();
    if is_executable {
        return;
    }
    let flags = libc::RTLD_LAZY | libc::RTLD_NOLOAD | libc::RTLD_NODELETE;
    // SAFETY: loads nothing; the flag stays with the module.
    let handle = unsafe { libc::dlopen(name, flags) };
    if !handle.is_null() {
        // SAFETY: `dlopen()` has just returned it.
        unsafe { libc::dlclose(handle) };
    }
}

/// A static program unloads nothing.
#[cfg_attr(rkcov_object, no_mangle)]
pub extern "C" fn rkcov_pin_static(_name: *const c_char) {}

#[cfg(rkcov_object)]
extern "C" {
    fn rkcov_pin(name: *const c_char);
}
#[cfg(not(rkcov_object))]
use rkcov_pin_dynamic as rkcov_pin;

/// Keeps the module of this name from being unloaded.
pub(crate) fn pin(name: *const c_char) {
    // SAFETY: the name that the dynamic linker gave us.
    unsafe { rkcov_pin(name) };
}
