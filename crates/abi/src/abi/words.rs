// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Sizes in words of eight bytes.

/// Bytes in a word of the buffer. A word is 64 bits wide whatever the client's `unsigned long` is.
pub const WORD_BYTES: usize = 8;

/// A size in words of eight bytes, between 0 and [`Words::MAX`].
///
/// The upper bound is `INT_MAX / 8`, the largest buffer that `KCOV_INIT_TRACE` accepts, so a size
/// in bytes fits a `u32` and sums of two sizes fit everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Words(u32);

impl Words {
    /// The most words that a buffer or an area can have: `INT_MAX / 8`.
    pub const MAX: Self = Self(i32::MAX as u32 / WORD_BYTES as u32);
    /// The fewest words that `KCOV_INIT_TRACE` accepts: the count word and one PC.
    pub const MIN: Self = Self(2);

    /// A size of `n` words, or `None` beyond [`Words::MAX`].
    #[must_use]
    pub const fn new(n: u64) -> Option<Self> {
        if n <= Self::MAX.0 as u64 {
            Some(Self(n as u32))
        } else {
            None
        }
    }

    /// The number of words.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }

    /// The size in bytes.
    #[must_use]
    pub const fn bytes(self) -> usize {
        // At most INT_MAX, by the bound of the type.
        self.0 as usize * WORD_BYTES
    }

    /// The difference, 0 if `other` is larger.
    #[must_use]
    pub const fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    /// How many records of `record_words` words fit behind a count word in this many words.
    #[must_use]
    pub const fn records(self, record_words: u32) -> u32 {
        match self.0.saturating_sub(1).checked_div(record_words) {
            Some(n) => n,
            None => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_those_of_the_ioctl() {
        assert_eq!(Words::MAX.get(), 268_435_455);
        assert!(Words::MAX.bytes() <= i32::MAX as usize);
        assert_eq!(Words::new(u64::MAX), None);
        assert_eq!(Words::new(268_435_456), None);
        assert_eq!(Words::new(268_435_455), Some(Words::MAX));
    }

    #[test]
    fn only_whole_records_fit() {
        let fit = |n, record| Words::new(n).unwrap().records(record);
        assert_eq!([0, 1, 2, 3].map(|n| fit(n, 1)), [0, 0, 1, 2]);
        assert_eq!([4, 5, 8, 9].map(|n| fit(n, 4)), [0, 1, 1, 2]);
        assert_eq!(fit(9, 0), 0);
    }
}
