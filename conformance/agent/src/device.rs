// SPDX-License-Identifier: MIT OR Apache-2.0
//! What an agent needs of a kcov and of its machine. All of the agents' `unsafe` is here and in
//! the devices themselves.

use std::path::Path;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU32, AtomicU64};

use rkcov_model::{Call, Need, RemoteCall, Step, Task, Trouble};

/// A kcov device, and code that is annotated and known.
///
/// Errors that are numbers are error numbers. A device that lacks something says so in
/// [`Device::describe`] and in what it answers.
pub trait Device: Send + Sync + 'static {
    /// What there is, as `;`-separated facts: `markers N FIRST STRIDE`,
    /// `site compare BYTES CONSTANT PC`, `site switch BITS PC`, `lacks NEED WHY`; and, if the kcov
    /// is not as a kernel's, `suspends`, `exact`, `unique FIRST_INDEX`.
    fn describe(&self) -> String;

    /// Opens it.
    ///
    /// # Errors
    /// An error number.
    fn open(&self) -> Result<i32, i32>;

    /// Closes it.
    fn close(&self, fd: i32);

    /// Makes a call in words of its own, if it has words for this one.
    ///
    /// # Errors
    /// An error number.
    fn call(&self, _fd: i32, _call: &Call) -> Option<Result<(), i32>> {
        None
    }

    /// A call with a number or an address.
    ///
    /// # Errors
    /// An error number.
    fn ioctl(&self, fd: i32, number: u32, arg: usize) -> Result<(), i32>;

    /// The same as a 32-bit client makes it.
    ///
    /// # Errors
    /// If that cannot be done here.
    fn ioctl32(&self, fd: i32, number: u32, arg: usize) -> Result<Result<(), i32>, Trouble>;

    /// Maps the buffer.
    ///
    /// # Errors
    /// An error number.
    fn map(&self, fd: i32, len: usize, offset: u64, writable: bool) -> Result<Mapping, i32>;

    /// Ends a mapping.
    fn unmap(&self, mapping: Mapping) {
        mapping.unmap();
    }

    /// Forks: `true` in the parent, `false` in the child.
    ///
    /// # Errors
    /// An error number.
    fn fork(&self) -> Result<bool, i32> {
        fork()
    }

    /// Runs code; answers the common handles that it saw.
    ///
    /// # Errors
    /// If it cannot be run here.
    fn run(&self, steps: &[Step]) -> Result<Vec<u64>, Trouble>;

    /// Passes `kthread K ...` to the test module.
    ///
    /// # Errors
    /// If there is none.
    fn kernel_thread(&self, _line: &str) -> Result<Vec<u64>, Trouble> {
        let why = "this is no kernel".into();
        Err(Trouble::Lacks(Need::KernelThreads, why))
    }

    /// Records dropped: full, stale, no area.
    ///
    /// # Errors
    /// If they are not counted.
    fn drops(&self, fd: i32) -> Result<Vec<u64>, Trouble>;

    /// What the kcov holds in memory on behalf of clients.
    ///
    /// # Errors
    /// If it is unknown.
    fn memory(&self) -> Result<u64, Trouble>;

    /// Warnings so far.
    ///
    /// # Errors
    /// If they are not counted.
    fn warnings(&self) -> Result<u64, Trouble>;

    /// Runs `f` with its `nth` allocation failing. Also says whether it did.
    ///
    /// # Errors
    /// If that cannot be done here; `f` has not been run then.
    fn failing<T>(&self, nth: u32, f: impl FnOnce() -> T) -> Result<(T, bool), Trouble>
    where
        Self: Sized;

    /// Replaces this process's program by the same agent for the same task. Answers what went
    /// wrong.
    fn exec(&self, socket: &Path, task: Task, files: &str) -> String;
}

/// A mapping of a buffer. It may be copied and outlive itself: the suite tells agents what to
/// unmap, and when a word is written to that cannot be, the agent dies of it, as it should.
#[derive(Clone, Debug)]
pub struct Mapping {
    base: NonNull<AtomicU64>,
    bytes: usize,
}

// SAFETY: shared memory of atomics.
unsafe impl Send for Mapping {}

impl Mapping {
    /// What `mmap()` answered.
    ///
    /// # Errors
    /// The error number, if it failed.
    ///
    /// # Safety
    /// `base` is `MAP_FAILED`, or a mapping of at least `bytes` bytes that nobody else unmaps.
    pub unsafe fn from_mmap(base: *mut libc::c_void, bytes: usize) -> Result<Self, i32> {
        match NonNull::new(base.cast()) {
            Some(words) if base != libc::MAP_FAILED => Ok(Self { base: words, bytes }),
            _ => Err(errno()),
        }
    }

    /// Where it begins.
    #[must_use]
    pub fn address(&self) -> usize {
        self.base.as_ptr() as usize
    }

    /// Its words.
    #[must_use]
    pub fn words(&self) -> &[AtomicU64] {
        // SAFETY: mapped until `unmap`, after which the agent has forgotten it.
        unsafe { std::slice::from_raw_parts(self.base.as_ptr(), self.bytes / 8) }
    }

    /// Ends it.
    pub fn unmap(self) {
        // SAFETY: ours, and nobody asks for its words any more.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.bytes) };
    }
}

/// A remote argument in memory of its own, behind which, if it is to be cut short, nothing can be
/// read.
pub struct Argument {
    pages: *mut u8,
    len: usize,
    at: usize,
}

const PAGE: usize = 4096;

impl Argument {
    /// Lays it out.
    ///
    /// # Errors
    /// If there is no memory for it.
    pub fn new(call: &RemoteCall) -> Result<Self, String> {
        let bytes = call.bytes();
        let readable = call.readable_bytes() as usize;
        let room = readable.next_multiple_of(PAGE);
        let len = room + PAGE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // Below 4 GiB, so that it is an address for 32-bit clients too, where those are tried.
        #[cfg(target_arch = "x86_64")]
        let flags = flags | libc::MAP_32BIT;
        // SAFETY: a new mapping; what is written lies in its readable part, the last page is made
        // unreadable.
        unsafe {
            let protection = libc::PROT_READ | libc::PROT_WRITE;
            let pages = libc::mmap(ptr::null_mut(), len, protection, flags, -1, 0);
            if pages == libc::MAP_FAILED {
                return Err(format!("no memory for an argument: errno {}", errno()));
            }
            let pages: *mut u8 = pages.cast();
            // Cut short, it ends where the pages do; else it may begin at its alignment.
            let at = if call.readable.is_some() {
                room - readable
            } else {
                0
            };
            ptr::copy_nonoverlapping(bytes.as_ptr(), pages.add(at), readable);
            libc::mprotect(pages.add(room).cast(), PAGE, libc::PROT_NONE);
            Ok(Self { pages, len, at })
        }
    }

    /// Where it begins.
    #[must_use]
    pub fn address(&self) -> usize {
        self.pages as usize + self.at
    }

    /// Its `num_handles`, for who changes it. Only for an argument that is not cut short.
    #[must_use]
    pub fn num_handles(&self) -> &AtomicU32 {
        // SAFETY: the third word of at least three that are mapped, aligned since `at` is 0.
        unsafe { &*self.pages.add(self.at + 8).cast::<AtomicU32>() }
    }
}

impl Drop for Argument {
    fn drop(&mut self) {
        // SAFETY: mapped in `new`.
        unsafe { libc::munmap(self.pages.cast(), self.len) };
    }
}

/// The calling thread's last error number.
#[must_use]
pub fn errno() -> i32 {
    std::io::Error::last_os_error().raw_os_error().unwrap_or(0)
}

/// The calling thread's process and thread numbers.
#[must_use]
pub fn ids() -> (u32, u32) {
    // SAFETY: plain questions.
    unsafe { (libc::getpid() as u32, libc::gettid() as u32) }
}

/// Whether the calling thread is its process's first.
#[must_use]
pub fn is_main_thread() -> bool {
    let (pid, tid) = ids();
    pid == tid
}

/// Forks: `true` in the parent, `false` in the child.
///
/// # Errors
/// An error number.
pub fn fork() -> Result<bool, i32> {
    // SAFETY: the child goes on as an agent; of the locks that other threads might have held it
    // uses those of libc, which that sets right, and the agent's names, which the caller holds.
    match unsafe { libc::fork() } {
        -1 => Err(errno()),
        0 => Ok(false),
        _ => Ok(true),
    }
}

/// Whether a child that does this lives to its end.
#[must_use]
pub fn survives(f: impl FnOnce()) -> bool {
    // SAFETY: the child does nothing but this, and ends; the parent waits for it.
    unsafe {
        match libc::fork() {
            -1 => false,
            0 => {
                f();
                libc::_exit(0)
            }
            child => {
                let mut status = 0;
                libc::waitpid(child, &mut status, 0) == child && status == 0
            }
        }
    }
}

/// Ends the calling process.
pub fn exit() -> ! {
    std::process::exit(0)
}

/// Kills a process.
pub fn kill(pid: u32) {
    // SAFETY: one of the suite's own processes.
    unsafe { libc::kill(pid as i32, libc::SIGKILL) };
}

/// Children that end leave nothing behind.
pub fn forget_children() {
    // SAFETY: an agent waits for no child.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
}
