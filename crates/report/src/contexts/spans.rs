// SPDX-License-Identifier: MIT OR Apache-2.0
//! The lines of files as spans: lines that follow each other and of which the same is known.

use std::collections::BTreeSet;

use roaring::RoaringBitmap;

use super::{lines_of_tests, Contexts};
use crate::coverage::{ones, Coverage, FileView, SourceFile, StreamSet};
use crate::trace::ContextKind;

/// What is known of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum State {
    /// It ran.
    Covered,
    /// It did not run.
    Uncovered,
    /// What was recorded does not tell.
    Unknown,
}

/// Whose lines a span has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Who {
    /// All that the view is of.
    Everybody,
    /// What was in no context.
    Outside,
    /// The row of [`Contexts::rows`] with this number.
    Row(usize),
}

/// Lines that follow each other: each number from the first to the last is a line with code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) who: Who,
    pub(crate) first: u32,
    pub(crate) last: u32,
    pub(crate) state: State,
    /// They are of a test's own function.
    #[cfg_attr(not(feature = "parquet"), allow(dead_code, reason = "for tables"))]
    pub(crate) in_test: bool,
}

/// The names of the tests.
pub(crate) fn tests_of(coverage: &Coverage) -> BTreeSet<String> {
    let contexts = coverage.runs.iter().flat_map(|run| &run.contexts);
    contexts
        .filter(|context| context.kind == ContextKind::Test)
        .map(|context| String::from_utf8_lossy(&context.name).into_owned())
        .collect()
}

/// Gives `each` the spans of a file for everybody, in the order of lines.
#[cfg_attr(not(feature = "parquet"), allow(dead_code, reason = "for tables"))]
pub(crate) fn spans<E>(
    file: &FileView<'_>,
    source: &SourceFile,
    tests: &BTreeSet<String>,
    mut each: impl FnMut(Span) -> Result<(), E>,
) -> Result<(), E> {
    let own = lines_of_tests(source, tests);
    let mut open: Option<Span> = None;
    for line in source.lines.keys().copied() {
        let Some(state) = state_of(file, line) else {
            continue;
        };
        let in_test = own.contains(line);
        match &mut open {
            Some(span)
                if (span.state, span.in_test) == (state, in_test) && follows(span.last, line) =>
            {
                span.last = line;
            }
            _ => {
                let new = Span {
                    who: Who::Everybody,
                    first: line,
                    last: line,
                    state,
                    in_test,
                };
                if let Some(span) = open.replace(new) {
                    each(span)?;
                }
            }
        }
    }
    open.map_or(Ok(()), each)
}

fn follows(last: u32, line: u32) -> bool {
    last.checked_add(1) == Some(line)
}

/// What the view says of a line, if it has it.
fn state_of(file: &FileView<'_>, line: u32) -> Option<State> {
    match file.lines.get(&line) {
        Some(0) => Some(State::Uncovered),
        Some(_) => Some(State::Covered),
        None => {
            let unknown = file.unknown.binary_search(&line).is_ok();
            unknown.then_some(State::Unknown)
        }
    }
}

/// A set of rows and of what is outside, a bit each, and where the span of each bit that is set begins.
struct Open {
    state: State,
    bits: Vec<u64>,
    firsts: Vec<u32>,
}

impl Open {
    fn new(state: State, bits: usize) -> Self {
        Self {
            state,
            bits: vec![0; bits.div_ceil(64)],
            firsts: vec![0; bits],
        }
    }
}

/// The line to which all open spans reach.
#[derive(Clone, Copy)]
struct Reached {
    last: u32,
    in_test: bool,
}

impl Contexts<'_> {
    /// Gives `each` the spans of a file that contexts ran or may have run, and those that ran in none. Of
    /// each of them they come in the order of lines. What a context did not run is in no span.
    pub(crate) fn spans<E>(
        &self,
        file: &FileView<'_>,
        source: &SourceFile,
        tests: &BTreeSet<String>,
        mut each: impl FnMut(Span) -> Result<(), E>,
    ) -> Result<(), E> {
        let own: RoaringBitmap = lines_of_tests(source, tests);
        let bits = self.rows.len() + 1;
        let mut ran = Open::new(State::Covered, bits);
        let mut may = Open::new(State::Unknown, bits);
        let mut reached: Option<Reached> = None;
        // Neighbours were run by the same streams.
        let mut sets: Option<(&StreamSet, &StreamSet)> = None;
        let (mut now_ran, mut now_may) = (ran.bits.clone(), may.bits.clone());
        let nobody = ran.bits.clone();
        for (line, hits) in &source.lines {
            if state_of(file, *line).is_none() {
                continue;
            }
            if sets != Some((&hits.streams, &hits.maybe)) {
                sets = Some((&hits.streams, &hits.maybe));
                self.fill(&hits.streams, &mut now_ran);
                self.fill(&hits.maybe, &mut now_may);
                for (may, ran) in now_may.iter_mut().zip(&now_ran) {
                    *may &= !ran;
                }
            }
            let in_test = own.contains(*line);
            let goes_on = |at: Reached| at.in_test == in_test && follows(at.last, *line);
            if let Some(at) = reached.filter(|at| !goes_on(*at)) {
                self.turn(&mut ran, &nobody, at, *line, &mut each)?;
                self.turn(&mut may, &nobody, at, *line, &mut each)?;
            }
            let at = reached.unwrap_or(Reached {
                last: *line,
                in_test,
            });
            self.turn(&mut ran, &now_ran, at, *line, &mut each)?;
            self.turn(&mut may, &now_may, at, *line, &mut each)?;
            reached = Some(Reached {
                last: *line,
                in_test,
            });
        }
        if let Some(at) = reached {
            self.turn(&mut ran, &nobody, at, 0, &mut each)?;
            self.turn(&mut may, &nobody, at, 0, &mut each)?;
        }
        Ok(())
    }

    /// Sets the bits of some streams' rows, and the last bit if some are in no context.
    fn fill(&self, streams: &StreamSet, bits: &mut [u64]) {
        bits.fill(0);
        if self.mark(streams, bits).outside {
            bits[self.rows.len() / 64] |= 1 << (self.rows.len() % 64);
        }
    }

    /// Ends the spans of bits that `now` has not, and begins those of bits that are new.
    fn turn<E>(
        &self,
        open: &mut Open,
        now: &[u64],
        reached: Reached,
        line: u32,
        each: &mut impl FnMut(Span) -> Result<(), E>,
    ) -> Result<(), E> {
        if open.bits == now {
            return Ok(());
        }
        let ended: Vec<u64> = open.bits.iter().zip(now).map(|(a, b)| a & !b).collect();
        for bit in ones(&ended) {
            each(Span {
                who: if bit == self.rows.len() {
                    Who::Outside
                } else {
                    Who::Row(bit)
                },
                first: open.firsts[bit],
                last: reached.last,
                state: open.state,
                in_test: reached.in_test,
            })?;
        }
        let begun: Vec<u64> = now.iter().zip(&open.bits).map(|(a, b)| a & !b).collect();
        for bit in ones(&begun) {
            open.firsts[bit] = line;
        }
        open.bits.copy_from_slice(now);
        Ok(())
    }
}
