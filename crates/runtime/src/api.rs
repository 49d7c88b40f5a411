// SPDX-License-Identifier: MIT OR Apache-2.0
//! What programs call: see `rkcov.h`; and what parts and tests of rkcov call: see `rkcov_internal.h`.
//!
//! The device's calls are those of libc on a kcov file, with libc's way of telling errors. The
//! annotations have the kernel's names.

use crate::device::{family, files};
use crate::run::contexts;
use crate::{modules, save, sections, sys, threads, tls};
use core::ffi::{c_char, c_int, c_ulong, c_void, CStr};
use core::sync::atomic::AtomicU64;
use rkcov_abi::ioctl::KCOV_INIT_TRACE;
use rkcov_abi::ioctl::KCOV_INIT_TRACE_32;
use rkcov_abi::{handle, Errno};

/// Sets errno and answers -1.
fn fail(errno: i32) -> c_int {
    // SAFETY: libc's errno of this thread.
    unsafe { *libc::__errno_location() = errno };
    -1
}

fn answer(result: Result<(), Errno>) -> c_int {
    result.map_or_else(|errno| fail(errno.raw()), |()| 0)
}

/// Opens a kcov: a file descriptor, or -1 with ENOMEM.
#[no_mangle]
pub extern "C" fn rkcov_open() -> c_int {
    // From here on forks must find the device's locks in order.
    threads::watch();
    match files::open() {
        Ok(fd) => fd,
        Err(errno) => fail(errno.raw()),
    }
}

/// Whether `fd` is a kcov of this process.
#[no_mangle]
pub extern "C" fn rkcov_is_kcov(fd: c_int) -> c_int {
    c_int::from(files::number(fd).is_some())
}

/// `ioctl()` on a kcov. EBADF if `fd` is none; else the errors of the interface.
#[no_mangle]
pub extern "C" fn rkcov_ioctl(fd: c_int, request: c_ulong, argument: c_ulong) -> c_int {
    let (Some(family), Some(file)) = (family(), files::file(fd)) else {
        return fail(libc::EBADF);
    };
    // ioctl() takes its request as 32 bits, whatever the type.
    let request = request as u32;
    threads::watch();
    threads::announce_end(tls::current());
    let result = family
        .kcov()
        .ioctl(&file, sections::task(), request, argument as usize);
    if result.is_ok() && matches!(request, KCOV_INIT_TRACE | KCOV_INIT_TRACE_32) {
        modules::open_gates();
    }
    answer(result)
}

/// `mmap()` of a kcov: the length is rounded up to whole pages. EBADF if `fd` is none, EINVAL for a
/// length or an offset that are not the buffer's.
///
/// # Safety
/// As `mmap()`: with `MAP_FIXED`, nothing that is used lies at `address`.
#[no_mangle]
pub unsafe extern "C" fn rkcov_mmap(
    address: *mut c_void,
    length: usize,
    protection: c_int,
    flags: c_int,
    fd: c_int,
    offset: i64,
) -> *mut c_void {
    let failed = |errno| {
        fail(errno);
        libc::MAP_FAILED
    };
    let (Some(family), Some(file)) = (family(), files::file(fd)) else {
        return failed(libc::EBADF);
    };
    let Some(length) = length.checked_next_multiple_of(sys::PAGE) else {
        return failed(libc::ENOMEM);
    };
    let buffer = match family.kcov().map(&file, length, offset as u64, sys::PAGE) {
        Ok(buffer) => buffer,
        Err(errno) => return failed(errno.raw()),
    };
    let fixed = flags & libc::MAP_FIXED != 0;
    match buffer.map(address.addr(), protection, fixed) {
        Ok(at) => core::ptr::with_exposed_provenance_mut(at),
        Err(sys::Error(errno)) => failed(errno),
    }
}

/// Closes a kcov. EBADF if `fd` is not open.
#[no_mangle]
pub extern "C" fn rkcov_close(fd: c_int) -> c_int {
    match files::close(fd) {
        Ok(()) => 0,
        Err(sys::Error(errno)) => fail(errno),
    }
}

/// Something else than `rkcov_close()` may have closed the kcov that had this number. See
/// [`rkcov_number`]; `UINT64_MAX` stands for all of them.
#[no_mangle]
pub extern "C" fn rkcov_forget(number: u64) {
    if number == u64::MAX {
        files::forget_closed();
    } else {
        files::forget(number);
    }
}

/// The file descriptor that the runtime has for itself, or -1: whoever closes whole ranges leaves
/// it open.
#[no_mangle]
pub extern "C" fn rkcov_kept() -> c_int {
    files::kept().unwrap_or(-1)
}

/// A number that all copies of a kcov have, also those of other processes; `UINT64_MAX` if `fd` is
/// no kcov.
#[no_mangle]
pub extern "C" fn rkcov_number(fd: c_int) -> u64 {
    files::number(fd).unwrap_or(u64::MAX)
}

/// What a descriptor could not deliver since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Drops {
    /// Records that found a buffer or an area full.
    pub full: u64,
    /// Records of sections whose descriptor was disabled meanwhile.
    pub stale: u64,
    /// Sections that got no area.
    pub no_area: u64,
    /// Sections nested too deep, of all descriptors.
    pub deep: u64,
}

/// Reads the drop counters of a kcov. EBADF if `fd` is none.
///
/// # Safety
/// `drops` is valid for writes.
#[no_mangle]
pub unsafe extern "C" fn rkcov_drops(fd: c_int, drops: *mut Drops) -> c_int {
    let (Some(family), Some(file)) = (family(), files::file(fd)) else {
        return fail(libc::EBADF);
    };
    let [full, stale, no_area, _] = file.drops().read();
    let [.., deep] = family.kcov().drops().read();
    // SAFETY: the caller's contract.
    unsafe {
        drops.write(Drops {
            full,
            stale,
            no_area,
            deep,
        })
    };
    0
}

/// Bytes of the memory that the kcov of this process and its relatives holds beside buffers, and
/// how many handles are registered: for tests of programs that must not grow.
///
/// # Safety
/// `bytes` and `handles` are valid for writes.
#[no_mangle]
pub unsafe extern "C" fn rkcov_usage(bytes: *mut u64, handles: *mut u64) {
    let usage = family().map_or((0, 0), |f| (f.arena.live(), f.kcov().handles() as u64));
    // SAFETY: the caller's contract.
    unsafe {
        bytes.write(usage.0);
        handles.write(usage.1);
    }
}

/// Appends the PCs of a buffer, under a name, to a list for reports. 0, or -1 with EINVAL for a buffer without
/// a word, or what the system says of the file.
///
/// # Safety
/// `path` is a C string, and `name` too or null. `words` words can be read at `buffer`.
#[no_mangle]
pub unsafe extern "C" fn rkcov_save(
    path: *const c_char,
    name: *const c_char,
    buffer: *const u64,
    words: usize,
) -> c_int {
    if path.is_null() || buffer.is_null() {
        return fail(libc::EINVAL);
    }
    // SAFETY: the caller's contract; others may write the words meanwhile, word by word.
    let (path, buffer) = unsafe {
        (
            CStr::from_ptr(path),
            core::slice::from_raw_parts(buffer.cast::<AtomicU64>(), words),
        )
    };
    let name = match name.is_null() {
        true => c"",
        // SAFETY: the caller's contract.
        false => unsafe { CStr::from_ptr(name) },
    };
    match save::append(path, name.to_bytes(), buffer) {
        Ok(()) => 0,
        Err(sys::Error(errno)) => fail(errno),
    }
}

/// Begins a section; see `kcov_remote_start()` in Linux.
#[no_mangle]
pub extern "C" fn kcov_remote_start(handle: u64) {
    sections::begin(handle);
}

/// Ends a section.
#[no_mangle]
pub extern "C" fn kcov_remote_stop() {
    sections::stop();
}

/// The handle that work done on this thread's behalf is to be annotated with, or 0.
#[no_mangle]
pub extern "C" fn kcov_common_handle() -> u64 {
    family().map_or(0, |family| family.kcov().common_handle(sections::task()))
}

/// Begins a section with a common handle.
#[no_mangle]
pub extern "C" fn kcov_remote_start_common(id: u64) {
    kcov_remote_start(handle::remote_handle(0, id));
}

/// Begins a section with the handle of a USB bus.
#[no_mangle]
pub extern "C" fn kcov_remote_start_usb(id: u64) {
    kcov_remote_start(handle::remote_handle(1 << 56, id));
}

/// As [`kcov_remote_start_usb`]: a process has no softirqs.
#[no_mangle]
pub extern "C" fn kcov_remote_start_usb_softirq(id: u64) {
    kcov_remote_start_usb(id);
}

/// As [`kcov_remote_stop`].
#[no_mangle]
pub extern "C" fn kcov_remote_stop_softirq() {
    kcov_remote_stop();
}

/// A context: its handle, or 0 if nobody collects. `len` bytes of `name` are its name.
///
/// # Safety
/// As many bytes can be read there.
#[no_mangle]
pub unsafe extern "C" fn __rkcov_context(kind: u32, name: *const u8, len: usize) -> u64 {
    if name.is_null() || len > isize::MAX as usize || !sections::are_contexts_wanted() {
        return 0;
    }
    // SAFETY: the caller's contract.
    contexts::make(kind, unsafe { core::slice::from_raw_parts(name, len) })
}

/// Whether somebody collects, so that a context has a number.
#[no_mangle]
pub extern "C" fn __rkcov_contexts_wanted() -> c_int {
    c_int::from(sections::are_contexts_wanted())
}

/// Begins a section of a context on the calling thread.
#[no_mangle]
pub extern "C" fn __rkcov_enter(context: u64) {
    if sections::are_contexts_wanted() {
        sections::enter(tls::current(), context);
    }
}

/// Ends the section that began last.
#[no_mangle]
pub extern "C" fn __rkcov_leave() {
    if sections::are_contexts_wanted() {
        sections::leave_last(tls::current());
    }
}

/// The context's work is over.
#[no_mangle]
pub extern "C" fn __rkcov_end(context: u64) {
    if sections::are_contexts_wanted() {
        contexts::end(context);
    }
}
