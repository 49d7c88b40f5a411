// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Appending a record: the hot path, free of any host.
//!
//! The count word belongs to the client as much as to us and may hold anything, so it is compared
//! with the number of records that fit before it is used: a record is never written over the count
//! word or outside the trace. It is advanced *before* the record is written. An interrupt or a
//! signal handler between the two appends behind us and cannot be overwritten; the other order
//! would lose its record. A reader on another processor may therefore see a count whose last record
//! is not there yet.
//!
//! An interrupt inside of the advance itself would still be overwritten. Where interrupts record
//! into the buffer that they interrupt, as signal handlers do, the feature `signals` makes the
//! advance one instruction.

use crate::abi::Comparison;
use crate::rules::sync::{add_one_below, interrupt_fence, set_bits, Ordering, Word};

/// What became of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Appended {
    /// It stands in the buffer.
    Yes,
    /// It was there already (unique mode).
    Seen,
    /// There was no room: count a drop.
    Full,
}

/// Takes the next record's number, or `None` if `limit` records are there or the count word holds
/// nonsense.
///
/// # Safety
/// `area` points to a word.
#[inline(always)]
unsafe fn advance(area: *const Word, limit: u32) -> Option<usize> {
    // SAFETY: the caller's contract.
    let n = add_one_below(unsafe { &*area }, u64::from(limit))?;
    interrupt_fence();
    Some(n as usize)
}

/// Appends one PC.
///
/// # Safety
/// `area` points to a count word and `limit` words behind it, all valid for the call.
#[inline(always)]
pub unsafe fn append_pc(area: *const Word, limit: u32, pc: u64) -> Appended {
    // SAFETY: the caller's contract.
    let Some(n) = (unsafe { advance(area, limit) }) else {
        return Appended::Full;
    };
    // SAFETY: n < limit, so word n + 1 is one of the `limit` words behind the count word.
    unsafe { (*area.wrapping_add(n).wrapping_add(1)).store(pc, Ordering::Relaxed) };
    Appended::Yes
}

/// Appends one comparison.
///
/// # Safety
/// `area` points to a count word and `4 * limit` words behind it, all valid for the call.
#[inline(always)]
pub unsafe fn append_cmp(area: *const Word, limit: u32, cmp: Comparison) -> Appended {
    // SAFETY: the caller's contract.
    let Some(n) = (unsafe { advance(area, limit) }) else {
        return Appended::Full;
    };
    let [kind, arg1, arg2, pc] = cmp.words();
    let at = area.wrapping_add(n.wrapping_mul(4)).wrapping_add(1);
    // Written out: a loop over the array goes through the stack, or through a call, which a
    // kernel's callback must not make.
    let put = |i: usize, word: u64| {
        // SAFETY: n < limit, so words 4n+1 to 4n+4 are among the `4 * limit` behind the count.
        unsafe { (*at.wrapping_add(i)).store(word, Ordering::Relaxed) };
    };
    put(0, kind);
    put(1, arg1);
    put(2, arg2);
    put(3, pc);
    Appended::Yes
}

/// Appends one PC unless bit `index` of the bitmap says that it is there. An index beyond the
/// bitmap's `bits` is appended without deduplication.
///
/// The bit is set first: with a full trace each PC counts as dropped once, not on every call.
///
/// # Safety
/// `area` points to a count word, `limit` words behind it, and `bits / 64` words before it, all
/// valid for the call. `bits` is a multiple of 64.
#[inline(always)]
pub unsafe fn append_unique(
    area: *const Word,
    limit: u32,
    bits: u64,
    index: u64,
    pc: u64,
) -> Appended {
    if index < bits {
        let bitmap = area.wrapping_sub((bits / 64) as usize);
        // SAFETY: index < bits, so this word is one of the `bits / 64` before the count word.
        let word = unsafe { &*bitmap.wrapping_add((index / 64) as usize) };
        let bit = 1_u64 << (index % 64);
        let old = word.load(Ordering::Relaxed);
        if old & bit != 0 {
            return Appended::Seen;
        }
        set_bits(word, bit);
        interrupt_fence();
    }
    // SAFETY: the caller's contract.
    unsafe { append_pc(area, limit, pc) }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::abi::{CmpType, Words};
    extern crate std;
    use std::vec::Vec;

    const GUARD: u64 = 0xdead_beef_dead_beef;

    /// Words with a guard word before and behind.
    fn guarded(words: usize) -> Vec<Word> {
        let mut v: Vec<Word> = (0..words + 2).map(|_| Word::new(0)).collect();
        v[0] = Word::new(GUARD);
        v[words + 1] = Word::new(GUARD);
        v
    }

    fn plain(v: &[Word]) -> Vec<u64> {
        v.iter().map(|w| w.load(Ordering::Relaxed)).collect()
    }

    fn hostile_counts(size: u64) -> impl Iterator<Item = u64> {
        (0..=size + 2).chain([
            u64::MAX,
            u64::MAX - 1,
            1 << 63,
            1 << 32,
            (1 << 32) - 1,
            1 << 61,
            (1 << 61) - 1,
            1 << 62,
        ])
    }

    #[test]
    fn pc_never_leaves_the_trace_nor_hits_the_count_word() {
        for size in [2_u64, 3, 5, 6, 64] {
            let limit = Words::new(size).unwrap().records(1);
            for count in hostile_counts(size) {
                let mem = guarded(size as usize);
                mem[1].store(count, Ordering::Relaxed);
                // SAFETY: `size` words from mem[1] on, of which limit + 1 are used.
                let did = unsafe { append_pc(&mem[1], limit, 0x77) };
                let mut expect = plain(&guarded(size as usize));
                expect[1] = count;
                if count < size - 1 {
                    expect[1] = count + 1;
                    expect[count as usize + 2] = 0x77;
                }
                assert_eq!(did == Appended::Full, count >= size - 1);
                assert_eq!(plain(&mem), expect, "size {size}, count {count:#x}");
            }
        }
    }

    #[test]
    fn comparisons_are_whole_or_not_there() {
        let cmp = Comparison {
            kind: CmpType::new(3, true),
            arg1: 1,
            arg2: 2,
            pc: 3,
        };
        for size in [2_u64, 3, 5, 6, 8, 9, 64] {
            let limit = Words::new(size).unwrap().records(4);
            for count in hostile_counts(size) {
                let mem = guarded(size as usize);
                mem[1].store(count, Ordering::Relaxed);
                // SAFETY: `size` words from mem[1] on, of which 4 * limit + 1 are used.
                let did = unsafe { append_cmp(&mem[1], limit, cmp) };
                let mut expect = plain(&guarded(size as usize));
                expect[1] = count;
                let fits = count < (size - 1) / 4;
                if fits {
                    expect[1] = count + 1;
                    let at = count as usize * 4 + 2;
                    expect[at..at + 4].copy_from_slice(&cmp.words());
                }
                assert_eq!(did == Appended::Full, !fits);
                assert_eq!(plain(&mem), expect, "size {size}, count {count:#x}");
            }
        }
    }

    #[test]
    fn unique_records_each_index_once_and_beyond_the_bitmap_every_time() {
        // Guard, two bitmap words, count, three records, guard.
        let mem = guarded(6);
        // SAFETY: two words before mem[3] and three behind it, within `mem`.
        let add = |index, pc| unsafe { append_unique(&mem[3], 3, 128, index, pc) };
        assert_eq!(add(0, 10), Appended::Yes);
        assert_eq!(add(0, 10), Appended::Seen);
        assert_eq!(add(127, 11), Appended::Yes);
        assert_eq!(add(128, 12), Appended::Yes);
        assert_eq!(add(128, 12), Appended::Full);
        assert_eq!(add(5, 13), Appended::Full);
        assert_eq!(add(5, 13), Appended::Seen);
        assert_eq!(add(u64::MAX, 14), Appended::Full);
        assert_eq!(
            plain(&mem),
            [GUARD, 1 | 1 << 5, 1 << 63, 3, 10, 11, 12, GUARD]
        );
    }

    #[test]
    fn bitmap_of_all_ones_records_nothing_and_harms_nothing() {
        let mem = guarded(4);
        mem[1].store(u64::MAX, Ordering::Relaxed);
        for index in 0..64 {
            // SAFETY: one word before mem[2] and two behind it.
            let did = unsafe { append_unique(&mem[2], 2, 64, index, 1) };
            assert_eq!(did, Appended::Seen);
        }
        assert_eq!(plain(&mem), [GUARD, u64::MAX, 0, 0, 0, GUARD]);
    }
}
