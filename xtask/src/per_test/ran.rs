// SPDX-License-Identifier: MIT OR Apache-2.0
//! What each test of a recording ran.

use super::alone::file_name;
use crate::shell::Error;
use rkcov_report::coverage::{Coverage, Named, Selection};
use rkcov_report::image::Search;
use rkcov_report::trace::TraceFile;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// A test: the file name of its program, and its own.
pub(super) type Test = (String, String);
/// A line: its source below the project's folder, and its number.
pub(super) type Line = (PathBuf, u32);
pub(super) type Lines = BTreeSet<Line>;

/// A recording.
#[derive(Debug, Default)]
pub(super) struct Ran {
    /// What each run of each test ran.
    pub(super) tests: BTreeMap<Test, Vec<Lines>>,
    /// What else each test may have run: what was recorded does not tell.
    pub(super) maybe: BTreeMap<Test, Lines>,
    /// What ran in no test, and the names of the threads.
    pub(super) outside: BTreeMap<Line, BTreeSet<String>>,
    /// The function that each line is of.
    pub(super) functions: BTreeMap<Line, String>,
    /// What the recording says is missing.
    pub(super) losses: Vec<String>,
}

impl Ran {
    /// Reads a trace. Of its lines, those of sources below `folder`.
    pub(super) fn read(trace: &Path, folder: &Path) -> Result<Self, Error> {
        let file = TraceFile::open(trace)?;
        let trace = file.trace()?;
        let name = file.path().to_string_lossy();
        let named = Named {
            name: &name,
            trace: &trace,
        };
        let coverage = Coverage::new(&[named], &Search::default())?;
        let test_of = |at: usize| -> Option<Test> {
            let context = trace.contexts().get(at)?;
            let process = trace.process(context.process?)?;
            let program = Path::new(process.command.first()?);
            let name = String::from_utf8_lossy(&context.name);
            Some((file_name(program), name.into_owned()))
        };
        // A run is a context: its set of lines.
        let mut runs: Vec<Lines> = vec![Lines::new(); trace.contexts().len()];
        let mut ran = Self::default();
        for (path, source) in &coverage.files {
            let Ok(path) = path.strip_prefix(folder) else {
                continue;
            };
            for (number, hits) in &source.lines {
                let line = || (path.to_owned(), *number);
                for stream in hits.maybe.iter() {
                    let stream = coverage.streams.get(stream);
                    let context = stream.and_then(|stream| stream.info.context);
                    if let Some(test) = context.and_then(|context| test_of(context.index())) {
                        ran.maybe.entry(test).or_default().insert(line());
                    }
                }
                for stream in hits.streams.iter() {
                    // Somebody ran it, and what was recorded does not tell who.
                    let Some(stream) = coverage.streams.get(stream) else {
                        ran.outside
                            .entry(line())
                            .or_default()
                            .insert("?".to_owned());
                        continue;
                    };
                    if let Some(context) = stream.info.context {
                        runs[context.index()].insert(line());
                    } else {
                        let name = if stream.info.main {
                            "main".to_owned()
                        } else {
                            stream.info.name.clone()
                        };
                        ran.outside.entry(line()).or_default().insert(name);
                    }
                }
            }
            // Of functions within each other the innermost, which begins last.
            for function in &source.functions {
                let (first, last) = function.lines;
                for number in first..=last {
                    if source.lines.contains_key(&number) {
                        let name = function.name.to_string();
                        ran.functions.insert((path.to_owned(), number), name);
                    }
                }
            }
        }
        for (at, lines) in runs.into_iter().enumerate() {
            if let Some(test) = test_of(at) {
                ran.tests.entry(test).or_default().push(lines);
            }
        }
        let losses = coverage.losses(&Selection::all(&coverage)).into_iter();
        ran.losses = losses
            .map(|loss| format!("{} {:?} {}", loss.count, loss.reason, loss.note))
            .collect();
        Ok(ran)
    }
}
