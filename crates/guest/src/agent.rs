// SPDX-License-Identifier: MIT OR Apache-2.0
//! Inside the guest: the first process, which does the job and hands over what came of it.

use crate::cpio::{Kind, Writer};
use crate::device::Device;
use crate::job::{answer, Job, JOB};
use crate::ptrace::{self, Event};
use crate::record::Recorder;
use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::ptr;
use std::thread;
use std::time::Duration;

/// The kernel's parameter that says where answers go.
pub const OUT_PARAMETER: &str = "rkcov.out=";
/// Where the kernel looks for memory that nobody refers to any more, if it does.
const LEAKS: &str = "/sys/kernel/debug/kmemleak";
/// Younger memory is no leak to it.
const LEAK_AGE: Duration = Duration::from_secs(6);
/// Where the folder that User Mode Linux shares with its host is mounted.
const HOST: &str = "/run/host";

/// Does the job and switches the machine off. For the first process of a guest only.
///
/// # Errors
/// The machine cannot be switched off, or the host cannot be told what went wrong: then this
/// process ends, the kernel panics, and the host sees that.
pub fn main() -> io::Result<()> {
    mount_all()?;
    let mut answers = Answers::open()?;
    let mut leaks = Leaks::before()?;
    if let Err(error) = work(&mut answers) {
        answers.add(answer::ERROR, error.to_string().as_bytes())?;
    }
    if let Some(leaks) = &mut leaks {
        leaks.tell()?;
    }
    answers.finish()?;
    // SAFETY: no precondition; the last thing that this guest does.
    match unsafe { libc::reboot(libc::RB_POWER_OFF) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The kernel's search for leaks, where it has one.
struct Leaks(File);

impl Leaks {
    /// Forgets those that the boot made.
    fn before() -> io::Result<Option<Self>> {
        let Ok(file) = OpenOptions::new().read(true).write(true).open(LEAKS) else {
            return Ok(None);
        };
        let mut leaks = Self(file);
        leaks.look()?;
        leaks.0.write_all(b"clear")?;
        Ok(Some(leaks))
    }

    fn look(&mut self) -> io::Result<()> {
        thread::sleep(LEAK_AGE);
        // What changed since the last look is looked at once more before it counts.
        (0..2).try_for_each(|_| self.0.write_all(b"scan"))
    }

    /// Says on the console what they are.
    fn tell(&mut self) -> io::Result<()> {
        self.look()?;
        let mut found = Vec::new();
        self.0.read_to_end(&mut found)?;
        let mut console = OpenOptions::new().write(true).open("/dev/kmsg")?;
        let found = String::from_utf8_lossy(&found);
        found
            .lines()
            .try_for_each(|line| console.write_all(line.as_bytes()))
    }
}

fn mount_all() -> io::Result<()> {
    for (kind, at) in [
        ("devtmpfs", "/dev"),
        ("proc", "/proc"),
        ("sysfs", "/sys"),
        ("debugfs", "/sys/kernel/debug"),
    ] {
        mount(kind, at, "")?;
    }
    Ok(())
}

fn mount(kind: &str, at: &str, options: &str) -> io::Result<()> {
    let [kind_c, at_c, options_c] = [kind, at, options].map(CString::new);
    let (kind_c, at_c, options_c) = (kind_c?, at_c?, options_c?);
    // SAFETY: C strings that live through the call.
    let result = unsafe {
        libc::mount(
            kind_c.as_ptr(),
            at_c.as_ptr(),
            kind_c.as_ptr(),
            0,
            options_c.as_ptr().cast(),
        )
    };
    match result {
        0 => Ok(()),
        _ => {
            let error = io::Error::last_os_error();
            Err(io::Error::new(
                error.kind(),
                format!("mounting {kind} at {at}: {error}"),
            ))
        }
    }
}

/// The way to the host.
struct Answers(Writer<Wire>);

/// Data that the host sees at once, not when the kernel finds time to write it.
struct Wire(File);

impl Write for Wire {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let n = self.0.write(data)?;
        // Devices have nothing to synchronise and say so.
        let _ = self.0.sync_data();
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Answers {
    fn open() -> io::Result<Self> {
        let parameters = fs::read_to_string("/proc/cmdline")?;
        let out = parameters
            .split_whitespace()
            .find_map(|p| p.strip_prefix(OUT_PARAMETER))
            .ok_or_else(|| io::Error::other("no parameter rkcov.out"))?;
        // A device of the guest's, or a file in a folder of the host's.
        let path = match out
            .strip_prefix("hostfs:")
            .and_then(|file| file.rsplit_once('/'))
        {
            Some((folder, file)) => {
                fs::create_dir_all(HOST)?;
                mount("hostfs", HOST, folder)?;
                format!("{HOST}/{file}")
            }
            None => out.to_owned(),
        };
        let file = OpenOptions::new().write(true).open(&path)?;
        Ok(Self(Writer::new(Wire(file))))
    }

    fn add(&mut self, name: &str, data: &[u8]) -> io::Result<()> {
        self.0.add(name, Kind::File, data)
    }

    fn finish(self) -> io::Result<()> {
        self.0.finish().map(drop)
    }

    /// Hands over what a pipe holds, and closes it if there will be no more.
    fn forward(&mut self, name: &str, pipe: &mut Option<OwnedFd>) -> io::Result<()> {
        let mut piece = [0; 16 << 10];
        let Some(from) = pipe else { return Ok(()) };
        match File::from(from.try_clone()?).read(&mut piece)? {
            0 => *pipe = None,
            n => self.add(name, &piece[..n])?,
        }
        Ok(())
    }
}

fn work(answers: &mut Answers) -> io::Result<()> {
    let job = Job::decode(&fs::read(JOB)?).ok_or_else(|| io::Error::other("not a job"))?;
    let device = job.collect.map(Device::open).transpose()?;
    let Some((program, arguments)) = job.command.split_first() else {
        return Err(io::Error::other("no program"));
    };
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin")
        .env("HOME", "/tmp")
        .env("RKCOV_GUEST", "1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let children = Children::watch()?;
    let enable = device.as_ref().map(Device::enabler);
    let prepare = move || {
        Children::forget()?;
        let Some(enable) = &enable else { return Ok(()) };
        ptrace::follow_me()?;
        // From here on the kernel records for the program, through the exec and to its end.
        enable.enable()
    };
    // SAFETY: system calls only, which are allowed between fork and exec.
    unsafe { command.pre_exec(prepare) };
    let child = command.spawn()?;
    let first = child.id() as i32;
    let mut recorder = match device {
        Some(device) => Some(Recorder::new(first, device)?),
        None => None,
    };
    let status = run(child, &children, recorder.as_mut(), answers)?;
    if let Some(recorder) = recorder {
        for coverage in recorder.rest() {
            answers.add(answer::COVERAGE, &coverage.encode())?;
        }
        answers.add(answer::MISSED, recorder.missed().to_string().as_bytes())?;
    }
    let status = status.code().or_else(|| status.signal().map(|s| 128 + s));
    answers.add(answer::STATUS, status.unwrap_or(255).to_string().as_bytes())
}

/// Hands over what the program prints, and records it if there is a recorder, until it has ended
/// and nobody is left who could print.
fn run(
    mut child: Child,
    children: &Children,
    mut recorder: Option<&mut Recorder>,
    answers: &mut Answers,
) -> io::Result<ExitStatus> {
    let out = child.stdout.take().map(OwnedFd::from);
    let err = child.stderr.take().map(OwnedFd::from);
    let mut pipes = vec![(answer::STDOUT, out), (answer::STDERR, err)];
    let mut status = None;
    loop {
        pipes.retain(|(_, pipe)| pipe.is_some());
        if let (Some(status), []) = (status, &pipes[..]) {
            return Ok(ExitStatus::from_raw(status));
        }
        let fds = pipes.iter().flat_map(|(_, pipe)| pipe);
        let ready = wait_for_any(fds.chain([&children.0]))?;
        for ((name, pipe), _) in pipes.iter_mut().zip(&ready).filter(|(_, ready)| **ready) {
            answers.forward(name, pipe)?;
        }
        if ready.last() == Some(&true) {
            children.heard()?;
        }
        while let Some((task, event)) = ptrace::next()? {
            if let (Event::Ended(its), true) = (event, task as u32 == child.id()) {
                status = Some(its);
            }
            let recorder = recorder.as_mut();
            if let Some(coverage) = recorder.and_then(|r| r.take(task, event)) {
                answers.add(answer::COVERAGE, &coverage.encode())?;
            }
        }
    }
}

/// Which of these files can be read from, or will never be again, once there is one.
fn wait_for_any<'f>(files: impl Iterator<Item = &'f OwnedFd>) -> io::Result<Vec<bool>> {
    let file = |fd: &OwnedFd| libc::pollfd {
        fd: fd.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    let mut polled: Vec<libc::pollfd> = files.map(file).collect();
    // SAFETY: as many as there are.
    match unsafe { libc::poll(polled.as_mut_ptr(), polled.len() as libc::nfds_t, -1) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(polled.iter().map(|file| file.revents != 0).collect()),
    }
}

/// News of children, as a file.
struct Children(OwnedFd);

impl Children {
    fn signals() -> libc::sigset_t {
        // SAFETY: a set of signals to be written.
        unsafe {
            let mut signals = std::mem::zeroed();
            libc::sigemptyset(&mut signals);
            libc::sigaddset(&mut signals, libc::SIGCHLD);
            signals
        }
    }

    /// Of all that this task makes from here on.
    fn watch() -> io::Result<Self> {
        let signals = Self::signals();
        // SAFETY: a set of signals; the answer is a new file descriptor of ours.
        unsafe {
            libc::sigprocmask(libc::SIG_BLOCK, &signals, ptr::null_mut());
            match libc::signalfd(-1, &signals, libc::SFD_CLOEXEC) {
                -1 => Err(io::Error::last_os_error()),
                fd => Ok(Self(OwnedFd::from_raw_fd(fd))),
            }
        }
    }

    /// In a child, which is to have signals as usual. Allowed between fork and exec.
    fn forget() -> io::Result<()> {
        let signals = Self::signals();
        // SAFETY: a set of signals.
        match unsafe { libc::sigprocmask(libc::SIG_UNBLOCK, &signals, ptr::null_mut()) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Takes the news, of which there are some.
    fn heard(&self) -> io::Result<()> {
        let mut news = [0; size_of::<libc::signalfd_siginfo>()];
        File::from(self.0.try_clone()?).read_exact(&mut news)
    }
}
