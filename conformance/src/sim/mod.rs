// SPDX-License-Identifier: MIT OR Apache-2.0
//! The rules themselves, `rkcov-core`, on a machine that is played: tasks, processes, files and
//! interrupts are what the history says, one after the other in one thread.
//!
//! This is the only place where the rules for a kernel (sections refuse to nest, softirqs) and
//! those for userspace run without either of them.

mod heap;
mod machine;

use std::alloc::Layout;
use std::collections::BTreeMap;
use std::mem::{size_of, MaybeUninit};
use std::ptr;

use rkcov_abi::{CmpType, Comparison, Errno, RemoteArg};
use rkcov_core::append::{append_cmp, append_pc, append_unique, Appended};
use rkcov_core::hot::{MODE_BITS, SOFTIRQ};
use rkcov_core::sync::{Ordering, Word};
use rkcov_core::{self as core, Descriptor, Hot, Kcov, Mode, Ref};
use rkcov_model::host::Site;
use rkcov_model::model::Observed;
use rkcov_model::{
    Act, Call, Context, Drops, File, Host, Map, Nesting, Op, Outcome, RemoteCall, Spawn, Step,
    Task, Traits, Trouble,
};

use machine::{Argument, Kernel, Kind, Machine, Userspace, ARGUMENT};

/// A kcov on a played machine.
struct Simulated<K: Kind> {
    // Tasks and processes hold references into `kcov`, so they come first.
    tasks: BTreeMap<Task, Box<Player<K>>>,
    processes: Vec<Process<K>>,
    kcov: &'static Kcov<Machine<K>>,
    /// Every descriptor that was ever opened, by its number.
    opened: Vec<*const Descriptor<Machine<K>>>,
    fail: Option<(Task, u32)>,
    traits: Traits,
}

/// `rkcov-core` as in a userspace process.
#[must_use]
pub fn userspace() -> Box<dyn Observable> {
    Box::new(Simulated::<Userspace>::new("core-userspace"))
}

/// `rkcov-core` as in a kernel.
#[must_use]
pub fn kernel() -> Box<dyn Observable> {
    Box::new(Simulated::<Kernel>::new("core-kernel"))
}

/// A host of which everything can be seen.
pub trait Observable: Host {
    /// All that is compared with the model.
    fn observe(&self) -> Observed;

    /// How many allocations the rules asked for.
    fn allocations(&self) -> u64;

    /// Ends all tasks, and says what leaked or was written where nobody may write.
    ///
    /// # Errors
    /// Says it.
    fn close(&mut self) -> Result<(), String>;
}

/// A task: what the callbacks read, and what the rules know.
struct Player<K: Kind> {
    hot: Hot,
    task: core::Task<Machine<K>>,
    name: Task,
    process: usize,
    begun: Option<(u32, Vec<Act>)>,
}

struct Process<K: Kind> {
    files: BTreeMap<File, Opened<K>>,
    maps: BTreeMap<Map, Opened<K>>,
}

impl<K: Kind> Default for Process<K> {
    fn default() -> Self {
        Self {
            files: BTreeMap::new(),
            maps: BTreeMap::new(),
        }
    }
}

/// A file, or the file that a mapping holds.
struct Opened<K: Kind> {
    number: usize,
    descriptor: Ref<Machine<K>>,
}

impl<K: Kind> Clone for Opened<K> {
    fn clone(&self) -> Self {
        Self {
            number: self.number,
            descriptor: self.descriptor.clone(),
        }
    }
}

impl<K: Kind> Simulated<K> {
    fn new(name: &str) -> Self {
        let slot = Box::leak(Box::new(MaybeUninit::<Kcov<Machine<K>>>::zeroed()));
        // SAFETY: zeroed, valid, and not moved until it is freed in `drop`.
        let kcov = unsafe {
            Kcov::init(slot.as_mut_ptr(), Machine::new());
            slot.assume_init_ref()
        };
        let traits = match K::NESTING {
            core::Nesting::Suspend => Traits::userspace(name),
            core::Nesting::Refuse => Traits::kernel(name),
        };
        let mut this = Self {
            tasks: BTreeMap::new(),
            processes: vec![Process::default()],
            kcov,
            opened: Vec::new(),
            fail: None,
            traits: Traits {
                softirq_area: machine::SOFTIRQ_WORDS,
                softirq_areas: machine::SOFTIRQ_AREAS,
                ..traits
            },
        };
        this.bear(Task(0), 0, None);
        this
    }

    fn machine(&self) -> &'static Machine<K> {
        self.kcov.host()
    }

    fn bear(&mut self, name: Task, process: usize, parent: Option<Task>) {
        let player = Box::new(Player {
            hot: Hot::new(),
            task: core::Task::new(),
            name,
            process,
            begun: None,
        });
        let (task, hot) = (ptr::from_ref(&player.task), ptr::from_ref(&player.hot));
        self.machine()
            .state()
            .hots
            .insert(task as usize, hot as usize);
        let parent = parent.and_then(|p| self.tasks[&p].task.common(self.machine()));
        player.task.begin(self.machine(), parent);
        self.tasks.insert(name, player);
    }

    fn spawn(&mut self, by: Task, how: Spawn, child: Task) -> Outcome {
        if self.tasks.contains_key(&child) {
            return Outcome::Absent;
        }
        let process = self.tasks[&by].process;
        let process = match how {
            Spawn::Thread => process,
            Spawn::Fork => {
                let copy = Process {
                    files: self.processes[process].files.clone(),
                    maps: self.processes[process].maps.clone(),
                };
                self.processes.push(copy);
                self.processes.len() - 1
            }
            Spawn::Kernel => {
                self.processes.push(Process::default());
                self.processes.len() - 1
            }
        };
        let inherits = how != Spawn::Kernel;
        self.bear(child, process, inherits.then_some(by));
        Outcome::Done
    }

    fn end(&mut self, name: Task) -> Outcome {
        let Some(player) = self.tasks.remove(&name) else {
            return Outcome::Absent;
        };
        self.machine().state().caller = name.0;
        self.kcov.exit(&player.task);
        let process = player.process;
        let task = ptr::from_ref(&player.task) as usize;
        self.machine().state().hots.remove(&task);
        if self.tasks.values().all(|t| t.process != process) {
            self.processes[process] = Process::default();
        }
        Outcome::Done
    }

    fn end_members(&mut self, process: usize, except: Option<Task>) {
        let of = self.tasks.values().filter(|t| t.process == process);
        let members: Vec<Task> = of.map(|t| t.name).filter(|n| Some(*n) != except).collect();
        for task in members {
            self.end(task);
        }
    }

    fn exec(&mut self, name: Task) -> Outcome {
        let process = self.tasks[&name].process;
        self.end_members(process, Some(name));
        self.processes[process].maps.clear();
        if self.traits.nesting == Nesting::Suspend {
            self.end(name);
            self.bear(name, process, None);
        }
        Outcome::Done
    }

    fn act(&mut self, name: Task, act: &Act) -> Outcome {
        let machine = self.machine();
        {
            let mut state = machine.state();
            state.caller = name.0;
            let nth = self.fail.take_if(|(task, _)| *task == name);
            state.heap.fail(nth.map(|(_, nth)| nth));
        }
        let outcome = self.unfailing(name, act);
        machine.state().heap.fail(None);
        outcome
    }

    fn unfailing(&mut self, name: Task, act: &Act) -> Outcome {
        let player = &self.tasks[&name];
        let process = player.process;
        match act {
            Act::Open(file) => {
                if self.file(process, *file).is_some() {
                    return Outcome::Absent;
                }
                match self.kcov.open() {
                    Ok(descriptor) => {
                        let number = self.opened.len();
                        self.opened.push(ptr::from_ref(&*descriptor));
                        let opened = Opened { number, descriptor };
                        self.processes[process].files.insert(*file, opened);
                        Outcome::Done
                    }
                    Err(errno) => errno.into(),
                }
            }
            Act::Close(file) => present(self.processes[process].files.remove(file)),
            Act::Ioctl(file, call) => match self.file(process, *file) {
                Some(opened) => self.call(player, opened, call, false),
                None => Outcome::Absent,
            },
            Act::Ioctl32(file, call) => match self.file(process, *file) {
                Some(opened) => self.call(player, opened, call, true),
                None => Outcome::Absent,
            },
            Act::Map {
                file,
                map,
                len,
                offset,
                ..
            } => {
                let (Some(opened), None) = (self.file(process, *file), self.mapped(process, *map))
                else {
                    return Outcome::Absent;
                };
                if let Err(errno) = self.map(opened, *len, *offset) {
                    return errno.into();
                }
                let opened = opened.clone();
                self.processes[process].maps.insert(*map, opened);
                Outcome::Done
            }
            Act::Unmap(map) => present(self.processes[process].maps.remove(map)),
            Act::Read { map, first, count } => {
                let end = first.saturating_add(*count);
                let words = self.mapped(process, *map);
                match words.and_then(|w| w.get(*first as usize..end as usize)) {
                    Some(words) => Outcome::Words(plain(words)),
                    None => Outcome::Absent,
                }
            }
            Act::Poke { map, word, value } => {
                let words = self.mapped(process, *map);
                match words.and_then(|w| w.get(*word as usize)) {
                    Some(word) => {
                        word.store(*value, Ordering::Relaxed);
                        Outcome::Done
                    }
                    None => Outcome::Absent,
                }
            }
            Act::Watch(map) => match self.mapped(process, *map) {
                Some(words) => {
                    let count = words[0].load(Ordering::Acquire);
                    let count = count.min(words.len() as u64 - 1) as usize;
                    let unwritten = words[1..=count]
                        .iter()
                        .filter(|w| w.load(Ordering::Relaxed) == 0);
                    Outcome::Value(unwritten.count() as u64)
                }
                None => Outcome::Absent,
            },
            Act::Run(steps) => {
                let mut seen = Vec::new();
                self.run(player, core::Context::Task, steps, &mut seen);
                if seen.is_empty() {
                    Outcome::Done
                } else {
                    Outcome::Words(seen)
                }
            }
        }
    }

    fn file(&self, process: usize, file: File) -> Option<&Opened<K>> {
        self.processes[process].files.get(&file)
    }

    /// The words that a process sees at a mapping.
    fn mapped(&self, process: usize, map: Map) -> Option<&[Word]> {
        let opened = self.processes[process].maps.get(&map)?;
        Some(self.words(opened.number))
    }

    /// As `mmap()` does it: whole pages, and at least one.
    fn map(&self, opened: &Opened<K>, len: u64, offset: u64) -> Result<(), Errno> {
        const PAGE: usize = 4096;
        let bytes = usize::try_from(len)
            .ok()
            .and_then(|len| len.checked_next_multiple_of(PAGE))
            .filter(|bytes| *bytes > 0)
            .ok_or(Errno::Inval)?;
        self.kcov.map(&opened.descriptor, bytes, offset, PAGE)?;
        Ok(())
    }

    /// The words of a descriptor's buffer.
    fn words(&self, number: usize) -> &[Word] {
        match self.machine().state().buffers.get(&number) {
            // SAFETY: a mapping or a file keeps the descriptor, and so the buffer.
            Some(&(base, words)) => unsafe {
                std::slice::from_raw_parts(base as *const Word, words as usize)
            },
            None => &[],
        }
    }

    fn call(&self, player: &Player<K>, opened: &Opened<K>, call: &Call, as32: bool) -> Outcome {
        self.machine().state().opener = opened.number;
        let (number, argument) = call.request(as32, |call| {
            self.machine().state().argument = lay_out(call);
            ARGUMENT as u64
        });
        let answer = self
            .kcov
            .ioctl(&opened.descriptor, &player.task, number, argument as usize);
        self.machine().state().argument = Argument::default();
        match answer {
            Ok(()) => Outcome::Done,
            Err(errno) => errno.into(),
        }
    }

    fn run(&self, player: &Player<K>, context: core::Context, steps: &[Step], seen: &mut Vec<u64>) {
        let outer = std::mem::replace(&mut self.machine().state().context, context);
        for step in steps {
            match step {
                Step::Start(handle) => self.kcov.start(&player.task, *handle),
                Step::Stop => self.kcov.stop(&player.task),
                Step::CommonHandle => seen.push(self.kcov.common_handle(&player.task)),
                Step::Pcs { first, count } => {
                    for marker in *first..first.saturating_add(*count) {
                        trace_pc(player, context, marker);
                    }
                }
                Step::Compare {
                    log2,
                    constant,
                    arg1,
                    arg2,
                } => {
                    let (log2, constant) = (*log2, *constant);
                    let mask = u64::MAX >> (64 - (8 << log2));
                    let cmp = Comparison {
                        kind: CmpType::new(log2.into(), constant),
                        arg1: arg1 & mask,
                        arg2: arg2 & mask,
                        pc: Site::Compare { log2, constant }.simulated_pc(),
                    };
                    trace_cmp(player, context, cmp);
                }
                Step::Switch { bits, value, cases } => {
                    let Some(log2) = [8, 16, 32, 64].iter().position(|b| b == bits) else {
                        continue;
                    };
                    for case in cases {
                        let cmp = Comparison {
                            kind: CmpType::new(log2 as u32, true),
                            arg1: *case,
                            arg2: *value,
                            pc: Site::Switch { bits: *bits }.simulated_pc(),
                        };
                        trace_cmp(player, context, cmp);
                    }
                }
                Step::Interrupt(inner, steps) => {
                    let inner = match inner {
                        Context::Softirq => core::Context::Softirq,
                        Context::Hardirq => core::Context::Other,
                        Context::Signal => core::Context::Task,
                    };
                    self.run(player, inner, steps, seen);
                }
            }
        }
        self.machine().state().context = outer;
    }
}

/// What a callback does first: is this context recorded, and how?
fn mode_in(hot: &Hot, context: core::Context) -> u32 {
    let word = hot.mode.load(Ordering::Relaxed) & MODE_BITS;
    match context {
        core::Context::Task if word & SOFTIRQ == 0 => word,
        core::Context::Softirq if word & SOFTIRQ != 0 => word & !SOFTIRQ,
        _ => Mode::Off as u32,
    }
}

fn trace_pc<K: Kind>(player: &Player<K>, context: core::Context, marker: u32) {
    let (hot, task) = (&player.hot, &player.task);
    let mode = mode_in(hot, context);
    let (area, limit) = (
        hot.area.load(Ordering::Relaxed),
        hot.limit.load(Ordering::Relaxed),
    );
    let pc = Site::Marker(marker).simulated_pc();
    let appended = if mode == Mode::Pc as u32 {
        // SAFETY: while the mode is set, the rules keep `area` valid for `limit` records.
        unsafe { append_pc(area, limit, pc) }
    } else if mode == Mode::Unique as u32 {
        let bits = task.bitmap_bits.load(Ordering::Relaxed);
        // SAFETY: as above, with the bitmap before the count word.
        unsafe { append_unique(area, limit, bits, marker.into(), pc) }
    } else {
        return;
    };
    if appended == Appended::Full {
        // SAFETY: it just tried to record, and every sink here has a counter.
        unsafe { task.count_full() };
    }
}

fn trace_cmp<K: Kind>(player: &Player<K>, context: core::Context, cmp: Comparison) {
    let (hot, task) = (&player.hot, &player.task);
    if mode_in(hot, context) != Mode::Cmp as u32 {
        return;
    }
    let (area, limit) = (
        hot.area.load(Ordering::Relaxed),
        hot.limit.load(Ordering::Relaxed),
    );
    // SAFETY: while the mode is set, the rules keep `area` valid for `limit` records.
    if unsafe { append_cmp(area, limit, cmp) } == Appended::Full {
        // SAFETY: it just tried to record, and every sink here has a counter.
        unsafe { task.count_full() };
    }
}

fn present<T>(was: Option<T>) -> Outcome {
    was.map_or(Outcome::Absent, |_| Outcome::Done)
}

fn plain(words: &[Word]) -> Vec<u64> {
    words.iter().map(|w| w.load(Ordering::Relaxed)).collect()
}

/// The argument's bytes, as far as they can be read.
fn lay_out(call: &RemoteCall) -> Argument {
    let mut bytes = call.bytes();
    debug_assert_eq!(bytes.len(), size_of::<RemoteArg>() + 8 * call.handles.len());
    bytes.truncate(call.readable_bytes() as usize);
    Argument {
        bytes,
        then: call.then,
    }
}

impl<K: Kind> Host for Simulated<K> {
    fn traits(&self) -> &Traits {
        &self.traits
    }

    fn apply(&mut self, op: &Op) -> Result<Outcome, Trouble> {
        let away = |task: &Task| self.tasks.get(task).is_none_or(|t| t.begun.is_some());
        let outcome = match op {
            Op::Spawn { by, .. } if away(by) => Outcome::Absent,
            Op::Act(task, _) | Op::Exec(task) | Op::Fail { task, .. } if away(task) => {
                Outcome::Absent
            }
            Op::Spawn { by, how, child } => self.spawn(*by, *how, *child),
            Op::End(task) => self.end(*task),
            Op::Kill(task) => match self.tasks.get(task) {
                Some(player) => {
                    self.end_members(player.process, None);
                    Outcome::Done
                }
                None => Outcome::Absent,
            },
            Op::Exec(task) => self.exec(*task),
            Op::Act(task, act) => self.act(*task, act),
            Op::Fail { task, nth } => {
                self.fail = Some((*task, *nth));
                Outcome::Done
            }
            Op::Begin { task, rounds, acts } => match self.tasks.get_mut(task) {
                Some(player) if player.begun.is_none() => {
                    player.begun = Some((*rounds, acts.clone()));
                    Outcome::Done
                }
                _ => Outcome::Absent,
            },
            Op::Join(task) => {
                let begun = self.tasks.get_mut(task).and_then(|t| t.begun.take());
                let Some((rounds, acts)) = begun else {
                    return Ok(Outcome::Absent);
                };
                let mut result = Outcome::Done;
                for _ in 0..rounds {
                    for act in &acts {
                        let outcome = self.act(*task, act);
                        if result == Outcome::Done && act.failed(&outcome) {
                            result = outcome;
                        }
                    }
                }
                result
            }
        };
        Ok(outcome)
    }

    fn pc(&self, site: Site) -> u64 {
        site.simulated_pc()
    }

    fn drops(&mut self, task: Task, file: File) -> Result<Drops, Trouble> {
        let process = self.tasks.get(&task).map(|t| &self.processes[t.process]);
        match process.and_then(|p| p.files.get(&file)) {
            Some(opened) => Ok(drops(&opened.descriptor)),
            None => Err(Trouble::Broken(format!("{file} is not open in {task}"))),
        }
    }

    fn warnings(&mut self) -> Result<u64, Trouble> {
        Ok(self.machine().state().warnings)
    }

    fn memory(&mut self) -> Result<u64, Trouble> {
        Ok(self.kept().len() as u64)
    }

    fn failed(&mut self) -> Result<bool, Trouble> {
        Ok(self.machine().state().heap.failed())
    }
}

fn drops<K: Kind>(descriptor: &Descriptor<Machine<K>>) -> Drops {
    let [full, stale, no_area, _] = descriptor.drops().read();
    Drops {
        full,
        stale,
        no_area,
    }
}

impl<K: Kind> Simulated<K> {
    /// What the rules keep in memory, but for two things that may stay: the tables of the registry
    /// (a power of two of pointers) and the softirq areas.
    fn kept(&self) -> Vec<Layout> {
        let state = self.machine().state();
        let descriptor = Layout::new::<Descriptor<Machine<K>>>();
        let words = <Machine<K> as core::Host>::SOFTIRQ_AREA;
        let softirq_area = core::Area::layout(words);
        let stays = |layout: &Layout| {
            let table = layout.size().is_power_of_two() && layout.align() == 8;
            (table && *layout != descriptor) || *layout == softirq_area
        };
        state.heap.living().filter(|l| !stays(l)).collect()
    }
}

impl<K: Kind> Observable for Simulated<K> {
    fn observe(&self) -> Observed {
        let lives = |address: &*const _| self.machine().state().heap.lives(*address as usize);
        let opened = self.opened.iter().enumerate();
        let [_, _, _, too_deep] = self.kcov.drops().read();
        Observed {
            descriptors: opened
                .filter(|(_, address)| lives(address))
                .map(|(number, &address)| {
                    // SAFETY: it lives.
                    let descriptor = unsafe { &*address };
                    (number, (plain(self.words(number)), drops(descriptor)))
                })
                .collect(),
            common: self
                .tasks
                .iter()
                .map(|(&name, player)| (name, self.kcov.common_handle(&player.task)))
                .collect(),
            warnings: self.machine().state().warnings,
            too_deep,
            handles: self.kcov.handles(),
        }
    }

    fn allocations(&self) -> u64 {
        self.machine().state().heap.asked()
    }

    fn close(&mut self) -> Result<(), String> {
        let tasks: Vec<Task> = self.tasks.keys().copied().collect();
        for task in tasks {
            self.end(task);
        }
        self.machine().state().heap.check()?;
        let kept = self.kept();
        if !kept.is_empty() {
            return Err(format!("not freed after the last task ended: {kept:?}"));
        }
        if !self.machine().softirq_areas_free() {
            return Err("a softirq area was not put back".into());
        }
        if self.kcov.handles() != 0 {
            return Err("handles without a descriptor".into());
        }
        Ok(())
    }
}

impl<K: Kind> Drop for Simulated<K> {
    fn drop(&mut self) {
        // After a failure references may be left; then the machine is leaked with them.
        if !std::thread::panicking() && self.close().is_ok() {
            let kcov = ptr::from_ref(self.kcov).cast_mut();
            // SAFETY: leaked in `new`; no task, file or descriptor that refers to it is left.
            drop(unsafe { Box::from_raw(kcov) });
        }
    }
}
