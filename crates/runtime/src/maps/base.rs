// SPDX-License-Identifier: MIT OR Apache-2.0
//! What checks add to a site's address: GS's base on x86-64. aarch64 has no such register, but the word
//! behind the one that a thread's pointer points to: the ABI of thread-local storage reserves it, and
//! neither glibc nor musl uses it. In a new thread it is what stood in the thread's memory: 0 but in memory
//! of the program's own, see `pthread_create()`.

#[cfg(target_arch = "x86_64")]
mod gs {
    use crate::sys;
    use core::arch::asm;
    use core::sync::atomic::{AtomicU32, Ordering};

    /// Bit of `AT_HWCAP2`: user mode may read and write the base itself.
    const FSGSBASE: u64 = 1 << 1;
    const UNKNOWN: u32 = 0;
    const BY_INSTRUCTION: u32 = 1;
    const BY_CALL: u32 = 2;

    fn way() -> u32 {
        static WAY: AtomicU32 = AtomicU32::new(UNKNOWN);
        let way = WAY.load(Ordering::Relaxed);
        if way != UNKNOWN {
            return way;
        }
        // SAFETY: a plain question.
        let bits = unsafe { libc::getauxval(libc::AT_HWCAP2) };
        let way = if bits & FSGSBASE != 0 {
            BY_INSTRUCTION
        } else {
            BY_CALL
        };
        WAY.store(way, Ordering::Relaxed);
        way
    }

    /// Whether the base may be an address of the upper half, which stands for a negative distance:
    /// the kernel's call refuses those.
    pub(crate) fn may_be_negative() -> bool {
        way() == BY_INSTRUCTION
    }

    /// The calling thread's base. `None` if the kernel does not say.
    pub(crate) fn get() -> Option<u64> {
        if way() == BY_CALL {
            return sys::gs_base().ok();
        }
        let base: u64;
        // SAFETY: the kernel says that the instruction is there; it only reads.
        unsafe { asm!("rdgsbase {}", out(reg) base, options(nomem, nostack, preserves_flags)) };
        Some(base)
    }

    /// Sets it; `false` if the kernel refuses.
    pub(crate) fn set(base: u64) -> bool {
        if way() == BY_CALL {
            return sys::set_gs_base(base).is_ok();
        }
        // SAFETY: the kernel says that the instruction is there, and `base` is canonical: 0, or the
        // distance between two addresses of the lower half. Only checks and stores use the base, and
        // `maps` vouches for where it leads them.
        unsafe { asm!("wrgsbase {}", in(reg) base, options(nostack, preserves_flags)) };
        true
    }
}

#[cfg(target_arch = "aarch64")]
mod word {
    use core::arch::asm;

    /// As on x86-64: any base will do.
    pub(crate) fn may_be_negative() -> bool {
        true
    }

    /// The calling thread's base.
    pub(crate) fn get() -> Option<u64> {
        let base: u64;
        // SAFETY: a thread that runs code of ours has thread-local storage, of which the pointer's own
        // two words are a part.
        unsafe {
            asm!(
                "mrs {0}, tpidr_el0",
                "ldr {0}, [{0}, 8]",
                out(reg) base,
                options(nostack, preserves_flags, readonly),
            );
        }
        Some(base)
    }

    /// Sets it.
    pub(crate) fn set(base: u64) -> bool {
        // SAFETY: as above, and only checks use the word: `maps` vouches for where it leads them.
        unsafe {
            asm!(
                "mrs {0}, tpidr_el0",
                "str {1}, [{0}, 8]",
                out(reg) _,
                in(reg) base,
                options(nostack, preserves_flags),
            );
        }
        true
    }
}

#[cfg(target_arch = "x86_64")]
pub(crate) use gs::{get, may_be_negative, set};
#[cfg(target_arch = "aarch64")]
pub(crate) use word::{get, may_be_negative, set};
