// SPDX-License-Identifier: MIT OR Apache-2.0
//! System calls without libc: callbacks come at any moment, also between a call of libc and the
//! caller's look at `errno`, so what they call must not touch it.

use core::arch::asm;
use core::ffi::CStr;
use core::ptr;

/// An error number, positive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Error(pub(crate) i32);

/// # Safety
/// As the system call `n` with these arguments.
#[inline(always)]
unsafe fn syscall(n: libc::c_long, args: [usize; 6]) -> Result<usize, Error> {
    let [a, b, c, d, e, f] = args;
    let ret: isize;
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the caller's contract; `syscall` overwrites rcx and r11 only.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") n as isize => ret,
            in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d, in("r8") e, in("r9") f,
            lateout("rcx") _, lateout("r11") _,
            options(nostack),
        );
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: the caller's contract.
    unsafe {
        asm!(
            "svc 0",
            in("x8") n,
            inlateout("x0") a as isize => ret,
            in("x1") b, in("x2") c, in("x3") d, in("x4") e, in("x5") f,
            options(nostack),
        );
    }
    if (-4095..0).contains(&ret) {
        Err(Error(-ret as i32))
    } else {
        Ok(ret as usize)
    }
}

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
}

impl Drop for Fd {
    fn drop(&mut self) {
        // SAFETY: the descriptor is ours.
        let _ = unsafe { syscall(libc::SYS_close, [self.0 as usize, 0, 0, 0, 0, 0]) };
    }
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

/// Takes a mapping away.
///
/// # Safety
/// `[at, at + len)` is a mapping that nobody uses any more.
pub(crate) unsafe fn unmap(at: *mut u8, len: usize) {
    // SAFETY: the caller's contract.
    let _ = unsafe { syscall(libc::SYS_munmap, [at as usize, len, 0, 0, 0, 0]) };
}

/// All signals blocked, until dropped.
pub(crate) struct SignalsBlocked(u64);

impl SignalsBlocked {
    pub(crate) fn new() -> Self {
        let (all, mut old) = (u64::MAX, 0_u64);
        let (set, was) = (
            ptr::from_ref(&all) as usize,
            ptr::from_mut(&mut old) as usize,
        );
        let how = libc::SIG_SETMASK as usize;
        // SAFETY: both point to a kernel signal set, which has eight bytes.
        let _ = unsafe { syscall(libc::SYS_rt_sigprocmask, [how, set, was, 8, 0, 0]) };
        Self(old)
    }
}

impl Drop for SignalsBlocked {
    fn drop(&mut self) {
        let set = ptr::from_ref(&self.0) as usize;
        let how = libc::SIG_SETMASK as usize;
        // SAFETY: as above.
        let _ = unsafe { syscall(libc::SYS_rt_sigprocmask, [how, set, 0, 8, 0, 0]) };
    }
}

pub(crate) fn pid() -> u32 {
    // SAFETY: touches no memory.
    unsafe { syscall(libc::SYS_getpid, [0; 6]) }.unwrap_or(0) as u32
}

pub(crate) fn parent_pid() -> u32 {
    // SAFETY: touches no memory.
    unsafe { syscall(libc::SYS_getppid, [0; 6]) }.unwrap_or(0) as u32
}

pub(crate) fn thread_id() -> u32 {
    // SAFETY: touches no memory.
    unsafe { syscall(libc::SYS_gettid, [0; 6]) }.unwrap_or(0) as u32
}

pub(crate) fn yield_now() {
    // SAFETY: touches no memory.
    let _ = unsafe { syscall(libc::SYS_sched_yield, [0; 6]) };
}

/// The calling thread's name, padded with zeros.
pub(crate) fn thread_name() -> [u8; 16] {
    let mut name = [0_u8; 16];
    let command = libc::PR_GET_NAME as usize;
    let args = [command, name.as_mut_ptr() as usize, 0, 0, 0, 0];
    // SAFETY: the kernel writes at most 16 bytes.
    let _ = unsafe { syscall(libc::SYS_prctl, args) };
    name
}

/// Nanoseconds since the epoch.
pub(crate) fn now() -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    let at = ptr::from_mut(&mut time) as usize;
    let args = [libc::CLOCK_REALTIME as usize, at, 0, 0, 0, 0];
    // SAFETY: `time` is the kernel's struct on 64-bit machines.
    let _ = unsafe { syscall(libc::SYS_clock_gettime, args) };
    (time.tv_sec as u64)
        .wrapping_mul(1_000_000_000)
        .wrapping_add(time.tv_nsec as u64)
}

/// Where a symbolic link points, cut off at the buffer's end.
pub(crate) fn read_link<'a>(path: &CStr, buf: &'a mut [u8]) -> &'a [u8] {
    let dir = libc::AT_FDCWD as usize;
    let (at, len) = (buf.as_mut_ptr() as usize, buf.len());
    let args = [dir, path.as_ptr() as usize, at, len, 0, 0];
    // SAFETY: the path is a C string and `buf` is writable for its length.
    let n = unsafe { syscall(libc::SYS_readlinkat, args) }.unwrap_or(0);
    buf.get(..n).unwrap_or(&[])
}

/// Says something to the person who runs the program.
pub(crate) fn complain(pieces: &[&[u8]]) {
    let mut line = [0_u8; 512];
    let mut used = 0;
    for byte in pieces.iter().copied().flatten() {
        if let Some(to) = line.get_mut(used) {
            *to = *byte;
            used += 1;
        }
    }
    let args = [2, line.as_ptr() as usize, used, 0, 0, 0];
    // SAFETY: `line` is readable for `used` bytes.
    let _ = unsafe { syscall(libc::SYS_write, args) };
}

/// The path of the file that is mapped at `address`; empty if there is none.
///
/// Reads `/proc/self/maps`, whose lines are `start-end perms offset device inode    path`.
pub(crate) fn mapped_path(address: u64, buf: &mut [u8]) -> &[u8] {
    let Ok(maps) = Fd::open(c"/proc/self/maps", libc::O_RDONLY | libc::O_CLOEXEC) else {
        return &[];
    };
    let mut chunk = [0_u8; 1024];
    let mut line = 0;
    while let Ok(n @ 1..) = maps.read(&mut chunk) {
        for byte in chunk.get(..n).unwrap_or(&[]) {
            if *byte != b'\n' {
                // The end of a line that is longer than the buffer is lost.
                if let Some(to) = buf.get_mut(line) {
                    *to = *byte;
                    line += 1;
                }
                continue;
            }
            if let Some(path) = path_of_line(buf.get(..line).unwrap_or(&[]), address) {
                return buf.get(path..line).unwrap_or(&[]);
            }
            line = 0;
        }
    }
    &[]
}

/// Where the path at the end of a line of `/proc/self/maps` begins, if the line is that of
/// `address`.
fn path_of_line(line: &[u8], address: u64) -> Option<usize> {
    let dash = line.iter().position(|byte| *byte == b'-')?;
    let space = line.iter().position(|byte| *byte == b' ')?;
    let start = hex(line.get(..dash)?)?;
    let end = hex(line.get(dash + 1..space)?)?;
    if !(start..end).contains(&address) {
        return None;
    }
    let slash = line.iter().position(|byte| *byte == b'/');
    Some(slash.unwrap_or(line.len()))
}

fn hex(digits: &[u8]) -> Option<u64> {
    let digits = core::str::from_utf8(digits).ok()?;
    u64::from_str_radix(digits, 16).ok()
}
