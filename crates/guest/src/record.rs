// SPDX-License-Identifier: MIT OR Apache-2.0
//! Has the kernel record a program with all its threads and children.
//!
//! kcov records single tasks that asked for it themselves. So each new task is stopped before its
//! first instruction and made to open a kcov and to enable it; its buffer is mapped here, and what
//! it holds is handed over when the task has ended. The program's first task enables its own
//! between fork and exec.

use crate::device::{Device, PATH};
use crate::job::Coverage;
use crate::ptrace::{self, Caller, Event};
use libc::pid_t;
use rkcov_abi::ioctl::KCOV_ENABLE;
use rkcov_abi::TraceMode;
use std::collections::HashMap;
use std::ffi::CString;
use std::fs;
use std::io;

/// Words of the buffer of every task but the first.
const WORDS: u32 = 1 << 18;

/// A task that is recorded.
struct Task {
    process: pid_t,
    /// Whether it is the program's first.
    first: bool,
    device: Device,
}

impl Task {
    fn coverage(&self, task: pid_t, finished: bool) -> Coverage {
        let mut words = vec![self.device.count()];
        words.extend(self.device.pcs());
        Coverage {
            process: self.process as u32,
            task: task as u32,
            first: self.first,
            finished,
            capacity: self.device.words().len() as u64 - 1,
            words,
        }
    }
}

/// All tasks of a program; those that could not be made to record themselves as `None`.
pub(crate) struct Recorder {
    tasks: HashMap<pid_t, Option<Task>>,
    missed: u64,
}

impl Recorder {
    /// Of a program whose first task records into this already and is about to call exec, by which
    /// it stops.
    pub(crate) fn new(first: pid_t, device: Device) -> io::Result<Self> {
        ptrace::wait_for_stop(first)?;
        ptrace::follow_children(first)?;
        ptrace::go_on(first, 0)?;
        let task = Task {
            process: first,
            first: true,
            device,
        };
        let tasks = HashMap::from([(first, Some(task))]);
        Ok(Self { tasks, missed: 0 })
    }

    /// How many tasks could not be recorded.
    pub(crate) fn missed(&self) -> u64 {
        self.missed
    }

    /// Deals with what became of a task, and answers what one had recorded that ended.
    pub(crate) fn take(&mut self, task: pid_t, event: Event) -> Option<Coverage> {
        let mut ended = None;
        let mut signal = 0;
        match event {
            Event::Ended(_) => ended = self.tasks.remove(&task).flatten(),
            Event::Exec(former) if former != task => {
                // The first task of its process is gone, and this one has its number now.
                ended = self.tasks.remove(&task).flatten();
                if let Some(now) = self.tasks.remove(&former) {
                    self.tasks.insert(task, now);
                }
            }
            Event::Signal(its) if self.tasks.contains_key(&task) => signal = its,
            // A new one; this signal was not sent to it.
            Event::Signal(_) => {
                let recorded = record(task);
                self.missed += u64::from(recorded.is_err());
                self.tasks.insert(task, recorded.ok());
            }
            Event::Exec(_) | Event::Other => {}
        }
        if !matches!(event, Event::Ended(_)) {
            // It may have been killed meanwhile: then its end comes next.
            let _ = ptrace::go_on(task, signal);
        }
        ended.map(|recorded| recorded.coverage(task, true))
    }

    /// What those had recorded so far that have not ended.
    pub(crate) fn rest(&self) -> impl Iterator<Item = Coverage> + '_ {
        let recorded = |(task, recorded): (&pid_t, &Option<Task>)| {
            let recorded = recorded.as_ref()?;
            Some(recorded.coverage(*task, false))
        };
        self.tasks.iter().filter_map(recorded)
    }
}

/// Makes a new task record itself from its first instruction on.
fn record(task: pid_t) -> io::Result<Task> {
    let process = process_of(task)?;
    let caller = Caller::new(task)?;
    let device = enable(task, &caller);
    caller.done()?;
    let device = device?;
    // What the task did here on our behalf is not the program's.
    device.clear();
    Ok(Task {
        process,
        first: false,
        device,
    })
}

fn enable(task: pid_t, caller: &Caller) -> io::Result<Device> {
    let path = caller.put(&CString::new(PATH)?)?;
    let flags = (libc::O_RDWR | libc::O_CLOEXEC) as u64;
    let here = libc::AT_FDCWD as u64;
    let fd = answer(caller.call(libc::SYS_openat, [here, path, flags, 0])?)?;
    let device = ptrace::file_of(task, fd as i32).and_then(|file| Device::of(file, WORDS));
    let enabled = device.and_then(|device| {
        let pc = TraceMode::Pc.raw().into();
        answer(caller.call(libc::SYS_ioctl, [fd, KCOV_ENABLE.into(), pc, 0])?)?;
        Ok(device)
    });
    // Enabled, it needs no file.
    caller.call(libc::SYS_close, [fd, 0, 0, 0])?;
    enabled
}

/// What a system call answered.
fn answer(raw: i64) -> io::Result<u64> {
    u64::try_from(raw).map_err(|_| io::Error::from_raw_os_error(raw.wrapping_neg() as i32))
}

/// The process that a task belongs to.
fn process_of(task: pid_t) -> io::Result<pid_t> {
    let status = fs::read_to_string(format!("/proc/{task}/status"))?;
    let line = status.lines().find_map(|l| l.strip_prefix("Tgid:"));
    let process = line.and_then(|number| number.trim().parse().ok());
    process.ok_or_else(|| io::Error::other(format!("task {task} has no process")))
}
