// SPDX-License-Identifier: MIT OR Apache-2.0
//! The kcov of a kernel: a device file, and the test module beside it if there is one.

use std::fs::{self, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rkcov_model::{Need, Nesting, Step, Task, Traits, Trouble};

use super::device::{self, Device, Mapping};
use super::Setup;

/// Where Linux has its kcov.
pub const DEVICE: &str = "/sys/kernel/debug/kcov";
/// Where the test module is.
pub const TEST_MODULE: &str = "/sys/kernel/debug/rkcov_test";
/// The counters of dropped records, one file each.
const DROPS: &str = "/sys/kernel/debug/kcov_drops";

/// A live host on the kernel's kcov at this path.
///
/// # Errors
/// If this program cannot find itself.
pub fn setup(device: &Path) -> Result<Setup, Trouble> {
    let program = std::env::current_exe().map_err(|e| Trouble::Broken(e.to_string()))?;
    let_all_fail();
    let mut agent = Command::new(program);
    agent.arg("agent").arg("--device").arg(device);
    let kernel = |name: &str| Traits {
        name: name.into(),
        nesting: Nesting::Refuse,
        comparisons: true,
        unique: false,
        exact: false,
        markers: 0,
        first_index: 0,
        softirq_area: 0x40000,
        softirq_areas: 0,
        memory_noise: MEMORY_NOISE,
        patience: Some(PATIENCE),
        lacks: Default::default(),
    };
    let traits = kernel("device")
        .lacking(&[Need::Signal], "a signal is nothing to a kernel's kcov")
        .lacking(&[Need::Nesting], "sections in each other are refused")
        .lacking(&[Need::Unique], "this kernel is not built with guards")
        .lacking(&[Need::Exact], "system calls are recorded too");
    Ok(Setup { agent, traits })
}

/// How long a case may repeat itself: in a guest that is emulated each round takes a hundred times
/// as long as on the machine itself.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a kernel's memory varies by itself, in bytes: threads and their stacks are of the same sorts.
const MEMORY_NOISE: u64 = 1 << 20;

/// Bytes of the sorts of memory that kcov has: buffers and areas, and descriptors and references.
fn memory() -> Result<u64, Trouble> {
    shrink_slabs();
    let text = fs::read_to_string("/proc/meminfo").map_err(|e| Trouble::Broken(e.to_string()))?;
    let bytes = |sort: &str| {
        let line = text.lines().find_map(|l| l.strip_prefix(sort));
        let kib = line.and_then(|l| l.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
        kib.map(|kib| kib * 1024)
            .ok_or_else(|| Trouble::Lacks(Need::Memory, format!("no {sort} in /proc/meminfo")))
    };
    Ok(bytes("VmallocUsed:")? + bytes("SUnreclaim:")?)
}

/// Has a kernel, if it can be told to, give back the objects that were freed but are still held: KASAN
/// keeps them for a while, to see accesses that come late.
fn shrink_slabs() {
    let slabs = fs::read_dir("/sys/kernel/slab").into_iter().flatten();
    for slab in slabs.flatten() {
        let _ = fs::write(slab.path().join("shrink"), "1");
    }
}

/// Unless it is told otherwise, a kernel with fault injection spares what may sleep, single pages and
/// what could be in high memory: all that kcov allocates. Where there is none, there is nothing to
/// tell.
fn let_all_fail() {
    for (file, value) in [
        ("failslab/ignore-gfp-wait", "N"),
        ("failslab/verbose", "0"),
        ("fail_page_alloc/ignore-gfp-wait", "N"),
        ("fail_page_alloc/ignore-gfp-highmem", "N"),
        ("fail_page_alloc/min-order", "0"),
        ("fail_page_alloc/verbose", "0"),
    ] {
        let _ = fs::write(Path::new("/sys/kernel/debug").join(file), value);
    }
}

fn warnings() -> Result<u64, Trouble> {
    let path = "/sys/kernel/warn_count";
    let text = fs::read_to_string(path)
        .map_err(|e| Trouble::Lacks(Need::Warnings, format!("{path}: {e}")))?;
    text.trim()
        .parse()
        .map_err(|_| Trouble::Broken(format!("{path} says {text}")))
}

/// The kernel's kcov, as an agent has it.
pub struct KernelDevice {
    path: PathBuf,
    module: Option<Module>,
    lacks: Vec<(Need, String)>,
    /// What was dropped before.
    dropped: [u64; 3],
}

/// What the test module says of itself.
struct Module {
    facts: Vec<String>,
    contexts: Vec<String>,
}

impl KernelDevice {
    /// The kcov at this path.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        let module = fs::read_to_string(TEST_MODULE).ok().map(|text| {
            let mut module = Module {
                facts: Vec::new(),
                contexts: Vec::new(),
            };
            for line in text.lines() {
                match line.split_once(' ') {
                    Some(("context", word)) => module.contexts.push(word.into()),
                    Some(("markers", _)) => module.facts.push(line.into()),
                    Some(_) => module.facts.push(format!("site {line}")),
                    None => {}
                }
            }
            module
        });
        Self {
            path,
            lacks: lacks(module.as_ref()),
            dropped: dropped().unwrap_or_default(),
            module,
        }
    }

    /// Writes a line to the test module and reads what the code saw.
    fn module(&self, line: &str) -> Result<Vec<u64>, Trouble> {
        let broken = |what: &str| {
            let line = line.to_owned();
            let what = what.to_owned();
            move |error: std::io::Error| Trouble::Broken(format!("{what} `{line}`: {error}"))
        };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(TEST_MODULE)
            .map_err(|e| Trouble::Lacks(Need::Sections, format!("{TEST_MODULE}: {e}")))?;
        file.write_all(line.as_bytes()).map_err(broken("writing"))?;
        if !line.contains("common") {
            return Ok(Vec::new());
        }
        let mut text = String::new();
        file.seek(SeekFrom::Start(0)).map_err(broken("after"))?;
        file.read_to_string(&mut text).map_err(broken("after"))?;
        let seen = text.lines().filter_map(|l| l.strip_prefix("common "));
        Ok(seen.filter_map(rkcov_agent::wire::number).collect())
    }
}

/// What this kernel does not have.
fn lacks(module: Option<&Module>) -> Vec<(Need, String)> {
    let mut lacks = Vec::new();
    match module {
        None => {
            let needs = [
                Need::Sections,
                Need::Markers,
                Need::Comparisons,
                Need::Softirq,
                Need::Hardirq,
                Need::KernelThreads,
            ];
            let why = format!("there is no {TEST_MODULE}");
            lacks.extend(needs.map(|need| (need, why.clone())));
        }
        Some(module) => {
            let contexts = [
                (Need::Softirq, "softirq"),
                (Need::Hardirq, "hardirq"),
                (Need::KernelThreads, "kthread"),
            ];
            for (need, word) in contexts {
                if !module.contexts.iter().any(|c| c == word) {
                    lacks.push((need, format!("the test module has no {word}")));
                }
            }
        }
    }
    if let Err(error) = fs::metadata(DROPS) {
        lacks.push((Need::Drops, format!("{DROPS}: {error}")));
    }
    let fail = "/proc/self/fail-nth";
    if let Err(error) = fs::metadata(fail) {
        lacks.push((Need::Failures, format!("{fail}: {error}")));
    }
    if std::thread::available_parallelism().is_ok_and(|n| n.get() == 1) {
        let why = "on one processor nothing changes in the middle of a call".into();
        lacks.push((Need::Races, why));
    }
    if !can_call_as_32_bits() {
        let why = "this kernel has no 32-bit calls".into();
        lacks.push((Need::Client32, why));
    }
    if fs::metadata("/dev/raw-gadget").is_err() || fs::metadata("/dev/vhost-net").is_err() {
        let why = "there is no /dev/raw-gadget or no /dev/vhost-net".into();
        lacks.push((Need::Hardware, why));
    }
    if std::env::var_os(crate::world::PROGRAMS).is_none() {
        let why = format!("{} does not say where they are", crate::world::PROGRAMS);
        lacks.push((Need::Programs, why));
    }
    lacks
}

/// The counters of dropped records: full, stale, no area.
pub(super) fn dropped() -> Result<[u64; 3], Trouble> {
    let mut counters = [0; 3];
    for (counter, name) in counters.iter_mut().zip(["full", "stale", "no_area"]) {
        let path = format!("{DROPS}/{name}");
        let text = fs::read_to_string(&path)
            .map_err(|e| Trouble::Lacks(Need::Drops, format!("{path}: {e}")))?;
        *counter = rkcov_agent::wire::number(text.trim())
            .ok_or_else(|| Trouble::Broken(format!("{path} says {text}")))?;
    }
    Ok(counters)
}

/// Where it is written which allocation of the test module's thread with this number is to fail, and
/// read how many are left until it does.
fn fail_nth_of(number: &str) -> Result<PathBuf, Trouble> {
    let broken = |e: std::io::Error| Trouble::Broken(format!("/proc: {e}"));
    let name = format!("rkcov_test/{number}");
    for entry in fs::read_dir("/proc").map_err(broken)? {
        let process = entry.map_err(broken)?.path();
        if fs::read_to_string(process.join("comm")).is_ok_and(|comm| comm.trim() == name) {
            let tid = process.file_name().unwrap_or_default();
            return Ok(process.join("task").join(tid).join("fail-nth"));
        }
    }
    Err(Trouble::Broken(format!("there is no thread {name}")))
}

fn fail_in_thread(number: &str, nth: &str) -> Result<Vec<u64>, Trouble> {
    let path = fail_nth_of(number)?;
    let lacks = |e| Trouble::Lacks(Need::Failures, format!("{}: {e}", path.display()));
    fs::write(&path, nth).map_err(lacks)?;
    Ok(Vec::new())
}

/// Whether what was to fail did: 1, or 0 if there were not so many allocations. From now on none fails.
fn failed_in_thread(number: &str) -> Result<Vec<u64>, Trouble> {
    let path = fail_nth_of(number)?;
    let broken = |e: std::io::Error| Trouble::Broken(format!("{}: {e}", path.display()));
    let left = fs::read_to_string(&path).map_err(broken)?;
    fs::write(&path, "0").map_err(broken)?;
    Ok(vec![u64::from(left.trim() == "0")])
}

/// Steps as the module reads them: handles as numbers.
fn raw_steps(steps: &[Step], line: &mut String) {
    for step in steps {
        match step {
            Step::Start(handle) => line.push_str(&format!(" start {handle:#x}")),
            Step::Interrupt(context, steps) => {
                line.push_str(&format!(" {} {{", context.word()));
                raw_steps(steps, line);
                line.push_str(" }");
            }
            other => line.push_str(&format!(" {other}")),
        }
    }
}

impl Device for KernelDevice {
    fn describe(&self) -> String {
        let facts = self.module.iter().flat_map(|m| m.facts.iter().cloned());
        let lacks = self
            .lacks
            .iter()
            .map(|(need, why)| format!("lacks {need} {why}"));
        facts.chain(lacks).collect::<Vec<_>>().join(";")
    }

    fn open(&self) -> Result<i32, i32> {
        let path = std::ffi::CString::new(self.path.as_os_str().as_encoded_bytes())
            .map_err(|_| libc::ENOENT)?;
        // SAFETY: a path.
        match unsafe { libc::open(path.as_ptr(), libc::O_RDWR) } {
            -1 => Err(device::errno()),
            fd => Ok(fd),
        }
    }

    fn close(&self, fd: i32) {
        // SAFETY: opened above, and forgotten by the agent.
        unsafe { libc::close(fd) };
    }

    fn ioctl(&self, fd: i32, number: u32, arg: usize) -> Result<(), i32> {
        // SAFETY: a kcov reads at most its argument, and a bad address is its to refuse.
        match unsafe { libc::ioctl(fd, libc::c_ulong::from(number), arg) } {
            -1 => Err(device::errno()),
            _ => Ok(()),
        }
    }

    fn ioctl32(&self, fd: i32, number: u32, arg: usize) -> Result<Result<(), i32>, Trouble> {
        let answer = ioctl_as_32_bits(fd, number, arg as u32);
        Ok(if answer < 0 { Err(-answer) } else { Ok(()) })
    }

    fn map(&self, fd: i32, len: usize, offset: u64, writable: bool) -> Result<Mapping, i32> {
        let protection = if writable {
            libc::PROT_READ | libc::PROT_WRITE
        } else {
            libc::PROT_READ
        };
        // SAFETY: a new mapping, anywhere.
        unsafe {
            let base = libc::mmap(
                std::ptr::null_mut(),
                len,
                protection,
                libc::MAP_SHARED,
                fd,
                offset as libc::off_t,
            );
            Mapping::from_mmap(base, len)
        }
    }

    fn run(&self, steps: &[Step]) -> Result<Vec<u64>, Trouble> {
        let mut line = String::from("run");
        raw_steps(steps, &mut line);
        self.module(&line)
    }

    fn kernel_thread(&self, line: &str) -> Result<Vec<u64>, Trouble> {
        // `kthread K fail N` and `kthread K failed` are for the kernel itself.
        match line.split_whitespace().collect::<Vec<_>>()[..] {
            [_, number, "fail", nth] => return fail_in_thread(number, nth),
            [_, number, "failed"] => return failed_in_thread(number),
            _ => {}
        }
        // `kthread K end`, or `kthread K run STEP...` as scripts have it.
        let Some((head, steps)) = line.split_once(" run") else {
            return self.module(line);
        };
        let run = format!("t0 run {steps}");
        match rkcov_model::script::parse_op(&run) {
            Ok(rkcov_model::Op::Act(_, rkcov_model::Act::Run(steps))) => {
                let mut line = format!("{head} run");
                raw_steps(&steps, &mut line);
                self.module(&line)
            }
            _ => Err(Trouble::Broken(format!("not steps: {steps}"))),
        }
    }

    fn drops(&self, _: i32) -> Result<Vec<u64>, Trouble> {
        // Those of all descriptors: the suite runs one case at a time.
        let now = dropped()?;
        Ok(now
            .iter()
            .zip(self.dropped)
            .map(|(now, before)| now - before)
            .collect())
    }

    fn memory(&self) -> Result<u64, Trouble> {
        memory()
    }

    fn warnings(&self) -> Result<u64, Trouble> {
        warnings()
    }

    fn failing<T>(&self, nth: u32, f: impl FnOnce() -> T) -> Result<(T, bool), Trouble> {
        let path = "/proc/thread-self/fail-nth";
        let lacks = |e: std::io::Error| Trouble::Lacks(Need::Failures, format!("{path}: {e}"));
        let mut file = OpenOptions::new().read(true).write(true).open(path);
        let file = file
            .as_mut()
            .map_err(|e| Trouble::Lacks(Need::Failures, format!("{path}: {e}")))?;
        let line = nth.to_string();
        file.write_all(line.as_bytes()).map_err(lacks)?;
        let value = f();
        // What is left of the count: 0 if it came to its end.
        let mut left = [0; 16];
        let n = file.read(&mut left).map_err(lacks)?;
        let failed = left[..n].starts_with(b"0");
        file.write_all(b"0").map_err(lacks)?;
        Ok((value, failed))
    }

    fn exec(&self, socket: &Path, task: Task, files: &str) -> String {
        let Ok(program) = std::env::current_exe() else {
            return "this program cannot find itself".into();
        };
        let error = Command::new(program)
            .arg("agent")
            .arg("--device")
            .arg(&self.path)
            .arg("--files")
            .arg(files)
            .arg(socket)
            .arg(task.to_string())
            .exec();
        error.to_string()
    }
}

/// `ioctl()` through the entry for 32-bit programs. The answer is a negated error number or not
/// negative.
fn ioctl_as_32_bits(fd: i32, number: u32, arg: u32) -> i32 {
    call_as_32_bits(54, fd as u32, number, arg)
}

/// Whether the kernel answers 32-bit calls. One that does not kills who makes them, or takes the
/// number for that of a 64-bit call, as User Mode Linux does.
fn can_call_as_32_bits() -> bool {
    const GETPID: u32 = 20;
    device::survives(|| {
        let (pid, _) = device::ids();
        if call_as_32_bits(GETPID, 0, 0, 0) as u32 != pid {
            std::process::abort();
        }
    })
}

/// A call through the entry for 32-bit programs, by its number there.
#[cfg(target_arch = "x86_64")]
fn call_as_32_bits(call: u32, first: u32, second: u32, third: u32) -> i32 {
    let answer: i32;
    // SAFETY: the kernel's entry for 32-bit calls changes nothing but eax and, on some kernels,
    // r8 to r11. ebx is the compiler's own, so it is put back.
    unsafe {
        std::arch::asm!(
            "xchg rbx, {first}",
            "int 0x80",
            "xchg rbx, {first}",
            first = inout(reg) u64::from(first) => _,
            inlateout("eax") call => answer,
            in("ecx") second,
            in("edx") third,
            out("r8") _, out("r9") _, out("r10") _, out("r11") _,
        );
    }
    answer
}

#[cfg(not(target_arch = "x86_64"))]
fn call_as_32_bits(_: u32, _: u32, _: u32, _: u32) -> i32 {
    -libc::ENOSYS
}
