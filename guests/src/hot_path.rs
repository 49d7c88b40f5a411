// SPDX-License-Identifier: MIT OR Apache-2.0
//! What callbacks take: the time of a system call with much code, with either kcov, in User Mode Linux, whose kernel runs natively.

use crate::guest::{Guest, Kernel, Result};
use rkcov_abi::TraceMode;
use rkcov_linux::{Arch, Checks, Device, Kcov};
use std::fmt::Write as _;
use std::fs;
use std::io::{self, PipeReader};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Instant;

/// Which kernels, and how often.
#[derive(clap::Args)]
pub(crate) struct HotPath {
    /// How often each kernel is booted
    #[arg(long, default_value_t = 21)]
    boots: u32,
    /// The tree to build both kernels from, in the place of Debian's Linux 6.12
    #[arg(long, value_name = "DIR")]
    tree: Option<PathBuf>,
    /// Write guests/results/hot-path.csv, of which `cargo xtask hot-path --write` makes a table
    #[arg(long)]
    write: bool,
}

/// System calls in each state in each boot.
const CALLS: usize = 200;
/// Descriptors of one call. A process may have 1,024.
const DESCRIPTORS: usize = 1000;
/// Words of a buffer with room for all that one call records.
const WORDS: u32 = 1 << 18;
/// Words of a buffer that is full from the begin, by its count.
const FULL: u32 = 512;

/// What the task collects.
const STATES: [(&str, Option<(TraceMode, u32)>); 5] = [
    ("idle", None),
    ("pc", Some((TraceMode::Pc, WORDS))),
    ("pc-full", Some((TraceMode::Pc, FULL))),
    ("comparison", Some((TraceMode::Cmp, WORDS))),
    ("comparison-full", Some((TraceMode::Cmp, FULL))),
];

/// Boots both kernels in turn, and prints a row for each state.
pub(crate) fn run(args: &HotPath) -> Result<()> {
    let guest = |kcov| {
        Guest::new(&Kernel {
            arch: Arch::Uml,
            kcov,
            checks: Checks::Plain,
            tree: args.tree.clone(),
            config: Vec::new(),
            inside: None,
        })
    };
    let kernels = [("c", guest(Kcov::C)?), ("rust", guest(Kcov::Rust)?)];
    let mut rows = String::from("boot,kcov,release,state,callbacks,nanoseconds\n");
    print!("{rows}");
    for boot in 0..args.boots {
        for (kcov, guest) in &kernels {
            for line in guest.inside(&["hot-path"], &[])?.lines() {
                let row = format!("{boot},{kcov},{line}");
                println!("{row}");
                writeln!(rows, "{row}")?;
            }
        }
    }
    if args.write {
        let results = Path::new(env!("CARGO_MANIFEST_DIR")).join("results");
        fs::write(results.join("hot-path.csv"), rows)?;
    }
    Ok(())
}

/// In the guest: a line for each state, with the median of its calls.
pub(crate) fn inside() -> Result<()> {
    let kcovs = STATES
        .iter()
        .map(|(_, state)| state.map(|(_, words)| Device::open(words)).transpose())
        .collect::<io::Result<Vec<_>>>()?;
    let (pipe, _end) = io::pipe()?;
    let mut times = vec![Vec::new(); STATES.len()];
    let mut callbacks = vec![0; STATES.len()];
    for _ in 0..CALLS {
        for (i, (_, state)) in STATES.iter().enumerate() {
            let (Some((mode, words)), Some(kcov)) = (state, &kcovs[i]) else {
                times[i].push(poll(&pipe)?);
                continue;
            };
            kcov.enable(*mode)?;
            if *words == FULL {
                // More than there is room for, of PCs as of comparisons.
                kcov.words()[0].store(u64::from(FULL), Ordering::Relaxed);
            } else {
                kcov.clear();
            }
            let time = poll(&pipe);
            let count = kcov.count();
            kcov.disable()?;
            times[i].push(time?);
            callbacks[i] = count;
        }
    }
    // A full buffer does not tell how many found no room: as many as were recorded with room.
    callbacks[2] = callbacks[1];
    callbacks[4] = callbacks[3];
    let release = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let release = release.trim_end();
    for (((name, _), times), callbacks) in STATES.iter().zip(&mut times).zip(callbacks) {
        times.sort_unstable();
        println!("{release},{name},{callbacks},{}", times[times.len() / 2]);
    }
    Ok(())
}

/// Nanoseconds of one call.
fn poll(pipe: &PipeReader) -> io::Result<u64> {
    let mut descriptors = [libc::pollfd {
        fd: pipe.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    }; DESCRIPTORS];
    let begin = Instant::now();
    // SAFETY: there are so many descriptors.
    let ready = unsafe { libc::poll(descriptors.as_mut_ptr(), DESCRIPTORS as libc::nfds_t, 0) };
    let time = begin.elapsed();
    match ready {
        0.. => Ok(time.as_nanos() as u64),
        _ => Err(io::Error::last_os_error()),
    }
}
