// SPDX-License-Identifier: MIT OR Apache-2.0
//! A run of all tests against each test alone, whatever runs the tests.

use super::differences::{Differences, Rule};
use super::ran::Ran;
use crate::shell::{self, heading, Error};
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

/// How often a test is run alone once more if nothing explains how it differs.
const MORE: u32 = 50;

/// How many lines of errors are printed.
const SHOWN: usize = 100;

/// Which run of the tests is recorded.
#[derive(Clone, Copy)]
pub(super) enum Round<'a> {
    /// All of them.
    Together,
    /// Each alone, so often; with `only`, those in this file.
    Alone { times: u32, only: Option<&'a Path> },
}

impl Round<'_> {
    /// What its files are called.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Together => "together",
            Self::Alone { .. } => "alone",
        }
    }

    /// The words before a program of this harness that have each of its tests run alone, if it is to.
    pub(super) fn runner(self, harness: &str) -> Result<String, Error> {
        let Self::Alone { times, only } = self else {
            return Ok(String::new());
        };
        let ourselves = env::current_exe()?;
        let ourselves = ourselves.display();
        let only = only.map(|only| format!("--only {} ", only.display()));
        let only = only.unwrap_or_default();
        Ok(format!(
            "{ourselves} per-test-alone --harness {harness} --times {times} {only}"
        ))
    }
}

/// A project with tests.
pub(super) trait Subject {
    /// The name by which it is chosen, and its rules are found.
    fn name(&self) -> &str;

    /// What stands in the table.
    fn title(&self) -> String;

    /// Where its sources are.
    fn folder(&self) -> &Path;

    /// Runs the tests and reads what was recorded.
    fn record(&self, round: Round<'_>) -> Result<Ran, Error>;
}

/// Records and compares. `rules` are those of all subjects.
pub(super) fn compare(
    subject: &dyn Subject,
    rules: &str,
    times: u32,
) -> Result<Differences, Error> {
    let together = subject.record(Round::Together)?;
    let mut alone = subject.record(Round::Alone { times, only: None })?;
    let rules: serde_json::Value = serde_json::from_str(rules)?;
    let rules: Vec<Rule> = match rules.get(subject.name()) {
        Some(rules) => serde_json::from_value(rules.clone())?,
        None => Vec::new(),
    };
    let found = Differences::of(&together, &alone, &rules)?;
    if found.suspects.is_empty() {
        return Ok(found);
    }
    // Perhaps they run it seldom, or not always.
    let only = subject.folder().canonicalize()?.join("target/suspects");
    let lines = found.suspects.iter();
    let lines: Vec<String> = lines.map(|(of, test)| format!("{of} {test}\n")).collect();
    fs::write(&only, lines.concat())?;
    let more = subject.record(Round::Alone {
        times: MORE,
        only: Some(&only),
    })?;
    for (test, mut runs) in more.tests {
        alone.tests.entry(test).or_default().append(&mut runs);
    }
    Ok(Differences::of(&together, &alone, &rules)?)
}

/// Runs a command that records, and reads the trace. `line` is what people would type.
pub(super) fn recorded(
    subject: &dyn Subject,
    what: &str,
    line: &str,
    command: &mut Command,
    trace: impl FnOnce() -> Result<PathBuf, Error>,
) -> Result<Ran, Error> {
    heading(&format!("{}, {what}: {line}", subject.title()))?;
    let begin = Instant::now();
    let folder = subject.folder().canonicalize()?;
    shell::run_logged(command, &folder.join(format!("target/{what}.log")))?;
    let trace = trace()?;
    let ran = Ran::read(&trace, &folder)?;
    println!(
        "{} tests, {} s, a trace of {} KB",
        ran.tests.len(),
        begin.elapsed().as_secs(),
        trace.metadata()?.len() / 1000
    );
    for loss in &ran.losses {
        println!("lost: {loss}");
    }
    Ok(ran)
}

/// Compares these subjects, prints what is found, and says which have errors. `all`: differences that are
/// none, too.
pub(super) fn compare_all(
    subjects: &[Box<dyn Subject + '_>],
    rules: &str,
    times: u32,
    all: bool,
) -> Result<(Vec<Differences>, Result<(), Error>), Error> {
    let mut wrong = Vec::new();
    let mut rows = Vec::new();
    for subject in subjects {
        let found = compare(&**subject, rules, times)?;
        print(&**subject, &found, all);
        if found.wrong() > 0 || found.tests == 0 || !found.unpaired.is_empty() {
            wrong.push(subject.name());
        }
        rows.push(found);
    }
    let verdict = if wrong.is_empty() {
        Ok(())
    } else {
        Err(format!("differences that nothing explains: {}", wrong.join(", ")).into())
    };
    Ok((rows, verdict))
}

fn print(subject: &dyn Subject, found: &Differences, all: bool) {
    println!(
        "{}: {} tests, {} with the same lines; {} pairs of a test and a line",
        subject.title(),
        found.tests,
        found.equal,
        found.lines
    );
    for (reason, (tests, lines)) in found.sums() {
        println!("  {reason}: {lines} pairs, {tests} tests");
        let of = found.by.iter().filter(|((of, _), _)| of == reason);
        for ((_, function), (tests, lines)) in of.filter(|_| all || reason.is_wrong()) {
            let first = tests.first().map_or("", |(_, name)| name);
            println!(
                "    {function}: {lines} pairs, {} tests ({first})",
                tests.len()
            );
        }
    }
    for ((program, test), (path, line)) in found.errors.iter().take(SHOWN) {
        println!("  {program} {test}: {}:{line}", path.display());
    }
    for (program, test) in &found.unpaired {
        println!("  only in one of the runs: {program} {test}");
    }
}
