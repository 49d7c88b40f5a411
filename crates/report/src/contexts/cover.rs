// SPDX-License-Identifier: MIT OR Apache-2.0
//! Few rows that have together what all rows have.

use std::cmp::Reverse;
use std::mem;
use std::time::Duration;

use roaring::RoaringBitmap;

use crate::coverage::ones;

/// So many wide columns that go at once are added up before they are taken from the rows.
const TOGETHER: usize = 8;

/// Lines that the same rows ran.
#[derive(Debug)]
pub(super) struct Column {
    /// How many lines.
    pub(super) lines: u64,
    rows: Rows,
}

/// Rows, in what takes less memory.
#[derive(Debug)]
enum Rows {
    Few(Box<[u32]>),
    /// A bit each.
    Many(Box<[u64]>),
}

impl Column {
    /// Of a bit for each row that there is.
    pub(super) fn new(lines: u64, rows: &[u64]) -> Self {
        let many: u32 = rows.iter().map(|word| word.count_ones()).sum();
        let rows = if many as usize / 2 >= rows.len() {
            Rows::Many(rows.into())
        } else {
            Rows::Few(ones(rows).map(|row| row as u32).collect())
        };
        Self { lines, rows }
    }
}

/// Columns that are being added. Rows get many of them at a time: to find each row again for each column would
/// take most of the time.
#[derive(Debug)]
pub(super) struct Block {
    /// For each 64 columns, and each 64 rows, the words of the columns.
    words: Vec<Vec<[u64; 64]>>,
    len: usize,
}

impl Block {
    /// How many columns it can have.
    pub(super) const MOST: usize = 512;

    /// For so many words of rows.
    pub(super) fn new(words: usize) -> Self {
        Self {
            words: vec![vec![[0; 64]; words]; Self::MOST / 64],
            len: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Adds a column, of a bit for each row.
    pub(super) fn push(&mut self, rows: &[u64]) {
        for (words, word) in self.words[self.len / 64].iter_mut().zip(rows) {
            words[self.len % 64] = *word;
        }
        self.len += 1;
    }

    /// Calls `take` with each row, and a bit for each of the columns. No column is left.
    pub(super) fn take(&mut self, mut take: impl FnMut(usize, &[u64])) {
        let words = self.words.first().map_or(0, Vec::len);
        for at in 0..words {
            let of = self.words.iter_mut().map(|words| &mut words[at]);
            of.for_each(transpose);
            for row in 0..64 {
                let mut columns = [0; Self::MOST / 64];
                for (columns, words) in columns.iter_mut().zip(&mut self.words) {
                    *columns = mem::take(&mut words[at][row]);
                }
                take(at * 64 + row, &columns);
            }
        }
        self.len = 0;
    }
}

/// Swaps bit `a` of word `b` with bit `b` of word `a`, for all of them: swaps quarters, then quarters of all
/// quarters, and so on.
fn transpose(words: &mut [u64; 64]) {
    let mut width = 32;
    let mut low = u64::from(u32::MAX);
    while width > 0 {
        for at in (0..64).filter(|at| at & width == 0) {
            let swapped = (words[at] >> width ^ words[at + width]) & low;
            words[at] ^= swapped << width;
            words[at + width] ^= swapped;
        }
        width /= 2;
        low ^= low << width;
    }
}

/// A row: the columns that it has, how many lines these are, and how long it takes.
pub(super) type Sized<'a> = (&'a RoaringBitmap, u64, Duration);

/// Takes each time the row that adds most, of several the quickest, and of these the first. The numbers of
/// the rows, and how many lines each adds.
///
/// What a row would add is known at each time: a column that is there now is taken from all of its rows.
/// This is done once for each column, where to look at all rows again would be to do it for each row that
/// is taken.
pub(super) fn cover(rows: &[Sized<'_>], columns: &[Column]) -> Vec<(usize, u64)> {
    let mut adds: Vec<u64> = rows.iter().map(|(_, lines, _)| *lines).collect();
    let mut left: Vec<usize> = (0..rows.len()).collect();
    left.sort_by_key(|row| rows[*row].2);
    let mut missing: RoaringBitmap = (0..columns.len() as u32).collect();
    let mut sum = Sum::new(rows.len().div_ceil(64));
    let mut chosen = Vec::new();
    loop {
        left.retain(|row| adds[*row] > 0);
        let ranks = left.iter().enumerate();
        let best = ranks.max_by_key(|(rank, row)| (adds[**row], Reverse(*rank)));
        let Some((_, best)) = best else {
            return chosen;
        };
        chosen.push((*best, adds[*best]));
        let new = rows[*best].0 & &missing;
        missing -= &new;
        let mut wide = Vec::new();
        for column in new.iter().filter_map(|column| columns.get(column as usize)) {
            match &column.rows {
                Rows::Few(rows) => {
                    for row in rows {
                        adds[*row as usize] -= column.lines;
                    }
                }
                Rows::Many(rows) => wide.push((column.lines, rows)),
            }
        }
        if wide.len() < TOGETHER {
            for (lines, rows) in wide {
                for row in ones(rows) {
                    adds[row] -= lines;
                }
            }
        } else {
            for (lines, rows) in wide {
                sum.add(lines, rows);
            }
            sum.take_from(&mut adds);
        }
    }
}

/// A number for each row, each of whose binary digits has its own words: so sets of rows are added 64 rows
/// at a time.
#[derive(Debug)]
struct Sum {
    digits: Vec<Digit>,
    carry: Box<[u64]>,
}

#[derive(Debug)]
struct Digit {
    ones: Box<[u64]>,
    /// What comes to it first waits for what comes second: three words are added as fast as two.
    waiting: Box<[u64]>,
    waits: bool,
}

impl Sum {
    /// For so many words of rows.
    fn new(words: usize) -> Self {
        Self {
            digits: Vec::new(),
            carry: zeros(words),
        }
    }

    /// Adds `number` to each of these rows.
    fn add(&mut self, number: u64, rows: &[u64]) {
        for digit in ones(&[number]) {
            self.carry.copy_from_slice(rows);
            self.add_at(digit);
        }
    }

    /// Adds the carry.
    fn add_at(&mut self, mut at: usize) {
        loop {
            while at >= self.digits.len() {
                self.digits.push(Digit {
                    ones: zeros(self.carry.len()),
                    waiting: zeros(self.carry.len()),
                    waits: false,
                });
            }
            let digit = &mut self.digits[at];
            if !digit.waits {
                mem::swap(&mut digit.waiting, &mut self.carry);
                digit.waits = true;
                return;
            }
            let words = digit.ones.iter_mut().zip(&digit.waiting);
            for ((one, waiting), carry) in words.zip(&mut self.carry) {
                let two = *one ^ waiting;
                let next = (*one & waiting) | (two & *carry);
                *one = two ^ *carry;
                *carry = next;
            }
            digit.waits = false;
            at += 1;
        }
    }

    /// Takes the numbers from these, and is nothing then.
    fn take_from(&mut self, numbers: &mut [u64]) {
        for (at, digit) in self.digits.iter_mut().enumerate() {
            for row in ones(&digit.ones) {
                numbers[row] -= 1 << at;
            }
            digit.ones.fill(0);
            if mem::take(&mut digit.waits) {
                for row in ones(&digit.waiting) {
                    numbers[row] -= 1 << at;
                }
            }
        }
    }
}

fn zeros(words: usize) -> Box<[u64]> {
    vec![0; words].into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    /// Looks at all rows each time.
    fn simple(rows: &[BTreeSet<u32>], times: &[u64], lines: &[u64]) -> Vec<(usize, u64)> {
        let mut missing: BTreeSet<u32> = rows.iter().flatten().copied().collect();
        let mut chosen = Vec::new();
        while !missing.is_empty() {
            let adds = |row: &BTreeSet<u32>| -> u64 {
                let new = row.intersection(&missing);
                new.map(|column| lines[*column as usize]).sum()
            };
            let (adds, _, Reverse(at)) = (0..rows.len())
                .map(|at| (adds(&rows[at]), Reverse(times[at]), Reverse(at)))
                .max()
                .unwrap();
            chosen.push((at, adds));
            missing.retain(|column| !rows[at].contains(column));
        }
        chosen
    }

    fn of(rows: &[BTreeSet<u32>], times: &[u64], lines: &[u64]) -> Vec<(usize, u64)> {
        let columns = (0..).zip(lines).map(|(column, lines)| {
            let mut bits = vec![0_u64; rows.len().div_ceil(64)];
            for (at, _) in rows
                .iter()
                .enumerate()
                .filter(|(_, row)| row.contains(&column))
            {
                bits[at / 64] |= 1 << (at % 64);
            }
            Column::new(*lines, &bits)
        });
        let columns: Vec<Column> = columns.collect();
        let bitmaps: Vec<RoaringBitmap> = rows.iter().map(|row| row.iter().collect()).collect();
        let sized: Vec<Sized<'_>> = rows
            .iter()
            .zip(&bitmaps)
            .zip(times)
            .map(|((row, bitmap), time)| {
                let sum = row.iter().map(|column| lines[*column as usize]).sum();
                (bitmap, sum, Duration::from_secs(*time))
            })
            .collect();
        cover(&sized, &columns)
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn is_what_a_look_at_all_rows_finds(
            // Full rows have columns with many rows, which are added up.
            full in proptest::collection::vec(proptest::collection::btree_set(0..40_u32, 0..40), 0..150),
            sparse in proptest::collection::vec(proptest::collection::btree_set(0..60_u32, 0..4), 0..30),
            times in proptest::collection::vec(0..3_u64, 180),
            lines in proptest::collection::vec(1..9_u64, 60),
        ) {
            let rows = [full, sparse].concat();
            let times = &times[..rows.len()];
            prop_assert_eq!(of(&rows, times, &lines), simple(&rows, times, &lines));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn rows_get_the_columns_of_a_block(
            bits in proptest::collection::btree_set((0..130_usize, 0..Block::MOST), 0..300),
            len in 0..=Block::MOST,
        ) {
            let mut block = Block::new(3);
            let bits: BTreeSet<(usize, usize)> =
                bits.into_iter().filter(|(_, column)| *column < len).collect();
            // What was in it before is not left.
            for round in 0..2 {
                let len = if round == 0 { Block::MOST } else { len };
                for column in 0..len {
                    let mut rows = [0_u64; 3];
                    for row in 0..130 {
                        if round == 0 || bits.contains(&(row, column)) {
                            rows[row / 64] |= 1 << (row % 64);
                        }
                    }
                    block.push(&rows);
                }
                prop_assert_eq!(block.len(), len);
                let mut got = BTreeSet::new();
                block.take(|row, columns| {
                    got.extend(ones(columns).map(|column| (row, column)));
                });
                match round {
                    0 => prop_assert_eq!(got.len(), 130 * Block::MOST),
                    _ => prop_assert_eq!(&got, &bits),
                }
                prop_assert_eq!(block.len(), 0);
            }
        }
    }

    #[test]
    fn numbers_carry_over_all_digits() {
        let mut sum = Sum::new(2);
        for _ in 0..1000 {
            sum.add(5, &[1 << 63, 1]);
            sum.add(1 << 40, &[0, 3]);
        }
        let mut numbers = vec![1 << 60; 66];
        sum.take_from(&mut numbers);
        let took = |row: usize| (1 << 60) - numbers[row];
        assert_eq!((took(0), took(63)), (0, 5000));
        assert_eq!((took(64), took(65)), (5000 + (1000 << 40), 1000 << 40));
        let before = numbers.clone();
        sum.take_from(&mut numbers);
        assert_eq!(numbers, before, "it is empty after it was taken");
    }
}
