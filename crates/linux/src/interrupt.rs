// SPDX-License-Identifier: MIT OR Apache-2.0
//! Signals that ask this process to end, noticed and not obeyed while a guest runs: neither the
//! guest nor its files may be left behind.

use libc::c_int;
use std::mem::zeroed;
use std::ptr;
use std::sync::atomic::{AtomicI32, Ordering};

/// What a terminal, a service manager and a lost connection send.
const SIGNALS: [c_int; 4] = [libc::SIGINT, libc::SIGQUIT, libc::SIGTERM, libc::SIGHUP];

/// The last that came; 0 is none.
static CAME: AtomicI32 = AtomicI32::new(0);

extern "C" fn note(signal: c_int) {
    CAME.store(signal, Ordering::Relaxed);
}

/// While this lives, signals are noticed. Those that were ignored still are.
#[must_use = "signals are not noticed any more when this is dropped"]
pub(crate) struct Watch([libc::sigaction; SIGNALS.len()]);

impl Watch {
    pub(crate) fn begin() -> Self {
        CAME.store(0, Ordering::Relaxed);
        Self(SIGNALS.map(|signal| {
            // SAFETY: structures that the calls fill in; the handler stores a number and does
            // nothing else.
            unsafe {
                let mut before: libc::sigaction = zeroed();
                libc::sigaction(signal, ptr::null(), &mut before);
                if before.sa_sigaction != libc::SIG_IGN {
                    let mut ours: libc::sigaction = zeroed();
                    ours.sa_sigaction = note as extern "C" fn(c_int) as libc::sighandler_t;
                    ours.sa_flags = libc::SA_RESTART;
                    libc::sigaction(signal, &ours, ptr::null_mut());
                }
                before
            }
        }))
    }

    /// The signal that asks this process to end, if one came.
    pub(crate) fn signal(&self) -> Option<i32> {
        match CAME.load(Ordering::Relaxed) {
            0 => None,
            signal => Some(signal),
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        for (signal, before) in SIGNALS.iter().zip(&self.0) {
            // SAFETY: what `begin()` was told.
            unsafe { libc::sigaction(*signal, before, ptr::null_mut()) };
        }
    }
}

/// Held by tests that send signals to this process, or run a guest that they would end.
#[cfg(test)]
pub(crate) fn alone() -> std::sync::MutexGuard<'static, ()> {
    static ALONE: std::sync::Mutex<()> = std::sync::Mutex::new(());
    ALONE
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_is_noticed_and_what_it_did_before_comes_back() {
        let _alone = alone();
        let handler = |signal| {
            // SAFETY: a structure that the call fills in.
            unsafe {
                let mut now: libc::sigaction = zeroed();
                libc::sigaction(signal, ptr::null(), &mut now);
                now.sa_sigaction
            }
        };
        // SAFETY: nothing in this process relies on this signal.
        unsafe { libc::signal(libc::SIGHUP, libc::SIG_IGN) };
        let before = SIGNALS.map(handler);
        let watch = Watch::begin();
        assert_eq!(handler(libc::SIGHUP), libc::SIG_IGN);
        assert_eq!(watch.signal(), None);
        // SAFETY: it has a handler.
        unsafe { libc::raise(libc::SIGTERM) };
        assert_eq!(watch.signal(), Some(libc::SIGTERM));
        drop(watch);
        assert_eq!(SIGNALS.map(handler), before);
    }
}
