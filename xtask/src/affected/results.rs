// SPDX-License-Identifier: MIT OR Apache-2.0
//! How the tests of a crate end, and what they print.

use regex::Regex;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How the line begins that follows the first panic of a process.
const FIRST_PANIC: &str = "note: run with `RUST_BACKTRACE";

/// What tests did.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Results {
    /// By the name of the test.
    said: BTreeMap<String, Vec<String>>,
    /// How long all took.
    pub(super) took: Duration,
}

impl Results {
    /// Reads what libtest prints with `--show-output`.
    pub(super) fn read(printed: &str, took: Duration) -> Self {
        let mut results = Self {
            took,
            ..Self::default()
        };
        let mut of: Option<&str> = None;
        for line in printed.lines() {
            if let Some((name, end)) = ended(line) {
                results.push(name, end);
                of = None;
            } else if let Some(name) = line.strip_prefix("---- ") {
                of = name.strip_suffix(" stdout ----");
            } else if ["failures:", "successes:"].contains(&line)
                || line.starts_with("test result: ")
            {
                of = None;
            } else if line.starts_with(FIRST_PANIC) {
                // Of a process the test that panics first has it, whichever that is.
            } else if let Some(name) = of {
                results.push(name, &without_places(line));
            }
        }
        results
    }

    fn push(&mut self, name: &str, line: &str) {
        // A test that is to panic has this behind its name in one place only.
        let name = name.trim_end_matches(" - should panic");
        let lines = self.said.entry(name.to_owned()).or_default();
        lines.push(line.to_owned());
    }

    pub(super) fn count(&self) -> usize {
        self.said.len()
    }

    /// The tests that are in both and have ended in another way, or printed something else.
    pub(super) fn differ(&self, other: &Self) -> BTreeSet<&String> {
        let tests = self.said.iter().filter(|(name, lines)| {
            let others = other.said.get(*name);
            others.is_some_and(|others| others != *lines)
        });
        tests.map(|(name, _)| name).collect()
    }
}

/// A line that says how a test has ended.
fn ended(line: &str) -> Option<(&str, &str)> {
    let (name, end) = line.strip_prefix("test ")?.split_once(" ... ")?;
    (end == "ok" || end == "FAILED" || end.starts_with("ignored")).then_some((name, end))
}

/// A line of a panic, without what each change of a source moves, and without the number of a thread.
fn without_places(line: &str) -> String {
    let places = Regex::new(r":\d+:\d+|\(\d+\)").expect("a regular expression");
    places.replace_all(line, "").into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_ends_and_output() {
        let printed = "running 3 tests\ntest a::b ... ok\ntest c - should panic ... ok\ntest d ... FAILED\n\n\
                       successes:\n\n---- c stdout ----\nthread 'c' (17) panicked at src/lib.rs:3:4:\n\
                       note: run with `RUST_BACKTRACE=1` environment variable to display a backtrace\n\n\
                       successes:\n    a::b\n    c\n\nfailures:\n\n---- d stdout ----\nno\n\nfailures:\n    d\n\n\
                       test result: FAILED. 2 passed; 1 failed;\n";
        let read = |printed: &str| Results::read(printed, Duration::ZERO);
        let results = read(printed);
        assert_eq!(results.count(), 3);
        assert_eq!(results.said["a::b"], ["ok"]);
        assert_eq!(
            results.said["c"],
            ["ok", "thread 'c'  panicked at src/lib.rs:", ""]
        );
        assert_eq!(results.said["d"], ["FAILED", "no", ""]);
        let moved = read(&printed.replace("(17)", "(18)").replace("3:4", "30:4"));
        assert_eq!(results.differ(&moved).len(), 0);
        let other = read(
            &printed
                .replace("b ... ok", "b ... FAILED")
                .replace("\nno\n", "\nnot\n"),
        );
        let changed = results.differ(&other);
        assert!(changed.into_iter().eq(["a::b", "d"]));
    }
}
