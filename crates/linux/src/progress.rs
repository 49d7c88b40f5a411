// SPDX-License-Identifier: MIT OR Apache-2.0
//! Long steps, shown while they run and logged in full.

use crate::error::{io_error, Error, Result};
use indicatif::{ProgressBar, ProgressStyle};
use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// Where progress is shown: on a terminal a line that moves; elsewhere one line a step.
pub struct Progress {
    bar: ProgressBar,
}

/// How a step's line looks: by itself, with what it has made so far, with all that there is
/// to make, and with the time for that.
const PLAIN: &str = "{spinner} {prefix} {elapsed} {wide_msg:.dim}";
const COUNTED: &str = "{spinner} {prefix} {elapsed} {pos} objects {wide_msg:.dim}";
const LIMITED: &str = "{spinner} {prefix} {elapsed} {pos} of {len} objects {wide_msg:.dim}";
const MEASURED: &str =
    "{spinner} {prefix} {elapsed} {pos} of {len} objects, {eta} left {wide_msg:.dim}";

impl Progress {
    /// On standard error.
    #[must_use]
    pub fn new() -> Self {
        let this = Self {
            bar: ProgressBar::new_spinner(),
        };
        this.look(PLAIN);
        this
    }

    /// Whether somebody sees how far a step is.
    pub(crate) fn is_seen(&self) -> bool {
        !self.bar.is_hidden()
    }

    fn look(&self, template: &str) {
        if let Ok(style) = ProgressStyle::with_template(template) {
            self.bar.set_style(style);
        }
    }

    /// A step begins.
    pub(crate) fn step(&self, what: &str) {
        if !self.is_seen() {
            // Nobody may listen.
            let _ = writeln!(std::io::stderr(), "{what} ...");
        }
        self.look(PLAIN);
        self.bar.reset();
        self.bar.set_prefix(what.to_owned());
        self.bar.set_message("");
        self.bar.enable_steady_tick(Duration::from_millis(200));
    }

    /// The step makes objects; so many, if that is known.
    fn count(&self, all: Option<u64>) {
        match all {
            Some(all) => self.bar.set_length(all),
            None => self.bar.unset_length(),
        }
        self.look(counting(0, all));
    }

    /// Something happened in the step.
    fn detail(&self, line: &str) {
        self.bar.set_message(line.trim().to_owned());
    }

    /// An object was made in the step.
    fn object(&self) {
        self.bar.inc(1);
        self.look(counting(self.bar.position(), self.bar.length()));
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

/// How the line of a step looks that has made so many objects of so many, if that is known.
fn counting(made: u64, all: Option<u64>) -> &'static str {
    match all {
        None => COUNTED,
        // How long one takes is known when the first is made.
        Some(1..) if made == 0 => LIMITED,
        Some(all) if made < all => MEASURED,
        // The rest is none of them: the line says what it is.
        Some(_) => PLAIN,
    }
}

/// Objects that a kernel's build makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Objects(
    /// How many, if that is known.
    pub(crate) Option<u64>,
);

/// Runs a program as the step `what`, appends all that it prints to `log`, and shows it passing by.
pub(crate) fn run_logged(
    command: &mut Command,
    what: &str,
    log: &Path,
    progress: &Progress,
) -> Result<()> {
    run(command, what, None, log, progress)
}

/// The same, for make, which makes objects: they are counted.
pub(crate) fn run_counted(
    command: &mut Command,
    what: &str,
    objects: Objects,
    log: &Path,
    progress: &Progress,
) -> Result<()> {
    run(command, what, Some(objects), log, progress)
}

/// Whether a line that make prints says that an object is made: `  CC      init/main.o`.
pub(crate) fn is_object(line: &str) -> bool {
    let line = line.trim_end();
    let rest = line.strip_prefix("  ").unwrap_or_default();
    rest.starts_with(|first: char| first.is_ascii_uppercase()) && rest.ends_with(".o")
}

fn run(
    command: &mut Command,
    what: &str,
    objects: Option<Objects>,
    log: &Path,
    progress: &Progress,
) -> Result<()> {
    progress.step(what);
    if let Some(Objects(all)) = objects {
        progress.count(all);
    }
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
        let text = String::from_utf8_lossy(&line);
        if objects.is_some() && is_object(&text) {
            progress.object();
        }
        progress.detail(&text);
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
    fn what_make_says_of_objects_is_known() {
        for line in ["  CC      init/main.o\n", "  RUSTC L rust/core.o"] {
            assert!(is_object(line), "{line}");
        }
        for line in [
            "",
            "  GEN     Makefile\n",
            "   | note.o",
            "ld: x.o",
            "  AR      lib/lib.a",
        ] {
            assert!(!is_object(line), "{line}");
        }
    }

    #[test]
    fn a_line_says_what_is_known() {
        let lines = [
            (0, None, COUNTED),
            (7, None, COUNTED),
            (0, Some(2), LIMITED),
            (1, Some(2), MEASURED),
            (2, Some(2), PLAIN),
            (3, Some(2), PLAIN),
            (0, Some(0), PLAIN),
        ];
        for (made, all, line) in lines {
            assert_eq!(counting(made, all), line, "{made} of {all:?}");
        }
        assert!(MEASURED.contains("{eta}") && !LIMITED.contains("{eta}"));
    }

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
