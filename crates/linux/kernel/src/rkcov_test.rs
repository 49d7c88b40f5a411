// SPDX-License-Identifier: GPL-2.0 OR MIT
//! The test module: annotated code on demand. `docs/test-module.md` says what can be read from and
//! written to its file.
//!
//! It works with either kcov, since it calls only what every annotated subsystem calls. A line is
//! walked twice: once to see that it makes sense, once to run it. Nothing is allocated in between.

use core::fmt::{self, Write as _};
use core::ptr::{self, addr_of};
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use kernel::bindings;
use kernel::error::code::{E2BIG, EFAULT, EINVAL, ENOMEM};
use kernel::error::Error;
use kernel::ffi::{c_char, c_int, c_uint, c_ulong, c_void};

/// Bytes of the longest line.
const MAX_LINE: usize = 4000;
/// Answers to `common` that one line can have.
const MAX_COMMONS: usize = 16;
/// Cases of a switch.
const MAX_CASES: usize = 16;
/// Kernel threads.
const KTHREADS: u64 = 16;
/// Markers, and bytes from one to the next, as in `test_sites.S`.
const MARKERS: u64 = 1024;
const MARKER_BYTES: u64 = if cfg!(CONFIG_ARM64) { 32 } else { 16 };

type Work = unsafe extern "C" fn(*mut c_void);

extern "C" {
    static rkcov_markers: u8;
    static rkcov_pc_first_marker: u8;
    fn rkcov_test_in_softirq(work: Work, argument: *mut c_void);
    fn rkcov_test_in_hardirq(work: Work, argument: *mut c_void);
    fn rkcov_test_in_work(work: Work, argument: *mut c_void);
    fn rkcov_test_in_kthread(number: c_uint, work: Work, argument: *mut c_void) -> c_int;
    fn rkcov_test_end_kthread(number: c_uint) -> c_int;
    fn rkcov_test_moved_by() -> c_ulong;
    fn rkcov_test_common_handle() -> u64;
    fn rkcov_test_alloc(bytes: usize) -> *mut c_void;
}

/// Call sites of the callbacks for comparisons: a function, and where its callback returns to.
#[cfg(CONFIG_KCOV_ENABLE_COMPARISONS)]
mod sites {
    macro_rules! sites {
        ($($function:ident($($argument:ty),*) $pc:ident;)*) => {
            extern "C" {
                $(pub(super) fn $function($(_: $argument),*);
                pub(super) static $pc: u8;)*
            }
        };
    }
    sites! {
        rkcov_site_cmp1(u8, u8) rkcov_pc_cmp1;
        rkcov_site_cmp2(u16, u16) rkcov_pc_cmp2;
        rkcov_site_cmp4(u32, u32) rkcov_pc_cmp4;
        rkcov_site_cmp8(u64, u64) rkcov_pc_cmp8;
        rkcov_site_const_cmp1(u8, u8) rkcov_pc_const_cmp1;
        rkcov_site_const_cmp2(u16, u16) rkcov_pc_const_cmp2;
        rkcov_site_const_cmp4(u32, u32) rkcov_pc_const_cmp4;
        rkcov_site_const_cmp8(u64, u64) rkcov_pc_const_cmp8;
        rkcov_site_switch(u64, *const u64) rkcov_pc_switch;
    }
}

/// A context in which steps can run, on top of others.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Context {
    Task,
    /// A task too, but not the one that writes.
    Work,
    Softirq,
    Hardirq,
}

/// What the `common` steps of a line saw.
struct Commons {
    seen: [u64; MAX_COMMONS],
    len: usize,
}

/// What a walk over a line does with its steps.
struct Walk<'a> {
    /// `None`: only look whether they make sense.
    run: Option<&'a mut Commons>,
}

/// The words of a line, one after the other.
struct Words<'t> {
    rest: &'t str,
}

impl<'t> Words<'t> {
    fn next(&mut self) -> Option<&'t str> {
        let text = self.rest.trim_start();
        let end = text.find(char::is_whitespace).unwrap_or(text.len());
        let (word, rest) = text.split_at_checked(end)?;
        self.rest = rest;
        (!word.is_empty()).then_some(word)
    }

    fn number(&mut self) -> Result<u64, Error> {
        let word = self.next().ok_or(EINVAL)?;
        let (digits, radix) = match word.strip_prefix("0x") {
            Some(digits) => (digits, 16),
            None => (word, 10),
        };
        u64::from_str_radix(digits, radix).map_err(|_| EINVAL)
    }

    fn below(&mut self, limit: u64) -> Result<u64, Error> {
        self.number().and_then(|n| if n < limit { Ok(n) } else { Err(EINVAL) })
    }
}

/// Steps to run elsewhere, as an argument of a [`Work`].
struct Remote<'t, 'a> {
    steps: &'t str,
    context: Context,
    commons: &'a mut Commons,
}

/// Runs the steps of a [`Remote`].
///
/// # Safety
/// `argument` points to a `Remote` whose owner waits.
unsafe extern "C" fn run_remote(argument: *mut c_void) {
    // SAFETY: the caller's contract.
    let remote = unsafe { &mut *argument.cast::<Remote<'_, '_>>() };
    let mut walk = Walk { run: Some(remote.commons) };
    // The line was found to make sense.
    let _ = walk.steps(&mut Words { rest: remote.steps }, remote.context);
}

impl Walk<'_> {
    /// Walks over steps up to a closing brace or the end of the line. Answers whether it was a
    /// brace.
    fn steps(&mut self, words: &mut Words<'_>, context: Context) -> Result<bool, Error> {
        loop {
            let Some(word) = words.next() else { return Ok(false) };
            match word {
                "}" => return Ok(true),
                "start" => {
                    let handle = words.number()?;
                    if self.run.is_some() {
                        // SAFETY: allowed in every context.
                        unsafe { bindings::kcov_remote_start(handle) };
                    }
                }
                "stop" => {
                    if self.run.is_some() {
                        // SAFETY: allowed in every context.
                        unsafe { bindings::kcov_remote_stop() };
                    }
                }
                "common" => self.common(),
                "pcs" => {
                    let (first, count) = (words.number()?, words.below(1 << 32)?);
                    if self.run.is_some() {
                        run_markers(first, count);
                    }
                }
                "softirq" if matches!(context, Context::Task | Context::Work) => {
                    self.inner(words, Context::Softirq, rkcov_test_in_softirq)?;
                }
                "hardirq" if context != Context::Hardirq => {
                    self.inner(words, Context::Hardirq, rkcov_test_in_hardirq)?;
                }
                "work" if context == Context::Task => {
                    self.inner(words, Context::Work, rkcov_test_in_work)?;
                }
                _ => self.comparison(word, words)?,
            }
        }
    }

    /// Steps in braces, in another context.
    fn inner(
        &mut self,
        words: &mut Words<'_>,
        context: Context,
        run_in: unsafe extern "C" fn(Work, *mut c_void),
    ) -> Result<(), Error> {
        if words.next() != Some("{") {
            return Err(EINVAL);
        }
        let steps = words.rest;
        // Always looked at first, which also finds where they end.
        if !(Walk { run: None }).steps(words, context)? {
            return Err(EINVAL);
        }
        if let Some(commons) = self.run.as_deref_mut() {
            let mut remote = Remote { steps, context, commons };
            // SAFETY: `remote` lives until the steps have been run.
            unsafe { run_in(run_remote, ptr::from_mut(&mut remote).cast()) };
        }
        Ok(())
    }

    fn common(&mut self) {
        if let Some(commons) = self.run.as_deref_mut() {
            if let Some(slot) = commons.seen.get_mut(commons.len) {
                // SAFETY: allowed in every context.
                *slot = unsafe { rkcov_test_common_handle() };
                commons.len = commons.len.wrapping_add(1);
            }
        }
    }

    #[cfg(not(CONFIG_KCOV_ENABLE_COMPARISONS))]
    fn comparison(&mut self, _: &str, _: &mut Words<'_>) -> Result<(), Error> {
        Err(EINVAL)
    }

    #[cfg(CONFIG_KCOV_ENABLE_COMPARISONS)]
    fn comparison(&mut self, word: &str, words: &mut Words<'_>) -> Result<(), Error> {
        macro_rules! compare {
            ($site:ident, $int:ty) => {{
                let (a, b) = (words.number()? as $int, words.number()? as $int);
                if self.run.is_some() {
                    // SAFETY: what every instrumented comparison calls.
                    unsafe { sites::$site(a, b) };
                }
            }};
        }
        match word {
            "cmp1" => compare!(rkcov_site_cmp1, u8),
            "cmp2" => compare!(rkcov_site_cmp2, u16),
            "cmp4" => compare!(rkcov_site_cmp4, u32),
            "cmp8" => compare!(rkcov_site_cmp8, u64),
            "const1" => compare!(rkcov_site_const_cmp1, u8),
            "const2" => compare!(rkcov_site_const_cmp2, u16),
            "const4" => compare!(rkcov_site_const_cmp4, u32),
            "const8" => compare!(rkcov_site_const_cmp8, u64),
            "switch" => return self.switch(words),
            _ => return Err(EINVAL),
        }
        Ok(())
    }

    /// `BITS VALUE [ CASE... ]`
    #[cfg(CONFIG_KCOV_ENABLE_COMPARISONS)]
    fn switch(&mut self, words: &mut Words<'_>) -> Result<(), Error> {
        let (bits, value) = (words.number()?, words.number()?);
        let mut table = [0; MAX_CASES + 2];
        let (head, cases) = table.split_at_mut_checked(2).ok_or(EINVAL)?;
        if words.next() != Some("[") {
            return Err(EINVAL);
        }
        let mut count = 0;
        let mut free = cases.iter_mut();
        loop {
            let mut ahead = Words { rest: words.rest };
            if ahead.next() == Some("]") {
                *words = ahead;
                break;
            }
            let case = words.number()?;
            *free.next().ok_or(EINVAL)? = case;
            count += 1;
        }
        head.copy_from_slice(&[count, bits]);
        if self.run.is_some() {
            // SAFETY: a table of `count` cases with its head.
            unsafe { sites::rkcov_site_switch(value, table.as_ptr()) };
        }
        Ok(())
    }
}

fn run_markers(first: u64, count: u64) {
    for i in 0..count {
        let marker = first.wrapping_add(i) % MARKERS;
        let at = addr_of!(rkcov_markers).wrapping_add((marker * MARKER_BYTES) as usize);
        // SAFETY: each marker is a function without arguments.
        let marker: extern "C" fn() = unsafe { core::mem::transmute(at) };
        marker();
    }
}

/// Runs a line.
fn run_line(line: &str) -> Result<Commons, Error> {
    let mut words = Words { rest: line };
    let kthread = match words.next() {
        Some("run") => None,
        Some("kthread") => {
            let number = words.below(KTHREADS)? as c_uint;
            match words.next() {
                Some("run") => Some(number),
                Some("end") if words.next().is_none() => {
                    // SAFETY: a thread's number.
                    result(unsafe { rkcov_test_end_kthread(number) })?;
                    return Ok(Commons { seen: [0; MAX_COMMONS], len: 0 });
                }
                _ => return Err(EINVAL),
            }
        }
        _ => return Err(EINVAL),
    };
    let steps = words.rest;
    if (Walk { run: None }).steps(&mut words, Context::Task)? {
        return Err(EINVAL);
    }
    let mut commons = Commons { seen: [0; MAX_COMMONS], len: 0 };
    let mut remote = Remote { steps, context: Context::Task, commons: &mut commons };
    let argument = ptr::from_mut(&mut remote).cast();
    // SAFETY: `remote` lives until the steps have been run, here or in the thread.
    unsafe {
        match kthread {
            None => run_remote(argument),
            Some(number) => result(rkcov_test_in_kthread(number, run_remote, argument))?,
        }
    }
    Ok(commons)
}

fn result(errno: c_int) -> Result<(), Error> {
    kernel::error::to_result(errno)
}

/// What the last line of an open file with a `common` in it saw.
struct State {
    seen: [AtomicU64; MAX_COMMONS],
    /// How many; `NONE` before such a line.
    len: AtomicUsize,
}

const NONE: usize = usize::MAX;

/// Opens the file.
///
/// # Safety
/// The kernel calls it as the file's `open`: `file` is being opened.
unsafe extern "C" fn open(_: *mut bindings::inode, file: *mut bindings::file) -> c_int {
    // SAFETY: a new block, of which every bit pattern is a value, for a file that is being opened.
    unsafe {
        let state = rkcov_test_alloc(size_of::<State>());
        if state.is_null() {
            return ENOMEM.to_errno();
        }
        (*state.cast::<State>()).len.store(NONE, Ordering::Relaxed);
        (*file).private_data = state;
    }
    0
}

/// The last reference to an opened file goes.
///
/// # Safety
/// The kernel calls it as the file's `release`: once, after all other calls on `file`, which [`open`] opened.
unsafe extern "C" fn release(_: *mut bindings::inode, file: *mut bindings::file) -> c_int {
    // SAFETY: from `open`; the last call on this file.
    unsafe { bindings::kfree((*file).private_data) };
    0
}

/// Runs a line of steps.
///
/// # Safety
/// The kernel calls it as the file's `write`: [`open`] opened `file`, and it is not released meanwhile. `from`
/// and `bytes` are what a program gave.
unsafe extern "C" fn write(
    file: *mut bindings::file,
    from: *const c_char,
    bytes: usize,
    _: *mut bindings::loff_t,
) -> isize {
    if bytes > MAX_LINE {
        return E2BIG.to_errno() as isize;
    }
    // SAFETY: copies what the caller has; an error is told in the pointer.
    let copy = unsafe { bindings::memdup_user_nul(from.cast(), bytes) };
    // SAFETY: no precondition.
    if unsafe { bindings::IS_ERR(copy) } {
        return EFAULT.to_errno() as isize;
    }
    // SAFETY: the copy has as many bytes.
    let line = unsafe { core::slice::from_raw_parts(copy.cast::<u8>(), bytes) };
    let result = core::str::from_utf8(line).map_err(|_| EINVAL).and_then(run_line);
    // SAFETY: from `memdup_user_nul`, and `line` is not used any more.
    unsafe { bindings::kfree(copy) };
    match result {
        Ok(commons) => {
            // SAFETY: from `open`.
            let state = unsafe { &*(*file).private_data.cast::<State>() };
            if commons.len > 0 {
                for (slot, handle) in state.seen.iter().zip(commons.seen) {
                    slot.store(handle, Ordering::Relaxed);
                }
                state.len.store(commons.len, Ordering::Release);
            }
            bytes as isize
        }
        Err(error) => error.to_errno() as isize,
    }
}

/// Text in a buffer on the stack; what does not fit is lost.
struct Text {
    bytes: [u8; 1024],
    len: usize,
}

impl fmt::Write for Text {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let free = self.bytes.get_mut(self.len..).ok_or(fmt::Error)?;
        let free = free.get_mut(..text.len()).ok_or(fmt::Error)?;
        free.copy_from_slice(text.as_bytes());
        self.len += text.len();
        Ok(())
    }
}

/// Tells what the last line saw, or what the module has.
///
/// # Safety
/// The kernel calls it as the file's `read`: [`open`] opened `file`, and it is not released meanwhile; `offset`
/// is valid. `to` and `bytes` are what a program gave.
unsafe extern "C" fn read(
    file: *mut bindings::file,
    to: *mut c_char,
    bytes: usize,
    offset: *mut bindings::loff_t,
) -> isize {
    // SAFETY: from `open`.
    let state = unsafe { &*(*file).private_data.cast::<State>() };
    let mut text = Text { bytes: [0; 1024], len: 0 };
    let len = state.len.load(Ordering::Acquire);
    let written = if len == NONE {
        describe(&mut text)
    } else {
        let mut seen = state.seen.iter().take(len);
        seen.try_for_each(|s| writeln!(text, "common {:#x}", s.load(Ordering::Relaxed)))
    };
    if written.is_err() {
        return E2BIG.to_errno() as isize;
    }
    // SAFETY: `text` has as many bytes; the caller's side may fault.
    unsafe {
        let from = text.bytes.as_ptr().cast();
        bindings::simple_read_from_buffer(to.cast(), bytes, offset, from, text.len)
    }
}

/// What the module has.
fn describe(text: &mut Text) -> fmt::Result {
    // SAFETY: no precondition.
    let moved_by = unsafe { rkcov_test_moved_by() } as usize;
    let pc = |label: *const u8| (label as usize).wrapping_sub(moved_by);
    let first = pc(addr_of!(rkcov_pc_first_marker));
    writeln!(text, "markers {MARKERS} {first:#x} {MARKER_BYTES}")?;
    #[cfg(CONFIG_KCOV_ENABLE_COMPARISONS)]
    {
        for (bytes, constant, label) in [
            (1, 0, addr_of!(sites::rkcov_pc_cmp1)),
            (2, 0, addr_of!(sites::rkcov_pc_cmp2)),
            (4, 0, addr_of!(sites::rkcov_pc_cmp4)),
            (8, 0, addr_of!(sites::rkcov_pc_cmp8)),
            (1, 1, addr_of!(sites::rkcov_pc_const_cmp1)),
            (2, 1, addr_of!(sites::rkcov_pc_const_cmp2)),
            (4, 1, addr_of!(sites::rkcov_pc_const_cmp4)),
            (8, 1, addr_of!(sites::rkcov_pc_const_cmp8)),
        ] {
            writeln!(text, "compare {bytes} {constant} {:#x}", pc(label))?;
        }
        for bits in [8, 16, 32, 64] {
            writeln!(text, "switch {bits} {:#x}", pc(addr_of!(sites::rkcov_pc_switch)))?;
        }
    }
    text.write_str("context softirq\ncontext hardirq\ncontext work\ncontext kthread\n")
}

/// The operations on the file.
#[repr(transparent)]
struct Operations(bindings::file_operations);

// SAFETY: never written.
unsafe impl Sync for Operations {}

#[no_mangle]
static rkcov_test_operations: Operations = Operations(bindings::file_operations {
    open: Some(open),
    read: Some(read),
    write: Some(write),
    llseek: Some(bindings::default_llseek),
    release: Some(release),
    // SAFETY: all null: what is not given, the kernel does in the common way.
    ..unsafe { core::mem::zeroed() }
});
