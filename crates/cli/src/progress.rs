// SPDX-License-Identifier: MIT OR Apache-2.0
//! Shows on a terminal how far a report has come, if it takes more than a second.

use indicatif::{ProgressBar, ProgressDrawTarget};
use rkcov_report::progress::{Progress, Step};
use std::io::{self, IsTerminal};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// What is over sooner shows nothing.
const SILENT: Duration = Duration::from_secs(1);
/// How often it is drawn.
const TICK: Duration = Duration::from_millis(100);

/// A line on standard error, until it is dropped.
#[must_use = "the line goes when this is dropped"]
pub(crate) struct Shown {
    progress: Arc<Progress>,
    /// Nothing is shown without it.
    drawer: Option<(Sender<()>, JoinHandle<()>)>,
}

impl Shown {
    /// Shows something only on a terminal, and if nobody asked for quiet.
    pub(crate) fn new(quiet: bool) -> Self {
        let progress = Arc::new(Progress::default());
        let wanted = !quiet && io::stderr().is_terminal();
        let drawer = wanted.then(|| {
            let progress = Arc::clone(&progress);
            let (end, ended) = mpsc::channel::<()>();
            let draw = move || {
                let running = |time| ended.recv_timeout(time) == Err(RecvTimeoutError::Timeout);
                if !running(SILENT) {
                    return;
                }
                let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
                loop {
                    let fetching = fetching();
                    bar.set_message(fetching.unwrap_or_else(|| line(progress.step())));
                    bar.tick();
                    if !running(TICK) {
                        break;
                    }
                }
                bar.finish_and_clear();
            };
            (end, thread::spawn(draw))
        });
        Self { progress, drawer }
    }

    /// What tells it how far things are.
    pub(crate) fn progress(&self) -> &Progress {
        &self.progress
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        if let Some((end, thread)) = self.drawer.take() {
            drop(end);
            // The line is gone before anything else is written.
            let _ = thread.join();
        }
    }
}

/// The files that are being fetched: how many, their bytes that are there, and all of which it is known.
static FILES: AtomicU64 = AtomicU64::new(0);
static GOT: AtomicU64 = AtomicU64::new(0);
static SIZE: AtomicU64 = AtomicU64::new(0);

/// A file that is being fetched, until it is dropped. Whatever line is shown tells it.
#[must_use = "the file counts until this is dropped"]
#[cfg_attr(
    not(any(test, feature = "debuginfod")),
    allow(dead_code, reason = "for servers")
)]
pub(crate) struct Fetching {
    got: u64,
    size: u64,
}

#[cfg_attr(
    not(any(test, feature = "debuginfod")),
    allow(dead_code, reason = "for servers")
)]
impl Fetching {
    /// A file of this size, if that is known.
    pub(crate) fn new(size: Option<u64>) -> Self {
        let size = size.unwrap_or(0);
        FILES.fetch_add(1, Ordering::Relaxed);
        SIZE.fetch_add(size, Ordering::Relaxed);
        Self { got: 0, size }
    }

    /// So much more is there.
    pub(crate) fn add(&mut self, got: usize) {
        self.got += got as u64;
        GOT.fetch_add(got as u64, Ordering::Relaxed);
    }
}

impl Drop for Fetching {
    fn drop(&mut self) {
        FILES.fetch_sub(1, Ordering::Relaxed);
        GOT.fetch_sub(self.got, Ordering::Relaxed);
        SIZE.fetch_sub(self.size, Ordering::Relaxed);
    }
}

/// The line for what is being fetched, if anything is.
fn fetching() -> Option<String> {
    let [files, got, size] = [&FILES, &GOT, &SIZE].map(|number| number.load(Ordering::Relaxed));
    (files > 0).then(|| fetched(got, size))
}

fn fetched(got: u64, size: u64) -> String {
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let of = match size {
        // Servers need not say it.
        0 => String::new(),
        size => format!(" of {:.1}", mib(size.max(got))),
    };
    format!("fetching debug information: {:.1}{of} MiB", mib(got))
}

fn line(step: Step) -> String {
    let percent = |done: u64, all: u64| done.saturating_mul(100) / all.max(1);
    match step {
        Step::Threads(done, all) => format!("reading records: {} %", percent(done, all)),
        Step::Programs => "reading programs".to_owned(),
        Step::Code(done, all) => format!("looking lines up: {} %", percent(done, all)),
        Step::Writing => "writing".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_for_what_is_fetched() {
        assert_eq!(fetching(), None);
        let mut one = Fetching::new(Some(5 << 20));
        one.add(3 << 19);
        assert_eq!(
            fetching().unwrap(),
            "fetching debug information: 1.5 of 5.0 MiB"
        );
        drop(one);
        assert_eq!(fetching(), None);
        assert_eq!(fetched(1 << 20, 0), "fetching debug information: 1.0 MiB");
    }

    #[test]
    fn a_line_for_each_step() {
        let lines = [
            Step::Threads(0, 0),
            Step::Threads(1, 3),
            Step::Programs,
            Step::Code(99, 100),
            Step::Writing,
        ];
        assert_eq!(
            lines.map(line),
            [
                "reading records: 0 %",
                "reading records: 33 %",
                "reading programs",
                "looking lines up: 99 %",
                "writing"
            ]
        );
    }
}
