// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Merging an area into the client's buffer.
//!
//! A merge runs in steps of at most [`STEP`] records, each under the descriptor's lock, so that no
//! lock is held for longer than constant time however large the area is. Records of one section
//! keep their order; those of others may come to stand between them.

use crate::rules::sync::{Ordering, Word};

/// The most records that are copied under one taking of the lock.
pub(crate) const STEP: u32 = if cfg!(loom) { 1 } else { 256 };

/// Where records go: a count word and the room behind it.
#[derive(Clone, Copy)]
pub(crate) struct Target {
    /// The client's count word.
    pub(crate) base: *mut Word,
    /// Records that fit behind it.
    pub(crate) limit: u32,
}

/// Copies records `from..to` (at most [`STEP`] of them) of the area at `source` behind those that
/// the target's count word claims, then publishes them: the count is stored last and with release,
/// so a client that reads it with acquire finds them written. Only whole records are copied, and
/// none at all if the count word holds nonsense. Answers how many.
///
/// # Safety
/// `target.base` points to a count word and `target.limit * record_words` words, `source` to a
/// count word and at least `to * record_words`; nobody else merges into the target.
pub(crate) unsafe fn step(
    target: Target,
    source: *const Word,
    record_words: u32,
    from: u32,
    to: u32,
) -> u32 {
    // SAFETY: the caller's contract.
    let count = unsafe { &*target.base };
    let there = count.load(Ordering::Relaxed);
    let Some(room) = u64::from(target.limit).checked_sub(there) else {
        return 0;
    };
    let records = u64::from(to.saturating_sub(from).min(STEP)).min(room) as u32;
    if records == 0 {
        return 0;
    }
    let record_words = record_words as usize;
    let at = |base: *mut Word, record: usize| {
        base.wrapping_add(record.wrapping_mul(record_words))
            .wrapping_add(1)
    };
    let mut to_word = at(target.base, there as usize);
    let mut from_word = at(source.cast_mut(), from as usize);
    for _ in 0..(records as usize).wrapping_mul(record_words) {
        // SAFETY: there + records <= limit, and from + records <= to; each side has that many.
        unsafe { (*to_word).store((*from_word).load(Ordering::Relaxed), Ordering::Relaxed) };
        to_word = to_word.wrapping_add(1);
        from_word = from_word.wrapping_add(1);
    }
    count.store(there.wrapping_add(u64::from(records)), Ordering::Release);
    records
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    extern crate std;
    use std::vec::Vec;

    fn words(values: impl IntoIterator<Item = u64>) -> Vec<Word> {
        values.into_iter().map(Word::new).collect()
    }

    fn plain(v: &[Word]) -> Vec<u64> {
        v.iter().map(|w| w.load(Ordering::Relaxed)).collect()
    }

    #[test]
    fn only_whole_records_and_only_behind_an_honest_count() {
        for (size, record) in [
            (2_u64, 1_u32),
            (3, 1),
            (6, 1),
            (5, 4),
            (6, 4),
            (9, 4),
            (12, 4),
        ] {
            let limit = ((size - 1) / u64::from(record)) as u32;
            for count in (0..=size + 1).chain([u64::MAX, u64::MAX - 1, 1 << 61, 1 << 32]) {
                let source = words([3].into_iter().chain(100..100 + 3 * u64::from(record)));
                // A guard word behind the buffer.
                let buffer = words(
                    [count]
                        .into_iter()
                        .chain(std::iter::repeat_n(7, size as usize)),
                );
                let target = Target {
                    base: std::ptr::from_ref(&buffer[0]).cast_mut(),
                    limit,
                };
                // SAFETY: sizes as just built.
                let moved = unsafe { step(target, source.as_ptr(), record, 0, 3) };

                let fit = u64::from(limit).saturating_sub(count).min(3);
                assert_eq!(
                    u64::from(moved),
                    fit,
                    "size {size} record {record} count {count:#x}"
                );
                let mut expect = std::vec![7; size as usize + 1];
                expect[0] = if fit > 0 { count + fit } else { count };
                for i in 0..(fit * u64::from(record)) as usize {
                    expect[1 + count as usize * record as usize + i] = 100 + i as u64;
                }
                assert_eq!(plain(&buffer), expect);
            }
        }
    }

    #[test]
    fn a_step_is_bounded_and_the_next_goes_on() {
        let total = STEP * 2 + 3;
        let source = words((0..=u64::from(total)).map(|i| i * 10));
        let buffer = words(std::iter::repeat_n(0, total as usize + 1));
        let target = Target {
            base: std::ptr::from_ref(&buffer[0]).cast_mut(),
            limit: total,
        };
        let mut done = 0;
        let mut steps = Vec::new();
        while done < total {
            // SAFETY: sizes as just built.
            let moved = unsafe { step(target, source.as_ptr(), 1, done, total) };
            steps.push(moved);
            done += moved;
        }
        assert_eq!(steps, [STEP, STEP, 3]);
        assert_eq!(plain(&buffer)[1..], plain(&source)[1..]);
    }
}
