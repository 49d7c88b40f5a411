// SPDX-License-Identifier: MIT OR Apache-2.0
//! The reference model.
//!
//! - here: who there is, and how tasks come and go;
//! - `client`: what the device answers;
//! - `section`: what running code leaves behind.

mod client;
mod section;

use std::collections::{BTreeMap, BTreeSet};

use crate::host::{Drops, Host, Nesting, Outcome, Site, Traits, Trouble};
use crate::op::{Act, File, Map, Op, Spawn, Task};

use section::Section;

/// A kcov and its clients, told one operation at a time.
#[derive(Clone, Debug)]
pub struct Model {
    traits: Traits,
    tasks: BTreeMap<Task, TaskState>,
    processes: Vec<Process>,
    descriptors: Vec<Descriptor>,
    warnings: u64,
    too_deep: u64,
    /// The task whose next act finds no memory.
    fail: Option<Task>,
    /// Whether it asked for some.
    failed: bool,
}

/// Which descriptor: the first that was opened is 0, and no number is used twice.
pub type Id = usize;

/// A process: what its tasks share.
#[derive(Clone, Debug, Default)]
struct Process {
    files: BTreeMap<File, Id>,
    maps: BTreeMap<Map, Id>,
}

/// A task.
#[derive(Clone, Debug, Default)]
struct TaskState {
    process: usize,
    /// The handle that children inherit; 0 for none.
    common: u64,
    /// The descriptor that set it, unless it was inherited.
    common_from: Option<Id>,
    /// The descriptor that collects from this task.
    local: Option<Id>,
    /// The descriptor that this task enabled for sections.
    remote: Option<Id>,
    /// The sections that this task is in, the innermost last. `None` is one that nobody listens
    /// to.
    sections: Vec<Option<Section>>,
    /// Starts beyond the deepest section that have not been stopped.
    deeper: u32,
    /// The section of a softirq that interrupted this task.
    softirq: Option<Section>,
    /// What the task was told to do meanwhile.
    begun: Option<(u32, Vec<Act>)>,
}

/// One open of the device.
#[derive(Clone, Debug)]
struct Descriptor {
    /// The buffer, once there is one.
    words: Option<Vec<u64>>,
    enabled: Option<Enabled>,
    /// One more at each enable and each disable.
    sequence: u64,
    drops: Drops,
}

/// What an enabled descriptor collects.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Enabled {
    /// From the owner.
    Local { owner: Task, mode: Mode },
    /// From sections.
    Remote {
        owner: Task,
        mode: Mode,
        area: u32,
        handles: BTreeSet<u64>,
    },
}

/// What is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Pc,
    Cmp,
    /// Each PC once; the bitmap has so many words.
    Unique(u64),
}

impl Mode {
    /// Where the count word is.
    fn count_word(self) -> u64 {
        match self {
            Self::Pc | Self::Cmp => 0,
            Self::Unique(bitmap) => bitmap,
        }
    }

    fn record_words(self) -> u64 {
        match self {
            Self::Pc | Self::Unique(_) => 1,
            Self::Cmp => 4,
        }
    }
}

impl Enabled {
    fn owner(&self) -> Task {
        match self {
            Self::Local { owner, .. } | Self::Remote { owner, .. } => *owner,
        }
    }
}

/// All that can be seen of a kcov from outside, by clients and by who counts its memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observed {
    /// The living descriptors: buffer (empty before there is one) and drops.
    pub descriptors: BTreeMap<Id, (Vec<u64>, Drops)>,
    /// The common handle of each task.
    pub common: BTreeMap<Task, u64>,
    /// Warnings so far.
    pub warnings: u64,
    /// Starts that came when all frames were taken, so far.
    pub too_deep: u64,
    /// Handles that are registered now.
    pub handles: usize,
}

impl Model {
    /// A kcov of this kind that nobody has opened, and task `t0`.
    #[must_use]
    pub fn new(traits: Traits) -> Self {
        Self {
            traits,
            tasks: BTreeMap::from([(Task(0), TaskState::default())]),
            processes: vec![Process::default()],
            descriptors: Vec::new(),
            warnings: 0,
            too_deep: 0,
            fail: None,
            failed: false,
        }
    }

    /// The model of a kcov in a userspace process.
    #[must_use]
    pub fn userspace() -> Self {
        Self::new(Traits::userspace("model-userspace"))
    }

    /// The model of a kcov in a kernel.
    #[must_use]
    pub fn kernel() -> Self {
        Self::new(Traits::kernel("model-kernel"))
    }

    /// Everything that can be seen.
    #[must_use]
    pub fn observe(&self) -> Observed {
        let alive = self.alive();
        Observed {
            descriptors: alive
                .iter()
                .map(|&id| {
                    let d = &self.descriptors[id];
                    (id, (d.words.clone().unwrap_or_default(), d.drops))
                })
                .collect(),
            common: self.tasks.iter().map(|(&t, s)| (t, s.common)).collect(),
            warnings: self.warnings,
            too_deep: self.too_deep,
            handles: self
                .descriptors
                .iter()
                .map(|d| match &d.enabled {
                    Some(Enabled::Remote { handles, .. }) => handles.len(),
                    _ => 0,
                })
                .sum(),
        }
    }

    /// The descriptors that something refers to: a file, a map, the owner, or a section.
    fn alive(&self) -> BTreeSet<Id> {
        let mut alive = BTreeSet::new();
        for process in &self.processes {
            alive.extend(process.files.values());
            alive.extend(process.maps.values());
        }
        for (id, descriptor) in self.descriptors.iter().enumerate() {
            if descriptor.enabled.is_some() {
                alive.insert(id);
            }
        }
        for task in self.tasks.values() {
            for section in task.sections.iter().chain([&task.softirq]).flatten() {
                alive.insert(section.descriptor);
            }
        }
        alive
    }

    fn spawn(&mut self, by: Task, how: Spawn, child: Task) -> Outcome {
        if self.tasks.contains_key(&child) {
            return Outcome::Absent;
        }
        let Some(parent) = self.tasks.get(&by) else {
            return Outcome::Absent;
        };
        let common = match how {
            Spawn::Thread | Spawn::Fork => parent.common,
            Spawn::Kernel => 0,
        };
        let process = match how {
            Spawn::Thread => parent.process,
            Spawn::Fork => {
                let copy = self.processes[parent.process].clone();
                self.processes.push(copy);
                self.processes.len() - 1
            }
            Spawn::Kernel => {
                self.processes.push(Process::default());
                self.processes.len() - 1
            }
        };
        let state = TaskState {
            process,
            common,
            ..TaskState::default()
        };
        self.tasks.insert(child, state);
        Outcome::Done
    }

    /// A task ends: its sections stop, innermost first, then its descriptors are released, the
    /// local one first.
    fn end(&mut self, task: Task) -> Outcome {
        let Some(state) = self.tasks.get_mut(&task) else {
            return Outcome::Absent;
        };
        let process = state.process;
        if self.traits.nesting == Nesting::Refuse
            && (state.softirq.is_some() || !state.sections.is_empty())
        {
            self.warnings += 1;
        }
        let softirq = state.softirq.take();
        let sections = std::mem::take(&mut state.sections);
        for section in softirq
            .into_iter()
            .chain(sections.into_iter().rev().flatten())
        {
            self.merge(section);
        }
        let TaskState { local, remote, .. } = self.tasks[&task];
        for id in [local, remote].into_iter().flatten() {
            self.release(id);
        }
        self.tasks.remove(&task);
        if self.tasks.values().all(|t| t.process != process) {
            self.processes[process] = Process::default();
        }
        Outcome::Done
    }

    fn kill(&mut self, task: Task) -> Outcome {
        let Some(state) = self.tasks.get(&task) else {
            return Outcome::Absent;
        };
        let process = state.process;
        for task in self.members(process) {
            self.end(task);
        }
        Outcome::Done
    }

    /// In a kernel the task stays the same one, without its maps; in userspace everything that was
    /// in the process ends with the old image, and a new one begins.
    fn exec(&mut self, task: Task) -> Outcome {
        let Some(state) = self.tasks.get(&task) else {
            return Outcome::Absent;
        };
        let process = state.process;
        for other in self.members(process) {
            if other != task {
                self.end(other);
            }
        }
        self.processes[process].maps.clear();
        if self.traits.nesting == Nesting::Suspend {
            self.end(task);
            let state = TaskState {
                process,
                ..TaskState::default()
            };
            self.tasks.insert(task, state);
        }
        Outcome::Done
    }

    fn members(&self, process: usize) -> Vec<Task> {
        let of = self.tasks.iter().filter(|(_, s)| s.process == process);
        of.map(|(&task, _)| task).collect()
    }

    /// Rounds that were begun are run when they are joined: one of the orders that real tasks may
    /// take.
    fn join(&mut self, task: Task) -> Outcome {
        let Some(state) = self.tasks.get_mut(&task) else {
            return Outcome::Absent;
        };
        let Some((rounds, acts)) = state.begun.take() else {
            return Outcome::Absent;
        };
        let mut result = Outcome::Done;
        for _ in 0..rounds {
            for act in &acts {
                let outcome = self.act(task, act);
                if result == Outcome::Done && act.failed(&outcome) {
                    result = outcome;
                }
            }
        }
        result
    }

    fn begin(&mut self, task: Task, rounds: u32, acts: &[Act]) -> Outcome {
        match self.tasks.get_mut(&task) {
            Some(state) if state.begun.is_none() => {
                state.begun = Some((rounds, acts.to_vec()));
                Outcome::Done
            }
            _ => Outcome::Absent,
        }
    }

    /// Whether this task cannot take operations: it is not there, or it has begun something.
    fn away(&self, task: Task) -> bool {
        self.tasks.get(&task).is_none_or(|t| t.begun.is_some())
    }

    /// Whether the allocation that `task` asks for now fails. An act of the model makes one, or one
    /// for each section; all of them fail, or none.
    fn allocation_fails(&mut self, task: Task) -> bool {
        let fails = self.fail == Some(task);
        self.failed |= fails;
        fails
    }
}

impl Host for Model {
    fn traits(&self) -> &Traits {
        &self.traits
    }

    fn apply(&mut self, op: &Op) -> Result<Outcome, Trouble> {
        let outcome = match op {
            Op::Spawn { by, .. } if self.away(*by) => Outcome::Absent,
            Op::Spawn { by, how, child } => self.spawn(*by, *how, *child),
            Op::End(task) => self.end(*task),
            Op::Kill(task) => self.kill(*task),
            Op::Exec(task) if self.away(*task) => Outcome::Absent,
            Op::Exec(task) => self.exec(*task),
            Op::Act(task, _) if self.away(*task) => Outcome::Absent,
            Op::Act(task, act) => {
                let outcome = self.act(*task, act);
                if self.fail == Some(*task) {
                    self.fail = None;
                }
                outcome
            }
            Op::Fail { task, .. } if self.away(*task) => Outcome::Absent,
            Op::Fail { task, nth } => {
                self.failed = false;
                self.fail = (*nth == 1).then_some(*task);
                Outcome::Done
            }
            Op::Begin { task, rounds, acts } => self.begin(*task, *rounds, acts),
            Op::Join(task) => self.join(*task),
        };
        Ok(outcome)
    }

    fn pc(&self, site: Site) -> u64 {
        site.simulated_pc()
    }

    fn drops(&mut self, task: Task, file: File) -> Result<Drops, Trouble> {
        let process = self.tasks.get(&task).map(|t| &self.processes[t.process]);
        match process.and_then(|p| p.files.get(&file)) {
            Some(&id) => Ok(self.descriptors[id].drops),
            None => Err(Trouble::Broken(format!("{file:?} is not open"))),
        }
    }

    fn warnings(&mut self) -> Result<u64, Trouble> {
        Ok(self.warnings)
    }

    fn memory(&mut self) -> Result<u64, Trouble> {
        Ok(self.alive().len() as u64)
    }

    fn failed(&mut self) -> Result<bool, Trouble> {
        Ok(self.failed)
    }
}
