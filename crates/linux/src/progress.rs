// SPDX-License-Identifier: MIT OR Apache-2.0
//! Long steps, shown while they run and logged in full.

use crate::error::{io_error, Error, Result};
use indicatif::{ProgressBar, ProgressStyle};
use std::cell::Cell;
use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Where progress is shown: on a terminal a line that moves; elsewhere one line a step, and one a
/// minute of what the step prints.
pub struct Progress {
    bar: ProgressBar,
    shown: Cell<Instant>,
}

const MINUTE: Duration = Duration::from_secs(60);

impl Progress {
    /// On standard error.
    #[must_use]
    pub fn new() -> Self {
        let bar = ProgressBar::new_spinner();
        if let Ok(style) =
            ProgressStyle::with_template("{spinner} {prefix} {elapsed} {wide_msg:.dim}")
        {
            bar.set_style(style);
        }
        let shown = Cell::new(Instant::now());
        Self { bar, shown }
    }

    /// A step begins.
    pub(crate) fn step(&self, what: &str) {
        if self.bar.is_hidden() {
            self.say(&format!("{what} ..."));
        }
        self.bar.reset_elapsed();
        self.bar.set_prefix(what.to_owned());
        self.bar.set_message("");
        self.bar.enable_steady_tick(Duration::from_millis(200));
    }

    /// Something happened in the step.
    pub(crate) fn detail(&self, line: &str) {
        self.bar.set_message(line.trim().to_owned());
        if self.bar.is_hidden() && self.shown.get().elapsed() > MINUTE {
            self.say(&format!("  ... {}", line.trim()));
        }
    }

    fn say(&self, line: &str) {
        // Nobody may listen.
        let _ = writeln!(std::io::stderr(), "{line}");
        self.shown.set(Instant::now());
    }

    /// The step is over.
    pub(crate) fn end(&self) {
        self.bar.disable_steady_tick();
        self.bar.finish_and_clear();
        self.bar.reset();
    }
}

impl Default for Progress {
    fn default() -> Self {
        Self::new()
    }
}

/// Runs a program as the step `what`, appends all that it prints to `log`, and shows it passing by.
pub(crate) fn run_logged(
    command: &mut Command,
    what: &str,
    log: &Path,
    progress: &Progress,
) -> Result<()> {
    progress.step(what);
    let mut file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(log)
        .map_err(io_error(log))?;
    // Both streams through one pipe, in the order in which they were written.
    let (reader, writer) = std::io::pipe().map_err(io_error(log))?;
    let errors = writer.try_clone().map_err(io_error(log))?;
    let mut child = command
        .stdin(Stdio::null())
        .stdout(writer)
        .stderr(errors)
        .spawn()
        .map_err(io_error(command.get_program()))?;
    // The command holds the pipe's other end too.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut reader = BufReader::new(reader);
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line).map_err(io_error(log))? > 0 {
        file.write_all(&line).map_err(io_error(log))?;
        progress.detail(&String::from_utf8_lossy(&line));
        line.clear();
    }
    let status = child.wait().map_err(io_error(log))?;
    progress.end();
    if status.success() {
        Ok(())
    } else {
        Err(Error::Step {
            what: what.to_owned(),
            log: log.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_that_fails_keeps_what_it_printed() {
        let dir = tempfile::TempDir::new().unwrap();
        let log = dir.path().join("log");
        let mut ok = Command::new("sh");
        ok.args(["-c", "echo one; echo two >&2"]);
        run_logged(&mut ok, "saying", &log, &Progress::new()).unwrap();
        let mut bad = Command::new("sh");
        bad.args(["-c", "echo three; exit 3"]);
        let error = run_logged(&mut bad, "failing", &log, &Progress::new()).unwrap_err();
        assert_eq!(std::fs::read_to_string(&log).unwrap(), "one\ntwo\nthree\n");
        let error = error.to_string();
        assert!(
            error.starts_with("failing failed") && error.ends_with("\n  | three"),
            "{error}"
        );
    }
}
