// SPDX-License-Identifier: MIT OR Apache-2.0
//! The kernel's kcov device, as a collector inside a guest uses it.

use rkcov_abi::ioctl::{KCOV_DISABLE, KCOV_ENABLE, KCOV_INIT_TRACE, KCOV_REMOTE_ENABLE};
use rkcov_abi::{CommonHandle, Handle, RemoteArg, TraceMode};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU64, Ordering};

/// Where Linux has it.
pub const PATH: &str = "/sys/kernel/debug/kcov";
const WORD: usize = size_of::<u64>();

/// A descriptor with its buffer mapped.
pub struct Device {
    file: File,
    words: NonNull<AtomicU64>,
    len: usize,
}

// SAFETY: a mapping of the process's, whose words are only accessed as atomics.
unsafe impl Send for Device {}
// SAFETY: as above.
unsafe impl Sync for Device {}

/// What a child needs to have itself recorded. The [`Device`] must live in its parent.
pub(crate) struct Enabler(RawFd);

impl Enabler {
    /// From here on the kernel records the calling task. Allowed between fork and exec.
    pub(crate) fn enable(&self) -> io::Result<()> {
        ioctl(self.0, KCOV_ENABLE, TraceMode::Pc.raw() as usize)
    }
}

impl Device {
    /// A new descriptor with a buffer of `words` words, which fill whole pages.
    ///
    /// # Errors
    /// What the kernel answers; there may be no kcov.
    pub fn open(words: u32) -> io::Result<Self> {
        let named = |error: io::Error| io::Error::new(error.kind(), format!("{PATH}: {error}"));
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(PATH)
            .map_err(named)?;
        Self::of(file, words).map_err(named)
    }

    /// A descriptor that somebody opened, with a buffer of `words` words.
    pub(crate) fn of(file: File, words: u32) -> io::Result<Self> {
        let len = words as usize;
        ioctl(file.as_raw_fd(), KCOV_INIT_TRACE, len)?;
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
            _ => Err(io::Error::last_os_error()),
        }
    }

    pub(crate) fn enabler(&self) -> Enabler {
        Enabler(self.file.as_raw_fd())
    }

    /// Records the calling task from here on.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn enable(&self, mode: TraceMode) -> io::Result<()> {
        ioctl(self.file.as_raw_fd(), KCOV_ENABLE, mode.raw() as usize)
    }

    /// Records sections with these handles from here on, each in an area of `area_words`.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn enable_remote(
        &self,
        mode: TraceMode,
        area_words: u32,
        handles: &[Handle],
        common: Option<CommonHandle>,
    ) -> io::Result<()> {
        let num_handles = u32::try_from(handles.len()).map_err(io::Error::other)?;
        let head = RemoteArg {
            trace_mode: mode.raw(),
            area_size: area_words,
            num_handles,
            padding: 0,
            common_handle: common.map_or(0, |c| c.handle().raw()),
        };
        let words: Vec<u64> = head.words_with(handles.iter().map(|h| h.raw())).collect();
        ioctl(
            self.file.as_raw_fd(),
            KCOV_REMOTE_ENABLE,
            words.as_ptr() as usize,
        )
    }

    /// Ends what `enable` or `enable_remote` began.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn disable(&self) -> io::Result<()> {
        ioctl(self.file.as_raw_fd(), KCOV_DISABLE, 0)
    }

    /// The buffer: the count word, then the records.
    #[must_use]
    pub fn words(&self) -> &[AtomicU64] {
        // SAFETY: `len` words are mapped, and everybody's accesses to them are atomic.
        unsafe { std::slice::from_raw_parts(self.words.as_ptr(), self.len) }
    }

    /// Forgets what was recorded.
    pub fn clear(&self) {
        if let Some(count) = self.words().first() {
            count.store(0, Ordering::Relaxed);
        }
    }

    /// The count word.
    #[must_use]
    pub fn count(&self) -> u64 {
        let count = self.words().first();
        count.map_or(0, |count| count.load(Ordering::Acquire))
    }

    /// The recorded PCs.
    #[must_use]
    pub fn pcs(&self) -> Vec<u64> {
        let count = usize::try_from(self.count()).unwrap_or(usize::MAX);
        let recorded = self.words().iter().skip(1).take(count);
        recorded.map(|w| w.load(Ordering::Relaxed)).collect()
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        // SAFETY: mapped by `open`, and nobody has a reference into it any more.
        unsafe { libc::munmap(self.words.as_ptr().cast(), self.len * WORD) };
    }
}

/// A call with a number, or with the address of a whole remote argument.
fn ioctl(fd: RawFd, number: u32, argument: usize) -> io::Result<()> {
    // SAFETY: the numbers above take no address but that of a remote argument, which lives through
    // the call.
    match unsafe { libc::ioctl(fd, number.into(), argument) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
