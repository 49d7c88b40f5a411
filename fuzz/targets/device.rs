// SPDX-License-Identifier: MIT OR Apache-2.0
//! The kcov of this process, as the library that programs are linked with has it: real threads, files
//! and mappings do what a history says. Each answer, and each word of the buffers after it, is what
//! the reference model says; at the end nothing is left.
//!
//! The library is loaded beside libFuzzer, which has callbacks of the same names. Histories are those
//! of one process: what forks, kills, interrupts and failures do is for the target `calls`.
#![no_main]

use std::collections::BTreeMap;
use std::ffi::{c_char, c_int, c_ulong, c_void, CString};
use std::mem;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};
use std::sync::mpsc::{channel, Receiver, Sender};
use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use rkcov_abi::ioctl;
use rkcov_conformance::bytes;
use rkcov_model::host::Site;
use rkcov_model::{
    script, Act, Call, Context, Drops, File, Host, Map, Model, Op, Outcome, RemoteCall, Spawn,
    Step, Task, Traits,
};

/// Markers, which have the guards 1, 2 and so on.
const MARKERS: u32 = 64;
const PAGE: usize = 4096;
/// What tables may grow to, beyond what the first history left.
const GROWTH: u64 = 256 << 10;

// Places that call a callback: markers, comparisons (four sizes, then with a constant), switches.
std::arch::global_asm!(
    ".macro fuzz_site callback",
    "    .p2align 5",
    "    sub rsp, 8",
    "    call qword ptr [rip + \\callback]",
    "    add rsp, 8",
    "    ret",
    ".endm",
    ".text",
    ".p2align 5",
    ".globl fuzz_sites",
    "fuzz_sites:",
    ".rept 64",
    "    fuzz_site {callbacks}",
    ".endr",
    ".set fuzz_callback, 8",
    ".rept 9",
    "    fuzz_site {callbacks}+fuzz_callback",
    "    .set fuzz_callback, fuzz_callback + 8",
    ".endr",
    ".rept 4",
    "    fuzz_site {callbacks}+fuzz_callback - 8",
    ".endr",
    callbacks = sym CALLBACKS,
);

extern "C" {
    static fuzz_sites: [[u8; 32]; 77];
}

/// The callbacks of the library: that of markers, eight comparisons, the switch.
static CALLBACKS: [AtomicPtr<c_void>; 10] = [const { AtomicPtr::new(ptr::null_mut()) }; 10];
const NAMES: [&str; 10] = [
    "__sanitizer_cov_trace_pc_guard",
    "__sanitizer_cov_trace_cmp1",
    "__sanitizer_cov_trace_cmp2",
    "__sanitizer_cov_trace_cmp4",
    "__sanitizer_cov_trace_cmp8",
    "__sanitizer_cov_trace_const_cmp1",
    "__sanitizer_cov_trace_const_cmp2",
    "__sanitizer_cov_trace_const_cmp4",
    "__sanitizer_cov_trace_const_cmp8",
    "__sanitizer_cov_trace_switch",
];
/// Where the sites of comparisons and of switches begin.
const COMPARISONS: usize = MARKERS as usize;
const SWITCHES: usize = COMPARISONS + 8;
/// Bytes of `sub` and `call`: what a callback takes for its caller's PC is behind them.
const CALL: u64 = 4 + 6;
/// Bits of a switch's value, and a number that is none.
const BITS: [u64; 5] = [8, 16, 32, 64, 7];

fn site(number: usize) -> u64 {
    // SAFETY: an address is all that is taken.
    unsafe { (&raw const fuzz_sites[number]) as u64 }
}

/// What the model calls a PC that the library recorded.
fn simulated(pc: u64) -> Option<u64> {
    let offset = pc.checked_sub(site(0) + CALL).filter(|o| o % 32 == 0)?;
    let number = usize::try_from(offset / 32).ok()?;
    let site = match number {
        0..COMPARISONS => Site::Marker(number as u32),
        COMPARISONS..SWITCHES => {
            let (log2, constant) = ((number - COMPARISONS) % 4, number - COMPARISONS >= 4);
            Site::Compare {
                log2: log2 as u8,
                constant,
            }
        }
        _ => Site::Switch {
            bits: *BITS.get(number - SWITCHES)?,
        },
    };
    Some(site.simulated_pc())
}

type Routine = unsafe extern "C" fn(*mut c_void) -> *mut c_void;

/// The library's interface, as `rkcov.h` declares it.
struct Library {
    open: unsafe extern "C" fn() -> c_int,
    ioctl: unsafe extern "C" fn(c_int, c_ulong, c_ulong) -> c_int,
    mmap: unsafe extern "C" fn(*mut c_void, usize, c_int, c_int, c_int, i64) -> *mut c_void,
    close: unsafe extern "C" fn(c_int) -> c_int,
    drops: unsafe extern "C" fn(c_int, *mut [u64; 4]) -> c_int,
    usage: unsafe extern "C" fn(*mut u64, *mut u64),
    start: unsafe extern "C" fn(u64),
    stop: unsafe extern "C" fn(),
    common: unsafe extern "C" fn() -> u64,
    create: unsafe extern "C" fn(
        *mut libc::pthread_t,
        *const libc::pthread_attr_t,
        Routine,
        *mut c_void,
    ) -> c_int,
    /// libc's own: the address sanitizer's knows nothing of threads that the library made.
    join: unsafe extern "C" fn(libc::pthread_t, *mut *mut c_void) -> c_int,
    /// Two pages, the second of which cannot be read.
    argument: usize,
}

fn library() -> &'static Library {
    static LIBRARY: OnceLock<Library> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a folder");
        rkcov_artifacts::install(folder.path()).expect("the library");
        let path = folder.path().join(rkcov_artifacts::LIBRARY.name);
        let path = CString::new(path.to_str().expect("a path")).expect("a path");
        // SAFETY: a library and names of it, whose types are as declared above.
        unsafe {
            let handle = libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL);
            assert!(!handle.is_null(), "the library cannot be loaded");
            let find = |name: &str| {
                let name = CString::new(name).expect("a name");
                let found = libc::dlsym(handle, name.as_ptr().cast::<c_char>());
                assert!(!found.is_null(), "{name:?} is missing");
                found
            };
            for (place, name) in CALLBACKS.iter().zip(NAMES) {
                place.store(find(name), Ordering::Relaxed);
            }
            let libc = libc::dlopen(c"libc.so.6".as_ptr(), libc::RTLD_NOW);
            let join = libc::dlsym(libc, c"pthread_join".as_ptr());
            assert!(!join.is_null(), "libc has no pthread_join()");
            let (all, none) = (libc::PROT_READ | libc::PROT_WRITE, libc::PROT_NONE);
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            let argument = libc::mmap(ptr::null_mut(), 2 * PAGE, all, flags, -1, 0);
            assert_ne!(argument, libc::MAP_FAILED);
            assert_eq!(libc::mprotect(argument.byte_add(PAGE), PAGE, none), 0);
            Library {
                open: mem::transmute(find("rkcov_open")),
                ioctl: mem::transmute(find("rkcov_ioctl")),
                mmap: mem::transmute(find("rkcov_mmap")),
                close: mem::transmute(find("rkcov_close")),
                drops: mem::transmute(find("rkcov_drops")),
                usage: mem::transmute(find("rkcov_usage")),
                start: mem::transmute(find("kcov_remote_start")),
                stop: mem::transmute(find("kcov_remote_stop")),
                common: mem::transmute(find("kcov_common_handle")),
                create: mem::transmute(find("pthread_create")),
                join: mem::transmute(join),
                argument: argument as usize,
            }
        }
    })
}

/// What a thread is told.
enum Word {
    /// A call, whose answer is 0 or an errno.
    Open,
    Close(c_int),
    Ioctl(c_int, u32, u64),
    Map(c_int, usize, i64),
    Run(Vec<Step>),
    /// To make a thread.
    Spawn(Receiver<Word>, Sender<Answer>),
}

/// What it answers: a number and an errno, or common handles.
enum Answer {
    Number(i64, c_int),
    Words(Vec<u64>),
    Thread(libc::pthread_t),
}

struct Thread {
    words: Sender<Word>,
    answers: Receiver<Answer>,
    id: libc::pthread_t,
}

type Ends = (Receiver<Word>, Sender<Answer>);

/// A thread that does what it is told.
///
/// # Safety
/// `ends` is a box of [`Ends`] that nobody else has.
unsafe extern "C" fn thread(ends: *mut c_void) -> *mut c_void {
    // SAFETY: what `create()` boxed for this thread.
    let (words, answers) = *unsafe { Box::from_raw(ends.cast::<Ends>()) };
    for word in words {
        if answers.send(obey(word)).is_err() {
            break;
        }
    }
    ptr::null_mut()
}

/// Makes a thread that inherits what the calling one has to give.
fn create(words: Receiver<Word>, answers: Sender<Answer>) -> libc::pthread_t {
    let ends: Box<Ends> = Box::new((words, answers));
    let mut id = 0;
    // SAFETY: the thread takes over the box.
    let made =
        unsafe { (library().create)(&mut id, ptr::null(), thread, Box::into_raw(ends).cast()) };
    assert_eq!(made, 0, "no thread");
    id
}

fn obey(word: Word) -> Answer {
    let library = library();
    let number = |n: c_int| {
        let errno = std::io::Error::last_os_error().raw_os_error();
        Answer::Number(n.into(), errno.unwrap_or(0))
    };
    // SAFETY: the interface's contracts: addresses are ours, or are to be refused.
    unsafe {
        match word {
            Word::Open => number((library.open)()),
            Word::Close(fd) => number((library.close)(fd)),
            Word::Ioctl(fd, request, argument) => {
                number((library.ioctl)(fd, request.into(), argument))
            }
            Word::Map(fd, len, offset) => {
                let access = libc::PROT_READ | libc::PROT_WRITE;
                let shared = libc::MAP_SHARED;
                let at = (library.mmap)(ptr::null_mut(), len, access, shared, fd, offset);
                let errno = std::io::Error::last_os_error().raw_os_error();
                Answer::Number(at as i64, errno.unwrap_or(0))
            }
            Word::Run(steps) => {
                let mut seen = Vec::new();
                run(library, &steps, &mut seen);
                Answer::Words(seen)
            }
            Word::Spawn(words, answers) => Answer::Thread(create(words, answers)),
        }
    }
}

/// # Safety
/// As the library's functions.
unsafe fn run(library: &Library, steps: &[Step], seen: &mut Vec<u64>) {
    let call = |number: usize, a: u64, b: u64| {
        // SAFETY: a site is a function that passes two words on.
        let function: unsafe extern "C" fn(u64, u64) = unsafe { mem::transmute(site(number)) };
        // SAFETY: the arguments are those of the site's callback.
        unsafe { function(a, b) };
    };
    for step in steps {
        // SAFETY: the caller's contract.
        unsafe {
            match step {
                Step::Start(handle) => (library.start)(*handle),
                Step::Stop => (library.stop)(),
                Step::CommonHandle => seen.push((library.common)()),
                Step::Pcs { first, count } => {
                    for marker in *first..first + count {
                        let guard = marker + 1;
                        call(marker as usize, &raw const guard as u64, 0);
                    }
                }
                Step::Compare {
                    log2,
                    constant,
                    arg1,
                    arg2,
                } => {
                    let number = usize::from(*log2) + 4 * usize::from(*constant);
                    call(COMPARISONS + number, *arg1, *arg2);
                }
                Step::Switch { bits, value, cases } => {
                    let table = [&[cases.len() as u64, *bits], &cases[..]].concat();
                    let number = BITS.iter().position(|b| b == bits).expect("known bits");
                    call(SWITCHES + number, *value, table.as_ptr() as u64);
                }
                // To a kcov, a signal handler is the task itself.
                Step::Interrupt(_, steps) => run(library, steps, seen),
            }
        }
    }
}

/// A mapping of a buffer.
struct Mapping {
    at: *const AtomicU64,
    words: usize,
}

/// The process, as a history sees it.
#[derive(Default)]
struct Process {
    threads: BTreeMap<Task, Thread>,
    /// Files, with the words of their buffers.
    files: BTreeMap<File, (c_int, usize)>,
    maps: BTreeMap<Map, Mapping>,
}

impl Process {
    fn new() -> Self {
        let mut this = Self::default();
        let (words, receiver) = channel();
        let (sender, answers) = channel();
        let id = create(receiver, sender);
        this.threads.insert(Task(0), Thread { words, answers, id });
        this
    }

    fn ask(&self, task: Task, word: Word) -> Answer {
        let thread = &self.threads[&task];
        thread.words.send(word).expect("the thread listens");
        thread.answers.recv().expect("the thread answers")
    }

    fn call(&self, task: Task, word: Word) -> Result<i64, Outcome> {
        match self.ask(task, word) {
            Answer::Number(-1, errno) => Err(Outcome::Failed(errno)),
            Answer::Number(number, _) => Ok(number),
            _ => unreachable!("an answer to another question"),
        }
    }

    fn end(&mut self, task: Task) -> Outcome {
        let Some(Thread { words, id, .. }) = self.threads.remove(&task) else {
            return Outcome::Absent;
        };
        drop(words);
        // SAFETY: a thread that nobody has joined.
        assert_eq!(unsafe { (library().join)(id, ptr::null_mut()) }, 0);
        Outcome::Done
    }

    fn apply(&mut self, op: &Op) -> Outcome {
        match op {
            Op::Spawn { by, child, .. } => {
                if !self.threads.contains_key(by) || self.threads.contains_key(child) {
                    return Outcome::Absent;
                }
                let (words, receiver) = channel();
                let (sender, answers) = channel();
                let Answer::Thread(id) = self.ask(*by, Word::Spawn(receiver, sender)) else {
                    unreachable!("a thread was asked for");
                };
                let thread = Thread { words, answers, id };
                self.threads.insert(*child, thread);
                Outcome::Done
            }
            Op::End(task) => self.end(*task),
            Op::Act(task, act) if self.threads.contains_key(task) => {
                self.act(*task, act).unwrap_or_else(|outcome| outcome)
            }
            _ => Outcome::Absent,
        }
    }

    fn act(&mut self, task: Task, act: &Act) -> Result<Outcome, Outcome> {
        let file = |file: &File| self.files.get(file).copied().ok_or(Outcome::Absent);
        match act {
            Act::Open(name) => {
                if file(name).is_ok() {
                    return Err(Outcome::Absent);
                }
                let fd = self.call(task, Word::Open)? as c_int;
                assert!(fd < 200, "files are left open");
                self.files.insert(*name, (fd, 0));
            }
            Act::Close(name) => {
                let (fd, _) = file(name)?;
                self.call(task, Word::Close(fd))?;
                self.files.remove(name);
            }
            Act::Ioctl(name, call) | Act::Ioctl32(name, call) => {
                let (fd, _) = file(name)?;
                let of_32_bits = matches!(act, Act::Ioctl32(..));
                let (number, argument) = call.request(of_32_bits, lay_out);
                self.call(task, Word::Ioctl(fd, number, argument))?;
                if matches!(number, ioctl::KCOV_INIT_TRACE | ioctl::KCOV_INIT_TRACE_32) {
                    self.files.insert(*name, (fd, argument as usize));
                }
            }
            Act::Map {
                file: name,
                map,
                len,
                offset,
                ..
            } => {
                let (fd, words) = file(name)?;
                if self.maps.contains_key(map) {
                    return Err(Outcome::Absent);
                }
                let at = self.call(task, Word::Map(fd, *len as usize, *offset as i64))?;
                let at = at as *const AtomicU64;
                self.maps.insert(*map, Mapping { at, words });
            }
            Act::Unmap(map) => {
                let Mapping { at, words } = self.maps.remove(map).ok_or(Outcome::Absent)?;
                unmap(at, words);
            }
            Act::Poke { map, word, value } => {
                let mapping = self.maps.get(map).ok_or(Outcome::Absent)?;
                let word = mapping.words().get(*word as usize).ok_or(Outcome::Absent)?;
                word.store(*value, Ordering::Relaxed);
            }
            Act::Run(steps) => match self.ask(task, Word::Run(steps.clone())) {
                Answer::Words(words) if !words.is_empty() => return Ok(Outcome::Words(words)),
                _ => {}
            },
            Act::Read { .. } | Act::Watch(_) => return Err(Outcome::Absent),
        }
        Ok(Outcome::Done)
    }

    /// All buffers, as the model would have them.
    fn words(&self) -> BTreeMap<Map, Vec<u64>> {
        let plain = |word: &AtomicU64| {
            let word = word.load(Ordering::Acquire);
            simulated(word).unwrap_or(word)
        };
        let maps = self.maps.iter();
        maps.map(|(map, mapping)| (*map, mapping.words().iter().map(plain).collect()))
            .collect()
    }

    fn drops(&self, name: File) -> Drops {
        let (fd, _) = self.files[&name];
        let mut drops = [0; 4];
        // SAFETY: a place for four counters.
        assert_eq!(unsafe { (library().drops)(fd, &mut drops) }, 0);
        let [full, stale, no_area, _] = drops;
        Drops {
            full,
            stale,
            no_area,
        }
    }
}

impl Mapping {
    fn words(&self) -> &[AtomicU64] {
        // SAFETY: the buffer, which is mapped as long as this is in the process's list.
        unsafe { std::slice::from_raw_parts(self.at, self.words) }
    }
}

fn unmap(at: *const AtomicU64, words: usize) {
    let bytes = (words * 8).next_multiple_of(PAGE);
    // SAFETY: a mapping of ours.
    assert_eq!(unsafe { libc::munmap(at.cast_mut().cast(), bytes) }, 0);
}

impl Drop for Process {
    fn drop(&mut self) {
        let tasks: Vec<Task> = self.threads.keys().copied().collect();
        for task in tasks {
            self.end(task);
        }
        for (fd, _) in self.files.values() {
            // SAFETY: a file of ours.
            assert_eq!(unsafe { (library().close)(*fd) }, 0);
        }
        for Mapping { at, words } in self.maps.values() {
            unmap(*at, *words);
        }
    }
}

/// Writes the argument so that what cannot be read of it lies on the page that cannot be.
fn lay_out(call: &RemoteCall) -> u64 {
    let mut bytes = call.bytes();
    bytes.truncate(call.readable_bytes() as usize);
    let at = library().argument + PAGE - bytes.len();
    // SAFETY: within the page that can be written.
    unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), at as *mut u8, bytes.len()) };
    at as u64
}

/// What of a history one process can do.
fn keep(op: Op) -> Option<Op> {
    Some(match op {
        Op::Spawn { by, child, .. } => Op::Spawn {
            by,
            how: Spawn::Thread,
            child,
        },
        Op::End(task) if task != Task(0) => op,
        Op::Act(task, act) => Op::Act(task, keep_act(act)?),
        Op::Begin { task, acts, .. } => Op::Act(task, keep_act(acts.into_iter().next()?)?),
        _ => return None,
    })
}

fn keep_act(act: Act) -> Option<Act> {
    let keep_call = |call| match call {
        // Nobody changes the argument here.
        Call::Remote(call) => Call::Remote(RemoteCall { then: None, ..call }),
        // Where nothing is mapped.
        Call::Raw { number, arg } if number == ioctl::KCOV_REMOTE_ENABLE => Call::Raw {
            number,
            arg: arg % 4096,
        },
        call => call,
    };
    Some(match act {
        Act::Ioctl(file, call) => Act::Ioctl(file, keep_call(call)),
        Act::Ioctl32(file, call) => Act::Ioctl32(file, keep_call(call)),
        Act::Run(steps) => Act::Run(steps.into_iter().map(keep_step).collect()),
        Act::Read { .. } | Act::Watch(_) => return None,
        // `mmap()` itself refuses what is longer than memory.
        Act::Map { len, .. } if len >> 47 != 0 => return None,
        act => act,
    })
}

fn keep_step(step: Step) -> Step {
    match step {
        Step::Pcs { first, count } => Step::Pcs {
            first: first % 32,
            count: count % 33,
        },
        Step::Switch { bits, value, cases } if !BITS.contains(&bits) => Step::Switch {
            bits: BITS[bits as usize % BITS.len()],
            value,
            cases,
        },
        Step::Interrupt(_, steps) => {
            let steps = steps.into_iter().map(keep_step).collect();
            Step::Interrupt(Context::Signal, steps)
        }
        step => step,
    }
}

fn usage() -> (u64, u64) {
    let (mut bytes, mut handles) = (0, 0);
    // SAFETY: places of ours.
    unsafe { (library().usage)(&mut bytes, &mut handles) };
    (bytes, handles)
}

fn traits() -> Traits {
    Traits {
        first_index: 1,
        markers: MARKERS,
        ..Traits::userspace("device")
    }
}

fuzz_target!(|data: &[u8]| {
    let ops: Vec<Op> = bytes::decode(data).1.into_iter().filter_map(keep).collect();
    // What stays is made by the first who opens a kcov.
    static FIRST: OnceLock<u64> = OnceLock::new();
    let first = *FIRST.get_or_init(|| {
        // SAFETY: a file that is closed once.
        assert_eq!(unsafe { (library().close)((library().open)()) }, 0);
        usage().0
    });
    let mut model = Model::new(traits());
    let mut process = Process::new();
    for (at, op) in ops.iter().enumerate() {
        let was = process.apply(op);
        let should = model.apply(op).expect("the model can do all");
        let told = || script::print(&ops[..=at]);
        assert!(
            was == should,
            "{}# the process: {was}; the model: {should}",
            told()
        );
        for (map, was) in process.words() {
            let (first, count) = (0, was.len() as u64);
            let read = Op::Act(Task(0), Act::Read { map, first, count });
            let should = match model.apply(&read) {
                Ok(Outcome::Words(words)) => words,
                other => panic!("{}# {map:?}: the model says {other:?}", told()),
            };
            let differs = was
                .iter()
                .zip(&should)
                .position(|(was, should)| was != should);
            if let Some(word) = differs {
                let (was, should) = (was[word], should[word]);
                let at = format!("word {word} of {map:?}");
                panic!(
                    "{}# {at}, the process: {was:#x}; the model: {should:#x}",
                    told()
                );
            }
        }
    }
    for name in process.files.keys() {
        let should = model.drops(Task(0), *name).expect("the file is open");
        let told = || script::print(&ops);
        assert!(process.drops(*name) == should, "{}# {should:?}", told());
    }
    drop(process);
    let (bytes, handles) = usage();
    assert_eq!(handles, 0, "handles are left: {}", script::print(&ops));
    assert!(bytes <= first + GROWTH, "{bytes} bytes are left of {first}");
});
