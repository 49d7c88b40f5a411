// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a thread may do between two callbacks of a function: call others, and return.

use std::collections::BTreeMap;

use super::graph::Exit;
use super::Flow;

/// A place that calls back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Site {
    /// The function, by its number.
    pub(crate) routine: usize,
    /// Its block.
    pub(crate) block: usize,
}

/// How far a thread has come in a function.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Position {
    /// At the callback of this block.
    At(usize),
    /// In what one of these blocks calls at its end.
    Calling(Vec<usize>),
}

/// What may come before the next callback of the same function.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ahead {
    /// The functions that may be called, by entry, and the blocks that call them.
    pub(crate) calls: BTreeMap<u64, Vec<usize>>,
    /// The blocks that call what is not known, or what has no callbacks: it may call anything.
    pub(crate) away: Vec<usize>,
    /// Whether the function may return.
    pub(crate) returns: bool,
    /// The blocks whose callbacks may be the next.
    pub(crate) next: Vec<usize>,
}

impl Flow {
    /// The place whose callback returns to `pc`.
    pub(crate) fn site(&self, pc: u64) -> Option<Site> {
        let &(routine, block) = self.sites.get(&pc)?;
        Some(Site { routine, block })
    }

    /// Where a function is entered.
    pub(crate) fn entry(&self, routine: usize) -> u64 {
        self.routines[routine].entry
    }

    /// The blocks whose callbacks come first in a function.
    pub(crate) fn first(&self, routine: usize) -> Vec<usize> {
        self.routines[routine].graph.first()
    }

    /// The last byte of a block: if it ends with a call, a byte of the call.
    pub(crate) fn last_byte(&self, routine: usize, block: usize) -> u64 {
        self.routines[routine].graph.last_byte(block)
    }

    /// What a thread in `routine` may do before the next callback there.
    pub(crate) fn ahead(&self, routine: usize, position: &Position) -> Ahead {
        let graph = &self.routines[routine].graph;
        let mut ahead = Ahead::default();
        let mut open: Vec<usize> = match position {
            Position::At(block) => vec![*block],
            Position::Calling(blocks) => {
                // What a function ends with returns for it.
                ahead.returns = blocks.iter().any(|block| graph.behind(*block).is_empty());
                let behind = blocks.iter().flat_map(|block| graph.behind(*block));
                behind.copied().collect()
            }
        };
        // The block in which the callback is does not count as the next, unless a way leads back to it.
        let mut at = matches!(position, Position::At(_));
        let mut seen = vec![false; graph.len()];
        while let Some(block) = open.pop() {
            let begins = std::mem::take(&mut at);
            if graph.is_sited(block) && !begins {
                if !ahead.next.contains(&block) {
                    ahead.next.push(block);
                }
                continue;
            }
            if !begins && std::mem::replace(&mut seen[block], true) {
                continue;
            }
            match graph.exit(block) {
                Exit::Stays => {}
                Exit::Returns => ahead.returns = true,
                Exit::Call(entry) | Exit::Tail(entry) if self.has_callbacks(entry) => {
                    ahead.calls.entry(entry).or_default().push(block);
                }
                Exit::Call(_) | Exit::Tail(_) | Exit::Away => ahead.away.push(block),
            }
            open.extend(graph.behind(block));
        }
        ahead
    }

    fn has_callbacks(&self, entry: u64) -> bool {
        let number = self.calls.numbers.get(&entry);
        number.is_some_and(|number| *number < self.routines.len())
    }
}
