// SPDX-License-Identifier: MIT OR Apache-2.0
//! The two kcovs, and their open files.

use super::error::Error;
use super::Drops;
use rkcov_abi::Command;
use std::ffi::{c_char, c_int, c_ulong, c_void, CStr, CString};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;
use std::sync::OnceLock;

/// The runtime's functions in this process: see `rkcov.h`.
#[derive(Debug)]
pub(super) struct Device {
    open: unsafe extern "C" fn() -> c_int,
    ioctl: unsafe extern "C" fn(c_int, c_ulong, c_ulong) -> c_int,
    mmap: unsafe extern "C" fn(*mut c_void, usize, c_int, c_int, c_int, libc::off_t) -> *mut c_void,
    close: unsafe extern "C" fn(c_int) -> c_int,
    drops: unsafe extern "C" fn(c_int, *mut Drops) -> c_int,
    save: unsafe extern "C" fn(*const c_char, *const c_char, *const AtomicU64, usize) -> c_int,
    pub(super) start: unsafe extern "C" fn(u64),
    pub(super) stop: unsafe extern "C" fn(),
    pub(super) common_handle: unsafe extern "C" fn() -> u64,
}

/// Looks up a function of this process by name.
///
/// # Safety
/// `F` is a pointer to functions, and those of this name have its type.
pub(crate) unsafe fn function<F: Copy>(name: &CStr) -> Option<F> {
    // SAFETY: a handle and a name for `dlsym()`.
    let at = NonNull::new(unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) })?;
    // SAFETY: the caller's contract.
    Some(unsafe { std::mem::transmute_copy::<NonNull<c_void>, F>(&at) })
}

impl Device {
    /// The runtime of this process. If `dlopen()` loads it later, a later call finds it.
    pub(super) fn of_process() -> Result<&'static Self, Error> {
        static FOUND: OnceLock<Device> = OnceLock::new();
        if let Some(device) = FOUND.get() {
            return Ok(device);
        }
        let device = Self::find().ok_or(Error::NoRuntime)?;
        Ok(FOUND.get_or_init(|| device))
    }

    fn find() -> Option<Self> {
        // SAFETY: `rkcov.h` declares each with the type of its field.
        unsafe {
            Some(Self {
                open: function(c"rkcov_open")?,
                ioctl: function(c"rkcov_ioctl")?,
                mmap: function(c"rkcov_mmap")?,
                close: function(c"rkcov_close")?,
                drops: function(c"rkcov_drops")?,
                save: function(c"rkcov_save")?,
                start: function(c"kcov_remote_start")?,
                stop: function(c"kcov_remote_stop")?,
                common_handle: function(c"kcov_common_handle")?,
            })
        }
    }

    pub(super) fn open(&'static self) -> Result<File, Error> {
        // SAFETY: takes nothing.
        let fd = unsafe { (self.open)() };
        if fd < 0 {
            return Err(Error::last("rkcov_open"));
        }
        Ok(File::Process { fd, device: self })
    }

    pub(super) fn save(&self, path: &CStr, name: &CStr, words: &[AtomicU64]) -> Result<(), Error> {
        // SAFETY: C strings, and words that can be read.
        let result =
            unsafe { (self.save)(path.as_ptr(), name.as_ptr(), words.as_ptr(), words.len()) };
        match result {
            0 => Ok(()),
            _ => Err(Error::last("rkcov_save")),
        }
    }
}

/// Opens the device of Linux.
pub(super) fn open_linux(path: &Path) -> Result<File, Error> {
    let path =
        CString::new(path.as_os_str().as_bytes()).map_err(|_| Error::call("open", libc::ENOENT))?;
    // SAFETY: the path is a C string; without O_CREAT there is no mode.
    let fd = unsafe { libc::open(path.as_ptr(), libc::O_RDWR | libc::O_CLOEXEC) };
    if fd < 0 {
        return Err(Error::last("open"));
    }
    // SAFETY: just opened, and nobody else's.
    Ok(File::Linux(unsafe { OwnedFd::from_raw_fd(fd) }))
}

/// An open kcov.
#[derive(Debug)]
pub(super) enum File {
    Process { fd: RawFd, device: &'static Device },
    Linux(OwnedFd),
}

impl AsRawFd for File {
    fn as_raw_fd(&self) -> RawFd {
        match self {
            Self::Process { fd, .. } => *fd,
            Self::Linux(fd) => fd.as_raw_fd(),
        }
    }
}

impl File {
    pub(super) fn ioctl(&self, command: Command, argument: usize) -> Result<(), Error> {
        let fd = self.as_raw_fd();
        let (request, argument) = (c_ulong::from(command.number()), argument as c_ulong);
        let result = match self {
            // SAFETY: the commands read at most an argument that is in the caller's memory, and
            // write to no memory but the device's own.
            Self::Process { device, .. } => unsafe { (device.ioctl)(fd, request, argument) },
            // SAFETY: as above.
            Self::Linux(_) => unsafe { libc::ioctl(fd, request as libc::Ioctl, argument) },
        };
        if result == 0 {
            Ok(())
        } else {
            Err(Error::last(name(command)))
        }
    }

    /// Maps `bytes` of the buffer.
    pub(super) fn map(&self, bytes: usize) -> Result<NonNull<c_void>, Error> {
        let fd = self.as_raw_fd();
        let mmap = match self {
            Self::Process { device, .. } => device.mmap,
            Self::Linux(_) => libc::mmap,
        };
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping, where the kernel finds room for it.
        let at = unsafe {
            mmap(
                std::ptr::null_mut(),
                bytes,
                protection,
                libc::MAP_SHARED,
                fd,
                0,
            )
        };
        match NonNull::new(at) {
            Some(at) if at.as_ptr() != libc::MAP_FAILED => Ok(at),
            _ => Err(Error::last("mmap")),
        }
    }

    pub(super) fn drops(&self) -> Result<Option<Drops>, Error> {
        let Self::Process { fd, device } = self else {
            return Ok(None);
        };
        let mut drops = Drops::default();
        // SAFETY: `drops` is `struct rkcov_drops`, and writable.
        match unsafe { (device.drops)(*fd, &raw mut drops) } {
            0 => Ok(Some(drops)),
            _ => Err(Error::last("rkcov_drops")),
        }
    }
}

impl Drop for File {
    fn drop(&mut self) {
        if let Self::Process { fd, device } = self {
            // SAFETY: ours, and closed once.
            unsafe { (device.close)(*fd) };
        }
    }
}

/// The command's name in C.
fn name(command: Command) -> &'static str {
    match command {
        Command::InitTrace => "KCOV_INIT_TRACE",
        Command::Enable => "KCOV_ENABLE",
        Command::Disable => "KCOV_DISABLE",
        Command::RemoteEnable => "KCOV_REMOTE_ENABLE",
        Command::UniqueEnable => "KCOV_UNIQUE_ENABLE",
        Command::ResetTrace => "KCOV_RESET_TRACE",
    }
}
