// SPDX-License-Identifier: MIT OR Apache-2.0
//! Questions to traces with contexts: who ran a line, which contexts a change touches, which of them
//! run no line that others do not.
//!
//! [`Contexts::of`] goes through a [`Coverage`] once; what is asked then are operations of sets.

mod cover;
mod render;
#[cfg(test)]
pub(crate) mod sample;
pub(crate) mod spans;

pub use render::ended_early;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

use regex::Regex;
use roaring::RoaringBitmap;

use crate::coverage::{ones, Coverage, Function, Hits, Selection, SourceFile, StreamSet};
use crate::place::{NoPlace, Place};
use crate::sources::{Filter, Verdict};
use crate::trace::{ContextKind, Ended};
use cover::{cover, Block, Column};
use spans::tests_of;

/// The contexts of some traces, and the lines that each ran: rows, and columns, which are lines beside each other
/// that the same rows ran.
#[derive(Debug)]
pub struct Contexts<'a> {
    coverage: &'a Coverage,
    rows: Vec<Row>,
    /// The row of each stream.
    row_of: Vec<Option<u32>>,
    columns: Vec<Column>,
    /// How many lines ran in no context.
    outside: u64,
}

/// The contexts of one kind and name.
#[derive(Clone, Debug)]
pub struct Row {
    /// What sort of work.
    pub kind: ContextKind,
    /// The name; what is not UTF-8 in it is replaced.
    pub name: String,
    /// How many contexts have that name.
    pub runs: usize,
    /// How many of them had not ended.
    pub unfinished: usize,
    /// How long they took, as far as that is known.
    pub time: Duration,
    /// Lines that no other context ran, nor anything outside of all contexts.
    pub unique: u64,
    timed: u32,
    lines: u64,
    /// What it ran, by the numbers of columns.
    columns: RoaringBitmap,
    streams: StreamSet,
}

impl Row {
    /// What it ran, in terms of streams.
    #[must_use]
    pub fn selection(&self) -> Selection {
        Selection {
            streams: self.streams.clone(),
            exclusive: false,
        }
    }

    /// How many lines it ran.
    #[must_use]
    pub fn lines(&self) -> u64 {
        self.lines
    }

    /// Of how many of its runs it is known how long they took.
    pub(crate) fn timed(&self) -> u32 {
        self.timed
    }
}

/// A thread that ran something outside of all contexts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outside {
    /// What people call it.
    pub thread: String,
    /// How many different PCs it recorded there.
    pub pcs: u64,
    /// It ran some of it when it was in no context.
    pub before: bool,
    /// It ran some of it in a context that had ended.
    pub after: bool,
}

impl Outside {
    fn new(thread: String) -> Self {
        Self {
            thread,
            pcs: 0,
            before: false,
            after: false,
        }
    }

    /// Why it is in no context, if that is known.
    #[must_use]
    pub fn note(&self) -> &'static str {
        match (self.after, self.before) {
            (false, _) => "",
            (true, false) => " (after its context had ended)",
            (true, true) => " (some after its context had ended)",
        }
    }
}

/// Who is among some streams that no row stands for.
#[derive(Clone, Copy, Debug, Default)]
struct Others {
    /// Threads in no context.
    outside: bool,
    /// Somebody of whom no more is known.
    somebody: bool,
}

/// Which contexts, by name.
#[derive(Clone, Debug)]
pub struct Name {
    typed: String,
    regex: Regex,
}

impl std::str::FromStr for Name {
    type Err = String;

    /// A whole name, one with `*` for any characters, or `re:REGEX`, which may be found anywhere in it.
    fn from_str(text: &str) -> Result<Self, String> {
        let regex = match text.strip_prefix("re:") {
            Some(regex) => Regex::new(regex),
            None => {
                let parts: Vec<String> = text.split('*').map(regex::escape).collect();
                Regex::new(&format!("^(?s:{})$", parts.join(".*")))
            }
        };
        let regex = regex.map_err(|error| error.to_string())?;
        Ok(Self {
            typed: text.to_owned(),
            regex,
        })
    }
}

/// Who ran something.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ran<'a> {
    /// The names of the contexts, sorted.
    pub contexts: Vec<&'a str>,
    /// Contexts of which it is not known whether they ran it.
    pub maybe: Vec<&'a str>,
    /// Threads outside of all contexts that ran it.
    pub outside: Vec<String>,
    /// Threads outside of all contexts of which it is not known whether they ran it.
    pub maybe_outside: Vec<String>,
    /// Whether it ran, whoever did.
    pub known_to_have_run: bool,
}

/// What is not as it should be with a question.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// There are no contexts.
    #[error(
        "the traces have no contexts: nobody said which work ran what; \
         `cargo rkcov test --per-test` says it for tests"
    )]
    NoContexts,
    /// No context has that name.
    #[error(
        "no context is called {wanted}; the nearest names are {}; `--by context` lists all",
        near.join(", ")
    )]
    NoSuchContext {
        /// What was asked for, as it was typed.
        wanted: String,
        /// Some names that there are.
        near: Vec<String>,
    },
    /// There is no such place.
    #[error(transparent)]
    NoPlace(#[from] NoPlace),
}

impl<'a> Contexts<'a> {
    /// Goes through the lines of the sources that `filter` shows. Those of tests' own functions, which
    /// nobody else runs, are not counted.
    ///
    /// # Errors
    /// There are no contexts.
    pub fn of(coverage: &'a Coverage, filter: &Filter) -> Result<Self, Error> {
        let mut contexts = Self::named(coverage)?;
        let shown = coverage.files.iter();
        let shown = shown.filter(|(path, _)| filter.verdict(path) == Verdict::Show);
        let tests = tests_of(coverage);
        // Neighbours were run by the same streams, and share the set.
        let mut last: Option<(&StreamSet, u64)> = None;
        let mut rows = vec![0; contexts.rows.len().div_ceil(64)];
        let mut block = Block::new(rows.len());
        for (_, source) in shown {
            let own = lines_of_tests(source, &tests);
            for (line, hits) in &source.lines {
                if own.contains(*line) {
                    continue;
                }
                match &mut last {
                    Some((streams, lines)) if *streams == &hits.streams => *lines += 1,
                    _ => {
                        if let Some((streams, lines)) = last.replace((&hits.streams, 1)) {
                            contexts.add(streams, lines, &mut rows, &mut block);
                        }
                    }
                }
            }
        }
        if let Some((streams, lines)) = last {
            contexts.add(streams, lines, &mut rows, &mut block);
        }
        contexts.take(&mut block);
        for row in &mut contexts.rows {
            row.columns.optimize();
        }
        Ok(contexts)
    }

    /// Adds lines that these streams ran. `rows` has room for a bit for each row.
    fn add(&mut self, streams: &StreamSet, lines: u64, rows: &mut [u64], block: &mut Block) {
        rows.fill(0);
        let others = self.mark(streams, rows);
        if others.outside {
            self.outside += lines;
        } else if !others.somebody {
            let mut ones = ones(rows);
            if let (Some(row), None) = (ones.next(), ones.next()) {
                self.rows[row].unique += lines;
            }
        }
        self.columns.push(Column::new(lines, rows));
        block.push(rows);
        if block.len() == Block::MOST {
            self.take(block);
        }
    }

    /// Gives the rows their columns of a block, which are the last ones.
    fn take(&mut self, block: &mut Block) {
        let (columns, rows) = (&self.columns, &mut self.rows);
        let first = columns.len() - block.len();
        block.take(|row, of| {
            let Some(row) = rows.get_mut(row) else {
                return;
            };
            let of = ones(of).map(|bit| first + bit);
            row.lines += of.clone().map(|column| columns[column].lines).sum::<u64>();
            let added = row.columns.append(of.map(|column| column as u32));
            debug_assert!(added.is_ok(), "columns of a row are in order");
        });
    }

    /// Sets the bits of the rows of some streams.
    fn mark(&self, streams: &StreamSet, rows: &mut [u64]) -> Others {
        let mut others = Others::default();
        for stream in streams.iter() {
            match self.row_of.get(stream) {
                Some(Some(row)) => rows[*row as usize / 64] |= 1 << (row % 64),
                // Streams beyond the last stand for what has none.
                Some(None) => others.outside = true,
                None => others.somebody = true,
            }
        }
        others
    }

    /// The contexts by name: enough to ask who ran something, and not how many lines a context ran.
    ///
    /// # Errors
    /// There are no contexts.
    pub fn named(coverage: &'a Coverage) -> Result<Self, Error> {
        let mut contexts = Self {
            coverage,
            rows: Vec::new(),
            row_of: Vec::new(),
            columns: Vec::new(),
            outside: 0,
        };
        contexts.name();
        if contexts.rows.is_empty() {
            return Err(Error::NoContexts);
        }
        Ok(contexts)
    }

    /// Makes the rows: a name each.
    fn name(&mut self) {
        let mut rows: BTreeMap<(ContextKind, String), Row> = BTreeMap::new();
        let runs = &self.coverage.runs;
        for context in runs.iter().flat_map(|run| &run.contexts) {
            let name = String::from_utf8_lossy(&context.name).into_owned();
            let row = rows.entry((context.kind, name.clone()));
            let row = row.or_insert_with(|| Row {
                kind: context.kind,
                name,
                runs: 0,
                unfinished: 0,
                time: Duration::ZERO,
                unique: 0,
                timed: 0,
                lines: 0,
                columns: RoaringBitmap::new(),
                streams: StreamSet::new(),
            });
            row.runs += 1;
            row.unfinished += usize::from(context.ended == Ended::No);
            if let (Some(began), Ended::At(ended)) = (context.began, context.ended) {
                row.time += ended.duration_since(began).unwrap_or_default();
                row.timed += 1;
            }
        }
        let places: BTreeMap<(ContextKind, String), u32> = rows.keys().cloned().zip(0..).collect();
        self.rows = rows.into_values().collect();
        for (index, stream) in self.coverage.streams.iter().enumerate() {
            let context = stream.info.context.and_then(|id| {
                let context = runs.get(stream.run)?.contexts.get(id.index())?;
                let name = String::from_utf8_lossy(&context.name).into_owned();
                places.get(&(context.kind, name)).copied()
            });
            if let Some(row) = context {
                self.rows[row as usize].streams.insert(index);
            }
            self.row_of.push(context);
        }
    }

    /// The rows of some streams, a bit each.
    fn rows_of(&self, streams: &StreamSet) -> Vec<u64> {
        let mut rows = vec![0; self.rows.len().div_ceil(64)];
        self.mark(streams, &mut rows);
        rows
    }

    /// A row for each name, sorted by kind and name.
    #[must_use]
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// Lines that ran outside of all contexts.
    #[must_use]
    pub fn lines_outside(&self) -> u64 {
        self.outside
    }

    /// The threads that ran outside of all contexts.
    #[must_use]
    pub fn threads_outside(&self) -> Vec<Outside> {
        let mut threads: Vec<(StreamSet, Outside)> = Vec::new();
        let mut place_of = HashMap::new();
        let streams = self.coverage.streams.iter().zip(&self.row_of).enumerate();
        let outside = streams.filter(|(_, (stream, row))| row.is_none() && stream.pcs > 0);
        for (index, (stream, _)) in outside {
            let place = *place_of.entry(stream.thread_key()).or_insert(threads.len());
            if place == threads.len() {
                threads.push((StreamSet::new(), Outside::new(stream.thread())));
            }
            let (streams, thread) = &mut threads[place];
            streams.insert(index);
            thread.pcs = stream.pcs;
            match stream.is_after_context() {
                true => thread.after = true,
                false => thread.before = true,
            }
        }
        for (streams, thread) in threads.iter_mut().filter(|(streams, _)| streams.len() > 1) {
            let images = self.coverage.images.iter();
            let sets = images.flat_map(|image| &image.recorded_by);
            let sets = sets.filter(|(set, _)| set.meets(streams));
            thread.pcs = sets.map(|(_, count)| count).sum();
        }
        threads.into_iter().map(|(_, thread)| thread).collect()
    }

    /// How many contexts had ended while a thread was in them that went on.
    #[must_use]
    pub fn ended_early(&self) -> usize {
        self.coverage.ended_early(0..self.coverage.streams.len())
    }

    /// What the contexts with these names ran; with `only`, what nobody else ran.
    ///
    /// # Errors
    /// There is none with one of the names.
    pub fn selection(coverage: &Coverage, names: &[Name], only: bool) -> Result<Selection, Error> {
        let contexts = Contexts::named(coverage)?;
        let mut streams = StreamSet::new();
        for name in names {
            let mut found = contexts
                .rows
                .iter()
                .filter(|row| name.regex.is_match(&row.name))
                .peekable();
            if found.peek().is_none() {
                return Err(Error::NoSuchContext {
                    wanted: name.typed.clone(),
                    near: nearest(&name.typed, &contexts.rows),
                });
            }
            found.for_each(|row| {
                streams.union(&row.streams);
            });
        }
        Ok(Selection {
            streams,
            exclusive: only,
        })
    }

    /// Who ran `place`: `FILE:LINE`, `FILE`, of which the end is enough, or a function's name or its end.
    ///
    /// # Errors
    /// There is no such place.
    pub fn ran(&self, place: &str) -> Result<Ran<'_>, Error> {
        let places = Place::named(self.coverage, place)?;
        Ok(self.who(places.iter().flat_map(Place::hits)))
    }

    fn who(&self, hits: impl IntoIterator<Item = &'a Hits>) -> Ran<'_> {
        let (mut ran, mut may) = (StreamSet::new(), StreamSet::new());
        for hits in hits {
            ran.union(&hits.streams);
            may.union(&hits.maybe);
        }
        let rows = self.rows_of(&ran);
        let mut maybe = self.rows_of(&may);
        for (maybe, rows) in maybe.iter_mut().zip(&rows) {
            *maybe &= !rows;
        }
        let names = |rows: &[u64]| {
            let mut names: Vec<&str> = ones(rows).map(|row| &*self.rows[row].name).collect();
            names.sort_unstable();
            names
        };
        let outside = |streams: &StreamSet| {
            let streams = streams.iter();
            let outside = streams.filter(|stream| self.row_of.get(*stream) == Some(&None));
            let threads =
                outside.filter_map(|stream| Some(self.coverage.streams.get(stream)?.thread()));
            threads.collect::<BTreeSet<String>>()
        };
        let ran_outside = outside(&ran);
        let maybe_outside = outside(&may).difference(&ran_outside).cloned().collect();
        Ran {
            contexts: names(&rows),
            maybe: names(&maybe),
            outside: ran_outside.into_iter().collect(),
            maybe_outside,
            known_to_have_run: !ran.is_empty(),
        }
    }

    /// Who ran any of the functions that have all of these lines of a source, as its lines were when it
    /// was compiled. `None` if no function with code has them: what they are for is not known then.
    #[must_use]
    pub fn ran_function_at(&self, path: &Path, lines: &RangeInclusive<u32>) -> Option<Ran<'_>> {
        let source = self.coverage.file(path)?;
        let within = |function: &&Function| {
            let (first, last) = function.lines;
            first <= *lines.start() && *lines.end() <= last
        };
        let mut within = source.functions.iter().filter(within).peekable();
        within.peek()?;
        Some(self.who(within.map(|function| &function.hits)))
    }

    /// The fewest contexts that can easily be found which ran together all that all contexts ran: each
    /// time the one that adds most, of several the quickest. With each, how many lines it adds.
    #[must_use]
    pub fn minimize(&self) -> Vec<(&Row, u64)> {
        let rows = self.rows.iter();
        let rows: Vec<_> = rows
            .map(|row| (&row.columns, row.lines, row.time))
            .collect();
        let chosen = cover(&rows, &self.columns).into_iter();
        chosen.map(|(at, adds)| (&self.rows[at], adds)).collect()
    }

    /// Contexts that ran the same lines, two or more each time, the largest groups first.
    #[must_use]
    pub fn similar(&self) -> Vec<Vec<&Row>> {
        let mut groups: BTreeMap<Vec<u8>, Vec<&Row>> = BTreeMap::new();
        for row in self.rows.iter().filter(|row| !row.columns.is_empty()) {
            let mut key = Vec::with_capacity(row.columns.serialized_size());
            if row.columns.serialize_into(&mut key).is_ok() {
                groups.entry(key).or_default().push(row);
            }
        }
        let mut groups: Vec<_> = groups
            .into_values()
            .filter(|group| group.len() > 1)
            .collect();
        groups.sort_by_key(|group| (Reverse(group.len()), group[0].name.clone()));
        groups
    }
}

/// The names that are most like this one, the most alike first.
fn nearest(wanted: &str, rows: &[Row]) -> Vec<String> {
    const FEW: usize = 5;
    /// Characters of a name that are compared and shown.
    const LONG: usize = 60;
    let cut = |name: &str| -> String {
        let text: String = name.chars().take(LONG).collect();
        if text.len() < name.len() {
            text + "…"
        } else {
            text
        }
    };
    let wanted = cut(wanted).to_lowercase();
    let names: BTreeSet<String> = rows.iter().map(|row| cut(&row.name)).collect();
    let mut names: Vec<(f64, String)> = names
        .into_iter()
        .map(|name| {
            let like = strsim::normalized_damerau_levenshtein(&wanted, &name.to_lowercase());
            (like, name)
        })
        .collect();
    names.sort_by(|(a, _), (b, _)| b.total_cmp(a));
    let few = names.into_iter().take(FEW);
    few.map(|(_, name)| name.escape_debug().to_string())
        .collect()
}

/// The lines of functions that are tests themselves, and of closures in them.
fn lines_of_tests(source: &SourceFile, tests: &BTreeSet<String>) -> RoaringBitmap {
    let mut lines = RoaringBitmap::new();
    for function in &source.functions {
        let name = function.name.split("::{").next().unwrap_or_default();
        // Names of tests have no crate.
        let is_test = name
            .split_once("::")
            .is_some_and(|(_, path)| tests.contains(path));
        if is_test {
            let (first, last) = function.lines;
            lines.insert_range(first..=last);
        }
    }
    lines
}
