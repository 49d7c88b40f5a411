// SPDX-License-Identifier: GPL-2.0 OR MIT
//! A crate root like a kernel's: the shared files by path, and a host that is nothing but symbols.
#![no_std]

#[path = ABI]
pub mod abi;
#[path = RULES]
pub mod rules;

use abi::Words;
use core::alloc::Layout;
use core::ptr::NonNull;
use rules::*;

extern "C" {
    fn host_lock(lock: *const u8) -> usize;
    fn host_unlock(lock: *const u8, flags: usize);
    fn host_context() -> u32;
    fn host_hot() -> *const Hot;
    fn host_alloc(bytes: usize) -> *mut u8;
    fn host_free(block: *mut u8);
    fn host_read(address: usize, into: *mut u8, bytes: usize) -> bool;
    fn host_warn(text: *const u8, bytes: usize);
}

pub struct Lock(u8);

// SAFETY: as the symbols' definitions would promise.
unsafe impl RawLock for Lock {
    type Saved = usize;
    unsafe fn init(slot: *mut Self) {
        // SAFETY: the caller's contract.
        unsafe { slot.write(Self(0)) }
    }
    fn lock(&self) -> usize {
        // SAFETY: a symbol of this test that is never linked.
        unsafe { host_lock(&self.0) }
    }
    unsafe fn unlock(&self, flags: usize) {
        // SAFETY: as above.
        unsafe { host_unlock(&self.0, flags) }
    }
}

pub struct Shared(*mut u64);

// SAFETY: as above.
unsafe impl Buffer for Shared {
    fn base(&self) -> *mut sync::Word {
        self.0.cast()
    }
}

pub struct Kernel;

// SAFETY: as above.
unsafe impl Host for Kernel {
    type Lock = Lock;
    type Mutex = Lock;
    type Buffer = Shared;
    type Owner = ();
    type Frames = [Recording<Self>; 2];
    type Pin = ();

    const NESTING: Nesting = Nesting::Refuse;
    const COMPARISONS: bool = true;
    const UNIQUE: bool = false;
    const USER_SUBSYSTEMS: bool = false;
    const SOFTIRQ_AREA: Words = Words::MIN;

    fn context(&self) -> Context {
        // SAFETY: as above.
        match unsafe { host_context() } {
            0 => Context::Task,
            1 => Context::Softirq,
            _ => Context::Other,
        }
    }
    fn pin(&self) {}
    fn hot<'t>(&self, _: &'t Task<Self>) -> &'t Hot {
        // SAFETY: as above.
        unsafe { &*host_hot() }
    }
    fn buffer(&self, words: Words) -> Option<Shared> {
        // SAFETY: as above.
        NonNull::new(unsafe { host_alloc(words.bytes()) }).map(|b| Shared(b.as_ptr().cast()))
    }
    fn alloc(&self, layout: Layout) -> Option<NonNull<u8>> {
        // SAFETY: as above.
        NonNull::new(unsafe { host_alloc(layout.size()) })
    }
    unsafe fn free(&self, block: NonNull<u8>, _: Layout) {
        // SAFETY: as above.
        unsafe { host_free(block.as_ptr()) }
    }
    fn take_softirq_area(&self) -> Option<NonNull<u8>> {
        self.alloc(Area::layout(Self::SOFTIRQ_AREA))
    }
    fn put_softirq_area(&self, block: NonNull<u8>) {
        // SAFETY: as above.
        unsafe { host_free(block.as_ptr()) }
    }
    fn warn_once(&self, warning: Warning) {
        let text = warning.message();
        // SAFETY: as above.
        unsafe { host_warn(text.as_ptr(), text.len()) }
    }
    fn owner(&self) {}
    fn is_gone(&self, (): ()) -> bool {
        false
    }
    fn read_client(&self, address: usize, into: &mut [u8]) -> Result<(), Fault> {
        // SAFETY: as above.
        let good = unsafe { host_read(address, into.as_mut_ptr(), into.len()) };
        good.then_some(()).ok_or(Fault)
    }
    fn seed(&self) -> u64 {
        1
    }
}

#[no_mangle]
pub fn open(kcov: &'static Kcov<Kernel>) -> Option<Ref<Kernel>> {
    kcov.open().ok()
}

#[no_mangle]
pub fn ioctl(kcov: &Kcov<Kernel>, d: &Ref<Kernel>, task: &Task<Kernel>, n: u32, arg: usize) -> i32 {
    kcov.ioctl(d, task, n, arg).map_or_else(|errno| -errno.raw(), |()| 0)
}

#[no_mangle]
pub fn start(kcov: &Kcov<Kernel>, task: &Task<Kernel>, handle: u64) {
    kcov.start(task, handle);
}

#[no_mangle]
pub fn stop(kcov: &Kcov<Kernel>, task: &Task<Kernel>) {
    kcov.stop(task);
}

#[no_mangle]
pub fn exit(kcov: &Kcov<Kernel>, task: &Task<Kernel>) {
    kcov.exit(task);
}

#[no_mangle]
pub fn map(kcov: &Kcov<Kernel>, d: &Ref<Kernel>, bytes: usize, offset: u64) -> bool {
    kcov.map(d, bytes, offset, 4096).is_ok()
}

/// # Safety
/// As [`append::append_pc`].
#[no_mangle]
pub unsafe fn trace(area: *const sync::Word, limit: u32, pc: u64) -> bool {
    // SAFETY: the caller's contract.
    unsafe { append::append_pc(area, limit, pc) == append::Appended::Yes }
}
