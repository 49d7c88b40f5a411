// SPDX-License-Identifier: MIT OR Apache-2.0
//! The part of a coverage that a report is about.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use super::{Coverage, Function, Operands, Seen, Selection, StreamIndex, StreamSet};
use crate::sources::{Filter, Outside, Verdict};

/// What some threads ran in some files.
#[derive(Debug)]
pub struct View<'a> {
    /// What it is a part of.
    pub coverage: &'a Coverage,
    /// The streams that it is about.
    pub selection: Selection,
    /// The files in which something ran, or could have, in the order of their paths.
    pub files: Vec<FileView<'a>>,
    /// What was folded away: files and lines that ran.
    pub folded: BTreeMap<Outside, Count>,
}

/// One file of a [`View`].
#[derive(Debug)]
pub struct FileView<'a> {
    /// Its path.
    pub path: &'a Path,
    /// How often each line ran; 0 for those that did not. In a view of some threads only, 1 stands
    /// for any number.
    pub lines: BTreeMap<u32, u64>,
    /// The functions, and how often they ran.
    pub functions: Vec<(&'a Function, u64)>,
    /// Whether it has what did not run, too.
    pub complete: bool,
    /// What was compared, by line, if comparisons were recorded.
    pub comparisons: BTreeMap<u32, Operands>,
    /// Lines with code of which it is not known whether they ran; they are not among `lines`.
    pub unknown: Vec<u32>,
    /// Functions of which it is not known whether they ran; they are not among `functions`.
    pub unknown_functions: Vec<&'a Function>,
}

/// How much of something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Files.
    pub files: usize,
    /// Lines that ran.
    pub lines: usize,
}

impl<'a> View<'a> {
    /// What `selection` ran in the files that `filter` shows.
    #[must_use]
    pub fn new(coverage: &'a Coverage, selection: Selection, filter: &Filter) -> Self {
        let all = selection == Selection::all(coverage);
        let mut files = Vec::new();
        let mut folded: BTreeMap<Outside, Count> = BTreeMap::new();
        for (path, file) in &coverage.files {
            let verdict = filter.verdict(path);
            if verdict == Verdict::Leave {
                continue;
            }
            let complete = file.complete && !selection.exclusive;
            let ran = |hits: &super::Hits| match selection.sees(hits) {
                Seen::Ran if all => Some(hits.count),
                Seen::Ran => Some(1),
                Seen::Missed if complete => Some(0),
                Seen::Missed | Seen::Elsewhere | Seen::Unknown => None,
            };
            let lines: BTreeMap<u32, u64> = file
                .lines
                .iter()
                .filter_map(|(line, hits)| Some((*line, ran(hits)?)))
                .collect();
            let unknown = file.lines.iter();
            let unknown = unknown.filter(|(_, hits)| selection.sees(hits) == Seen::Unknown);
            let unknown: Vec<u32> = unknown.map(|(line, _)| *line).collect();
            // That a file has code is a fact of the build, whoever ran it.
            if lines.is_empty() && (unknown.is_empty() || !complete) {
                continue;
            }
            if let Verdict::Fold(outside) = verdict {
                let ran = lines.values().filter(|count| **count > 0).count();
                if ran > 0 {
                    let count = folded.entry(outside).or_default();
                    count.files += 1;
                    count.lines += ran;
                }
                continue;
            }
            let functions = file.functions.iter();
            let not_known = |function: &&Function| selection.sees(&function.hits) == Seen::Unknown;
            files.push(FileView {
                path,
                unknown,
                comparisons: of_selection(&file.comparisons, &selection),
                unknown_functions: functions.filter(not_known).collect(),
                lines,
                functions: file
                    .functions
                    .iter()
                    .filter_map(|function| Some((function, ran(&function.hits)?)))
                    .collect(),
                complete,
            });
        }
        Self {
            coverage,
            selection,
            files,
            folded,
        }
    }
}

/// What the streams of a selection compared.
fn of_selection(
    lines: &BTreeMap<u32, BTreeMap<StreamIndex, Operands>>,
    selection: &Selection,
) -> BTreeMap<u32, Operands> {
    let mut found: BTreeMap<u32, Operands> = BTreeMap::new();
    for (line, streams) in lines {
        let wanted = streams.iter();
        let wanted = wanted.filter(|(stream, _)| selection.streams.contains(**stream));
        for (pair, count) in wanted.flat_map(|(_, pairs)| pairs) {
            *found.entry(*line).or_default().entry(*pair).or_default() += count;
        }
    }
    found
}

impl<'a> View<'a> {
    /// A view of each of its threads alone, in all contexts.
    #[must_use]
    pub fn by_thread(&self, filter: &Filter) -> Vec<Self> {
        let mut threads: Vec<StreamSet> = Vec::new();
        let mut place_of = HashMap::new();
        for index in self.selection.streams.iter() {
            let Some(stream) = self.coverage.streams.get(index) else {
                continue;
            };
            let place = *place_of.entry(stream.thread_key()).or_insert(threads.len());
            if place == threads.len() {
                threads.push(StreamSet::new());
            }
            threads[place].insert(index);
        }
        let threads = threads.into_iter();
        threads
            .map(|streams| {
                let selection = Selection {
                    streams,
                    exclusive: self.selection.exclusive,
                };
                Self::new(self.coverage, selection, filter)
            })
            .collect()
    }

    /// Different PCs that the selection recorded.
    #[must_use]
    pub fn pcs(&self) -> u64 {
        let images = self.coverage.images.iter();
        let sets = images.flat_map(|image| &image.recorded_by);
        let wanted = sets.filter(|(streams, _)| {
            streams.meets(&self.selection.streams)
                && (!self.selection.exclusive || streams.is_within(&self.selection.streams))
        });
        wanted.map(|(_, count)| count).sum()
    }

    /// Lines that ran.
    #[must_use]
    pub fn lines_ran(&self) -> usize {
        self.files.iter().map(FileView::lines_ran).sum()
    }

    /// Lines that ran, and those that did not.
    #[must_use]
    pub fn lines_known(&self) -> usize {
        self.files.iter().map(|file| file.lines.len()).sum()
    }

    /// Lines with code: where it is known what did not run, all of them.
    #[must_use]
    pub fn lines_all(&self) -> usize {
        self.files.iter().map(FileView::lines_all).sum()
    }

    /// Functions that ran.
    #[must_use]
    pub fn functions_ran(&self) -> usize {
        self.files.iter().map(FileView::functions_ran).sum()
    }

    /// Whether every file has what did not run, too.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.files.iter().all(|file| file.complete)
    }
}

impl FileView<'_> {
    /// Lines that ran.
    #[must_use]
    pub fn lines_ran(&self) -> usize {
        self.lines.values().filter(|count| **count > 0).count()
    }

    /// Lines with code: where it is known what did not run, all of them, which is a fact of the
    /// build.
    #[must_use]
    pub fn lines_all(&self) -> usize {
        self.lines.len() + if self.complete { self.unknown.len() } else { 0 }
    }

    /// Functions with code, as [`lines_all`](Self::lines_all).
    #[must_use]
    pub fn functions_all(&self) -> usize {
        let unknown = self.unknown_functions.len();
        self.functions.len() + if self.complete { unknown } else { 0 }
    }

    /// Functions that ran.
    #[must_use]
    pub fn functions_ran(&self) -> usize {
        self.functions
            .iter()
            .filter(|(_, count)| *count > 0)
            .count()
    }
}
