// SPDX-License-Identifier: MIT OR Apache-2.0
//! What annotations begin and end on the calling thread: sections of handles for the clients of the
//! device, and contexts for the collector of `rkcov run` too.
//!
//! Entering a context begins a section of its handle. So this stands above both, the device and
//! `run`, which do not know of each other.

use crate::device::{self, Userspace};
use crate::run::contexts::{self, Last};
use crate::tls::{self, Tls, UNATTACHED};
use crate::{run, sys, threads};
use core::sync::atomic::Ordering;
use rkcov_abi::CommonHandle;
use rkcov_core::Task;

/// The calling thread, after it was attached if it was not, and told of a fork of which libc did
/// not tell it.
pub(crate) fn task() -> &'static Task<Userspace> {
    let tls = tls::current();
    device::notice_fork(tls);
    if tls.hot.mode.load(Ordering::Relaxed) & UNATTACHED != 0 {
        run::attach(tls);
    }
    &tls.task
}

/// Begins a section of a handle.
pub(crate) fn begin(handle: u64) {
    if let Some(kcov) = device::kcov() {
        threads::announce_end(tls::current());
        kcov.start(task(), handle);
    }
}

/// Ends the innermost section, if there is one.
fn end() {
    if let Some(kcov) = device::kcov() {
        kcov.stop(task());
    }
}

/// Ends the innermost section, if there is one, whoever began it: if that was a context, this is left.
pub(crate) fn stop() {
    end();
    settle(tls::current());
}

/// The common handle that a thread which the calling one makes now will inherit.
pub(crate) fn inherited() -> Option<CommonHandle> {
    device::kcov()?;
    task().common(&Userspace)
}

/// The calling thread begins, with the common handle that it inherited.
pub(crate) fn inherit(common: CommonHandle) {
    threads::announce_end(tls::current());
    task().inherit(&Userspace, common);
}

/// Whether anybody collects, or may: otherwise contexts have no numbers.
pub(crate) fn are_contexts_wanted() -> bool {
    run::is_active() || device::kcov().is_some()
}

/// The calling thread begins in the context of whoever made it.
pub(crate) fn thread_began(tls: &'static Tls, context: u32) {
    if let Some(handle) = contexts::begin_in(tls, context) {
        begin(handle);
    }
}

/// Begins a section of a context on the calling thread. Of one that has no number, that is over, or for
/// which there is no room, what the thread runs is on nobody's account.
#[cold]
pub(crate) fn enter(tls: &'static Tls, context: u64) {
    if tls.is_inside() {
        // A handler on top of the rules, where nothing is recorded.
        begin(context);
        return;
    }
    let _signals = sys::SignalsBlocked::new();
    let interrupted = contexts::interrupt(tls);
    begin(context);
    if let Some(interrupted) = interrupted {
        contexts::enter(tls, context, interrupted, device::sections(tls));
    }
}

/// Ends the section that the calling thread began last: that of a context, or another one.
#[cold]
pub(crate) fn leave_last(tls: &'static Tls) {
    if tls.is_inside() {
        end();
        return;
    }
    let _signals = sys::SignalsBlocked::new();
    let sections = device::sections(tls);
    match contexts::take_last(tls, sections) {
        None => {}
        Some(Last::Section) => end(),
        Some(Last::Context) => {
            if sections > 0 {
                end();
            }
            contexts::resume(tls);
        }
    }
}

/// The calling thread has ended sections otherwise than by leaving contexts: those that were among them
/// are left.
fn settle(tls: &'static Tls) {
    if !contexts::are_entered(tls) || tls.is_inside() {
        return;
    }
    let _signals = sys::SignalsBlocked::new();
    let sections = device::sections(tls);
    while contexts::has_ended(tls, sections) {
        contexts::resume(tls);
    }
}
