// SPDX-License-Identifier: MIT OR Apache-2.0
//! What each thread has of us, in one block of thread-local storage.
//!
//! The block is initial-exec: its offset from the thread pointer is a constant that the dynamic
//! linker fills in once. In a library that is loaded with `dlopen()` such a block comes out of a
//! small reserve, so it stays under 512 bytes.

use crate::device::Userspace;
use crate::modules::Range;
use crate::run::contexts::Outer;
use core::mem::{offset_of, size_of};
use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};
use rkcov_core::hot::{Hot, Mode};
use rkcov_core::sync::{interrupt_fence, Word};
use rkcov_core::{Sink, Task};
use rkcov_region::Slot;

/// Flag in [`Hot::mode`]: the thread has not been here yet. The initial image of the block has
/// it, so however a thread comes into being, its first callback finds it set.
///
/// While the dynamic linker relocates a program, the image is not in place yet and all is zero,
/// which is [`Mode::Off`].
pub(crate) const UNATTACHED: u32 = 1 << 31;

/// Flag in [`Hot::mode`]: a client has the thread's records, and the collector of the process gets
/// copies, see [`Tape`].
pub(crate) const COPIES: u32 = 1 << 30;

/// Where the records of a thread go under `rkcov run`: the words of its slot. Only the thread, and
/// what interrupts it, uses it.
#[repr(C)]
pub(crate) struct Tape {
    /// A [`Mode`]; `Off` if the thread has no slot.
    pub(crate) mode: AtomicU32,
    /// Records that fit behind the count word.
    pub(crate) limit: AtomicU32,
    /// The count word.
    pub(crate) area: AtomicPtr<Word>,
    /// Bits of the bitmap before it.
    pub(crate) bits: AtomicU64,
    /// Not 0 while more of the slot can be mapped, as far as is known.
    pub(crate) may_grow: AtomicU32,
}

impl Tape {
    pub(crate) fn is_there(&self) -> bool {
        self.mode.load(Ordering::Relaxed) != Mode::Off as u32
    }
}

/// The thread's block.
#[repr(C)]
pub(crate) struct Tls {
    /// What the thread records now.
    pub(crate) hot: Hot,
    /// What the rules know of the thread.
    pub(crate) task: Task<Userspace>,
    /// Unique mode: the text that the thread's last PC without a guard was in.
    pub(crate) range: AtomicPtr<Range>,
    /// GS's base for the thread's own map, or 0.
    pub(crate) map: AtomicU64,
    /// GS's base now.
    pub(crate) base: AtomicU64,
    /// What the collector gets of the thread.
    pub(crate) tape: Tape,
    /// The head of the slot of `rkcov run` that the thread has taken, or null.
    pub(crate) slot: AtomicPtr<Slot>,
    /// Where what is mapped of that slot begins, and how many bytes those are.
    pub(crate) slot_at: AtomicPtr<u8>,
    pub(crate) slot_len: AtomicU64,
    /// Its number.
    pub(crate) slot_number: AtomicU32,
    /// The context that the thread is in: see [`run::contexts`](crate::run::contexts).
    pub(crate) context: AtomicU32,
    /// The kernel's id of the thread that made this one, 0 if not known.
    pub(crate) creator: AtomicU32,
    /// What the thread recorded into before it entered contexts, or null.
    pub(crate) outer: AtomicPtr<Outer>,
    /// How often the thread's end was announced.
    pub(crate) ends: AtomicU32,
    /// The thread's number as libc has it, or 0 if that was not needed yet.
    pub(crate) number: AtomicU32,
    /// The thread's end is announced.
    pub(crate) announced: AtomicU32,
    /// How deep the thread is inside the rules; signal handlers stay out of them meanwhile.
    inside: AtomicU32,
    /// The thread's serial number, 0 before it takes its first slot.
    pub(crate) serial: AtomicU64,
    /// The serial number of who made it: see [`Slot::maker`].
    pub(crate) maker: AtomicU64,
    /// When the thread began, as `/proc` has it, or 0 if nobody has asked yet.
    pub(crate) started: AtomicU64,
}

pub(crate) const MODE: usize = offset_of!(Tls, hot) + offset_of!(Hot, mode);
pub(crate) const LIMIT: usize = offset_of!(Tls, hot) + offset_of!(Hot, limit);
pub(crate) const AREA: usize = offset_of!(Tls, hot) + offset_of!(Hot, area);
pub(crate) const BITS: usize = TASK + offset_of!(Task<Userspace>, bitmap_bits);
pub(crate) const BITMAP: usize = TASK + offset_of!(Task<Userspace>, bitmap);
const TASK: usize = offset_of!(Tls, task);
pub(crate) const RANGE: usize = offset_of!(Tls, range);
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
pub(crate) const MAP: usize = offset_of!(Tls, map);

const _: () = assert!(MODE == 0, "the initial image starts with the mode word");
const _: () = assert!(
    size_of::<Tls>() <= 512,
    "initial-exec TLS of a library is scarce"
);

core::arch::global_asm!(
    ".pushsection .tdata,\"awT\",@progbits",
    ".p2align 4",
    ".globl rkcov_tls",
    ".hidden rkcov_tls",
    ".type rkcov_tls,@object",
    ".size rkcov_tls, {size}",
    "rkcov_tls:",
    ".long {unattached}",
    ".zero {size} - 4",
    ".popsection",
    size = const size_of::<Tls>(),
    unattached = const UNATTACHED,
);

/// The calling thread's block. It lives as long as the thread, and only the thread and its
/// signal handlers use it.
#[inline(always)]
pub(crate) fn current() -> &'static Tls {
    let tls: *const Tls;
    #[cfg(target_arch = "x86_64")]
    // SAFETY: reads the block's offset and the thread pointer, which points to itself. Both stay as
    // they are as long as the thread lives, so the compiler may take what it has read before.
    unsafe {
        core::arch::asm!(
            "mov {0}, qword ptr [rip + rkcov_tls@GOTTPOFF]",
            "add {0}, qword ptr fs:[0]",
            out(reg) tls,
            options(pure, nomem, nostack),
        );
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: as above.
    unsafe {
        core::arch::asm!(
            "mrs {0}, tpidr_el0",
            "adrp {1}, :gottprel:rkcov_tls",
            "ldr {1}, [{1}, :gottprel_lo12:rkcov_tls]",
            "add {0}, {0}, {1}",
            out(reg) tls,
            out(reg) _,
            options(pure, nomem, nostack),
        );
    }
    // SAFETY: the block is as large and as aligned as `Tls`; zeros and the image are values of it.
    unsafe { &*tls }
}

/// The block of another thread: it lies as far from the thread's own handle as the calling thread's
/// does, for libc's handles are where the thread pointers are.
///
/// # Safety
/// `thread` is a thread of this process that has not been joined.
pub(crate) unsafe fn of(thread: libc::pthread_t) -> &'static Tls {
    // SAFETY: always succeeds.
    let own = unsafe { libc::pthread_self() } as usize;
    let distance = ptr::from_ref(current())
        .expose_provenance()
        .wrapping_sub(own);
    let at = (thread as usize).wrapping_add(distance);
    // SAFETY: the caller's contract; all that others read of a block is atomic.
    unsafe { &*ptr::with_exposed_provenance(at) }
}

impl Tls {
    /// Changes what the thread records while it runs on no client's account, and says that the
    /// thread has been here.
    pub(crate) fn set_idle(&self, sink: Sink) {
        // Without UNATTACHED, which the rules would leave in the word.
        self.hot.mode.store(Mode::Off as u32, Ordering::Relaxed);
        self.range.store(Range::nowhere(), Ordering::Relaxed);
        self.task.set_idle(&Userspace, sink);
    }

    /// The thread enters the rules, or a lock of theirs.
    pub(crate) fn enter(&self) {
        let inside = self.inside.load(Ordering::Relaxed);
        self.inside.store(inside.wrapping_add(1), Ordering::Relaxed);
        interrupt_fence();
    }

    /// The end of [`Tls::enter`].
    pub(crate) fn leave(&self) {
        interrupt_fence();
        let inside = self.inside.load(Ordering::Relaxed);
        self.inside.store(inside.wrapping_sub(1), Ordering::Relaxed);
    }

    pub(crate) fn is_inside(&self) -> bool {
        self.inside.load(Ordering::Relaxed) != 0
    }
}
