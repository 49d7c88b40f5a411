// SPDX-License-Identifier: MIT OR Apache-2.0
//! Inside the guest: the first process, which does the job and hands over what came of it.

use crate::cpio::{Kind, Next, Reader, Writer};
use crate::device::Device;
use crate::job::{answer, told, Input, Job, JOB};
use crate::module::{self, Modules};
use crate::ptrace::{self, Event};
use crate::record::Recorder;
use crate::share::Share;
use rustix::mount::MountFlags;
use rustix::process::{ioctl_tiocsctty, setsid};
use rustix::pty::{ioctl_tiocgptpeer, openpt, unlockpt, OpenptFlags};
use rustix::termios::{tcgetattr, tcsetattr, tcsetwinsize, OptionalActions, Winsize};
use std::ffi::{CString, OsStr};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::ptr;
use std::thread;
use std::time::Duration;

/// The kernel's parameter that says where answers go.
pub const OUT_PARAMETER: &str = "rkcov.out=";
/// The kernel's parameter that says where the host's words come from.
pub const IN_PARAMETER: &str = "rkcov.in=";
/// What an answer to [`OUT_PARAMETER`] begins with that is a file of the host's, in User Mode Linux.
pub const HOST_FILE: &str = "hostfs:";
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
    let host = Host::find()?;
    let mut answers = Answers::open(&host)?;
    let mut leaks = Leaks::before()?;
    if let Err(error) = work(&host, &mut answers) {
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
        ("devpts", "/dev/pts"),
        ("tmpfs", "/dev/shm"),
    ] {
        fs::create_dir_all(at)?;
        mount(kind, kind, at, "", MountFlags::empty())?;
    }
    // Shells and others rely on these names.
    for (link, to) in [
        ("/dev/fd", "/proc/self/fd"),
        ("/dev/stdin", "/proc/self/fd/0"),
        ("/dev/stdout", "/proc/self/fd/1"),
        ("/dev/stderr", "/proc/self/fd/2"),
    ] {
        symlink(to, link)?;
    }
    Ok(())
}

fn mount(
    what: &str,
    kind: &str,
    at: impl AsRef<Path>,
    options: impl AsRef<Path>,
    flags: MountFlags,
) -> io::Result<()> {
    let at = at.as_ref();
    let options = CString::new(options.as_ref().as_os_str().as_bytes())?;
    rustix::mount::mount(what, at, kind, flags, &*options).map_err(|error| {
        let error = io::Error::from(error);
        let place = at.display();
        io::Error::new(error.kind(), format!("mounting {kind} at {place}: {error}"))
    })
}

/// Makes the host's folders be where they are wanted.
fn mount_shares(shares: &[Share], host: &Host) -> io::Result<()> {
    for (number, share) in shares.iter().enumerate() {
        let flags = if share.read_only {
            MountFlags::RDONLY
        } else {
            MountFlags::empty()
        };
        fs::create_dir_all(&share.at)?;
        if host.is_uml() {
            mount("host", "hostfs", &share.at, &share.folder, flags)?;
        } else {
            // Programs map files, also to write to them.
            const OPTIONS: &str = "trans=virtio,version=9p2000.L,msize=512000,cache=mmap";
            mount(&Share::tag(number), "9p", &share.at, OPTIONS, flags)?;
        }
    }
    Ok(())
}

/// How the host is reached: what it says in the kernel's parameters.
struct Host {
    out: String,
    input: Option<String>,
}

impl Host {
    fn find() -> io::Result<Self> {
        let parameters = fs::read_to_string("/proc/cmdline")?;
        let parameter = |name| {
            let mut words = parameters.split_whitespace();
            words.find_map(|p| p.strip_prefix(name)).map(str::to_owned)
        };
        Ok(Self {
            out: parameter(OUT_PARAMETER)
                .ok_or_else(|| io::Error::other("no parameter rkcov.out"))?,
            input: parameter(IN_PARAMETER),
        })
    }

    fn is_uml(&self) -> bool {
        self.out.starts_with(HOST_FILE)
    }

    /// Where the host's words come from, byte by byte as they were sent.
    fn input(&self) -> io::Result<File> {
        let missing = || io::Error::other("no parameter rkcov.in");
        let path = self.input.as_deref().ok_or_else(missing)?;
        let named = |error: io::Error| io::Error::new(error.kind(), format!("{path}: {error}"));
        let file = File::open(path).map_err(named)?;
        if self.is_uml() {
            // There it is a serial line.
            let mut raw = tcgetattr(&file)?;
            raw.make_raw();
            tcsetattr(&file, OptionalActions::Now, &raw)?;
        }
        Ok(file)
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
    fn open(host: &Host) -> io::Result<Self> {
        // A device of the guest's, or a file in a folder of the host's.
        let path = match host
            .out
            .strip_prefix(HOST_FILE)
            .and_then(|file| file.rsplit_once('/'))
        {
            Some((folder, file)) => {
                fs::create_dir_all(HOST)?;
                mount("host", "hostfs", HOST, folder, MountFlags::empty())?;
                format!("{HOST}/{file}")
            }
            None => host.out.clone(),
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
        match File::from(from.try_clone()?).read(&mut piece) {
            Ok(0) => *pipe = None,
            Ok(n) => self.add(name, &piece[..n])?,
            // So a terminal says that nobody has it open any more.
            Err(error) if error.raw_os_error() == Some(libc::EIO) => *pipe = None,
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

/// The program's standard input, as this process has it: what is written to it is read there.
fn input(job: &Job, command: &mut Command) -> io::Result<Option<File>> {
    Ok(match job.input {
        Input::Nothing => {
            command.stdin(Stdio::null());
            None
        }
        Input::Pipe => {
            let (read, write) = io::pipe()?;
            command.stdin(read);
            Some(OwnedFd::from(write).into())
        }
        Input::Terminal => {
            let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
            let ours = openpt(flags)?;
            unlockpt(&ours)?;
            let theirs = ioctl_tiocgptpeer(&ours, flags)?;
            command
                .stdin(theirs.try_clone()?)
                .stdout(theirs.try_clone()?)
                .stderr(theirs);
            Some(ours.into())
        }
    })
}

/// Does what the host says until there is no more input, or nobody who reads it.
fn obey(mut host: File, mut input: File) -> io::Result<()> {
    /// While the host is not there yet.
    const PAUSE: Duration = Duration::from_millis(10);
    let mut reader = Reader::default();
    let mut piece = [0; 16 << 10];
    loop {
        match host.read(&mut piece)? {
            0 => thread::sleep(PAUSE),
            read => reader.feed(&mut &piece[..read])?,
        }
        while let Next::Entry(name, data) = reader.next_entry()? {
            match (&*name, &*data) {
                (told::INPUT, data) => input.write_all(data)?,
                (told::SIZE, [a, b, c, d]) => {
                    let size = Winsize {
                        ws_row: u16::from_le_bytes([*a, *b]),
                        ws_col: u16::from_le_bytes([*c, *d]),
                        ws_xpixel: 0,
                        ws_ypixel: 0,
                    };
                    tcsetwinsize(&input, size)?;
                }
                (told::END, _) => return Ok(()),
                _ => return Err(io::ErrorKind::InvalidData.into()),
            }
        }
    }
}

/// Fails if the host has the file of another kernel.
fn check_kernel(wanted: Option<&OsStr>) -> io::Result<()> {
    match (wanted, module::kernel().map(|id| module::hex(&id))) {
        (Some(wanted), Some(found)) if *wanted != *found => Err(io::Error::other(format!(
            "the kernel that runs has another vmlinux: its build id is {found}, and that of the file is {}",
            wanted.to_string_lossy()
        ))),
        _ => Ok(()),
    }
}

fn work(host: &Host, answers: &mut Answers) -> io::Result<()> {
    answers.add(answer::BEGUN, &[])?;
    let job = Job::decode(&fs::read(JOB)?).ok_or_else(|| io::Error::other("not a job"))?;
    check_kernel(job.kernel.as_deref())?;
    module::load(&job.modules)?;
    if job.collect.is_some() {
        answers.add(answer::MODULES, &Modules::here().encode())?;
    }
    mount_shares(&job.shares, host)?;
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
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    for variable in &job.environment {
        if let Some((name, value)) = variable.to_string_lossy().split_once('=') {
            command.env(name, value);
        }
    }
    if let Some(directory) = &job.directory {
        command.current_dir(directory);
    }
    let input = input(&job, &mut command)?;
    let terminal = input.as_ref().filter(|_| job.input == Input::Terminal);
    let screen = terminal.map(File::try_clone).transpose()?;
    let has_terminal = screen.is_some();
    let children = Children::watch()?;
    let enable = device.as_ref().map(Device::enabler);
    let prepare = move || {
        Children::forget()?;
        if has_terminal {
            setsid()?;
            ioctl_tiocsctty(rustix::stdio::stdin())?;
        }
        let Some(enable) = &enable else { return Ok(()) };
        ptrace::follow_me()?;
        // From here on the kernel records for the program, through the exec and to its end.
        enable.enable()
    };
    // SAFETY: system calls only, which are allowed between fork and exec.
    unsafe { command.pre_exec(prepare) };
    let child = command
        .spawn()
        .map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", program.display())))?;
    // The terminal's other end, of which this process has copies.
    drop(command);
    if let Some(input) = input {
        let from = host.input()?;
        answers.add(answer::READY, &[])?;
        thread::spawn(move || {
            if let Err(error) = obey(from, input) {
                // The program has ended, or reads no more; or this is for the console.
                if error.kind() != io::ErrorKind::BrokenPipe {
                    eprintln!("rkcov: standard input: {error}");
                }
            }
        });
    }
    let first = child.id() as i32;
    let mut recorder = match device {
        Some(device) => Some(Recorder::new(first, device)?),
        None => None,
    };
    let status = run(child, screen, &children, recorder.as_mut(), answers)?;
    if let Some(recorder) = recorder {
        // The program may have loaded some.
        answers.add(answer::MODULES, &Modules::here().encode())?;
        for coverage in recorder.rest() {
            answers.add(answer::COVERAGE, &coverage.encode())?;
        }
        answers.add(answer::MISSED, recorder.missed().to_string().as_bytes())?;
    }
    let status = status.code().or_else(|| status.signal().map(|s| 128 + s));
    answers.add(answer::STATUS, status.unwrap_or(255).to_string().as_bytes())
}

/// Hands over what the program prints, and records it if there is a recorder, until it has ended
/// and nobody is left who could print. On a terminal only its own end counts.
fn run(
    mut child: Child,
    screen: Option<File>,
    children: &Children,
    mut recorder: Option<&mut Recorder>,
    answers: &mut Answers,
) -> io::Result<ExitStatus> {
    let out = child.stdout.take().map(OwnedFd::from);
    let err = child.stderr.take().map(OwnedFd::from);
    let screen = screen.map(OwnedFd::from);
    let until_end = screen.is_some();
    let mut pipes = vec![
        (answer::STDOUT, out),
        (answer::STDERR, err),
        (answer::STDOUT, screen),
    ];
    let mut status = None;
    loop {
        pipes.retain(|(_, pipe)| pipe.is_some());
        if let (Some(status), []) = (status, &pipes[..]) {
            return Ok(ExitStatus::from_raw(status));
        }
        let fds = pipes.iter().flat_map(|(_, pipe)| pipe);
        let last = until_end && status.is_some();
        let ready = wait_for_any(fds.chain([&children.0]), if last { 0 } else { -1 })?;
        if let (Some(status), true) = (status, last && !ready.contains(&true)) {
            return Ok(ExitStatus::from_raw(status));
        }
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

/// Which of these files can be read from, or will never be again, once there is one or so many milliseconds are over
/// (-1: never).
fn wait_for_any<'f>(
    files: impl Iterator<Item = &'f OwnedFd>,
    timeout: i32,
) -> io::Result<Vec<bool>> {
    let file = |fd: &OwnedFd| libc::pollfd {
        fd: fd.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    let mut polled: Vec<libc::pollfd> = files.map(file).collect();
    // SAFETY: as many as there are.
    match unsafe { libc::poll(polled.as_mut_ptr(), polled.len() as libc::nfds_t, timeout) } {
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
