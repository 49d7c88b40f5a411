// SPDX-License-Identifier: MIT OR Apache-2.0
//! Calls, each different one kept once, with repetitions put together.

use std::collections::hash_map::Entry;

use rustc_hash::FxHashMap;

/// Which of [`Calls`].
pub(super) type CallId = u32;

/// A call with all that it called. Equal ones are one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Call {
    /// The function, by its number.
    pub(super) function: u32,
    /// How it began.
    pub(super) begin: super::Begin,
    /// What it called, in order.
    pub(super) children: Vec<Piece>,
}

/// Calls that came after each other, and how often in a row.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Piece {
    /// Each of them, and how often in a row.
    pub(super) calls: Vec<(CallId, u64)>,
    pub(super) times: u64,
}

/// All different calls.
#[derive(Debug, Default)]
pub(super) struct Calls {
    all: Vec<Call>,
    /// How many calls each is, with those in it.
    sizes: Vec<u64>,
    numbers: FxHashMap<Call, CallId>,
}

impl Calls {
    /// The number of a call, which may be known already.
    pub(super) fn number(&mut self, call: Call) -> CallId {
        let size = self.size(&call.children).saturating_add(1);
        match self.numbers.entry(call) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(free) => {
                let number = self.all.len() as CallId;
                self.all.push(free.key().clone());
                self.sizes.push(size);
                *free.insert(number)
            }
        }
    }

    pub(super) fn get(&self, call: CallId) -> &Call {
        &self.all[call as usize]
    }

    /// How many calls pieces are, with those in them.
    pub(super) fn size(&self, pieces: &[Piece]) -> u64 {
        let of = |piece: &Piece| {
            let calls = piece.calls.iter();
            let once = calls.fold(0_u64, |sum, (call, times)| {
                let size = self.sizes[*call as usize];
                sum.saturating_add(size.saturating_mul(*times))
            });
            once.saturating_mul(piece.times)
        };
        let sum = |sum: u64, piece: &Piece| sum.saturating_add(of(piece));
        pieces.iter().fold(0, sum)
    }
}

/// Calls in a row that are looked for as a repetition, at most.
const LONGEST: usize = 8;

/// Adds a call to others, and puts together what repeats.
pub(super) fn add(pieces: &mut Vec<Piece>, call: CallId) {
    if let Some(Piece { calls, times: 1 }) = pieces.last_mut() {
        if let [(last, times)] = &mut calls[..] {
            if *last == call {
                *times += 1;
                return fold(pieces);
            }
        }
    }
    pieces.push(Piece {
        calls: vec![(call, 1)],
        times: 1,
    });
    fold(pieces);
}

/// Puts the last pieces together with those before them, if they are the same.
fn fold(pieces: &mut Vec<Piece>) {
    for length in 2..=LONGEST {
        let Some(start) = pieces.len().checked_sub(length) else {
            return;
        };
        let (before, last) = pieces.split_at_mut(start);
        if !last.iter().all(is_single) {
            return;
        }
        let repeats = |calls: &[(CallId, u64)]| {
            calls.len() == length && calls.iter().eq(last.iter().map(|piece| &piece.calls[0]))
        };
        if let Some(piece) = before.last_mut().filter(|piece| repeats(&piece.calls)) {
            piece.times += 1;
            pieces.truncate(start);
            return;
        }
        let Some(first) = start.checked_sub(length) else {
            continue;
        };
        let earlier = &before[first..];
        if earlier.iter().eq(last.iter()) {
            let calls = earlier.iter().map(|piece| piece.calls[0]).collect();
            pieces.truncate(first);
            pieces.push(Piece { calls, times: 2 });
            return;
        }
    }
}

fn is_single(piece: &Piece) -> bool {
    piece.times == 1 && piece.calls.len() == 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn folded(calls: &[CallId]) -> Vec<Piece> {
        let mut pieces = Vec::new();
        calls.iter().for_each(|call| add(&mut pieces, *call));
        pieces
    }

    fn unfolded(pieces: &[Piece]) -> Vec<CallId> {
        let once = |piece: &Piece| -> Vec<CallId> {
            let each = piece.calls.iter();
            each.flat_map(|(call, times)| vec![*call; *times as usize])
                .collect()
        };
        let all = pieces.iter();
        all.flat_map(|piece| once(piece).repeat(piece.times as usize))
            .collect()
    }

    fn piece(calls: &[(CallId, u64)], times: u64) -> Piece {
        Piece {
            calls: calls.to_vec(),
            times,
        }
    }

    #[test]
    fn what_repeats_is_put_together() {
        assert_eq!(folded(&[1, 1, 1]), [piece(&[(1, 3)], 1)]);
        assert_eq!(
            folded(&[1, 2, 1, 2, 1, 2, 3]),
            [piece(&[(1, 1), (2, 1)], 3), piece(&[(3, 1)], 1)]
        );
        assert_eq!(folded(&[1, 1, 2, 1, 1, 2]), [piece(&[(1, 2), (2, 1)], 2)]);
        let long: Vec<CallId> = (0..8).chain(0..8).collect();
        assert_eq!(folded(&long).len(), 1);
    }

    #[test]
    fn equal_calls_are_one() {
        let mut calls = Calls::default();
        let leaf = |function| Call {
            function,
            begin: crate::story::Begin::Called,
            children: Vec::new(),
        };
        let one = calls.number(leaf(7));
        assert_eq!(calls.number(leaf(7)), one);
        let outer = calls.number(Call {
            children: folded(&[one, one, one]),
            ..leaf(8)
        });
        assert_ne!(outer, one);
        assert_eq!(calls.size(&folded(&[outer, one])), 5);
    }

    proptest! {
        #[test]
        fn nothing_is_lost(calls in prop::collection::vec(0_u32..4, 0..80)) {
            prop_assert_eq!(unfolded(&folded(&calls)), calls);
        }
    }
}
