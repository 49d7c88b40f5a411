// SPDX-License-Identifier: MIT OR Apache-2.0
//! System calls without libc: callbacks come at any moment, also between a call of libc and the
//! caller's look at `errno`, so what they call must not touch it.

use core::arch::asm;
use core::ffi::CStr;
use core::ops::Range;
use core::ptr;
use core::sync::atomic::{AtomicU32, Ordering};

/// An error number, positive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Error(pub(crate) i32);

/// # Safety
/// As the system call `n` with these arguments.
#[inline(always)]
unsafe fn syscall(n: libc::c_long, args: [usize; 6]) -> Result<usize, Error> {
    #[cfg(test)]
    if crate::faults::refuses_call(n) {
        return Err(Error(libc::ENOMEM));
    }
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

/// Bytes of a page, on the machines that we know.
pub(crate) const PAGE: usize = 4096;

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

/// Whether a descriptor is one of a memory file that nobody can make shorter.
pub(crate) fn is_sealed(fd: i32) -> bool {
    let args = [fd as usize, libc::F_GET_SEALS as usize, 0, 0, 0, 0];
    // SAFETY: touches no memory.
    let seals = unsafe { syscall(libc::SYS_fcntl, args) }.unwrap_or(0);
    seals & libc::F_SEAL_SHRINK as usize != 0
}

/// Opens what a process has open as `fd`, if its name begins with `link`. Of anything else the name
/// alone is read: opening may have effects.
pub(crate) fn open_of_process(pid: u32, fd: i32, link: &[u8]) -> Option<Fd> {
    let (mut path, mut name) = ([0; PATH], [0; PATH]);
    let (pid, fd) = (Digits::of(pid), Digits::of(fd as u32));
    let path = path_of(
        &[b"/proc/", pid.as_bytes(), b"/fd/", fd.as_bytes()],
        &mut path,
    )
    .ok()?;
    if !read_link(path, &mut name).starts_with(link) {
        return None;
    }
    let flags = libc::O_RDWR | libc::O_CLOEXEC | libc::O_NOCTTY | libc::O_NONBLOCK;
    Fd::open(path, flags).ok()
}

/// The parent of a process.
pub(crate) fn parent_of(pid: u32) -> Option<u32> {
    let (mut path, mut stat) = ([0; PATH], [0; 256]);
    let path = path_of(
        &[b"/proc/", Digits::of(pid).as_bytes(), b"/stat"],
        &mut path,
    )
    .ok()?;
    let len = Fd::open(path, libc::O_RDONLY | libc::O_CLOEXEC)
        .and_then(|fd| fd.read(&mut stat))
        .ok()?;
    // `PID (NAME) STATE PARENT ...`, and the name may have anything in it.
    let stat = stat.get(..len)?;
    let name_end = stat.iter().rposition(|byte| *byte == b')')?;
    let mut fields = stat.get(name_end..)?.split(|byte| *byte == b' ');
    core::str::from_utf8(fields.nth(2)?).ok()?.parse().ok()
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

/// All signals blocked, until dropped.
#[must_use = "signals come again when this is dropped"]
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

/// Where the kernel finds the calling thread's robust mutexes: what libc told it.
pub(crate) fn robust_list() -> Option<usize> {
    let (mut head, mut length) = (0_usize, 0_usize);
    let args = [
        0,
        ptr::from_mut(&mut head).expose_provenance(),
        ptr::from_mut(&mut length).expose_provenance(),
        0,
        0,
        0,
    ];
    // SAFETY: the kernel writes to both words.
    unsafe { syscall(libc::SYS_get_robust_list, args) }.ok()?;
    (head != 0 && length == 3 * size_of::<usize>()).then_some(head)
}

/// Wakes one of those who wait for a change of `word`, in any process.
pub(crate) fn wake_one(word: &AtomicU32) {
    let at = ptr::from_ref(word).expose_provenance();
    // SAFETY: the kernel does not touch the word.
    let _ = unsafe { syscall(libc::SYS_futex, [at, libc::FUTEX_WAKE as usize, 1, 0, 0, 0]) };
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

/// Whether the module that lies at `address` is the kernel's own (the vDSO), which is no file.
pub(crate) fn is_kernels(address: u64) -> bool {
    // SAFETY: a plain question.
    address != 0 && unsafe { libc::getauxval(libc::AT_SYSINFO_EHDR) } == address
}

/// The path of the executable of this process, cut off at the buffer's end. Without `/proc`, what
/// `exec` was called with.
pub(crate) fn executable(buf: &mut [u8]) -> &[u8] {
    let len = read_link(c"/proc/self/exe", buf).len();
    if len > 0 {
        return buf.get(..len).unwrap_or(&[]);
    }
    // SAFETY: a plain question.
    let name = unsafe { libc::getauxval(libc::AT_EXECFN) };
    if name == 0 {
        return &[];
    }
    // SAFETY: the kernel's copy of the name, a C string that stays where it is.
    let name = unsafe { CStr::from_ptr(ptr::with_exposed_provenance(name as usize)) }.to_bytes();
    let mut used = 0;
    let mut append = |bytes: &[u8]| {
        for byte in bytes {
            if let Some(to) = buf.get_mut(used) {
                *to = *byte;
                used += 1;
            }
        }
    };
    if name.first() != Some(&b'/') {
        append(working_directory(&mut [0_u8; 2048]));
        append(b"/");
    }
    append(name.strip_prefix(b"./").unwrap_or(name));
    buf.get(..used).unwrap_or(&[])
}

/// The working directory; empty if it does not fit, or is gone.
pub(crate) fn working_directory(buf: &mut [u8]) -> &[u8] {
    let args = [buf.as_mut_ptr() as usize, buf.len(), 0, 0, 0, 0];
    // SAFETY: `buf` is writable for its length.
    let len = unsafe { syscall(libc::SYS_getcwd, args) }.unwrap_or(0);
    // The zero byte at the end is counted.
    buf.get(..len.saturating_sub(1)).unwrap_or(&[])
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
pub(crate) fn mapped_path(address: u64, buf: &mut [u8]) -> &[u8] {
    let line = mapping(pid(), thread_id(), address, buf)
        .ok()
        .flatten()
        .unwrap_or(&[]);
    let slash = line.iter().position(|byte| *byte == b'/');
    slash.and_then(|at| line.get(at..)).unwrap_or(&[])
}

/// Whether the thread `(pid, tid)` has at `address` what this one has there.
pub(crate) fn shares_mapping(pid: u32, tid: u32, address: u64) -> Result<bool, Error> {
    let (mut ours, mut theirs) = ([0; 128], [0; 128]);
    let ours = mapping(self::pid(), thread_id(), address, &mut ours)?;
    // Where our own cannot be found, that theirs cannot says nothing.
    let ours = file_of_line(ours).ok_or(Error(libc::EIO))?;
    let theirs = mapping(pid, tid, address, &mut theirs)?;
    Ok(file_of_line(theirs) == Some(ours))
}

/// The device and the inode in a line of `/proc/PID/maps`.
fn file_of_line(line: Option<&[u8]>) -> Option<(&str, &str)> {
    let mut fields = core::str::from_utf8(line?).ok()?.split_ascii_whitespace();
    Some((fields.nth(3)?, fields.next()?))
}

/// The line of `/proc/PID/maps` for `address`: `start-end perms offset device inode    path`. What
/// does not fit into `buf` is cut off. A thread is asked, since a process whose first thread has
/// ended has no maps itself.
fn mapping(pid: u32, tid: u32, address: u64, buf: &mut [u8]) -> Result<Option<&[u8]>, Error> {
    let maps = of_thread(pid, tid, b"/maps")?;
    let mut chunk = [0_u8; 1024];
    let mut line = 0;
    while let n @ 1.. = maps.read(&mut chunk)? {
        for byte in chunk.get(..n).unwrap_or(&[]) {
            if *byte != b'\n' {
                // The end of a line that is longer than the buffer is lost.
                if let Some(to) = buf.get_mut(line) {
                    *to = *byte;
                    line += 1;
                }
                continue;
            }
            if range_of_line(buf.get(..line).unwrap_or(&[])).is_some_and(|r| r.contains(&address)) {
                return Ok(buf.get(..line));
            }
            line = 0;
        }
    }
    Ok(None)
}

/// The addresses that a line of `/proc/PID/maps` is about.
fn range_of_line(line: &[u8]) -> Option<Range<u64>> {
    let dash = line.iter().position(|byte| *byte == b'-')?;
    let space = line.iter().position(|byte| *byte == b' ')?;
    Some(hex(line.get(..dash)?)?..hex(line.get(dash + 1..space)?)?)
}

fn hex(digits: &[u8]) -> Option<u64> {
    let digits = core::str::from_utf8(digits).ok()?;
    u64::from_str_radix(digits, 16).ok()
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

/// Whether `bytes` more are a small part of what the process may still map: where its address space
/// is limited, the program is to have what it needs.
pub(crate) fn has_room(bytes: usize) -> bool {
    /// We take at most this part of what is left.
    const PART: u64 = 4;
    let mut limit = libc::rlimit64 {
        rlim_cur: libc::RLIM64_INFINITY,
        rlim_max: libc::RLIM64_INFINITY,
    };
    let (kind, at) = (libc::RLIMIT_AS as usize, ptr::from_mut(&mut limit) as usize);
    // SAFETY: the kernel writes one `rlimit64`.
    let asked = unsafe { syscall(libc::SYS_prlimit64, [0, kind, 0, at, 0, 0]) };
    if asked.is_err() || limit.rlim_cur == libc::RLIM64_INFINITY {
        return true;
    }
    let mut line = [0_u8; 64];
    let used = Fd::open(c"/proc/self/statm", libc::O_RDONLY | libc::O_CLOEXEC)
        .and_then(|file| file.read(&mut line))
        .ok()
        .and_then(|n| pages_of(line.get(..n)?))
        .unwrap_or(0)
        .saturating_mul(PAGE as u64);
    bytes as u64 <= limit.rlim_cur.saturating_sub(used) / PART
}

/// The first number of `/proc/PID/statm`.
fn pages_of(line: &[u8]) -> Option<u64> {
    let line = core::str::from_utf8(line).ok()?;
    line.split_ascii_whitespace().next()?.parse().ok()
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

/// Locks all memory of the process.
pub(crate) fn lock_all(flags: i32) -> Result<(), Error> {
    // SAFETY: changes where pages are, not what is in them.
    unsafe { syscall(libc::SYS_mlockall, [flags as usize, 0, 0, 0, 0, 0]) }.map(|_| ())
}

/// Gives the pages of private anonymous memory back; they read as zeros.
pub(crate) fn drop_private(at: usize, len: usize) -> Result<(), Error> {
    let advice = libc::MADV_DONTNEED as usize;
    // SAFETY: the caller's memory, of which nobody uses the content.
    unsafe { syscall(libc::SYS_madvise, [at, len, advice, 0, 0, 0]) }.map(|_| ())
}

/// Makes a part of a memory file zeros, and gives its pages back.
pub(crate) fn punch(fd: i32, offset: u64, len: u64) -> Result<(), Error> {
    let mode = (libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE) as usize;
    let args = [fd as usize, mode, offset as usize, len as usize, 0, 0];
    // SAFETY: touches no memory but the file's, whose mappings see zeros.
    unsafe { syscall(libc::SYS_fallocate, args) }.map(|_| ())
}

/// Memory of this process's own, at an address of the kernel's choice.
pub(crate) fn map_private(len: usize) -> Result<*mut u8, Error> {
    let prot = (libc::PROT_READ | libc::PROT_WRITE) as usize;
    let flags = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS) as usize;
    // SAFETY: the kernel chooses the address, so nothing that exists is touched.
    let at = unsafe { syscall(libc::SYS_mmap, [0, len, prot, flags, usize::MAX, 0])? };
    Ok(ptr::with_exposed_provenance_mut(at))
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

#[cfg(target_arch = "x86_64")]
const ARCH_SET_GS: usize = 0x1001;
#[cfg(target_arch = "x86_64")]
const ARCH_GET_GS: usize = 0x1004;

/// The calling thread's GS base, for machines where user mode may not read it.
#[cfg(target_arch = "x86_64")]
pub(crate) fn gs_base() -> Result<u64, Error> {
    let mut base = 0_u64;
    let at = ptr::from_mut(&mut base) as usize;
    // SAFETY: the kernel writes eight bytes.
    unsafe { syscall(libc::SYS_arch_prctl, [ARCH_GET_GS, at, 0, 0, 0, 0])? };
    Ok(base)
}

/// Sets it.
#[cfg(target_arch = "x86_64")]
pub(crate) fn set_gs_base(base: u64) -> Result<(), Error> {
    // SAFETY: nothing but checks uses GS; `maps` vouches for where it leads them.
    unsafe {
        syscall(
            libc::SYS_arch_prctl,
            [ARCH_SET_GS, base as usize, 0, 0, 0, 0],
        )
    }
    .map(|_| ())
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

/// Whether [`map_again`] works. Valgrind refuses it.
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
    let refused = again == Err(Error(libc::EINVAL));
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

/// Opens the file of `fd` anew: a position and locks of its own.
pub(crate) fn open_again(fd: i32) -> Result<Fd, Error> {
    let mut path = [0_u8; PATH];
    let path = path_of(
        &[b"/proc/self/fd/", Digits::of(fd as u32).as_bytes()],
        &mut path,
    )?;
    Fd::open(path, libc::O_RDWR | libc::O_CLOEXEC)
}

/// Room for a path in `/proc`.
const PATH: usize = 64;

/// Opens what `/proc` has of a thread.
fn of_thread(pid: u32, tid: u32, name: &[u8]) -> Result<Fd, Error> {
    let mut path = [0_u8; PATH];
    let (pid, tid) = (Digits::of(pid), Digits::of(tid));
    let pieces = [b"/proc/", pid.as_bytes(), b"/task/", tid.as_bytes(), name];
    let path = path_of(&pieces, &mut path)?;
    Fd::open(path, libc::O_RDONLY | libc::O_CLOEXEC)
}

/// The path that is made of these pieces.
fn path_of<'p>(pieces: &[&[u8]], path: &'p mut [u8; PATH]) -> Result<&'p CStr, Error> {
    for (to, from) in path.iter_mut().zip(pieces.iter().copied().flatten()) {
        *to = *from;
    }
    CStr::from_bytes_until_nul(path).map_err(|_| Error(libc::ENOENT))
}

/// A number in decimal.
pub(crate) struct Digits {
    bytes: [u8; 20],
    from: usize,
}

impl Digits {
    pub(crate) fn of(number: impl Into<u64>) -> Self {
        let mut number = number.into();
        let mut digits = Self {
            bytes: [b'0'; 20],
            from: 20,
        };
        for (at, byte) in digits.bytes.iter_mut().enumerate().rev() {
            *byte = b'0' + (number % 10) as u8;
            number /= 10;
            digits.from = at;
            if number == 0 {
                break;
            }
        }
        digits
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.bytes.get(self.from..).unwrap_or(&[])
    }
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

/// What `/proc` says of a thread.
pub(crate) struct ThreadStatus {
    /// It has ended, though somebody has yet to wait for it.
    pub(crate) is_dead: bool,
    /// When it began, in clock ticks since the system did.
    pub(crate) start: u64,
}

/// What `/proc` says of the thread `(process, thread)`, or of the calling one.
pub(crate) fn thread_status(which: Option<(u32, u32)>) -> Result<ThreadStatus, Error> {
    let (pid, tid) = which.unwrap_or((pid(), thread_id()));
    let file = of_thread(pid, tid, b"/stat")?;
    let mut line = [0_u8; 1024];
    let n = file.read(&mut line)?;
    status_of(line.get(..n).unwrap_or(&[])).ok_or(Error(libc::EIO))
}

/// Reads a line of `/proc/PID/stat`: the state is the first field behind the name, which stands in
/// parentheses and may hold anything; the start is the 22nd of all.
fn status_of(line: &[u8]) -> Option<ThreadStatus> {
    let close = line.iter().rposition(|byte| *byte == b')')?;
    let rest = core::str::from_utf8(line.get(close + 1..)?).ok()?;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?;
    let start = fields.nth(18)?.parse().ok()?;
    Some(ThreadStatus {
        is_dead: matches!(state, "Z" | "X" | "x"),
        start,
    })
}

/// Whether there is such a thread, dead ones that nobody has waited for included.
pub(crate) fn exists(pid: u32, tid: u32) -> bool {
    // SAFETY: signal 0 only asks.
    let asked = unsafe { syscall(libc::SYS_tgkill, [pid as usize, tid as usize, 0, 0, 0, 0]) };
    asked != Err(Error(libc::ESRCH))
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

/// Eight random bytes.
pub(crate) fn random() -> u64 {
    let mut number = 0_u64;
    let args = [
        ptr::from_mut(&mut number) as usize,
        8,
        libc::GRND_NONBLOCK as usize,
        0,
        0,
        0,
    ];
    // SAFETY: eight bytes that are ours.
    let _ = unsafe { syscall(libc::SYS_getrandom, args) };
    number
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_of_a_thread_with_a_hostile_name() {
        let line = b"7 (a) Z 1 (b) Z) R 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 20";
        let status = status_of(line).unwrap();
        assert_eq!((status.is_dead, status.start), (false, 4711));
        assert!(status_of(b"7 (a) Z 1 2").is_none());
        assert!(status_of(b"").is_none());
        assert!(thread_status(None).unwrap().start > 0);
    }

    #[test]
    fn a_mapping_is_told_from_others() {
        let at = map_shared_anonymous(1 << 16).unwrap();
        let address = at.expose_provenance() as u64;
        assert_eq!(shares_mapping(pid(), thread_id(), address + 4096), Ok(true));
        let mut child = std::process::Command::new("cat");
        let mut child = child.stdin(std::process::Stdio::piped()).spawn().unwrap();
        // Until it is another program, it has what we have.
        let shares = || shares_mapping(child.id(), child.id(), address);
        while shares() == Ok(true) {
            std::thread::yield_now();
        }
        assert_eq!(shares(), Ok(false));
        child.kill().unwrap();
        child.wait().unwrap();
        // SAFETY: mapped just now.
        unsafe { unmap(at, 1 << 16) };
        assert!(shares_mapping(pid(), thread_id(), address).is_err());
        assert!(shares_mapping(u32::MAX, u32::MAX, address).is_err());
        let line = b"7f0-7f8 rw-s 00000000 00:01 4711   /dev/zero (deleted)";
        assert_eq!(range_of_line(line), Some(0x7f0..0x7f8));
        assert_eq!(file_of_line(Some(line)), Some(("00:01", "4711")));
    }

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

    #[test]
    fn room_is_what_a_limit_leaves() {
        assert!(has_room(1 << 40), "there is no limit");
        assert_eq!(pages_of(b"1234 5 6\n"), Some(1234));
        assert_eq!(pages_of(b""), None);
    }

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

    #[test]
    fn digits() {
        assert_eq!(Digits::of(0_u32).as_bytes(), b"0");
        assert_eq!(Digits::of(u32::MAX).as_bytes(), b"4294967295");
        assert_eq!(Digits::of(u64::MAX).as_bytes(), b"18446744073709551615");
    }
}
