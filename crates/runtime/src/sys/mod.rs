// SPDX-License-Identifier: MIT OR Apache-2.0
//! System calls without libc: callbacks come at any moment, also between a call of libc and the
//! caller's look at `errno`, so what they call must not touch it.

mod files;
mod memory;
mod proc;

pub(crate) use files::*;
pub(crate) use memory::*;
pub(crate) use proc::*;

use core::arch::asm;
use core::ptr;
use core::sync::atomic::AtomicU32;

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

/// Bytes of a page, as far as layouts of ours have them.
pub(crate) const PAGE: usize = 4096;

/// Bytes of the pages that mappings consist of: more than [`PAGE`] under some kernels for aarch64.
pub(crate) fn page() -> usize {
    if cfg!(target_arch = "x86_64") {
        return PAGE;
    }
    // SAFETY: a plain question.
    let bytes = unsafe { libc::getauxval(libc::AT_PAGESZ) };
    PAGE.max(bytes as usize)
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

/// Whether the module that lies at `address` is the kernel's own (the vDSO), which is no file.
pub(crate) fn is_kernels(address: u64) -> bool {
    // SAFETY: a plain question.
    address != 0 && unsafe { libc::getauxval(libc::AT_SYSINFO_EHDR) } == address
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

/// Locks all memory of the process.
pub(crate) fn lock_all(flags: i32) -> Result<(), Error> {
    // SAFETY: changes where pages are, not what is in them.
    unsafe { syscall(libc::SYS_mlockall, [flags as usize, 0, 0, 0, 0, 0]) }.map(|_| ())
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

/// Whether there is such a thread, dead ones that nobody has waited for included.
pub(crate) fn exists(pid: u32, tid: u32) -> bool {
    // SAFETY: signal 0 only asks.
    let asked = unsafe { syscall(libc::SYS_tgkill, [pid as usize, tid as usize, 0, 0, 0, 0]) };
    asked != Err(Error(libc::ESRCH))
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
