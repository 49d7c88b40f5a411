// SPDX-License-Identifier: MIT OR Apache-2.0
//! Open files: those of the runtime, which are [`Fd`], and those of the program, which are numbers.

use super::{syscall, Error};
use core::ffi::CStr;
use core::ptr;

/// Where our own file descriptors go, out of the way of programs that count theirs from 3.
pub(crate) const FD_FLOOR: i32 = 900;

/// An open file, closed when dropped.
pub(crate) struct Fd(i32);

impl Fd {
    /// Opens an absolute path.
    pub(crate) fn open(path: &CStr, flags: i32) -> Result<Self, Error> {
        let dir = libc::AT_FDCWD as usize;
        let args = [dir, path.as_ptr() as usize, flags as usize, 0, 0, 0];
        // SAFETY: the path is a C string; without O_CREAT there is no mode.
        let fd = unsafe { syscall(libc::SYS_openat, args)? };
        Ok(Self(fd as i32))
    }

    /// The descriptor's number, which is not closed any more.
    pub(crate) fn into_raw(self) -> i32 {
        let fd = self.0;
        core::mem::forget(self);
        fd
    }

    pub(crate) fn raw(&self) -> i32 {
        self.0
    }

    /// Reads up to `buf.len()` bytes.
    pub(crate) fn read(&self, buf: &mut [u8]) -> Result<usize, Error> {
        let args = [
            self.0 as usize,
            buf.as_mut_ptr() as usize,
            buf.len(),
            0,
            0,
            0,
        ];
        // SAFETY: `buf` is writable for its length.
        unsafe { syscall(libc::SYS_read, args) }
    }

    /// Writes all of `bytes`.
    pub(crate) fn write_all(&self, mut bytes: &[u8]) -> Result<(), Error> {
        while !bytes.is_empty() {
            let args = [
                self.0 as usize,
                bytes.as_ptr() as usize,
                bytes.len(),
                0,
                0,
                0,
            ];
            // SAFETY: `bytes` is readable for its length.
            match unsafe { syscall(libc::SYS_write, args) } {
                Ok(0) => return Err(Error(libc::EIO)),
                Ok(written) => bytes = bytes.get(written..).unwrap_or(&[]),
                Err(Error(libc::EINTR)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl Drop for Fd {
    fn drop(&mut self) {
        // SAFETY: the descriptor is ours.
        let _ = unsafe { syscall(libc::SYS_close, [self.0 as usize, 0, 0, 0, 0, 0]) };
    }
}

/// Opens a file to append to, and makes it if it is not there. No other process or thread that opens it
/// in this way has it until this is closed.
pub(crate) fn open_to_append(path: &CStr) -> Result<Fd, Error> {
    let flags = libc::O_WRONLY | libc::O_APPEND | libc::O_CREAT | libc::O_CLOEXEC;
    let dir = libc::AT_FDCWD as usize;
    let args = [dir, path.as_ptr() as usize, flags as usize, 0o666, 0, 0];
    // SAFETY: the path is a C string.
    let file = Fd(unsafe { syscall(libc::SYS_openat, args)? } as i32);
    let args = [file.0 as usize, libc::LOCK_EX as usize, 0, 0, 0, 0];
    // What is no regular file may have no lock.
    // SAFETY: the descriptor is ours.
    let _ = unsafe { syscall(libc::SYS_flock, args) };
    Ok(file)
}

/// A duplicate of `fd` at `at_least` or above, closed by `exec`.
pub(crate) fn duplicate(fd: i32, at_least: i32) -> Result<Fd, Error> {
    let command = libc::F_DUPFD_CLOEXEC as usize;
    let args = [fd as usize, command, at_least as usize, 0, 0, 0];
    // SAFETY: touches no memory.
    unsafe { syscall(libc::SYS_fcntl, args) }.map(|fd| Fd(fd as i32))
}

/// Device and inode of an open file, and its size.
pub(crate) fn identity(fd: i32) -> Result<(u64, u64, u64), Error> {
    // SAFETY: all zeros is a value of `stat`.
    let mut stat: libc::stat = unsafe { core::mem::zeroed() };
    let args = [fd as usize, ptr::from_mut(&mut stat) as usize, 0, 0, 0, 0];
    // SAFETY: `stat` is the kernel's struct on 64-bit machines.
    unsafe { syscall(libc::SYS_fstat, args)? };
    Ok((stat.st_dev, stat.st_ino, stat.st_size as u64))
}

/// Whether a descriptor is one of a memory file that nobody can make shorter.
pub(crate) fn is_sealed(fd: i32) -> bool {
    let args = [fd as usize, libc::F_GET_SEALS as usize, 0, 0, 0, 0];
    // SAFETY: touches no memory.
    let seals = unsafe { syscall(libc::SYS_fcntl, args) }.unwrap_or(0);
    seals & libc::F_SEAL_SHRINK as usize != 0
}

/// An empty file in memory, closed by `exec`.
pub(crate) fn memory_file(name: &CStr) -> Result<Fd, Error> {
    let args = [
        name.as_ptr() as usize,
        (libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING) as usize,
        0,
        0,
        0,
        0,
    ];
    // SAFETY: the name is a C string.
    unsafe { syscall(libc::SYS_memfd_create, args) }.map(|fd| Fd(fd as i32))
}

/// Makes a file of this size, zeros.
pub(crate) fn set_size(fd: i32, bytes: usize) -> Result<(), Error> {
    // SAFETY: touches no memory.
    unsafe { syscall(libc::SYS_ftruncate, [fd as usize, bytes, 0, 0, 0, 0]) }.map(|_| ())
}

/// From here on nobody changes the size of a memory file: a callback that writes behind the end of a
/// file that was cut would be killed by SIGBUS.
pub(crate) fn seal_size(fd: i32) -> Result<(), Error> {
    let seals = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_SEAL;
    let command = libc::F_ADD_SEALS as usize;
    // SAFETY: touches no memory.
    unsafe {
        syscall(
            libc::SYS_fcntl,
            [fd as usize, command, seals as usize, 0, 0, 0],
        )
    }
    .map(|_| ())
}

/// Makes a part of a memory file zeros, and gives its pages back.
pub(crate) fn punch(fd: i32, offset: u64, len: u64) -> Result<(), Error> {
    let mode = (libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE) as usize;
    let args = [fd as usize, mode, offset as usize, len as usize, 0, 0];
    // SAFETY: touches no memory but the file's, whose mappings see zeros.
    unsafe { syscall(libc::SYS_fallocate, args) }.map(|_| ())
}

/// Closes a file descriptor of the program's.
pub(crate) fn close(fd: i32) -> Result<(), Error> {
    // SAFETY: the caller of `close()` answers for the descriptor.
    unsafe { syscall(libc::SYS_close, [fd as usize, 0, 0, 0, 0, 0]) }.map(|_| ())
}

/// The position of an open file.
pub(crate) fn position(fd: i32) -> Result<u64, Error> {
    let args = [fd as usize, 0, libc::SEEK_CUR as usize, 0, 0, 0];
    // SAFETY: touches no memory.
    unsafe { syscall(libc::SYS_lseek, args) }.map(|at| at as u64)
}

pub(crate) fn set_position(fd: i32, position: u64) -> Result<(), Error> {
    let args = [
        fd as usize,
        position as usize,
        libc::SEEK_SET as usize,
        0,
        0,
        0,
    ];
    // SAFETY: touches no memory.
    unsafe { syscall(libc::SYS_lseek, args) }.map(|_| ())
}

/// Asks something of the lock on one byte of a file that belongs to the open file, not the process.
fn byte_lock(fd: i32, command: i32, kind: i32, at: u64) -> Result<i32, Error> {
    // SAFETY: all zeros is a value of `flock`.
    let mut lock: libc::flock = unsafe { core::mem::zeroed() };
    lock.l_type = kind as libc::c_short;
    lock.l_whence = libc::SEEK_SET as libc::c_short;
    lock.l_start = at as i64;
    lock.l_len = 1;
    let args = [
        fd as usize,
        command as usize,
        ptr::from_mut(&mut lock) as usize,
        0,
        0,
        0,
    ];
    // SAFETY: `lock` is the kernel's struct on 64-bit machines.
    unsafe { syscall(libc::SYS_fcntl, args)? };
    Ok(i32::from(lock.l_type))
}

/// Locks a byte for this open file alone; `false` if another has it.
pub(crate) fn lock_byte(fd: i32, at: u64) -> bool {
    byte_lock(fd, libc::F_OFD_SETLK, libc::F_WRLCK, at).is_ok()
}

pub(crate) fn unlock_byte(fd: i32, at: u64) {
    let _ = byte_lock(fd, libc::F_OFD_SETLK, libc::F_UNLCK, at);
}

/// Whether another open file has this byte locked. When in doubt, it has.
pub(crate) fn is_byte_locked(fd: i32, at: u64) -> bool {
    byte_lock(fd, libc::F_OFD_GETLK, libc::F_WRLCK, at) != Ok(libc::F_UNLCK)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::PAGE;

    #[test]
    fn a_sealed_file_keeps_its_size() {
        let file = memory_file(c"sealed").unwrap();
        set_size(file.raw(), PAGE).unwrap();
        set_size(file.raw(), 2 * PAGE).unwrap();
        seal_size(file.raw()).unwrap();
        for bytes in [0, PAGE, 3 * PAGE] {
            assert_eq!(set_size(file.raw(), bytes), Err(Error(libc::EPERM)));
        }
        assert_eq!(identity(file.raw()).unwrap().2, 2 * PAGE as u64);
    }
}
