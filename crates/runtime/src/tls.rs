// SPDX-License-Identifier: MIT OR Apache-2.0
//! What each thread has of us, in one block of thread-local storage.
//!
//! The block is initial-exec: its offset from the thread pointer is a constant that the dynamic
//! linker fills in once. In a library that is loaded with `dlopen()` such a block comes out of a
//! small reserve, so it stays under 512 bytes.

use crate::modules::Range;
use core::mem::{offset_of, size_of};
use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};
use rkcov_core::hot::{Hot, Mode};
use rkcov_core::sync::Word;
use rkcov_region::SlotHeader;

/// Flag in [`Hot::mode`]: the thread has not been here yet. The initial image of the block has
/// it, so however a thread comes into being, its first callback finds it set.
///
/// While the dynamic linker relocates a program, the image is not in place yet and all is zero,
/// which is [`Mode::Off`].
pub(crate) const UNATTACHED: u32 = 1 << 16;

/// The thread's block.
#[repr(C)]
pub(crate) struct Tls {
    /// What the thread records now.
    pub(crate) hot: Hot,
    /// Counts the records for which there was no room.
    pub(crate) dropped: AtomicPtr<AtomicU64>,
    /// Unique mode: bits of the bitmap, a multiple of 64.
    pub(crate) bits: AtomicU64,
    /// Unique mode: the bitmap.
    pub(crate) bitmap: AtomicPtr<Word>,
    /// Unique mode: the text that the thread's last PC without a guard was in.
    pub(crate) range: AtomicPtr<Range>,
    /// The slot of `rkcov run` that the thread has taken, or null.
    pub(crate) slot: AtomicPtr<SlotHeader>,
    /// How often the thread's end was announced.
    pub(crate) ends: AtomicU32,
}

pub(crate) const MODE: usize = offset_of!(Tls, hot) + offset_of!(Hot, mode);
pub(crate) const LIMIT: usize = offset_of!(Tls, hot) + offset_of!(Hot, limit);
pub(crate) const AREA: usize = offset_of!(Tls, hot) + offset_of!(Hot, area);
pub(crate) const BITS: usize = offset_of!(Tls, bits);
pub(crate) const BITMAP: usize = offset_of!(Tls, bitmap);
pub(crate) const RANGE: usize = offset_of!(Tls, range);

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
    // SAFETY: reads the block's offset and the thread pointer, which points to itself.
    unsafe {
        core::arch::asm!(
            "mov {0}, qword ptr [rip + rkcov_tls@GOTTPOFF]",
            "add {0}, qword ptr fs:[0]",
            out(reg) tls,
            options(pure, readonly, nostack),
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
            options(pure, readonly, nostack),
        );
    }
    // SAFETY: the block is as large and as aligned as `Tls`; zeros and the image are values of it.
    unsafe { &*tls }
}

/// What a thread records when nobody in its own process asks it to record something.
#[derive(Clone, Copy)]
pub(crate) struct Idle {
    pub(crate) mode: Mode,
    /// Records that fit behind the count word.
    pub(crate) limit: u32,
    /// The count word.
    pub(crate) area: *mut Word,
    /// Bits of the bitmap before the count word.
    pub(crate) bits: u64,
    pub(crate) dropped: *mut AtomicU64,
}

impl Idle {
    pub(crate) const NOTHING: Self = Self {
        mode: Mode::Off,
        limit: 0,
        area: ptr::null_mut(),
        bits: 0,
        dropped: ptr::null_mut(),
    };
}

impl Tls {
    /// Changes what the thread records when nobody in its process asks for something.
    ///
    /// # Safety
    /// The calling thread is the block's own. `idle` points to `bits / 64` words, the count word
    /// and `limit` records behind it, and to a drop counter, which all live until the next call
    /// (nothing of it is used in [`Mode::Off`]).
    pub(crate) unsafe fn set_idle(&self, idle: &Idle) {
        // Without UNATTACHED, unlike what `stop()` and `start()` leave in the word.
        self.hot.mode.store(Mode::Off as u32, Ordering::Relaxed);
        self.hot.stop();
        self.dropped.store(idle.dropped, Ordering::Relaxed);
        self.bits.store(idle.bits, Ordering::Relaxed);
        let bitmap = idle.area.wrapping_sub((idle.bits / 64) as usize);
        self.bitmap.store(bitmap, Ordering::Relaxed);
        self.range.store(Range::nowhere(), Ordering::Relaxed);
        self.hot.start(idle.mode as u32, idle.area, idle.limit);
    }
}
