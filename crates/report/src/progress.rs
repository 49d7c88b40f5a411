// SPDX-License-Identifier: MIT OR Apache-2.0
//! How far the reading of traces has come, for whoever watches.

use std::sync::atomic::{AtomicU64, Ordering};

/// How far it has come. What is unknown is 0.
#[derive(Debug, Default)]
pub struct Progress {
    threads: Counter,
    code: Counter,
}

/// Something done, of all that is to be done.
#[derive(Debug, Default)]
struct Counter {
    done: AtomicU64,
    all: AtomicU64,
}

/// What is being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The records of threads are read: so many of so many threads.
    Threads(u64, u64),
    /// The machine code of programs is read.
    Programs,
    /// Lines are looked up: of so many of so many pieces of code.
    Code(u64, u64),
    /// All were; what was found is put together and written.
    Writing,
}

impl Progress {
    /// What is being done now.
    #[must_use]
    pub fn step(&self) -> Step {
        let ((threads, all_threads), (code, all_code)) = (self.threads.now(), self.code.now());
        if threads < all_threads || all_threads == 0 {
            Step::Threads(threads, all_threads)
        } else if all_code == 0 {
            Step::Programs
        } else if code < all_code {
            Step::Code(code, all_code)
        } else {
            Step::Writing
        }
    }

    pub(crate) fn expect_threads(&self, all: usize) {
        self.threads.all.fetch_add(all as u64, Ordering::Relaxed);
    }

    pub(crate) fn threads_done(&self, done: usize) {
        self.threads.done.fetch_add(done as u64, Ordering::Relaxed);
    }

    pub(crate) fn expect_code(&self, all: usize) {
        self.code.all.fetch_add(all as u64, Ordering::Relaxed);
    }

    pub(crate) fn code_done(&self, done: usize) {
        self.code.done.fetch_add(done as u64, Ordering::Relaxed);
    }
}

impl Counter {
    fn now(&self) -> (u64, u64) {
        let done = self.done.load(Ordering::Relaxed);
        (done, self.all.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_follow_each_other() {
        let progress = Progress::default();
        assert_eq!(progress.step(), Step::Threads(0, 0));
        progress.expect_threads(3);
        progress.threads_done(1);
        assert_eq!(progress.step(), Step::Threads(1, 3));
        progress.threads_done(2);
        assert_eq!(progress.step(), Step::Programs);
        progress.expect_code(10);
        progress.code_done(4);
        assert_eq!(progress.step(), Step::Code(4, 10));
        progress.code_done(6);
        assert_eq!(progress.step(), Step::Writing);
    }
}
