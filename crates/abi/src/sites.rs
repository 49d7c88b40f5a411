// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Sites in x86-64 code: the instructions that replace a callback's call.
//!
//! The rewriter, the reports and the runtime agree on these bytes:
//!
//! ```text
//! 65 80 3d disp32 00   cmp  byte ptr gs:[rip + byte], 0     a check
//! 0f 84 rel32          je   cold
//!                      the PC of the check
//!
//! 65 c6 05 disp32 01   mov  byte ptr gs:[rip + guard], 1    a store
//! 0f 1f 40 00          a nop that fills the place
//!                      the PC of the store
//! ```
//!
//! A store replaces `lea rdi, [rip + guard]` and `call __sanitizer_cov_trace_pc_guard`, byte for byte, so
//! its PC is the address that the call would have returned to. The two instructions have 12 bytes, or 13
//! if the call goes through a word in memory. In code without optimization, where an `add` is between
//! them, they have 4 or 7 bytes more.

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
        let byte = operand(code, at, CHECKS, 0)?;
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
}

impl Store {
    /// The store that `code` begins with; the code lies at `at`.
    #[must_use]
    pub fn read(code: &[u8], at: u64) -> Option<Self> {
        let guard = operand(code, at, STORES, 1)?;
        let rest = code.get(ACCESS..)?;
        let filler = FILLERS.iter().find(|filler| rest.starts_with(filler))?;
        let size = ACCESS + filler.len();
        Some(Self { at, guard, size })
    }

    /// The bytes of one of this size, with 0 for the operand in the fourth to the seventh. `None` if there
    /// is none of this size.
    #[must_use]
    pub fn bytes(size: usize) -> Option<[u8; LONGEST_STORE]> {
        let filler = FILLERS
            .iter()
            .find(|filler| ACCESS + filler.len() == size)?;
        let mut bytes = [0; LONGEST_STORE];
        let [a, b, c] = STORES;
        let start = [a, b, c, 0, 0, 0, 0, 1];
        let all = start.iter().chain(*filler);
        bytes.iter_mut().zip(all).for_each(|(to, from)| *to = *from);
        Some(bytes)
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
        const LEA: [u8; 3] = [0x48, 0x8d, 0x3d];
        const NOP: u8 = 0x90;
        const CALL: u8 = 0xe8;
        let guard = displacement(self.at.wrapping_add(7), self.guard)?;
        let callback = displacement(self.pc(), callback)?;
        let nops = self.size.checked_sub(12)?;
        let all = LEA
            .into_iter()
            .chain(guard)
            .chain((0..nops).map(|_| NOP))
            .chain([CALL])
            .chain(callback);
        let mut bytes = [0; LONGEST_STORE];
        bytes.iter_mut().zip(all).for_each(|(to, from)| *to = from);
        Some(bytes)
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
    let mut offset = 0;
    core::iter::from_fn(move || loop {
        let rest = code.get(offset..)?;
        offset += rest.iter().position(|byte| *byte == PREFIX)? + 1;
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

/// The address that the first instruction of a site at `at` accesses, if it begins with `start` and
/// has this immediate.
fn operand(code: &[u8], at: u64, start: [u8; 3], immediate: u8) -> Option<u64> {
    let rest = code.strip_prefix(&start)?;
    let (displacement, rest) = rest.split_first_chunk()?;
    (rest.first() == Some(&immediate))
        .then(|| relative(displacement, at.wrapping_add(ACCESS as u64)))
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
    use super::*;

    const AT: u64 = 0x40_1000;

    const SIZES: [usize; 6] = [12, 13, 16, 17, 19, 20];

    /// A store into the guard at 0x500010.
    fn store(size: usize) -> [u8; LONGEST_STORE] {
        let mut bytes = Store::bytes(size).unwrap();
        let displacement = (0x50_0010_i32 - 0x40_1008).to_le_bytes();
        bytes[3..7].copy_from_slice(&displacement);
        bytes
    }

    #[test]
    fn a_store_is_read_and_called_again() {
        for size in SIZES {
            let found = Store::read(&store(size)[..size], AT).unwrap();
            assert_eq!((found.guard, found.size), (0x50_0010, size));
            assert_eq!(found.pc(), AT + size as u64);
            let callback = 0x41_0000;
            let call = found.call(callback).unwrap();
            assert_eq!(call[..3], [0x48, 0x8d, 0x3d]);
            assert_eq!(
                relative(call[3..7].first_chunk().unwrap(), AT + 7),
                0x50_0010
            );
            assert!(call[7..size - 5].iter().all(|byte| *byte == 0x90));
            let target = call[size - 4..size].first_chunk().unwrap();
            assert_eq!(relative(target, found.pc()), callback);
            assert_eq!(call[size - 5], 0xe8);
        }
        assert_eq!(Store::bytes(14), None);
    }

    #[test]
    fn a_callback_that_is_too_far_is_not_called() {
        let found = Store::read(&store(12)[..12], AT).unwrap();
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
        for size in SIZES {
            let mut code = [0x90; 2 + 2 * LONGEST_STORE];
            code[1] = 0x65;
            for at in [2, 2 + size] {
                code[at..at + size].copy_from_slice(&store(size)[..size]);
            }
            let mut sites = find(&code, AT).map(Site::pc);
            assert_eq!(sites.next(), Some(AT + 2 + size as u64));
            assert_eq!(sites.next(), Some(AT + 2 + 2 * size as u64));
            assert_eq!(sites.next(), None);
            for cut in 0..size {
                assert_eq!(find(&store(size)[..cut], AT).count(), 0, "{cut}");
            }
        }
    }
}
