// SPDX-License-Identifier: MIT OR Apache-2.0
//! The report for programs. `docs/report.schema.json` says what stands where.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::{self, Write};

use serde::Serialize;

use super::style::shown;
use super::tree::{crate_of, Totals};
use super::Detail;
use crate::coverage::{Coverage, FileView, StreamSummary, View};
use crate::trace::{Loss, Mode, Scope};

/// Grows when something changes that a reader could have relied on.
const VERSION: u32 = 2;

#[derive(Serialize)]
struct Report<'a> {
    version: u32,
    mode: &'static str,
    runs: Vec<Run<'a>>,
    threads: Vec<Thread<'a>>,
    /// Different PCs that these threads recorded.
    pcs: u64,
    /// Programs and libraries of which what did not run is not known, or nothing at all.
    images: Vec<Image>,
    totals: Sum,
    /// By path, with all that is below.
    folders: BTreeMap<String, Sum>,
    /// By name, for files of Rust packages.
    crates: BTreeMap<String, Sum>,
    /// Lines with code that marks in the sources keep out of all that is above, by path.
    excluded: BTreeMap<String, &'a [u32]>,
    files: Vec<File>,
}

#[derive(Serialize)]
struct Run<'a> {
    name: &'a str,
    command: Vec<String>,
    directory: String,
    finished: bool,
    processes: usize,
    losses: Vec<Missing>,
}

/// What is not in the trace and of no thread in particular.
#[derive(Serialize)]
struct Missing {
    reason: String,
    count: u64,
    unit: &'static str,
    /// For people.
    text: String,
    /// The file of code that it is about, if it is about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    module: Option<String>,
}

#[derive(Serialize)]
struct Thread<'a> {
    run: usize,
    pid: u32,
    tid: u32,
    name: &'a str,
    label: Cow<'a, str>,
    main: bool,
    records: u64,
    pcs: u64,
    lossy: bool,
}

#[derive(Serialize)]
struct Image {
    path: String,
    build_id: String,
    problems: Vec<String>,
}

/// How much of something ran.
#[derive(Serialize)]
struct Sum {
    lines: Part,
    functions: Part,
    unknown_lines: u64,
    complete: bool,
}

#[derive(Serialize)]
struct Part {
    ran: u64,
    known: u64,
    all: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    percent: Option<f64>,
}

#[derive(Serialize)]
struct File {
    path: String,
    #[serde(rename = "crate", skip_serializing_if = "Option::is_none")]
    package: Option<String>,
    totals: Sum,
    #[serde(flatten)]
    each: Option<Each>,
}

/// What there is to say of a file beside its sums.
#[derive(Serialize)]
struct Each {
    lines: Vec<Line>,
    unknown: Vec<u32>,
    functions: Vec<Function>,
    unknown_functions: Vec<Function>,
    /// What was compared, if comparisons were recorded.
    #[serde(skip_serializing_if = "Option::is_none")]
    comparisons: Option<Vec<Comparison>>,
}

#[derive(Serialize)]
struct Comparison {
    line: u32,
    first: u64,
    second: u64,
    bytes: u32,
    constant: bool,
    count: u64,
}

#[derive(Serialize)]
struct Line {
    line: u32,
    count: u64,
}

#[derive(Serialize)]
struct Function {
    name: String,
    first: u32,
    last: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<u64>,
}

impl From<Totals> for Sum {
    fn from(totals: Totals) -> Self {
        let part = |ran: u64, known: u64, all: u64| Part {
            ran,
            known,
            all,
            percent: (!totals.partial).then(|| percent(ran, all)).flatten(),
        };
        Self {
            lines: part(totals.lines_ran, totals.lines_known, totals.lines),
            functions: part(
                totals.functions_ran,
                totals.functions_known,
                totals.functions,
            ),
            unknown_lines: totals.unknown,
            complete: !totals.partial,
        }
    }
}

/// With two digits behind the point, rounded down: 100 is all, and 0 is nothing.
#[expect(clippy::cast_precision_loss)]
fn percent(ran: u64, all: u64) -> Option<f64> {
    let hundredths = |ran: u64| (ran.saturating_mul(10_000) / all).max(ran.min(1));
    (all > 0).then(|| hundredths(ran) as f64 / 100.0)
}

/// Writes a view as JSON.
///
/// # Errors
/// What `to` says.
pub fn json(view: &View<'_>, detail: Detail, to: &mut dyn Write) -> io::Result<()> {
    let coverage = view.coverage;
    let mut totals = Totals::default();
    let mut folders: BTreeMap<String, Totals> = BTreeMap::new();
    let mut crates: BTreeMap<String, Totals> = BTreeMap::new();
    let mut files = Vec::new();
    for file in &view.files {
        let sum = Totals::of(file);
        totals.add(sum);
        let parents = file.path.ancestors().skip(1);
        for folder in parents.filter(|folder| !folder.as_os_str().is_empty()) {
            let folder = shown(folder);
            folders.entry(folder).or_default().add(sum);
        }
        let package = crate_of(file.path);
        if let Some(package) = &package {
            crates.entry(package.clone()).or_default().add(sum);
        }
        files.push(File {
            path: shown(file.path),
            package,
            totals: sum.into(),
            each: (detail == Detail::Each).then(|| each(file, coverage.mode)),
        });
    }
    let threads = view.selection.streams.iter();
    let report = Report {
        version: VERSION,
        mode: coverage.mode.name(),
        runs: coverage
            .runs
            .iter()
            .map(|run| Run {
                name: &run.name,
                command: run
                    .info
                    .command
                    .iter()
                    .map(|arg| arg.to_string_lossy().into_owned())
                    .collect(),
                directory: run.info.directory.to_string_lossy().into_owned(),
                finished: run.finished,
                processes: run.processes,
                losses: run.losses.iter().map(missing).collect(),
            })
            .collect(),
        threads: threads
            .filter_map(|index| coverage.streams.get(index))
            .map(|stream| of_thread(coverage, stream))
            .collect(),
        pcs: view.pcs(),
        images: coverage
            .images
            .iter()
            .filter(|image| !image.problems.is_empty())
            .map(|image| Image {
                path: shown(&image.path),
                build_id: image.build_id.to_string(),
                problems: image.problems.iter().map(ToString::to_string).collect(),
            })
            .collect(),
        totals: totals.into(),
        folders: folders.into_iter().map(|(k, v)| (k, v.into())).collect(),
        crates: crates.into_iter().map(|(k, v)| (k, v.into())).collect(),
        excluded: coverage
            .excluded
            .lines
            .iter()
            .map(|(path, lines)| (shown(path), &lines[..]))
            .collect(),
        files,
    };
    serde_json::to_writer_pretty(&mut *to, &report)?;
    writeln!(to)
}

fn missing(loss: &Loss) -> Missing {
    Missing {
        reason: loss.reason.to_string(),
        count: loss.count,
        unit: loss.reason.unit().1,
        text: loss.to_string(),
        module: match &loss.scope {
            Scope::Module { path, .. } => Some(path.to_string_lossy().into_owned()),
            Scope::Trace | Scope::Process(_) | Scope::Stream(_) => None,
        },
    }
}

fn of_thread<'a>(coverage: &'a Coverage, stream: &'a StreamSummary) -> Thread<'a> {
    Thread {
        run: stream.run,
        pid: stream.process.pid,
        tid: stream.info.tid,
        name: &stream.info.name,
        label: coverage.label_of(stream),
        main: stream.info.main,
        records: stream.records,
        pcs: stream.pcs,
        lossy: stream.is_lossy(),
    }
}

fn each(file: &FileView<'_>, mode: Mode) -> Each {
    let lines = file.lines.iter();
    let functions = file.functions.iter();
    Each {
        lines: lines.map(|(&line, &count)| Line { line, count }).collect(),
        unknown: file.unknown.clone(),
        functions: functions
            .map(|(function, count)| of_function(function, Some(*count)))
            .collect(),
        unknown_functions: file
            .unknown_functions
            .iter()
            .map(|function| of_function(function, None))
            .collect(),
        comparisons: (mode == Mode::Cmp).then(|| {
            let lines = file.comparisons.iter();
            let all = lines.flat_map(|(line, pairs)| pairs.iter().map(move |pair| (*line, pair)));
            all.map(|(line, (pair, count))| Comparison {
                line,
                first: pair.first,
                second: pair.second,
                bytes: pair.bytes,
                constant: pair.constant,
                count: *count,
            })
            .collect()
        }),
    }
}

fn of_function(function: &crate::coverage::Function, count: Option<u64>) -> Function {
    Function {
        name: function.name.to_string(),
        first: function.lines.0,
        last: function.lines.1,
        count,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages_are_all_or_nothing_only_if_they_are() {
        for (ran, all, expected) in [
            (0, 7, Some(0.0)),
            (7, 7, Some(100.0)),
            (1, 1_000_000, Some(0.01)),
            (99_999, 100_000, Some(99.99)),
            (0, 0, None),
        ] {
            assert_eq!(percent(ran, all), expected, "{ran} of {all}");
        }
    }
}
