// SPDX-License-Identifier: MIT OR Apache-2.0
//! The memory file and its mappings: all of the collector's unsafe code.

use memmap2::{MmapOptions, MmapRaw};
use rkcov_region::{
    Directory, Geometry, Guards, Piece, GUARD, LINES_OFFSET, LINE_BYTES, NAMES_OFFSET, NAME_BYTES,
    NAME_MAX, STORED_BEFORE,
};
use rustix::fs::{FallocateFlags, MemfdFlags, SealFlags};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;
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
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let file = File::from(rustix::fs::memfd_create("rkcov", flags)?);
        file.set_len(geometry.region_bytes())?;
        // Programs have it open too, and some cut what they have open, whatever it is.
        let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
        rustix::fs::fcntl_add_seals(&file, seals)?;
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
        // which every byte pattern is a value, and the file is sealed: it never gets shorter.
        unsafe { &*self.directory.as_ptr().cast::<Directory>() }
    }

    /// Gives the file the number under which programs inherit it, in this process: those that are
    /// started from now on. A number that is in use, but by the memory of a run around this one, or
    /// above the limit, is left alone.
    pub(super) fn lend(&self) -> Option<Lent> {
        let number = rkcov_region::INHERITED_FD;
        let there = std::fs::read_link(format!("/proc/self/fd/{number}")).ok();
        let theirs = |path: &PathBuf| !path.as_os_str().as_bytes().starts_with(rkcov_region::LINK);
        if there.as_ref().is_some_and(theirs) {
            return None;
        }
        // SAFETY: nobody in this process uses the number, and it becomes a copy of the file's.
        let got = unsafe { libc::dup2(self.file.as_raw_fd(), number) };
        // SAFETY: we have made it just now, and nobody else has it.
        (got == number).then(|| Lent(unsafe { OwnedFd::from_raw_fd(number) }))
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

    /// What tells the file from others.
    pub(super) fn inode(&self) -> u64 {
        self.file.metadata().map_or(0, |meta| meta.ino())
    }

    /// Bytes of memory that the region takes now.
    pub(super) fn bytes(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.blocks() * 512)
    }

    /// A command line; empty if it points outside of them.
    pub(super) fn line(&self, piece: Piece) -> Vec<u8> {
        /// As much as any process writes down.
        const MOST: u32 = 4096;
        let len = piece.len.min(MOST);
        self.text(LINES_OFFSET, LINE_BYTES, Piece { len, ..piece })
    }

    /// The name of a context; empty if it points outside of them, or is longer than any.
    pub(super) fn name(&self, piece: Piece) -> Vec<u8> {
        if piece.len as usize > NAME_MAX {
            return Vec::new();
        }
        self.text(NAMES_OFFSET, NAME_BYTES, piece)
    }

    /// Writes the name of a context where there is room for it.
    pub(super) fn set_name(&self, piece: Piece, name: &[u8]) -> io::Result<()> {
        let at = NAMES_OFFSET + u64::from(piece.at);
        self.file.write_all_at(name, at)
    }

    fn text(&self, start: u64, room: u64, piece: Piece) -> Vec<u8> {
        let (at, len) = (u64::from(piece.at), piece.len);
        let inside = at + u64::from(len) <= room;
        let mut bytes = vec![0; if inside { len as usize } else { 0 }];
        match self.file.read_exact_at(&mut bytes, start + at) {
            Ok(()) => bytes,
            Err(_) => Vec::new(),
        }
    }

    /// The count word of a slot, and the records behind it.
    pub(super) fn buffer(&self, slot: u32) -> io::Result<Words> {
        let at = self.geometry.slot_offset(slot) + self.geometry.count_offset();
        Words::map(&self.file, at, self.geometry.buffer_words())
    }

    /// The guards in a slot whose stores have run, among those of these modules.
    pub(super) fn stored(&self, slot: u32, modules: &[Guards]) -> io::Result<Stored> {
        let mut stored = Stored::default();
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
                    let place = (aligned + number as u64 * 8 + half as u64).checked_sub(at);
                    let place = place.filter(|place| *place < guards.len);
                    let Some(place) = place else { continue };
                    let guard = guards.start.wrapping_add(place);
                    if word[half] != 0 {
                        stored.now.push(guard);
                    }
                    if word[half + STORED_BEFORE] != 0 {
                        stored.before.push(guard);
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

/// Guards whose stores have run.
#[derive(Debug, Default)]
pub(super) struct Stored {
    /// While the thread was in the context that it is in now, or in none.
    pub(super) now: Vec<u64>,
    /// Before its context ended.
    pub(super) before: Vec<u64>,
}

/// The file under the number by which programs inherit it, until dropped.
#[derive(Debug)]
#[expect(dead_code, reason = "it is there to be closed")]
pub(super) struct Lent(OwnedFd);

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
            // SAFETY: that many words are mapped and aligned, we only read them, and the region is
            // sealed: it never gets shorter.
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
