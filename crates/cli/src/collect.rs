// SPDX-License-Identifier: MIT OR Apache-2.0
//! Turns what a collector holds into a trace file.

use crate::crowds::Crowds;
use crate::per_test::Work;
use rkcov::collector::{
    Collector, Inheritance, Losses, Lost, Process, Recording, Refusal, VERSION,
};
use rkcov::program::Outcome;
use rkcov_abi::{Handle, Subsystem};
use rkcov_report::image::build_id_of;
use rkcov_report::trace::{
    self, BuildId, ContextKind, DropReason, Drops, Ended, Exit, Loss, Mode, ProcessId, Scope,
    StreamInfo, Writer,
};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::io::Write;
use std::path::Path;

/// What stands in a trace that was just written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Process images in which the runtime started.
    pub processes: usize,
    /// Threads that recorded.
    pub threads: usize,
    /// Contexts that were made.
    pub contexts: usize,
    /// Contexts that ended while a thread was in them that went on.
    pub ended_early: usize,
    /// Records of all threads.
    pub records: u64,
    /// Records for which there was no room.
    pub dropped: u64,
    /// Tests that ran, if it was asked which.
    pub tests: Option<usize>,
    /// What else is not in the trace.
    pub losses: Vec<Loss>,
}

/// The mode of a trace in which threads recorded so.
#[must_use]
pub fn mode_of(recording: Recording) -> Mode {
    match recording {
        Recording::Trace => Mode::Trace,
        Recording::Cmp => Mode::Cmp,
        Recording::Unique => Mode::Unique,
    }
}

/// How far a run has come.
#[derive(Clone, Copy, Debug)]
pub enum Until<'a> {
    /// It goes on. Each PC is written once, whatever is recorded.
    Now,
    /// It is over.
    End {
        /// The process that was waited for, by its id, and how it ended.
        ended: (u32, Outcome),
        /// Those that have not ended, and how many more that are not known yet.
        running: &'a (Vec<Process>, usize),
    },
}

/// Writes all that `collector` holds. With `per_test`, each test of libtest has a context, and what ran
/// for it is in it.
///
/// # Errors
/// Those of the output, and of mapping the collector's memory.
pub fn write<W: Write>(
    collector: &Collector,
    writer: &mut Writer<W>,
    until: Until<'_>,
    per_test: bool,
) -> io::Result<Totals> {
    let processes: Vec<_> = collector.processes().collect();
    let modules: Vec<_> = collector.modules().collect();
    let pids: BTreeMap<_, _> = processes.iter().map(|p| (p.index, p.pid)).collect();
    let mut ids = BTreeMap::new();
    let nobody = (Vec::new(), 0);
    let (ended, (running, others)) = match until {
        Until::Now => (None, &nobody),
        Until::End { ended, running } => (Some(ended), running),
    };
    let last_image = ended.and_then(|(pid, outcome)| {
        let last = processes.iter().rfind(|process| process.pid == pid)?;
        Some((last.index, outcome))
    });
    let inheritance = Inheritance::new(&processes, &modules);
    for process in &processes {
        let exit = match last_image {
            Some((index, outcome)) if index == process.index => exit_of(outcome),
            _ => Exit::Unknown,
        };
        let id = writer.process(&describe(process, exit))?;
        ids.insert(process.index, id);
        for module in inheritance.modules(process) {
            writer.module(&trace::Module {
                process: Some(id),
                path: module.image.path.clone(),
                build_id: BuildId(module.image.build_id.clone()),
                bias: module.bias,
                range: module.text(),
                text: vec![module.text()],
            })?;
        }
    }

    let mut contexts = BTreeMap::new();
    for context in collector.contexts() {
        let id = writer.context(&trace::Context {
            kind: ContextKind::from_raw(context.kind),
            name: context.name,
            parent: context.parent.and_then(|of| contexts.get(&of).copied()),
            process: context.process.and_then(|of| ids.get(&of).copied()),
            began: Some(context.began),
            ended: context.ended.map_or(Ended::No, Ended::At),
        })?;
        contexts.insert(context.index, id);
    }

    let mut totals = Totals {
        processes: processes.len(),
        contexts: contexts.len(),
        ..Totals::default()
    };
    let (mut threads, mut early) = (BTreeSet::new(), BTreeSet::new());
    let each_once = collector.recording() == Recording::Unique;
    let work = if per_test {
        let work = Work::new(collector, &processes, &inheritance, &ids, writer)?;
        totals.tests = Some(work.tests());
        Some(work)
    } else {
        None
    };
    let mut crowds = Crowds::default();
    for stream in collector.streams() {
        let stream = stream?;
        let from = &stream.info;
        let process = match ids.get(&from.process) {
            Some(id) => *id,
            None => unknown_process(writer, &mut ids, from.process)?,
        };
        let mut info = StreamInfo::new(process);
        info.tid = from.tid;
        info.name.clone_from(&from.name);
        info.main = pids.get(&from.process) == Some(&from.tid);
        info.finished = from.finished;
        info.context = match from.context {
            Some(of) => contexts.get(&of).copied(),
            None => work.as_ref().and_then(|work| work.context_of(from)),
        };
        // That it is in none is said by a handle without a context.
        let after = from
            .after
            .and_then(|of| Handle::new(Subsystem::USER_FIRST, of + 1));
        info.handle = after.map_or(0, Handle::raw);
        early.extend(from.after);
        info.creator = from.creator;
        info.count = from.count;
        info.capacity = from.capacity;
        if from.dropped > 0 {
            info.drops.push(Drops {
                reason: DropReason::Full,
                count: from.dropped,
            });
        }
        // The thread of a test stays one for itself.
        let is_made = work.as_ref().is_some_and(|work| !work.is_of_test(from));
        if ended.is_none() {
            writer.set(&info, stream.words())?;
        } else if !each_once || work.is_none() && info.context.is_none() {
            writer.stream(&info, stream.words())?;
        } else if !is_made || !crowds.keep(&info, stream.words()) {
            writer.set(&info, stream.words())?;
        }
        threads.insert((from.process, from.tid));
        totals.records += from.count.min(from.capacity);
        totals.dropped += from.dropped;
    }
    for (info, words) in crowds.streams() {
        writer.set(&info, words)?;
    }
    totals.threads = threads.len();
    totals.ended_early = early.len();
    totals.losses = losses(&collector.losses());
    for process in running.iter().filter_map(|process| ids.get(&process.index)) {
        writer.loss(&Loss {
            scope: Scope::Process(*process),
            ..Loss::new(DropReason::StillRunning, 1)
        })?;
    }
    if *others > 0 {
        writer.loss(&Loss::new(DropReason::StillRunning, *others as u64))?;
    }
    let still = (running.len() + others) as u64;
    let still = Loss::new(DropReason::StillRunning, still);
    for loss in &totals.losses {
        match (loss.reason, &loss.scope) {
            // Readers from before there were losses know of this one.
            (DropReason::NoSlot, Scope::Trace) => writer.drops(None, &[loss.into()])?,
            _ => writer.loss(loss)?,
        }
    }
    totals
        .losses
        .extend(Some(still).filter(|still| still.count > 0));
    Ok(totals)
}

/// What the collector knows to be missing.
fn losses(from: &Losses) -> Vec<Loss> {
    let Losses {
        threads_without_slot,
        records_without_slot: _,
        strangers,
        refused,
        processes,
        unknown_modules,
        contexts,
        lost,
        unplaced,
    } = from;
    let of = |reason, count: u32| Loss::new(reason, count.into());
    let mut losses = vec![
        of(DropReason::NoSlot, *threads_without_slot),
        of(DropReason::UnknownProcess, *processes),
        of(DropReason::UnknownModule, *unknown_modules),
        of(DropReason::NoContext, *contexts),
    ];
    losses.extend(lost.iter().map(|(what, count)| {
        let (reason, note) = reason(*what);
        Loss {
            note: note.to_owned(),
            ..of(reason, *count)
        }
    }));
    losses.extend(unplaced.iter().map(|(image, count)| Loss {
        scope: Scope::Module {
            path: image.path.clone(),
            build_id: BuildId(image.build_id.clone()),
        },
        ..of(DropReason::UnknownModule, *count)
    }));
    losses.extend(refused.iter().map(|(why, count)| Loss {
        note: because(*why).to_owned(),
        ..of(DropReason::Refused, *count)
    }));
    losses.extend(strangers.iter().map(|(count, version)| Loss {
        note: format!("interface {version}, this rkcov has {VERSION}; rebuild with this rkcov"),
        ..Loss::new(DropReason::Stranger, *count)
    }));
    losses.retain(|loss| loss.count > 0);
    losses
}

/// Why it was lost, and what there is to say of it.
const fn reason(what: Lost) -> (DropReason, &'static str) {
    match what {
        Lost::Stores => (DropReason::NoStores, ""),
        Lost::Checks => (DropReason::NoChecks, ""),
        Lost::Base => (DropReason::OwnBase, "build it with `rkcov cc --calls`"),
        Lost::Place => (
            DropReason::UnknownModule,
            "loaded at the addresses of closed modules",
        ),
    }
}

/// Why a process that was invited did not come.
const fn because(why: Refusal) -> &'static str {
    match why {
        Refusal::NoRoom => "no room to map rkcov's memory (`ulimit -v`)",
        Refusal::Secure => "a setuid program does not trust files of its caller",
    }
}

/// Writes that there is this program, with code at no address: it may never have run.
///
/// # Errors
/// Those of the output.
pub fn write_program<W: Write>(path: &Path, writer: &mut Writer<W>) -> io::Result<()> {
    let Some(build_id) = build_id_of(path) else {
        return Ok(());
    };
    writer.module(&trace::Module {
        process: None,
        path: path.to_owned(),
        build_id,
        bias: 0,
        range: 0..0,
        text: Vec::new(),
    })
}

fn exit_of(outcome: Outcome) -> Exit {
    match outcome {
        Outcome::Exited(status) => Exit::Code(status),
        Outcome::Killed(signal) => Exit::Signal(signal),
    }
}

fn describe(process: &Process, exit: Exit) -> trace::Process {
    let command = if process.command.is_empty() {
        vec![process.exe.clone().into_os_string()]
    } else {
        process.command.clone()
    };
    trace::Process {
        pid: process.pid,
        parent: process.parent,
        command,
        exit,
    }
}

/// A process that found no place in the table, or died while it took one.
fn unknown_process<W: Write>(
    writer: &mut Writer<W>,
    ids: &mut BTreeMap<u32, ProcessId>,
    index: u32,
) -> io::Result<ProcessId> {
    let id = writer.process(&trace::Process::default())?;
    ids.insert(index, id);
    Ok(id)
}
