// SPDX-License-Identifier: MIT OR Apache-2.0
//! Running what is measured, round by round.

use crate::rows::{Rows, Spent};
use indicatif::{ProgressBar, ProgressStyle};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use xtask::shell::{self, Error};

/// One program in one variant.
#[derive(Debug)]
pub(crate) struct Candidate {
    /// What is worked on, and by which library.
    pub(crate) program: String,
    /// How it was built and is run.
    pub(crate) variant: String,
    /// Who says how long it took.
    pub(crate) clock: Clock,
    /// The command line, once for each layout of the code: rounds go through them.
    pub(crate) layouts: Vec<Vec<PathBuf>>,
    /// What every run has to leave, and is removed before: files of a folder with this extension.
    pub(crate) leaves: Option<(PathBuf, &'static str)>,
    /// What of the output has to be the same in all variants of a program. `None`: nothing.
    pub(crate) result: Option<fn(&str) -> String>,
}

/// Who says how long a run took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Clock {
    /// The program prints its work's own processor time.
    Program,
    /// The system: the time of all processes that ran for it, from their start to their end. This is
    /// the program that asks for it.
    System(PathBuf),
}

/// Runs all candidates one after the other, that many times.
///
/// # Errors
/// One of them fails.
pub(crate) fn rounds(candidates: &[Candidate], rounds: usize) -> Result<Rows, Error> {
    let bar = ProgressBar::new((rounds * candidates.len()) as u64).with_style(
        ProgressStyle::with_template("runs [{bar:40}] {pos}/{len} {eta}").expect("a template"),
    );
    let mut rows = Rows::of_this_machine();
    let mut results: Vec<(&str, String)> = Vec::new();
    for round in 0..rounds {
        for candidate in candidates {
            let (spent, printed) = candidate.run(round)?;
            rows.push(round, &candidate.program, &candidate.variant, spent);
            bar.inc(1);
            let Some(result) = candidate.result.map(|result| result(&printed)) else {
                continue;
            };
            match results.iter().find(|(p, _)| *p == candidate.program) {
                None => results.push((&candidate.program, result)),
                Some((_, expected)) if *expected == result => {}
                Some((_, expected)) => {
                    let Candidate {
                        program, variant, ..
                    } = candidate;
                    let text = format!("{program} {variant}: {result:?}, not {expected:?}");
                    return Err(text.into());
                }
            }
        }
    }
    bar.finish_and_clear();
    Ok(rows)
}

impl Candidate {
    /// Runs it, and gives what was spent and printed.
    fn run(&self, round: usize) -> Result<(Spent, String), Error> {
        let line = &self.layouts[round % self.layouts.len()];
        let mut command = match &self.clock {
            Clock::Program => Command::new(&line[0]),
            Clock::System(measured) => {
                let mut command = Command::new(measured);
                command.arg(figures(measured)).arg(&line[0]);
                command
            }
        };
        command.args(&line[1..]);
        // What each run of a program that profiles itself leaves; others do not look at it.
        if let Some((folder, _)) = &self.leaves {
            let profile = folder.join("program.profraw");
            command.env("LLVM_PROFILE_FILE", profile);
        }
        self.clear()?;
        let printed = shell::read(&mut command)?;
        if let Some((_, extension)) = &self.leaves {
            let mut left = self.left()?.into_iter();
            if !left.any(|file| fs::metadata(file).is_ok_and(|file| file.len() > 0)) {
                return Err(format!("{}: no {extension} file", shell::line(&command)).into());
            }
        }
        let spent = match &self.clock {
            Clock::System(measured) => Spent::parse(&fs::read_to_string(figures(measured))?),
            Clock::Program => Spent::of_work(&printed),
        };
        let spent = spent.ok_or_else(|| format!("{}: no time", shell::line(&command)))?;
        Ok((spent, printed))
    }

    /// Removes what earlier runs have left.
    ///
    /// # Errors
    /// Those of the file system.
    pub(crate) fn clear(&self) -> Result<(), Error> {
        if let Some((folder, extension)) = &self.leaves {
            for file in files_of(folder, extension)? {
                fs::remove_file(file)?;
            }
        }
        Ok(())
    }

    /// The files that the last run has left.
    ///
    /// # Errors
    /// Those of the file system.
    pub(crate) fn left(&self) -> Result<Vec<PathBuf>, Error> {
        match &self.leaves {
            Some((folder, extension)) => files_of(folder, extension),
            None => Ok(Vec::new()),
        }
    }

    /// The instructions that one run takes, as valgrind counts them.
    ///
    /// # Errors
    /// It does not run, or valgrind counts nothing.
    pub(crate) fn instructions(&self) -> Result<u64, Error> {
        let line = &self.layouts[0];
        let program = line.iter().position(|word| word == Path::new("--"));
        let (before, program) = line.split_at(program.map_or(0, |at| at + 1));
        let mut words: Vec<PathBuf> = before.to_vec();
        let log = std::env::temp_dir().join(format!("rkcov-bench-{}.log", std::process::id()));
        words.extend(
            [
                "/usr/bin/env",
                "valgrind",
                "--tool=callgrind",
                "--callgrind-out-file=/dev/null",
            ]
            .map(PathBuf::from),
        );
        words.push(format!("--log-file={}", log.display()).into());
        words.extend(program.iter().cloned());
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]);
        if let Some((folder, _)) = &self.leaves {
            command.env("LLVM_PROFILE_FILE", folder.join("program.profraw"));
        }
        shell::read(&mut command)?;
        let text = fs::read_to_string(&log)?;
        fs::remove_file(log)?;
        let count = text
            .lines()
            .find_map(|line| line.split_once("Collected : ")?.1.trim().parse().ok());
        count.ok_or_else(|| format!("{}: no count:\n{text}", shell::line(&command)).into())
    }
}

/// Where `measured` writes what it found.
fn figures(measured: &Path) -> PathBuf {
    measured.with_extension(format!("{}.figures", std::process::id()))
}

/// A folder that is not there has none.
fn files_of(folder: &Path, extension: &str) -> Result<Vec<PathBuf>, Error> {
    let mut files = Vec::new();
    if !folder.is_dir() {
        return Ok(files);
    }
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == extension) {
            files.push(path);
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, leaves: Option<(PathBuf, &'static str)>) -> Candidate {
        Candidate {
            program: "shell".into(),
            variant: String::new(),
            clock: Clock::Program,
            layouts: vec![vec!["sh".into(), "-c".into(), script.into()]],
            leaves,
            result: None,
        }
    }

    #[test]
    fn a_run_that_fails_or_leaves_nothing_is_no_measurement() {
        let dir = tempfile::tempdir().unwrap();
        let leaves = (dir.path().to_owned(), "profraw");
        let runs = |script| {
            let done = shell(script, Some(leaves.clone())).run(0).ok();
            done.map(|(spent, _)| spent.user)
        };
        assert_eq!(runs("echo x > \"$LLVM_PROFILE_FILE\"; echo 17 4"), Some(17));
        // The file of the run before does not count.
        assert_eq!(runs("echo 17"), None);
        assert_eq!(runs("echo x > \"$LLVM_PROFILE_FILE\"; exit 1"), None);
        assert!(shell("echo no number", None).run(0).is_err());
    }

    #[test]
    fn rounds_go_through_the_layouts() {
        let mut candidate = shell("echo 1", None);
        candidate.layouts.push(vec!["echo".into(), "2".into()]);
        let rows = rounds(&[candidate], 3).unwrap();
        let times = rows.of("shell", "", |spent| spent.user);
        assert_eq!(times.into_values().collect::<Vec<_>>(), [1, 2, 1]);
    }

    #[test]
    fn variants_that_print_something_else_are_no_variants() {
        let mut other = shell("echo 1 x", None);
        other.result = Some(str::to_owned);
        let mut same = shell("echo 1", None);
        same.result = Some(str::to_owned);
        assert!(rounds(&[same, other], 1).is_err());
    }
}
