// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sets of streams.

use std::sync::Arc;

/// The number of a stream among those of a [`Coverage`](super::Coverage).
pub type StreamIndex = usize;

/// Streams, by their numbers.
///
/// Most places of a program were run by the same streams as their neighbours: a copy, and the union
/// with a part or a whole, share the memory.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct StreamSet(Words);

/// One bit a stream; no zero word at the end, so that equal sets are equal.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Words {
    /// The streams below 64, without an allocation: a program has millions of places, and often few streams.
    Few(u64),
    /// At least two words.
    Many(Arc<Vec<u64>>),
}

impl Default for StreamSet {
    fn default() -> Self {
        Self(Words::Few(0))
    }
}

impl StreamSet {
    /// No stream.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn words(&self) -> &[u64] {
        match &self.0 {
            Words::Few(0) => &[],
            Words::Few(word) => std::slice::from_ref(word),
            Words::Many(words) => words,
        }
    }

    /// Its words, to be changed, of which there are at least so many.
    fn words_mut(&mut self, length: usize) -> &mut [u64] {
        if let Words::Few(word) = self.0 {
            if length > 1 {
                self.0 = Words::Many(Arc::new(vec![word]));
            }
        }
        match &mut self.0 {
            Words::Few(word) => std::slice::from_mut(word),
            Words::Many(words) => {
                let words = Arc::make_mut(words);
                if length > words.len() {
                    words.resize(length, 0);
                }
                words
            }
        }
    }

    /// Adds a stream.
    pub fn insert(&mut self, stream: StreamIndex) {
        if self.contains(stream) {
            return;
        }
        let word = stream / 64;
        self.words_mut(word + 1)[word] |= 1 << (stream % 64);
    }

    /// Adds all of `other`. Whether anything was new.
    pub fn union(&mut self, other: &Self) -> bool {
        match (&mut self.0, &other.0) {
            (Words::Few(mine), Words::Few(others)) => {
                let news = *others & !*mine != 0;
                *mine |= *others;
                return news;
            }
            (Words::Many(mine), Words::Many(others)) if Arc::ptr_eq(mine, others) => return false,
            _ => {}
        }
        if other.is_within(self) {
            return false;
        }
        if self.is_within(other) {
            self.0 = other.0.clone();
            return true;
        }
        let others = other.words();
        let words = self.words_mut(others.len());
        for (mine, others) in words.iter_mut().zip(others) {
            *mine |= others;
        }
        true
    }

    /// Whether a stream is in it.
    #[must_use]
    pub fn contains(&self, stream: StreamIndex) -> bool {
        self.words()
            .get(stream / 64)
            .is_some_and(|word| word >> (stream % 64) & 1 != 0)
    }

    /// Whether the two have a stream in common.
    #[must_use]
    pub fn meets(&self, other: &Self) -> bool {
        let mut pairs = self.words().iter().zip(other.words());
        pairs.any(|(a, b)| a & b != 0)
    }

    /// Whether all streams of this set are in `other`.
    #[must_use]
    pub fn is_within(&self, other: &Self) -> bool {
        let (mine, others) = (self.words(), other.words());
        mine.len() <= others.len() && mine.iter().zip(others).all(|(a, b)| a & !b == 0)
    }

    /// Whether it has no stream.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.words().is_empty()
    }

    /// How many streams it has.
    #[must_use]
    pub fn len(&self) -> usize {
        let ones = self.words().iter().map(|word| word.count_ones() as usize);
        ones.sum()
    }

    /// Those that are in both.
    #[must_use]
    pub fn both(&self, other: &Self) -> Self {
        if self.is_within(other) {
            return self.clone();
        }
        if other.is_within(self) {
            return other.clone();
        }
        let pairs = self.words().iter().zip(other.words());
        Self::of_words(pairs.map(|(a, b)| a & b).collect())
    }

    /// Those that are not in `other`.
    #[must_use]
    pub fn without(&self, other: &Self) -> Self {
        if self.is_within(other) {
            return Self::new();
        }
        if !self.meets(other) {
            return self.clone();
        }
        let others = other.words().iter().copied().chain(std::iter::repeat(0));
        let pairs = self.words().iter().zip(others);
        Self::of_words(pairs.map(|(a, b)| a & !b).collect())
    }

    fn of_words(mut words: Vec<u64>) -> Self {
        while words.last() == Some(&0) {
            words.pop();
        }
        Self(match words[..] {
            [] => Words::Few(0),
            [word] => Words::Few(word),
            _ => Words::Many(Arc::new(words)),
        })
    }

    /// The streams, in order.
    pub fn iter(&self) -> impl Iterator<Item = StreamIndex> + '_ {
        ones(self.words())
    }
}

/// The numbers of the bits that are set, in order.
pub(crate) fn ones(words: &[u64]) -> impl Iterator<Item = usize> + Clone + '_ {
    words.iter().enumerate().flat_map(|(at, word)| {
        let mut left = *word;
        std::iter::from_fn(move || {
            let bit = (left != 0).then(|| left.trailing_zeros() as usize)?;
            left &= left - 1;
            Some(at * 64 + bit)
        })
    })
}

impl FromIterator<StreamIndex> for StreamSet {
    fn from_iter<I: IntoIterator<Item = StreamIndex>>(streams: I) -> Self {
        let mut set = Self::new();
        streams.into_iter().for_each(|stream| set.insert(stream));
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn is_a_set(
            a in proptest::collection::btree_set(0..200_usize, 0..9),
            b in proptest::collection::btree_set(0..200_usize, 0..9),
        ) {
            let (set_a, set_b): (StreamSet, StreamSet) =
                (a.iter().copied().collect(), b.iter().copied().collect());
            prop_assert_eq!(set_a.iter().collect::<BTreeSet<_>>(), a.clone());
            prop_assert_eq!(set_a.len(), a.len());
            prop_assert_eq!(set_a.is_empty(), a.is_empty());
            prop_assert_eq!(set_a.meets(&set_b), !a.is_disjoint(&b));
            prop_assert_eq!(set_a.is_within(&set_b), a.is_subset(&b));
            prop_assert!((0..300).all(|n| set_a.contains(n) == a.contains(&n)));
            let mut both = set_a.clone();
            prop_assert_eq!(both.union(&set_b), !b.is_subset(&a));
            let intersection: StreamSet = a.intersection(&b).copied().collect();
            prop_assert_eq!(set_a.both(&set_b), intersection);
            let rest: StreamSet = a.difference(&b).copied().collect();
            prop_assert_eq!(set_a.without(&set_b), rest);
            let union: StreamSet = a.union(&b).copied().collect();
            prop_assert_eq!(both, union);
        }
    }
}
