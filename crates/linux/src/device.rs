// SPDX-License-Identifier: MIT OR Apache-2.0
//! The kernel's kcov device, as a collector uses it.

use rkcov_abi::ioctl::{KCOV_ENABLE, KCOV_INIT_TRACE};
use rkcov_abi::TraceMode;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU64, Ordering};

const PATH: &str = "/sys/kernel/debug/kcov";
const WORD: usize = size_of::<u64>();

/// A descriptor with its buffer mapped.
pub(crate) struct Device {
    file: File,
    words: NonNull<AtomicU64>,
    len: usize,
}

/// What a child needs to have itself recorded. The [`Device`] must live in its parent.
pub(crate) struct Enabler(RawFd);

impl Enabler {
    /// From here on the kernel records the calling task. Allowed between fork and exec.
    pub(crate) fn enable(&self) -> io::Result<()> {
        ioctl(self.0, KCOV_ENABLE, u64::from(TraceMode::Pc.raw()))
    }
}

impl Device {
    /// A new descriptor with a buffer of `words` words.
    pub(crate) fn open(words: u32) -> io::Result<Self> {
        let named = |error: io::Error| io::Error::new(error.kind(), format!("{PATH}: {error}"));
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(PATH)
            .map_err(named)?;
        ioctl(file.as_raw_fd(), KCOV_INIT_TRACE, u64::from(words)).map_err(named)?;
        let len = words as usize;
        // SAFETY: a new mapping, at a place that the kernel chooses.
        let map = unsafe {
            libc::mmap(
                ptr::null_mut(),
                len * WORD,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                file.as_raw_fd(),
                0,
            )
        };
        match NonNull::new(map.cast()) {
            Some(words) if map != libc::MAP_FAILED => Ok(Self { file, words, len }),
            _ => Err(named(io::Error::last_os_error())),
        }
    }

    pub(crate) fn enabler(&self) -> Enabler {
        Enabler(self.file.as_raw_fd())
    }

    /// The count word and as many records as it counts, little-endian.
    pub(crate) fn words(&self) -> Vec<u8> {
        // SAFETY: `len` words are mapped, and everybody's accesses to them are atomic.
        let words = unsafe { std::slice::from_raw_parts(self.words.as_ptr(), self.len) };
        let Some((count, records)) = words.split_first() else {
            return Vec::new();
        };
        let count = count.load(Ordering::Acquire);
        let recorded = records
            .len()
            .min(usize::try_from(count).unwrap_or(usize::MAX));
        let records = records
            .iter()
            .take(recorded)
            .map(|w| w.load(Ordering::Relaxed));
        std::iter::once(count)
            .chain(records)
            .flat_map(u64::to_le_bytes)
            .collect()
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        // SAFETY: mapped by `open`, and nobody has a reference into it any more.
        unsafe { libc::munmap(self.words.as_ptr().cast(), self.len * WORD) };
    }
}

fn ioctl(fd: RawFd, number: u32, argument: u64) -> io::Result<()> {
    // SAFETY: the two calls that are made here take a number, not an address.
    match unsafe { libc::ioctl(fd, number.into(), argument) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
