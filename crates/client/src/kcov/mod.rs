// SPDX-License-Identifier: MIT OR Apache-2.0
//! The kcov device, for programs that are clients of it.
//!
//! There are two kcovs with the same calls. The kcov of this process ([`Kcov::open`]) records
//! instrumented code in the process. Linux's kcov ([`Kcov::open_linux`]) records the kernel code that
//! runs for it.
//!
//! ```no_run
//! use rkcov::kcov::{Kcov, TraceMode, Words};
//!
//! # fn work() {}
//! let (kcov, buffer) = Kcov::with_buffer(Words::new(1 << 16).unwrap())?;
//! let collecting = kcov.enable(TraceMode::Pc)?;
//! work();
//! collecting.disable()?;
//! for pc in buffer.pcs() {
//!     println!("{pc:#x}");
//! }
//! # Ok::<(), rkcov::kcov::Error>(())
//! ```
//!
//! Code that does work for another thread marks it as a [`section`].
//!
//! # References
//! `Documentation/dev-tools/kcov.rst` in Linux, and `docs/kcov.md` here.

mod buffer;
pub(crate) mod device;
mod error;
mod section;

pub use buffer::Buffer;
pub use error::Error;
pub use rkcov_abi::{
    CommonHandle, Comparison, Errno, Handle, RemoteArg, Subsystem, TraceMode, Words,
};
pub use section::{common_handle, instrument, section, Section};

use device::{Device, File};
use rkcov_abi::Command;
use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::path::Path;
use std::sync::OnceLock;

/// Runs `f` on the calling thread, and gives its result and the PCs that it recorded in this process, in
/// order. Records beyond a buffer of `words` are lost.
///
/// ```no_run
/// # use rkcov::kcov::{self, Words};
/// # fn work() {}
/// let ((), pcs) = kcov::cover(Words::new(1 << 16).unwrap(), work)?;
/// # Ok::<(), kcov::Error>(())
/// ```
///
/// # Errors
/// Those of [`Kcov::with_buffer`] and [`Kcov::enable`]. Then `f` has not run.
pub fn cover<R>(words: Words, f: impl FnOnce() -> R) -> Result<(R, Vec<u64>), Error> {
    let (kcov, buffer) = Kcov::with_buffer(words)?;
    let collecting = kcov.enable(TraceMode::Pc)?;
    let result = f();
    drop(collecting);
    let pcs = buffer.pcs().collect();
    Ok((result, pcs))
}

/// The path of Linux's kcov.
pub const LINUX_DEVICE: &str = "/sys/kernel/debug/kcov";

/// An open descriptor. Any thread may use it:
///
/// ```
/// fn goes_elsewhere<T: Send + Sync>() {}
/// goes_elsewhere::<rkcov::kcov::Kcov>();
/// goes_elsewhere::<rkcov::kcov::Buffer>();
/// ```
///
/// Dropping it closes it. Collection continues until the [`Collecting`] is dropped.
#[derive(Debug)]
pub struct Kcov {
    file: File,
    words: OnceLock<Words>,
}

/// The argument of [`Kcov::remote_enable`].
#[derive(Clone, Debug)]
pub struct RemoteOptions {
    /// What sections record.
    pub mode: TraceMode,
    /// Words of each section's private area, including its count word. At least one record must
    /// fit.
    pub area: Words,
    /// Global handles to listen to: at most 256, none of the common subsystem.
    pub handles: Vec<Handle>,
    /// The common handle: the calling thread, and the children that it creates from now on, carry
    /// it, and sections that work for them use it. `None`: no common handle.
    pub common: Option<CommonHandle>,
}

/// Losses since the descriptor was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Drops {
    /// Records for which a buffer or an area had no room.
    pub full: u64,
    /// Records of sections whose descriptor was disabled before they stopped.
    pub stale: u64,
    /// Sections that got no area.
    pub no_area: u64,
    /// Sections that were nested too deep, of all descriptors.
    pub deep: u64,
}

impl Kcov {
    /// Opens the kcov of this process.
    ///
    /// # Errors
    /// [`Error::NoRuntime`] if this process has no runtime; ENOMEM.
    pub fn open() -> Result<Self, Error> {
        Ok(Self::on(Device::of_process()?.open()?))
    }

    /// Opens Linux's kcov, at [`LINUX_DEVICE`].
    ///
    /// # Errors
    /// Those of `open()`: ENOENT if the kernel has no kcov, EACCES without root.
    pub fn open_linux() -> Result<Self, Error> {
        Self::open_at(Path::new(LINUX_DEVICE))
    }

    /// Opens Linux's kcov, at another path.
    ///
    /// # Errors
    /// Those of `open()`.
    pub fn open_at(path: &Path) -> Result<Self, Error> {
        Ok(Self::on(device::open_linux(path)?))
    }

    /// Opens the kcov of this process, and makes and maps its buffer.
    ///
    /// # Errors
    /// Those of [`Kcov::open`], [`Kcov::init`] and [`Kcov::map`].
    pub fn with_buffer(words: Words) -> Result<(Self, Buffer), Error> {
        Self::open()?.and_buffer(words)
    }

    /// Opens Linux's kcov, at [`LINUX_DEVICE`], and makes and maps its buffer.
    ///
    /// # Errors
    /// Those of [`Kcov::open_linux`], [`Kcov::init`] and [`Kcov::map`].
    pub fn linux_with_buffer(words: Words) -> Result<(Self, Buffer), Error> {
        Self::open_linux()?.and_buffer(words)
    }

    fn and_buffer(self, words: Words) -> Result<(Self, Buffer), Error> {
        self.init(words)?;
        let buffer = self.map()?;
        Ok((self, buffer))
    }

    fn on(file: File) -> Self {
        Self {
            file,
            words: OnceLock::new(),
        }
    }

    /// `KCOV_INIT_TRACE`: allocates the buffer, once.
    ///
    /// # Errors
    /// EINVAL for fewer than two words, EBUSY the second time, ENOMEM.
    pub fn init(&self, words: Words) -> Result<(), Error> {
        self.ioctl(Command::InitTrace, words.get() as usize)?;
        // The device takes one size in its life.
        let _ = self.words.set(words);
        Ok(())
    }

    /// Maps the buffer. You may map it several times. A mapping outlives the descriptor.
    ///
    /// # Errors
    /// EINVAL before [`Kcov::init`]; those of `mmap()`.
    pub fn map(&self) -> Result<Buffer, Error> {
        Buffer::map(&self.file, self.words.get().copied().unwrap_or(Words::MIN))
    }

    /// `KCOV_ENABLE`: records the code that the calling thread runs, until the returned guard is
    /// dropped.
    ///
    /// # Errors
    /// EINVAL before [`Kcov::init`] and while the descriptor is enabled; EBUSY if the thread has
    /// another local descriptor; ENOTSUPP for comparisons in a kernel without them.
    pub fn enable(&self, mode: TraceMode) -> Result<Collecting<'_>, Error> {
        self.ioctl(Command::Enable, mode.raw() as usize)?;
        Ok(Collecting::new(self))
    }

    /// `KCOV_UNIQUE_ENABLE`: like [`Kcov::enable`], but records each PC once. The first `bitmap`
    /// words of the buffer become a bitmap; the count word and the records follow it.
    ///
    /// # Errors
    /// Those of [`Kcov::enable`]; EINVAL for a bitmap that is empty or leaves no room for a record;
    /// ENOTSUPP in a kernel without unique mode.
    pub fn unique(&self, bitmap: Words) -> Result<Collecting<'_>, Error> {
        self.ioctl(Command::UniqueEnable, bitmap.get() as usize)?;
        Ok(Collecting::new(self))
    }

    /// `KCOV_REMOTE_ENABLE`: records sections of any thread, until the returned guard is dropped.
    ///
    /// # Errors
    /// EINVAL for invalid handles or area sizes, before [`Kcov::init`] and while the descriptor is
    /// enabled; EBUSY if the thread has a remote descriptor; EEXIST if another descriptor listens to
    /// one of the handles; ENOMEM. A call that fails changes nothing.
    pub fn remote_enable(&self, options: &RemoteOptions) -> Result<Collecting<'_>, Error> {
        let argument = options.words();
        self.ioctl(Command::RemoteEnable, argument.as_ptr().expose_provenance())?;
        Ok(Collecting::new(self))
    }

    /// `KCOV_RESET_TRACE`: sets the count word, and the bitmap in unique mode, to zero.
    ///
    /// # Errors
    /// EINVAL if the descriptor is not enabled.
    pub fn reset(&self) -> Result<(), Error> {
        self.ioctl(Command::ResetTrace, 0)
    }

    /// Reads the loss counters. `None` for Linux's kcov, which has no call for them.
    ///
    /// # Errors
    /// EBADF.
    pub fn drops(&self) -> Result<Option<Drops>, Error> {
        self.file.drops()
    }

    fn ioctl(&self, command: Command, argument: usize) -> Result<(), Error> {
        self.file.ioctl(command, argument)
    }
}

impl AsRawFd for Kcov {
    fn as_raw_fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }
}

impl AsFd for Kcov {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: open while `self` lives.
        unsafe { BorrowedFd::borrow_raw(self.as_raw_fd()) }
    }
}

impl RemoteOptions {
    /// A `struct kcov_remote_arg`, followed by its handles.
    fn words(&self) -> Vec<u64> {
        let arg = RemoteArg {
            trace_mode: self.mode.raw(),
            area_size: self.area.get(),
            // The device refuses more than a few.
            num_handles: u32::try_from(self.handles.len()).unwrap_or(u32::MAX),
            padding: 0,
            common_handle: self.common.map_or(0, |common| common.handle().raw()),
        };
        arg.words_with(self.handles.iter().map(|handle| handle.raw()))
            .collect()
    }
}

/// A guard for an enabled descriptor. Dropping it disables the descriptor. Only the thread that
/// enabled the descriptor may disable it, so the guard cannot move to another thread.
///
/// ```compile_fail,E0277
/// fn goes_elsewhere<T: Send>() {}
/// goes_elsewhere::<rkcov::kcov::Collecting<'static>>();
/// ```
///
/// After `std::mem::forget`, collection continues until the thread ends.
#[derive(Debug)]
#[must_use = "dropped at once, it collects nothing"]
pub struct Collecting<'k> {
    kcov: &'k Kcov,
    bound_to_thread: PhantomData<*const ()>,
}

impl<'k> Collecting<'k> {
    fn new(kcov: &'k Kcov) -> Self {
        Self {
            kcov,
            bound_to_thread: PhantomData,
        }
    }

    /// `KCOV_DISABLE`.
    ///
    /// # Errors
    /// EINVAL if the calling thread is not the owner, as in a forked child.
    pub fn disable(self) -> Result<(), Error> {
        let kcov = self.kcov;
        std::mem::forget(self);
        kcov.ioctl(Command::Disable, 0)
    }
}

impl Drop for Collecting<'_> {
    fn drop(&mut self) {
        // What fails here was disabled otherwise.
        let _ = self.kcov.ioctl(Command::Disable, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_remote_argument_has_the_options() {
        let usb = Handle::new(Subsystem::USB, 3).unwrap();
        let common = Handle::new(Subsystem::COMMON, 0x42).and_then(CommonHandle::new);
        let words = RemoteOptions {
            mode: TraceMode::Cmp,
            area: Words::new(77).unwrap(),
            handles: vec![usb],
            common,
        }
        .words();
        let arg = RemoteArg {
            trace_mode: 1,
            area_size: 77,
            num_handles: 1,
            padding: 0,
            common_handle: 0x42,
        };
        assert!(arg.words_with([usb.raw()]).eq(words));
    }

    #[test]
    fn a_process_without_a_runtime_says_so() {
        let error = Kcov::open().unwrap_err();
        assert!(matches!(error, Error::NoRuntime), "{error}");
        assert_eq!(error.errno(), None);
        assert_eq!(common_handle(), None);
        drop(section(Handle::new(Subsystem::USB, 1).unwrap()));
    }

    #[test]
    fn a_path_that_is_not_there() {
        let error = Kcov::open_at(Path::new("/no/such/kcov")).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOENT));
    }
}
