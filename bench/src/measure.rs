// SPDX-License-Identifier: MIT OR Apache-2.0
//! Running what is measured, round by round.

use crate::rows::Rows;
use indicatif::{ProgressBar, ProgressStyle};
use std::fs;
use std::io;
use std::path::PathBuf;
use std::process::Command;
use xtask::shell::{self, Error};

/// One program in one variant.
#[derive(Debug)]
pub(crate) struct Candidate {
    /// What is worked on, and by which library.
    pub(crate) program: &'static str,
    /// How it was built and is run.
    pub(crate) variant: String,
    /// Who says how long it took.
    pub(crate) clock: Clock,
    /// The command line, once for each layout of the code: rounds go through them.
    pub(crate) layouts: Vec<Vec<PathBuf>>,
    /// A file that every run has to leave. It is removed before.
    pub(crate) leaves: Option<PathBuf>,
}

/// Who says how long a run took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Clock {
    /// The program prints its work's own time.
    Program,
    /// The system: the processor time of all processes that ran for it, from their start to their
    /// end.
    System,
}

/// Runs all candidates one after the other, that many times.
///
/// # Errors
/// One of them fails.
pub(crate) fn rounds(candidates: &[Candidate], rounds: usize) -> Result<Rows, Error> {
    let bar = ProgressBar::new(rounds as u64).with_style(
        ProgressStyle::with_template("rounds [{bar:40}] {pos}/{len} {eta}").expect("a template"),
    );
    let mut rows = Rows::of_this_machine();
    for round in 0..rounds {
        for candidate in candidates {
            let nanoseconds = candidate.run(round)?;
            rows.push(round, candidate.program, &candidate.variant, nanoseconds);
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(rows)
}

impl Candidate {
    fn run(&self, round: usize) -> Result<u64, Error> {
        let line = &self.layouts[round % self.layouts.len()];
        let mut command = Command::new(&line[0]);
        command.args(&line[1..]);
        // What each run of a program that profiles itself leaves; others do not look at it.
        if let Some(file) = &self.leaves {
            command.env("LLVM_PROFILE_FILE", file);
            match fs::remove_file(file) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
                _ => {}
            }
        }
        let before = time_of_children()?;
        let printed = shell::read(&mut command)?;
        let spent = time_of_children()? - before;
        if let Some(file) = &self.leaves {
            if fs::metadata(file).map_or(0, |file| file.len()) == 0 {
                return Err(format!("{}: no {}", shell::line(&command), file.display()).into());
            }
        }
        match self.clock {
            Clock::System => Ok(spent),
            Clock::Program => {
                let time = printed
                    .split_whitespace()
                    .next()
                    .and_then(|n| n.parse().ok());
                time.ok_or_else(|| "the driver printed no time".into())
            }
        }
    }
}

/// The processor time of all children that have ended, and of theirs, in nanoseconds.
fn time_of_children() -> io::Result<u64> {
    // SAFETY: all of its fields are numbers, of which 0 is one.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: `usage` is ours to write to.
    if unsafe { libc::getrusage(libc::RUSAGE_CHILDREN, &mut usage) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let microseconds = |time: libc::timeval| time.tv_sec * 1_000_000 + time.tv_usec;
    let sum = microseconds(usage.ru_utime) + microseconds(usage.ru_stime);
    Ok(u64::try_from(sum).unwrap_or_default() * 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, leaves: Option<PathBuf>) -> Candidate {
        Candidate {
            program: "shell",
            variant: String::new(),
            clock: Clock::Program,
            layouts: vec![vec!["sh".into(), "-c".into(), script.into()]],
            leaves,
        }
    }

    #[test]
    fn a_run_that_fails_or_leaves_nothing_is_no_measurement() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("profile");
        let runs = |script| shell(script, Some(file.clone())).run(0).ok();
        assert_eq!(runs("echo x > \"$LLVM_PROFILE_FILE\"; echo 17 4"), Some(17));
        // The file of the run before does not count.
        assert_eq!(runs("echo 17"), None);
        assert_eq!(runs("echo x > \"$LLVM_PROFILE_FILE\"; exit 1"), None);
        assert_eq!(shell("echo no number", None).run(0).ok(), None);
    }

    #[test]
    fn rounds_go_through_the_layouts() {
        let mut candidate = shell("echo 1", None);
        candidate.layouts.push(vec!["echo".into(), "2".into()]);
        let rows = rounds(&[candidate], 3).unwrap();
        assert_eq!(
            rows.times("shell", "").into_values().collect::<Vec<_>>(),
            [1, 2, 1]
        );
    }
}
