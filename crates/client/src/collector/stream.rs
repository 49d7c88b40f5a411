// SPDX-License-Identifier: MIT OR Apache-2.0
//! What one thread recorded while it was in one context, or in none: in its slot, or in the spool once
//! that is over.

use super::memory::{Stored, Words};
use super::Recording;
use rkcov_region::{Slot, SlotState};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::atomic::Ordering;

/// Bytes that go into the spool in one piece.
const CHUNK: usize = 1 << 16;

/// What one thread recorded while it was in one context, or in none.
#[derive(Debug)]
pub struct Stream {
    /// What is known of it.
    pub info: StreamInfo,
    words: Words,
    /// Words before the first record.
    skip: usize,
    /// Words of records among `words`.
    recorded: u64,
    /// The guards whose stores have run: they come after the records.
    stored: Vec<u64>,
}

/// What is known of a stream apart from its words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamInfo {
    /// The process, by its index; the process itself may be unknown.
    pub process: u32,
    /// The thread's id.
    pub tid: u32,
    /// Its name.
    pub name: String,
    /// Whether the thread, or its process, has ended in order.
    pub finished: bool,
    /// The count word.
    pub count: u64,
    /// Records that the buffer can hold.
    pub capacity: u64,
    /// Records for which there was no room.
    pub dropped: u64,
    /// Words of a record.
    pub record_words: u32,
    /// The context that the thread was in, by its index.
    pub context: Option<u32>,
    /// The context that it was still in after that had ended, by its index: this is of that time.
    pub after: Option<u32>,
    /// The id of the thread of the same process that made this one, 0 if not known.
    pub creator: u32,
    /// The thread's serial number, from 1: ids are used again, and this is not.
    pub serial: u64,
    /// The serial number of the thread that made it, 0 if there is none. One that recorded nothing passes
    /// on its own.
    pub maker: u64,
    /// When it began, in ticks of the processor.
    pub began: u64,
    /// When it ended; 0 if it has not ended in order before its process did.
    pub ended: u64,
}

impl StreamInfo {
    /// Words of all records.
    fn words(&self) -> u64 {
        self.count.min(self.capacity) * u64::from(self.record_words)
    }
}

impl Stream {
    /// The words of the records that the count word says there are, and of a record for each store
    /// that has run: the address of its guard.
    pub fn words(&self) -> impl Iterator<Item = u64> + '_ {
        let recorded = self.words.part(self.skip, self.recorded);
        recorded.chain(self.stored.iter().copied())
    }

    /// What lies in a slot that somebody has taken: what the thread recorded in the context, and, if that
    /// ended before the thread left it, what it recorded later, in none. `buffer` maps the words.
    pub(super) fn in_slot(
        slot: &Slot,
        buffer: impl Fn() -> io::Result<Words>,
        stored: Stored,
        recording: Recording,
    ) -> io::Result<Vec<Self>> {
        let words = buffer()?;
        let name = slot.name();
        let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
        let record_words = match recording {
            Recording::Trace | Recording::Unique => rkcov_abi::PC_WORDS,
            Recording::Cmp => rkcov_abi::CMP_WORDS,
        };
        let (count, room) = match words.all() {
            [count, records @ ..] => (count.load(Ordering::Acquire), records.len() as u64),
            [] => (0, 0),
        };
        let info = StreamInfo {
            process: slot.process.load(Ordering::Relaxed),
            tid: slot.tid.load(Ordering::Relaxed),
            name: String::from_utf8_lossy(name).into_owned(),
            finished: matches!(slot.state(), SlotState::Finished | SlotState::Exiting),
            count,
            capacity: room / u64::from(record_words),
            dropped: slot.dropped.load(Ordering::Relaxed),
            record_words,
            context: slot.context.load(Ordering::Relaxed).checked_sub(1),
            after: None,
            creator: slot.creator.load(Ordering::Relaxed),
            serial: slot.serial.load(Ordering::Relaxed),
            maker: slot.maker.load(Ordering::Relaxed),
            began: slot.ticks[0].load(Ordering::Relaxed),
            ended: slot.ticks[1].load(Ordering::Relaxed),
        };
        let Some(records) = slot.context_ended() else {
            let Stored { mut now, before } = stored;
            now.extend(before);
            return Ok(vec![Self::new(info, words, 0, now)]);
        };
        let first = u64::from(records).min(count).min(info.capacity);
        let inside = StreamInfo {
            finished: true,
            count: first,
            capacity: first,
            ..info.clone()
        };
        let rest = StreamInfo {
            count: count - first,
            capacity: info.capacity - first,
            // Those of the slot stand once.
            dropped: 0,
            context: None,
            after: info.context,
            ..info
        };
        let skip = first as usize * record_words as usize;
        let mut streams = vec![Self::new(inside, words, 0, stored.before)];
        let rest = Self::new(rest, buffer()?, skip, stored.now);
        streams.extend(Some(rest).filter(|rest| rest.info.count > 0));
        Ok(streams)
    }

    /// The records that `info` says, behind `skip` words of records, and a record for each of `stored`.
    fn new(mut info: StreamInfo, words: Words, skip: usize, stored: Vec<u64>) -> Self {
        let recorded = info.words();
        // A count that cannot be is left to be seen as such.
        if info.count <= info.capacity {
            info.count += stored.len() as u64;
        }
        info.capacity += stored.len() as u64;
        Self {
            info,
            words,
            skip: 1 + skip,
            recorded,
            stored,
        }
    }
}

/// Streams that are over, in a file without a name.
#[derive(Debug, Default)]
pub(super) struct Spool {
    file: Option<File>,
    end: u64,
    streams: Vec<(StreamInfo, u64)>,
}

impl Spool {
    /// Stores a stream.
    pub(super) fn put(&mut self, stream: &Stream) -> io::Result<()> {
        let file = match &self.file {
            Some(file) => file,
            None => self.file.insert(tempfile::tempfile()?),
        };
        // Every write says where: after one that failed, the next stream takes its place.
        let mut at = self.end;
        let mut chunk = Vec::with_capacity(CHUNK);
        let mut words = stream.words().peekable();
        while words.peek().is_some() {
            chunk.clear();
            for word in words.by_ref().take(CHUNK / size_of::<u64>()) {
                chunk.extend_from_slice(&word.to_ne_bytes());
            }
            file.write_all_at(&chunk, at)?;
            at += chunk.len() as u64;
        }
        self.streams.push((stream.info.clone(), self.end));
        self.end = at;
        Ok(())
    }

    /// All that was stored.
    pub(super) fn streams(&self) -> impl Iterator<Item = io::Result<Stream>> + '_ {
        let file = self.file.iter().cycle();
        self.streams.iter().zip(file).map(|((info, at), file)| {
            Ok(Stream {
                info: info.clone(),
                words: Words::map(file, *at, info.words())?,
                skip: 0,
                recorded: info.words(),
                stored: Vec::new(),
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collector::{Collector, Options};
    use rkcov_region::Slot;
    use rustix::fs::{MemfdFlags, SealFlags};
    use std::collections::HashMap;

    /// A slot with `words` recorded PCs, each of them `pc`.
    fn recorded(collector: &Collector, words: u64, pc: u64) -> Stream {
        let directory = collector.memory.directory();
        let slot = directory.tickets.take().unwrap();
        let head: &Slot = &directory.slots[slot as usize];
        head.set_state(SlotState::Finished);
        let geometry = collector.memory.geometry();
        let at = geometry.slot_offset(slot) + geometry.count_offset();
        let mut bytes = words.to_ne_bytes().to_vec();
        bytes.extend((0..words).flat_map(|_| pc.to_ne_bytes()));
        collector.memory.file().write_all_at(&bytes, at).unwrap();
        let streams = collector.streams_in(slot, &HashMap::new()).unwrap();
        streams.into_iter().next().unwrap()
    }

    #[test]
    fn after_a_write_that_failed_half_way_the_spool_goes_on_where_it_was() {
        let collector = Collector::new(Options::new(Recording::Trace, 1 << 16)).unwrap();
        // Room for 40,000 words, and no more: as on a full disk, a long write ends in the middle.
        let file = rustix::fs::memfd_create("full", MemfdFlags::ALLOW_SEALING).unwrap();
        let file = File::from(file);
        file.set_len(40_000 * 8).unwrap();
        rustix::fs::fcntl_add_seals(&file, SealFlags::GROW).unwrap();
        let mut spool = Spool {
            file: Some(file),
            ..Spool::default()
        };
        spool.put(&recorded(&collector, 100, 1)).unwrap();
        spool.put(&recorded(&collector, 60_000, 2)).unwrap_err();
        spool.put(&recorded(&collector, 20_000, 3)).unwrap();
        spool.put(&recorded(&collector, 60_000, 4)).unwrap_err();
        spool.put(&recorded(&collector, 300, 5)).unwrap();
        let stored: Vec<_> = spool
            .streams()
            .map(|stream| {
                let stream = stream.unwrap();
                let words: Vec<u64> = stream.words().collect();
                assert_eq!(words.len() as u64, stream.info.count);
                assert!(words.iter().all(|word| *word == words[0]));
                (words.len(), words[0])
            })
            .collect();
        assert_eq!(stored, [(100, 1), (20_000, 3), (300, 5)]);
    }
}
