// SPDX-License-Identifier: MIT OR Apache-2.0
//! Mappings, and what is in memory.

use super::{pid, syscall, Error, PAGE};
use core::ops::Range;
use core::ptr;
use core::sync::atomic::{AtomicU32, Ordering};

/// Maps `len` bytes of a file, shared, readable and writable, and leaves them out of core dumps.
pub(crate) fn map_shared(fd: i32, offset: u64, len: usize) -> Result<*mut u8, Error> {
    let prot = (libc::PROT_READ | libc::PROT_WRITE) as usize;
    let flags = (libc::MAP_SHARED | libc::MAP_NORESERVE) as usize;
    // SAFETY: the kernel chooses the address, so nothing that exists is touched.
    let at = unsafe {
        syscall(
            libc::SYS_mmap,
            [0, len, prot, flags, fd as usize, offset as usize],
        )?
    };
    let advice = libc::MADV_DONTDUMP as usize;
    // SAFETY: the advice changes no content.
    let _ = unsafe { syscall(libc::SYS_madvise, [at, len, advice, 0, 0, 0]) };
    Ok(ptr::with_exposed_provenance_mut(at))
}

/// Memory that forked children share, at an address of the kernel's choice; not in core dumps.
pub(crate) fn map_shared_anonymous(len: usize) -> Result<*mut u8, Error> {
    let prot = (libc::PROT_READ | libc::PROT_WRITE) as usize;
    let flags = (libc::MAP_SHARED | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE) as usize;
    // SAFETY: the kernel chooses the address, so nothing that exists is touched.
    let at = unsafe { syscall(libc::SYS_mmap, [0, len, prot, flags, usize::MAX, 0])? };
    let advice = libc::MADV_DONTDUMP as usize;
    // SAFETY: the advice changes no content.
    let _ = unsafe { syscall(libc::SYS_madvise, [at, len, advice, 0, 0, 0]) };
    Ok(ptr::with_exposed_provenance_mut(at))
}

/// Memory of this process's own, at an address of the kernel's choice.
pub(crate) fn map_private(len: usize) -> Result<*mut u8, Error> {
    let prot = (libc::PROT_READ | libc::PROT_WRITE) as usize;
    let flags = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS) as usize;
    // SAFETY: the kernel chooses the address, so nothing that exists is touched.
    let at = unsafe { syscall(libc::SYS_mmap, [0, len, prot, flags, usize::MAX, 0])? };
    Ok(ptr::with_exposed_provenance_mut(at))
}

/// A page of this process's own, all zero in every child that gets a copy of its memory.
pub(crate) fn map_wiped_on_fork() -> Result<*mut u8, Error> {
    let prot = (libc::PROT_READ | libc::PROT_WRITE) as usize;
    let flags = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS) as usize;
    // SAFETY: the kernel chooses the address, so nothing that exists is touched.
    let at = unsafe { syscall(libc::SYS_mmap, [0, PAGE, prot, flags, usize::MAX, 0])? };
    let page = ptr::with_exposed_provenance_mut(at);
    let advice = libc::MADV_WIPEONFORK as usize;
    // SAFETY: our new page, in which nothing stands yet.
    match unsafe { syscall(libc::SYS_madvise, [at, PAGE, advice, 0, 0, 0]) } {
        Ok(_) => Ok(page),
        Err(error) => {
            // SAFETY: as above.
            unsafe { unmap(page, PAGE) };
            Err(error)
        }
    }
}

/// Takes a mapping away.
///
/// # Safety
/// `[at, at + len)` is a mapping that nobody uses any more.
pub(crate) unsafe fn unmap(at: *mut u8, len: usize) {
    // SAFETY: the caller's contract.
    let _ = unsafe { syscall(libc::SYS_munmap, [at as usize, len, 0, 0, 0, 0]) };
}

/// Maps nothing at `[start, end)`, so that nothing else comes to lie there. What has come there in
/// the meantime stays.
pub(crate) fn reserve(at: Range<u64>) {
    let start = at.start as usize & !(PAGE - 1);
    let len = (at.end as usize).next_multiple_of(PAGE).wrapping_sub(start);
    let flags =
        libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_FIXED_NOREPLACE;
    let prot = libc::PROT_NONE as usize;
    let args = [start, len, prot, flags as usize, usize::MAX, 0];
    // SAFETY: without a place that is free, this maps nothing. A kernel that does not know the flag
    // takes the address for a wish.
    if let Ok(at) = unsafe { syscall(libc::SYS_mmap, args) } {
        if at != start {
            // SAFETY: ours, and of no use there.
            unsafe { unmap(ptr::with_exposed_provenance_mut(at), len) };
        }
    }
}

/// Reserves memory of this process's own at an address where nothing is: it reads as zeros, takes room
/// where it is written, one page at a time, and is all zero in a forked child.
pub(crate) fn reserve_zeros(at: usize, len: usize) -> Result<(), Error> {
    let prot = (libc::PROT_READ | libc::PROT_WRITE) as usize;
    let flags =
        libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_FIXED_NOREPLACE;
    // SAFETY: the kernel refuses if anything is there.
    let got = unsafe {
        syscall(
            libc::SYS_mmap,
            [at, len, prot, flags as usize, usize::MAX, 0],
        )?
    };
    if got != at {
        // A kernel that takes the address for a wish.
        // SAFETY: mapped just now.
        unsafe { unmap(ptr::with_exposed_provenance_mut(got), len) };
        return Err(Error(libc::EEXIST));
    }
    for advice in [
        libc::MADV_DONTDUMP,
        libc::MADV_NOHUGEPAGE,
        libc::MADV_WIPEONFORK,
    ] {
        // SAFETY: the advice changes no content of memory that nobody has written yet.
        let _ = unsafe { syscall(libc::SYS_madvise, [at, len, advice as usize, 0, 0, 0]) };
    }
    Ok(())
}

/// Gives the pages of private anonymous memory back; they read as zeros.
pub(crate) fn drop_private(at: usize, len: usize) -> Result<(), Error> {
    let advice = libc::MADV_DONTNEED as usize;
    // SAFETY: the caller's memory, of which nobody uses the content.
    unsafe { syscall(libc::SYS_madvise, [at, len, advice, 0, 0, 0]) }.map(|_| ())
}

/// Gives the pages of shared anonymous memory back; they read as zeros.
///
/// # Safety
/// `[at, at + len)` is such memory, and nobody uses what is in it.
pub(crate) unsafe fn discard(at: *mut u8, len: usize) {
    let advice = libc::MADV_REMOVE as usize;
    // SAFETY: the caller's contract.
    let gone = unsafe { syscall(libc::SYS_madvise, [at as usize, len, advice, 0, 0, 0]) };
    if gone.is_err() {
        // SAFETY: the caller's contract.
        unsafe { ptr::write_bytes(at, 0, len) };
    }
}

/// Changes what may be done with whole pages. The caller answers for it that nobody needs a right
/// that is taken away.
pub(crate) fn protect(at: usize, len: usize, protection: i32) -> Result<(), Error> {
    let args = [at, len, protection as usize, 0, 0, 0];
    // SAFETY: no content changes.
    unsafe { syscall(libc::SYS_mprotect, args) }.map(|_| ())
}

/// Maps a part of a file, shared, in the place of whatever is at `at`.
///
/// # Safety
/// Nobody needs what is at `[at, at + len)`.
pub(crate) unsafe fn map_shared_at(
    fd: i32,
    offset: u64,
    at: usize,
    len: usize,
) -> Result<(), Error> {
    let prot = (libc::PROT_READ | libc::PROT_WRITE) as usize;
    let flags = (libc::MAP_SHARED | libc::MAP_NORESERVE | libc::MAP_FIXED) as usize;
    let args = [at, len, prot, flags, fd as usize, offset as usize];
    // SAFETY: the caller's contract.
    unsafe { syscall(libc::SYS_mmap, args)? };
    let advice = libc::MADV_DONTDUMP as usize;
    // SAFETY: the advice changes no content.
    let _ = unsafe { syscall(libc::SYS_madvise, [at, len, advice, 0, 0, 0]) };
    Ok(())
}

/// Puts a mapping in the place of another, at once.
///
/// # Safety
/// `[from, from + len)` is a mapping of ours that nobody uses there. What is at `to` may be replaced
/// by it.
pub(crate) unsafe fn move_to(from: *mut u8, len: usize, to: usize) -> Result<(), Error> {
    let flags = (libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED) as usize;
    // SAFETY: the caller's contract.
    unsafe { syscall(libc::SYS_mremap, [from as usize, len, len, flags, to, 0]) }.map(|_| ())
}

/// Makes a shared mapping of a file longer, wherever there is room for it.
///
/// # Safety
/// `[at, at + len)` is such a mapping, and nobody uses it by its old address any more if the answer
/// is another.
pub(crate) unsafe fn grow(at: *mut u8, len: usize, longer: usize) -> Result<*mut u8, Error> {
    let flags = libc::MREMAP_MAYMOVE as usize;
    // SAFETY: the caller's contract.
    let at = unsafe { syscall(libc::SYS_mremap, [at as usize, len, longer, flags, 0, 0])? };
    Ok(ptr::with_exposed_provenance_mut(at))
}

/// Maps shared memory once more, at `wish` if that is not 0 and free, or exactly there.
pub(crate) fn map_again(
    of: *mut u8,
    len: usize,
    wish: usize,
    protection: i32,
    fixed: bool,
) -> Result<usize, Error> {
    let mut flags = libc::MREMAP_MAYMOVE as usize;
    if fixed {
        flags |= libc::MREMAP_FIXED as usize;
    }
    // SAFETY: an old length of 0 leaves the old mapping alone; the new one is placed by the kernel,
    // or where the caller of a fixed mapping answers for it.
    let at = unsafe { syscall(libc::SYS_mremap, [of as usize, 0, len, flags, wish, 0])? };
    let prot = protection as usize;
    // SAFETY: our new mapping, which nobody uses yet.
    match unsafe { syscall(libc::SYS_mprotect, [at, len, prot, 0, 0, 0]) } {
        Ok(_) => Ok(at),
        Err(error) => {
            // SAFETY: as above.
            unsafe { unmap(ptr::with_exposed_provenance_mut(at), len) };
            Err(error)
        }
    }
}

/// Whether [`map_again`] works. Valgrind refuses it; so does QEMU, where it runs a program for another
/// machine, as if there were no memory.
pub(crate) fn can_map_again() -> bool {
    static REFUSED: AtomicU32 = AtomicU32::new(UNKNOWN);
    const UNKNOWN: u32 = u32::MAX;
    let known = REFUSED.load(Ordering::Relaxed);
    if known != UNKNOWN {
        return known == 0;
    }
    let Ok(page) = map_shared_anonymous(PAGE) else {
        return true;
    };
    let again = map_again(page, PAGE, 0, libc::PROT_READ, false);
    // SAFETY: made just now, and nobody knows of them.
    unsafe {
        unmap(page, PAGE);
        if let Ok(again) = again {
            unmap(ptr::with_exposed_provenance_mut(again), PAGE);
        }
    }
    let emulated = cfg!(target_arch = "aarch64") && again == Err(Error(libc::ENOMEM));
    let refused = emulated || again == Err(Error(libc::EINVAL));
    REFUSED.store(u32::from(refused), Ordering::Relaxed);
    !refused
}

/// Maps the beginning of a file, at `wish` if that is not 0 and free, or exactly there.
pub(crate) fn map_file(
    fd: i32,
    len: usize,
    wish: usize,
    protection: i32,
    fixed: bool,
) -> Result<usize, Error> {
    let mut flags = libc::MAP_SHARED as usize;
    if fixed {
        flags |= libc::MAP_FIXED as usize;
    }
    // SAFETY: placed by the kernel, or where the caller of a fixed mapping answers for it.
    unsafe {
        syscall(
            libc::SYS_mmap,
            [wish, len, protection as usize, flags, fd as usize, 0],
        )
    }
}

/// Copies memory of this process that may not be there: EFAULT instead of a crash.
pub(crate) fn read_own_memory(address: usize, into: &mut [u8]) -> Result<(), Error> {
    let local = libc::iovec {
        iov_base: into.as_mut_ptr().cast(),
        iov_len: into.len(),
    };
    let at = ptr::with_exposed_provenance_mut(address);
    let remote = libc::iovec {
        iov_base: at,
        iov_len: into.len(),
    };
    let args = [
        pid() as usize,
        ptr::from_ref(&local) as usize,
        1,
        ptr::from_ref(&remote) as usize,
        1,
        0,
    ];
    // SAFETY: writes to `into` only, and reads where it may.
    match unsafe { syscall(libc::SYS_process_vm_readv, args) } {
        Ok(n) if n == into.len() => Ok(()),
        Ok(_) => Err(Error(libc::EFAULT)),
        Err(Error(libc::ENOSYS | libc::EPERM)) if address != 0 => {
            // A sandbox without this call: the client's pointer is taken at its word.
            let from = at.cast::<u8>();
            for (offset, byte) in into.iter_mut().enumerate() {
                // SAFETY: what the caller of `ioctl()` promises. Volatile, since a copy would be a call of
                // the program's `memmove()`.
                *byte = unsafe { from.wrapping_add(offset).read_volatile() };
            }
            Ok(())
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_is_not_there_is_a_fault() {
        let word = 0x1234_u64;
        let mut copy = [0; 8];
        assert_eq!(
            read_own_memory(ptr::from_ref(&word) as usize, &mut copy),
            Ok(())
        );
        assert_eq!(u64::from_ne_bytes(copy), word);
        assert_eq!(read_own_memory(8, &mut copy), Err(Error(libc::EFAULT)));
        assert_eq!(
            read_own_memory(usize::MAX - 3, &mut copy),
            Err(Error(libc::EFAULT))
        );
    }
}
