// SPDX-License-Identifier: MIT OR Apache-2.0
//! What differs between a program with a dynamic linker and a static one.
//!
//! The object file has both, and the names `rkcov_pin` and `rkcov_create` are bound to one of the
//! functions below when it is prelinked.

use core::ffi::{c_char, c_int, c_void, CStr};
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicPtr, Ordering};

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

/// What `pthread_create()` takes.
pub(crate) type Routine = unsafe extern "C" fn(*mut c_void) -> *mut c_void;
type Create = unsafe extern "C" fn(
    *mut libc::pthread_t,
    *const libc::pthread_attr_t,
    Routine,
    *mut c_void,
) -> c_int;

/// The `pthread_create()` behind ours.
///
/// # Safety
/// As `pthread_create()`.
#[cfg_attr(rkcov_object, no_mangle)]
pub unsafe extern "C" fn rkcov_create_dynamic(
    thread: *mut libc::pthread_t,
    attributes: *const libc::pthread_attr_t,
    routine: Routine,
    argument: *mut c_void,
) -> c_int {
    static NEXT: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());
    let mut next = NEXT.load(Ordering::Relaxed);
    if next.is_null() {
        next = behind_ours();
        NEXT.store(next, Ordering::Relaxed);
    }
    if next.is_null() {
        return libc::EAGAIN;
    }
    // SAFETY: these names are of functions of this type.
    let create = unsafe { core::mem::transmute::<*mut c_void, Create>(next) };
    // SAFETY: the caller's contract.
    unsafe { create(thread, attributes, routine, argument) }
}

/// A sanitizer's `pthread_create()` that is linked into our own module, where ours hides it, or the
/// next one in the order of loading. A sanitizer in another module may be the one that calls us.
fn behind_ours() -> *mut c_void {
    let hidden = [
        c"___interceptor_pthread_create",
        c"__interceptor_pthread_create",
    ];
    let ours = module_of(rkcov_create_dynamic as *const c_void);
    for name in hidden {
        // SAFETY: a handle and a name for `dlsym()`.
        let found = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
        if !found.is_null() && module_of(found) == ours {
            return found;
        }
    }
    // SAFETY: as above.
    unsafe { libc::dlsym(libc::RTLD_NEXT, c"pthread_create".as_ptr()) }
}

/// Where the module begins that has this address.
fn module_of(address: *const c_void) -> Option<NonNull<c_void>> {
    // SAFETY: all zeros is a value of `Dl_info`, which `dladdr()` fills in.
    let mut info: libc::Dl_info = unsafe { core::mem::zeroed() };
    // SAFETY: takes any address.
    let found = unsafe { libc::dladdr(address, &mut info) } != 0;
    NonNull::new(info.dli_fbase).filter(|_| found)
}

/// The `pthread_create()` of a static program that was linked with `--wrap=pthread_create`.
///
/// # Safety
/// As `pthread_create()`.
#[cfg(rkcov_object)]
#[no_mangle]
pub unsafe extern "C" fn rkcov_create_static(
    thread: *mut libc::pthread_t,
    attributes: *const libc::pthread_attr_t,
    routine: Routine,
    argument: *mut c_void,
) -> c_int {
    extern "C" {
        fn __real_pthread_create(
            thread: *mut libc::pthread_t,
            attributes: *const libc::pthread_attr_t,
            routine: Routine,
            argument: *mut c_void,
        ) -> c_int;
    }
    // SAFETY: the caller's contract.
    unsafe { __real_pthread_create(thread, attributes, routine, argument) }
}

#[cfg(rkcov_object)]
extern "C" {
    fn rkcov_pin(name: *const c_char);
    fn rkcov_create(
        thread: *mut libc::pthread_t,
        attributes: *const libc::pthread_attr_t,
        routine: Routine,
        argument: *mut c_void,
    ) -> c_int;
}
#[cfg(not(rkcov_object))]
use {rkcov_create_dynamic as rkcov_create, rkcov_pin_dynamic as rkcov_pin};

/// `pthread_create()`, without what ours adds.
///
/// # Safety
/// As `pthread_create()`.
pub(crate) unsafe fn create(
    thread: *mut libc::pthread_t,
    attributes: *const libc::pthread_attr_t,
    routine: Routine,
    argument: *mut c_void,
) -> c_int {
    // SAFETY: the caller's contract.
    unsafe { rkcov_create(thread, attributes, routine, argument) }
}

/// Keeps the module of this name from being unloaded.
pub(crate) fn pin(name: *const c_char) {
    // SAFETY: the name that the dynamic linker gave us.
    unsafe { rkcov_pin(name) };
}
