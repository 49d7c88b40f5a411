// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where the runtime begins and ends in a process.

use crate::run;
use core::ffi::{c_char, c_int};

/// Runs before all constructors of an executable.
///
/// # Safety
/// `envp` is null or a null-terminated array of C strings.
#[no_mangle]
pub unsafe extern "C" fn rkcov_start(
    _argc: c_int,
    _argv: *const *const c_char,
    envp: *const *const c_char,
) {
    // SAFETY: the caller's contract.
    unsafe { run::start(envp) };
}

/// Runs when the shared library is loaded, behind libc's own constructors. What a constructor gets
/// for arguments differs between libcs.
#[no_mangle]
pub extern "C" fn rkcov_start_late() {
    extern "C" {
        static environ: *const *const c_char;
    }
    // SAFETY: libc's own environment.
    unsafe { run::start(environ) };
}

/// Runs among the destructors of the process.
#[no_mangle]
pub extern "C" fn rkcov_end() {
    run::exiting();
}

/// There is no panicking path in the object; the build checks that nothing refers to this.
#[cfg(rkcov_object)]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // SAFETY: ends the process.
    unsafe { libc::abort() }
}
