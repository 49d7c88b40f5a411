// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the page draws from.
//!
//! Who ran a line and who may have run it are a pair of sets of streams; a program has few different ones.
//! The index has of each file how many lines and functions there are of each pair, which is enough to
//! say the sums for any choice of streams.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io;
use std::path::Path;

use rustc_hash::FxHashMap;
use serde::Serialize;

use super::super::alarms::{alarms, excluded};
use super::super::style::{self, number, plural};
use super::super::tree::crate_of;
use crate::coverage::{Coverage, Hits, Selection, SourceFile, StreamSet, StreamSummary, View};
use crate::sources::{Filter, Verdict};

/// Grows with every change that an older program could not read.
const VERSION: u32 = 1;

/// What the page has at once.
#[derive(Serialize)]
pub(super) struct Index {
    version: u32,
    /// What made it.
    tool: &'static str,
    pub(super) title: String,
    mode: &'static str,
    runs: Vec<Run>,
    /// The streams; sets name them by their place here.
    who: Vec<Who>,
    /// Sets of streams, as ranges: `0-3,7`.
    sets: Vec<String>,
    /// Pairs of sets, one after the other: who ran it, who may have.
    pairs: Vec<usize>,
    pub(super) files: Vec<FileSum>,
    /// What the page shows first.
    first: First,
    pub(super) alarms: Vec<String>,
    /// What was folded away.
    folded: String,
}

#[derive(Serialize)]
struct Run {
    name: String,
    command: Vec<String>,
    directory: String,
    finished: bool,
}

/// A named stream.
#[derive(Serialize)]
struct Who {
    run: usize,
    pid: u32,
    tid: u32,
    name: String,
    /// The name of the context, empty if it is in none.
    label: String,
    /// What sort of context that is.
    kind: String,
    /// The number of that context among those of the report: several may have one name.
    #[serde(skip_serializing_if = "Option::is_none")]
    context: Option<usize>,
    /// The number of its thread among those of the report: it has a stream for each context.
    thread: usize,
    main: bool,
    records: u64,
    pcs: u64,
    lossy: bool,
    /// The command of its process.
    command: String,
}

/// The sums of a file.
#[derive(Serialize)]
pub(super) struct FileSum {
    #[serde(rename = "p")]
    pub(super) path: String,
    #[serde(rename = "k", skip_serializing_if = "Option::is_none")]
    package: Option<String>,
    /// Whether it has what did not run.
    #[serde(rename = "c")]
    complete: bool,
    /// Pairs, each followed by how many lines there are of it.
    #[serde(rename = "l")]
    lines: Vec<usize>,
    /// The same of functions.
    #[serde(rename = "f")]
    functions: Vec<usize>,
}

#[derive(Serialize)]
struct First {
    /// Streams; `None` for all.
    who: Option<String>,
    /// Only what no other stream ran.
    only: bool,
}

/// A file that is shown, with the pairs of its lines and functions.
pub(super) struct Shown<'a> {
    path: &'a Path,
    file: &'a SourceFile,
    lines: Vec<usize>,
    functions: Vec<usize>,
}

/// What the page has of a file that is open.
#[derive(Serialize)]
pub(super) struct FileData<'a> {
    /// Its text, or why there is none.
    #[serde(rename = "t")]
    text: Option<String>,
    #[serde(rename = "w", skip_serializing_if = "Option::is_none")]
    why: Option<String>,
    /// Of each line with code three numbers: how far after the last one it stands, its pair, its count.
    #[serde(rename = "l")]
    lines: Vec<u64>,
    /// Name, first and last line, pair, count.
    #[serde(rename = "f")]
    functions: Vec<(&'a str, u32, u32, usize, u64)>,
}

/// Sets and pairs, each once.
#[derive(Default)]
struct Pairs {
    sets: FxHashMap<StreamSet, usize>,
    set_list: Vec<String>,
    pairs: FxHashMap<(usize, usize), usize>,
    pair_list: Vec<usize>,
}

impl Pairs {
    fn set(&mut self, set: &StreamSet) -> usize {
        if let Some(at) = self.sets.get(set) {
            return *at;
        }
        let at = self.set_list.len();
        self.set_list.push(ranges(set));
        self.sets.insert(set.clone(), at);
        at
    }

    fn of(&mut self, hits: &Hits) -> usize {
        let pair = (self.set(&hits.streams), self.set(&hits.maybe));
        *self.pairs.entry(pair).or_insert_with(|| {
            self.pair_list.extend([pair.0, pair.1]);
            self.pair_list.len() / 2 - 1
        })
    }
}

fn ranges(set: &StreamSet) -> String {
    let streams = set.iter().filter_map(|stream| u32::try_from(stream).ok());
    super::super::style::ranges(streams).join(",")
}

/// How many there are of each pair, flat.
fn counted(pairs: &[usize]) -> Vec<usize> {
    let mut counts: BTreeMap<usize, usize> = BTreeMap::new();
    for pair in pairs {
        *counts.entry(*pair).or_default() += 1;
    }
    counts.into_iter().flat_map(|(pair, n)| [pair, n]).collect()
}

impl Index {
    /// The index, and the files that it is about, in its order.
    pub(super) fn new<'a>(view: &View<'a>, filter: &Filter) -> (Self, Vec<Shown<'a>>) {
        let coverage = view.coverage;
        let mut pairs = Pairs::default();
        let shown: Vec<Shown<'a>> = coverage
            .files
            .iter()
            .filter(|(path, file)| !file.lines.is_empty() && filter.verdict(path) == Verdict::Show)
            .map(|(path, file)| Shown {
                path,
                file,
                lines: file.lines.values().map(|hits| pairs.of(hits)).collect(),
                functions: file.functions.iter().map(|f| pairs.of(&f.hits)).collect(),
            })
            .collect();
        let files = shown.iter().map(|shown| FileSum {
            path: style::shown(shown.path),
            package: crate_of(shown.path),
            complete: shown.file.complete,
            lines: counted(&shown.lines),
            functions: counted(&shown.functions),
        });
        let folded = view.folded.iter();
        let folded: Vec<String> = folded
            .map(|(outside, count)| {
                let files = plural(count.files as u64, "file");
                format!(
                    "{files} of {outside} ({} lines ran)",
                    number(count.lines as u64)
                )
            })
            .chain(excluded(view))
            .collect();
        let all = view.selection.streams == Selection::all(coverage).streams;
        let index = Self {
            version: VERSION,
            tool: concat!("rkcov ", env!("CARGO_PKG_VERSION")),
            title: title(view),
            mode: coverage.mode.name(),
            runs: coverage.runs.iter().map(run).collect(),
            who: all_who(coverage),
            files: files.collect(),
            sets: pairs.set_list,
            pairs: pairs.pair_list,
            first: First {
                who: (!all).then(|| ranges(&view.selection.streams)),
                only: view.selection.exclusive,
            },
            alarms: alarms(view),
            folded: folded.join(", "),
        };
        (index, shown)
    }
}

/// What was run.
fn title(view: &View<'_>) -> String {
    let coverage = view.coverage;
    match coverage.runs.as_slice() {
        [run] => match run.info.command.first() {
            // A project has the name of its folder.
            Some(program) if program == "cargo" => file_name(run.info.directory.as_os_str()),
            Some(program) => file_name(program),
            None => run.name.clone(),
        },
        runs => plural(runs.len() as u64, "trace"),
    }
}

fn file_name(path: &OsStr) -> String {
    let name = Path::new(path).file_name().unwrap_or(path);
    name.to_string_lossy().into_owned()
}

fn run(run: &crate::coverage::Run) -> Run {
    Run {
        name: run.name.clone(),
        command: words(&run.info.command),
        directory: run.info.directory.to_string_lossy().into_owned(),
        finished: run.finished,
    }
}

fn words(command: &[std::ffi::OsString]) -> Vec<String> {
    let words = command.iter();
    words
        .map(|word| word.to_string_lossy().into_owned())
        .collect()
}

fn all_who(coverage: &Coverage) -> Vec<Who> {
    let mut threads = FxHashMap::default();
    let mut contexts = FxHashMap::default();
    let streams = coverage.streams.iter();
    let numbered = streams.map(|stream| {
        let next = threads.len();
        let thread = *threads.entry(stream.thread_key()).or_insert(next);
        let next = contexts.len();
        let context = stream.context_key();
        let context = context.map(|key| *contexts.entry(key).or_insert(next));
        who(coverage, stream, (thread, context))
    });
    numbered.collect()
}

fn who(coverage: &Coverage, stream: &StreamSummary, numbers: (usize, Option<usize>)) -> Who {
    let named = coverage.context_of(stream);
    Who {
        run: stream.run,
        pid: stream.process.pid,
        tid: stream.info.tid,
        name: stream.info.name.clone(),
        label: coverage.label_of(stream).into_owned(),
        kind: named.map_or_else(String::new, |context| context.kind.to_string()),
        context: numbers.1,
        thread: numbers.0,
        main: stream.info.main,
        records: stream.records,
        pcs: stream.pcs,
        lossy: stream.is_lossy(),
        command: words(&stream.process.command).join(" "),
    }
}

/// The functions of each file, for the search: names and first lines, one after the other.
pub(super) fn names<'a>(shown: &[Shown<'a>]) -> Vec<(Vec<&'a str>, Vec<u32>)> {
    let files = shown.iter();
    files
        .map(|shown| {
            let functions = shown.file.functions.iter();
            functions.map(|f| (&*f.name, f.lines.0)).unzip()
        })
        .collect()
}

impl<'a> FileData<'a> {
    /// Reads the file's text, too.
    pub(super) fn new(shown: &Shown<'a>) -> Self {
        let (text, why) = match text(shown.path) {
            Ok(text) => (Some(text), None),
            Err(error) => (None, Some(error.to_string())),
        };
        let mut last = 0;
        let lines = shown.file.lines.iter().zip(&shown.lines);
        let lines = lines.flat_map(|((line, hits), pair)| {
            let after = line - std::mem::replace(&mut last, *line);
            [u64::from(after), *pair as u64, hits.count]
        });
        let functions = shown.file.functions.iter().zip(&shown.functions);
        Self {
            text,
            why,
            lines: lines.collect(),
            functions: functions
                .map(|(f, pair)| (&*f.name, f.lines.0, f.lines.1, *pair, f.hits.count))
                .collect(),
        }
    }
}

/// What is not UTF-8 is replaced.
fn text(path: &Path) -> io::Result<String> {
    let bytes = std::fs::read(path)?;
    Ok(String::from_utf8_lossy(&bytes).replace("\r\n", "\n"))
}
