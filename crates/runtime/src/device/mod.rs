// SPDX-License-Identifier: MIT OR Apache-2.0
//! The kcov device inside of a process.
//!
//! A descriptor is a file descriptor: an opened copy of an empty memory file, whose position is
//! the descriptor's number and which holds a lock on the byte at that number. The kernel thereby
//! does for us what it does for files: `dup()` and `fork()` share the descriptor, and when the
//! last copy is closed, by `close()` or by kill -9, the lock is gone and the number free.

mod arena;
mod buffers;
mod family;
pub(crate) mod files;
mod host;
mod robust;

pub(crate) use family::family;
pub(crate) use host::Userspace;

use crate::mark::Mark;
use crate::tls::Tls;
use core::sync::atomic::Ordering;
use rkcov_core::Kcov;

/// The kcov of this process, if it or a process that it was forked from has opened one.
pub(crate) fn kcov() -> Option<&'static Kcov<Userspace>> {
    family().map(family::Family::kcov)
}

/// How many sections the calling thread is in.
pub(crate) fn sections(tls: &'static Tls) -> u32 {
    match kcov() {
        Some(_) => tls.task.sections(&Userspace),
        None => 0,
    }
}

/// The calling thread ends.
pub(crate) fn thread_ended(tls: &'static Tls) {
    if let Some(kcov) = kcov() {
        kcov.exit(&tls.task);
    }
}

/// Tells the calling thread of a fork of which libc did not tell it.
pub(crate) fn notice_fork(tls: &'static Tls) {
    if Mark::Device.is_wiped() {
        forked(tls);
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
