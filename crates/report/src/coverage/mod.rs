// SPDX-License-Identifier: MIT OR Apache-2.0
//! What ran: files, their lines and functions, and the streams that ran each.
//!
//! [`Coverage::new`] turns traces into this model. Renderers, and whatever else wants to know what
//! ran (an editor, a test runner), take it from here; nothing here knows how it will be shown.

mod alarms;
mod comparisons;
mod gather;
mod guards;
mod losses;
mod modules;
mod names;
mod parties;
pub(crate) mod paths;
mod resolve;
mod select;
mod steps;
mod streams;
mod view;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use crate::exclusions::Excluded;
use crate::image::{Problem, Search};
use crate::progress::Progress;
use crate::sources::Filter;
use crate::trace::{
    BuildId, Context, Drops, Info, Loss, Mode, Process, Scope, Stream, StreamInfo, Trace,
};
pub use alarms::Alarm;
pub use comparisons::{Operands, Pair};
pub(crate) use gather::{ImageKey, Places};
pub(crate) use guards::Guards;
use losses::{Loaded, Lossy};
pub(crate) use modules::{ModuleMap, Modules, Place as ModulePlace};
pub use parties::Parties;
pub(crate) use parties::{ContextKey, ThreadKey};
pub use select::{Seen, Selection, Thread, UnknownThread};
pub use steps::{before, Step};
pub(crate) use streams::ones;
pub use streams::{StreamIndex, StreamSet};
pub use view::{Count, FileView, View};

/// Said in the place of rows if [`Coverage::nothing_remains`].
pub(crate) const NOTHING_REMAINS: &str =
    "Nothing remains to show: each file that ran is missing or was rebuilt since.";

/// Everything that some traces say, in terms of sources.
#[derive(Debug)]
pub struct Coverage {
    /// What was recorded.
    pub mode: Mode,
    /// The traces, in the order in which they were given.
    pub runs: Vec<Run>,
    /// The streams of all traces; a [`StreamIndex`] is an index.
    pub streams: Vec<StreamSummary>,
    /// The images that have PCs in the traces.
    pub images: Vec<ImageSummary>,
    /// The source files by their paths, cleaned of `.` and `..`.
    pub files: BTreeMap<PathBuf, SourceFile>,
    /// What [`Coverage::exclude`] took out of them.
    pub excluded: Excluded,
}

/// One trace.
#[derive(Clone, Debug)]
pub struct Run {
    /// What the trace is called: in most cases the path of its file.
    pub name: String,
    /// How it came to be.
    pub info: Info,
    /// Whether it is whole.
    pub finished: bool,
    /// What is missing of no stream in particular; of one reason, scope and note, once.
    pub losses: Vec<Loss>,
    /// How many processes it has.
    pub processes: usize,
    /// Its contexts.
    pub contexts: Vec<Context>,
}

/// One stream, without its words.
#[derive(Clone, Debug)]
pub struct StreamSummary {
    /// Which of [`Coverage::runs`] it is of.
    pub run: usize,
    /// What the trace says of it.
    pub info: StreamInfo,
    /// The process that it is of.
    pub process: Process,
    /// Records.
    pub records: u64,
    /// Records that were announced and never written.
    pub unwritten: u64,
    /// Whether the program wrote over the count word.
    pub count_lost: bool,
    /// Whether all of its words are in the trace.
    pub whole: bool,
    /// Different PCs.
    pub pcs: u64,
    /// PCs that could not be attributed.
    pub lost: Lost,
}

/// Whether a thread's name may be longer.
pub(crate) fn is_cut(name: &str) -> bool {
    name.len() == names::KEPT
}

impl StreamSummary {
    /// What people call it: the thread's id and name, and the label if there is one.
    #[must_use]
    pub fn thread(&self) -> String {
        let info = &self.info;
        let mut text = info.tid.to_string();
        if info.main {
            text.push_str(" (main)");
        } else if !info.name.is_empty() {
            let cut = if is_cut(&info.name) { "…" } else { "" };
            text = format!("{text} ({}{cut})", info.name);
        }
        if !info.label.is_empty() {
            text = format!("{text} [{}]", info.label);
        }
        text
    }
}

impl StreamSummary {
    /// Whether code may have run for it that it does not have.
    #[must_use]
    pub fn is_lossy(&self) -> bool {
        let lost = self.lost.nowhere > 0 || self.lost.ambiguous > 0;
        let dropped = self.info.drops.iter().any(|drops| drops.count > 0);
        self.count_lost || !self.whole || lost || dropped
    }
}

impl Run {
    /// Whether code may have run that no stream has.
    #[must_use]
    pub fn is_lossy(&self) -> bool {
        !self.losses.is_empty()
    }
}

/// PCs that belong to no image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// No module had code there.
    pub nowhere: u64,
    /// Different modules had code there, one after the other.
    pub ambiguous: u64,
}

/// An image, and how well it was read.
#[derive(Debug)]
pub struct ImageSummary {
    /// Where it was when it ran.
    pub path: PathBuf,
    /// Its build id; empty if it had none.
    pub build_id: BuildId,
    /// Different return addresses that were recorded.
    pub pcs: u64,
    /// How many of them which streams recorded.
    pub recorded_by: Vec<(StreamSet, u64)>,
    /// Places that could have been recorded; `None` if they cannot be found, and with them what
    /// did not run.
    pub sites: Option<u64>,
    /// The streams that ran any of its code.
    pub streams: StreamSet,
    /// Whether its lines are known.
    pub has_lines: bool,
    /// When it was built, if the file is there.
    pub built: Option<SystemTime>,
    /// What kept it from being read as well as it could be.
    pub problems: Vec<Problem>,
    /// Functions that ran and whose source is not known.
    pub functions: Vec<Function>,
    /// PCs of which not even the function is known.
    pub unknown: u64,
}

impl ImageSummary {
    /// Why the file that ran is not there, if it is not.
    #[must_use]
    pub fn absence(&self) -> Option<&Problem> {
        self.problems.iter().find(|problem| problem.is_absence())
    }
}

/// A source file.
#[derive(Clone, Debug, Default)]
pub struct SourceFile {
    /// The lines that have code, by number.
    pub lines: BTreeMap<u32, Hits>,
    /// The functions, in the order of their lines.
    pub functions: Vec<Function>,
    /// Whether lines and functions that did not run are in it too.
    pub complete: bool,
    /// When the first of the images was built that have its lines.
    pub built: Option<SystemTime>,
    /// What was compared, by line and stream, if comparisons were recorded.
    pub comparisons: BTreeMap<u32, BTreeMap<StreamIndex, Operands>>,
}

impl SourceFile {
    /// Whether the file at `path`, which is this one, was changed after it was compiled: then its
    /// lines may stand elsewhere now.
    #[must_use]
    pub fn is_older_than(&self, path: &Path) -> bool {
        let changed = path.metadata().and_then(|file| file.modified());
        match (changed, self.built) {
            (Ok(changed), Some(built)) => changed > built,
            _ => false,
        }
    }
}

/// A function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    /// Its name as its author wrote it.
    pub name: Arc<str>,
    /// The first and the last line that has code; 0 and 0 if they are not known.
    pub lines: (u32, u32),
    /// Who ran it.
    pub hits: Hits,
}

/// Who ran something, and how often.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hits {
    /// The streams that ran it; none if it did not run.
    pub streams: StreamSet,
    /// How often it was recorded; in unique mode, by how many streams.
    pub count: u64,
    /// Streams of which it is not known whether they ran it; they may be among `streams`.
    pub maybe: StreamSet,
}

impl Hits {
    fn add(&mut self, stream: StreamIndex, count: u64) {
        self.streams.insert(stream);
        self.count = self.count.saturating_add(count);
    }

    /// Adds another place of the same line: it ran where either ran, and as often as the place
    /// that ran most often.
    fn merge(&mut self, other: &Self) {
        self.streams.union(&other.streams);
        self.count = self.count.max(other.count);
        self.maybe.union(&other.maybe);
    }
}

/// A trace to be reported, with the name that people know it by.
#[derive(Clone, Copy, Debug)]
pub struct Named<'a> {
    /// In most cases the path of its file.
    pub name: &'a str,
    /// The trace.
    pub trace: &'a Trace<'a>,
}

/// The traces cannot be reported together.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{first} has {} and {other} has {}: report them one by one",
    what(*.first_mode), what(*.other_mode)
)]
pub struct MixedModes {
    first: String,
    first_mode: Mode,
    other: String,
    other_mode: Mode,
}

const fn what(mode: Mode) -> &'static str {
    match mode {
        Mode::Trace | Mode::Unique => "PCs",
        Mode::Cmp => "comparisons",
    }
}

impl Coverage {
    /// Puts traces together, finds their images and looks every PC up.
    ///
    /// # Errors
    /// If some of the traces have PCs and others comparisons.
    pub fn new(traces: &[Named<'_>], search: &Search) -> Result<Self, MixedModes> {
        Self::watched(traces, search, &Progress::default())
    }

    /// [`Coverage::new`], for somebody who watches how far it has come.
    ///
    /// # Errors
    /// As there.
    pub fn watched(
        traces: &[Named<'_>],
        search: &Search,
        progress: &Progress,
    ) -> Result<Self, MixedModes> {
        let mode = common_mode(traces)?;
        let plain: Vec<&Trace<'_>> = traces.iter().map(|named| named.trace).collect();
        let gathered = gather::gather(&plain, search, progress);

        let all = traces.iter().enumerate().flat_map(|(run, named)| {
            let streams = named.trace.streams().iter();
            streams.map(move |stream| (run, named.trace, stream))
        });
        let lost = gathered.pcs.iter().zip(&gathered.lost);
        let streams: Vec<StreamSummary> = all
            .zip(lost)
            .map(|((run, trace, stream), (pcs, lost))| summary(run, trace, stream, *pcs, *lost))
            .collect();

        let mut runs: Vec<Run> = traces.iter().map(run).collect();
        for run in &mut runs {
            run.info.directory = paths::place(&run.info.directory, &search.moved);
        }
        let lossy = Lossy::new(traces, &streams);
        let loaded = Loaded::new(traces);
        let mut search = search.clone();
        let ran = gathered.images.keys().filter(|(_, id)| !id.is_empty());
        search
            .ran
            .extend(ran.map(|(path, id)| (id.clone(), path.clone())));
        let known = resolve::Known {
            mode,
            streams: streams.len(),
            lossy: &lossy,
            loaded: &loaded,
            progress,
        };
        let resolved = resolve::resolve(gathered.images, &search, &known);
        let mut coverage = Self {
            mode,
            runs,
            streams,
            images: Vec::new(),
            files: BTreeMap::new(),
            excluded: Excluded::default(),
        };
        resolve::merge(resolved, &search.moved, &mut coverage);
        names::complete(&mut coverage);
        if mode == Mode::Cmp {
            for (path, lines) in comparisons::of(&plain, &search) {
                coverage.files.entry(path).or_default().comparisons = lines;
            }
        }
        Ok(coverage)
    }

    /// What is missing, of `selection` or of nobody in particular: one for each reason, scope and
    /// note.
    #[must_use]
    pub fn losses(&self, selection: &Selection) -> Vec<Loss> {
        let selected = selection.streams.iter();
        let selected = selected.filter_map(|stream| self.streams.get(stream));
        let drops = Drops::sums(selected.flat_map(|stream| &stream.info.drops));
        let streams = drops.iter().filter(|drops| drops.count > 0);
        let streams = streams.map(|drops| Loss::new(drops.reason, drops.count));
        let mut losses: Vec<Loss> = Vec::new();
        let runs = self.runs.iter().flat_map(|run| run.losses.iter().cloned());
        for loss in streams.chain(runs) {
            let like = |other: &&mut Loss| {
                (other.reason, &other.scope, &other.note) == (loss.reason, &loss.scope, &loss.note)
            };
            match losses.iter_mut().find(like) {
                Some(sum) => sum.count = sum.count.saturating_add(loss.count),
                None => losses.push(loss),
            }
        }
        losses
    }

    /// A file by its path.
    #[must_use]
    pub fn file(&self, path: &Path) -> Option<&SourceFile> {
        self.files.get(path)
    }
}

/// Completes a filter of what is shown of these: the folders where programs ran are of the project, and a pattern
/// that matches sources of the project selects no others.
#[must_use]
pub fn completed(mut filter: Filter, of: &[&Coverage]) -> Filter {
    let runs = of.iter().flat_map(|coverage| &coverage.runs);
    let folders = runs.map(|run| run.info.directory.clone());
    filter.project.extend(folders);
    let files = of.iter().flat_map(|coverage| coverage.files.keys());
    filter.narrow(files.map(|path| &**path));
    filter
}

fn common_mode(traces: &[Named<'_>]) -> Result<Mode, MixedModes> {
    let Some(first) = traces.first() else {
        return Ok(Mode::Trace);
    };
    let first_mode = first.trace.info().mode;
    let mut mode = first_mode;
    for other in traces {
        let other_mode = other.trace.info().mode;
        if what(first_mode) != what(other_mode) {
            return Err(MixedModes {
                first: first.name.to_owned(),
                first_mode,
                other: other.name.to_owned(),
                other_mode,
            });
        }
        if other_mode != first_mode {
            // Counts of some of them mean nothing, so neither do their sums.
            mode = Mode::Unique;
        }
    }
    Ok(mode)
}

fn run(named: &Named<'_>) -> Run {
    let trace = named.trace;
    let mut losses: Vec<Loss> = Vec::new();
    for loss in trace.losses() {
        if matches!(loss.scope, Scope::Stream(_)) {
            continue;
        }
        // A process has a row in no report of losses: those of all processes are summed.
        let scope = match loss.scope {
            Scope::Process(_) => Scope::Trace,
            scope => scope,
        };
        let like = |other: &&mut Loss| {
            other.reason == loss.reason && other.scope == scope && other.note == loss.note
        };
        match losses.iter_mut().find(like) {
            Some(sum) => sum.count = sum.count.saturating_add(loss.count),
            None => losses.push(Loss { scope, ..loss }),
        }
    }
    losses.sort_by_key(|loss| loss.reason);
    Run {
        name: named.name.to_owned(),
        info: trace.info().clone(),
        finished: trace.ended().is_some(),
        losses,
        processes: trace.processes().len(),
        contexts: trace.contexts().to_vec(),
    }
}

fn summary(
    run: usize,
    trace: &Trace<'_>,
    stream: &Stream<'_>,
    pcs: u64,
    lost: Lost,
) -> StreamSummary {
    let process = trace.process(stream.info().process);
    StreamSummary {
        run,
        info: stream.info().clone(),
        process: process.cloned().unwrap_or_default(),
        records: stream.records(),
        unwritten: stream.unwritten(),
        count_lost: stream.count_lost(),
        whole: stream.whole(),
        pcs,
        lost,
    }
}
