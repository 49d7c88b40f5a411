// SPDX-License-Identifier: MIT OR Apache-2.0
//! The tables of processes and modules, and the text that they refer to.

use core::sync::atomic::{AtomicU32, AtomicU64, AtomicU8, Ordering};

/// Bytes of a build id that are kept.
pub const BUILD_ID_MAX: usize = 32;

const TEXT_BYTES: usize = 1 << 27;

/// A piece of the [`TextHeap`], or nothing.
#[derive(Debug)]
#[repr(C)]
pub struct Text {
    pub(crate) at: AtomicU32,
    pub(crate) len: AtomicU32,
}

impl Text {
    /// Becomes the same piece as `other`.
    pub fn set(&self, other: &Self) {
        let Self { at, len } = other;
        self.at.store(at.load(Ordering::Relaxed), Ordering::Relaxed);
        self.len
            .store(len.load(Ordering::Relaxed), Ordering::Relaxed);
    }
}

/// Paths and command lines: bytes, written once.
#[derive(Debug)]
#[repr(C)]
pub struct TextHeap {
    pub(crate) used: AtomicU64,
    pub(crate) bytes: [AtomicU8; TEXT_BYTES],
}

impl TextHeap {
    /// Stores `pieces` behind one another, and where they are in `text`. Stores nothing if the
    /// heap is full.
    pub fn put(&self, text: &Text, pieces: &[&[u8]]) {
        let len = pieces.iter().map(|piece| piece.len()).sum::<usize>();
        let at = self.used.fetch_add(len as u64, Ordering::Relaxed) as usize;
        let Some(room) = at.checked_add(len).and_then(|end| self.bytes.get(at..end)) else {
            return;
        };
        for (to, from) in room.iter().zip(pieces.iter().copied().flatten()) {
            to.store(*from, Ordering::Relaxed);
        }
        text.at.store(at as u32, Ordering::Relaxed);
        text.len.store(len as u32, Ordering::Relaxed);
    }

    /// The bytes of `text`; none if it points outside of the heap.
    pub fn get<'a>(&'a self, text: &Text) -> impl Iterator<Item = u8> + 'a {
        let at = text.at.load(Ordering::Relaxed) as usize;
        let len = text.len.load(Ordering::Relaxed) as usize;
        at.checked_add(len)
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
    /// Modules of that process with an index below this are its modules too.
    pub inherited_modules: AtomicU32,
    /// Nanoseconds since the epoch when it came.
    pub start: AtomicU64,
    /// The inode of its namespace of process ids, 0 if not known.
    pub pid_namespace: AtomicU64,
    /// Path of its executable.
    pub exe: Text,
    /// Its command line, each argument ended by a zero byte.
    pub cmdline: Text,
}

/// One module (executable or shared object) of one process.
#[derive(Debug)]
#[repr(C)]
pub struct Module {
    pub(crate) ready: AtomicU32,
    /// Index of the process in the process table.
    pub process: AtomicU32,
    /// What was added to the addresses in the file.
    pub bias: AtomicU64,
    /// First address of its text.
    pub text_start: AtomicU64,
    /// Address behind its text.
    pub text_end: AtomicU64,
    pub(crate) build_id_len: AtomicU32,
    pub(crate) build_id: [AtomicU8; BUILD_ID_MAX],
    /// Its absolute path.
    pub path: Text,
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

impl Module {
    /// The build id; empty if it has none.
    #[must_use]
    pub fn build_id(&self) -> ([u8; BUILD_ID_MAX], usize) {
        let len = self.build_id_len.load(Ordering::Relaxed) as usize;
        let bytes = core::array::from_fn(|i| self.build_id[i].load(Ordering::Relaxed));
        (bytes, len.min(BUILD_ID_MAX))
    }

    /// Sets the build id, cut off at [`BUILD_ID_MAX`].
    pub fn set_build_id(&self, id: &[u8]) {
        for (to, from) in self.build_id.iter().zip(id) {
            to.store(*from, Ordering::Relaxed);
        }
        let len = id.len().min(BUILD_ID_MAX) as u32;
        self.build_id_len.store(len, Ordering::Relaxed);
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
