// SPDX-License-Identifier: MIT OR Apache-2.0
//! Named pieces of work: those of programs, and those that the collector names itself.

use super::{time, Collector};
use rkcov_region::{Made, SlotState, CONTEXT_ENVIRONMENT};
use std::io;
use std::sync::atomic::Ordering;
use std::time::{SystemTime, UNIX_EPOCH};

/// A named piece of work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Context {
    /// Its place among all contexts.
    pub index: u32,
    /// What sort of work it is: the program's number.
    pub kind: u32,
    /// Its name.
    pub name: Vec<u8>,
    /// The context that it is a part of.
    pub parent: Option<u32>,
    /// The process that made it, by its index.
    pub process: Option<u32>,
    /// When it was made.
    pub began: SystemTime,
    /// When it ended, if it has.
    pub ended: Option<SystemTime>,
}

impl Collector {
    /// All contexts so far.
    pub fn contexts(&self) -> impl Iterator<Item = Context> + '_ {
        let directory = self.memory.directory();
        let used = directory.header.contexts.load(Ordering::Acquire);
        let used = used.min(self.bounds().contexts);
        (0..used).filter_map(move |index| {
            let entry = directory.context(index + 1)?;
            let process = entry.process.load(Ordering::Relaxed);
            Some(Context {
                index,
                kind: entry.kind.load(Ordering::Relaxed),
                name: self.memory.name(entry.name.get()),
                // It is older: a table that says otherwise is damaged.
                parent: entry.parent().checked_sub(1).filter(|of| *of < index),
                process: Some(process).filter(|process| *process != u32::MAX),
                began: time(entry.began.load(Ordering::Relaxed)),
                ended: entry.ended().map(time),
            })
        })
    }

    /// Makes a context, of no process; its index. `None` if there is no room for it, which is counted.
    ///
    /// # Errors
    /// The name cannot be written.
    pub fn name_context(&self, kind: u32, name: &[u8]) -> io::Result<Option<u32>> {
        let directory = self.memory.directory();
        let Some(piece) = directory.name_room(name.len()) else {
            return Ok(None);
        };
        self.memory.set_name(piece, name)?;
        let number = directory.add_context(&Made {
            kind,
            name: piece,
            parent: 0,
            process: u32::MAX,
            now: now(),
        });
        Ok(number.checked_sub(1))
    }

    /// All work is in this context that is in no other, of processes that come from now on.
    pub fn put_all_into(&self, context: u32) {
        let all = &self.memory.directory().header.context;
        all.store(context.wrapping_add(1), Ordering::Relaxed);
    }

    /// The environment variable, and its value, that puts a process into this context, and what it
    /// starts, unless they say otherwise.
    #[must_use]
    pub fn context_environment(&self, context: u32) -> (&'static str, String) {
        let token = &self.memory.directory().header.prefix.token;
        let token = token.load(Ordering::Relaxed);
        let number = context.wrapping_add(1);
        (CONTEXT_ENVIRONMENT, format!("{token:x}:{number}"))
    }

    /// The context's work is over. What threads that are still in it record from now on is in none.
    pub fn end_context(&self, context: u32) {
        let directory = self.memory.directory();
        let number = context.wrapping_add(1);
        if !directory.context(number).is_some_and(|it| it.end(now())) {
            return;
        }
        for slot in 0..directory.tickets.touched() {
            let head = self.head(slot);
            let open = matches!(head.state(), SlotState::Taken | SlotState::Exiting);
            if !open || head.context.load(Ordering::Relaxed) != number {
                continue;
            }
            if self.is_gone(head.process.load(Ordering::Relaxed)) {
                continue;
            }
            // Without the number all of it is the context's: as much as is known.
            let Ok(words) = self.memory.buffer(slot) else {
                continue;
            };
            let count = words.part(0, 1).next().unwrap_or(u64::MAX);
            head.end_context(number, u32::try_from(count).unwrap_or(u32::MAX));
        }
    }
}

/// Nanoseconds since the epoch.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    })
}
