// SPDX-License-Identifier: MIT OR Apache-2.0
//! The kcov device inside of a process.
//!
//! A descriptor is a file descriptor: an opened copy of an empty memory file, whose position is
//! the descriptor's number and which holds a lock on the byte at that number. The kernel thereby
//! does for us what it does for files: `dup()` and `fork()` share the descriptor, and when the
//! last copy is closed, by `close()` or by kill -9, the lock is gone and the number free.

pub mod api;
mod arena;
mod buffers;
mod family;
mod files;
mod host;
pub(crate) mod mark;
mod robust;

pub(crate) use host::Userspace;

use crate::tls::{self, Tls, UNATTACHED};
use crate::{run, threads};
use core::sync::atomic::Ordering;
use family::family;
use mark::Mark;
use rkcov_abi::CommonHandle;
use rkcov_core::Task;

/// The calling thread, after it was attached if it was not, and told of a fork of which libc did
/// not tell it.
pub(crate) fn task() -> &'static Task<Userspace> {
    let tls = tls::current();
    if Mark::Device.is_wiped() {
        forked(tls);
    }
    if tls.hot.mode.load(Ordering::Relaxed) & UNATTACHED != 0 {
        run::attach(tls);
    }
    &tls.task
}

/// The handle that a thread which the calling one makes now will inherit.
pub(crate) fn inherited() -> Option<CommonHandle> {
    family()?;
    task().common(&Userspace)
}

/// Begins a section of a handle. Says how many sections the thread is in then.
pub(crate) fn begin_section(handle: u64) -> u32 {
    let Some(family) = family() else { return 0 };
    threads::announce_end(tls::current());
    let task = task();
    family.kcov().start(task, handle);
    task.sections(&Userspace)
}

/// Ends the innermost section, if there is one.
pub(crate) fn end_section() {
    if let Some(family) = family() {
        family.kcov().stop(task());
    }
}

/// How many sections the calling thread is in.
pub(crate) fn sections(tls: &'static Tls) -> u32 {
    match family() {
        Some(_) => tls.task.sections(&Userspace),
        None => 0,
    }
}

/// Whether somebody in this process, or in one that it was forked from, has opened a kcov.
pub(crate) fn is_there() -> bool {
    family().is_some()
}

/// The calling thread begins, with what it inherited.
pub(crate) fn thread_began(common: CommonHandle) {
    threads::announce_end(tls::current());
    task().inherit(&Userspace, common);
}

/// The calling thread ends.
pub(crate) fn thread_ended(tls: &'static Tls) {
    if let Some(family) = family() {
        family.kcov().exit(&tls.task);
    }
}

/// The calling thread is the only one of a forked child.
pub(crate) fn forked(tls: &'static Tls) {
    // While the mark is wiped out, nobody uses the number.
    tls.number.store(0, Ordering::Relaxed);
    Mark::Device.set();
    let common = tls.task.common(&Userspace);
    tls.started.store(0, Ordering::Relaxed);
    tls.task.begin(&Userspace, common);
}
