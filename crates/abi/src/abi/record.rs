// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Records: the words in the buffer after the count word.

/// Words of a PC record: the PC.
pub const PC_WORDS: u32 = 1;
/// Words of a comparison record: type, first argument, second argument, PC.
pub const CMP_WORDS: u32 = 4;

/// The first word of a comparison record: operand size and whether one operand was a compile-time
/// constant (then it is the first argument).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct CmpType(u64);

impl CmpType {
    /// Bit 0, `KCOV_CMP_CONST`.
    pub const CONST: u64 = 1;
    /// Bits 1 and 2, `KCOV_CMP_MASK`: log2 of the operand size in bytes.
    pub const SIZE_MASK: u64 = Self::size_bits(3);

    /// `KCOV_CMP_SIZE(n)`: the bits that say that operands have `1 << log2_bytes` bytes.
    #[must_use]
    pub const fn size_bits(log2_bytes: u64) -> u64 {
        log2_bytes << 1
    }

    /// The type word for operands of `1 << log2_bytes` bytes.
    ///
    /// `log2_bytes` is 0 to 3; higher bits are cut off.
    #[must_use]
    pub const fn new(log2_bytes: u32, constant: bool) -> Self {
        Self((Self::size_bits(log2_bytes as u64) & Self::SIZE_MASK) | constant as u64)
    }

    /// The type word for each case of a `switch` over values of `bits` bits, as the compiler says it
    /// in the second word of the table of cases: cases are constants. `None` for a size that no
    /// record has: such a switch is not recorded.
    #[must_use]
    pub const fn of_switch(bits: u64) -> Option<Self> {
        Some(match bits {
            8 => Self::new(0, true),
            16 => Self::new(1, true),
            32 => Self::new(2, true),
            64 => Self::new(3, true),
            _ => return None,
        })
    }

    /// A type word from a buffer.
    #[must_use]
    pub const fn from_raw(raw: u64) -> Self {
        Self(raw)
    }

    /// The word in the buffer.
    #[must_use]
    pub const fn raw(self) -> u64 {
        self.0
    }

    /// Operand size in bytes: 1, 2, 4 or 8.
    #[must_use]
    pub const fn operand_bytes(self) -> u32 {
        1 << ((self.0 & Self::SIZE_MASK) >> 1)
    }

    /// Whether the first operand was a compile-time constant.
    #[must_use]
    pub const fn is_const(self) -> bool {
        self.0 & Self::CONST != 0
    }
}

/// A comparison record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct Comparison {
    /// Size and constness of the operands.
    pub kind: CmpType,
    /// First operand, zero-extended to 64 bits.
    pub arg1: u64,
    /// Second operand, zero-extended to 64 bits.
    pub arg2: u64,
    /// The return address of the callback, made stable by the host.
    pub pc: u64,
}

impl Comparison {
    /// The record's words, in their order in the buffer.
    #[must_use]
    pub const fn words(self) -> [u64; CMP_WORDS as usize] {
        [self.kind.raw(), self.arg1, self.arg2, self.pc]
    }

    /// The comparison record with these words.
    #[must_use]
    pub const fn from_words(words: [u64; CMP_WORDS as usize]) -> Self {
        let [kind, arg1, arg2, pc] = words;
        Self {
            kind: CmpType::from_raw(kind),
            arg1,
            arg2,
            pc,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    extern crate std;
    use std::vec::Vec;

    #[test]
    fn type_words() {
        let raw = |log2, constant| CmpType::new(log2, constant).raw();
        assert_eq!(
            [raw(0, false), raw(1, false), raw(2, true), raw(3, true)],
            [0, 2, 5, 7]
        );
        assert_eq!(CmpType::new(3, true).operand_bytes(), 8);
        assert!(CmpType::new(0, true).is_const() && !CmpType::new(3, false).is_const());
    }

    #[test]
    fn switches() {
        let known: Vec<u64> = (0..=128)
            .filter(|bits| CmpType::of_switch(*bits).is_some())
            .collect();
        assert_eq!(known, [8, 16, 32, 64]);
        let raw = |bits| CmpType::of_switch(bits).unwrap().raw();
        assert_eq!([8, 16, 32, 64].map(raw), [1, 3, 5, 7]);
        assert_eq!(CmpType::of_switch(u64::MAX), None);
    }

    #[test]
    fn words_and_back() {
        let cmp = Comparison {
            kind: CmpType::new(2, true),
            arg1: 1,
            arg2: 2,
            pc: 3,
        };
        assert_eq!(Comparison::from_words(cmp.words()), cmp);
        assert_eq!(core::mem::size_of::<Comparison>(), CMP_WORDS as usize * 8);
    }
}
