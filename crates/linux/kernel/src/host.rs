// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Linux as a host of the rules.

use crate::abi::Words;
use crate::irq_areas;
use crate::lock::{Mutex, SpinLock};
use crate::rules::host::{Buffer, Context, Fault, Host, Nesting, Warning};
use crate::rules::hot::Hot;
use crate::rules::kcov::Kcov;
use crate::rules::sync::Word;
use crate::rules::task::{Recording, Task};
use crate::task::CurrentTask;
use crate::{arch, shim, task};
use core::alloc::Layout;
use core::cell::UnsafeCell;
use core::mem::MaybeUninit;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use kernel::bindings;
use kernel::ffi::{c_ulong, c_void};

/// The kernel.
pub(crate) struct Linux;

/// The one kcov of this kernel.
struct TheKcov {
    made: AtomicBool,
    kcov: UnsafeCell<MaybeUninit<Kcov<Linux>>>,
}

// SAFETY: made once, before `made` says so, and shared since.
unsafe impl Sync for TheKcov {}

static THE_KCOV: TheKcov = TheKcov {
    made: AtomicBool::new(false),
    kcov: UnsafeCell::new(MaybeUninit::zeroed()),
};

/// The kernel's kcov; there is none early in the boot, when tasks and sections are there already.
pub(crate) fn kcov() -> Option<&'static Kcov<Linux>> {
    let made = THE_KCOV.made.load(Ordering::Acquire);
    // SAFETY: made, and never changed but through itself.
    made.then(|| unsafe { (*THE_KCOV.kcov.get()).assume_init_ref() })
}

/// Makes the kernel's kcov.
///
/// # Safety
/// Called once.
pub(crate) unsafe fn make_kcov() {
    // SAFETY: a static is zeroed as written above, never moves, and nobody looks before `made`.
    unsafe { Kcov::init(THE_KCOV.kcov.get().cast(), Linux) };
    THE_KCOV.made.store(true, Ordering::Release);
}

/// A client's buffer, which it may have mapped; the pages outlive this for as long as it has.
pub(crate) struct VmallocBuffer(NonNull<Word>);

// SAFETY: zeroed by the allocator, aligned to pages, and freed by `drop` alone.
unsafe impl Buffer for VmallocBuffer {
    fn base(&self) -> *mut Word {
        self.0.as_ptr()
    }
}

// SAFETY: memory that is tied to no task.
unsafe impl Send for VmallocBuffer {}
// SAFETY: all accesses are atomic.
unsafe impl Sync for VmallocBuffer {}

impl Drop for VmallocBuffer {
    fn drop(&mut self) {
        // SAFETY: from `rkcov_buffer`, and the owner is gone.
        unsafe { shim::rkcov_free(self.0.as_ptr().cast()) };
    }
}

/// Interrupts are off while it lives.
#[must_use = "interrupts are on again when this is dropped"]
pub(crate) struct IrqsOff(shim::IrqFlags);

impl Drop for IrqsOff {
    fn drop(&mut self) {
        // SAFETY: saved by `pin` on this processor, which the task could not leave since.
        unsafe { shim::rkcov_irq_restore(self.0) };
    }
}

// SAFETY: each method says below why it does what the rules ask.
unsafe impl Host for Linux {
    type Lock = SpinLock;
    type Mutex = Mutex;
    type Buffer = VmallocBuffer;
    /// A task always ends through `kcov_task_exit()`: there is nothing to ask.
    type Owner = ();
    /// A section of the task, and one of a softirq on top.
    type Frames = [Recording<Linux>; 2];
    type Pin = IrqsOff;

    const NESTING: Nesting = Nesting::Refuse;
    const COMPARISONS: bool = cfg!(CONFIG_KCOV_ENABLE_COMPARISONS);
    const UNIQUE: bool = false;
    const USER_SUBSYSTEMS: bool = false;
    const SOFTIRQ_AREA: Words = irq_areas::WORDS;

    fn context(&self) -> Context {
        let contexts = arch::contexts();
        if contexts.is_task() {
            Context::Task
        } else if contexts.is_softirq() {
            Context::Softirq
        } else {
            Context::Other
        }
    }

    fn pin(&self) -> IrqsOff {
        // SAFETY: restored when the pin is dropped; pins nest.
        IrqsOff(unsafe { shim::rkcov_irq_save() })
    }

    fn hot<'t>(&self, task: &'t Task<Self>) -> &'t Hot {
        task::hot_of(task)
    }

    fn buffer(&self, words: Words) -> Option<VmallocBuffer> {
        // SAFETY: no precondition but a context that may sleep: the rules call it from `ioctl()`.
        let block = unsafe { shim::rkcov_buffer(words.bytes()) };
        NonNull::new(block.cast()).map(VmallocBuffer)
    }

    fn alloc(&self, layout: Layout) -> Option<NonNull<u8>> {
        // Blocks are aligned to the power of two above their size, or to pages.
        let bytes = layout.size().max(layout.align());
        // SAFETY: as for `buffer`; a section's area is asked for in task context only.
        NonNull::new(unsafe { shim::rkcov_alloc(bytes) }.cast())
    }

    unsafe fn free(&self, block: NonNull<u8>, _: Layout) {
        // SAFETY: the caller's contract; no context but an NMI is forbidden, and there are no
        // sections in one.
        unsafe { shim::rkcov_free(block.as_ptr().cast()) };
    }

    fn take_softirq_area(&self) -> Option<NonNull<u8>> {
        irq_areas::take()
    }

    fn put_softirq_area(&self, block: NonNull<u8>) {
        irq_areas::put(block);
    }

    fn warn_once(&self, warning: Warning) {
        static SAID: AtomicU32 = AtomicU32::new(0);
        let (bit, message) = match warning {
            Warning::Nested => (
                1,
                c"kcov_remote_start() in a section or in a task that collects",
            ),
            Warning::BadHandle => (2, c"kcov_remote_start() with a malformed handle"),
            Warning::ExitInSection => (4, c"a task ends in a section"),
        };
        if SAID.fetch_or(bit, Ordering::Relaxed) & bit == 0 {
            // What the kernel runs to say so is not the section's.
            let task = CurrentTask::get();
            let mode = &task.hot().mode;
            let flags = mode.load(Ordering::Relaxed) & bindings::KCOV_IN_CTXSW;
            mode.fetch_or(bindings::KCOV_IN_CTXSW, Ordering::Relaxed);
            // SAFETY: a C string that lives for ever.
            unsafe { shim::rkcov_warn(message.as_ptr().cast()) };
            mode.fetch_and(!bindings::KCOV_IN_CTXSW | flags, Ordering::Relaxed);
        }
    }

    fn owner(&self) {}

    fn is_gone(&self, (): ()) -> bool {
        false
    }

    fn read_client(&self, address: usize, into: &mut [u8]) -> Result<(), Fault> {
        let to = into.as_mut_ptr().cast::<c_void>();
        // SAFETY: writes at most as many bytes as there are; the client's side may fault.
        let left = unsafe {
            bindings::copy_from_user(to, address as *const c_void, into.len() as c_ulong)
        };
        if left == 0 {
            Ok(())
        } else {
            Err(Fault)
        }
    }

    fn seed(&self) -> u64 {
        // SAFETY: no precondition.
        unsafe { shim::rkcov_random() }
    }
}
