// SPDX-License-Identifier: MIT OR Apache-2.0
//! Teamscale's Testwise Coverage, version 1: what each test ran, for its test impact analysis.
//!
//! Version 2 requires the result of each test, which a trace does not have.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt::Write as _;
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use serde::{Serialize, Serializer};

use super::paths::{root, within};
use super::style::shown;
use crate::contexts::spans::{tests_of, State, Who};
use crate::contexts::{Contexts, Row};
use crate::coverage::View;

/// A part of a file, by its number among those of the view.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Lines {
    file: u32,
    first: u32,
    last: u32,
}

#[derive(Serialize)]
struct Report<'a> {
    /// Nobody knows whether these are all tests that there are. Teamscale deletes none that are missing then.
    partial: bool,
    tests: Tests<'a>,
}

/// Made one by one when they are written.
struct Tests<'a> {
    root: &'a Path,
    files: Vec<&'a Path>,
    tests: Vec<Gathered<'a>>,
}

/// The contexts of one name: it is all that Teamscale knows tests by.
struct Gathered<'a> {
    name: &'a str,
    time: Duration,
    timed: u32,
    lines: Vec<Lines>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Test<'a> {
    uniform_path: &'a str,
    /// In seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    duration: Option<f64>,
    paths: Vec<Folder>,
}

#[derive(Serialize)]
struct Folder {
    path: String,
    files: Vec<File>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct File {
    file_name: String,
    covered_lines: String,
}

/// Writes what each context of a view ran as Teamscale's Testwise Coverage.
///
/// # Errors
/// What `to` says.
pub fn teamscale(view: &View<'_>, contexts: &Contexts<'_>, to: &mut dyn Write) -> io::Result<()> {
    let report = Report {
        partial: true,
        tests: Tests {
            root: root(view),
            files: view.files.iter().map(|file| file.path).collect(),
            tests: gathered(contexts.rows(), lines_of(view, contexts)),
        },
    };
    serde_json::to_writer_pretty(&mut *to, &report)?;
    writeln!(to)
}

/// What each row ran.
fn lines_of(view: &View<'_>, contexts: &Contexts<'_>) -> Vec<Vec<Lines>> {
    let tests = tests_of(view.coverage);
    let mut of: Vec<Vec<Lines>> = vec![Vec::new(); contexts.rows().len()];
    for (number, file) in (0..).zip(&view.files) {
        let Some(source) = view.coverage.file(file.path) else {
            continue;
        };
        let Ok(()) = contexts.spans(file, source, &tests, |span| {
            if let (Who::Row(row), State::Covered) = (span.who, span.state) {
                let lines = Lines {
                    file: number,
                    first: span.first,
                    last: span.last,
                };
                add(&mut of[row], lines);
            }
            Ok::<(), Infallible>(())
        });
    }
    of
}

/// Adds lines that begin behind the first of all that are there, or with it.
fn add(all: &mut Vec<Lines>, lines: Lines) {
    match all.last_mut() {
        Some(last) if last.file == lines.file && lines.first <= last.last.saturating_add(1) => {
            last.last = last.last.max(lines.last);
        }
        _ => all.push(lines),
    }
}

/// Puts rows of one name together, whatever kind they are of.
fn gathered(rows: &[Row], lines: Vec<Vec<Lines>>) -> Vec<Gathered<'_>> {
    let mut by_name: BTreeMap<&str, Gathered<'_>> = BTreeMap::new();
    for (row, lines) in rows.iter().zip(lines) {
        let name = &*row.name;
        let test = by_name.entry(name).or_insert_with(|| Gathered {
            name,
            time: Duration::ZERO,
            timed: 0,
            lines: Vec::new(),
        });
        test.time += row.time;
        test.timed += row.timed();
        if test.lines.is_empty() {
            test.lines = lines;
        } else {
            let mut both = [std::mem::take(&mut test.lines), lines].concat();
            both.sort_unstable();
            both.into_iter().for_each(|one| add(&mut test.lines, one));
        }
    }
    by_name.into_values().collect()
}

impl Serialize for Tests<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.tests.iter().map(|test| self.test(test)))
    }
}

impl<'a> Tests<'a> {
    fn test(&self, test: &Gathered<'a>) -> Test<'a> {
        let mut folders: BTreeMap<&Path, Vec<File>> = BTreeMap::new();
        for lines in test.lines.chunk_by(|a, b| a.file == b.file) {
            let Some(path) = lines
                .first()
                .and_then(|one| self.files.get(one.file as usize))
            else {
                continue;
            };
            let folder = path.parent().unwrap_or(Path::new(""));
            folders.entry(folder).or_default().push(File {
                file_name: shown(Path::new(path.file_name().unwrap_or_default())),
                covered_lines: ranges(lines),
            });
        }
        Test {
            uniform_path: test.name,
            duration: (test.timed > 0).then(|| (test.time / test.timed).as_secs_f64()),
            paths: folders
                .into_iter()
                .map(|(folder, files)| Folder {
                    path: within(self.root, folder),
                    files,
                })
                .collect(),
        }
    }
}

/// As `1-3,7`.
fn ranges(lines: &[Lines]) -> String {
    let mut text = String::new();
    for one in lines {
        let comma = if text.is_empty() { "" } else { "," };
        // A string takes all that is written to it.
        let _ = if one.first == one.last {
            write!(text, "{comma}{}", one.first)
        } else {
            write!(text, "{comma}{}-{}", one.first, one.last)
        };
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contexts::sample::{coverage, file, hits};
    use crate::coverage::{Coverage, Selection};
    use crate::sources::Filter;
    use crate::trace::ContextKind;

    fn report(coverage: &Coverage) -> String {
        let filter = Filter {
            all: true,
            ..Filter::default()
        };
        let view = View::new(coverage, Selection::all(coverage), &filter);
        let contexts = Contexts::of(coverage, &filter).unwrap();
        let mut bytes = Vec::new();
        teamscale(&view, &contexts, &mut bytes).unwrap();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn has_what_each_test_ran_and_nothing_that_is_not_known() {
        let contexts = [
            (ContextKind::Test, "shop::adds", Some(1500)),
            // Tried again: two runs, of which one took a second longer.
            (ContextKind::Test, "shop::sells", Some(1000)),
            (ContextKind::Test, "shop::sells", Some(2000)),
            // Not ended: nobody knows how long it takes.
            (ContextKind::Test, "shop::hangs", None),
            // Another kind, and the same name.
            (ContextKind::Job, "shop::adds", Some(500)),
            (ContextKind::Test, "runs \"nothing\"", Some(0)),
        ];
        let streams = [Some(0), Some(1), Some(2), Some(3), Some(4), None];
        let mut coverage = coverage(&contexts, &streams);
        let (nobody, outside) = (hits(&[], &[]), hits(&[5], &[]));
        file(
            &mut coverage,
            "/p/src/shop.rs",
            [
                (3, hits(&[0, 1], &[])),
                // The test's own function ends here: for others that is nothing.
                (4, hits(&[0], &[])),
                (5, hits(&[0, 4], &[])),
                // Not known of the second run of a test, but it ran in the first.
                (6, hits(&[1], &[2])),
                (7, hits(&[2], &[1, 3])),
                (9, hits(&[4, 3], &[])),
                (10, nobody.clone()),
                (11, outside.clone()),
            ],
            &[("shop::shop::adds", 3, 4)],
        );
        file(
            &mut coverage,
            "/p/src/a/deep.rs",
            [(1, hits(&[0], &[]))],
            &[],
        );
        file(
            &mut coverage,
            "/p/build.rs",
            [(1, hits(&[0, 4], &[])), (2, nobody)],
            &[],
        );
        file(
            &mut coverage,
            "/elsewhere/x.c",
            [(8, hits(&[2], &[])), (9, outside)],
            &[],
        );
        insta::assert_snapshot!(report(&coverage));
    }
}
