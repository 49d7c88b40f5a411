// SPDX-License-Identifier: MIT OR Apache-2.0
//! A client with its own worker thread, which uses the client's common handle. The kernel's vhost
//! workers work this way.
//!
//! It prints the PCs of the worker's sections. Without instrumentation there are none:
//! `docs/kcov.md` describes how to build Rust programs.

use rkcov::kcov::{
    common_handle, section, CommonHandle, Handle, Kcov, RemoteOptions, Subsystem, TraceMode, Words,
};
use std::{error, thread};

const OURS: u32 = 0x42;

#[inline(never)]
fn send_packet(number: u32) {
    println!("# packet {number}");
}

/// The device: each owner has its own worker, which works for this owner only.
fn start(packets: u32) -> thread::JoinHandle<()> {
    // The caller is the owner: store its common handle for the worker's sections.
    let owner = common_handle();
    thread::spawn(move || {
        for number in 0..packets {
            let _section = owner.map(section);
            send_packet(number);
        }
    })
}

fn main() -> Result<(), Box<dyn error::Error>> {
    // An owner that does not collect: its worker runs the same code, which is not recorded.
    let other = thread::spawn(|| start(3).join());

    let size = Words::new(4096).ok_or("a size")?;
    let (kcov, buffer) = Kcov::with_buffer(size)?;
    let common = Handle::new(Subsystem::COMMON, OURS).and_then(CommonHandle::new);
    let collecting = kcov.remote_enable(&RemoteOptions {
        mode: TraceMode::Pc,
        area: size,
        handles: Vec::new(),
        common,
    })?;
    let ours = start(2).join();
    collecting.disable()?;
    if ours.is_err() || !matches!(other.join(), Ok(Ok(()))) {
        return Err("a worker failed".into());
    }
    for pc in buffer.pcs() {
        println!("{pc:#x}");
    }
    Ok(())
}
