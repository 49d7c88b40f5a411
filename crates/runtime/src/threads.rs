// SPDX-License-Identifier: MIT OR Apache-2.0
//! The beginnings and ends of threads, and forks.

use crate::linkage::{self, Routine};
use crate::tls::{self, Tls};
use crate::{device, lock, run};
use core::cell::UnsafeCell;
use core::ffi::{c_int, c_void};
use core::mem::{size_of, MaybeUninit};
use core::ptr;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use rkcov_abi::CommonHandle;
use rkcov_region::SlotState;

/// glibc keeps the values of this many keys in the thread itself; the first value of another key
/// would allocate, which a callback must not.
const KEYS_WITHOUT_ALLOCATION: u32 = 32;
/// How often a thread that ends goes round its keys, `PTHREAD_DESTRUCTOR_ITERATIONS`.
const ROUNDS: u32 = 4;

/// The round in which the thread ends for us: the last one. The thread sanitizer, which has a key
/// too, takes its own leave of the thread there, and libc's locks must not be used after it.
fn last_round() -> u32 {
    if is_thread_sanitizer_here() {
        ROUNDS - 1
    } else {
        ROUNDS
    }
}

fn is_thread_sanitizer_here() -> bool {
    let at: usize;
    #[cfg(target_arch = "x86_64")]
    // SAFETY: reads the address of a symbol that need not be there.
    unsafe {
        core::arch::asm!(
            ".weak __tsan_init",
            "mov {0}, qword ptr [rip + __tsan_init@GOTPCREL]",
            out(reg) at,
            options(pure, readonly, nostack),
        );
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: as above.
    unsafe {
        core::arch::asm!(
            ".weak __tsan_init",
            "adrp {0}, :got:__tsan_init",
            "ldr {0}, [{0}, :got_lo12:__tsan_init]",
            out(reg) at,
            options(pure, readonly, nostack),
        );
    }
    at != 0
}

static KEY: AtomicU32 = AtomicU32::new(u32::MAX);

/// Watches the process for ends of threads and for forks.
pub(crate) fn watch() {
    static DONE: AtomicBool = AtomicBool::new(false);
    if DONE.swap(true, Ordering::Relaxed) {
        return;
    }
    let mut key = 0;
    // SAFETY: the key's destructor matches.
    let made = unsafe { libc::pthread_key_create(&mut key, Some(ended)) } == 0;
    if made && key < KEYS_WITHOUT_ALLOCATION {
        KEY.store(key, Ordering::Relaxed);
    }
    // SAFETY: the handlers match. Registered before any other handler, the first runs last before
    // the fork, and the others first after it.
    unsafe { libc::pthread_atfork(Some(before_fork), Some(after_fork), Some(in_child)) };
}

/// Has [`ended`] called at the end of the calling thread, whose block is `tls`.
pub(crate) fn announce_end(tls: &Tls) {
    let key = KEY.load(Ordering::Relaxed);
    if key != u32::MAX {
        // SAFETY: the key exists, and its value is never null.
        unsafe { libc::pthread_setspecific(key, ptr::from_ref(tls).cast()) };
    }
}

/// The calling thread ends. Called once in every round over its keys; destructors of other keys
/// may run instrumented code until the last.
unsafe extern "C" fn ended(_value: *mut c_void) {
    let tls = tls::current();
    let round = tls.ends.load(Ordering::Relaxed) + 1;
    tls.ends.store(round, Ordering::Relaxed);
    if round < last_round() {
        announce_end(tls);
    } else {
        device::thread_ended(tls);
        run::leave(tls, SlotState::Finished);
    }
}

/// What a new thread has of its parent.
struct Birth {
    routine: Routine,
    argument: *mut c_void,
    common: CommonHandle,
}

/// `pthread_create()` as programs find it: the new thread inherits the common handle, for life.
///
/// # Safety
/// As `pthread_create()`.
#[cfg_attr(rkcov_object, no_mangle)]
pub unsafe extern "C" fn pthread_create(
    thread: *mut libc::pthread_t,
    attributes: *const libc::pthread_attr_t,
    routine: Routine,
    argument: *mut c_void,
) -> c_int {
    let Some(common) = device::inherited() else {
        // SAFETY: the caller's contract.
        return unsafe { linkage::create(thread, attributes, routine, argument) };
    };
    #[cfg(test)]
    if crate::faults::strikes() {
        return libc::EAGAIN;
    }
    // SAFETY: libc's allocator.
    let birth = unsafe { libc::malloc(size_of::<Birth>()) }.cast::<Birth>();
    if birth.is_null() {
        return libc::EAGAIN;
    }
    // SAFETY: a block of that size. `begin` frees it if it runs; if there is no thread, we do.
    unsafe {
        birth.write(Birth {
            routine,
            argument,
            common,
        });
        let result = linkage::create(thread, attributes, begin, birth.cast());
        if result != 0 {
            libc::free(birth.cast());
        }
        result
    }
}

/// The same for static programs, which are linked with `--wrap=pthread_create`.
///
/// # Safety
/// As `pthread_create()`.
#[cfg_attr(rkcov_object, no_mangle)]
pub unsafe extern "C" fn __wrap_pthread_create(
    thread: *mut libc::pthread_t,
    attributes: *const libc::pthread_attr_t,
    routine: Routine,
    argument: *mut c_void,
) -> c_int {
    // SAFETY: the caller's contract.
    unsafe { pthread_create(thread, attributes, routine, argument) }
}

/// What a thread runs, in two registers.
#[repr(C)]
struct Entry {
    routine: Routine,
    argument: *mut c_void,
}

/// Where a thread begins that inherits something. It leaves nothing on the stack: when the thread
/// is cancelled, nobody unwinds through a frame of ours.
#[unsafe(naked)]
unsafe extern "C" fn begin(birth: *mut c_void) -> *mut c_void {
    #[cfg(target_arch = "x86_64")]
    core::arch::naked_asm!(
        "sub rsp, 8",
        "call {born}",
        "add rsp, 8",
        "mov rdi, rdx",
        "jmp rax",
        born = sym born,
    );
    #[cfg(target_arch = "aarch64")]
    core::arch::naked_asm!(
        "stp x29, x30, [sp, -16]!",
        "bl {born}",
        "ldp x29, x30, [sp], 16",
        "mov x2, x0",
        "mov x0, x1",
        "br x2",
        born = sym born,
    );
}

/// # Safety
/// `birth` is what `pthread_create()` above wrote for this thread alone.
unsafe extern "C" fn born(birth: *mut Birth) -> Entry {
    // SAFETY: the caller's contract.
    let Birth {
        routine,
        argument,
        common,
    } = unsafe { birth.read() };
    // SAFETY: allocated by `pthread_create()` above.
    unsafe { libc::free(birth.cast()) };
    device::thread_began(common);
    Entry { routine, argument }
}

/// What [`before_fork`] leaves to the handlers after the fork.
struct Forking(UnsafeCell<MaybeUninit<(lock::Held, u32)>>);
// SAFETY: used only between `before_fork()` and the handlers after it, while the lock is held.
unsafe impl Sync for Forking {}
static FORKING: Forking = Forking(UnsafeCell::new(MaybeUninit::uninit()));

/// Takes the lock, so that the child finds it in order. All signals are blocked from here until
/// the child has let go of its parent's slot.
unsafe extern "C" fn before_fork() {
    let lock = lock::take();
    let modules = run::modules_now();
    // SAFETY: the lock is held.
    unsafe { (*FORKING.0.get()).write((lock, modules)) };
}

unsafe extern "C" fn after_fork() {
    // SAFETY: `before_fork()` ran in this thread and wrote it.
    drop(unsafe { (*FORKING.0.get()).assume_init_read() });
}

unsafe extern "C" fn in_child() {
    // SAFETY: as above; the child has a copy.
    let (lock, modules) = unsafe { (*FORKING.0.get()).assume_init_read() };
    run::forked(&lock, modules);
}
