// SPDX-License-Identifier: MIT OR Apache-2.0
//! Runs a program as if nobody stood between it and whoever started us.
//!
//! The program stays in our process group, so the terminal's signals reach it without us, and job
//! control works on both together. What other processes send us is passed on.

use std::io;
use std::mem::{zeroed, MaybeUninit};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How often a program's collector looks after its memory.
pub const TICK: Duration = Duration::from_millis(100);

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It exited with this status.
    Exited(i32),
    /// This signal killed it.
    Killed(i32),
}

impl Outcome {
    /// The exit status that a shell reports.
    #[must_use]
    pub const fn shell_status(self) -> u8 {
        match self {
            Self::Exited(status) => status as u8,
            Self::Killed(signal) => 128_u8.wrapping_add(signal as u8),
        }
    }
}

/// Signals that a program causes itself, and those that nobody can hold back: not passed on.
const NOT_PASSED_ON: [i32; 9] = [
    libc::SIGKILL,
    libc::SIGSTOP,
    libc::SIGSEGV,
    libc::SIGBUS,
    libc::SIGFPE,
    libc::SIGILL,
    libc::SIGTRAP,
    libc::SIGSYS,
    libc::SIGABRT,
];

/// The calling thread's signal mask, put back when dropped.
struct Mask(libc::sigset_t);

impl Mask {
    fn block(set: &libc::sigset_t) -> Self {
        let mut old = MaybeUninit::uninit();
        // SAFETY: both are valid signal sets for the call, which cannot fail with this `how`.
        unsafe {
            libc::pthread_sigmask(libc::SIG_BLOCK, set, old.as_mut_ptr());
            Self(old.assume_init())
        }
    }
}

impl Drop for Mask {
    fn drop(&mut self) {
        // SAFETY: the set was filled in by `pthread_sigmask()`.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &self.0, ptr::null_mut()) };
    }
}

fn passed_on() -> libc::sigset_t {
    // SAFETY: `sigfillset()` fills in the set, and the numbers are those of signals.
    unsafe {
        let mut set = zeroed();
        libc::sigfillset(&mut set);
        for signal in NOT_PASSED_ON {
            libc::sigdelset(&mut set, signal);
        }
        set
    }
}

/// Whether [`limits_are_errors`] has changed what a signal does.
static CHANGED: AtomicBool = AtomicBool::new(false);

/// From now on a file that would pass the limit of sizes (`ulimit -f`) is an error of whoever writes
/// it in this process, as a full disk is, and not its end. Programs that are [`run`] start as if
/// this had not been called.
pub fn limits_are_errors() {
    // SAFETY: no handler is set; what the signal would have done, nobody relies on.
    let before = unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
    if before == libc::SIG_DFL {
        CHANGED.store(true, Ordering::Relaxed);
    }
}

/// Starts `command` and waits for its end; gives its process id, and how it ended. Meanwhile signals that other processes send to us go to
/// it, and when it stops at the terminal's wish, so do we. About every [`TICK`], `tick` is called.
///
/// To be called in the only thread of a process: signals that another thread does not block
/// would take their usual course there.
///
/// # Errors
/// The program could not be started.
pub fn run(command: &mut Command, mut tick: impl FnMut()) -> io::Result<(u32, Outcome)> {
    let set = passed_on();
    let mask = Mask::block(&set);
    let original = mask.0;
    // SAFETY: both functions may be called between fork and exec.
    unsafe {
        command.pre_exec(move || {
            if CHANGED.load(Ordering::Relaxed) {
                libc::signal(libc::SIGXFSZ, libc::SIG_DFL);
            }
            libc::pthread_sigmask(libc::SIG_SETMASK, &original, ptr::null_mut());
            Ok(())
        });
    }
    let child = command.spawn()?.id() as libc::pid_t;
    let timeout = libc::timespec {
        tv_sec: TICK.as_secs() as libc::time_t,
        tv_nsec: TICK.subsec_nanos().into(),
    };
    let mut ticked = Instant::now();
    loop {
        if ticked.elapsed() >= TICK {
            tick();
            ticked = Instant::now();
        }
        let mut info = MaybeUninit::<libc::siginfo_t>::uninit();
        // SAFETY: all are valid for the call.
        let signal = unsafe { libc::sigtimedwait(&set, info.as_mut_ptr(), &timeout) };
        if signal == libc::SIGCHLD {
            if let Some(outcome) = changed(child) {
                return Ok((child as u32, outcome));
            }
        } else if signal > 0 {
            // SAFETY: `sigtimedwait()` succeeded and filled it in.
            let by_kernel = unsafe { info.assume_init() }.si_code == libc::SI_KERNEL;
            // The kernel's own (the terminal's) went to the whole process group.
            if !by_kernel || signal == libc::SIGCONT {
                // SAFETY: the child was not waited for yet, so the number is still its own.
                unsafe { libc::kill(child, signal) };
            }
        }
    }
}

/// Looks at what became of the child; the outcome if it has ended.
fn changed(child: libc::pid_t) -> Option<Outcome> {
    loop {
        let mut status = 0;
        // SAFETY: `status` is valid for the call.
        let pid = unsafe { libc::waitpid(child, &mut status, libc::WNOHANG | libc::WUNTRACED) };
        if pid != child {
            return None;
        }
        if libc::WIFEXITED(status) {
            return Some(Outcome::Exited(libc::WEXITSTATUS(status)));
        }
        if libc::WIFSIGNALED(status) {
            return Some(Outcome::Killed(libc::WTERMSIG(status)));
        }
        let by_terminal = [libc::SIGTSTP, libc::SIGTTIN, libc::SIGTTOU];
        if libc::WIFSTOPPED(status) && by_terminal.contains(&libc::WSTOPSIG(status)) {
            stop(libc::WSTOPSIG(status));
        }
    }
}

/// Stops this process by `signal`, which is blocked, until somebody continues it.
fn stop(signal: libc::c_int) {
    // SAFETY: `sigemptyset()` fills in the set. The signal's disposition is the default, and one
    // that the terminal has sent us as well is pending: both together stop us once.
    unsafe {
        let mut set = zeroed();
        libc::sigemptyset(&mut set);
        libc::sigaddset(&mut set, signal);
        libc::raise(signal);
        libc::pthread_sigmask(libc::SIG_UNBLOCK, &set, ptr::null_mut());
        libc::pthread_sigmask(libc::SIG_BLOCK, &set, ptr::null_mut());
    }
}
