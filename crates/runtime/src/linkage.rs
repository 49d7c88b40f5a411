// SPDX-License-Identifier: MIT OR Apache-2.0
//! What differs between a program with a dynamic linker and a static one.
//!
//! The object file has both, and the names `rkcov_pin` and `rkcov_create` are bound to one of the
//! functions below when it is prelinked.

use core::ffi::{c_char, c_int, c_void, CStr};
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicPtr, Ordering};

/// Keeps the module of this name, which is loaded, from being unloaded: `always`, or if the
/// program's `dlclose()` is not ours.
///
/// # Safety
/// `name` is null or a C string.
#[cfg_attr(rkcov_object, no_mangle)]
pub unsafe extern "C" fn rkcov_pin_dynamic(name: *const c_char, always: bool) {
    // SAFETY: the caller's contract.
    let is_executable = name.is_null() || unsafe { CStr::from_ptr(name) }.is_empty();
    // SAFETY: a handle and a name for `dlsym()`.
    let close = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"dlclose".as_ptr()) };
    let is_ours = || module_of(close) == module_of(rkcov_pin_dynamic as *const c_void);
    if is_executable || (!always && is_ours()) {
        return;
    }
    let flags = libc::RTLD_LAZY | libc::RTLD_NOLOAD | libc::RTLD_NODELETE;
    // SAFETY: loads nothing; the flag stays with the module.
    let handle = unsafe { libc::dlopen(name, flags) };
    if !handle.is_null() {
        // SAFETY: `dlopen()` has just returned it.
        unsafe { close_it(handle) };
    }
}

/// A static program unloads nothing.
#[cfg_attr(rkcov_object, no_mangle)]
pub extern "C" fn rkcov_pin_static(_name: *const c_char, _always: bool) {}

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
    static NEXT: Next = Next::new(
        c"pthread_create",
        [
            c"___interceptor_pthread_create",
            c"__interceptor_pthread_create",
        ],
    );
    let Some(next) = NEXT.get() else {
        return libc::EAGAIN;
    };
    // SAFETY: these names are of functions of this type.
    let create = unsafe { core::mem::transmute::<NonNull<c_void>, Create>(next) };
    // SAFETY: the caller's contract.
    unsafe { create(thread, attributes, routine, argument) }
}

/// What `posix_spawn()` is.
pub(crate) type Spawn = unsafe extern "C" fn(
    *mut libc::pid_t,
    *const c_char,
    *const libc::posix_spawn_file_actions_t,
    *const libc::posix_spawnattr_t,
    *const *mut c_char,
    *const *mut c_char,
) -> c_int;

/// The `posix_spawn()` behind ours, or the `posix_spawnp()`, which looks for the file in `PATH`.
pub(crate) fn spawn(in_path: bool) -> Option<Spawn> {
    static NEXT: [Next; 2] = [
        Next::new(
            c"posix_spawn",
            [c"___interceptor_posix_spawn", c"__interceptor_posix_spawn"],
        ),
        Next::new(
            c"posix_spawnp",
            [
                c"___interceptor_posix_spawnp",
                c"__interceptor_posix_spawnp",
            ],
        ),
    ];
    let [exactly, wherever] = &NEXT;
    let next = if in_path { wherever } else { exactly }.get()?;
    // SAFETY: these names are of functions of this type.
    Some(unsafe { core::mem::transmute::<NonNull<c_void>, Spawn>(next) })
}

/// The `system()` behind ours.
pub(crate) fn next_system() -> Option<unsafe extern "C" fn(*const c_char) -> c_int> {
    static NEXT: Next = Next::new(
        c"system",
        [c"___interceptor_system", c"__interceptor_system"],
    );
    type System = unsafe extern "C" fn(*const c_char) -> c_int;
    // SAFETY: these names are of functions of this type.
    NEXT.get()
        .map(|next| unsafe { core::mem::transmute::<NonNull<c_void>, System>(next) })
}

/// The `popen()` behind ours.
pub(crate) fn next_popen(
) -> Option<unsafe extern "C" fn(*const c_char, *const c_char) -> *mut libc::FILE> {
    static NEXT: Next = Next::new(c"popen", [c"___interceptor_popen", c"__interceptor_popen"]);
    type Popen = unsafe extern "C" fn(*const c_char, *const c_char) -> *mut libc::FILE;
    // SAFETY: these names are of functions of this type.
    NEXT.get()
        .map(|next| unsafe { core::mem::transmute::<NonNull<c_void>, Popen>(next) })
}

/// The `dlclose()` behind ours.
///
/// # Safety
/// As `dlclose()`.
pub(crate) unsafe fn close_it(handle: *mut c_void) -> c_int {
    static NEXT: Next = Next::new(
        c"dlclose",
        [c"___interceptor_dlclose", c"__interceptor_dlclose"],
    );
    let Some(next) = NEXT.get() else { return -1 };
    type Close = unsafe extern "C" fn(*mut c_void) -> c_int;
    // SAFETY: these names are of functions of this type.
    let close = unsafe { core::mem::transmute::<NonNull<c_void>, Close>(next) };
    // SAFETY: the caller's contract.
    unsafe { close(handle) }
}

/// The `pthread_setname_np()` behind ours.
///
/// # Safety
/// As `pthread_setname_np()`.
pub(crate) unsafe fn set_name(thread: libc::pthread_t, name: *const c_char) -> c_int {
    static NEXT: Next = Next::new(
        c"pthread_setname_np",
        [
            c"___interceptor_pthread_setname_np",
            c"__interceptor_pthread_setname_np",
        ],
    );
    let Some(next) = NEXT.get() else {
        return libc::ENOSYS;
    };
    type SetName = unsafe extern "C" fn(libc::pthread_t, *const c_char) -> c_int;
    // SAFETY: these names are of functions of this type.
    let set_name = unsafe { core::mem::transmute::<NonNull<c_void>, SetName>(next) };
    // SAFETY: the caller's contract.
    unsafe { set_name(thread, name) }
}

#[cfg(rkcov_object)]
core::arch::global_asm!(".weak __real_pthread_setname_np");

/// The `pthread_setname_np()` of a static program that was linked with `--wrap=pthread_setname_np`.
/// Only such a program comes here, but others that have the runtime in them are linked, too.
///
/// # Safety
/// As `pthread_setname_np()`.
#[cfg(rkcov_object)]
pub(crate) unsafe fn set_name_static(thread: libc::pthread_t, name: *const c_char) -> c_int {
    extern "C" {
        fn __real_pthread_setname_np(thread: libc::pthread_t, name: *const c_char) -> c_int;
    }
    // SAFETY: the caller's contract.
    unsafe { __real_pthread_setname_np(thread, name) }
}

/// A function of libc's behind ours: a sanitizer's that is linked into our own module, where ours
/// hides it, or the next one in the order of loading. A sanitizer in another module may be the one
/// that calls us.
struct Next {
    name: &'static CStr,
    hidden: [&'static CStr; 2],
    found: AtomicPtr<c_void>,
}

impl Next {
    const fn new(name: &'static CStr, hidden: [&'static CStr; 2]) -> Self {
        Self {
            name,
            hidden,
            found: AtomicPtr::new(ptr::null_mut()),
        }
    }

    fn get(&self) -> Option<NonNull<c_void>> {
        NonNull::new(self.found.load(Ordering::Relaxed)).or_else(|| {
            let found = self.find();
            self.found.store(found, Ordering::Relaxed);
            NonNull::new(found)
        })
    }

    fn find(&self) -> *mut c_void {
        let ours = module_of(rkcov_create_dynamic as *const c_void);
        for name in self.hidden {
            // SAFETY: a handle and a name for `dlsym()`.
            let found = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
            if !found.is_null() && module_of(found) == ours {
                return found;
            }
        }
        // SAFETY: as above.
        unsafe { libc::dlsym(libc::RTLD_NEXT, self.name.as_ptr()) }
    }
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
    fn rkcov_pin(name: *const c_char, always: bool);
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

/// Keeps the module of this name from being unloaded: `always`, or if we would not learn that it is.
pub(crate) fn pin(name: *const c_char, always: bool) {
    // SAFETY: the name that the dynamic linker gave us.
    unsafe { rkcov_pin(name, always) };
}
