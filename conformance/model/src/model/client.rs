// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the device answers to its clients: every check in the order of the interface's table.

use std::collections::BTreeSet;

use rkcov_abi::{
    Command, CommonHandle, Errno, Handle, TraceMode, CMP_WORDS, PC_WORDS, REMOTE_MAX_HANDLES,
};

use super::{Descriptor, Enabled, Id, Mode, Model, Outcome};
use crate::host::{Drops, Nesting};
use crate::op::{Act, Call, File, RemoteCall, Task};

/// The most words of a buffer or an area.
const WORDS_MAX: u64 = i32::MAX as u64 / 8;

const PAGE: u64 = 4096;

type Answer = Result<(), Errno>;

fn check(good: bool, errno: Errno) -> Answer {
    if good {
        Ok(())
    } else {
        Err(errno)
    }
}

impl Model {
    pub(super) fn act(&mut self, task: Task, act: &Act) -> Outcome {
        match act {
            Act::Open(file) => self.open(task, *file),
            Act::Close(file) => {
                let files = &mut self.process_of(task).files;
                present(files.remove(file).is_some())
            }
            Act::Ioctl(file, call) | Act::Ioctl32(file, call) => {
                match self.process_of(task).files.get(file) {
                    Some(&id) => answer(self.ioctl(task, id, call)),
                    None => Outcome::Absent,
                }
            }
            Act::Map {
                file,
                map,
                len,
                offset,
                ..
            } => {
                let process = self.process_of(task);
                let Some(&id) = process.files.get(file) else {
                    return Outcome::Absent;
                };
                if process.maps.contains_key(map) {
                    return Outcome::Absent;
                }
                if let Err(errno) = self.may_map(id, *len, *offset) {
                    return errno.into();
                }
                self.process_of(task).maps.insert(*map, id);
                Outcome::Done
            }
            Act::Unmap(map) => {
                let maps = &mut self.process_of(task).maps;
                present(maps.remove(map).is_some())
            }
            Act::Read { map, first, count } => {
                let words = self.mapped(task, *map);
                let end = first.saturating_add(*count);
                match words.and_then(|w| w.get(*first as usize..end as usize)) {
                    Some(words) => Outcome::Words(words.to_vec()),
                    None => Outcome::Absent,
                }
            }
            Act::Poke { map, word, value } => {
                let words = self.mapped(task, *map);
                match words.and_then(|w| w.get_mut(*word as usize)) {
                    Some(word) => {
                        *word = *value;
                        Outcome::Done
                    }
                    None => Outcome::Absent,
                }
            }
            Act::Watch(map) => match self.mapped(task, *map) {
                Some(words) => {
                    let count = words[0].min(words.len() as u64 - 1) as usize;
                    let unwritten = words[1..=count].iter().filter(|&&w| w == 0);
                    Outcome::Value(unwritten.count() as u64)
                }
                None => Outcome::Absent,
            },
            Act::Run(steps) => {
                let mut seen = Vec::new();
                self.run(task, None, steps, &mut seen);
                if seen.is_empty() {
                    Outcome::Done
                } else {
                    Outcome::Words(seen)
                }
            }
        }
    }

    fn open(&mut self, task: Task, file: File) -> Outcome {
        if self.process_of(task).files.contains_key(&file) {
            return Outcome::Absent;
        }
        if self.allocation_fails(task) {
            return Errno::NoMem.into();
        }
        let id = self.descriptors.len();
        self.descriptors.push(Descriptor {
            words: None,
            enabled: None,
            sequence: 0,
            drops: Drops::default(),
        });
        self.process_of(task).files.insert(file, id);
        Outcome::Done
    }

    fn ioctl(&mut self, task: Task, id: Id, call: &Call) -> Answer {
        match call {
            Call::Init(size) => self.init(task, id, *size),
            Call::Enable(mode) => self.enable(task, id, *mode),
            Call::Disable(arg) => self.disable(task, id, *arg),
            Call::Remote(call) => self.remote_enable(task, id, call),
            Call::Unique(bitmap) => self.unique_enable(task, id, *bitmap),
            Call::Reset(arg) => self.reset(id, *arg),
            Call::Raw { number, arg } => match Command::from_number(*number) {
                Some(Command::InitTrace) => self.init(task, id, *arg),
                Some(Command::Enable) => self.enable(task, id, *arg),
                Some(Command::Disable) => self.disable(task, id, *arg),
                // The argument is no good pointer.
                Some(Command::RemoteEnable) => Err(Errno::Fault),
                Some(Command::UniqueEnable) => self.unique_enable(task, id, *arg),
                Some(Command::ResetTrace) => self.reset(id, *arg),
                None => Err(Errno::NoTty),
            },
        }
    }

    fn init(&mut self, task: Task, id: Id, size: u64) -> Answer {
        check((2..=WORDS_MAX).contains(&size), Errno::Inval)?;
        check(!self.allocation_fails(task), Errno::NoMem)?;
        let words = &mut self.descriptors[id].words;
        check(words.is_none(), Errno::Busy)?;
        *words = Some(vec![0; size as usize]);
        Ok(())
    }

    fn may_map(&self, id: Id, len: u64, offset: u64) -> Answer {
        let words = self.descriptors[id].words.as_ref().ok_or(Errno::Inval)?;
        let bytes = words.len() as u64 * 8;
        let pages = |bytes: u64| bytes.div_ceil(PAGE);
        let fits = len > 0 && pages(len) == pages(bytes);
        check(fits && offset == 0, Errno::Inval)
    }

    /// Has a buffer, and is not enabled.
    fn ready(&self, id: Id) -> Answer {
        let descriptor = &self.descriptors[id];
        let ready = descriptor.words.is_some() && descriptor.enabled.is_none();
        check(ready, Errno::Inval)
    }

    fn mode(&self, raw: u64) -> Result<Mode, Errno> {
        match TraceMode::from_raw(raw) {
            Some(TraceMode::Pc) => Ok(Mode::Pc),
            Some(TraceMode::Cmp) if self.traits.comparisons => Ok(Mode::Cmp),
            Some(TraceMode::Cmp) => Err(Errno::NotSupp),
            None => Err(Errno::Inval),
        }
    }

    fn enable(&mut self, task: Task, id: Id, mode: u64) -> Answer {
        self.ready(id)?;
        check(self.task(task).local.is_none(), Errno::Busy)?;
        let mode = self.mode(mode)?;
        self.begin_local(task, id, mode);
        Ok(())
    }

    fn unique_enable(&mut self, task: Task, id: Id, bitmap: u64) -> Answer {
        check(self.traits.unique, Errno::NotSupp)?;
        self.ready(id)?;
        check(self.task(task).local.is_none(), Errno::Busy)?;
        let size = self.descriptors[id].words.as_ref().map_or(0, Vec::len) as u64;
        check(bitmap != 0 && bitmap < size - 1, Errno::Inval)?;
        self.begin_local(task, id, Mode::Unique(bitmap));
        Ok(())
    }

    fn begin_local(&mut self, owner: Task, id: Id, mode: Mode) {
        self.descriptors[id].enabled = Some(Enabled::Local { owner, mode });
        self.descriptors[id].sequence += 1;
        self.task_mut(owner).local = Some(id);
    }

    fn remote_enable(&mut self, task: Task, id: Id, call: &RemoteCall) -> Answer {
        // num_handles is the third u32.
        check(call.readable_bytes() >= 12, Errno::Fault)?;
        let num = call.num_handles();
        check(num <= REMOTE_MAX_HANDLES, Errno::Inval)?;
        check(!self.allocation_fails(task), Errno::NoMem)?;
        let whole = 24 + 8 * u64::from(num);
        check(call.readable_bytes() >= whole, Errno::Fault)?;
        check(call.then.is_none_or(|then| then == num), Errno::Inval)?;

        self.ready(id)?;
        check(self.task(task).remote.is_none(), Errno::Busy)?;
        let mode = self.mode(u64::from(call.mode))?;
        let record = match mode {
            Mode::Cmp => CMP_WORDS,
            _ => PC_WORDS,
        };
        let area = u64::from(call.area);
        check(
            (u64::from(1 + record)..=WORDS_MAX).contains(&area),
            Errno::Inval,
        )?;

        let mut handles = BTreeSet::new();
        for &raw in &call.handles[..num as usize] {
            let handle = self.known_handle(raw).ok_or(Errno::Inval)?;
            check(!handle.subsystem().is_common(), Errno::Inval)?;
            check(!self.taken(raw) && handles.insert(raw), Errno::Exist)?;
        }
        if call.common != 0 {
            let handle = self.known_handle(call.common).ok_or(Errno::Inval)?;
            check(CommonHandle::new(handle).is_some(), Errno::Inval)?;
            check(!self.taken(call.common), Errno::Exist)?;
            handles.insert(call.common);
        }

        self.descriptors[id].enabled = Some(Enabled::Remote {
            owner: task,
            mode,
            area: call.area,
            handles,
        });
        self.descriptors[id].sequence += 1;
        let state = self.task_mut(task);
        state.remote = Some(id);
        if call.common != 0 {
            state.common = call.common;
            state.common_from = Some(id);
        }
        Ok(())
    }

    /// A handle that this kcov takes: Linux leaves the subsystems from 0x80 on to userspace.
    pub(super) fn known_handle(&self, raw: u64) -> Option<Handle> {
        Handle::from_raw(raw)
            .filter(|h| self.traits.nesting == Nesting::Suspend || !h.subsystem().is_user())
    }

    fn taken(&self, handle: u64) -> bool {
        self.listener(handle).is_some()
    }

    /// Who listens to this handle.
    pub(super) fn listener(&self, handle: u64) -> Option<Id> {
        self.descriptors
            .iter()
            .position(|d| matches!(&d.enabled, Some(Enabled::Remote { handles, .. }) if handles.contains(&handle)))
    }

    fn disable(&mut self, task: Task, id: Id, arg: u64) -> Answer {
        check(arg == 0, Errno::Inval)?;
        let enabled = self.descriptors[id].enabled.as_ref();
        check(enabled.is_some_and(|e| e.owner() == task), Errno::Inval)?;
        self.release(id);
        Ok(())
    }

    /// An enabled descriptor stops to collect: its owner disabled it, or ended.
    pub(super) fn release(&mut self, id: Id) {
        let Some(enabled) = self.descriptors[id].enabled.take() else {
            return;
        };
        self.descriptors[id].sequence += 1;
        let owner = self.task_mut(enabled.owner());
        match enabled {
            Enabled::Local { .. } => owner.local = None,
            Enabled::Remote { .. } => {
                owner.remote = None;
                if owner.common_from == Some(id) {
                    owner.common = 0;
                    owner.common_from = None;
                }
            }
        }
    }

    fn reset(&mut self, id: Id, arg: u64) -> Answer {
        check(arg == 0, Errno::Inval)?;
        let descriptor = &mut self.descriptors[id];
        let count = match descriptor.enabled {
            None => return Err(Errno::Inval),
            Some(Enabled::Local { mode, .. } | Enabled::Remote { mode, .. }) => mode.count_word(),
        };
        if let Some(words) = &mut descriptor.words {
            words[..=count as usize].fill(0);
        }
        Ok(())
    }

    fn mapped(&mut self, task: Task, map: crate::op::Map) -> Option<&mut Vec<u64>> {
        let id = *self.process_of(task).maps.get(&map)?;
        self.descriptors[id].words.as_mut()
    }

    pub(super) fn task(&self, task: Task) -> &super::TaskState {
        &self.tasks[&task]
    }

    /// A task that the caller knows to be there.
    pub(super) fn task_mut(&mut self, task: Task) -> &mut super::TaskState {
        self.tasks.get_mut(&task).expect("the task is there")
    }

    fn process_of(&mut self, task: Task) -> &mut super::Process {
        let process = self.tasks[&task].process;
        &mut self.processes[process]
    }
}

fn answer(answer: Answer) -> Outcome {
    match answer {
        Ok(()) => Outcome::Done,
        Err(errno) => errno.into(),
    }
}

fn present(was: bool) -> Outcome {
    if was {
        Outcome::Done
    } else {
        Outcome::Absent
    }
}
