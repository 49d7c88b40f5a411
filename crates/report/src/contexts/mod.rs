// SPDX-License-Identifier: MIT OR Apache-2.0
//! Questions to traces with contexts: who ran a line, which contexts a change touches, which of them
//! run no line that others do not.
//!
//! [`Contexts::of`] goes through a [`Coverage`] once; what is asked then are operations of sets.

mod render;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

use regex::Regex;
use roaring::RoaringBitmap;

use crate::coverage::{Coverage, Function, Hits, Selection, SourceFile, StreamSet};
use crate::place::{NoPlace, Place};
use crate::sources::{Filter, Verdict};
use crate::trace::{ContextKind, Ended};

/// Lines that are looked at before rows get them.
const BLOCK: u32 = 1 << 16;

/// The contexts of some traces, and the lines that each ran.
#[derive(Debug)]
pub struct Contexts<'a> {
    coverage: &'a Coverage,
    rows: Vec<Row>,
    /// The row of each stream.
    row_of: Vec<Option<u32>>,
    /// What ran in no context.
    outside: RoaringBitmap,
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
    /// The lines that it ran, by numbers.
    lines: RoaringBitmap,
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
        self.lines.len()
    }
}

/// Which contexts, by name.
#[derive(Clone, Debug)]
pub struct Name(Regex);

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
        regex.map(Self).map_err(|error| error.to_string())
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
    #[error("no context is called {0}; `--by context` lists them")]
    NoSuchContext(String),
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
        let mut contexts = Self {
            coverage,
            rows: Vec::new(),
            row_of: Vec::new(),
            outside: RoaringBitmap::new(),
        };
        contexts.name();
        if contexts.rows.is_empty() {
            return Err(Error::NoContexts);
        }
        let shown = coverage.files.iter();
        let shown = shown.filter(|(path, _)| filter.verdict(path) == Verdict::Show);
        let tests: BTreeSet<String> = contexts
            .rows
            .iter()
            .filter(|row| row.kind == ContextKind::Test)
            .map(|row| row.name.clone())
            .collect();
        let mut number = 0_u32;
        // Lines of each row that its bitmap does not have yet: one after the other they would cost more.
        let mut found: Vec<Vec<u32>> = vec![Vec::new(); contexts.rows.len()];
        // Neighbours were run by the same streams, and share the set.
        let mut last: (Option<&StreamSet>, Vec<u32>, bool) = (None, Vec::new(), false);
        for (_, source) in shown {
            let own = lines_of_tests(source, &tests);
            for (line, hits) in &source.lines {
                if own.contains(*line) {
                    continue;
                }
                if last.0 != Some(&hits.streams) {
                    let (rows, outside) = contexts.rows_of(&hits.streams);
                    last = (Some(&hits.streams), rows, outside);
                }
                let (_, rows, outside) = &last;
                for row in rows {
                    found[*row as usize].push(number);
                }
                if *outside {
                    contexts.outside.insert(number);
                }
                match rows[..] {
                    [row] if !outside => contexts.rows[row as usize].unique += 1,
                    _ => {}
                }
                number += 1;
                if number.is_multiple_of(BLOCK) {
                    contexts.take(&mut found);
                }
            }
        }
        contexts.take(&mut found);
        for row in &mut contexts.rows {
            row.lines.optimize();
        }
        Ok(contexts)
    }

    /// Adds these lines to the rows, each with larger numbers than the row has.
    fn take(&mut self, found: &mut [Vec<u32>]) {
        for (row, lines) in self.rows.iter_mut().zip(found) {
            let added = row.lines.append(lines.drain(..));
            debug_assert!(added.is_ok(), "lines of a row are in order");
        }
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
                lines: RoaringBitmap::new(),
                streams: StreamSet::new(),
            });
            row.runs += 1;
            row.unfinished += usize::from(context.ended == Ended::No);
            if let (Some(began), Ended::At(ended)) = (context.began, context.ended) {
                row.time += ended.duration_since(began).unwrap_or_default();
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

    /// The rows of some streams, sorted, and whether some have none.
    fn rows_of(&self, streams: &StreamSet) -> (Vec<u32>, bool) {
        let mut outside = false;
        let mut rows: Vec<u32> = Vec::new();
        for stream in streams.iter() {
            match self.row_of.get(stream) {
                Some(Some(row)) => rows.push(*row),
                // Streams beyond the last stand for what has none.
                Some(None) => outside = true,
                None => {}
            }
        }
        rows.sort_unstable();
        rows.dedup();
        (rows, outside)
    }

    /// A row for each name, sorted by kind and name.
    #[must_use]
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// Lines that ran outside of all contexts.
    #[must_use]
    pub fn lines_outside(&self) -> u64 {
        self.outside.len()
    }

    /// The threads that ran outside of all contexts, each with how many of its PCs there are.
    #[must_use]
    pub fn threads_outside(&self) -> Vec<(String, u64)> {
        let streams = self.coverage.streams.iter().zip(&self.row_of);
        let outside = streams.filter(|(stream, row)| row.is_none() && stream.pcs > 0);
        outside
            .map(|(stream, _)| (stream.thread(), stream.pcs))
            .collect()
    }

    /// What the contexts with these names ran; with `only`, what nobody else ran.
    ///
    /// # Errors
    /// There is none with one of the names.
    pub fn selection(coverage: &Coverage, names: &[Name], only: bool) -> Result<Selection, Error> {
        let mut contexts = Contexts {
            coverage,
            rows: Vec::new(),
            row_of: Vec::new(),
            outside: RoaringBitmap::new(),
        };
        contexts.name();
        if contexts.rows.is_empty() {
            return Err(Error::NoContexts);
        }
        let mut streams = StreamSet::new();
        for name in names {
            let mut found = contexts
                .rows
                .iter()
                .filter(|row| name.0.is_match(&row.name))
                .peekable();
            if found.peek().is_none() {
                return Err(Error::NoSuchContext(name.0.as_str().to_owned()));
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
        let (rows, _) = self.rows_of(&ran);
        let (mut maybe, _) = self.rows_of(&may);
        maybe.retain(|row| rows.binary_search(row).is_err());
        let names = |rows: &[u32]| {
            let mut names: Vec<&str> = rows
                .iter()
                .map(|row| &*self.rows[*row as usize].name)
                .collect();
            names.sort_unstable();
            names
        };
        let outside = ran
            .iter()
            .filter(|stream| self.row_of.get(*stream) == Some(&None));
        let mut outside: Vec<String> = outside
            .filter_map(|stream| Some(self.coverage.streams.get(stream)?.thread()))
            .collect();
        outside.sort_unstable();
        outside.dedup();
        Ran {
            contexts: names(&rows),
            maybe: names(&maybe),
            outside,
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
        let mut missing = RoaringBitmap::new();
        for row in &self.rows {
            missing |= &row.lines;
        }
        let entry = |at: usize, adds: u64| (adds, Reverse(self.rows[at].time), Reverse(at));
        let all = self.rows.iter().enumerate();
        let mut heap: BinaryHeap<_> = all.map(|(at, row)| entry(at, row.lines.len())).collect();
        let mut chosen = Vec::new();
        // What a context adds only becomes less, so one whose number still holds is the best.
        while let Some((adds, time, Reverse(at))) = heap.pop() {
            let now = self.rows[at].lines.intersection_len(&missing);
            if now == 0 {
                continue;
            }
            if now < adds {
                heap.push((now, time, Reverse(at)));
                continue;
            }
            missing -= &self.rows[at].lines;
            chosen.push((&self.rows[at], now));
        }
        chosen
    }

    /// Contexts that ran the same lines, two or more each time, the largest groups first.
    #[must_use]
    pub fn similar(&self) -> Vec<Vec<&Row>> {
        let mut groups: BTreeMap<Vec<u8>, Vec<&Row>> = BTreeMap::new();
        for row in self.rows.iter().filter(|row| !row.lines.is_empty()) {
            let mut key = Vec::with_capacity(row.lines.serialized_size());
            if row.lines.serialize_into(&mut key).is_ok() {
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
