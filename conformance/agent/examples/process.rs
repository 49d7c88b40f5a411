// SPDX-License-Identifier: MIT OR Apache-2.0
//! The kcov of this process through the crate `rkcov`: an agent of the conformance suite.
//!
//! What the crate can say is said through it. Arguments that its types rule out, and calls in the
//! wrong order that its guards rule out, go to the functions of `rkcov.h`.
//!
//! The runtime and `subject.S` are linked into the program by the suite's tests, and found by name.

use rkcov::kcov::{
    common_handle, section, Buffer, Collecting, CommonHandle, Error, Handle, Kcov, RemoteOptions,
    Section, TraceMode, Words,
};
use rkcov_agent::device::{self, Device, Mapping};
use rkcov_model::{Call, Context, Need, RemoteCall, Step, Task, Trouble};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::ffi::{c_int, c_ulong, c_void, CStr, CString};
use std::fmt::Write as _;
use std::mem::{self, ManuallyDrop};
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::ptr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

const PAGE: usize = 4096;
const MARKERS: usize = 1024;

/// Where a name of the program is.
fn place(name: &CStr) -> *mut c_void {
    // SAFETY: a handle and a name for `dlsym()`.
    let at = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
    assert!(!at.is_null(), "{name:?} is not in this program");
    at
}

/// # Safety
/// `F` is a pointer to functions, and the one of this name has its type.
unsafe fn function<F: Copy>(name: &CStr) -> F {
    // SAFETY: the caller's contract.
    unsafe { mem::transmute_copy(&place(name)) }
}

/// `rkcov.h`, for what the crate cannot say.
struct Below {
    ioctl: unsafe extern "C" fn(c_int, c_ulong, c_ulong) -> c_int,
    mmap: unsafe extern "C" fn(*mut c_void, usize, c_int, c_int, c_int, libc::off_t) -> *mut c_void,
    close: unsafe extern "C" fn(c_int) -> c_int,
    usage: unsafe extern "C" fn(*mut u64, *mut u64),
    start: unsafe extern "C" fn(u64),
    stop: unsafe extern "C" fn(),
}

/// `subject.S`.
struct Subject {
    markers: usize,
    stride: usize,
    first_pc: usize,
    switch: unsafe extern "C" fn(u64, *const u64),
}

/// What the process has open and mapped through the crate.
#[derive(Default)]
struct Things {
    kcovs: HashMap<i32, Opened>,
    buffers: HashMap<usize, Buffer>,
}

#[derive(Clone)]
struct Opened {
    kcov: Arc<Kcov>,
    words: Option<Words>,
}

struct Process {
    below: Below,
    subject: Subject,
    things: Mutex<Things>,
}

thread_local! {
    /// What this thread has enabled. Never dropped: a thread may end without a `KCOV_DISABLE`.
    static COLLECTING: RefCell<HashMap<*const Kcov, ManuallyDrop<Collecting<'static>>>> =
        RefCell::default();
    /// The sections that this thread has begun, `None` for those without a guard; nor are these.
    static SECTIONS: RefCell<Vec<Option<ManuallyDrop<Section>>>> = RefCell::default();
    /// What the next signal handler is to run.
    static IN_HANDLER: Cell<*mut InHandler> = const { Cell::new(ptr::null_mut()) };
}

struct InHandler {
    process: *const Process,
    steps: *const [Step],
    seen: *mut Vec<u64>,
    result: Result<(), Trouble>,
}

extern "C" fn handle(_: c_int) {
    let what = IN_HANDLER.get();
    // SAFETY: `interrupt()` has put it there, and waits in `raise()`.
    unsafe {
        let seen = &mut *(*what).seen;
        (*what).result = (*(*what).process).steps(&*(*what).steps, seen);
    }
}

fn lacks<T>(need: Need, why: &str) -> Result<T, Trouble> {
    Err(Trouble::Lacks(need, why.into()))
}

fn raw<T>(result: Result<T, Error>) -> Result<T, i32> {
    result.map_err(|error| error.raw_os_error().unwrap_or(libc::EIO))
}

impl Process {
    fn new() -> Self {
        let (first, second) = (place(c"subject_markers"), place(c"subject_second_marker"));
        // SAFETY: `rkcov.h` and `subject.S` declare each with the type of its field.
        let (below, switch) = unsafe {
            let below = Below {
                ioctl: function(c"rkcov_ioctl"),
                mmap: function(c"rkcov_mmap"),
                close: function(c"rkcov_close"),
                usage: function(c"rkcov_usage"),
                start: function(c"kcov_remote_start"),
                stop: function(c"kcov_remote_stop"),
            };
            (below, function(c"subject_switch"))
        };
        Self {
            below,
            subject: Subject {
                markers: first as usize,
                stride: second as usize - first as usize,
                first_pc: place(c"subject_pc_marker") as usize,
                switch,
            },
            things: Mutex::default(),
        }
    }

    fn things(&self) -> MutexGuard<'_, Things> {
        self.things.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn opened(&self, fd: i32) -> Option<Opened> {
        self.things().kcovs.get(&fd).cloned()
    }

    /// Keeps what a call has enabled until it is disabled.
    fn keep(kcov: &Arc<Kcov>, enabled: Result<Collecting<'_>, Error>) -> Result<(), i32> {
        let collecting = raw(enabled)?;
        // SAFETY: it is used again only in `disable()`, whose caller has the very `Kcov`, or one
        // that has come to stand in its place.
        let collecting =
            unsafe { mem::transmute::<Collecting<'_>, Collecting<'static>>(collecting) };
        COLLECTING.with_borrow_mut(|all| {
            all.insert(Arc::as_ptr(kcov), ManuallyDrop::new(collecting));
        });
        Ok(())
    }

    fn disable(kcov: &Arc<Kcov>) -> Option<Result<(), i32>> {
        let kept = COLLECTING.with_borrow_mut(|all| all.remove(&Arc::as_ptr(kcov)));
        kept.map(|kept| raw(ManuallyDrop::into_inner(kept).disable()))
    }

    fn start(&self, handle: u64) {
        let guard = Handle::from_raw(handle).map(|handle| ManuallyDrop::new(section(handle)));
        if guard.is_none() {
            // SAFETY: takes any number.
            unsafe { (self.below.start)(handle) };
        }
        SECTIONS.with_borrow_mut(|all| all.push(guard));
    }

    fn stop(&self) {
        match SECTIONS.with_borrow_mut(Vec::pop).flatten() {
            Some(guard) => drop(ManuallyDrop::into_inner(guard)),
            // SAFETY: takes nothing.
            None => unsafe { (self.below.stop)() },
        }
    }

    fn compare(log2: u8, constant: bool, arg1: u64, arg2: u64) -> Result<(), Trouble> {
        let name = format!(
            "subject_{}cmp{}",
            if constant { "const_" } else { "" },
            1 << log2
        );
        let name = CString::new(name).map_err(|e| Trouble::Broken(e.to_string()))?;
        // SAFETY: it takes two integers of at most this size, each in a register.
        unsafe {
            let site: unsafe extern "C" fn(u64, u64) = function(&name);
            site(arg1, arg2);
        }
        Ok(())
    }

    /// Runs steps in a signal handler on top of this.
    fn interrupt(&self, steps: &[Step], seen: &mut Vec<u64>) -> Result<(), Trouble> {
        let mut what = InHandler {
            process: self,
            steps,
            seen,
            result: Ok(()),
        };
        let outer = IN_HANDLER.replace(&raw mut what);
        // SAFETY: the handler runs in `raise()`, of which everything that it uses is the caller's.
        unsafe {
            let mut action: libc::sigaction = mem::zeroed();
            action.sa_sigaction = handle as extern "C" fn(c_int) as usize;
            action.sa_flags = libc::SA_NODEFER;
            libc::sigaction(libc::SIGUSR1, &action, ptr::null_mut());
            libc::raise(libc::SIGUSR1);
        }
        IN_HANDLER.set(outer);
        what.result
    }

    fn steps(&self, steps: &[Step], seen: &mut Vec<u64>) -> Result<(), Trouble> {
        for step in steps {
            match step {
                Step::Start(handle) => self.start(*handle),
                Step::Stop => self.stop(),
                Step::Pcs { first, count } => {
                    for i in *first as usize..(*first + *count) as usize {
                        let marker = self.subject.markers + i % MARKERS * self.subject.stride;
                        // SAFETY: there stands a function without arguments.
                        unsafe { mem::transmute::<usize, extern "C" fn()>(marker)() };
                    }
                }
                Step::Compare {
                    log2,
                    constant,
                    arg1,
                    arg2,
                } => Self::compare(*log2, *constant, *arg1, *arg2)?,
                Step::Switch { bits, value, cases } => {
                    let mut table = vec![cases.len() as u64, *bits];
                    table.extend(cases);
                    // SAFETY: a table as compilers make them.
                    unsafe { (self.subject.switch)(*value, table.as_ptr()) };
                }
                Step::CommonHandle => {
                    seen.push(common_handle().map_or(0, |common| common.handle().raw()));
                }
                Step::Interrupt(Context::Signal, steps) => self.interrupt(steps, seen)?,
                Step::Interrupt(context, _) => {
                    return lacks((*context).into(), "a process has none");
                }
            }
        }
        Ok(())
    }
}

/// What the crate's types can say of an argument of `KCOV_REMOTE_ENABLE`.
fn options(call: &RemoteCall) -> Option<RemoteOptions> {
    let is_honest = (&call.claim, &call.then, &call.readable) == (&None, &None, &None);
    let handles: Option<Vec<_>> = call.handles.iter().map(|h| Handle::from_raw(*h)).collect();
    let common = match call.common {
        0 => None,
        raw => Some(CommonHandle::new(Handle::from_raw(raw)?)?),
    };
    is_honest.then_some(RemoteOptions {
        mode: TraceMode::from_raw(call.mode.into())?,
        area: Words::new(call.area.into())?,
        handles: handles?,
        common,
    })
}

impl Device for Process {
    fn describe(&self) -> String {
        let subject = &self.subject;
        // SAFETY: the number of the first marker's guard, which was given before `main()`.
        let first_index = unsafe { place(c"subject_guards").cast::<u32>().read() };
        let mut facts = format!(
            "suspends;exact;markers {MARKERS} {:#x} {};unique {first_index}",
            subject.first_pc, subject.stride
        );
        for log2 in 0..4 {
            let bytes = 1 << log2;
            for (constant, prefix) in ["", "const_"].iter().enumerate() {
                let name = CString::new(format!("subject_pc_{prefix}cmp{bytes}"));
                let pc = place(&name.unwrap_or_default()) as usize;
                let _ = write!(facts, ";site compare {bytes} {constant} {pc:#x}");
            }
            let pc = place(c"subject_pc_switch") as usize;
            let _ = write!(facts, ";site switch {} {pc:#x}", 8 * bytes);
        }
        facts.push_str(
            ";lacks warnings a process has nobody to warn\
             ;lacks failures nothing makes an allocation fail on demand\
             ;lacks strangers processes share a kcov if one was forked from the other after the buffer was made\
             ;lacks softirq a process has none\
             ;lacks hardirq a process has none\
             ;lacks kernel-threads a process has none",
        );
        facts
    }

    fn open(&self) -> Result<i32, i32> {
        let kcov = Arc::new(raw(Kcov::open())?);
        let fd = kcov.as_raw_fd();
        let words = None;
        self.things().kcovs.insert(fd, Opened { kcov, words });
        Ok(fd)
    }

    fn close(&self, fd: i32) {
        let opened = self.things().kcovs.remove(&fd);
        match opened {
            Some(opened) => {
                let address = Arc::as_ptr(&opened.kcov);
                COLLECTING.with_borrow_mut(|all| all.remove(&address));
            }
            // SAFETY: left open by an old image of this process.
            None => drop(unsafe { (self.below.close)(fd) }),
        }
    }

    fn call(&self, fd: i32, call: &Call) -> Option<Result<(), i32>> {
        let Opened { kcov, .. } = self.opened(fd)?;
        match call {
            Call::Init(words) => {
                let words = Words::new(*words)?;
                let made = raw(kcov.init(words));
                if made.is_ok() {
                    if let Some(opened) = self.things().kcovs.get_mut(&fd) {
                        opened.words = Some(words);
                    }
                }
                Some(made)
            }
            Call::Enable(mode) => {
                let mode = TraceMode::from_raw(*mode)?;
                Some(Self::keep(&kcov, kcov.enable(mode)))
            }
            Call::Unique(bitmap) => {
                let bitmap = Words::new(*bitmap)?;
                Some(Self::keep(&kcov, kcov.unique(bitmap)))
            }
            Call::Remote(call) => {
                let options = options(call)?;
                Some(Self::keep(&kcov, kcov.remote_enable(&options)))
            }
            Call::Disable(0) => Self::disable(&kcov),
            Call::Reset(0) => Some(raw(kcov.reset())),
            Call::Disable(_) | Call::Reset(_) | Call::Raw { .. } => None,
        }
    }

    fn ioctl(&self, fd: i32, number: u32, arg: usize) -> Result<(), i32> {
        // SAFETY: a kcov reads at most its argument, and a bad address is its to refuse.
        match unsafe { (self.below.ioctl)(fd, number.into(), arg as c_ulong) } {
            -1 => Err(device::errno()),
            _ => Ok(()),
        }
    }

    fn ioctl32(&self, fd: i32, number: u32, arg: usize) -> Result<Result<(), i32>, Trouble> {
        Ok(self.ioctl(fd, number, arg))
    }

    fn map(&self, fd: i32, len: usize, offset: u64, writable: bool) -> Result<Mapping, i32> {
        if let Some(Opened { kcov, words }) = self.opened(fd) {
            let whole = words.map(|words| words.bytes().next_multiple_of(PAGE));
            if (whole, offset, writable) == (Some(len), 0, true) {
                let buffer = raw(kcov.map())?;
                let at = buffer.words().as_ptr() as usize;
                self.things().buffers.insert(at, buffer);
                // SAFETY: that many bytes are mapped there until `unmap()`.
                return unsafe { Mapping::from_mmap(ptr::with_exposed_provenance_mut(at), len) };
            }
        }
        let mut protection = libc::PROT_READ;
        if writable {
            protection |= libc::PROT_WRITE;
        }
        // SAFETY: a new mapping, anywhere.
        unsafe {
            let (shared, offset) = (libc::MAP_SHARED, offset as libc::off_t);
            let at = (self.below.mmap)(ptr::null_mut(), len, protection, shared, fd, offset);
            Mapping::from_mmap(at, len)
        }
    }

    fn unmap(&self, mapping: Mapping) {
        let buffer = self.things().buffers.remove(&mapping.address());
        match buffer {
            Some(buffer) => drop(buffer),
            None => mapping.unmap(),
        }
    }

    fn fork(&self) -> Result<bool, i32> {
        // No other thread holds it while the copy is made.
        let _things = self.things();
        device::fork()
    }

    fn run(&self, steps: &[Step]) -> Result<Vec<u64>, Trouble> {
        let mut seen = Vec::new();
        self.steps(steps, &mut seen).map(|()| seen)
    }

    fn drops(&self, fd: i32) -> Result<Vec<u64>, Trouble> {
        let why = || Trouble::Lacks(Need::Drops, "not opened by this image".into());
        let Opened { kcov, .. } = self.opened(fd).ok_or_else(why)?;
        let drops = kcov.drops().map_err(|e| Trouble::Broken(e.to_string()))?;
        let drops = drops.ok_or_else(why)?;
        Ok(vec![drops.full, drops.stale, drops.no_area])
    }

    fn memory(&self) -> Result<u64, Trouble> {
        let (mut bytes, mut handles) = (0, 0);
        // SAFETY: both can be written to.
        unsafe { (self.below.usage)(&mut bytes, &mut handles) };
        Ok(bytes)
    }

    fn warnings(&self) -> Result<u64, Trouble> {
        lacks(Need::Warnings, "a process has nobody to warn")
    }

    fn failing<T>(&self, _: u32, _: impl FnOnce() -> T) -> Result<(T, bool), Trouble> {
        let why = "nothing makes an allocation fail on demand";
        lacks(Need::Failures, why)
    }

    fn exec(&self, socket: &Path, task: Task, files: &str) -> String {
        let Ok(program) = std::env::current_exe() else {
            return "this program cannot find itself".into();
        };
        let mut command = Command::new(program);
        let error = command.arg(socket).arg(task.to_string()).arg(files).exec();
        error.to_string()
    }
}

/// `process SOCKET TASK [FILES]`
fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (socket, task, files) = match &arguments[..] {
        [socket, task] => (socket, task, ""),
        [socket, task, files] => (socket, task, files.as_str()),
        _ => {
            eprintln!("rkcov-conformance run --agent starts this");
            return ExitCode::from(2);
        }
    };
    // From here on, those that this one forks belong to its family.
    drop(Kcov::open());
    match rkcov_agent::play(Process::new(), socket.into(), task, files) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{task}: {error}");
            ExitCode::FAILURE
        }
    }
}
