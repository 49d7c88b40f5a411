// SPDX-License-Identifier: MIT OR Apache-2.0
//! The memory file and its mappings: all of the collector's unsafe code.

use memmap2::{MmapOptions, MmapRaw};
use rkcov_region::{Directory, Geometry, SlotHeader};
use rustix::fs::MemfdFlags;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU64, Ordering};

/// A region that is ours.
#[derive(Debug)]
pub(super) struct Memory {
    file: File,
    directory: MmapRaw,
    geometry: Geometry,
}

impl Memory {
    pub(super) fn new(geometry: Geometry) -> io::Result<Self> {
        let file = File::from(rustix::fs::memfd_create("rkcov", MemfdFlags::CLOEXEC)?);
        file.set_len(geometry.region_bytes())?;
        let directory = MmapOptions::new()
            .len(size_of::<Directory>())
            .map_raw(&file)?;
        Ok(Self {
            file,
            directory,
            geometry,
        })
    }

    pub(super) fn directory(&self) -> &Directory {
        // SAFETY: that many bytes are mapped, from a page's start; all of it is atomics, for
        // which every byte pattern is a value, and the file never gets shorter.
        unsafe { &*self.directory.as_ptr().cast::<Directory>() }
    }

    /// A path by which other processes can open the file as long as we live.
    pub(super) fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd())
    }

    pub(super) fn slot(&self, slot: u32) -> io::Result<Slot> {
        let map = MmapOptions::new()
            .offset(self.geometry.slot_offset(slot))
            .len(self.geometry.slot_bytes() as usize)
            .map_raw_read_only(&self.file)?;
        Ok(Slot {
            map,
            geometry: self.geometry,
            record_words: 1,
        })
    }
}

/// One slot, mapped.
#[derive(Debug)]
pub(super) struct Slot {
    map: MmapRaw,
    geometry: Geometry,
    record_words: u64,
}

impl Slot {
    pub(super) fn with_record_words(self, words: u32) -> Self {
        Self {
            record_words: u64::from(words),
            ..self
        }
    }

    pub(super) fn header(&self) -> &SlotHeader {
        // SAFETY: a slot starts with its header, and all of it is atomics, which we only read.
        unsafe { &*self.map.as_ptr().cast::<SlotHeader>() }
    }

    /// The count word and the records.
    fn buffer(&self) -> &[AtomicU64] {
        let at = self.geometry.count_offset() as usize;
        let words = self.geometry.buffer_words() as usize;
        // SAFETY: the buffer ends within the slot, by the geometry, and starts on a word.
        unsafe { std::slice::from_raw_parts(self.map.as_ptr().add(at).cast::<AtomicU64>(), words) }
    }

    pub(super) fn count(&self) -> u64 {
        self.buffer()
            .first()
            .map_or(0, |count| count.load(Ordering::Acquire))
    }

    /// The words of the first `count` records, or of as many as the buffer holds.
    pub(super) fn records(&self, count: u64) -> impl Iterator<Item = u64> + '_ {
        let words = self.buffer().get(1..).unwrap_or_default();
        let used = count.saturating_mul(self.record_words);
        let used = usize::try_from(used).unwrap_or(usize::MAX);
        words
            .iter()
            .take(used)
            .map(|word| word.load(Ordering::Relaxed))
    }
}

/// A number that nobody guesses.
pub(super) fn random() -> io::Result<u64> {
    let mut bytes = [0; 8];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    Ok(u64::from_ne_bytes(bytes))
}
