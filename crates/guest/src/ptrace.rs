// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tasks that are stopped one by one as they come into being, and made to call the kernel.

use crate::registers::{self, Registers};
use libc::{c_int, c_long, pid_t};
use std::io;
use std::ptr;

/// What became of a task that is followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// It ended; the status is that of `waitpid()`.
    Ended(c_int),
    /// It stopped because of this signal, which it has not got yet.
    Signal(c_int),
    /// It stopped after an `exec` in a task that had another number: this.
    Exec(pid_t),
    /// It stopped for another reason, and may go on.
    Other,
}

/// Followed from the calling task's next `exec` on, by its parent. Allowed between fork and exec.
pub(crate) fn follow_me() -> io::Result<()> {
    request(libc::PTRACE_TRACEME, 0, 0, 0).map(drop)
}

/// Has all that a task makes followed too, and ended with its follower. The task is stopped.
pub(crate) fn follow_children(task: pid_t) -> io::Result<()> {
    let options = libc::PTRACE_O_TRACECLONE
        | libc::PTRACE_O_TRACEFORK
        | libc::PTRACE_O_TRACEVFORK
        | libc::PTRACE_O_TRACEEXEC
        | libc::PTRACE_O_EXITKILL;
    request(libc::PTRACE_SETOPTIONS, task, 0, options as usize).map(drop)
}

/// Lets a stopped task go on, with a signal or with 0.
pub(crate) fn go_on(task: pid_t, signal: c_int) -> io::Result<()> {
    request(libc::PTRACE_CONT, task, 0, signal as usize).map(drop)
}

/// Waits until a followed task stops.
pub(crate) fn wait_for_stop(task: pid_t) -> io::Result<()> {
    let mut status = 0;
    // SAFETY: a status to be written.
    match unsafe { libc::waitpid(task, &mut status, libc::__WALL) } {
        -1 => Err(io::Error::last_os_error()),
        _ if libc::WIFSTOPPED(status) && libc::WSTOPSIG(status) == libc::SIGTRAP => Ok(()),
        _ => Err(io::Error::other(format!("task {task}: status {status:#x}"))),
    }
}

/// What came of any task that this thread made or follows, or nothing for now.
pub(crate) fn next() -> io::Result<Option<(pid_t, Event)>> {
    const HOW: c_int = libc::__WALL | libc::__WNOTHREAD | libc::WNOHANG;
    let mut status = 0;
    // SAFETY: a status to be written.
    match unsafe { libc::waitpid(-1, &mut status, HOW) } {
        -1 => match io::Error::last_os_error() {
            error if error.raw_os_error() == Some(libc::ECHILD) => Ok(None),
            error => Err(error),
        },
        0 => Ok(None),
        task => Ok(Some((task, event(task, status)?))),
    }
}

fn event(task: pid_t, status: c_int) -> io::Result<Event> {
    if !libc::WIFSTOPPED(status) {
        return Ok(Event::Ended(status));
    }
    match status >> 16 {
        0 => Ok(Event::Signal(libc::WSTOPSIG(status))),
        libc::PTRACE_EVENT_EXEC => {
            let mut former: libc::c_ulong = 0;
            let to = ptr::from_mut(&mut former) as usize;
            request(libc::PTRACE_GETEVENTMSG, task, 0, to)?;
            Ok(Event::Exec(former as pid_t))
        }
        _ => Ok(Event::Other),
    }
}

/// The bare system call, which answers through `data` where libc would answer with the value.
pub(crate) fn request(
    request: libc::c_uint,
    task: pid_t,
    address: usize,
    data: usize,
) -> io::Result<c_long> {
    // SAFETY: the requests of this crate write at most to what `data` points to, or describes, which
    // their callers have on their stacks; all else they do in the other task.
    match unsafe { libc::syscall(libc::SYS_ptrace, u64::from(request), task, address, data) } {
        -1 => Err(io::Error::last_os_error()),
        answer => Ok(answer),
    }
}

/// A task that stopped on its way out of a system call, and can be made to do others before it goes
/// on.
pub(crate) struct Caller {
    task: pid_t,
    registers: Registers,
}

impl Caller {
    /// A task that has just been made.
    ///
    /// # Errors
    /// It did not come by the one instruction for system calls: a 32-bit program's.
    pub(crate) fn new(task: pid_t) -> io::Result<Self> {
        let registers = Registers::of(task)?;
        let this = Self { task, registers };
        let code = this.read(registers.call_site())?;
        if code.to_le_bytes().starts_with(registers::CALL) {
            Ok(this)
        } else {
            Err(io::Error::from(io::ErrorKind::Unsupported))
        }
    }

    fn read(&self, address: u64) -> io::Result<u64> {
        let mut word = 0_u64;
        let to = ptr::from_mut(&mut word) as usize;
        request(libc::PTRACE_PEEKDATA, self.task, address as usize, to)?;
        Ok(word)
    }

    /// Has the task call the kernel with these arguments. A negative answer is an error number.
    pub(crate) fn call(&self, number: c_long, arguments: [u64; 4]) -> io::Result<i64> {
        self.registers.before(number, arguments).set(self.task)?;
        request(libc::PTRACE_SINGLESTEP, self.task, 0, 0)?;
        wait_for_stop(self.task)?;
        Ok(Registers::of(self.task)?.answer())
    }

    /// Puts a C string where the task has no use for its stack, and answers its address.
    pub(crate) fn put(&self, text: &std::ffi::CStr) -> io::Result<u64> {
        let bytes = text.to_bytes_with_nul();
        let len = bytes.len().next_multiple_of(8) as u64;
        let at = (self.registers.unused_stack().wrapping_sub(len)) & !7;
        for (i, piece) in bytes.chunks(8).enumerate() {
            let mut word = [0; 8];
            word[..piece.len()].copy_from_slice(piece);
            let word = usize::from_le_bytes(word);
            request(libc::PTRACE_POKEDATA, self.task, at as usize + 8 * i, word)?;
        }
        Ok(at)
    }

    /// Gives the task its registers back: it is as it was.
    pub(crate) fn done(self) -> io::Result<()> {
        self.registers.set(self.task)
    }
}

/// A copy of a file that another task has open.
pub(crate) fn file_of(task: pid_t, fd: i32) -> io::Result<std::fs::File> {
    /// Of any thread: `O_EXCL`, as the kernel's header has it.
    const PIDFD_THREAD: c_int = libc::O_EXCL;
    use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
    // SAFETY: plain system calls; what they answer is a new file descriptor of ours.
    unsafe {
        let pidfd = match libc::syscall(libc::SYS_pidfd_open, task, PIDFD_THREAD) {
            -1 => return Err(io::Error::last_os_error()),
            fd => OwnedFd::from_raw_fd(fd as i32),
        };
        match libc::syscall(libc::SYS_pidfd_getfd, pidfd.as_raw_fd(), fd, 0) {
            -1 => Err(io::Error::last_os_error()),
            fd => Ok(std::fs::File::from_raw_fd(fd as i32)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::os::unix::process::CommandExt;
    use std::process::Command;
    use std::time::{Duration, Instant};

    /// Follows a shell script to its end. Answers its status, and what each new task said was its
    /// number before its first instruction.
    fn follow(script: &str) -> (c_int, BTreeMap<pid_t, i64>) {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        // SAFETY: one system call.
        unsafe { command.pre_exec(follow_me) };
        let first = command.spawn().unwrap().id() as pid_t;
        wait_for_stop(first).unwrap();
        follow_children(first).unwrap();
        go_on(first, 0).unwrap();
        let mut seen = BTreeMap::from([(first, i64::from(first))]);
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(60) {
            match next().unwrap() {
                Some((task, Event::Ended(status))) if task == first => return (status, seen),
                Some((_, Event::Ended(_))) => {}
                Some((task, Event::Signal(signal))) => {
                    let known = seen.contains_key(&task);
                    if !known {
                        let caller = Caller::new(task).unwrap();
                        seen.insert(task, caller.call(libc::SYS_gettid, [0; 4]).unwrap());
                        let bad = caller.call(libc::SYS_close, [u64::MAX, 0, 0, 0]).unwrap();
                        assert_eq!(bad, -i64::from(libc::EBADF));
                        caller.done().unwrap();
                    }
                    go_on(task, if known { signal } else { 0 }).unwrap();
                }
                Some((task, Event::Exec(_) | Event::Other)) => go_on(task, 0).unwrap(),
                None => std::thread::sleep(Duration::from_millis(1)),
            }
        }
        panic!("{script} does not end");
    }

    #[test]
    fn new_tasks_call_the_kernel_before_they_run_and_go_on_as_if_they_had_not() {
        let script = "(exit 3) & wait $!; a=$?; (true | exit 4); exit $((a * 10 + $?))";
        let (status, seen) = follow(script);
        assert_eq!(libc::WEXITSTATUS(status), 34);
        // A child in the background, the one in parentheses, and the two of the pipe.
        assert_eq!(seen.len(), 5, "{seen:?}");
        for (task, said) in seen {
            assert_eq!(said, i64::from(task));
        }
    }

    #[test]
    fn signals_reach_whom_they_are_for() {
        let (status, _) = follow("trap 'exit 7' USR1; (kill -USR1 $$); while :; do :; done");
        assert_eq!(libc::WEXITSTATUS(status), 7);
    }
}
