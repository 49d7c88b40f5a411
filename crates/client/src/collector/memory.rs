// SPDX-License-Identifier: MIT OR Apache-2.0
//! The memory file and its mappings: all of the collector's unsafe code.

use memmap2::{MmapOptions, MmapRaw};
use rkcov_region::{Directory, Geometry, Guards, GUARD};
use rustix::fs::{FallocateFlags, MemfdFlags};
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
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

    #[cfg(test)]
    pub(super) fn file(&self) -> &File {
        &self.file
    }

    #[cfg(test)]
    pub(super) fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// Bytes of memory that the region takes now.
    pub(super) fn bytes(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.blocks() * 512)
    }

    /// The count word of a slot, and the records behind it.
    pub(super) fn buffer(&self, slot: u32) -> io::Result<Words> {
        let at = self.geometry.slot_offset(slot) + self.geometry.count_offset();
        Words::map(&self.file, at, self.geometry.buffer_words())
    }

    /// The guards in a slot whose stores have run, among those of these modules.
    pub(super) fn stored(&self, slot: u32, modules: &[Guards]) -> io::Result<Vec<u64>> {
        let mut stored = Vec::new();
        let room = self.geometry.stores_bytes();
        for guards in modules {
            let end = guards.offset.checked_add(guards.len);
            if end.is_none_or(|end| end > room) || !guards.len.is_multiple_of(GUARD) {
                // Somebody has scribbled over the table.
                continue;
            }
            let at = self.geometry.slot_offset(slot) + guards.offset;
            // Words have eight bytes, guards four.
            let aligned = at - at % 8;
            let words = Words::map(&self.file, aligned, (at + guards.len - aligned).div_ceil(8))?;
            for (number, word) in words.all().iter().enumerate() {
                let word = word.load(Ordering::Relaxed).to_le_bytes();
                for half in [0, 4] {
                    let place = (aligned + number as u64 * 8 + half).checked_sub(at);
                    let place = place.filter(|place| *place < guards.len);
                    if let Some(place) = place.filter(|_| word[half as usize] != 0) {
                        stored.push(guards.start.wrapping_add(place));
                    }
                }
            }
        }
        Ok(stored)
    }

    /// Makes a slot zero again and gives its memory back.
    pub(super) fn clear(&self, slot: u32) -> io::Result<()> {
        let (at, len) = (self.geometry.slot_offset(slot), self.geometry.slot_bytes());
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        Ok(rustix::fs::fallocate(&self.file, flags, at, len)?)
    }
}

/// Words in a mapped file. Others may write to them.
#[derive(Debug)]
pub(super) struct Words {
    map: Option<MmapRaw>,
    words: usize,
}

impl Words {
    /// Maps `words` words of a file, from the byte `at` on, a multiple of 8.
    pub(super) fn map(file: &File, at: u64, words: u64) -> io::Result<Self> {
        let words = usize::try_from(words).map_err(io::Error::other)?;
        let mut options = MmapOptions::new();
        options.offset(at).len(words * size_of::<u64>());
        let map = match words {
            0 => None,
            _ => Some(options.map_raw_read_only(file)?),
        };
        Ok(Self { map, words })
    }

    /// All of them.
    pub(super) fn all(&self) -> &[AtomicU64] {
        match &self.map {
            // SAFETY: that many words are mapped and aligned, we only read them, and neither the
            // region nor a spool gets shorter.
            Some(map) => unsafe {
                std::slice::from_raw_parts(map.as_ptr().cast::<AtomicU64>(), self.words)
            },
            None => &[],
        }
    }

    /// The words from `skip` on, `take` at most.
    pub(super) fn part(&self, skip: usize, take: u64) -> impl Iterator<Item = u64> + '_ {
        let take = usize::try_from(take).unwrap_or(usize::MAX);
        let words = self.all().iter().skip(skip).take(take);
        words.map(|word| word.load(Ordering::Relaxed))
    }
}

/// A number that nobody guesses.
pub(super) fn random() -> io::Result<u64> {
    let mut bytes = [0; 8];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    Ok(u64::from_ne_bytes(bytes))
}
