// SPDX-License-Identifier: MIT OR Apache-2.0
//! Every allocation of this host fails once, in turn: blocks of the arena, libc's memory, and each
//! system call that can fail for want of memory or of file descriptors; in the client's thread, in
//! one that it makes, and in a child that it forks.

use crate::api::*;
use crate::callbacks::__sanitizer_cov_trace_pc;
use crate::{sys, threads};
use core::ffi::{c_ulong, c_void};
use core::ptr;
use core::sync::atomic::{AtomicU64, Ordering};
use rkcov_abi::ioctl::{
    KCOV_DISABLE, KCOV_ENABLE, KCOV_INIT_TRACE, KCOV_REMOTE_ENABLE, KCOV_RESET_TRACE,
    KCOV_UNIQUE_ENABLE,
};
use std::format;
use std::string::{String, ToString};
use std::vec::Vec;

/// Allocations of this process until one fails.
static LEFT: AtomicU64 = AtomicU64::new(NEVER);
const NEVER: u64 = u64::MAX;
/// More than there are.
const BEYOND: u64 = NEVER - 1;

/// Whether this allocation is the one that fails.
pub(crate) fn strikes() -> bool {
    let next = |left: u64| (left != NEVER).then(|| left.checked_sub(1).unwrap_or(NEVER));
    let left = LEFT.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
    left == Ok(0)
}

/// Whether this system call is the one that fails. Those that cannot fail are not counted.
pub(crate) fn refuses_call(number: libc::c_long) -> bool {
    let may_fail = matches!(
        number,
        libc::SYS_mmap
            | libc::SYS_mremap
            | libc::SYS_mprotect
            | libc::SYS_madvise
            | libc::SYS_memfd_create
            | libc::SYS_openat
            | libc::SYS_fcntl
            | libc::SYS_read
            | libc::SYS_process_vm_readv
    );
    // Without chance, tables grow alike in all processes.
    number == libc::SYS_getrandom || (may_fail && strikes())
}

const WORDS: usize = 64;
const USB: u64 = 1 << 56;
const COMMON: u64 = 9;
/// Enough for tables to grow.
const HANDLES: u32 = 200;

/// `KCOV_REMOTE_ENABLE`'s argument, with that many handles.
#[repr(C)]
pub(crate) struct Request<const N: usize> {
    pub(crate) mode: u32,
    pub(crate) area: u32,
    pub(crate) count: u32,
    pub(crate) common: u64,
    pub(crate) handles: [u64; N],
}

type Step = Result<(), &'static str>;

fn ioctl(fd: i32, number: u32, argument: usize, step: &'static str) -> Step {
    match rkcov_ioctl(fd, c_ulong::from(number), argument as c_ulong) {
        0 => Ok(()),
        _ => Err(step),
    }
}

/// A client's whole life, as far as it gets: where it stopped, and what it saw.
struct Seen {
    step: Step,
    /// Records of sections (two nested ones, that of a thread, that of a child) and of a local
    /// collection.
    remote: u64,
    local: u64,
    drops: Drops,
}

fn client() -> Seen {
    let mut seen = Seen {
        step: Ok(()),
        remote: 0,
        local: 0,
        drops: Drops::default(),
    };
    let (remote, local) = (rkcov_open(), rkcov_open());
    seen.step = match (remote, local) {
        (0.., 0..) => collect(remote, local, &mut seen),
        _ => Err("open"),
    };
    // What failed leaves nothing enabled; what did not is disabled by the end of all copies.
    for fd in [remote, local] {
        if fd >= 0 {
            rkcov_ioctl(fd, c_ulong::from(KCOV_DISABLE), 0);
            assert_eq!(rkcov_close(fd), 0);
        }
    }
    seen
}

fn collect(remote: i32, local: i32, seen: &mut Seen) -> Step {
    ioctl(remote, KCOV_INIT_TRACE, WORDS, "init")?;
    ioctl(local, KCOV_INIT_TRACE, WORDS, "init")?;
    let (heard, own) = (Mapped::new(remote)?, Mapped::new(local)?);
    let mut request = Request {
        mode: 0,
        area: 16,
        count: HANDLES,
        common: COMMON,
        handles: [0; HANDLES as usize],
    };
    for (handle, instance) in request.handles.iter_mut().zip(1..) {
        *handle = USB + instance;
    }
    let argument = ptr::from_ref(&request).expose_provenance();
    ioctl(remote, KCOV_REMOTE_ENABLE, argument, "remote enable")?;
    kcov_remote_start(USB + 7);
    run();
    kcov_remote_start(kcov_common_handle());
    run();
    // While both areas are in use.
    let done = in_a_thread();
    kcov_remote_stop();
    kcov_remote_stop();
    done?;
    in_a_child()?;
    ioctl(local, KCOV_UNIQUE_ENABLE, 1, "unique enable")?;
    ioctl(local, KCOV_DISABLE, 0, "disable")?;
    ioctl(local, KCOV_ENABLE, 0, "enable")?;
    ioctl(local, KCOV_RESET_TRACE, 0, "reset")?;
    run();
    ioctl(local, KCOV_DISABLE, 0, "disable")?;
    (seen.remote, seen.local) = (heard.count(), own.count());
    // SAFETY: a place of ours.
    if unsafe { rkcov_drops(remote, &mut seen.drops) } != 0 {
        return Err("drops");
    }
    ioctl(remote, KCOV_DISABLE, 0, "remote disable")
}

/// A section on this thread's behalf.
fn work() {
    kcov_remote_start(kcov_common_handle());
    run();
    kcov_remote_stop();
}

fn in_a_thread() -> Step {
    extern "C" fn begin(_: *mut c_void) -> *mut c_void {
        work();
        ptr::null_mut()
    }
    let mut thread = 0;
    // SAFETY: a routine that takes and gives nothing; the thread is joined once.
    unsafe {
        match threads::pthread_create(&mut thread, ptr::null(), begin, ptr::null_mut()) {
            0 => assert_eq!(libc::pthread_join(thread, ptr::null_mut()), 0),
            _ => return Err("thread"),
        }
    }
    Ok(())
}

fn in_a_child() -> Step {
    let left = LEFT.load(Ordering::Relaxed);
    // SAFETY: the child calls nothing but the runtime, and leaves.
    let child = unsafe { libc::fork() };
    assert!(child >= 0, "no child");
    const STRUCK: i32 = 100;
    if child == 0 {
        work();
        let used = match (left, LEFT.load(Ordering::Relaxed)) {
            (NEVER, _) => 0,
            (_, NEVER) => STRUCK,
            (before, after) => (before - after) as i32,
        };
        // SAFETY: ends the child at once.
        unsafe { libc::_exit(used) };
    }
    let mut status = 0;
    // SAFETY: a place for the status of our child.
    assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
    // What the child allocated counts here, too.
    match (libc::WIFEXITED(status), libc::WEXITSTATUS(status)) {
        (true, STRUCK) => LEFT.store(NEVER, Ordering::Relaxed),
        (true, used) if left != NEVER => LEFT.store(left - used as u64, Ordering::Relaxed),
        (true, 0) => {}
        _ => return Err("child"),
    }
    Ok(())
}

/// Instrumented code.
fn run() {
    // SAFETY: called as compilers call it.
    unsafe { __sanitizer_cov_trace_pc() };
}

/// A buffer as a client has it.
struct Mapped(*mut AtomicU64);

impl Mapped {
    fn new(fd: i32) -> Result<Self, &'static str> {
        let (bytes, protection) = (WORDS * 8, libc::PROT_READ | libc::PROT_WRITE);
        // SAFETY: anywhere.
        let at = unsafe { rkcov_mmap(ptr::null_mut(), bytes, protection, libc::MAP_SHARED, fd, 0) };
        if at == libc::MAP_FAILED {
            return Err("mmap");
        }
        Ok(Self(at.cast()))
    }

    fn count(&self) -> u64 {
        // SAFETY: mapped while `self` lives.
        unsafe { (*self.0).load(Ordering::Acquire) }
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: our mapping; a page is the least that can be mapped.
        unsafe { libc::munmap(self.0.cast(), sys::PAGE) };
    }
}

/// What is left behind: bytes of the arena, handles, open files.
fn left() -> (u64, u64, usize) {
    let (mut bytes, mut handles) = (0, 0);
    // SAFETY: places of ours.
    unsafe { rkcov_usage(&mut bytes, &mut handles) };
    let files = std::fs::read_dir("/proc/self/fd").unwrap().count();
    (bytes, handles, files)
}

/// A process that has not opened a kcov before, in which the `nth` allocation fails: whether there
/// was one, and what is wrong.
fn with_fault(nth: u64) -> Result<bool, String> {
    LEFT.store(nth, Ordering::Relaxed);
    let faulty = client();
    let fired = LEFT.swap(NEVER, Ordering::Relaxed) == NEVER;
    let wrong = |what: &str| Err(format!("allocation {nth}: {what}"));
    if !fired && faulty.step.is_err() {
        return wrong("nothing failed, but the client did");
    }
    if faulty.step.is_ok() {
        // Whatever failed cost a section at most, and that was counted.
        let lost = faulty.drops.no_area + faulty.drops.deep;
        if faulty.local != 1 || faulty.remote + lost < 4 {
            return wrong("something was lost silently");
        }
    }
    let clean = client();
    if let Err(step) = clean.step {
        return wrong(&format!("a correct {step} right after fails"));
    }
    if (clean.remote, clean.local) != (4, 1) {
        let seen = (clean.remote, clean.local, clean.drops);
        return wrong(&format!(
            "a correct client right after does not see all, but {seen:?}"
        ));
    }
    let after = left();
    client();
    let again = left();
    if after.1 != 0 {
        return wrong("handles are left");
    }
    if after != again {
        return wrong(&format!("{after:?} and {again:?} after one more client"));
    }
    // The first client in a process makes what stays; a failed one must not make more of it.
    let bytes = after.0.to_string();
    match std::env::var(BASELINE) {
        Ok(baseline) if baseline != bytes => wrong(&format!("{bytes} bytes, not {baseline}")),
        Ok(_) => Ok(fired),
        Err(_) => {
            std::println!("{BASELINE}={bytes}");
            Ok(fired)
        }
    }
}

const NTH: &str = "RKCOV_TEST_FAULT";
const BASELINE: &str = "RKCOV_TEST_BASELINE";

/// Runs this test again in a process of its own, as the client.
fn client_process(nth: u64, baseline: Option<&str>) -> (Option<i32>, String) {
    let mut again = std::process::Command::new(std::env::current_exe().unwrap());
    again.args([
        "--exact",
        "--nocapture",
        "faults::every_allocation_fails_once",
    ]);
    again.env(NTH, nth.to_string());
    if let Some(bytes) = baseline {
        again.env(BASELINE, bytes);
    }
    let output = again.output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&said).into())
}

const FIRED: i32 = 3;
const NOT_REACHED: i32 = 4;

#[test]
fn every_allocation_fails_once() {
    if let Ok(nth) = std::env::var(NTH) {
        let code = match with_fault(nth.parse().unwrap()) {
            Ok(true) => FIRED,
            Ok(false) => NOT_REACHED,
            Err(wrong) => panic!("{wrong}"),
        };
        std::process::exit(code);
    }
    let (code, said) = client_process(BEYOND, None);
    assert_eq!(code, Some(NOT_REACHED), "{said}");
    let baseline = said
        .lines()
        .find_map(|line| line.strip_prefix(BASELINE)?.strip_prefix('='));
    let baseline = baseline.expect("the first client says what stays");
    let mut wrong = Vec::new();
    let mut nth = 0;
    loop {
        match client_process(nth, Some(baseline)) {
            (Some(FIRED), _) => {}
            (Some(NOT_REACHED), _) => break,
            (_, said) => wrong.push(said),
        }
        nth += 1;
        assert!(nth < 1000, "no end of allocations");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(nth > 20, "only {nth} allocations");
    std::println!("{nth} allocations failed, each in a process of its own");
}
