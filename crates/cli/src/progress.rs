// SPDX-License-Identifier: MIT OR Apache-2.0
//! Shows on a terminal how far a report has come, if it takes more than a second.

use indicatif::{ProgressBar, ProgressDrawTarget};
use rkcov_report::progress::{Progress, Step};
use std::io::{self, IsTerminal};
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
                    bar.set_message(line(progress.step()));
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
