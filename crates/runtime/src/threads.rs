// SPDX-License-Identifier: MIT OR Apache-2.0
//! The beginnings and ends of threads, and forks.

use crate::linkage::{self, Routine};
use crate::tls::{self, Tls};
use crate::{device, lock, maps, modules, run, sections, stores, sys};
use core::cell::UnsafeCell;
use core::ffi::{c_char, c_int, c_void, CStr};
use core::mem::{size_of, MaybeUninit};
use core::ptr;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
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

/// The key whose value has [`ended`] called.
static KEY: AtomicU32 = AtomicU32::new(NOT_MADE);
const NOT_MADE: u32 = u32::MAX;
/// There is none that would do. The collector learns of ends from the kernel.
const NONE: u32 = u32::MAX - 1;

/// Watches the process for ends of threads and for forks. From here on there is a key: of several
/// threads that make one at the same time, all go on with the same.
pub(crate) fn watch() {
    if KEY.load(Ordering::Acquire) == NOT_MADE {
        let mine = make_key();
        let taken = KEY.compare_exchange(NOT_MADE, mine, Ordering::AcqRel, Ordering::Acquire);
        if taken.is_err() && mine != NONE {
            // SAFETY: made just now, and nobody has it.
            unsafe { libc::pthread_key_delete(mine) };
        }
    }
    // Of several threads that come at the same time each registers the handlers: none of them forks
    // without, and none waits for another. The handlers count how often they stand in the list.
    static WATCHED: AtomicBool = AtomicBool::new(false);
    if !WATCHED.load(Ordering::Acquire) {
        // SAFETY: the handlers match. Registered before any other handler, the first runs last
        // before the fork, and the others first after it.
        unsafe { libc::pthread_atfork(Some(before_fork), Some(after_fork), Some(in_child)) };
        WATCHED.store(true, Ordering::Release);
    }
}

fn make_key() -> u32 {
    let mut key = 0;
    // SAFETY: the key's destructor matches.
    if unsafe { libc::pthread_key_create(&mut key, Some(ended)) } != 0 {
        return NONE;
    }
    if key < KEYS_WITHOUT_ALLOCATION {
        return key;
    }
    // SAFETY: made just now, and nobody has it.
    unsafe { libc::pthread_key_delete(key) };
    NONE
}

/// Has [`ended`] called at the end of the calling thread, whose block is `tls`.
pub(crate) fn announce_end(tls: &Tls) {
    if tls.announced.load(Ordering::Relaxed) != 0 {
        return;
    }
    let key = KEY.load(Ordering::Relaxed);
    if key < KEYS_WITHOUT_ALLOCATION {
        tls.announced.store(1, Ordering::Relaxed);
        // SAFETY: the key exists, and its value is never null.
        unsafe { libc::pthread_setspecific(key, ptr::from_ref(tls).cast()) };
    }
}

/// The calling thread ends. Called once in every round over its keys; destructors of other keys
/// may run instrumented code until the last.
///
/// # Safety
/// libc calls it as the key's destructor.
unsafe extern "C" fn ended(_value: *mut c_void) {
    let tls = tls::current();
    // libc has forgotten it.
    tls.announced.store(0, Ordering::Relaxed);
    let round = tls.ends.load(Ordering::Relaxed) + 1;
    tls.ends.store(round, Ordering::Relaxed);
    if round < last_round() {
        announce_end(tls);
    } else {
        device::thread_ended(tls);
        run::contexts::thread_ended(tls);
        run::leave(tls, SlotState::Finished);
    }
}

/// What a new thread has of its parent.
struct Birth {
    routine: Routine,
    argument: *mut c_void,
    common: Option<CommonHandle>,
    context: u32,
    creator: u32,
    maker: u64,
}

/// `pthread_create()` as programs find it: the new thread inherits the common handle, for life, and the
/// context, until that ends; and does not inherit its parent's map.
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
    let common = sections::inherited();
    // They may name memory of the program's own, in which libc clears all but the word that is the base.
    let cleared = cfg!(target_arch = "x86_64") || attributes.is_null();
    if common.is_none() && !run::is_active() && cleared {
        // SAFETY: the caller's contract.
        return unsafe { linkage::create(thread, attributes, routine, argument) };
    }
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
            context: run::contexts::inherited(),
            creator: sys::thread_id(),
            maker: run::maker(tls::current()),
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

/// `pthread_setname_np()` as programs find it: the collector learns of the name.
///
/// # Safety
/// As `pthread_setname_np()`.
#[cfg_attr(rkcov_object, no_mangle)]
pub unsafe extern "C" fn pthread_setname_np(thread: libc::pthread_t, name: *const c_char) -> c_int {
    // SAFETY: the caller's contract.
    unsafe { named(thread, name, linkage::set_name(thread, name)) }
}

/// The same for static programs, which are linked with `--wrap=pthread_setname_np`.
///
/// # Safety
/// As `pthread_setname_np()`.
#[cfg(rkcov_object)]
#[no_mangle]
pub unsafe extern "C" fn __wrap_pthread_setname_np(
    thread: libc::pthread_t,
    name: *const c_char,
) -> c_int {
    // SAFETY: the caller's contract.
    unsafe { named(thread, name, linkage::set_name_static(thread, name)) }
}

/// # Safety
/// `thread` is a thread of this process that has not been joined, and `name` a C string.
unsafe fn named(thread: libc::pthread_t, name: *const c_char, result: c_int) -> c_int {
    if result == 0 {
        // SAFETY: the caller's contract.
        run::renamed(unsafe { tls::of(thread) }, unsafe { CStr::from_ptr(name) });
    }
    result
}

/// What a thread runs, in two registers.
#[repr(C)]
struct Entry {
    routine: Routine,
    argument: *mut c_void,
}

/// Where a thread begins that inherits something. It leaves nothing on the stack: when the thread
/// is cancelled, nobody unwinds through a frame of ours.
///
/// # Safety
/// libc calls it where a thread begins. `birth` is what the creator made for this thread.
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
        context,
        maker,
        creator,
    } = unsafe { birth.read() };
    // SAFETY: allocated by `pthread_create()` above.
    unsafe { libc::free(birth.cast()) };
    // A clone has its parent's map.
    maps::leave_parents(tls::current());
    tls::current().creator.store(creator, Ordering::Relaxed);
    tls::current().maker.store(maker, Ordering::Relaxed);
    sections::thread_began(tls::current(), context);
    if stores::are_there() {
        run::attach(tls::current());
    }
    if let Some(common) = common {
        sections::inherit(common);
    }
    Entry { routine, argument }
}

/// What [`before_fork`] leaves to the handlers after the fork.
struct Forking(UnsafeCell<MaybeUninit<Before>>);
type Before = (lock::Held, modules::Removing, u32);
// SAFETY: used only between `before_fork()` and the handlers after it, while the lock is held.
unsafe impl Sync for Forking {}
static FORKING: Forking = Forking(UnsafeCell::new(MaybeUninit::uninit()));

/// The thread that forks now, as the address of its block, and how often its handlers have run.
static FORKER: AtomicUsize = AtomicUsize::new(0);
static HANDLERS: AtomicU32 = AtomicU32::new(0);

fn forks_now() -> bool {
    FORKER.load(Ordering::Relaxed) == ptr::from_ref(tls::current()).addr()
}

/// Takes the lock, so that the child finds it in order. All signals are blocked from here until
/// the child has let go of its parent's slot.
///
/// # Safety
/// libc calls it, before a fork by this thread.
unsafe extern "C" fn before_fork() {
    if !forks_now() {
        let removing = modules::Removing::begin();
        let lock = lock::take();
        let modules = run::modules_now();
        // SAFETY: the lock is held.
        unsafe { (*FORKING.0.get()).write((lock, removing, modules)) };
        FORKER.store(ptr::from_ref(tls::current()).addr(), Ordering::Relaxed);
    }
    HANDLERS.fetch_add(1, Ordering::Relaxed);
}

/// What the first handler before the fork left, for the last one after it.
fn after_all_handlers() -> Option<Before> {
    if !forks_now() || HANDLERS.fetch_sub(1, Ordering::Relaxed) != 1 {
        return None;
    }
    FORKER.store(0, Ordering::Relaxed);
    // SAFETY: `before_fork()` ran in this thread and wrote it; the child has a copy.
    Some(unsafe { (*FORKING.0.get()).assume_init_read() })
}

/// The parent goes on.
///
/// # Safety
/// libc calls it in the thread that has forked, after [`before_fork`].
unsafe extern "C" fn after_fork() {
    drop(after_all_handlers());
}

/// The child begins.
///
/// # Safety
/// libc calls it in the child's thread; [`before_fork`] ran in the one that it is a copy of.
unsafe extern "C" fn in_child() {
    let Some((lock, _removing, modules)) = after_all_handlers() else {
        return;
    };
    device::forked(tls::current());
    run::forked(&lock, modules);
    drop(lock);
    if stores::are_there() {
        run::attach(tls::current());
    }
}
