// SPDX-License-Identifier: MIT OR Apache-2.0
//! Stress: processes that use kcov in every way at once, each of which knows what it may and must get.
//!
//! Every role is a process with markers of its own. What is checked throughout:
//! - a client of a handle gets only markers of its sections, and those of its own sections in order;
//! - a task that records itself gets its own markers and nobody else's, also when softirqs with
//!   sections of others interrupt it;
//! - after a client was killed, its handles are free as soon as it has been waited for;
//! - whatever a hostile client writes over its count, its buffer has only its records in it;
//! - nobody stands still, and the kernel does not complain;
//! - memory returns to where it was.

use crate::guest::{Guest, Kernel, Result};
use crate::subjects::{common, Markers, TEST_MODULE};
use rkcov_abi::{CommonHandle, Handle, Subsystem, TraceMode};
use rkcov_linux::Device;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::process::exit;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Stress in a guest.
#[derive(clap::Args)]
pub(crate) struct Stress {
    #[command(flatten)]
    kernel: Kernel,
    /// The duration in minutes, on the guest's clock
    #[arg(long, default_value_t = 30)]
    minutes: u64,
    /// The seed of random choices
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// What the guest may take beyond that, at least: on a busy machine its clock is slow, too.
const MARGIN: Duration = Duration::from_secs(600);
/// A role that has done nothing for so long stands still.
const STANDSTILL: Duration = Duration::from_secs(120);
/// What memory may vary by itself: stacks of threads are of the same sort.
const MEMORY_NOISE: u64 = 4 << 20;
/// Words of every buffer.
const WORDS: u32 = 4096;
const AREA: u32 = 512;
/// Markers of each role: the first for sections in threads, then those in softirqs and works.
const RANGE: u64 = 32;
const IN_SOFTIRQ: u64 = 8;
const IN_WORK: u64 = 16;

/// The roles, of which each is a process.
const ROLES: [(&str, Play); 10] = [
    ("local", local),
    ("local", local),
    ("client", client),
    ("client", client),
    ("client", client),
    ("churn", churn),
    ("kill", kill),
    ("kill", kill),
    ("hostile", hostile),
    ("errors", errors),
];

/// One round of a role.
type Play = fn(&mut Role) -> Checked;

/// What a role found to be wrong, or what it could not do.
type Checked = std::result::Result<(), String>;

/// Boots, and passes on what the guest says.
pub(crate) fn run(stress: &Stress) -> Result<()> {
    let mut guest = Guest::new(&stress.kernel)?;
    let lasts = Duration::from_secs(stress.minutes * 60);
    guest.limit = lasts + lasts / 2 + MARGIN;
    let [minutes, seed] = [stress.minutes, stress.seed].map(|n| n.to_string());
    print!("{}", guest.inside(&["stress", &minutes, &seed], &[])?);
    Ok(())
}

/// A process of the stress.
struct Role {
    number: usize,
    markers: Markers,
    /// Counts what it has done; the others' too.
    done: &'static [AtomicU64],
    random: u64,
    module: File,
}

/// In the guest.
pub(crate) fn inside(minutes: u64, seed: u64) -> Result<()> {
    let markers = Markers::read()?;
    let done = shared()?;
    let before = memory()?;
    let end = Instant::now() + Duration::from_secs(minutes * 60);
    let mut pids = Vec::new();
    for (number, (name, play)) in ROLES.iter().enumerate() {
        // SAFETY: this process has one thread.
        match unsafe { libc::fork() } {
            -1 => return Err(io::Error::last_os_error().into()),
            0 => {
                let played = Role::new(number, markers, done, seed);
                if let Err(wrong) = played.and_then(|role| role.play(*play)) {
                    eprintln!("{name} {number}: {wrong}");
                }
                exit(1);
            }
            pid => pids.push(pid),
        }
    }
    let watched = watch(&pids, done, end);
    for pid in &pids {
        // SAFETY: a child of ours that was not waited for, or is gone: nobody else has its number.
        unsafe {
            libc::kill(*pid, libc::SIGKILL);
            libc::waitpid(*pid, ptr::null_mut(), 0);
        }
    }
    watched?;
    // Threads of the module stay otherwise.
    for number in 0..ROLES.len() {
        let _ = module()?.write_all(format!("kthread {number} end").as_bytes());
    }
    for ((name, _), done) in ROLES.iter().zip(done) {
        println!("{name}: {} rounds", done.load(Ordering::Relaxed));
    }
    let drops = |what| fs::read_to_string(format!("/sys/kernel/debug/kcov_drops/{what}"));
    for what in ["full", "stale", "no_area"] {
        // The C kcov counts none.
        if let Ok(count) = drops(what) {
            println!("dropped, {what}: {}", count.trim());
        }
    }
    thread::sleep(Duration::from_secs(2));
    let after = memory()?;
    println!("memory: {before} bytes before, {after} after");
    if after > before + MEMORY_NOISE {
        return Err("memory did not return to where it was".into());
    }
    Ok(())
}

/// Waits to the end, or until a role ends or stands still.
fn watch(pids: &[i32], done: &[AtomicU64], end: Instant) -> Result<()> {
    let mut seen: Vec<(u64, Instant)> = done.iter().map(|_| (0, Instant::now())).collect();
    let mut reported = Instant::now();
    while Instant::now() < end {
        thread::sleep(Duration::from_secs(1));
        for ((pid, (name, _)), (seen, done)) in
            pids.iter().zip(ROLES).zip(seen.iter_mut().zip(done))
        {
            // SAFETY: a child of ours.
            if unsafe { libc::waitpid(*pid, ptr::null_mut(), libc::WNOHANG) } != 0 {
                return Err(format!("{name} ended").into());
            }
            let now = done.load(Ordering::Relaxed);
            if now != seen.0 {
                *seen = (now, Instant::now());
            } else if seen.1.elapsed() > STANDSTILL {
                return Err(format!("{name} stands still").into());
            }
        }
        if reported.elapsed() > Duration::from_secs(60) {
            reported = Instant::now();
            let rounds: Vec<u64> = seen.iter().map(|(rounds, _)| *rounds).collect();
            eprintln!("{rounds:?}");
        }
    }
    Ok(())
}

fn module() -> io::Result<File> {
    OpenOptions::new().write(true).open(TEST_MODULE)
}

/// Counters that all processes share.
fn shared() -> Result<&'static [AtomicU64]> {
    let bytes = ROLES.len() * size_of::<AtomicU64>();
    // SAFETY: new memory that stays.
    unsafe {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
        let at = libc::mmap(ptr::null_mut(), bytes, protection, flags, -1, 0);
        if at == libc::MAP_FAILED {
            return Err(io::Error::last_os_error().into());
        }
        Ok(std::slice::from_raw_parts(at.cast(), ROLES.len()))
    }
}

/// Bytes of the sort of memory that buffers and areas are of.
fn memory() -> Result<u64> {
    let text = fs::read_to_string("/proc/meminfo")?;
    let line = text.lines().find_map(|l| l.strip_prefix("VmallocUsed:"));
    let kib = line.and_then(|l| l.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
    Ok(kib.ok_or("no VmallocUsed")? * 1024)
}

fn said(what: &'static str) -> impl Fn(io::Error) -> String {
    move |error| format!("{what}: {error}")
}

/// The handles of a role: of a bus, and a common one.
fn handles(role: usize) -> (Handle, CommonHandle) {
    let instance = 0x500 + role as u32;
    let bus = Handle::new(Subsystem::USB, instance);
    let both = bus.zip(common(instance));
    both.expect("32 bits fit")
}

fn first(role: usize) -> u64 {
    role as u64 * RANGE
}

impl Role {
    fn new(
        number: usize,
        markers: Markers,
        done: &'static [AtomicU64],
        seed: u64,
    ) -> std::result::Result<Self, String> {
        Ok(Self {
            number,
            markers,
            done,
            random: (seed << 8 | number as u64 | 1).wrapping_mul(0x9e37_79b9_7f4a_7c15),
            module: module().map_err(said("the test module"))?,
        })
    }

    /// Plays until something is wrong.
    fn play(mut self, play: Play) -> Checked {
        loop {
            play(&mut self)?;
            self.progress();
        }
    }

    /// A number below `limit`, by xorshift.
    fn below(&mut self, limit: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % limit
    }

    fn run(&mut self, line: &str) -> Checked {
        let run = self.module.write_all(line.as_bytes());
        run.map_err(|error| format!("`{line}`: {error}"))
    }

    /// A section for some role, as the test module reads it.
    fn section_of_another(&mut self, offset: u64) -> String {
        let other = self.below(ROLES.len() as u64) as usize;
        let (bus, common) = handles(other);
        let handle = if self.below(2) == 0 {
            bus
        } else {
            common.handle()
        };
        format!(
            "start {:#x} pcs {} 3 stop",
            handle.raw(),
            first(other) + offset
        )
    }

    /// All of these are markers of this role's.
    fn own(&self, pcs: &[u64]) -> Checked {
        let own = first(self.number)..first(self.number) + RANGE;
        let is_own = |pc: &&u64| self.markers.index(**pc).is_some_and(|m| own.contains(&m));
        match pcs.iter().find(|pc| !is_own(pc)) {
            Some(pc) => Err(format!(
                "{pc:#x} (marker {:?}) is not its",
                self.markers.index(*pc)
            )),
            None => Ok(()),
        }
    }

    fn progress(&self) {
        self.done[self.number].fetch_add(1, Ordering::Relaxed);
    }

    fn open(&self) -> std::result::Result<Device, String> {
        Device::open(WORDS).map_err(said("opening"))
    }
}

fn listen(kcov: &Device, role: usize) -> Checked {
    let (bus, common) = handles(role);
    kcov.enable_remote(TraceMode::Pc, AREA, &[bus], Some(common))
        .map_err(said("enabling"))
}

/// Records itself, while softirqs with sections of others interrupt it.
fn local(role: &mut Role) -> Checked {
    let kcov = role.open()?;
    for _ in 0..50 {
        kcov.enable(TraceMode::Pc).map_err(said("enabling"))?;
        let at = first(role.number);
        let section = role.section_of_another(IN_SOFTIRQ);
        role.run(&format!(
            "run pcs {at} 7 softirq {{ {section} }} pcs {} 7",
            at + 7
        ))?;
        kcov.disable().map_err(said("disabling"))?;
        let pcs = kcov.pcs();
        let seen: Vec<u64> = pcs
            .iter()
            .filter_map(|pc| role.markers.index(*pc))
            .collect();
        if pcs.len() + 1 < WORDS as usize && !seen.iter().copied().eq(at..at + 14) {
            return Err(format!("markers {seen:?} of its {at}.."));
        }
        kcov.clear();
        role.progress();
    }
    Ok(())
}

/// Listens to its handles, and has sections of its own run in a kernel thread.
fn client(role: &mut Role) -> Checked {
    let kcov = role.open()?;
    listen(&kcov, role.number)?;
    let (bus, common) = handles(role.number);
    let at = first(role.number);
    for round in 0..50 {
        kcov.clear();
        let handle = if round % 2 == 0 { bus } else { common.handle() };
        let number = role.number;
        let other = role.section_of_another(IN_SOFTIRQ);
        role.run(&format!(
            "kthread {number} run start {:#x} pcs {at} 5 stop softirq {{ {other} }}",
            handle.raw()
        ))?;
        let pcs = kcov.pcs();
        role.own(&pcs)?;
        let markers: Vec<u64> = pcs
            .iter()
            .filter_map(|pc| role.markers.index(*pc))
            .collect();
        let whole = markers.windows(5).any(|w| w.iter().copied().eq(at..at + 5));
        if pcs.len() + 8 < WORDS as usize && !whole {
            return Err(format!("its section {at}.. is not in {markers:?}"));
        }
        let other = role.section_of_another(IN_WORK);
        role.run(&format!("run work {{ {other} }}"))?;
        role.progress();
    }
    kcov.disable().map_err(said("disabling"))
}

/// Enables and disables, and closes while enabled and while sections run, as fast as it can. Closing
/// while enabled ends nothing: the task is the owner until it ends, so a thread does it.
fn churn(role: &mut Role) -> Checked {
    let number = role.number;
    let close = role.below(2) == 0;
    let rounds = 1 + role.below(20);
    let kcov = role.open()?;
    let churned = thread::scope(|scope| {
        let churner = scope.spawn(move || -> std::result::Result<Vec<u64>, String> {
            for _ in 0..rounds {
                listen(&kcov, number)?;
                thread::yield_now();
                kcov.disable().map_err(said("disabling"))?;
            }
            let pcs = kcov.pcs();
            if close {
                listen(&kcov, number)?;
                drop(kcov);
            }
            Ok(pcs)
        });
        let (bus, _) = handles(number);
        let at = first(number);
        while !churner.is_finished() {
            role.run(&format!(
                "kthread {number} run start {:#x} pcs {at} 20 stop softirq {{ start {:#x} pcs {at} 20 stop }}",
                bus.raw(),
                bus.raw()
            ))?;
            role.progress();
        }
        churner.join().map_err(|_| "it panicked".to_owned())?
    })?;
    role.own(&churned)
}

/// Makes a client with threads and kills it at any point; then its handles are free.
fn kill(role: &mut Role) -> Checked {
    let me = std::process::id();
    // SAFETY: this process has one thread.
    let child = match unsafe { libc::fork() } {
        -1 => return Err(said("fork")(io::Error::last_os_error())),
        0 => {
            // Not to outlive this role.
            // SAFETY: no pointers.
            unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
            if std::os::unix::process::parent_id() == me {
                let _ = victim(role);
            }
            exit(0)
        }
        child => child,
    };
    let pause = role.below(30);
    thread::sleep(Duration::from_millis(pause));
    // SAFETY: a child of ours that was not waited for.
    unsafe {
        libc::kill(child, libc::SIGKILL);
        libc::waitpid(child, ptr::null_mut(), 0);
    }
    let kcov = role.open()?;
    listen(&kcov, role.number)?;
    let (number, at) = (role.number, first(role.number));
    let (bus, _) = handles(number);
    role.run(&format!(
        "kthread {number} run start {:#x} pcs {at} 5 stop",
        bus.raw()
    ))?;
    role.own(&kcov.pcs())?;
    kcov.disable().map_err(said("disabling"))
}

fn victim(role: &mut Role) -> Checked {
    let (number, at) = (role.number, first(role.number));
    let (bus, _) = handles(number);
    let kcov = role.open()?;
    listen(&kcov, number)?;
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| -> Checked {
                let own = Device::open(WORDS).map_err(said("opening"))?;
                loop {
                    own.enable(TraceMode::Pc).map_err(said("enabling"))?;
                    let mut module = module().map_err(said("the module"))?;
                    let line = format!(
                        "run pcs {at} 9 softirq {{ start {:#x} pcs {at} 9 stop }}",
                        bus.raw()
                    );
                    module.write_all(line.as_bytes()).map_err(said(""))?;
                    own.disable().map_err(said("disabling"))?;
                }
            });
        }
        let line = format!(
            "kthread {number} run start {:#x} pcs {at} 30 stop",
            bus.raw()
        );
        loop {
            role.run(&line)?;
        }
    })
}

/// Writes over its count without end, while its sections are merged; only its own records are ever
/// in its buffer.
fn hostile(role: &mut Role) -> Checked {
    let kcov = role.open()?;
    listen(&kcov, role.number)?;
    let (bus, common) = handles(role.number);
    let at = first(role.number);
    let stop = AtomicBool::new(false);
    let words = kcov.words();
    let mut random = role.below(u64::MAX) | 1;
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                random = random
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                let size = u64::from(WORDS);
                let edges = [
                    u64::MAX,
                    0,
                    size,
                    size - 1,
                    size - 2,
                    1 << 63,
                    1 << 32,
                    random,
                    random % size,
                ];
                words[0].store(
                    edges[(random >> 33) as usize % edges.len()],
                    Ordering::Relaxed,
                );
            }
        });
        let played = (0..200).try_for_each(|_| {
            let number = role.number;
            role.progress();
            role.run(&format!(
                "kthread {number} run start {:#x} pcs {at} 30 stop softirq {{ start {:#x} pcs {at} 30 stop }}",
                bus.raw(),
                common.handle().raw()
            ))
        });
        stop.store(true, Ordering::Relaxed);
        played
    })?;
    kcov.disable().map_err(said("disabling"))?;
    let written: Vec<u64> = words[1..]
        .iter()
        .map(|word| word.load(Ordering::Relaxed))
        .filter(|word| *word != 0)
        .collect();
    role.own(&written)
}

/// Calls that fail, each of which leaves everything as it was.
fn errors(role: &mut Role) -> Checked {
    let fails = |what: &str, done: io::Result<()>, errno: i32| match done {
        Err(error) if error.raw_os_error() == Some(errno) => Ok(()),
        other => Err(format!("{what}: {other:?}")),
    };
    let (one, two) = (role.open()?, role.open()?);
    let (bus, common) = handles(role.number);
    fails("disabled", one.disable(), libc::EINVAL)?;
    listen(&one, role.number)?;
    fails(
        "second",
        two.enable_remote(TraceMode::Pc, AREA, &[], None),
        libc::EBUSY,
    )?;
    fails(
        "again",
        one.enable_remote(TraceMode::Pc, AREA, &[], None),
        libc::EINVAL,
    )?;
    let (taken, refused) = thread::scope(|scope| {
        let another = scope.spawn(|| {
            let free: Vec<Handle> = (0..200)
                .filter_map(|i| Handle::new(Subsystem::USB, 0x9000 + i))
                .collect();
            let with_taken: Vec<Handle> = free.iter().copied().chain([bus]).collect();
            let taken = two.enable_remote(TraceMode::Pc, AREA, &with_taken, None);
            let refused = two.enable_remote(TraceMode::Pc, AREA, &free, Some(common));
            (taken, refused)
        });
        another.join().map_err(|_| "it panicked".to_owned())
    })?;
    fails("a taken handle", taken, libc::EEXIST)?;
    fails("a taken common handle", refused, libc::EEXIST)?;
    one.disable().map_err(said("disabling"))
}
