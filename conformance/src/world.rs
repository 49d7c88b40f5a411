// SPDX-License-Identifier: MIT OR Apache-2.0
//! Programs and hardware that only a real machine has: the documentation's programs, a USB device
//! that is plugged into dummy_hcd through raw-gadget, a vhost worker.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc;

use rkcov_abi::{CommonHandle, Handle, Subsystem, TraceMode};
use rkcov_linux::hardware::{self, UsbDevice, Vhost};
use rkcov_linux::Device;

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
    let listens = name == "remote" && Path::new("/dev/raw-gadget").exists();
    let output = rkcov_linux::documentation::run(&program, listens)
        .map_err(|error| format!("{}: {error}", program.display()))?;
    let text = [output.stdout, output.stderr].concat();
    Ok(Output {
        success: output.status.success(),
        text: String::from_utf8_lossy(&text).into_owned(),
    })
}

/// Words of a listener's buffer and area.
const WORDS: u32 = 1 << 16;

fn said(error: io::Error) -> String {
    error.to_string()
}

/// Listens to sections with these handles while `work` is done, and answers how many PCs came.
fn listen(
    common: Option<CommonHandle>,
    handles: &[Handle],
    work: impl FnOnce(&Device) -> io::Result<()>,
) -> Result<u64, String> {
    let kcov = Device::open(WORDS).map_err(said)?;
    kcov.enable_remote(TraceMode::Pc, WORDS, handles, common)
        .map_err(said)?;
    let done = work(&kcov);
    let count = kcov.count();
    kcov.disable().map_err(said)?;
    done.map(|()| count).map_err(said)
}

/// PCs of the hub's work when a device is plugged in, for who listens to its bus, or to another.
///
/// # Errors
/// If no device can be plugged in.
pub fn usb_hub_event(to_its_bus: bool) -> Result<u64, String> {
    let bus = hardware::dummy_bus().map_err(said)?;
    let bus = if to_its_bus { bus } else { bus + 100 };
    let handle = Handle::new(Subsystem::USB, bus);
    listen(None, handle.as_slice(), |kcov| {
        drop(UsbDevice::plug()?);
        hardware::hear(kcov, to_its_bus)
    })
}

/// PCs of a vhost worker's work, made with or without a common handle.
///
/// # Errors
/// If there is no vhost.
pub fn vhost_worker(with_handle: bool) -> Result<u64, String> {
    let common = Handle::from_raw(0x76_686f).and_then(CommonHandle::new);
    let work = || Vhost::new()?.send();
    if with_handle {
        return listen(common, &[], |kcov| {
            work()?;
            hardware::hear(kcov, true)
        });
    }
    // Someone listens to the handle, but it is not the worker's maker's.
    std::thread::scope(|scope| {
        let (ready, is_ready) = mpsc::channel();
        let (done, is_done) = mpsc::channel();
        let listener = scope.spawn(move || {
            listen(common, &[], |kcov| {
                // The other end is gone only if that thread failed.
                let _ = ready.send(());
                let _ = is_done.recv();
                hardware::hear(kcov, false)
            })
        });
        let _ = is_ready.recv();
        let worked = work().map_err(said);
        let _ = done.send(());
        let heard = listener.join().map_err(|_| "the listener died")?;
        worked.and(heard)
    })
}
