// SPDX-License-Identifier: MIT OR Apache-2.0
//! Hosts in which tasks are real threads and processes.
//!
//! Tasks live in *agents*: processes that connect to the suite over a Unix socket, one connection
//! for each task, and do what they are told, a line at a time. The lines are those of scripts. The
//! first agent is a program that the suite starts; the others are its forks.
//!
//! - here: the suite's side, the host [`Live`];
//! - [`rkcov_agent`]: the agent's side, for any [`Device`], and what answers look like;
//! - [`kernel`]: the device of a kernel, and the test module;
//! - [`faults`]: every allocation of a kernel fails, in every case;
//! - [`program`]: agents that are programs of their own, such as those in `conformance/agent`.

pub mod faults;
pub mod kernel;
pub mod program;

use std::collections::{BTreeMap, HashMap};
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use rkcov_model::host::Site;
use rkcov_model::{
    Act, Drops, File, Host, Need, Nesting, Op, Outcome, Spawn, Step, Task, Traits, Trouble,
};

pub use rkcov_agent::device::{self, Device};
use rkcov_agent::wire::{self, Answer};

/// How long an agent may take for one operation, and to come or go.
const PATIENCE: Duration = Duration::from_secs(120);

/// A host whose tasks live in agents.
pub struct Live {
    traits: Traits,
    sites: HashMap<Site, u64>,
    listener: UnixListener,
    folder: PathBuf,
    root: Child,
    tasks: BTreeMap<Task, Remote>,
    /// Whose allocation was to fail last.
    failing: Option<Task>,
}

/// A task, as the suite sees it.
struct Remote {
    place: Place,
    begun: bool,
}

enum Place {
    /// In an agent, at the other end of this.
    Agent {
        stream: BufReader<UnixStream>,
        pid: u32,
        tid: u32,
    },
    /// In the kernel: the test module's thread with this number.
    Kernel(u32),
}

/// What a live host is made of.
pub struct Setup {
    /// The program that becomes the first agent; it is given the socket's path and the task's
    /// name as its last arguments.
    pub agent: Command,
    /// What kind of kcov it has, as far as it is known before the agent has answered.
    pub traits: Traits,
}

impl Live {
    /// Starts the first agent.
    ///
    /// # Errors
    /// If it does not come.
    pub fn new(setup: Setup) -> Result<Self, Trouble> {
        let Setup { mut agent, traits } = setup;
        let folder = new_folder()?;
        let socket = folder.join("socket");
        let listener = UnixListener::bind(&socket).map_err(broken)?;
        listener.set_nonblocking(true).map_err(broken)?;
        let root = agent.arg(&socket).arg("t0").spawn().map_err(|error| {
            let program = agent.get_program().to_string_lossy();
            Trouble::Broken(format!("{program}: {error}"))
        })?;
        let mut this = Self {
            traits,
            sites: HashMap::new(),
            listener,
            folder,
            root,
            tasks: BTreeMap::new(),
            failing: None,
        };
        this.welcome(Task(0))?;
        this.describe()?;
        Ok(this)
    }

    /// Asks the agent what there is.
    fn describe(&mut self) -> Result<(), Trouble> {
        for line in self.ask_words(Task(0), "describe")?.split(';') {
            let words: Vec<&str> = line.split_whitespace().collect();
            match words[..] {
                ["site", ref site @ .., pc] => {
                    let site = wire::site(site);
                    let pc = wire::number(pc);
                    if let (Some(site), Some(pc)) = (site, pc) {
                        self.sites.insert(site, pc);
                    }
                }
                ["markers", n, first, stride] => {
                    let numbers = [n, first, stride].map(|w| wire::number(w).unwrap_or(0));
                    let [n, first, stride] = numbers;
                    self.traits.markers = n as u32;
                    for marker in 0..n {
                        let pc = first + marker * stride;
                        self.sites.insert(Site::Marker(marker as u32), pc);
                    }
                }
                ["lacks", need, ref why @ ..] => match wire::need(need) {
                    Some(need) => drop(self.traits.lacks.insert(need, why.join(" "))),
                    None => return Err(broken(format!("the agent lacks `{need}`: what is that?"))),
                },
                ["suspends"] => self.suspends(),
                ["exact"] => {
                    self.traits.exact = true;
                    self.traits.lacks.remove(&Need::Exact);
                }
                ["unique", first] => {
                    self.traits.unique = true;
                    self.traits.first_index = wire::number(first).unwrap_or(0);
                    self.traits.lacks.remove(&Need::Unique);
                }
                [] => {}
                _ => return Err(broken(format!("the agent says `{line}`: what is that?"))),
            }
        }
        Ok(())
    }

    /// Waits until a task has connected.
    fn welcome(&mut self, task: Task) -> Result<(), Trouble> {
        let start = Instant::now();
        let stream = loop {
            match self.listener.accept() {
                Ok((stream, _)) => break stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    if let Ok(Some(status)) = self.root.try_wait() {
                        return Err(Trouble::Broken(format!("the agent ended: {status}")));
                    }
                    if start.elapsed() > PATIENCE {
                        return Err(Trouble::Broken(format!("{task} did not come")));
                    }
                    std::thread::sleep(Duration::from_micros(100));
                }
                Err(error) => return Err(broken(error)),
            }
        };
        stream.set_nonblocking(false).map_err(broken)?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(broken)?;
        let mut stream = BufReader::new(stream);
        let hello = read_line(&mut stream)?;
        let words: Vec<&str> = hello.split_whitespace().collect();
        let ["hello", name, pid, tid] = words[..] else {
            return Err(Trouble::Broken(format!("not a greeting: {hello}")));
        };
        let (Ok(pid), Ok(tid)) = (pid.parse(), tid.parse()) else {
            return Err(Trouble::Broken(format!("not a greeting: {hello}")));
        };
        if name != task.to_string() {
            return Err(Trouble::Broken(format!("{name} came, not {task}")));
        }
        let place = Place::Agent { stream, pid, tid };
        let begun = false;
        self.tasks.insert(task, Remote { place, begun });
        Ok(())
    }

    /// Sections nest, as in userspace.
    fn suspends(&mut self) {
        self.traits.nesting = Nesting::Suspend;
        for need in [Need::Nesting, Need::Signal] {
            self.traits.lacks.remove(&need);
        }
        let why = "sections suspend each other";
        self.traits.lacks.insert(Need::Refusal, why.into());
    }

    /// Sends a line to a task's agent and takes the answer.
    fn ask(&mut self, task: Task, line: &str) -> Result<Answer, Trouble> {
        let Some(Remote { place, .. }) = self.tasks.get_mut(&task) else {
            return Ok(Answer::Outcome(Outcome::Absent));
        };
        let Place::Agent { stream, .. } = place else {
            return Err(Trouble::Broken(format!("{task} is not in an agent")));
        };
        let sent = writeln!(stream.get_mut(), "{line}").map_err(broken);
        match sent.and_then(|()| read_line(stream)) {
            Ok(answer) => wire::parse(&answer).map_err(Trouble::Broken),
            Err(_) => {
                // Its whole process is gone, or will never speak again.
                self.bury(task);
                Err(Trouble::Broken(format!("{task} died at `{line}`")))
            }
        }
    }

    fn ask_words(&mut self, task: Task, line: &str) -> Result<String, Trouble> {
        match self.ask(task, line)? {
            Answer::Text(text) => Ok(text),
            other => Err(Trouble::Broken(format!("`{line}`: {other:?}"))),
        }
    }

    /// Asks any agent for a number.
    fn count(&mut self, what: &str) -> Result<u64, Trouble> {
        let mut idle = self.tasks.iter().filter(|(_, t)| !t.begun);
        let is_agent = |t: &Remote| matches!(t.place, Place::Agent { .. });
        let task = idle.find(|(_, t)| is_agent(t)).map(|(task, _)| *task);
        let task = task.ok_or_else(|| broken("no task is left to ask"))?;
        match self.tell(task, what)? {
            Outcome::Value(value) => Ok(value),
            other => Err(broken(format!("`{what}`: {other}"))),
        }
    }

    fn tell(&mut self, task: Task, line: &str) -> Result<Outcome, Trouble> {
        match self.ask(task, line)? {
            Answer::Outcome(outcome) => Ok(outcome),
            Answer::Trouble(trouble) => Err(trouble),
            Answer::Text(text) => Err(Trouble::Broken(format!("`{line}`: {text}"))),
        }
    }

    fn spawn(&mut self, by: Task, how: Spawn, child: Task, op: &Op) -> Result<Outcome, Trouble> {
        if self.tasks.contains_key(&child) {
            return Ok(Outcome::Absent);
        }
        if how == Spawn::Kernel {
            let used = |n: &u32| {
                let mut places = self.tasks.values().map(|t| &t.place);
                places.any(|place| matches!(place, Place::Kernel(k) if k == n))
            };
            let number = (0..16).find(|n| !used(n));
            let number = number.ok_or_else(|| Trouble::Broken("16 kernel threads".into()))?;
            let place = Place::Kernel(number);
            let begun = false;
            self.tasks.insert(child, Remote { place, begun });
            // It is made now, and not with its first section: what it inherits is of this moment.
            return self.kernel_thread(number, "run");
        }
        let outcome = self.tell(by, &op.to_string())?;
        if outcome == Outcome::Done {
            self.welcome(child)?;
        }
        Ok(outcome)
    }

    /// Has the test module's thread do something.
    fn kernel_thread(&mut self, number: u32, what: &str) -> Result<Outcome, Trouble> {
        self.tell(Task(0), &format!("kthread {number} {what}"))
    }

    fn end(&mut self, task: Task) -> Result<Outcome, Trouble> {
        match self.tasks.get(&task).map(|t| &t.place) {
            None => Ok(Outcome::Absent),
            Some(Place::Kernel(number)) => {
                let number = *number;
                self.tasks.remove(&task);
                self.kernel_thread(number, "end")
            }
            Some(Place::Agent { pid, tid, .. }) => {
                let (pid, tid) = (*pid, *tid);
                let outcome = self.tell(task, &format!("{task} end"))?;
                self.tasks.remove(&task);
                self.wait_gone(pid, tid)?;
                Ok(outcome)
            }
        }
    }

    fn kill(&mut self, task: Task) -> Result<Outcome, Trouble> {
        let Some(Place::Agent { pid, .. }) = self.tasks.get(&task).map(|t| &t.place) else {
            return Ok(Outcome::Absent);
        };
        let pid = *pid;
        // The first thread may be dead before the others are.
        let of_process = |t: &Remote| match t.place {
            Place::Agent { pid: p, tid, .. } if p == pid => Some(tid),
            _ => None,
        };
        let threads: Vec<u32> = self.tasks.values().filter_map(of_process).collect();
        device::kill(pid);
        self.bury(task);
        for tid in threads {
            self.wait_gone(pid, tid)?;
        }
        Ok(Outcome::Done)
    }

    /// Forgets all tasks of a task's process.
    fn bury(&mut self, task: Task) {
        let of = |task: &Remote| match task.place {
            Place::Agent { pid, .. } => Some(pid),
            Place::Kernel(_) => None,
        };
        let pid = self.tasks.get(&task).and_then(of);
        self.tasks.retain(|_, t| pid.is_none() || of(t) != pid);
    }

    /// Waits until a thread is gone, as far as the kernel is concerned.
    fn wait_gone(&mut self, pid: u32, tid: u32) -> Result<(), Trouble> {
        let start = Instant::now();
        loop {
            if pid == self.root.id() {
                // Or it would stay a zombie.
                let _ = self.root.try_wait();
            }
            match std::fs::read_to_string(format!("/proc/{pid}/task/{tid}/stat")) {
                Err(_) => return Ok(()),
                // Behind the name in parentheses stands the state: Z and X are after the end.
                Ok(stat)
                    if stat
                        .rsplit(") ")
                        .next()
                        .is_some_and(|s| s.starts_with(['Z', 'X'])) =>
                {
                    return Ok(());
                }
                Ok(_) if start.elapsed() > PATIENCE => {
                    return Err(Trouble::Broken(format!("thread {tid} does not end")));
                }
                Ok(_) => std::thread::sleep(Duration::from_micros(100)),
            }
        }
    }
}

impl Host for Live {
    fn traits(&self) -> &Traits {
        &self.traits
    }

    fn apply(&mut self, op: &Op) -> Result<Outcome, Trouble> {
        let begun = |task: &Task| self.tasks.get(task).is_none_or(|t| t.begun);
        match op {
            Op::Join(task) if self.tasks.get(task).is_some_and(|t| t.begun) => {
                let outcome = self.tell(*task, &op.to_string());
                if let Some(task) = self.tasks.get_mut(task) {
                    task.begun = false;
                }
                outcome
            }
            Op::Join(_) => Ok(Outcome::Absent),
            Op::Kill(task) => self.kill(*task),
            Op::End(task) | Op::Exec(task) | Op::Act(task, _) | Op::Fail { task, .. }
                if begun(task) =>
            {
                Ok(Outcome::Absent)
            }
            Op::Spawn { by: task, .. } | Op::Begin { task, .. } if begun(task) => {
                Ok(Outcome::Absent)
            }
            Op::Spawn { by, how, child } => self.spawn(*by, *how, *child, op),
            Op::End(task) => self.end(*task),
            Op::Exec(task) => {
                let outcome = self.tell(*task, &op.to_string())?;
                self.bury(*task);
                self.welcome(*task)?;
                Ok(outcome)
            }
            Op::Begin { task, .. } => {
                let outcome = self.tell(*task, &op.to_string())?;
                if let Some(task) = self.tasks.get_mut(task) {
                    task.begun = outcome == Outcome::Done;
                }
                Ok(outcome)
            }
            Op::Act(task, act) => match (self.tasks.get(task).map(|t| &t.place), act) {
                (Some(Place::Kernel(number)), Act::Run(steps)) => {
                    let number = *number;
                    let steps: Vec<String> = steps.iter().map(Step::to_string).collect();
                    self.kernel_thread(number, &format!("run {}", steps.join(" ")))
                }
                (Some(Place::Kernel(_)), _) => Ok(Outcome::Absent),
                _ => self.tell(*task, &op.to_string()),
            },
            Op::Fail { task, nth } => {
                self.failing = Some(*task);
                match self.tasks.get(task).map(|t| &t.place) {
                    Some(Place::Kernel(number)) => {
                        self.kernel_thread(*number, &format!("fail {nth}"))
                    }
                    _ => self.tell(*task, &op.to_string()),
                }
            }
        }
    }

    fn pc(&self, site: Site) -> u64 {
        let site = match site {
            Site::Marker(n) => Site::Marker(n % self.traits.markers.max(1)),
            Site::Switch { bits } if ![8, 16, 32, 64].contains(&bits) => Site::Switch { bits: 64 },
            other => other,
        };
        self.sites.get(&site).copied().unwrap_or(0)
    }

    fn drops(&mut self, task: Task, file: File) -> Result<Drops, Trouble> {
        match self.tell(task, &format!("drops {file}"))? {
            Outcome::Words(words) if words.len() == 3 => Ok(Drops {
                full: words[0],
                stale: words[1],
                no_area: words[2],
            }),
            other => Err(Trouble::Broken(format!("drops of {file}: {other}"))),
        }
    }

    fn warnings(&mut self) -> Result<u64, Trouble> {
        self.count("warnings")
    }

    fn memory(&mut self) -> Result<u64, Trouble> {
        self.count("memory")
    }

    fn failed(&mut self) -> Result<bool, Trouble> {
        let task = self.failing.ok_or_else(|| broken("nothing was to fail"))?;
        let answer = match self.tasks.get(&task).map(|t| &t.place) {
            Some(Place::Kernel(number)) => self.kernel_thread(*number, "failed")?,
            _ => self.tell(task, "failed")?,
        };
        match answer {
            Outcome::Value(failed) => Ok(failed == 1),
            Outcome::Words(words) => Ok(words == [1]),
            other => Err(broken(format!("`failed`: {other}"))),
        }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        // Kernel threads are ended by who can still speak; processes need not be asked.
        let kernel: Vec<u32> = self
            .tasks
            .values()
            .filter_map(|t| match t.place {
                Place::Kernel(number) => Some(number),
                Place::Agent { .. } => None,
            })
            .collect();
        for number in kernel {
            let _ = self.kernel_thread(number, "end");
        }
        for task in self.tasks.values() {
            if let Place::Agent { pid, .. } = task.place {
                device::kill(pid);
            }
        }
        let _ = self.root.kill();
        let _ = self.root.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn broken(error: impl std::fmt::Display) -> Trouble {
    Trouble::Broken(error.to_string())
}

fn read_line(stream: &mut BufReader<UnixStream>) -> Result<String, Trouble> {
    let mut line = String::new();
    match stream.read_line(&mut line) {
        Ok(0) => Err(Trouble::Broken("the connection was closed".into())),
        Ok(_) => Ok(line.trim_end().into()),
        Err(error) => Err(broken(error)),
    }
}

/// A folder of our own for the socket.
fn new_folder() -> Result<PathBuf, Trouble> {
    let base = std::env::temp_dir();
    for n in 0..1000_u32 {
        let name = format!("rkcov-{}-{n}", std::process::id());
        let folder: PathBuf = Path::new(&base).join(name);
        match std::fs::create_dir(&folder) {
            Ok(()) => return Ok(folder),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(broken(error)),
        }
    }
    Err(Trouble::Broken("no folder for the socket".into()))
}
