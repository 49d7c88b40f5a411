// SPDX-License-Identifier: MIT OR Apache-2.0
//! What running code leaves behind.

use super::{Enabled, Id, Mode, Model, TaskState};
use crate::host::{Nesting, Site};
use crate::op::{Context, Step, Task};

/// How many frames a task can save: so many sections can be in each other.
const FRAMES: usize = 8;

/// Code between a start that found a listener and its stop.
#[derive(Clone, Debug)]
pub(super) struct Section {
    pub(super) descriptor: Id,
    /// The descriptor's number when the section started.
    sequence: u64,
    mode: Mode,
    /// Records that fit the area.
    capacity: u64,
    records: Vec<Vec<u64>>,
    /// Records that did not fit.
    refused: u64,
}

/// One call of an instrumentation callback.
enum Event {
    Pc { marker: u32, pc: u64 },
    Compare([u64; 4]),
}

/// Where an event goes.
enum Recorder {
    Nothing,
    Section,
    Softirq,
    Local(Id),
}

impl Model {
    /// Runs code in a task, or in what interrupts it. `seen` gets the common handles that it saw.
    pub(super) fn run(
        &mut self,
        task: Task,
        context: Option<Context>,
        steps: &[Step],
        seen: &mut Vec<u64>,
    ) {
        for step in steps {
            match step {
                Step::Start(handle) => self.start(task, context, *handle),
                Step::Stop => self.stop(task, context),
                Step::Pcs { first, count } => {
                    for marker in *first..first.saturating_add(*count) {
                        let pc = Site::Marker(marker).simulated_pc();
                        self.record(task, context, &Event::Pc { marker, pc });
                    }
                }
                Step::Compare {
                    log2,
                    constant,
                    arg1,
                    arg2,
                } => {
                    let (log2, constant) = (*log2, *constant);
                    let kind = u64::from(log2) * 2 + u64::from(constant);
                    let mask = u64::MAX >> (64 - (8 << log2));
                    let pc = Site::Compare { log2, constant }.simulated_pc();
                    let words = [kind, arg1 & mask, arg2 & mask, pc];
                    self.record(task, context, &Event::Compare(words));
                }
                Step::Switch { bits, value, cases } => {
                    let kind = match bits {
                        8 => 1,
                        16 => 3,
                        32 => 5,
                        64 => 7,
                        _ => continue,
                    };
                    let pc = Site::Switch { bits: *bits }.simulated_pc();
                    for case in cases {
                        let words = [kind, *case, *value, pc];
                        self.record(task, context, &Event::Compare(words));
                    }
                }
                Step::CommonHandle => seen.push(match context {
                    None | Some(Context::Signal) => self.task(task).common,
                    Some(Context::Softirq | Context::Hardirq) => 0,
                }),
                Step::Interrupt(inner, steps) => self.run(task, Some(*inner), steps, seen),
            }
        }
    }

    fn start(&mut self, task: Task, context: Option<Context>, handle: u64) {
        match (self.traits.nesting, context) {
            (Nesting::Suspend, _) => {
                let state = self.task_mut(task);
                if state.sections.len() == FRAMES {
                    state.deeper += 1;
                    self.too_deep += 1;
                } else {
                    let section = self.listen(task, handle, None);
                    self.task_mut(task).sections.push(section);
                }
            }
            (Nesting::Refuse, None) => {
                let state = self.task(task);
                let busy =
                    state.local.is_some() || !state.sections.is_empty() || state.softirq.is_some();
                if busy {
                    self.warnings += 1;
                } else if let Some(section) = self.listen(task, handle, None) {
                    self.task_mut(task).sections.push(Some(section));
                }
            }
            (Nesting::Refuse, Some(Context::Softirq)) => {
                if self.task(task).softirq.is_some() {
                    self.warnings += 1;
                } else {
                    let area = self.traits.softirq_area;
                    let section = self.listen(task, handle, Some(area));
                    self.task_mut(task).softirq = section;
                }
            }
            (Nesting::Refuse, Some(Context::Hardirq | Context::Signal)) => {}
        }
    }

    /// A section of whoever listens to this handle. A softirq's has an area of its own size.
    fn listen(&mut self, task: Task, handle: u64, softirq_area: Option<u32>) -> Option<Section> {
        if self.traits.nesting == Nesting::Refuse
            && handle != 0
            && self.known_handle(handle).is_none()
        {
            self.warnings += 1;
        }
        let descriptor = self.listener(handle)?;
        let in_softirq = |t: &&TaskState| t.softirq.is_some();
        let taken = self.tasks.values().filter(in_softirq).count() as u32;
        let none_left = softirq_area.is_some() && taken == self.traits.softirq_areas;
        if self.allocation_fails(task) || none_left {
            self.descriptors[descriptor].drops.no_area += 1;
            return None;
        }
        let Some(Enabled::Remote { mode, area, .. }) = self.descriptors[descriptor].enabled else {
            return None;
        };
        let area = u64::from(softirq_area.unwrap_or(area));
        Some(Section {
            descriptor,
            sequence: self.descriptors[descriptor].sequence,
            mode,
            capacity: (area - 1) / mode.record_words(),
            records: Vec::new(),
            refused: 0,
        })
    }

    fn stop(&mut self, task: Task, context: Option<Context>) {
        let nesting = self.traits.nesting;
        let state = self.task_mut(task);
        let section = match (nesting, context) {
            (Nesting::Suspend, _) if state.deeper > 0 => {
                state.deeper -= 1;
                None
            }
            (Nesting::Suspend, _) => state.sections.pop().flatten(),
            // A softirq's section that was left open hides the task's own.
            (Nesting::Refuse, None) if state.softirq.is_some() => None,
            (Nesting::Refuse, None) => state.sections.pop().flatten(),
            (Nesting::Refuse, Some(Context::Softirq)) => state.softirq.take(),
            (Nesting::Refuse, Some(Context::Hardirq | Context::Signal)) => None,
        };
        if let Some(section) = section {
            self.merge(section);
        }
    }

    /// What a section recorded goes to the descriptor that it started under, if that is still
    /// enabled as it was then.
    pub(super) fn merge(&mut self, section: Section) {
        let descriptor = &mut self.descriptors[section.descriptor];
        let drops = &mut descriptor.drops;
        drops.full += section.refused;
        let records = section.records.len() as u64;
        if descriptor.sequence != section.sequence {
            drops.stale += records;
            return;
        }
        let Some(words) = &mut descriptor.words else {
            return;
        };
        let width = section.mode.record_words();
        let capacity = (words.len() as u64 - 1) / width;
        let count = words[0];
        let moved = records.min(capacity.saturating_sub(count));
        drops.full += records - moved;
        for (n, record) in (0..moved).zip(&section.records) {
            let at = (1 + (count + n) * width) as usize;
            words[at..at + record.len()].copy_from_slice(record);
        }
        if moved > 0 {
            words[0] = count + moved;
        }
    }

    fn recorder(&self, task: Task, context: Option<Context>) -> Recorder {
        let TaskState {
            local,
            sections,
            deeper,
            softirq,
            ..
        } = self.task(task);
        let as_task = || match (sections.last(), local) {
            (Some(Some(_)), _) if *deeper == 0 => Recorder::Section,
            (Some(_), _) => Recorder::Nothing,
            (None, Some(id)) => Recorder::Local(*id),
            (None, None) => Recorder::Nothing,
        };
        match (self.traits.nesting, context) {
            (Nesting::Suspend, _) => as_task(),
            (Nesting::Refuse, None) if softirq.is_none() => as_task(),
            (Nesting::Refuse, Some(Context::Softirq)) if softirq.is_some() => Recorder::Softirq,
            (Nesting::Refuse, _) => Recorder::Nothing,
        }
    }

    fn record(&mut self, task: Task, context: Option<Context>, event: &Event) {
        let section = match self.recorder(task, context) {
            Recorder::Nothing => None,
            Recorder::Local(id) => return self.record_locally(id, event),
            Recorder::Section => self.task_mut(task).sections.last_mut(),
            Recorder::Softirq => Some(&mut self.task_mut(task).softirq),
        };
        if let Some(Some(section)) = section {
            let record = match (section.mode, event) {
                (Mode::Pc, Event::Pc { pc, .. }) => vec![*pc],
                (Mode::Cmp, Event::Compare(words)) => words.to_vec(),
                _ => return,
            };
            if (section.records.len() as u64) < section.capacity {
                section.records.push(record);
            } else {
                section.refused += 1;
            }
        }
    }

    /// Appends to the client's buffer itself.
    fn record_locally(&mut self, id: Id, event: &Event) {
        let descriptor = &mut self.descriptors[id];
        let (Some(Enabled::Local { mode, .. }), Some(words)) =
            (&descriptor.enabled, &mut descriptor.words)
        else {
            return;
        };
        let record = match (mode, event) {
            (Mode::Pc, Event::Pc { pc, .. }) => vec![*pc],
            (Mode::Cmp, Event::Compare(words)) => words.to_vec(),
            (Mode::Unique(bitmap), Event::Pc { marker, pc }) => {
                let index = self.traits.first_index + u64::from(*marker);
                let (word, bit) = (index / 64, 1 << (index % 64));
                if word < *bitmap {
                    if words[word as usize] & bit != 0 {
                        return;
                    }
                    words[word as usize] |= bit;
                }
                vec![*pc]
            }
            _ => return,
        };
        let at_count = mode.count_word() as usize;
        let width = mode.record_words();
        let capacity = (words.len() as u64 - 1 - at_count as u64) / width;
        let count = words[at_count];
        if count >= capacity {
            descriptor.drops.full += 1;
            return;
        }
        let at = at_count + 1 + (count * width) as usize;
        words[at..at + record.len()].copy_from_slice(&record);
        words[at_count] = count + 1;
    }
}
