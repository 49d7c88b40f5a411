// SPDX-License-Identifier: MIT OR Apache-2.0
//! Running what is measured, round by round.

use crate::rows::Rows;
use indicatif::{ProgressBar, ProgressStyle};
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
    /// The command line, once for each layout of the code: rounds go through them.
    pub(crate) layouts: Vec<Vec<PathBuf>>,
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
        let printed = shell::read(&mut command)?;
        let time = printed.split_whitespace().next();
        let time = time.and_then(|nanoseconds| nanoseconds.parse().ok());
        time.ok_or_else(|| "the driver printed no time".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Candidate {
        Candidate {
            program: "shell",
            variant: String::new(),
            layouts: vec![vec!["sh".into(), "-c".into(), script.into()]],
        }
    }

    #[test]
    fn a_run_that_fails_is_no_measurement() {
        assert_eq!(shell("echo 17 4").run(0).ok(), Some(17));
        assert_eq!(shell("echo 17; exit 1").run(0).ok(), None);
        assert_eq!(shell("echo no number").run(0).ok(), None);
    }

    #[test]
    fn rounds_go_through_the_layouts() {
        let mut candidate = shell("echo 1");
        candidate.layouts.push(vec!["echo".into(), "2".into()]);
        let rows = rounds(&[candidate], 3).unwrap();
        assert_eq!(
            rows.times("shell", "").into_values().collect::<Vec<_>>(),
            [1, 2, 1]
        );
    }
}
