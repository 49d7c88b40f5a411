// SPDX-License-Identifier: MIT OR Apache-2.0
//! The userspace host of the rules.

use super::family::family;
use super::robust::Robust;
use crate::{sys, tls};
use core::alloc::Layout;
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicU64, Ordering};
use rkcov_abi::Words;
use rkcov_core::sync::Word;
use rkcov_core::{Buffer, Context, Fault, Host, Hot, Nesting, Recording, Task, Warning};

/// A process, or a family of them that share an arena.
pub(crate) struct Userspace;

/// A thread, so that it can be told from one that has its number later.
#[derive(Clone, Copy)]
pub(crate) struct Owner {
    pid: u32,
    tid: u32,
    /// When it began, as `/proc` has it; 0 if that cannot be known.
    start: u64,
}

/// Keeps signal handlers on top of this thread from a task's own state.
pub(crate) struct Pin;

impl Drop for Pin {
    fn drop(&mut self) {
        tls::current().leave();
    }
}

// SAFETY: the arena gives blocks as asked for; a task is the calling thread's.
unsafe impl Host for Userspace {
    type Lock = Robust;
    type Mutex = Robust;
    type Buffer = Shared;
    type Owner = Owner;
    type Frames = [Recording<Self>; 8];
    type Pin = Pin;

    const NESTING: Nesting = Nesting::Suspend;
    const COMPARISONS: bool = true;
    const UNIQUE: bool = true;
    const USER_SUBSYSTEMS: bool = true;
    const SOFTIRQ_AREA: Words = Words::MIN;

    fn context(&self) -> Context {
        if tls::current().is_inside() {
            Context::Other
        } else {
            Context::Task
        }
    }

    fn pin(&self) -> Pin {
        tls::current().enter();
        Pin
    }

    fn hot<'t>(&self, _task: &'t Task<Self>) -> &'t Hot {
        // A task is the calling thread's: both are in its block.
        &tls::current().hot
    }

    fn buffer(&self, words: Words) -> Option<Shared> {
        Shared::new(words, family()?.next_buffer.fetch_add(1, Ordering::Relaxed))
    }

    fn alloc(&self, layout: Layout) -> Option<NonNull<u8>> {
        family()?.arena.alloc(layout)
    }

    unsafe fn free(&self, block: NonNull<u8>, layout: Layout) {
        if let Some(family) = family() {
            // SAFETY: the caller's contract.
            unsafe { family.arena.free(block, layout) };
        }
    }

    fn take_softirq_area(&self) -> Option<NonNull<u8>> {
        None
    }

    fn put_softirq_area(&self, _block: NonNull<u8>) {}

    /// Nothing that warns elsewhere is wrong here: sections nest, and tasks end inside them.
    fn warn_once(&self, _warning: Warning) {}

    fn owner(&self) -> Owner {
        let tls = tls::current();
        let tid = sys::thread_id();
        let mut start = tls.started.load(Ordering::Relaxed);
        if start == 0 {
            start = sys::thread_status(None).map_or(0, |status| status.start);
            tls.started.store(start, Ordering::Relaxed);
        }
        Owner {
            pid: sys::pid(),
            tid,
            start,
        }
    }

    fn is_gone(&self, owner: Owner) -> bool {
        match sys::thread_status(Some((owner.pid, owner.tid))) {
            Ok(status) => {
                status.is_dead
                    || (owner.start != 0 && status.start != owner.start)
                    || is_another_program(owner)
            }
            // Without `/proc`: whether anybody has these numbers.
            Err(_) => !sys::exists(owner.pid, owner.tid),
        }
    }

    fn read_client(&self, address: usize, into: &mut [u8]) -> Result<(), Fault> {
        sys::read_own_memory(address, into).map_err(|_| Fault)
    }

    fn seed(&self) -> u64 {
        sys::random()
    }
}

/// Whether a process that once shared our arena has another program in it now, through `exec`.
fn is_another_program(owner: Owner) -> bool {
    let arena = family().map_or(0, |family| ptr::from_ref(family.arena).addr());
    // Whom we may not ask is taken to be as it was.
    owner.pid != sys::pid() && sys::shares_mapping(owner.pid, owner.tid, arena as u64) == Ok(false)
}

/// A client's buffer: anonymous memory that forked children share, and that every `mmap()` of the
/// device maps once more. Where that is refused (by valgrind), a memory file that is kept open.
pub(crate) struct Shared {
    id: u64,
    base: *mut Word,
    bytes: usize,
    /// The file, or -1.
    file: i32,
}

// SAFETY: memory that is tied to no thread.
unsafe impl Send for Shared {}
// SAFETY: all its words are atomics.
unsafe impl Sync for Shared {}

impl Shared {
    fn new(words: Words, id: u64) -> Option<Self> {
        let bytes = words.bytes().next_multiple_of(sys::PAGE);
        let (base, file) = if sys::can_map_again() {
            (sys::map_shared_anonymous(bytes).ok()?, None)
        } else {
            let file = sys::memory_file(c"kcov buffer").ok()?;
            let file = sys::duplicate(file.raw(), sys::FD_FLOOR).unwrap_or(file);
            sys::set_size(file.raw(), bytes).ok()?;
            (sys::map_shared(file.raw(), 0, bytes).ok()?, Some(file))
        };
        if !HERE.insert(id) {
            // SAFETY: made just now, and nobody knows of it.
            unsafe { sys::unmap(base, bytes) };
            return None;
        }
        Some(Self {
            id,
            base: base.cast(),
            bytes,
            file: file.map_or(-1, sys::Fd::into_raw),
        })
    }

    /// Maps the buffer once more.
    pub(crate) fn map(
        &self,
        wish: usize,
        protection: i32,
        fixed: bool,
    ) -> Result<usize, sys::Error> {
        if self.file >= 0 {
            return sys::map_file(self.file, self.bytes, wish, protection, fixed);
        }
        sys::map_again(self.base.cast(), self.bytes, wish, protection, fixed)
    }
}

// SAFETY: the mapping stays at its address until `drop()`, in this process and in those that
// inherited it.
unsafe impl Buffer for Shared {
    fn base(&self) -> *mut Word {
        self.base
    }

    fn is_here(&self) -> bool {
        HERE.contains(self.id)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // Whoever has the last reference may be a process that was forked before the buffer was.
        if HERE.remove(self.id) {
            // SAFETY: this process has the mapping, and there are no more references to it.
            unsafe { sys::unmap(self.base.cast(), self.bytes) };
            if self.file >= 0 {
                let _ = sys::close(self.file);
            }
        }
    }
}

/// Most buffers that a process can have at once.
const BUFFERS: usize = 1 << 14;
const EMPTY: u64 = 0;
const REMOVED: u64 = u64::MAX;

/// The buffers that this process has in its memory; a forked child inherits both.
struct Here([AtomicU64; BUFFERS]);

static HERE: Here = Here([const { AtomicU64::new(EMPTY) }; BUFFERS]);

impl Here {
    /// The places where `id` may be, in order.
    fn places(&self, id: u64) -> impl Iterator<Item = &AtomicU64> {
        let first = id as usize % BUFFERS;
        let (low, high) = self.0.split_at_checked(first).unwrap_or((&[], &self.0));
        high.iter().chain(low)
    }

    fn insert(&self, id: u64) -> bool {
        self.places(id).any(|place| {
            [EMPTY, REMOVED].iter().any(|free| {
                place
                    .compare_exchange(*free, id, Ordering::Relaxed, Ordering::Relaxed)
                    .is_ok()
            })
        })
    }

    fn find(&self, id: u64) -> Option<&AtomicU64> {
        self.places(id)
            .take_while(|place| place.load(Ordering::Relaxed) != EMPTY)
            .find(|place| place.load(Ordering::Relaxed) == id)
    }

    fn contains(&self, id: u64) -> bool {
        self.find(id).is_some()
    }

    fn remove(&self, id: u64) -> bool {
        self.find(id)
            .map(|place| place.store(REMOVED, Ordering::Relaxed))
            .is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::callbacks::__sanitizer_cov_trace_pc;
    use crate::device::api::*;
    use crate::device::files::tests::ALONE;
    use core::ffi::c_ulong;
    use rkcov_abi::ioctl::{KCOV_DISABLE, KCOV_INIT_TRACE, KCOV_REMOTE_ENABLE};

    #[test]
    fn a_buffer_that_is_gone_leaves_its_place_to_another() {
        static HERE: Here = Here([const { AtomicU64::new(EMPTY) }; BUFFERS]);
        let all = BUFFERS as u64;
        for id in 1..=all {
            assert!(HERE.insert(id));
        }
        assert!(!HERE.insert(all + 1), "all places are taken");
        // One that was found behind others is still found when they are gone.
        let collides = all + 7;
        assert!(HERE.remove(7) && HERE.remove(9));
        assert!(HERE.insert(collides) && HERE.insert(all + 9));
        assert!(HERE.remove(8) && HERE.contains(all + 9));
        for id in (1..=6).chain(10..=all).chain([collides, all + 9]) {
            assert!(HERE.contains(id) && HERE.remove(id), "{id}");
        }
        assert!((1..=all + 9)
            .step_by(997)
            .all(|id| !HERE.contains(id) && !HERE.remove(id)));
        // Many more than there are places, one after the other.
        for id in 2 * all..5 * all {
            assert!(HERE.insert(id) && HERE.contains(id) && HERE.remove(id));
        }
    }

    /// `KCOV_REMOTE_ENABLE`'s argument, with one handle.
    #[repr(C)]
    struct Request {
        mode: u32,
        area: u32,
        count: u32,
        common: u64,
        handle: u64,
    }

    fn call(fd: i32, number: u32, argument: usize) {
        let answer = rkcov_ioctl(fd, c_ulong::from(number), argument as c_ulong);
        assert_eq!(answer, 0, "{number:#x}");
    }

    #[test]
    fn who_was_forked_before_the_buffer_was_made_is_counted_and_writes_nowhere() {
        const HANDLE: u64 = 0x80 << 56 | 4242;
        let _alone = ALONE.lock().unwrap();
        let section = || {
            kcov_remote_start(HANDLE);
            // SAFETY: called as compilers call it.
            unsafe { __sanitizer_cov_trace_pc() };
            kcov_remote_stop();
        };
        let fd = rkcov_open();
        let mut pipe = [0; 2];
        // SAFETY: a place for two files.
        assert!(fd >= 0 && unsafe { libc::pipe(pipe.as_mut_ptr()) } == 0);
        let mut byte = 0_u8;
        // SAFETY: the child waits, calls nothing but the runtime, and leaves.
        let child = unsafe { libc::fork() };
        assert!(child >= 0);
        if child == 0 {
            // SAFETY: a place for a byte; the child leaves at once.
            unsafe {
                let read = libc::read(pipe[0], ptr::from_mut(&mut byte).cast(), 1);
                section();
                libc::_exit(i32::from(read != 1));
            }
        }
        call(fd, KCOV_INIT_TRACE, 64);
        let (access, shared) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED);
        // SAFETY: anywhere.
        let words = unsafe { rkcov_mmap(ptr::null_mut(), 512, access, shared, fd, 0) };
        assert_ne!(words, libc::MAP_FAILED);
        let words = words.cast::<AtomicU64>();
        // SAFETY: a mapped page.
        let count = || unsafe { (*words).load(Ordering::Acquire) };
        let request = Request {
            mode: 0,
            area: 16,
            count: 1,
            common: 0,
            handle: HANDLE,
        };
        let argument = ptr::from_ref(&request).expose_provenance();
        call(fd, KCOV_REMOTE_ENABLE, argument);
        let mut status = 0;
        // SAFETY: a byte of ours, and a place for our child's status.
        unsafe {
            assert_eq!(libc::write(pipe[1], ptr::from_ref(&byte).cast(), 1), 1);
            assert_eq!(libc::waitpid(child, &mut status, 0), child);
        }
        assert_eq!(status, 0, "the child came to harm");
        let mut drops = Drops::default();
        // SAFETY: a place of ours.
        assert_eq!(unsafe { rkcov_drops(fd, &mut drops) }, 0);
        assert_eq!((count(), drops.no_area), (0, 1));
        section();
        assert_eq!(count(), 1);
        call(fd, KCOV_DISABLE, 0);
        // SAFETY: our page.
        assert_eq!(unsafe { libc::munmap(words.cast(), sys::PAGE) }, 0);
        assert_eq!(rkcov_close(fd), 0);
    }
}
