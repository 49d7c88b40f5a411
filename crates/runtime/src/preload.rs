// SPDX-License-Identifier: MIT OR Apache-2.0
//! What `librkcov-preload.so` puts before libc's functions: a program that was written for
//! `/sys/kernel/debug/kcov` finds the kcov of its own process there.
//!
//! A kcov of ours is a file of the kernel's, whose copies the kernel counts: `dup()`, `fcntl()`
//! and `fork()` need nothing from us. What opens, uses and closes one does. All else goes on to
//! the next library's function, with errno as it was.
//!
//! The names that begin with `rkcov_preload_` are bound to libc's when the library is linked.

use core::ffi::{c_char, c_int, c_uint, c_ulong, c_void, CStr};
use core::marker::PhantomData;
use core::mem;
use core::ptr;
use core::sync::atomic::{AtomicPtr, Ordering};

/// The path that is ours.
const DEVICE: &CStr = c"/sys/kernel/debug/kcov";

/// What `rkcov_number()` answers for files that are no kcov, and what `rkcov_forget()` takes for
/// any of them.
const NO_NUMBER: u64 = u64::MAX;

/// A function that the dynamic linker knows, of type `F`.
struct Function<F> {
    name: &'static CStr,
    whose: Whose,
    at: AtomicPtr<c_void>,
    of_type: PhantomData<F>,
}

enum Whose {
    /// Of the library that would have been called without us.
    Next,
    /// Of the process's runtime: ours, or that of an executable which has one in it.
    Runtime,
}

impl<F: Copy> Function<F> {
    /// # Safety
    /// `F` is a pointer to functions, and that of this name has this type.
    const unsafe fn new(whose: Whose, name: &'static CStr) -> Self {
        Self {
            name,
            whose,
            at: AtomicPtr::new(ptr::null_mut()),
            of_type: PhantomData,
        }
    }

    fn get(&self) -> Option<F> {
        let mut at = self.at.load(Ordering::Relaxed);
        if at.is_null() {
            let from = match self.whose {
                Whose::Next => libc::RTLD_NEXT,
                Whose::Runtime => libc::RTLD_DEFAULT,
            };
            // SAFETY: a handle and a name for `dlsym()`.
            at = unsafe { libc::dlsym(from, self.name.as_ptr()) };
            self.at.store(at, Ordering::Relaxed);
        }
        // SAFETY: a function of type `F`, see `new()`.
        (!at.is_null()).then(|| unsafe { mem::transmute_copy(&at) })
    }
}

type Open = unsafe extern "C" fn(*const c_char, c_int, ...) -> c_int;
type OpenAt = unsafe extern "C" fn(c_int, *const c_char, c_int, ...) -> c_int;
type OpenFortified = unsafe extern "C" fn(*const c_char, c_int) -> c_int;
type OpenAtFortified = unsafe extern "C" fn(c_int, *const c_char, c_int) -> c_int;
type Ioctl = unsafe extern "C" fn(c_int, c_ulong, ...) -> c_int;
type Mmap = unsafe extern "C" fn(*mut c_void, usize, c_int, c_int, c_int, i64) -> *mut c_void;
type Close = unsafe extern "C" fn(c_int) -> c_int;
type CloseRange = unsafe extern "C" fn(c_uint, c_uint, c_int) -> c_int;
type CloseFrom = unsafe extern "C" fn(c_int);
type Dup2 = unsafe extern "C" fn(c_int, c_int) -> c_int;
type Dup3 = unsafe extern "C" fn(c_int, c_int, c_int) -> c_int;

/// Declares functions of others.
macro_rules! functions {
    ($($id:ident: $type:ty = $whose:ident $name:literal;)*) => {
        $(
            // SAFETY: the function's declared type.
            static $id: Function<$type> = unsafe { Function::new(Whose::$whose, $name) };
        )*
    };
}

functions! {
    OPEN: Open = Next c"open";
    OPENAT: OpenAt = Next c"openat";
    OPEN_FORTIFIED: OpenFortified = Next c"__open_2";
    OPENAT_FORTIFIED: OpenAtFortified = Next c"__openat_2";
    IOCTL: Ioctl = Next c"ioctl";
    MMAP: Mmap = Next c"mmap";
    CLOSE: Close = Next c"close";
    CLOSE_RANGE: CloseRange = Next c"close_range";
    CLOSEFROM: CloseFrom = Next c"closefrom";
    DUP2: Dup2 = Next c"dup2";
    DUP3: Dup3 = Next c"dup3";

    RKCOV_OPEN: extern "C" fn() -> c_int = Runtime c"rkcov_open";
    RKCOV_IOCTL: extern "C" fn(c_int, c_ulong, c_ulong) -> c_int = Runtime c"rkcov_ioctl";
    RKCOV_MMAP: Mmap = Runtime c"rkcov_mmap";
    RKCOV_CLOSE: extern "C" fn(c_int) -> c_int = Runtime c"rkcov_close";
    RKCOV_NUMBER: extern "C" fn(c_int) -> u64 = Runtime c"rkcov_number";
    RKCOV_FORGET: extern "C" fn(u64) = Runtime c"rkcov_forget";
    RKCOV_KEPT: extern "C" fn() -> c_int = Runtime c"rkcov_kept";
}

/// Calls a function of the next library's; ENOSYS if it has none.
macro_rules! next {
    ($function:ident($($argument:expr),*)) => {
        match $function.get() {
            // SAFETY: the arguments are what our caller gave.
            Some(next) => unsafe { next($($argument),*) },
            None => fail(libc::ENOSYS),
        }
    };
}

fn fail(errno: c_int) -> c_int {
    // SAFETY: libc's errno of this thread.
    unsafe { *libc::__errno_location() = errno };
    -1
}

/// What opens a kcov, if `path` is that of the device.
///
/// # Safety
/// `path` is null or a C string.
unsafe fn opener(path: *const c_char) -> Option<extern "C" fn() -> c_int> {
    if path.is_null() {
        return None;
    }
    let is_device = DEVICE.to_bytes_with_nul().iter().enumerate().all(|(i, b)| {
        // SAFETY: no byte before this one was the string's last.
        unsafe { path.wrapping_add(i).cast::<u8>().read() == *b }
    });
    is_device.then(|| RKCOV_OPEN.get()).flatten()
}

/// The number of the kcov that `fd` is, or [`NO_NUMBER`].
fn number(fd: c_int) -> u64 {
    RKCOV_NUMBER.get().map_or(NO_NUMBER, |number| number(fd))
}

fn is_kcov(fd: c_int) -> bool {
    number(fd) != NO_NUMBER
}

/// The file descriptor that the runtime has for itself, or -1.
fn kept() -> c_int {
    RKCOV_KEPT.get().map_or(-1, |kept| kept())
}

fn forget(number: u64) {
    if let Some(forget) = RKCOV_FORGET.get() {
        forget(number);
    }
}

/// `open()` and `open64()`.
///
/// # Safety
/// As libc's.
#[cfg_attr(rkcov_object, no_mangle)]
pub unsafe extern "C" fn rkcov_preload_open(
    path: *const c_char,
    flags: c_int,
    mode: c_uint,
) -> c_int {
    // SAFETY: the caller's contract.
    match unsafe { opener(path) } {
        Some(open) => open(),
        None => next!(OPEN(path, flags, mode)),
    }
}

/// `openat()` and `openat64()`.
///
/// # Safety
/// As libc's.
#[cfg_attr(rkcov_object, no_mangle)]
pub unsafe extern "C" fn rkcov_preload_openat(
    folder: c_int,
    path: *const c_char,
    flags: c_int,
    mode: c_uint,
) -> c_int {
    // SAFETY: the caller's contract.
    match unsafe { opener(path) } {
        Some(open) => open(),
        None => next!(OPENAT(folder, path, flags, mode)),
    }
}

/// `open()` as `_FORTIFY_SOURCE` calls it.
///
/// # Safety
/// As libc's.
#[cfg_attr(rkcov_object, no_mangle)]
pub unsafe extern "C" fn rkcov_preload_open_2(path: *const c_char, flags: c_int) -> c_int {
    // SAFETY: the caller's contract.
    match unsafe { opener(path) } {
        Some(open) => open(),
        None => next!(OPEN_FORTIFIED(path, flags)),
    }
}

/// `openat()` as `_FORTIFY_SOURCE` calls it.
///
/// # Safety
/// As libc's.
#[cfg_attr(rkcov_object, no_mangle)]
pub unsafe extern "C" fn rkcov_preload_openat_2(
    folder: c_int,
    path: *const c_char,
    flags: c_int,
) -> c_int {
    // SAFETY: the caller's contract.
    match unsafe { opener(path) } {
        Some(open) => open(),
        None => next!(OPENAT_FORTIFIED(folder, path, flags)),
    }
}

/// `ioctl()`.
///
/// # Safety
/// As libc's.
#[cfg_attr(rkcov_object, no_mangle)]
pub unsafe extern "C" fn rkcov_preload_ioctl(
    fd: c_int,
    request: c_ulong,
    argument: c_ulong,
) -> c_int {
    // The file behind a kcov answers all other requests as the device does: not at all.
    let is_ours = (request >> 8) & 0xff == c_ulong::from(b'c');
    match RKCOV_IOCTL.get().filter(|_| is_ours && is_kcov(fd)) {
        Some(ioctl) => ioctl(fd, request, argument),
        None => next!(IOCTL(fd, request, argument)),
    }
}

/// `mmap()` and `mmap64()`.
///
/// # Safety
/// As libc's.
#[cfg_attr(rkcov_object, no_mangle)]
pub unsafe extern "C" fn rkcov_preload_mmap(
    address: *mut c_void,
    length: usize,
    protection: c_int,
    flags: c_int,
    fd: c_int,
    offset: i64,
) -> *mut c_void {
    let is_file = flags & libc::MAP_ANONYMOUS == 0;
    let mmap = match RKCOV_MMAP.get().filter(|_| is_file && is_kcov(fd)) {
        Some(mmap) => Some(mmap),
        None => MMAP.get(),
    };
    match mmap {
        // SAFETY: the caller's contract.
        Some(mmap) => unsafe { mmap(address, length, protection, flags, fd, offset) },
        None => {
            fail(libc::ENOSYS);
            libc::MAP_FAILED
        }
    }
}

/// `close()`. What the runtime has for itself stays open: programs close all numbers there are.
///
/// # Safety
/// As libc's.
#[cfg_attr(rkcov_object, no_mangle)]
pub unsafe extern "C" fn rkcov_preload_close(fd: c_int) -> c_int {
    if fd >= 0 && fd == kept() {
        return fail(libc::EBADF);
    }
    match RKCOV_CLOSE.get().filter(|_| is_kcov(fd)) {
        Some(close) => close(fd),
        None => next!(CLOSE(fd)),
    }
}

/// `close_range()`, which leaves out what the runtime has for itself.
///
/// # Safety
/// As libc's.
#[cfg_attr(rkcov_object, no_mangle)]
pub unsafe extern "C" fn rkcov_preload_close_range(
    first: c_uint,
    last: c_uint,
    flags: c_int,
) -> c_int {
    let kept = c_uint::try_from(kept()).ok();
    let result = match kept.filter(|kept| (first..=last).contains(kept)) {
        None => next!(CLOSE_RANGE(first, last, flags)),
        Some(kept) => {
            let below = match kept.checked_sub(1).filter(|end| first <= *end) {
                Some(end) => next!(CLOSE_RANGE(first, end, flags)),
                None => 0,
            };
            match kept.checked_add(1).filter(|start| *start <= last) {
                Some(start) if below == 0 => next!(CLOSE_RANGE(start, last, flags)),
                _ => below,
            }
        }
    };
    if kept.is_some() {
        forget(NO_NUMBER);
    }
    result
}

/// `closefrom()`.
///
/// # Safety
/// As libc's.
#[cfg_attr(rkcov_object, no_mangle)]
pub unsafe extern "C" fn rkcov_preload_closefrom(first: c_int) {
    let lowest = c_uint::try_from(first).unwrap_or(0);
    // SAFETY: the caller's contract.
    let done = kept() >= 0 && unsafe { rkcov_preload_close_range(lowest, c_uint::MAX, 0) } == 0;
    if let Some(closefrom) = CLOSEFROM.get().filter(|_| !done) {
        // SAFETY: the caller's contract.
        unsafe { closefrom(first) };
    }
}

/// `dup2()`, which closes what `to` was.
///
/// # Safety
/// As libc's.
#[cfg_attr(rkcov_object, no_mangle)]
pub unsafe extern "C" fn rkcov_preload_dup2(from: c_int, to: c_int) -> c_int {
    let closed = number(to);
    let result = next!(DUP2(from, to));
    replaced(result, closed)
}

/// `dup3()`.
///
/// # Safety
/// As libc's.
#[cfg_attr(rkcov_object, no_mangle)]
pub unsafe extern "C" fn rkcov_preload_dup3(from: c_int, to: c_int, flags: c_int) -> c_int {
    let closed = number(to);
    let result = next!(DUP3(from, to, flags));
    replaced(result, closed)
}

/// A copy was put over what had the number `closed`.
fn replaced(result: c_int, closed: u64) -> c_int {
    if result >= 0 && closed != NO_NUMBER {
        forget(closed);
    }
    result
}
