// SPDX-License-Identifier: MIT OR Apache-2.0
//! Inside the guest: the first process, which does the job and hands over what came of it.

use crate::cpio::{Kind, Writer};
use crate::device::Device;
use crate::job::{answer, Job, JOB};
use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::Ordering;
use std::sync::{Mutex, PoisonError};
use std::thread;

/// The kernel's parameter that says where answers go.
pub(crate) const OUT_PARAMETER: &str = "rkcov.out=";
/// Where the folder that User Mode Linux shares with its host is mounted.
const HOST: &str = "/run/host";

/// Does the job and switches the machine off. For the first process of a guest only.
///
/// # Errors
/// The machine cannot be switched off, or the host cannot be told what went wrong: then this
/// process ends, the kernel panics, and the host sees that.
pub fn main() -> io::Result<()> {
    mount_all()?;
    let answers = Answers::open()?;
    if let Err(error) = work(&answers) {
        answers.add(answer::ERROR, error.to_string().as_bytes())?;
    }
    answers.finish()?;
    // SAFETY: no precondition; the last thing that this guest does.
    match unsafe { libc::reboot(libc::RB_POWER_OFF) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
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
struct Answers(Mutex<Writer<Wire>>);

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
        Ok(Self(Mutex::new(Writer::new(Wire(file)))))
    }

    fn add(&self, name: &str, data: &[u8]) -> io::Result<()> {
        let mut writer = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        writer.add(name, Kind::File, data)
    }

    fn finish(self) -> io::Result<()> {
        let writer = self.0.into_inner().unwrap_or_else(PoisonError::into_inner);
        writer.finish().map(drop)
    }

    /// Hands over what comes out of a pipe, until it is closed.
    fn forward(&self, name: &str, from: &mut impl Read) -> io::Result<()> {
        let mut piece = [0; 16 << 10];
        loop {
            match from.read(&mut piece)? {
                0 => return Ok(()),
                n => self.add(name, &piece[..n])?,
            }
        }
    }
}

fn work(answers: &Answers) -> io::Result<()> {
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
    if let Some(device) = &device {
        let enable = device.enabler();
        // SAFETY: one system call, which is allowed between fork and exec. From there on the
        // kernel records for the program, through the exec and to its end.
        unsafe { command.pre_exec(move || enable.enable()) };
    }
    let status = run(command.spawn()?, answers)?;
    if let Some(device) = device {
        answers.add(answer::COVERAGE, &words(&device))?;
    }
    let status = status.code().or_else(|| status.signal().map(|s| 128 + s));
    answers.add(answer::STATUS, status.unwrap_or(255).to_string().as_bytes())
}

/// Hands over what the program prints until it ends.
fn run(mut child: Child, answers: &Answers) -> io::Result<ExitStatus> {
    let (out, err) = (child.stdout.take(), child.stderr.take());
    thread::scope(|scope| {
        let err =
            scope.spawn(|| err.map_or(Ok(()), |mut e| answers.forward(answer::STDERR, &mut e)));
        out.map_or(Ok(()), |mut o| answers.forward(answer::STDOUT, &mut o))?;
        err.join().unwrap_or(Ok(()))
    })?;
    child.wait()
}

/// The count word and as many records as it counts, little-endian.
fn words(device: &Device) -> Vec<u8> {
    let count = device
        .words()
        .first()
        .map_or(0, |count| count.load(Ordering::Acquire));
    let words = std::iter::once(count).chain(device.pcs());
    words.flat_map(u64::to_le_bytes).collect()
}
