// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which test each thread of a run worked for.
//!
//! libtest runs each test in a thread of its own and calls there, and nowhere else, the function that
//! rustc made for the test. So the thread that entered that function is the test's. The name that
//! libtest gives the thread is cut at 15 bytes: it decides only where the function does not. Threads
//! that a test makes are the test's, and so is what a process runs that its thread has started; but not
//! threads that go on when the test is over, since they may work for others.

use crate::cargo::kept;
use rayon::prelude::*;
use rkcov::collector::{Collector, Inheritance, Process, StreamInfo as Recorded};
use rkcov_report::image::{tested_by, Example, Tested, Tests};
use rkcov_report::trace::{BuildId, Context, ContextId, ContextKind, Ended, ProcessId, Writer};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Longest name of a thread in Linux, in bytes.
const THREAD_NAME: usize = 15;

/// How much later than a test a thread may end that the test made: one that a scope has waited for has
/// said that it is ready, and may not have had the time to end.
const LATE: Duration = Duration::from_secs(1);

/// A program of tests in a process.
struct Program {
    tests: Arc<Tests>,
    bias: u64,
    /// The test that the process was started for alone, as cargo-nextest and rustdoc do.
    only: Option<usize>,
}

/// A thread that recorded, by its serial number.
struct Thread {
    process: u32,
    creator: u64,
    ended: u64,
    /// The test that it is the thread of.
    own: Option<usize>,
}

/// The tests that ran, and what ran for each.
pub(crate) struct Work {
    programs: BTreeMap<u32, Program>,
    parents: HashMap<u32, u32>,
    threads: HashMap<u64, Thread>,
    /// The contexts, by process and test.
    contexts: BTreeMap<(u32, usize), ContextId>,
    late: u64,
}

/// What is known of one test's run in one process.
#[derive(Clone, Copy)]
struct Ran {
    began: u64,
    ended: u64,
}

impl Work {
    /// Looks at all that was recorded, and writes a context for each test that ran. `ids` has the
    /// processes in the trace.
    pub(crate) fn new<W: Write>(
        collector: &Collector,
        processes: &[Process],
        inheritance: &Inheritance<'_>,
        ids: &BTreeMap<u32, ProcessId>,
        writer: &mut Writer<W>,
    ) -> io::Result<Self> {
        let mut work = Self {
            programs: programs(processes, inheritance),
            parents: parents(processes),
            threads: HashMap::new(),
            contexts: BTreeMap::new(),
            late: 0,
        };
        let pids: HashMap<u32, u32> = processes.iter().map(|p| (p.index, p.pid)).collect();
        let mut mains: HashMap<u32, u64> = HashMap::new();
        for stream in collector.streams() {
            let stream = stream?;
            let info = &stream.info;
            let is_main = pids.get(&info.process) == Some(&info.tid);
            if is_main {
                mains.insert(info.process, info.serial);
            }
            let program = work.programs.get(&info.process).filter(|_| !is_main);
            let own = program.and_then(|program| program.test_of(info, stream.words()));
            // A thread that was in contexts of its own has a stream for each.
            let thread = work.threads.entry(info.serial).or_insert(Thread {
                process: info.process,
                creator: info.maker,
                ended: 0,
                own: None,
            });
            thread.ended = thread.ended.max(info.ended);
            thread.own = thread.own.or(own);
        }
        work.follow_exec(processes, &mains);
        work.leave_to_starters(&mains);
        // libtest's first thread makes those of tests. What another thread makes is none, whatever
        // its name, which a thread has from its creator.
        let of_harness = |thread: &Thread| {
            let main = mains.get(&thread.process);
            thread.creator == 0 || main == Some(&thread.creator)
        };
        let stray: Vec<u64> = work
            .threads
            .iter()
            .filter(|(_, thread)| thread.own.is_some() && !of_harness(thread))
            .map(|(serial, _)| *serial)
            .collect();
        for serial in stray {
            if let Some(thread) = work.threads.get_mut(&serial) {
                thread.own = None;
            }
        }
        let clock = collector.clock();
        work.late = clock.ticks(LATE);
        let mut ran: BTreeMap<(u32, usize), Ran> = BTreeMap::new();
        for stream in collector.streams() {
            let info = stream?.info;
            let own = work.threads.get(&info.serial).and_then(|thread| thread.own);
            let program = work.programs.get(&info.process);
            let only = program.and_then(|program| program.only);
            let Some(test) = only.or(own) else { continue };
            let (began, ended) = (info.began, info.ended);
            let entry = ran.entry((info.process, test));
            let ran = entry.or_insert(Ran { began, ended });
            ran.began = ran.began.min(began);
            ran.ended = if only.is_some() {
                ran.ended.max(ended)
            } else {
                ended
            };
        }
        for ((process, test), ran) in ran {
            let Some(found) = work.programs.get(&process) else {
                continue;
            };
            let Some(found) = found.tests.tests.get(test) else {
                continue;
            };
            let context = Context {
                process: ids.get(&process).copied(),
                began: clock.time(ran.began),
                ended: clock.time(ran.ended).map_or(Ended::No, Ended::At),
                ..Context::new(ContextKind::Test, found.name.as_bytes())
            };
            let id = writer.context(&context)?;
            work.contexts.insert((process, test), id);
        }
        Ok(work)
    }

    /// A forked child that becomes another program is a process of its own, with the same id: whoever has
    /// forked the child has started it.
    fn follow_exec(&mut self, processes: &[Process], mains: &HashMap<u32, u64>) {
        let mut last: HashMap<u32, &Process> = HashMap::new();
        for process in processes {
            let earlier = last.insert(process.pid, process);
            let earlier = earlier
                .filter(|earlier| earlier.forked_from.is_some() && process.forked_from.is_none());
            let Some(earlier) = earlier.and_then(|earlier| mains.get(&earlier.index)) else {
                continue;
            };
            // One that has ended is another process, whose id is used again.
            let creator = self.threads.get(earlier).filter(|thread| thread.ended == 0);
            let Some(creator) = creator.map(|thread| thread.creator) else {
                continue;
            };
            let main = mains.get(&process.index);
            if let Some(main) = main.and_then(|serial| self.threads.get_mut(serial)) {
                main.creator = creator;
            }
        }
    }

    /// A program of tests that a test has started is that test's work, and has no tests of its own.
    fn leave_to_starters(&mut self, mains: &HashMap<u32, u64>) {
        let is_of_test = |process: &u32| {
            let mut serial = *mains.get(process)?;
            loop {
                let creator = self.threads.get(&serial)?.creator;
                let thread = self.threads.get(&creator).filter(|_| creator < serial)?;
                let program = self.programs.get(&thread.process);
                if thread.own.is_some() || program.is_some_and(|p| p.only.is_some()) {
                    return Some(*process);
                }
                serial = creator;
            }
        };
        let started: BTreeSet<u32> = self.programs.keys().filter_map(is_of_test).collect();
        self.programs
            .retain(|process, _| !started.contains(process));
        let threads = self.threads.values_mut();
        for thread in threads.filter(|thread| started.contains(&thread.process)) {
            thread.own = None;
        }
    }

    /// How many tests ran.
    pub(crate) fn tests(&self) -> usize {
        self.contexts.len()
    }

    /// Whether this is the thread of a test.
    pub(crate) fn is_of_test(&self, info: &Recorded) -> bool {
        let thread = self.threads.get(&info.serial);
        thread.is_some_and(|thread| thread.own.is_some())
    }

    /// The context in which a stream was recorded; `None` if that is not known, or if it was none.
    pub(crate) fn context_of(&self, info: &Recorded) -> Option<ContextId> {
        self.of_process(info.process)
            .or_else(|| self.of_thread(info.serial))
    }

    /// Of a process that one test had to itself, or of what such a process started.
    fn of_process(&self, process: u32) -> Option<ContextId> {
        let mut at = Some(process);
        while let Some(process) = at {
            if let Some(test) = self.programs.get(&process).and_then(|p| p.only) {
                return self.contexts.get(&(process, test)).copied();
            }
            // A parent comes earlier in the table: one that says otherwise is damaged.
            let parent = self.parents.get(&process).copied();
            at = parent.filter(|parent| *parent < process);
        }
        None
    }

    /// Of a thread of a test, and of what such a thread made and outlived.
    fn of_thread(&self, mut serial: u64) -> Option<ContextId> {
        let mut thread = self.threads.get(&serial)?;
        // The one in the process of `thread` that has started what we come from.
        let mut first = thread;
        loop {
            if first.process != thread.process {
                first = thread;
            }
            if let Some(test) = thread.own {
                let in_time = std::ptr::eq(first, thread) || self.is_over_with(first, thread);
                let context = self.contexts.get(&(thread.process, test));
                return context.copied().filter(|_| in_time);
            }
            // Serial numbers grow: a table that says otherwise is damaged.
            if thread.creator >= serial {
                return None;
            }
            serial = thread.creator;
            thread = self.threads.get(&serial)?;
        }
    }

    /// Whether a thread had ended when the test's thread had, or soon after.
    fn is_over_with(&self, thread: &Thread, test: &Thread) -> bool {
        let test_ended = if test.ended == 0 {
            u64::MAX
        } else {
            test.ended
        };
        thread.ended != 0 && thread.ended <= test_ended.saturating_add(self.late)
    }
}

impl Program {
    /// The test that a thread of this program is the thread of, if it can be told.
    fn test_of(&self, info: &Recorded, words: impl Iterator<Item = u64>) -> Option<usize> {
        let tests = &self.tests.tests;
        let named: Vec<usize> = (0..tests.len())
            .filter(|at| is_cut(&tests[*at].name, &info.name))
            .collect();
        let mut entered = Vec::new();
        for word in words {
            let place = word.wrapping_sub(self.bias);
            entered.extend(self.tests.entered_by(place));
        }
        entered.sort_unstable();
        entered.dedup();
        match (&entered[..], &named[..]) {
            ([one], _) | ([], [one]) => Some(*one),
            ([], _) => None,
            _ => {
                entered.retain(|test| named.contains(test));
                <[usize; 1]>::try_from(entered).ok().map(|[one]| one)
            }
        }
    }
}

/// Whether a thread that libtest gives this test's name would be called so.
fn is_cut(test: &str, thread: &str) -> bool {
    // A name that is cut within a character ends in one that stands for bytes that are none.
    let cut = test.as_bytes();
    let cut = String::from_utf8_lossy(&cut[..cut.len().min(THREAD_NAME)]);
    cut == thread
}

/// The processes that run tests of libtest, each with its tests.
fn programs(processes: &[Process], inheritance: &Inheritance<'_>) -> BTreeMap<u32, Program> {
    // A process that was forked is its parent's work.
    let own = processes.iter().filter(|p| p.forked_from.is_none());
    let own: Vec<(&Process, u64, FileOf)> = own
        .filter_map(|process| {
            let modules = inheritance.modules(process);
            let module = modules.iter().find(|m| m.image.path == process.exe)?;
            let image = &module.image;
            let file = (image.path.clone(), BuildId(image.build_id.clone()));
            Some((process, module.bias, file))
        })
        .collect();
    let files: BTreeSet<&FileOf> = own.iter().map(|(_, _, file)| file).collect();
    let known: BTreeMap<&FileOf, Known> = files
        .into_par_iter()
        .filter_map(|file| Some((file, Known::of(&file.0, &file.1)?)))
        .collect();
    let found = own.iter().filter_map(|(process, bias, file)| {
        let known = known.get(file)?;
        let only = match known.is_example {
            true => Some(0),
            false => only(process, &known.tests),
        };
        let program = Program {
            tests: Arc::clone(&known.tests),
            bias: *bias,
            only,
        };
        Some((process.index, program))
    });
    found.collect()
}

/// A program's file, as it was when it ran.
type FileOf = (PathBuf, BuildId);

/// What is known of a program with tests.
struct Known {
    tests: Arc<Tests>,
    /// Whether it is one example in documentation.
    is_example: bool,
}

impl Known {
    /// Of the program that was at `path`; `None` if it has no tests with names.
    fn of(path: &Path, build_id: &BuildId) -> Option<Self> {
        let (tests, is_example) = match tested_by(path, build_id)? {
            Tested::Tests(tests) => (tests, false),
            Tested::Example(ident) => {
                let names = kept::names(path);
                let is_it = |name: &&String| {
                    Example::of(name).is_some_and(|example| example.ident() == ident)
                };
                let mut found = names.iter().filter(is_it);
                let name = found.next().filter(|_| found.next().is_none())?;
                (Tests::alone(name), true)
            }
        };
        Some(Self {
            tests: Arc::new(tests),
            is_example,
        })
    }
}

/// The test that a process was started for, as `PROGRAM --exact NAME` does.
fn only(process: &Process, tests: &Tests) -> Option<usize> {
    let words = process.command.get(1..)?;
    let words: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
    let names: Vec<_> = words.iter().filter(|word| !word.starts_with('-')).collect();
    match (words.iter().any(|word| word == "--exact"), &names[..]) {
        (true, [name]) => {
            let mut found = (0..tests.tests.len()).filter(|at| tests.tests[*at].name == ***name);
            found.next().filter(|_| found.next().is_none())
        }
        _ => None,
    }
}

/// The process that started each process, as far as it is one of ours.
fn parents(processes: &[Process]) -> HashMap<u32, u32> {
    let mut last: HashMap<u32, u32> = HashMap::new();
    let mut parents = HashMap::new();
    for process in processes {
        let earlier = last.get(&process.pid);
        let parent = process
            .forked_from
            .or_else(|| last.get(&process.parent).copied());
        if let Some(parent) = parent.or(earlier.copied()) {
            parents.insert(process.index, parent);
        }
        last.insert(process.pid, process.index);
    }
    parents
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_cut_as_linux_does() {
        for (test, thread, expected) in [
            ("adds", "adds", true),
            ("adds", "add", false),
            ("tests::adds_many_numbers", "tests::adds_man", true),
            ("tests::adds_many_numbers", "tests::adds", false),
            ("tests::größen_ü", "tests::größen", true),
            ("tests::eleven_größen", "tests::eleven_g", true),
            ("tests::eleve_größen", "tests::eleve_gr", true),
            ("tests::eleven_öl", "tests::eleven_\u{fffd}", true),
        ] {
            assert_eq!(is_cut(test, thread), expected, "{test} {thread}");
        }
    }
}
