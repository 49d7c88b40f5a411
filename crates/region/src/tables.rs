// SPDX-License-Identifier: MIT OR Apache-2.0
//! The tables of processes, images and loaded modules, and the text that they refer to.
//!
//! A file of code is an [`Image`], written once for all processes that load it; each process adds
//! one small [`Loaded`] for it. Images and paths are found again by hash indexes into which any
//! process inserts without a lock: an entry is complete before the index names it. A process that
//! is killed in between costs at most the entry that it was about to name.

use core::sync::atomic::{AtomicU32, AtomicU64, AtomicU8, Ordering};

/// Bytes of a build id that are kept.
pub const BUILD_ID_MAX: usize = 32;

/// Bytes of the longest path.
const PATH_MAX: usize = 4096;

/// Places that are looked at in a hash index before it counts as full.
const PROBES: usize = 256;

/// A piece of text in the region, or nothing.
#[derive(Debug)]
#[repr(C)]
pub struct Text {
    pub(crate) at: AtomicU32,
    pub(crate) len: AtomicU32,
}

/// Where a piece of text is, as plain numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Piece {
    /// Its first byte.
    pub at: u32,
    /// How many bytes.
    pub len: u32,
}

impl Text {
    /// Becomes the same piece as `other`.
    pub fn set(&self, other: &Self) {
        self.put(other.get());
    }

    /// Where it is.
    #[must_use]
    pub fn get(&self) -> Piece {
        Piece {
            at: self.at.load(Ordering::Relaxed),
            len: self.len.load(Ordering::Relaxed),
        }
    }

    /// Says where it is.
    pub fn put(&self, piece: Piece) {
        self.at.store(piece.at, Ordering::Relaxed);
        self.len.store(piece.len, Ordering::Relaxed);
    }
}

/// A hash table of `N` words, each 0 or the name of an entry that lies elsewhere.
#[derive(Debug)]
#[repr(C)]
pub struct Index<const N: usize>(pub(crate) [AtomicU64; N]);

/// What became of a search in an [`Index`].
enum Place<'a> {
    /// The entry is there under this word.
    Found(u64),
    /// It is not there; this is where it belongs.
    Free(&'a AtomicU64),
    Full,
}

impl<const N: usize> Index<N> {
    fn place(&self, hash: u64, is: impl Fn(u64) -> bool) -> Place<'_> {
        for probe in 0..PROBES.min(N) {
            let at = (hash as usize).wrapping_add(probe) % N;
            let Some(place) = self.0.get(at) else {
                break;
            };
            match place.load(Ordering::Acquire) {
                0 => return Place::Free(place),
                word if is(word) => return Place::Found(word),
                _ => {}
            }
        }
        Place::Full
    }

    /// The word of the entry that `is` knows; if there is none, the one that `make` makes, which is
    /// then named here. `None` if `make` makes none. Where the index is full, what was made is not
    /// found again.
    fn intern(
        &self,
        hash: u64,
        is: impl Fn(u64) -> bool,
        make: impl FnOnce() -> Option<u64>,
    ) -> Option<u64> {
        match self.place(hash, &is) {
            Place::Found(word) => return Some(word),
            Place::Free(_) | Place::Full => {}
        }
        let made = make()?;
        while let Place::Free(place) = self.place(hash, &is) {
            let took = place.compare_exchange(0, made, Ordering::AcqRel, Ordering::Relaxed);
            if took.is_ok() {
                return Some(made);
            }
        }
        match self.place(hash, &is) {
            Place::Found(word) => Some(word),
            Place::Free(_) | Place::Full => Some(made),
        }
    }
}

/// FNV-1a.
fn hash(bytes: impl IntoIterator<Item = u8>) -> u64 {
    let fnv = bytes.into_iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    });
    // The low bits choose the place.
    fnv ^ fnv >> 32
}

/// Paths: bytes, each path written once.
#[derive(Debug)]
#[repr(C)]
pub struct Paths<const BYTES: usize, const INDEX: usize> {
    pub(crate) used: AtomicU64,
    pub(crate) index: Index<INDEX>,
    pub(crate) bytes: [AtomicU8; BYTES],
}

impl<const BYTES: usize, const INDEX: usize> Paths<BYTES, INDEX> {
    /// Stores a path, made of these pieces, unless it is there already. `None` if it would end beyond
    /// `limit`, or is too long.
    pub fn put(&self, path: &[&[u8]], limit: u64) -> Option<Piece> {
        let bytes = || path.iter().copied().flatten().copied();
        let len = path
            .iter()
            .fold(0_usize, |sum, piece| sum.saturating_add(piece.len()));
        let unpack = |word: u64| Piece {
            at: (word >> 32) as u32,
            // No word is 0: an empty path is never named.
            len: word as u32,
        };
        if len == 0 {
            return Some(Piece::default());
        }
        if len > PATH_MAX {
            return None;
        }
        let is = |word: u64| {
            let piece = unpack(word);
            piece.len as usize == len && self.get(piece).eq(bytes())
        };
        let word = self.index.intern(hash(bytes()), is, || {
            let len = len as u64;
            let at = self.used.fetch_add(len, Ordering::Relaxed);
            let end = at.checked_add(len).filter(|end| *end <= limit)?;
            let room = self.bytes.get(at as usize..end as usize)?;
            for (to, from) in room.iter().zip(bytes()) {
                to.store(from, Ordering::Relaxed);
            }
            Some(at << 32 | len)
        })?;
        Some(unpack(word))
    }

    /// The bytes of a path; none if it points outside, or is longer than any path.
    pub fn get(&self, piece: Piece) -> impl Iterator<Item = u8> + '_ {
        let at = piece.at as usize;
        let len = Some(piece.len as usize).filter(|len| *len <= PATH_MAX);
        len.and_then(|len| at.checked_add(len))
            .and_then(|end| self.bytes.get(at..end))
            .unwrap_or(&[])
            .iter()
            .map(|byte| byte.load(Ordering::Relaxed))
    }
}

/// One process image: a new one after each `exec`.
#[derive(Debug)]
#[repr(C)]
pub struct Process {
    pub(crate) ready: AtomicU32,
    /// Its process id, as it sees it.
    pub pid: AtomicU32,
    /// Its parent's process id, as it sees it.
    pub parent: AtomicU32,
    /// 1 + the index of the process that it was forked from, 0 if it started with `exec`.
    pub(crate) forked_from: AtomicU32,
    /// What was loaded into that process with an index below this is loaded into it too.
    pub inherited_modules: AtomicU32,
    /// Nanoseconds since the epoch when it came.
    pub start: AtomicU64,
    /// The inode of its namespace of process ids, 0 if not known.
    pub pid_namespace: AtomicU64,
    /// Path of its executable, among the paths.
    pub exe: Text,
    /// Its command line, among the command lines: each argument ended by a zero byte.
    pub cmdline: Text,
}

/// A file of code (executable or shared object), wherever it is loaded.
#[derive(Debug)]
#[repr(C)]
pub struct Image {
    pub(crate) ready: AtomicU32,
    /// Processes that loaded it and found no room for a [`Loaded`].
    pub unplaced: AtomicU32,
    /// First address of its text, as the file has it.
    pub text_start: AtomicU64,
    /// Address behind its text, as the file has it.
    pub text_end: AtomicU64,
    pub(crate) build_id_len: AtomicU32,
    pub(crate) build_id: [AtomicU8; BUILD_ID_MAX],
    /// Its absolute path.
    pub path: Text,
}

/// An image in one process.
#[derive(Debug)]
#[repr(C)]
pub struct Loaded {
    /// 1 + the index of the image, 0 as long as the entry is not complete.
    pub(crate) image: AtomicU32,
    /// Index of the process in the process table.
    pub process: AtomicU32,
    /// What was added to the addresses in the file.
    pub bias: AtomicU64,
}

/// What identifies an image.
#[derive(Clone, Copy, Debug)]
pub struct ImageKey<'a> {
    /// Where its path is.
    pub path: Piece,
    /// Its build id; empty if it has none. What is beyond [`BUILD_ID_MAX`] is left out.
    pub build_id: &'a [u8],
    /// First address of its text, as the file has it.
    pub text_start: u64,
    /// Address behind its text.
    pub text_end: u64,
}

/// All images.
#[derive(Debug)]
#[repr(C)]
pub struct Images<const N: usize, const INDEX: usize> {
    /// Entries that were taken; may pass `N`.
    pub(crate) used: AtomicU32,
    pub(crate) index: Index<INDEX>,
    pub(crate) entries: [Image; N],
}

impl<const N: usize, const INDEX: usize> Images<N, INDEX> {
    /// The index of an image, which is added if it is not there. `None` if there are `limit`.
    pub fn put(&self, key: &ImageKey<'_>, limit: u32) -> Option<u32> {
        let id = key.build_id.get(..BUILD_ID_MAX).unwrap_or(key.build_id);
        let is = |word: u64| {
            let image = self.get((word as u32).wrapping_sub(1));
            image.is_some_and(|image| {
                let (bytes, len) = image.build_id();
                image.path.get() == key.path
                    && bytes.get(..len) == Some(id)
                    && image.text_start.load(Ordering::Relaxed) == key.text_start
                    && image.text_end.load(Ordering::Relaxed) == key.text_end
            })
        };
        let words = [u64::from(key.path.at), key.text_start, key.text_end];
        let words = words.into_iter().flat_map(u64::to_le_bytes);
        let word = self
            .index
            .intern(hash(words.chain(id.iter().copied())), is, || {
                let index = self.used.fetch_add(1, Ordering::AcqRel);
                if index >= limit {
                    return None;
                }
                let image = self.entries.get(index as usize)?;
                image.text_start.store(key.text_start, Ordering::Relaxed);
                image.text_end.store(key.text_end, Ordering::Relaxed);
                image.set_build_id(id);
                image.path.put(key.path);
                image.ready.store(1, Ordering::Release);
                Some(u64::from(index) + 1)
            })?;
        (word as u32).checked_sub(1)
    }

    /// The image with this index.
    #[must_use]
    pub fn get(&self, index: u32) -> Option<&Image> {
        let image = self.entries.get(index as usize)?;
        (image.ready.load(Ordering::Acquire) != 0).then_some(image)
    }

    /// All images that there are.
    pub fn iter(&self) -> impl Iterator<Item = &Image> {
        let used = self.used.load(Ordering::Acquire);
        (0..used.min(N as u32)).filter_map(|index| self.get(index))
    }
}

impl Process {
    /// Index of the process that this one was forked from, if it has not called `exec` since.
    #[must_use]
    pub fn forked_from(&self) -> Option<u32> {
        self.forked_from.load(Ordering::Relaxed).checked_sub(1)
    }

    /// Sets the process that this one was forked from.
    pub fn set_forked_from(&self, process: Option<u32>) {
        let raw = process.map_or(0, |index| index.wrapping_add(1));
        self.forked_from.store(raw, Ordering::Relaxed);
    }

    /// Whether the entry is complete.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire) != 0
    }

    /// Says that the entry is complete.
    pub fn set_ready(&self) {
        self.ready.store(1, Ordering::Release);
    }
}

impl Image {
    /// The build id; empty if it has none.
    #[must_use]
    pub fn build_id(&self) -> ([u8; BUILD_ID_MAX], usize) {
        let len = self.build_id_len.load(Ordering::Relaxed) as usize;
        let bytes = core::array::from_fn(|i| self.build_id[i].load(Ordering::Relaxed));
        (bytes, len.min(BUILD_ID_MAX))
    }

    fn set_build_id(&self, id: &[u8]) {
        for (to, from) in self.build_id.iter().zip(id) {
            to.store(*from, Ordering::Relaxed);
        }
        let len = id.len().min(BUILD_ID_MAX) as u32;
        self.build_id_len.store(len, Ordering::Relaxed);
    }
}

impl Loaded {
    /// Says that the entry is complete, and which image it is of.
    pub fn set_image(&self, image: u32) {
        self.image.store(image.wrapping_add(1), Ordering::Release);
    }

    /// The index of the image, if the entry is complete.
    #[must_use]
    pub fn image(&self) -> Option<u32> {
        self.image.load(Ordering::Acquire).checked_sub(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    extern crate std;
    use std::boxed::Box;
    use std::collections::BTreeSet;
    use std::vec::Vec;

    type SmallPaths = Paths<4096, 512>;
    type SmallImages = Images<128, 256>;

    /// All zeros, as a new region is.
    fn zeroed<T>() -> Box<T> {
        // SAFETY: the types here consist of atomics only, for which zeros are a value.
        unsafe { Box::new(core::mem::zeroed()) }
    }

    #[test]
    fn a_path_is_stored_once() {
        let paths: Box<SmallPaths> = zeroed();
        let a = paths.put(&[b"/lib/a"], u64::MAX).unwrap();
        let b = paths.put(&[b"/lib/b"], u64::MAX).unwrap();
        assert_ne!(a, b);
        assert_eq!(
            paths.put(&[b"/lib", b"/a"], 0),
            Some(a),
            "no room is needed"
        );
        assert_eq!(paths.put(&[b"/lib/c"], 12), None);
        assert_eq!(paths.put(&[b""], 0), Some(Piece::default()));
        let bytes: Vec<u8> = paths.get(b).collect();
        assert_eq!(bytes, b"/lib/b");
        assert_eq!(
            paths
                .get(Piece {
                    at: u32::MAX,
                    len: u32::MAX
                })
                .count(),
            0
        );
    }

    #[test]
    fn an_image_is_stored_once_whoever_comes_first() {
        let images: Box<SmallImages> = zeroed();
        let all: Vec<Vec<u32>> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        let put = |n: u32| {
                            let key = ImageKey {
                                path: Piece { at: n / 2, len: 1 },
                                build_id: &[n as u8],
                                text_start: 0x1000,
                                text_end: 0x2000,
                            };
                            images.put(&key, 128).unwrap()
                        };
                        (0..20).map(put).collect()
                    })
                })
                .collect();
            threads.into_iter().map(|t| t.join().unwrap()).collect()
        });
        assert!(all.iter().all(|indices| *indices == all[0]));
        assert_eq!(all[0].iter().collect::<BTreeSet<_>>().len(), 20);
        let key = ImageKey {
            path: Piece { at: 99, len: 1 },
            build_id: &[],
            text_start: 0,
            text_end: 1,
        };
        assert_eq!(images.put(&key, 0), None, "the table is full");
    }

    #[test]
    fn a_full_index_shares_nothing_and_loses_nothing() {
        let index: Box<Index<4>> = zeroed();
        let names: Vec<_> = (1..=9)
            .map(|n| index.intern(0, |word| word == n, || Some(n)))
            .collect();
        assert_eq!(names, (1..=9).map(Some).collect::<Vec<_>>());
    }
}
