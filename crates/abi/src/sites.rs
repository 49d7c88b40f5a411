// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Sites in code: the instructions that replace a callback's call. Those of arm64 code are checks alone, in
//! [`arm64`]; all else here is for x86-64.
//!
//! The rewriter, the reports and the runtime agree on these bytes:
//!
//! ```text
//! 65 80 3d disp32 00   cmp  byte ptr gs:[rip + byte], 0     a check
//! 0f 84 rel32          je   cold
//!                      the PC of the check
//!
//! 65 c6 05 disp32 how  mov  byte ptr gs:[rip + guard], how  a store
//!                      what fills the place
//!                      the PC of the store
//! ```
//!
//! A store replaces a call of `__sanitizer_cov_trace_pc_guard` and what puts the guard into `rdi` before it, byte
//! for byte, so its PC is the address that the call would have returned to. A call has 5 bytes, or 6
//! if it goes through a word in memory. What is stored is not 0, and says what stood there:
//!
//! | how | before the call | bytes of both | what fills the place |
//! | --- | --- | --- | --- |
//! | 1 | `lea rdi, [rip + guard]`, 7 bytes; without optimization an `add` of 4 or 7 bytes behind it | 12, 13, 16, 17, 19, 20 | a nop |
//! | 2, 3 | the same, then one instruction of that many bytes that moves one register into another | 14 to 16 | that instruction, and a nop |
//! | 0x10 + r | `mov rdi, r`, 3 bytes, where the register r had the guard: in loops | 8 | |
//! | 0x20 + r | the same | 9 | a nop |

pub mod arm64;

/// Bytes of the first instruction of a site.
const ACCESS: usize = 8;
/// Its start: prefix, opcode, and the operand's form.
const CHECKS: [u8; 3] = [PREFIX, 0x80, 0x3d];
const STORES: [u8; 3] = [PREFIX, 0xc6, 0x05];
/// GS.
const PREFIX: u8 = 0x65;
/// `je` with a displacement of 32 bits.
const JE: [u8; 2] = [0x0f, 0x84];
/// Bytes of the longest store.
pub const LONGEST_STORE: usize = 20;
/// `lea rdi, [rip + ...]`, and a call.
const LEA: [u8; 3] = [0x48, 0x8d, 0x3d];
const NOP: u8 = 0x90;
const NOPS: [u8; LONGEST_STORE] = [NOP; LONGEST_STORE];
const CALL: u8 = 0xe8;
/// What fills stores up to their lengths.
const FILLERS: [&[u8]; 6] = [
    &[0x0f, 0x1f, 0x40, 0],
    &[0x0f, 0x1f, 0x44, 0, 0],
    &[0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0],
    &[0x66, 0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0],
    &[0x66, 0x66, 0x2e, 0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0],
    &[0x66, 0x66, 0x66, 0x2e, 0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0],
];

/// The section with one byte for each check.
pub const CHECKED: &str = "rkcov_sites";
/// The section with four bytes for each store, and for each call that was not replaced.
pub const GUARDS: &str = "__sancov_guards";

/// A check and its address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Check {
    /// Where its first instruction begins.
    pub at: u64,
    /// The address of its byte.
    pub byte: u64,
    /// The cold code that it jumps to, which calls.
    pub cold: u64,
}

impl Check {
    /// Bytes of a check.
    pub const LEN: u64 = 14;
    /// Where its second instruction begins.
    pub const SECOND: usize = ACCESS;
    /// What makes a check call always, in the place of the first bytes of its first instruction: a jump
    /// to the second one. The distance to its byte stays where it is.
    pub const SKIP: [u8; 2] = [0xeb, ACCESS as u8 - 2];
    /// What makes a jump without a condition of its second instruction, as long as that is.
    pub const ALWAYS: [u8; 2] = [0x90, 0xe9];

    /// The check that `code` begins with; the code lies at `at`.
    #[must_use]
    pub fn read(code: &[u8], at: u64) -> Option<Self> {
        let (byte, 0) = operand(code, at, CHECKS)? else {
            return None;
        };
        let rest = code.get(ACCESS..)?.strip_prefix(&JE)?;
        Some(Self {
            at,
            byte,
            cold: relative(rest.first_chunk()?, at.wrapping_add(Self::LEN)),
        })
    }

    /// What is recorded.
    #[must_use]
    pub const fn pc(self) -> u64 {
        self.at.wrapping_add(Self::LEN)
    }
}

/// A store and its address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Store {
    /// Where its first instruction begins.
    pub at: u64,
    /// The address of its guard.
    pub guard: u64,
    /// How many bytes it has.
    pub size: usize,
    /// How the call that it replaced got the guard.
    pub given: Given,
}

/// How a call got its guard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Given {
    /// By its address, right before the call.
    Address,
    /// By its address, before this instruction of two or three bytes, which moves one register into another.
    Before([u8; 3], usize),
    /// In the register of this number.
    Register(u8),
}

impl Given {
    /// What a store has in its last byte.
    const fn code(self, size: usize) -> u8 {
        match self {
            Self::Address => 1,
            Self::Before(_, len) => len as u8,
            Self::Register(number) if size == ACCESS => 0x10 + number % 16,
            Self::Register(number) => 0x20 + number % 16,
        }
    }
}

impl Store {
    /// The store that `code` begins with; the code lies at `at`.
    #[must_use]
    pub fn read(code: &[u8], at: u64) -> Option<Self> {
        let (guard, how) = operand(code, at, STORES)?;
        let rest = code.get(ACCESS..)?;
        let filler = |rest: &[u8], known: &[&[u8]]| {
            let found = known.iter().find(|filler| rest.starts_with(filler));
            found.map(|filler| filler.len())
        };
        let (given, behind) = match how {
            1 => (Given::Address, filler(rest, &FILLERS)?),
            2 | 3 => {
                let len = usize::from(how);
                let (moved, rest) = rest.split_at_checked(len)?;
                let mut bytes = [0; 3];
                bytes
                    .iter_mut()
                    .zip(moved)
                    .for_each(|(to, from)| *to = *from);
                let known = FILLERS.get(..2)?;
                (Given::Before(bytes, len), len + filler(rest, known)?)
            }
            0x10..0x20 => (Given::Register(how - 0x10), 0),
            0x20..0x30 => (Given::Register(how - 0x20), filler(rest, &[&[NOP]])?),
            _ => return None,
        };
        Some(Self {
            at,
            guard,
            size: ACCESS + behind,
            given,
        })
    }

    /// The bytes of one of this size, with 0 for the operand in the fourth to the seventh. `None` if there
    /// is none of this size.
    #[must_use]
    pub fn bytes(given: Given, size: usize) -> Option<[u8; LONGEST_STORE]> {
        let behind = size.checked_sub(ACCESS)?;
        let of_size = |known: &[&'static [u8]], size: usize| {
            known.iter().find(|filler| filler.len() == size).copied()
        };
        let moved;
        let (moved, filler): (&[u8], &[u8]) = match given {
            Given::Address => (&[], of_size(&FILLERS, behind)?),
            Given::Before(bytes, len @ 2..=3) => {
                moved = bytes;
                let filler = of_size(FILLERS.get(..2)?, behind.checked_sub(len)?)?;
                (moved.get(..len)?, filler)
            }
            Given::Before(..) => return None,
            Given::Register(_) => (&[], of_size(&[&[], &[NOP]], behind)?),
        };
        let [a, b, c] = STORES;
        let start = [a, b, c, 0, 0, 0, 0, given.code(size)];
        Some(joined([&start, moved, filler]))
    }

    /// What is recorded.
    #[must_use]
    pub const fn pc(self) -> u64 {
        self.at.wrapping_add(self.size as u64)
    }

    /// The call that the store replaced: as many bytes as the store has, which call `callback` with the
    /// guard and return to the store's PC. `None` if either is too far away.
    ///
    /// To put calls back into a module, go through its executable segments with [`find`], and take
    /// the stores whose guard lies between the two addresses that the module gave to
    /// `__sanitizer_cov_trace_pc_guard_init()` (a multiple of four from the first): nothing else has this
    /// form. A thread that runs the code during the change would see half of it. So make the change
    /// before there is a second thread, with signals blocked.
    #[must_use]
    pub fn call(self, callback: u64) -> Option<[u8; LONGEST_STORE]> {
        let callback = displacement(self.pc(), callback)?;
        let guard = || displacement(self.at.wrapping_add(7), self.guard);
        // What is left beside so many bytes.
        let nops = |len: usize| NOPS.get(..self.size.checked_sub(len)?);
        Some(match self.given {
            Given::Address => joined([&LEA, &guard()?, nops(12)?, &[CALL], &callback]),
            Given::Before(moved, len) => {
                let moved = moved.get(..len)?;
                joined([&LEA, &guard()?, moved, nops(12 + len)?, &[CALL], &callback])
            }
            Given::Register(number) => {
                let high = (number >> 3 & 1) << 2;
                let to_rdi = [0x48 | high, 0x89, 0xc7 | (number & 7) << 3];
                joined([&to_rdi, nops(8)?, &[CALL], &callback])
            }
        })
    }
}

/// A site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Site {
    /// A check.
    Check(Check),
    /// A store.
    Store(Store),
}

impl Site {
    /// Where its first instruction begins.
    #[must_use]
    pub const fn at(self) -> u64 {
        match self {
            Self::Check(check) => check.at,
            Self::Store(store) => store.at,
        }
    }

    /// What is recorded.
    #[must_use]
    pub const fn pc(self) -> u64 {
        match self {
            Self::Check(check) => check.pc(),
            Self::Store(store) => store.pc(),
        }
    }
}

/// Everything that looks like a site in `code`, which is at `at`, in the order of addresses. A real site
/// has its byte in the section [`CHECKED`] or its guard in [`GUARDS`].
pub fn find(code: &[u8], at: u64) -> impl Iterator<Item = Site> + '_ {
    find_by(code, at, |byte, rest| {
        rest.iter().position(|other| *other == byte)
    })
}

/// [`find`], by a function that finds a byte faster.
pub fn find_by<'a>(
    code: &'a [u8],
    at: u64,
    byte: impl Fn(u8, &[u8]) -> Option<usize> + 'a,
) -> impl Iterator<Item = Site> + 'a {
    let mut offset = 0;
    core::iter::from_fn(move || loop {
        let rest = code.get(offset..)?;
        offset += byte(PREFIX, rest)? + 1;
        let begin = offset - 1;
        if let Some(site) = self::at(code.get(begin..)?, at.wrapping_add(begin as u64)) {
            return Some(site);
        }
    })
}

/// What looks like a site at the beginning of `code`, which lies at `at`.
#[must_use]
pub fn at(code: &[u8], at: u64) -> Option<Site> {
    match code {
        [PREFIX, 0x80, ..] => Check::read(code, at).map(Site::Check),
        [PREFIX, 0xc6, ..] => Store::read(code, at).map(Site::Store),
        _ => None,
    }
}

/// The address that the first instruction of a site at `at` accesses, and its immediate, if it begins with
/// `start`.
fn operand(code: &[u8], at: u64, start: [u8; 3]) -> Option<(u64, u8)> {
    let rest = code.strip_prefix(&start)?;
    let (displacement, rest) = rest.split_first_chunk()?;
    let address = relative(displacement, at.wrapping_add(ACCESS as u64));
    Some((address, *rest.first()?))
}

/// The parts, one behind the other.
fn joined<const N: usize>(parts: [&[u8]; N]) -> [u8; LONGEST_STORE] {
    let mut bytes = [0; LONGEST_STORE];
    let all = parts.into_iter().flatten();
    bytes.iter_mut().zip(all).for_each(|(to, from)| *to = *from);
    bytes
}

fn relative(displacement: &[u8; 4], to: u64) -> u64 {
    to.wrapping_add_signed(i32::from_le_bytes(*displacement).into())
}

/// What leads from `from` to `to`.
fn displacement(from: u64, to: u64) -> Option<[u8; 4]> {
    let distance = to.wrapping_sub(from).cast_signed();
    i32::try_from(distance).ok().map(i32::to_le_bytes)
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::vec::Vec;

    const AT: u64 = 0x40_1000;

    /// All forms, with their sizes.
    fn forms() -> Vec<(Given, usize)> {
        let addresses = [12, 13, 16, 17, 19, 20].map(|size| (Given::Address, size));
        let moves = [([0x49, 0x89, 0xc4], 3), ([0x89, 0xc3, 0], 2)];
        let before = moves.into_iter().flat_map(|(moved, len)| {
            [5, 6].map(|call| (Given::Before(moved, len), 7 + len + call))
        });
        let registers = [0, 3, 5, 12, 15];
        let registers = registers
            .into_iter()
            .flat_map(|register| [8, 9].map(|size| (Given::Register(register), size)));
        addresses
            .into_iter()
            .chain(before)
            .chain(registers)
            .collect()
    }

    /// A store into the guard at 0x500010.
    fn store(given: Given, size: usize) -> [u8; LONGEST_STORE] {
        let mut bytes = Store::bytes(given, size).unwrap();
        let displacement = (0x50_0010_i32 - 0x40_1008).to_le_bytes();
        bytes[3..7].copy_from_slice(&displacement);
        bytes
    }

    #[test]
    fn a_store_is_read_and_called_again() {
        for (given, size) in forms() {
            let found = Store::read(&store(given, size)[..size], AT).unwrap();
            assert_eq!(
                (found.guard, found.size, found.given),
                (0x50_0010, size, given)
            );
            assert_eq!(found.pc(), AT + size as u64);
            let callback = 0x41_0000;
            let call = found.call(callback).unwrap();
            let (begin, between) = match given {
                Given::Register(register) => {
                    let rex = if register < 8 { 0x48 } else { 0x4c };
                    assert_eq!(call[..3], [rex, 0x89, 0xc7 | (register % 8 * 8)]);
                    (3, &[][..])
                }
                Given::Address => (7, &[][..]),
                Given::Before(ref moved, len) => (7, &moved[..len]),
            };
            if begin == 7 {
                assert_eq!(call[..3], [0x48, 0x8d, 0x3d]);
                let guard = relative(call[3..7].first_chunk().unwrap(), AT + 7);
                assert_eq!(guard, 0x50_0010);
            }
            let nops = call[begin..size - 5].strip_prefix(between).unwrap();
            assert!(nops.iter().all(|byte| *byte == NOP));
            let target = call[size - 4..size].first_chunk().unwrap();
            assert_eq!(relative(target, found.pc()), callback);
            assert_eq!(call[size - 5], CALL);
        }
        for (given, size) in [
            (Given::Address, 14),
            (Given::Before([0; 3], 4), 16),
            (Given::Before([0; 3], 3), 14),
            (Given::Register(1), 10),
            (Given::Register(1), 7),
        ] {
            assert_eq!(Store::bytes(given, size), None);
        }
    }

    #[test]
    fn a_callback_that_is_too_far_is_not_called() {
        let found = Store::read(&store(Given::Address, 12)[..12], AT).unwrap();
        let end = found.pc();
        assert!(found.call(end + 0x7fff_ffff).is_some());
        assert!(found.call(end + 0x8000_0000).is_none());
        assert!(found.call(end.wrapping_sub(0x8000_0000)).is_some());
        assert!(found.call(end.wrapping_sub(0x8000_0001)).is_none());
    }

    #[test]
    fn a_check_is_read() {
        let mut code = [0_u8; 14];
        code[..3].copy_from_slice(&CHECKS);
        code[3..7].copy_from_slice(&0x1000_i32.to_le_bytes());
        code[8..10].copy_from_slice(&JE);
        code[10..].copy_from_slice(&(-0x20_i32).to_le_bytes());
        let check = Check::read(&code, AT).unwrap();
        assert_eq!((check.byte, check.cold), (AT + 8 + 0x1000, AT + 14 - 0x20));
        assert_eq!(check.pc(), AT + 14);
        code[7] = 1;
        assert_eq!(Check::read(&code, AT), None);
    }

    #[test]
    fn sites_are_found_in_order_and_cut_ones_are_not() {
        for (given, size) in forms() {
            let mut code = [0xcc; 2 + 2 * LONGEST_STORE];
            code[1] = 0x65;
            for at in [2, 2 + size] {
                code[at..at + size].copy_from_slice(&store(given, size)[..size]);
            }
            let mut sites = find(&code, AT).map(Site::pc);
            assert_eq!(sites.next(), Some(AT + 2 + size as u64));
            assert_eq!(sites.next(), Some(AT + 2 + 2 * size as u64));
            assert_eq!(sites.next(), None);
            for cut in 0..size {
                assert_eq!(find(&store(given, size)[..cut], AT).count(), 0, "{cut}");
            }
        }
    }
}
