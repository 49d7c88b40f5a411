// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a task does with the lines that it is sent. Besides the operations of scripts it is asked `describe`, `drops FILE`, `memory`, `warnings`,
//! `failed` and, in a kernel, `kthread K ...`.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rkcov_abi::ioctl;
use rkcov_model::{script, Act, Call, File, Map, Op, Outcome, RemoteCall, Spawn, Task, Trouble};

use crate::device::{self, Argument, Device, Mapping};
use crate::wire::{self, Answer};

/// What the tasks of one process share.
struct Process<D> {
    device: D,
    socket: PathBuf,
    names: Mutex<Names>,
    threads: AtomicU32,
    /// Whether the last allocation that was to fail did.
    failed: AtomicBool,
}

#[derive(Clone, Default)]
struct Names {
    files: BTreeMap<File, i32>,
    maps: BTreeMap<Map, Mapping>,
}

/// Plays the agent for a task with this name, until it ends. `files` is what an old image of this
/// process left open, as `f0=3,f1=4`.
///
/// # Errors
/// If the suite cannot be reached.
pub fn play<D: Device>(device: D, socket: PathBuf, task: &str, files: &str) -> Result<(), String> {
    let task = task
        .strip_prefix('t')
        .and_then(|n| n.parse().ok())
        .map(Task)
        .ok_or_else(|| format!("{task} is not a task"))?;
    // Children need not be waited for.
    device::forget_children();
    let mut names = Names::default();
    for (name, fd) in files.split(',').filter_map(|pair| pair.split_once('=')) {
        let name = name.strip_prefix('f').and_then(|n| n.parse().ok());
        if let (Some(name), Ok(fd)) = (name, fd.parse()) {
            names.files.insert(File(name), fd);
        }
    }
    let process = Arc::new(Process {
        device,
        socket,
        names: Mutex::new(names),
        threads: AtomicU32::new(1),
        failed: AtomicBool::new(false),
    });
    Agent::connect(process, task)?.serve()
}

/// One task.
struct Agent<D> {
    process: Arc<Process<D>>,
    task: Task,
    stream: BufReader<UnixStream>,
    /// The allocation of the next act that is to fail.
    armed: Option<u32>,
}

/// What is next.
enum Next {
    Line,
    End,
}

impl<D: Device> Agent<D> {
    fn connect(process: Arc<Process<D>>, task: Task) -> Result<Self, String> {
        let stream = UnixStream::connect(&process.socket)
            .map_err(|error| format!("{}: {error}", process.socket.display()))?;
        let mut this = Self {
            process,
            task,
            stream: BufReader::new(stream),
            armed: None,
        };
        let (pid, tid) = device::ids();
        this.send(&format!("hello {task} {pid} {tid}"))?;
        Ok(this)
    }

    fn send(&mut self, line: &str) -> Result<(), String> {
        let mut line = line.to_owned();
        line.push('\n');
        let stream = self.stream.get_mut();
        stream.write_all(line.as_bytes()).map_err(|e| e.to_string())
    }

    fn serve(mut self) -> Result<(), String> {
        loop {
            let mut line = String::new();
            match self.stream.read_line(&mut line) {
                // The suite is gone: so are we.
                Ok(0) | Err(_) => device::exit(),
                Ok(_) => {}
            }
            let (answer, next) = self.obey(line.trim_end())?;
            self.send(&wire::print(&answer))?;
            if let Next::End = next {
                return Ok(());
            }
        }
    }

    fn obey(&mut self, line: &str) -> Result<(Answer, Next), String> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let answer = match words[..] {
            ["describe"] => Answer::Text(self.process.device.describe()),
            ["failed"] => {
                let failed = self.process.failed.load(Ordering::Relaxed);
                Answer::Outcome(Outcome::Value(failed.into()))
            }
            ["drops", file] => {
                let file = file.strip_prefix('f').and_then(|n| n.parse().ok());
                let fd = file.and_then(|file| self.fd(File(file)));
                answer(match fd {
                    Some(fd) => self.process.device.drops(fd).map(Outcome::Words),
                    None => Ok(Outcome::Absent),
                })
            }
            ["memory"] => answer(self.process.device.memory().map(Outcome::Value)),
            ["warnings"] => answer(self.process.device.warnings().map(Outcome::Value)),
            ["kthread", ..] => answer(self.process.device.kernel_thread(line).map(outcome_of)),
            _ => match script::parse_op(line) {
                Ok(op) => return self.operate(&op),
                Err(what) => Answer::Trouble(Trouble::Broken(what)),
            },
        };
        Ok((answer, Next::Line))
    }

    fn operate(&mut self, op: &Op) -> Result<(Answer, Next), String> {
        let done = Answer::Outcome(Outcome::Done);
        let answer = match op {
            Op::Spawn { how, child, .. } => self.spawn(*how, *child),
            Op::End(_) => {
                if device::is_main_thread() && self.process.threads.load(Ordering::SeqCst) > 1 {
                    let why = "a process's first task cannot end before its others";
                    return Ok((Answer::Trouble(Trouble::Broken(why.into())), Next::Line));
                }
                self.process.threads.fetch_sub(1, Ordering::SeqCst);
                return Ok((done, Next::End));
            }
            Op::Exec(_) => {
                self.send(&wire::print(&done))?;
                let files: Vec<String> = self
                    .names()
                    .files
                    .iter()
                    .map(|(file, fd)| format!("{file}={fd}"))
                    .collect();
                let error =
                    self.process
                        .device
                        .exec(&self.process.socket, self.task, &files.join(","));
                return Err(error);
            }
            Op::Act(_, act) => answer(self.act(act)),
            Op::Fail { nth, .. } => {
                self.armed = Some(*nth);
                self.process.failed.store(false, Ordering::Relaxed);
                done
            }
            Op::Begin { rounds, acts, .. } => {
                // Answered before it is done; the next line is the one that joins.
                self.send(&wire::print(&done))?;
                let result = self.rounds(*rounds, acts);
                let mut line = String::new();
                if !matches!(self.stream.read_line(&mut line), Ok(n) if n > 0) {
                    device::exit();
                }
                answer(result)
            }
            Op::Kill(_) | Op::Join(_) => {
                Answer::Trouble(Trouble::Broken(format!("not an agent's to do: {op}")))
            }
        };
        Ok((answer, Next::Line))
    }

    fn rounds(&mut self, rounds: u32, acts: &[Act]) -> Result<Outcome, Trouble> {
        let mut result = Outcome::Done;
        for _ in 0..rounds {
            for act in acts {
                let outcome = self.act(act)?;
                if result == Outcome::Done && act.failed(&outcome) {
                    result = outcome;
                }
            }
        }
        Ok(result)
    }

    fn spawn(&mut self, how: Spawn, child: Task) -> Answer {
        match how {
            Spawn::Thread => {
                let process = Arc::clone(&self.process);
                process.threads.fetch_add(1, Ordering::SeqCst);
                let made = std::thread::Builder::new()
                    .name(child.to_string())
                    .spawn(move || {
                        // Without the suite there is nothing left to do.
                        if let Err(error) = Agent::connect(process, child).and_then(Self::serve) {
                            eprintln!("{child}: {error}");
                        }
                    });
                match made {
                    Ok(_) => Answer::Outcome(Outcome::Done),
                    Err(error) => Answer::Trouble(Trouble::Broken(error.to_string())),
                }
            }
            Spawn::Fork => {
                // No other thread is in the middle of a change while the copy is made.
                let names = self.process.names.lock();
                let forked = self.process.device.fork();
                drop(names);
                match forked {
                    Ok(true) => Answer::Outcome(Outcome::Done),
                    Ok(false) => {
                        self.process.threads.store(1, Ordering::SeqCst);
                        let process = Arc::clone(&self.process);
                        let served = Agent::connect(process, child).and_then(Self::serve);
                        if let Err(error) = served {
                            eprintln!("{child}: {error}");
                        }
                        device::exit()
                    }
                    Err(raw) => Answer::Outcome(Outcome::Failed(raw)),
                }
            }
            Spawn::Kernel => Answer::Trouble(Trouble::Broken("the suite's to do".into())),
        }
    }

    fn names(&self) -> std::sync::MutexGuard<'_, Names> {
        let names = self.process.names.lock();
        names.unwrap_or_else(PoisonError::into_inner)
    }

    fn fd(&self, file: File) -> Option<i32> {
        self.names().files.get(&file).copied()
    }

    fn mapping(&self, map: Map) -> Option<Mapping> {
        self.names().maps.get(&map).cloned()
    }

    fn act(&mut self, act: &Act) -> Result<Outcome, Trouble> {
        let process = Arc::clone(&self.process);
        let device = &process.device;
        match act {
            Act::Open(file) => {
                if self.fd(*file).is_some() {
                    return Ok(Outcome::Absent);
                }
                match self.failing(|| device.open())? {
                    Ok(fd) => {
                        self.names().files.insert(*file, fd);
                        Ok(Outcome::Done)
                    }
                    Err(raw) => Ok(Outcome::Failed(raw)),
                }
            }
            Act::Close(file) => {
                let Some(fd) = self.names().files.remove(file) else {
                    return Ok(Outcome::Absent);
                };
                device.close(fd);
                Ok(Outcome::Done)
            }
            Act::Ioctl(file, call) => {
                let own_words = match (self.fd(*file), self.armed) {
                    (Some(fd), None) => device.call(fd, call),
                    _ => None,
                };
                match own_words {
                    Some(result) => Ok(outcome(result)),
                    None => self.call(*file, call, |fd, number, arg| {
                        Ok(device.ioctl(fd, number, arg))
                    }),
                }
            }
            Act::Ioctl32(file, call) => self.call(*file, call, |fd, number, arg| {
                let number = match number {
                    ioctl::KCOV_INIT_TRACE => ioctl::KCOV_INIT_TRACE_32,
                    other => other,
                };
                device.ioctl32(fd, number, arg)
            }),
            Act::Map {
                file,
                map,
                len,
                offset,
                writable,
            } => {
                let (Some(fd), None) = (self.fd(*file), self.mapping(*map)) else {
                    return Ok(Outcome::Absent);
                };
                match self.failing(|| device.map(fd, *len as usize, *offset, *writable))? {
                    Ok(mapping) => {
                        self.names().maps.insert(*map, mapping);
                        Ok(Outcome::Done)
                    }
                    Err(raw) => Ok(Outcome::Failed(raw)),
                }
            }
            Act::Unmap(map) => {
                let Some(mapping) = self.names().maps.remove(map) else {
                    return Ok(Outcome::Absent);
                };
                device.unmap(mapping);
                Ok(Outcome::Done)
            }
            Act::Read { map, first, count } => {
                let mapping = self.mapping(*map);
                let end = first.saturating_add(*count) as usize;
                let words = mapping.as_ref().map(Mapping::words);
                Ok(match words.and_then(|w| w.get(*first as usize..end)) {
                    Some(words) => {
                        Outcome::Words(words.iter().map(|w| w.load(Ordering::Acquire)).collect())
                    }
                    None => Outcome::Absent,
                })
            }
            Act::Poke { map, word, value } => {
                let mapping = self.mapping(*map);
                let words = mapping.as_ref().map(Mapping::words);
                Ok(match words.and_then(|w| w.get(*word as usize)) {
                    Some(word) => {
                        word.store(*value, Ordering::Relaxed);
                        Outcome::Done
                    }
                    None => Outcome::Absent,
                })
            }
            Act::Watch(map) => Ok(match self.mapping(*map) {
                Some(mapping) => Outcome::Value(unwritten(mapping.words())),
                None => Outcome::Absent,
            }),
            Act::Run(steps) => self.failing(|| device.run(steps))?.map(outcome_of),
        }
    }

    /// Makes a call, with its argument in memory if it has one.
    fn call(
        &mut self,
        file: File,
        call: &Call,
        ioctl: impl Fn(i32, u32, usize) -> Result<Result<(), i32>, Trouble>,
    ) -> Result<Outcome, Trouble> {
        let Some(fd) = self.fd(file) else {
            return Ok(Outcome::Absent);
        };
        let argument = match call {
            Call::Remote(call) => Some(Argument::new(call).map_err(Trouble::Broken)?),
            _ => None,
        };
        let address = argument.as_ref().map_or(0, Argument::address);
        let (number, arg) = call.request(false, |_| address as u64);
        let ask = || ioctl(fd, number, arg as usize);
        match (call, &argument) {
            (
                Call::Remote(
                    call @ RemoteCall {
                        then: Some(then), ..
                    },
                ),
                Some(argument),
            ) => race(call, *then, argument, ask, || {
                ioctl(fd, ioctl::KCOV_DISABLE, 0)
            }),
            _ => Ok(outcome(self.failing(ask)??)),
        }
    }

    /// Does something, with the allocation failing that was asked for.
    fn failing<T>(&mut self, f: impl FnOnce() -> T) -> Result<T, Trouble> {
        match self.armed.take() {
            None => Ok(f()),
            Some(nth) => {
                let (value, failed) = self.process.device.failing(nth, f)?;
                self.process.failed.store(failed, Ordering::Relaxed);
                Ok(value)
            }
        }
    }
}

/// Calls while another thread changes `num_handles`, until the call saw both values.
fn race(
    call: &RemoteCall,
    then: u32,
    argument: &Argument,
    remote: impl Fn() -> Result<Result<(), i32>, Trouble>,
    disable: impl Fn() -> Result<Result<(), i32>, Trouble>,
) -> Result<Outcome, Trouble> {
    const LONGEST: Duration = Duration::from_secs(20);
    let first = call.num_handles();
    if first == then {
        return Ok(outcome(remote()?));
    }
    let num = argument.num_handles();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                num.store(then, Ordering::Relaxed);
                num.store(first, Ordering::Relaxed);
            }
        });
        let result = (|| {
            let began = Instant::now();
            while began.elapsed() < LONGEST {
                match remote()? {
                    Ok(()) => outcome(disable()?),
                    // Either value alone is good, or too large by itself.
                    Err(raw) => return Ok(Outcome::Failed(raw)),
                };
            }
            let why = "the change never came between the two reads".into();
            Err(Trouble::Lacks(rkcov_model::Need::Races, why))
        })();
        stop.store(true, Ordering::Relaxed);
        result
    })
}

fn outcome(result: Result<(), i32>) -> Outcome {
    match result {
        Ok(()) => Outcome::Done,
        Err(raw) => Outcome::Failed(raw),
    }
}

/// What code that was run saw.
fn outcome_of(seen: Vec<u64>) -> Outcome {
    if seen.is_empty() {
        Outcome::Done
    } else {
        Outcome::Words(seen)
    }
}

fn answer(result: Result<Outcome, Trouble>) -> Answer {
    match result {
        Ok(outcome) => Answer::Outcome(outcome),
        Err(trouble) => Answer::Trouble(trouble),
    }
}

/// Records below the count that are not there.
fn unwritten(words: &[AtomicU64]) -> u64 {
    let Some((count, records)) = words.split_first() else {
        return 0;
    };
    let count = count.load(Ordering::Acquire).min(records.len() as u64);
    let records = records[..count as usize].iter();
    records.filter(|w| w.load(Ordering::Relaxed) == 0).count() as u64
}
