// SPDX-License-Identifier: MIT OR Apache-2.0
//! Programs and hardware that only a real machine has: the documentation's programs, a USB device
//! that is plugged into dummy_hcd through raw-gadget, a vhost worker.

use std::fs::{self, File, OpenOptions};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rkcov_abi::{ioctl, RemoteArg};

use crate::live::device::{self, Device};
use crate::live::kernel::{KernelDevice, DEVICE};

/// The variable that says in which folder the documentation's programs are.
pub const PROGRAMS: &str = "RKCOV_PROGRAMS";

/// What a program left behind.
pub struct Output {
    /// Whether it ended well.
    pub success: bool,
    /// What it printed.
    pub text: String,
}

/// Runs one of the documentation's programs. While it runs, a USB device comes and goes, so that
/// one that listens to a bus hears something.
///
/// # Errors
/// If it cannot be run.
pub fn run_program(name: &str) -> Result<Output, String> {
    let folder = std::env::var_os(PROGRAMS).ok_or("no folder of programs")?;
    let program = PathBuf::from(folder).join(name);
    let say = |error: std::io::Error| format!("{}: {error}", program.display());
    let child = Command::new(&program)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(say)?;
    if Path::new(RAW_GADGET).exists() {
        std::thread::sleep(Duration::from_millis(500));
        drop(Gadget::plug()?);
    }
    let output = child.wait_with_output().map_err(say)?;
    let text = [output.stdout, output.stderr].concat();
    Ok(Output {
        success: output.status.success(),
        text: String::from_utf8_lossy(&text).into_owned(),
    })
}

/// Words of a listener's buffer and area.
const WORDS: usize = 1 << 16;

/// Listens to sections with these handles while `work` is done, and answers how many PCs came.
fn listen(
    common: u64,
    handles: &[u64],
    work: impl FnOnce() -> Result<(), String>,
) -> Result<u64, String> {
    let kcov = KernelDevice::new(DEVICE.into());
    let errno = |what: &'static str| move |raw: i32| format!("{what}: errno {raw}");
    let fd = kcov.open().map_err(errno("open"))?;
    kcov.ioctl(fd, ioctl::KCOV_INIT_TRACE, WORDS)
        .map_err(errno("KCOV_INIT_TRACE"))?;
    let mapping = kcov.map(fd, WORDS * 8, 0, true).map_err(errno("mmap"))?;
    let head = RemoteArg {
        trace_mode: 0,
        area_size: WORDS as u32,
        num_handles: handles.len() as u32,
        padding: 0,
        common_handle: common,
    };
    let mut argument = vec![
        u64::from(head.trace_mode) | u64::from(head.area_size) << 32,
        u64::from(head.num_handles),
        head.common_handle,
    ];
    argument.extend(handles);
    let address = argument.as_ptr() as usize;
    kcov.ioctl(fd, ioctl::KCOV_REMOTE_ENABLE, address)
        .map_err(errno("KCOV_REMOTE_ENABLE"))?;
    let done = work();
    let count = mapping.words()[0].load(std::sync::atomic::Ordering::Acquire);
    kcov.ioctl(fd, ioctl::KCOV_DISABLE, 0)
        .map_err(errno("KCOV_DISABLE"))?;
    mapping.unmap();
    kcov.close(fd);
    done.map(|()| count)
}

const RAW_GADGET: &str = "/dev/raw-gadget";
/// `USB_RAW_IOCTL_INIT`: `_IOW('U', 0, struct usb_raw_init)`, two names and a speed.
const USB_RAW_IOCTL_INIT: u64 = 1 << 30 | (257 << 16) | (0x55 << 8);
/// `USB_RAW_IOCTL_RUN`: `_IO('U', 1)`.
const USB_RAW_IOCTL_RUN: u64 = (0x55 << 8) | 1;
/// `USB_SPEED_HIGH`.
const HIGH_SPEED: u8 = 3;
/// How long the hub takes at most to see a device come, on a slow machine.
const HUB_PATIENCE: Duration = Duration::from_secs(3);

/// A USB device that is plugged in as long as this lives.
struct Gadget {
    _file: File,
}

impl Gadget {
    fn plug() -> Result<Self, String> {
        let file = OpenOptions::new().read(true).write(true).open(RAW_GADGET);
        let file = file.map_err(|e| format!("{RAW_GADGET}: {e}"))?;
        let mut init = [0_u8; 257];
        init[..9].copy_from_slice(b"dummy_udc");
        init[128..139].copy_from_slice(b"dummy_udc.0");
        init[256] = HIGH_SPEED;
        let call = |number: u64, arg: usize| {
            // SAFETY: raw-gadget reads at most the 257 bytes of `init`, which live.
            match unsafe { libc::ioctl(file.as_raw_fd(), number as libc::c_ulong, arg) } {
                -1 => Err(format!("{RAW_GADGET}: errno {}", device::errno())),
                _ => Ok(()),
            }
        };
        call(USB_RAW_IOCTL_INIT, init.as_ptr() as usize)?;
        call(USB_RAW_IOCTL_RUN, 0)?;
        std::thread::sleep(HUB_PATIENCE);
        Ok(Self { _file: file })
    }
}

/// The number of dummy_hcd's bus.
fn dummy_bus() -> Result<u64, String> {
    let folder = "/sys/bus/usb/devices";
    for entry in fs::read_dir(folder)
        .map_err(|e| format!("{folder}: {e}"))?
        .flatten()
    {
        let name = entry.file_name().to_string_lossy().into_owned();
        let product = fs::read_to_string(entry.path().join("product")).unwrap_or_default();
        if let (Some(bus), true) = (name.strip_prefix("usb"), product.contains("Dummy")) {
            return bus.parse().map_err(|_| format!("{name} has no number"));
        }
    }
    Err("no bus of dummy_hcd".into())
}

/// PCs of the hub's work when a device is plugged in, for who listens to its bus, or to another.
///
/// # Errors
/// If no device can be plugged in.
pub fn usb_hub_event(to_its_bus: bool) -> Result<u64, String> {
    const USB: u64 = 1 << 56;
    let bus = dummy_bus()?;
    let handle = if to_its_bus {
        USB | bus
    } else {
        USB | (bus + 100)
    };
    listen(0, &[handle], || Gadget::plug().map(drop))
}

/// `VHOST_SET_OWNER`: `_IO(0xaf, 1)`. Makes the worker.
const VHOST_SET_OWNER: u64 = (0xaf << 8) | 1;

/// PCs of a vhost worker's work, made with or without a common handle.
///
/// # Errors
/// If there is no vhost.
pub fn vhost_worker(with_handle: bool) -> Result<u64, String> {
    const COMMON: u64 = 0x76_686f;
    let path = "/dev/vhost-net";
    let work = || {
        let file = OpenOptions::new().read(true).write(true).open(path);
        let file = file.map_err(|e| format!("{path}: {e}"))?;
        // SAFETY: no argument.
        let owned = unsafe { libc::ioctl(file.as_raw_fd(), VHOST_SET_OWNER as libc::c_ulong, 0) };
        if owned == -1 {
            return Err(format!("{path}: errno {}", device::errno()));
        }
        // Closing flushes the worker: it runs at least that.
        drop(file);
        std::thread::sleep(Duration::from_millis(200));
        Ok(())
    };
    if with_handle {
        listen(COMMON, &[], work)
    } else {
        // Someone listens to the handle, but it is not the worker's maker's.
        std::thread::scope(|scope| {
            let (ready, is_ready) = std::sync::mpsc::channel();
            let (done, is_done) = std::sync::mpsc::channel();
            let listener = scope.spawn(move || {
                listen(COMMON, &[], || {
                    ready.send(()).map_err(|e| e.to_string())?;
                    is_done.recv().map_err(|e| e.to_string())
                })
            });
            let begun = is_ready.recv().map_err(|e| e.to_string());
            let worked = begun.and_then(|()| work());
            let _ = done.send(());
            let heard = listener.join().map_err(|_| "the listener died")?;
            worked.and(heard)
        })
    }
}
