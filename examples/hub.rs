// SPDX-License-Identifier: MIT OR Apache-2.0
//! A client of a thread that always runs, with one global handle for each instance. The kernel's
//! USB hub thread works this way.
//!
//! It prints the PCs of the hub's sections for bus 1. Without instrumentation there are none:
//! `docs/kcov.md` describes how to build Rust programs.

use rkcov::kcov::{section, Handle, Kcov, RemoteOptions, Subsystem, TraceMode, Words};
use std::sync::mpsc::{channel, Receiver, Sender};
use std::{error, thread};

const BUSES: u32 = 2;
const OURS: u32 = 1;

/// The handle of a bus. The hub and its clients use the same function.
fn handle_of(bus: u32) -> Handle {
    Handle::new(Subsystem::USER_FIRST, bus).expect("only common handles can be nothing")
}

/// An event, and the channel to report that it was handled.
struct Event {
    bus: u32,
    done: Sender<()>,
}

#[inline(never)]
fn handle_event(bus: u32) {
    println!("# an event of bus {bus}");
}

/// The hub: one thread for all buses and all clients. It never ends.
fn hub(events: &Receiver<Event>) {
    for event in events {
        let ours = section(handle_of(event.bus));
        handle_event(event.bus);
        drop(ours);
        // The receiver may be gone.
        let _ = event.done.send(());
    }
}

fn main() -> Result<(), Box<dyn error::Error>> {
    let (events, queue) = channel();
    thread::spawn(move || hub(&queue));

    let size = Words::new(4096).ok_or("a size")?;
    let (kcov, buffer) = Kcov::with_buffer(size)?;
    let collecting = kcov.remote_enable(&RemoteOptions {
        mode: TraceMode::Pc,
        area: size,
        handles: vec![handle_of(OURS)],
        common: None,
    })?;
    for bus in 0..BUSES {
        let (done, handled) = channel();
        events.send(Event { bus, done })?;
        handled.recv()?;
    }
    collecting.disable()?;
    for pc in buffer.pcs() {
        println!("{pc:#x}");
    }
    Ok(())
}
