// SPDX-License-Identifier: MIT OR Apache-2.0
//! Runs a program transparently: its parent sees the signals and the status that it would see without
//! this process in between.
//!
//! The program stays in our process group. So it gets the terminal's signals directly, and job control
//! works on both processes together. Signals that other processes send to us are passed on.
//!
//! Some programs kill their whole process group to clean up, by a signal that cannot be blocked. So
//! another process, in its own group, handles the records: see [`run_apart`].

use std::io::{self, Read, Write};
use std::mem::{zeroed, MaybeUninit};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// The period in which a program's collector checks its memory.
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

/// Signals that are not passed on: a program causes them itself, or they cannot be blocked.
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
#[must_use = "the mask is put back when this is dropped"]
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

/// From now on, a write beyond the file size limit (`ulimit -f`) fails in this process like a write to
/// a full disk, instead of killing the process. Programs started by [`run`] are not affected.
pub fn limits_are_errors() {
    // SAFETY: no handler is set; what the signal would have done, nobody relies on.
    let before = unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
    if before == libc::SIG_DFL {
        CHANGED.store(true, Ordering::Relaxed);
    }
}

/// From now on, the terminal's interrupts do not end this process: while another program of its group,
/// such as a pager, reads the keyboard and uses them itself. A program that is started now ignores them,
/// too, unless it says otherwise.
pub fn ignore_interrupts() {
    // SAFETY: no handler is set; what the signal would have done, nobody relies on.
    unsafe { libc::signal(libc::SIGINT, libc::SIG_IGN) };
}

/// Starts `command` and waits for its end; returns its process id and how it ended. Meanwhile it passes
/// on signals that other processes send to us. When the terminal stops the program, this process stops
/// too. It calls `tick` about every [`TICK`].
///
/// Call it in the only thread of a process: another thread that does not block signals would handle
/// them itself.
///
/// # Errors
/// The program could not be started.
pub fn run(command: &mut Command, tick: impl FnMut()) -> io::Result<(u32, Outcome)> {
    run_masked(command, &Mask::block(&passed_on()), None, tick)
}

/// Runs one program of several to its end.
pub type RunOne<'a> = dyn FnMut(&mut Command) -> io::Result<(u32, Outcome)> + 'a;

/// [`run`], with the signals blocked already. If this process has adopted orphans, `beside` is its only
/// other child.
fn run_masked(
    command: &mut Command,
    mask: &Mask,
    beside: Option<libc::pid_t>,
    mut tick: impl FnMut(),
) -> io::Result<(u32, Outcome)> {
    let set = passed_on();
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
            if let Some(beside) = beside {
                reap_orphans(&[child, beside]);
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

/// Like [`run`], but splits this process: the caller continues in a forked child, which has its own
/// process group until the program has ended. This process stays the parent of the program, and ends
/// with the status of the child when the child ends.
///
/// Processes whose parents end become children of this process, so that they find, through their parent,
/// what it has lent to the program: a daemon that has closed all its files and cleared its environment.
///
/// If this process is killed, the child detects it: the result is then process 0, killed by SIGKILL.
///
/// Call it in the only thread of a process.
///
/// # Errors
/// The program could not be started, or there can be no child.
pub fn run_apart(command: &mut Command, tick: impl FnMut()) -> io::Result<(u32, Outcome)> {
    run_all_apart(|run| run(command), tick)
}

/// [`run_apart`] for several programs: `all` runs them, by what it is given, in the process between
/// whoever started us and the programs, and what it answers is answered here.
///
/// # Errors
/// Those of `all`, or there can be no child.
pub fn run_all_apart(
    all: impl FnOnce(&mut RunOne<'_>) -> io::Result<(u32, Outcome)>,
    mut tick: impl FnMut(),
) -> io::Result<(u32, Outcome)> {
    io::stdout().flush()?;
    let (ours, mut theirs) = UnixStream::pair()?;
    // SAFETY: there is one thread, so the child has all that this process has.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            drop(theirs);
            leave_group(0);
            let ended = told(ours, &mut tick);
            join_parent();
            ended
        }
        child => {
            drop(ours);
            // Here too: the child may not have run yet when the program gets the terminal's first interrupt.
            leave_group(child);
            // Until the end: the key that ends the program may reach us after the program has ended.
            let mask = Mask::block(&passed_on());
            adopt_orphans();
            let ended = all(&mut |command| run_masked(command, &mask, Some(child), || {}));
            // A child that is gone needs to know nothing.
            let _ = theirs.write_all(&message(&ended));
            drop(theirs);
            let outcome = status_of(child);
            if let Outcome::Killed(signal) = outcome {
                let text = format!(
                    "rkcov: the trace is lost: signal {signal} killed the process of rkcov that writes it\n"
                );
                let _ = io::stderr().write_all(text.as_bytes());
            }
            let status = outcome.shell_status().into();
            // SAFETY: ends the process. What is to be put in order, the child has put.
            unsafe { libc::_exit(status) }
        }
    }
}

/// Gives a child, or this process (0), a process group of its own. The second of two such calls changes nothing.
fn leave_group(process: libc::pid_t) {
    // SAFETY: touches no memory.
    unsafe { libc::setpgid(process, 0) };
}

/// From now on a descendant whose parent has ended is a child of this process.
fn adopt_orphans() {
    // SAFETY: changes an attribute of this process, and touches no memory. Without it, orphans are
    // children of another process, as they are without us.
    unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) };
}

/// Takes the statuses of orphans that have ended, as the system's first process would. Those of `own` are
/// left to who waits for them.
fn reap_orphans(own: &[libc::pid_t]) {
    const LOOK: libc::c_int = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    loop {
        // SAFETY: all zeros are a value of it. The call writes to it alone, and leaves its `si_pid` 0 if no
        // child has ended.
        let pid = unsafe {
            let mut info: libc::siginfo_t = zeroed();
            match libc::waitid(libc::P_ALL, 0, &mut info, LOOK) {
                0 => info.si_pid(),
                _ => 0,
            }
        };
        if pid == 0 || own.contains(&pid) {
            return;
        }
        // SAFETY: no status is asked for.
        unsafe { libc::waitpid(pid, ptr::null_mut(), libc::WNOHANG) };
    }
}

/// Three numbers that say how a program ended, or why it could not be started.
fn message(ended: &io::Result<(u32, Outcome)>) -> [u8; 12] {
    let (pid, how, number) = match ended {
        Ok((pid, Outcome::Exited(status))) => (*pid, 0, *status),
        Ok((pid, Outcome::Killed(signal))) => (*pid, 1, *signal),
        Err(error) => (0, 2, error.raw_os_error().unwrap_or(libc::EINVAL)),
    };
    let mut bytes = [0; 12];
    bytes[..4].copy_from_slice(&pid.to_ne_bytes());
    bytes[4..8].copy_from_slice(&i32::to_ne_bytes(how));
    bytes[8..].copy_from_slice(&number.to_ne_bytes());
    bytes
}

/// Waits for a [`message`], and calls `tick` meanwhile.
fn told(mut from: UnixStream, tick: &mut impl FnMut()) -> io::Result<(u32, Outcome)> {
    from.set_read_timeout(Some(TICK))?;
    let mut bytes = [0; 12];
    loop {
        // It comes in one piece, or not at all.
        match from.read(&mut bytes) {
            Ok(12) => break,
            Ok(_) => return Ok((0, Outcome::Killed(libc::SIGKILL))),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => tick(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let word = |at: usize| {
        let mut word = [0; 4];
        word.copy_from_slice(&bytes[at..at + 4]);
        i32::from_ne_bytes(word)
    };
    let (pid, number) = (word(0).cast_unsigned(), word(8));
    match word(4) {
        0 => Ok((pid, Outcome::Exited(number))),
        1 => Ok((pid, Outcome::Killed(number))),
        _ => Err(io::Error::from_raw_os_error(number)),
    }
}

/// Joins the parent's process group, so that the terminal's keys reach us too. If that is not possible,
/// our messages still go to the terminal.
fn join_parent() {
    // SAFETY: these touch no memory.
    unsafe {
        let group = libc::getpgid(libc::getppid());
        if group <= 0 || libc::setpgid(0, group) != 0 {
            libc::signal(libc::SIGTTOU, libc::SIG_IGN);
        }
    }
}

/// Waits for the child and returns how it ended. Signals to end are passed to the child.
fn status_of(child: libc::pid_t) -> Outcome {
    let set = passed_on();
    let _mask = Mask::block(&set);
    let timeout = libc::timespec {
        tv_sec: TICK.as_secs() as libc::time_t,
        tv_nsec: TICK.subsec_nanos().into(),
    };
    loop {
        if let Some(outcome) = changed(child) {
            return outcome;
        }
        reap_orphans(&[child]);
        let mut info = MaybeUninit::<libc::siginfo_t>::uninit();
        // SAFETY: all are valid for the call.
        let signal = unsafe { libc::sigtimedwait(&set, info.as_mut_ptr(), &timeout) };
        if [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT].contains(&signal) {
            // SAFETY: `sigtimedwait()` succeeded and filled it in.
            let by_kernel = unsafe { info.assume_init() }.si_code == libc::SI_KERNEL;
            // The terminal's went to the child too.
            if !by_kernel {
                // SAFETY: the child was not waited for yet, so the number is still its own.
                unsafe { libc::kill(child, signal) };
            }
        }
    }
}

/// Calls `done` about every [`TICK`] until it returns `true`, `patience` is over, or a signal asks this
/// process to end; returns that signal. Other signals wait meanwhile.
///
/// Call it in the only thread of a process. Threads that `done` starts get no signals.
pub fn wait_until(patience: Option<Duration>, mut done: impl FnMut() -> bool) -> Option<i32> {
    let _mask = Mask::block(&passed_on());
    let began = Instant::now();
    let timeout = libc::timespec {
        tv_sec: TICK.as_secs() as libc::time_t,
        tv_nsec: TICK.subsec_nanos().into(),
    };
    while !done() && patience.is_none_or(|patience| began.elapsed() < patience) {
        // SAFETY: `sigemptyset()` fills in the set, and the numbers are those of signals; all are
        // valid for the call.
        let signal = unsafe {
            let mut set = zeroed();
            libc::sigemptyset(&mut set);
            for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT] {
                libc::sigaddset(&mut set, signal);
            }
            libc::sigtimedwait(&set, ptr::null_mut(), &timeout)
        };
        if signal > 0 {
            return Some(signal);
        }
    }
    None
}

/// Checks the state of the child; returns the outcome if it has ended.
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
