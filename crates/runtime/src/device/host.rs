// SPDX-License-Identifier: MIT OR Apache-2.0
//! The userspace host of the rules.

use super::buffers::Shared;
use super::family::family;
use super::robust::Robust;
use crate::{maps, sys, tls};
use core::alloc::Layout;
use core::ptr::{self, NonNull};
use core::sync::atomic::Ordering;
use rkcov_abi::Words;
use rkcov_core::{Context, Fault, Host, Hot, Nesting, Recording, Task, Warning};

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
#[must_use = "handlers are let in again when this is dropped"]
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

    fn switched(&self, _task: &Task<Self>, idle: bool) {
        maps::switch(tls::current(), idle);
    }

    fn buffer(&self, words: Words) -> Option<Shared> {
        Shared::new(words, &family()?.buffers)
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
