// SPDX-License-Identifier: MIT OR Apache-2.0
//! Who called whom, from the order of records.
//!
//! A trace has the callbacks that a thread came to, in order, and no returns. The machine code says which
//! functions may be called, and whether a function may return, between two callbacks: see
//! `image::Ahead`. So most calls are certain. What is not follows these rules: of the functions
//! that may have made a call, the innermost did; a function that calls what is not known, such as through a
//! pointer, did only if no other can have.

mod fold;
mod follow;
mod scene;

use std::path::PathBuf;

use crate::coverage::StreamIndex;
use fold::{Calls, Piece};

/// What threads called.
#[derive(Debug, Default)]
pub struct Story {
    /// The threads, in the order of the traces.
    pub threads: Vec<Thread>,
    functions: Vec<Function>,
    calls: Calls,
}

/// What one thread called.
#[derive(Debug)]
pub struct Thread {
    /// Which stream it is.
    pub stream: StreamIndex,
    /// Records that belong to no known code.
    pub unknown: u64,
    pieces: Vec<Piece>,
}

/// A function.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Function {
    /// Its name.
    pub name: String,
    /// Its source, and the first line of it that is known; of an inlined one, that of its first callback.
    pub place: Option<(PathBuf, u32)>,
}

/// How a call began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Begin {
    /// The function was entered.
    Called,
    /// It was inlined.
    Inlined,
    /// The thread was in it already.
    Underway,
}

/// A row of a story.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row<'a> {
    /// How many calls it is in.
    pub depth: usize,
    /// What it says.
    pub what: What<'a>,
}

/// What a row says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What<'a> {
    /// A call.
    Call {
        /// Of which function.
        function: &'a Function,
        /// How it began.
        begin: Begin,
        /// How often in a row.
        times: u64,
    },
    /// The rows below it, which are deeper, came in this order so often.
    Repeat {
        /// How often.
        times: u64,
    },
    /// Calls that are deeper than asked for.
    Deeper {
        /// How many.
        calls: u64,
    },
}

impl Story {
    /// The rows of a thread, of calls that are in fewer than `depth` others.
    pub fn rows<'a>(&'a self, thread: &'a Thread, depth: usize) -> impl Iterator<Item = Row<'a>> {
        let mut rows = Rows {
            story: self,
            depth,
            open: Vec::new(),
        };
        rows.push_pieces(&thread.pieces, 0);
        rows
    }

    /// How many calls a thread made.
    #[must_use]
    pub fn calls(&self, thread: &Thread) -> u64 {
        self.calls.size(&thread.pieces)
    }
}

/// What is still to be shown, the next at the end.
struct Rows<'a> {
    story: &'a Story,
    depth: usize,
    open: Vec<(usize, Open<'a>)>,
}

enum Open<'a> {
    Piece(&'a Piece),
    Call(fold::CallId, u64),
    Deeper(u64),
}

impl<'a> Rows<'a> {
    fn push_pieces(&mut self, pieces: &'a [Piece], depth: usize) {
        if depth >= self.depth {
            let calls = self.story.calls.size(pieces);
            self.open
                .extend((calls > 0).then_some((depth, Open::Deeper(calls))));
            return;
        }
        let pieces = pieces.iter().rev();
        self.open
            .extend(pieces.map(|piece| (depth, Open::Piece(piece))));
    }

    fn push_calls(&mut self, piece: &Piece, depth: usize) {
        let calls = piece.calls.iter().rev();
        self.open
            .extend(calls.map(|(call, times)| (depth, Open::Call(*call, *times))));
    }
}

impl<'a> Iterator for Rows<'a> {
    type Item = Row<'a>;

    fn next(&mut self) -> Option<Row<'a>> {
        loop {
            let (depth, open) = self.open.pop()?;
            let what = match open {
                Open::Deeper(calls) => What::Deeper { calls },
                Open::Piece(piece) if piece.times > 1 => {
                    self.push_calls(piece, depth + 1);
                    What::Repeat { times: piece.times }
                }
                Open::Piece(piece) => {
                    self.push_calls(piece, depth);
                    continue;
                }
                Open::Call(call, times) => {
                    let story = self.story;
                    let call = story.calls.get(call);
                    self.push_pieces(&call.children, depth + 1);
                    What::Call {
                        function: &story.functions[call.function as usize],
                        begin: call.begin,
                        times,
                    }
                }
            };
            return Some(Row { depth, what });
        }
    }
}
