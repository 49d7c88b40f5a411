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
                    || is_another_program(owner.pid)
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
fn is_another_program(pid: u32) -> bool {
    let arena = family().map_or(0, |family| ptr::from_ref(family.arena).addr());
    // Whom we may not ask is taken to be as it was.
    pid != sys::pid() && sys::shares_mapping(pid, arena as u64) == Ok(false)
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
