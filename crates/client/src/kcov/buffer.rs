// SPDX-License-Identifier: MIT OR Apache-2.0
//! The buffer that a client shares with a kcov.

use super::device::{Device, File};
use super::error::Error;
use rkcov_abi::{Comparison, Words, CMP_WORDS};
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

const PAGE: usize = 4096;

/// A mapped buffer.
///
/// Records of sections may be read at any time. For local records, only the recording thread may
/// rely on the last record; another thread must wait until that thread has stopped collecting.
#[derive(Debug)]
pub struct Buffer {
    at: NonNull<AtomicU64>,
    words: Words,
    bytes: usize,
}

// SAFETY: a mapping that is tied to no thread, of atomics.
unsafe impl Send for Buffer {}
// SAFETY: as above.
unsafe impl Sync for Buffer {}

impl Buffer {
    pub(super) fn map(file: &File, words: Words) -> Result<Self, Error> {
        let bytes = words.bytes().next_multiple_of(PAGE);
        Ok(Self {
            at: file.map(bytes)?.cast(),
            words,
            bytes,
        })
    }

    /// All words of the buffer.
    #[must_use]
    pub fn words(&self) -> &[AtomicU64] {
        // SAFETY: that many words are mapped while `self` lives; whoever else writes them does so
        // word by word.
        unsafe { std::slice::from_raw_parts(self.at.as_ptr(), self.words.get() as usize) }
    }

    /// The recorded PCs.
    pub fn pcs(&self) -> impl Iterator<Item = u64> + '_ {
        self.pcs_behind(Words::default())
    }

    /// The recorded comparisons.
    pub fn comparisons(&self) -> impl Iterator<Item = Comparison> + '_ {
        let records = self.words().get(1..).unwrap_or(&[]);
        records
            .chunks_exact(CMP_WORDS as usize)
            .take(count(self.words()))
            .map(|record| {
                let mut words = [0; CMP_WORDS as usize];
                for (word, from) in words.iter_mut().zip(record) {
                    *word = from.load(Ordering::Relaxed);
                }
                Comparison::from_words(words)
            })
    }

    /// Unique mode: the indices of the bits that are set in a bitmap of `bitmap` words.
    pub fn bits(&self, bitmap: Words) -> impl Iterator<Item = u64> + '_ {
        let words = self.words().iter().take(bitmap.get() as usize);
        words.enumerate().flat_map(|(n, word)| {
            let word = word.load(Ordering::Relaxed);
            (0..64).filter_map(move |bit| (word >> bit & 1 == 1).then_some(n as u64 * 64 + bit))
        })
    }

    /// Unique mode: the recorded PCs, which follow a bitmap of `bitmap` words.
    pub fn pcs_behind(&self, bitmap: Words) -> impl Iterator<Item = u64> + '_ {
        let trace = self.words().get(bitmap.get() as usize..).unwrap_or(&[]);
        let records = trace.get(1..).unwrap_or(&[]);
        records
            .iter()
            .take(count(trace))
            .map(|pc| pc.load(Ordering::Relaxed))
    }

    /// Appends the PCs to a list at `path`, which `rkcov report` and other commands read like a trace. `name`
    /// is what reports call them; it ends at its first zero byte. The list has the modules of this process, so
    /// the buffer is one of the kcov of this process, and its mode [`TraceMode::Pc`](super::TraceMode::Pc).
    ///
    /// # Errors
    /// [`Error::NoRuntime`] if this process has no runtime; what the system says of the file.
    pub fn save(&self, path: &Path, name: &str) -> Result<(), Error> {
        let path = CString::new(path.as_os_str().as_bytes());
        let path = path.map_err(|_| Error::call("rkcov_save", libc::ENOENT))?;
        let name = name.split('\0').next().unwrap_or_default();
        let name = CString::new(name).unwrap_or_default();
        Device::of_process()?.save(&path, &name, self.words())
    }

    /// Sets the count word to 0. A client may do this at any time.
    pub fn clear(&self) {
        if let Some(count) = self.words().first() {
            count.store(0, Ordering::Relaxed);
        }
    }
}

/// The value of the count word. It may be any value, because clients can write to the buffer.
fn count(trace: &[AtomicU64]) -> usize {
    let count = trace.first().map_or(0, |word| word.load(Ordering::Acquire));
    usize::try_from(count).unwrap_or(usize::MAX)
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // SAFETY: our mapping, which nobody borrows any more.
        unsafe { libc::munmap(self.at.as_ptr().cast(), self.bytes) };
    }
}
