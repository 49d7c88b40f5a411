// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Checks in arm64 code:
//!
//! ```text
//! mrs  x16, tpidr_el0
//! cbz  x16, PC                   the thread has no thread-local storage yet
//! ldr  x16, [x16, #8]            its base
//! adrp x17, page of the byte
//! add  x16, x16, x17
//! ldrb w16, [x16, #offset of the byte]
//! cbnz w16, PC
//! bl   __rkcov_hit
//!                                the PC of the check
//! ```
//!
//! The call is the last instruction, so it returns to the PC. Where it leads nowhere, because nothing
//! has the runtime, the linker has put an instruction there that does nothing.
//!
//! Linkers may change pairs of `adrp` and `add` or of `adrp` and a load by its register, to save
//! instructions or to avoid errata of processors. None of these pairs is here.

/// Bytes of an instruction.
const SIZE: u64 = 4;
/// Those before the call, with 0 for what depends on the place of the byte.
const WORDS: [u32; 7] = [
    0xd53b_d050,
    0xb400_00f0,
    0xf940_0610,
    ADRP,
    0x8b11_0210,
    LDRB,
    0x3500_0050,
];
const ADRP: u32 = 0x9000_0011;
const LDRB: u32 = 0x3940_0210;
/// The bits of the page, and of the offset.
const PAGE: u32 = 0x60ff_ffe0;
const OFFSET: u32 = 0x003f_fc00;

/// A check and its address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Check {
    /// Where its first instruction begins.
    pub at: u64,
    /// The address of its byte.
    pub byte: u64,
}

impl Check {
    /// Bytes of a check.
    pub const LEN: u64 = (WORDS.len() as u64 + 1) * SIZE;

    /// The check that `code` begins with; the code lies at `at`.
    #[must_use]
    pub fn read(code: &[u8], at: u64) -> Option<Self> {
        let (words, _) = code.get(..Self::LEN as usize)?.as_chunks();
        let mut words = words.iter().map(|bytes| u32::from_le_bytes(*bytes));
        let (mut page, mut offset) = (0, 0);
        for known in WORDS {
            let word = words.next()?;
            let fixed = match known {
                ADRP => {
                    page = word;
                    word & !PAGE
                }
                LDRB => {
                    offset = word;
                    word & !OFFSET
                }
                _ => word,
            };
            if fixed != known {
                return None;
            }
        }
        // Bits 29 and 30 are the lowest of the distance, 5 to 23 the others.
        let pages = (page << 8).cast_signed() >> 13 << 2 | (page >> 29 & 3).cast_signed();
        let of_adrp = at.wrapping_add(3 * SIZE);
        let page = (of_adrp & !0xfff).wrapping_add_signed(i64::from(pages) << 12);
        Some(Self {
            at,
            byte: page.wrapping_add(u64::from((offset & OFFSET) >> 10)),
        })
    }

    /// What is recorded.
    #[must_use]
    pub const fn pc(self) -> u64 {
        self.at.wrapping_add(Self::LEN)
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::vec::Vec;

    /// A check whose byte is so many pages and bytes from its `adrp`'s page.
    fn code(pages: i32, offset: u32) -> Vec<u8> {
        let distance = pages.cast_unsigned();
        let page = (distance & 3) << 29 | (distance >> 2 & 0x7_ffff) << 5;
        let mut words = WORDS;
        words[3] |= page;
        words[5] |= offset << 10;
        let call = [0x9400_0000_u32];
        let words = words.iter().chain(&call);
        words.flat_map(|word| word.to_le_bytes()).collect()
    }

    #[test]
    fn a_check_is_read() {
        const AT: u64 = 0x40_2ff8;
        for (pages, offset) in [(0, 0), (3, 5), (-2, 0xfff), (0xf_ffff, 1), (-0x10_0000, 9)] {
            let check = Check::read(&code(pages, offset), AT).unwrap();
            let page = 0x40_3000_u64.wrapping_add_signed(i64::from(pages) << 12);
            assert_eq!(check.byte, page.wrapping_add(offset.into()), "{pages}");
            assert_eq!(check.pc(), AT + 32);
        }
    }

    #[test]
    fn nothing_else_is() {
        let check = code(1, 1);
        for cut in 0..check.len() {
            assert_eq!(Check::read(&check[..cut], 0), None);
        }
        for bit in 0..28 * 8 {
            let mut other = check.clone();
            other[bit / 8] ^= 1 << (bit % 8);
            let (word, bit) = (bit / 32, bit % 32);
            let may_differ = match word {
                3 => PAGE >> bit & 1 == 1,
                5 => OFFSET >> bit & 1 == 1,
                _ => false,
            };
            assert_eq!(Check::read(&other, 0).is_some(), may_differ, "{word} {bit}");
        }
    }
}
