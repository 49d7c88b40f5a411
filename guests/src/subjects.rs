// SPDX-License-Identifier: MIT OR Apache-2.0
//! Kernel threads that work for a client: the USB hub's by a global handle, vhost's by a common one.
//!
//! Besides the one that is listened to, everything else goes on: threads, workqueues and softirqs of
//! the test module run markers, with a client of their own, and system calls are made. None of that
//! may be in what the listener gets; all of it must have been recorded by its own listener.

use crate::guest::{Guest, Kernel, Result};
use crate::symbols::{functions, hexadecimal, Symbols};
use rkcov_abi::{CommonHandle, Handle, Subsystem, TraceMode};
use rkcov_linux::hardware::{self, UsbDevice, Vhost};
use rkcov_linux::Device;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::{self, OpenOptions};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;

/// Words of a listener's buffer, and of an area.
const WORDS: u32 = 1 << 18;
pub(crate) const TEST_MODULE: &str = "/sys/kernel/debug/rkcov_test";
/// The handle of the client that listens to the noise.
const NOISE: u32 = 0x6e6f;
/// The handle under which a vhost worker is made.
const WORKER: u32 = 0x7668;
/// What one round of noise runs: markers on nobody's account in three contexts, and those of a
/// section.
const ROUND: [&str; 2] = [
    "run pcs 0 32 softirq { pcs 100 8 } work { pcs 200 8 }",
    "kthread 3 run start 0x6e6f pcs 300 4 stop",
];
const NOISE_MARKERS: std::ops::Range<u64> = 300..304;

/// What must and must not be among the functions of a subject's work.
struct Subject {
    name: &'static str,
    /// Where each section begins: functions, of which one is among those of the first PC.
    roots: &'static [&'static str],
    /// Has to run.
    has: &'static [&'static str],
    /// Runs just before and after a section in the same thread, in its interrupts, or in the client
    /// that makes it work.
    lacks: &'static [&'static str],
}

const USB: Subject = Subject {
    name: "usb",
    // The hub's thread, and its completions, which are sections of softirqs for the same bus.
    roots: &["hub_event", "hub_irq"],
    has: &["hub_event", "hub_port_connect", "usb_new_device"],
    lacks: &[
        "process_one_work",
        "worker_thread",
        "dummy_timer",
        "raw_ioctl",
    ],
};

const VHOST: Subject = Subject {
    name: "vhost",
    roots: &[
        "handle_tx_kick",
        "handle_tx_net",
        "vhost_run_work_list",
        "vhost_flush_work",
    ],
    has: &["handle_tx", "tun_sendmsg"],
    lacks: &[
        "vhost_task_fn",
        "vhost_net_ioctl",
        "vhost_dev_ioctl",
        "tun_chr_ioctl",
    ],
};

/// Never in any work of a kernel thread: the ways in from user space and from the hardware.
const ENTRIES: [&str; 8] = [
    "__x64_sys_",
    "__do_sys_",
    "do_syscall_64",
    "handle_syscall",
    "handle_softirqs",
    "irq_exit_rcu",
    "hrtimer_interrupt",
    "full_proxy_",
];

/// Boots, and checks what was recorded of the hub.
pub(crate) fn usb(kernel: &Kernel) -> Result<()> {
    check(&USB, kernel)
}

/// Boots, and checks what was recorded of a worker.
pub(crate) fn vhost(kernel: &Kernel) -> Result<()> {
    check(&VHOST, kernel)
}

fn check(subject: &Subject, kernel: &Kernel) -> Result<()> {
    let guest = Guest::new(kernel)?;
    let printed = guest.inside(&[subject.name], &[])?;
    let heard = Heard::parse(&printed)?;
    let symbols = Symbols::of(&guest.image)?;
    let mut symbolizer = symbols.symbolizer()?;

    let mut found: BTreeMap<String, usize> = BTreeMap::new();
    let mut files: BTreeMap<String, usize> = BTreeMap::new();
    let mut wrong = BTreeSet::new();
    for (i, pc) in heard.pcs.iter().enumerate() {
        let names = functions(&mut symbolizer, *pc);
        if i == 0 && !names.iter().any(|n| subject.roots.contains(&n.as_str())) {
            wrong.insert(format!("the first PC is of {names:?}"));
        }
        *files.entry(symbols.file(&mut symbolizer, *pc)).or_default() += 1;
        if names.is_empty() {
            wrong.insert(format!("{pc:#x} is no code of this kernel"));
        }
        for name in names {
            let enters = ENTRIES.iter().any(|e| name.starts_with(e));
            if enters || subject.lacks.contains(&name.as_str()) {
                wrong.insert(format!("{name}() is not of its work"));
            }
            *found.entry(name).or_default() += 1;
        }
        if let Some(marker) = heard.markers.index(*pc) {
            wrong.insert(format!("marker {marker} ran elsewhere"));
        }
    }
    println!(
        "{}: {} PCs, {} functions",
        subject.name,
        heard.pcs.len(),
        found.len()
    );
    for (file, pcs) in &files {
        println!("  {pcs:6} {file}");
    }
    println!(
        "meanwhile {} rounds of markers elsewhere: {} PCs for their own listener; without the handle: {} PCs",
        heard.rounds,
        heard.noise.len(),
        heard.without
    );
    for name in subject.has.iter().filter(|n| !found.contains_key(**n)) {
        wrong.insert(format!("{name}() is missing"));
    }
    let per_round = NOISE_MARKERS.end - NOISE_MARKERS.start;
    let is_noise = |pc: &u64| {
        heard
            .markers
            .index(*pc)
            .is_some_and(|m| NOISE_MARKERS.contains(&m))
    };
    if heard.rounds == 0
        || heard.noise.len() as u64 != heard.rounds * per_round
        || !heard.noise.iter().all(is_noise)
    {
        wrong.insert(format!("the noise's listener has {:x?}", heard.noise));
    }
    if heard.without != 0 {
        wrong.insert(format!("{} PCs came without the handle", heard.without));
    }
    if wrong.is_empty() {
        Ok(())
    } else {
        let wrong: Vec<String> = wrong.into_iter().collect();
        Err(wrong.join("\n").into())
    }
}

/// Where the test module's markers are.
#[derive(Clone, Copy)]
pub(crate) struct Markers {
    first: u64,
    stride: u64,
    count: u64,
}

impl Markers {
    /// As the module tells it. For guests.
    pub(crate) fn read() -> Result<Self> {
        let facts = fs::read_to_string(TEST_MODULE).map_err(|e| format!("{TEST_MODULE}: {e}"))?;
        let line = facts.lines().find_map(|l| l.strip_prefix("markers "));
        Self::parse(line.ok_or("the test module has no markers")?)
    }

    fn parse(line: &str) -> Result<Self> {
        let mut words = line.split(' ');
        let mut next = || words.next().ok_or("a bad line of markers");
        let (count, first, stride) = (next()?, next()?, next()?);
        Ok(Self {
            first: hexadecimal(first).ok_or("a bad PC of a marker")?,
            stride: stride.parse()?,
            count: count.parse()?,
        })
    }

    /// Which marker a PC is of.
    pub(crate) fn index(self, pc: u64) -> Option<u64> {
        let index = pc.checked_sub(self.first)? / self.stride;
        (index < self.count).then_some(index)
    }
}

impl fmt::Display for Markers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:#x} {}", self.count, self.first, self.stride)
    }
}

/// What the guest's half prints.
struct Heard {
    markers: Markers,
    /// PCs of the subject's listener.
    pcs: Vec<u64>,
    /// PCs of the noise's listener.
    noise: Vec<u64>,
    /// Rounds of noise.
    rounds: u64,
    /// PCs of who listened to another handle, or whose worker it was not.
    without: u64,
}

impl Heard {
    fn parse(printed: &str) -> Result<Self> {
        let lines = |word: &'static str| {
            let line = move |line: &'_ str| -> Option<String> {
                Some(line.strip_prefix(word)?.strip_prefix(' ')?.to_owned())
            };
            printed.lines().filter_map(line)
        };
        let one = |word| {
            lines(word)
                .next()
                .ok_or(format!("the guest said no {word}"))
        };
        Ok(Self {
            markers: Markers::parse(&one("markers")?)?,
            pcs: lines("heard").filter_map(|pc| hexadecimal(&pc)).collect(),
            noise: lines("noise").filter_map(|pc| hexadecimal(&pc)).collect(),
            rounds: one("rounds")?.parse()?,
            without: one("without")?.parse()?,
        })
    }
}

pub(crate) fn common(instance: u32) -> Option<CommonHandle> {
    Handle::new(Subsystem::COMMON, instance).and_then(CommonHandle::new)
}

/// Listens to sections while `work` is done, and answers the PCs that came.
fn listen(
    common: Option<CommonHandle>,
    handle: Option<Handle>,
    work: impl FnOnce(&Device) -> io::Result<()>,
) -> io::Result<Vec<u64>> {
    let kcov = Device::open(WORDS)?;
    kcov.enable_remote(TraceMode::Pc, WORDS, handle.as_slice(), common)?;
    let done = work(&kcov);
    let pcs = kcov.pcs();
    kcov.disable()?;
    done.map(|()| pcs)
}

/// The hub's work, in the guest.
pub(crate) fn usb_inside() -> Result<()> {
    let bus = hardware::dummy_bus()?;
    let (its, another) = (bus, bus + 100);
    let plug = |kcov: &Device, something: bool| {
        drop(UsbDevice::plug()?);
        hardware::hear(kcov, something)
    };
    let heard = amid_noise(|| {
        listen(None, Handle::new(Subsystem::USB, its), |kcov| {
            plug(kcov, true)
        })
    })?;
    let without = listen(None, Handle::new(Subsystem::USB, another), |kcov| {
        plug(kcov, false)
    })?;
    print(&heard, &without);
    Ok(())
}

/// A worker's work, in the guest.
pub(crate) fn vhost_inside() -> Result<()> {
    const FRAMES: usize = 50;
    let work = || {
        let mut vhost = Vhost::new()?;
        (0..FRAMES).try_for_each(|_| vhost.send())
    };
    let heard = amid_noise(|| {
        listen(common(WORKER), None, |kcov| {
            work()?;
            hardware::hear(kcov, true)
        })
    })?;
    // Someone listens to that handle, but it is not the worker's maker's.
    let (ready, is_ready) = mpsc::channel();
    let (done, is_done) = mpsc::channel();
    let listener = thread::spawn(move || {
        listen(common(WORKER), None, |kcov| {
            // The other end is gone only if that thread failed.
            let _ = ready.send(());
            let _ = is_done.recv();
            hardware::hear(kcov, false)
        })
    });
    is_ready.recv()?;
    work()?;
    done.send(())?;
    let without = listener.join().map_err(|_| "the listener panicked")??;
    print(&heard, &without);
    Ok(())
}

fn print(heard: &[u64], without: &[u64]) {
    for pc in heard {
        println!("heard {pc:#x}");
    }
    println!("without {}", without.len());
}

/// Does something while the test module runs code of others, and says how much of that there was.
fn amid_noise<T>(work: impl FnOnce() -> io::Result<T>) -> Result<T> {
    static DONE: AtomicBool = AtomicBool::new(false);
    println!("markers {}", Markers::read()?);

    let (ready, is_ready) = mpsc::channel();
    let noise = thread::spawn(move || -> io::Result<(u64, Vec<u64>)> {
        let mut rounds = 0;
        let pcs = listen(common(NOISE), None, |_| {
            let mut module = OpenOptions::new().write(true).open(TEST_MODULE)?;
            // The other end is gone only if that thread failed.
            let _ = ready.send(());
            while !DONE.load(Ordering::Acquire) && rounds < 20_000 {
                for line in ROUND {
                    io::Write::write_all(&mut module, line.as_bytes())?;
                }
                rounds += 1;
            }
            io::Write::write_all(&mut module, b"kthread 3 end")
        })?;
        Ok((rounds, pcs))
    });
    let _ = is_ready.recv();
    let done = work();
    DONE.store(true, Ordering::Release);
    let (rounds, pcs) = noise.join().map_err(|_| "the noise panicked")??;
    println!("rounds {rounds}");
    for pc in pcs {
        println!("noise {pc:#x}");
    }
    Ok(done?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_guest_prints_is_understood() {
        let printed =
            "markers 1024 0x1005 16\nrounds 2\nnoise 0x22c5\nheard 0x9\nheard 0x1015\nwithout 0\n";
        let heard = Heard::parse(printed).unwrap();
        assert_eq!((heard.rounds, heard.without), (2, 0));
        assert_eq!(heard.pcs, [9, 0x1015]);
        assert_eq!(heard.markers.index(9), None);
        assert_eq!(heard.markers.index(0x1015), Some(1));
        assert_eq!(heard.markers.index(heard.noise[0]), Some(300));
        assert_eq!(heard.markers.index(0x1005 + 1024 * 16), None);
        assert!(Heard::parse("rounds 2\nwithout 0\n").is_err());
    }
}
