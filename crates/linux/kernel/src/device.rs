// SPDX-License-Identifier: GPL-2.0 OR MIT
//! The file `kcov` of debugfs.

use crate::abi::Errno;
use crate::host::{kcov, make_kcov, Linux};
use crate::irq_areas;
use crate::rules::descriptor::{Descriptor, Ref};
use crate::rules::host::Buffer;
use crate::shim;
use crate::task::CurrentTask;
use core::mem::ManuallyDrop;
use core::ptr;
use kernel::bindings;
use kernel::ffi::{c_int, c_long, c_uint, c_ulong};

const PAGE_BYTES: usize = bindings::PAGE_SIZE;

/// The descriptor of an opened file, which keeps its own reference.
///
/// # Safety
/// `file` was opened by `open` and is not released yet.
unsafe fn descriptor(file: *mut bindings::file) -> ManuallyDrop<Ref<Linux>> {
    // SAFETY: `open` put the reference there; not dropping it leaves it to the file.
    unsafe {
        let raw = (*file)
            .private_data
            .cast_const()
            .cast::<Descriptor<Linux>>();
        ManuallyDrop::new(Ref::from_raw(raw))
    }
}

/// Opens kcov.
///
/// # Safety
/// The kernel calls it as the `open` of [`OPERATIONS`]: `inode` is the file's, and `file` is being opened.
unsafe extern "C" fn open(inode: *mut bindings::inode, file: *mut bindings::file) -> c_int {
    let Some(kcov) = kcov() else {
        return negative(Errno::NoMem);
    };
    match kcov.open() {
        Ok(descriptor) => {
            // SAFETY: the caller's contract.
            unsafe {
                (*file).private_data = descriptor.into_raw().cast_mut().cast();
                bindings::nonseekable_open(inode, file)
            }
        }
        Err(errno) => negative(errno),
    }
}

/// The last reference to an opened file goes.
///
/// # Safety
/// The kernel calls it as the `release` of [`OPERATIONS`]: once, after all other calls on `file`, which
/// [`open`] opened.
unsafe extern "C" fn release(_: *mut bindings::inode, file: *mut bindings::file) -> c_int {
    // SAFETY: the caller's contract: the file's reference is not used any more.
    drop(ManuallyDrop::into_inner(unsafe { descriptor(file) }));
    0
}

/// A call of a client, native or 32-bit.
///
/// # Safety
/// The kernel calls it as the `unlocked_ioctl` or `compat_ioctl` of [`OPERATIONS`]: [`open`] opened `file`,
/// and it is not released meanwhile.
unsafe extern "C" fn ioctl(file: *mut bindings::file, number: c_uint, argument: c_ulong) -> c_long {
    // SAFETY: the caller's contract.
    let descriptor = unsafe { descriptor(file) };
    let task = CurrentTask::get();
    let result = kcov().map_or(Err(Errno::NoTty), |kcov| {
        kcov.ioctl(&descriptor, task.rules(), number, argument as usize)
    });
    match result {
        Ok(()) => 0,
        Err(errno) => negative(errno) as c_long,
    }
}

/// Maps the buffer.
///
/// # Safety
/// The kernel calls it as the `mmap` of [`OPERATIONS`]: [`open`] opened `file`, it is not released
/// meanwhile, and `vma` is a mapping that is being made, which nobody else changes.
unsafe extern "C" fn mmap(file: *mut bindings::file, vma: *mut bindings::vm_area_struct) -> c_int {
    // SAFETY: the caller's contract.
    let descriptor = unsafe { descriptor(file) };
    // SAFETY: the caller's contract.
    let (bytes, offset) = unsafe {
        let range = (*vma).__bindgen_anon_1.__bindgen_anon_1;
        (range.vm_end.wrapping_sub(range.vm_start), (*vma).vm_pgoff)
    };
    let buffer = kcov().map_or(Err(Errno::Inval), |kcov| {
        kcov.map(&descriptor, bytes as usize, offset as u64, PAGE_BYTES)
    });
    match buffer {
        // SAFETY: all of a buffer from `vmalloc_user()`, which the file keeps for the call; the
        // mapped pages have references of their own.
        Ok(buffer) => unsafe { bindings::remap_vmalloc_range(vma, buffer.base().cast(), 0) },
        Err(errno) => negative(errno),
    }
}

fn negative(errno: Errno) -> c_int {
    errno.raw().wrapping_neg()
}

/// The operations on the file. 32-bit clients differ in one number only, which the rules know.
struct Operations(bindings::file_operations);

// SAFETY: never written.
unsafe impl Sync for Operations {}

static OPERATIONS: Operations = Operations(bindings::file_operations {
    open: Some(open),
    unlocked_ioctl: Some(ioctl),
    compat_ioctl: Some(ioctl),
    mmap: Some(mmap),
    release: Some(release),
    // SAFETY: all null: what is not given, the kernel does in the common way.
    ..unsafe { core::mem::zeroed() }
});

/// Makes kcov and its files. Called once, by the boot.
#[no_mangle]
pub(crate) extern "C" fn rkcov_init() -> c_int {
    irq_areas::init();
    // SAFETY: the boot calls this once.
    unsafe { make_kcov() };
    let Some(kcov) = kcov() else { return 0 };
    let drops = kcov.drops();
    let counters = [&drops.full, &drops.stale, &drops.no_area, &drops.deep].map(ptr::from_ref);
    let operations = ptr::from_ref(&OPERATIONS.0).cast();
    // SAFETY: the operations and the counters live for ever.
    unsafe { shim::rkcov_create_files(operations, counters.as_ptr().cast()) };
    #[cfg(CONFIG_KCOV_SELFTEST)]
    crate::selftest::run();
    0
}
