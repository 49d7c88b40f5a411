// SPDX-License-Identifier: MIT OR Apache-2.0
//! Contexts: named pieces of work.
//!
//! A context is an entry of a table, for ever: its number is never given to another one. Its name lies
//! in a part of the region that nobody maps, since each is written once and read by the collector only.

use crate::tables::{Piece, Text};
use crate::{Directory, NAME_BYTES};
use core::sync::atomic::{fence, AtomicU32, AtomicU64, Ordering};

/// Entries of the table of contexts.
pub const CONTEXTS: usize = 1 << 20;
/// Bytes of the longest name. A context with a longer one is lost, and that is counted.
pub const NAME_MAX: usize = 1 << 20;

/// The environment variable that says which context a process is in; see [`Assignment`].
pub const CONTEXT_ENVIRONMENT: &str = "RKCOV_CONTEXT";

/// The environment variable that says which thread has started a process; see [`Maker`].
pub const MAKER_ENVIRONMENT: &str = "RKCOV_MAKER";

const LIVE: u32 = 1;
const ENDED: u32 = 2;

/// A named piece of work.
#[derive(Debug)]
#[repr(C)]
pub struct Context {
    pub(crate) state: AtomicU32,
    /// What sort of work it is, by its number in the interface.
    pub kind: AtomicU32,
    /// Its name, among the names.
    pub name: Text,
    pub(crate) parent: AtomicU32,
    /// Index of the process that made it, or all bits.
    pub process: AtomicU32,
    /// Slots that threads have for it now. Of a process that was killed they stay counted.
    pub open: AtomicU32,
    /// Nanoseconds since the epoch when it was made, and when it ended.
    pub began: AtomicU64,
    pub(crate) ended: AtomicU64,
}

impl Context {
    /// Whether the entry is complete.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.state.load(Ordering::Acquire) != 0
    }

    /// Whether the work is over.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.state.load(Ordering::Acquire) == ENDED
    }

    /// When it ended, in nanoseconds since the epoch, if it has.
    #[must_use]
    pub fn ended(&self) -> Option<u64> {
        self.is_over().then(|| self.ended.load(Ordering::Relaxed))
    }

    /// 1 + the index of the context that this one is a part of, 0 for none.
    #[must_use]
    pub fn parent(&self) -> u32 {
        self.parent.load(Ordering::Relaxed)
    }

    /// The work is over, at `now`. `false` if it was already. Whoever gets `true` sees all slots that
    /// were opened before; who opens one later sees that it is over.
    pub fn end(&self, now: u64) -> bool {
        // Of several that end it at once, the first says when.
        let _ = self
            .ended
            .compare_exchange(0, now.max(1), Ordering::AcqRel, Ordering::Relaxed);
        let live = self
            .state
            .compare_exchange(LIVE, ENDED, Ordering::AcqRel, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        live.is_ok()
    }

    /// A thread has a slot for it. `false` if the work is over.
    pub fn open(&self) -> bool {
        self.open.fetch_add(1, Ordering::AcqRel);
        fence(Ordering::SeqCst);
        !self.is_over()
    }

    /// A thread gives such a slot up.
    pub fn close(&self) {
        self.open.fetch_sub(1, Ordering::AcqRel);
    }
}

/// What a context is made of.
#[derive(Clone, Copy, Debug)]
pub struct Made {
    /// What sort of work it is.
    pub kind: u32,
    /// Where its name is.
    pub name: Piece,
    /// 1 + the index of the context that it is a part of, 0 for none.
    pub parent: u32,
    /// Index of the process that makes it, or all bits.
    pub process: u32,
    /// Nanoseconds since the epoch.
    pub now: u64,
}

impl Directory {
    /// Room for a name of `len` bytes, by its first byte among the names. `None`, which is counted, if
    /// there is none.
    pub fn name_room(&self, len: usize) -> Option<Piece> {
        let fits = len <= NAME_MAX && self.header.names.load(Ordering::Relaxed) < NAME_BYTES;
        let at = fits.then(|| self.header.names.fetch_add(len as u64, Ordering::Relaxed));
        let end = at.and_then(|at| at.checked_add(len as u64));
        if let (Some(at), true) = (at, end.is_some_and(|end| end <= NAME_BYTES)) {
            return Some(Piece {
                at: at as u32,
                len: len as u32,
            });
        }
        self.lose_context();
        None
    }

    /// Adds a context; its name is written. 1 + its index; 0, which is counted, if there is no room.
    pub fn add_context(&self, made: &Made) -> u32 {
        let limit = self.header.bounds().contexts;
        // What was taken in vain does not count on for ever.
        let index = match self.header.contexts.load(Ordering::Relaxed) {
            used if used < limit => self.header.contexts.fetch_add(1, Ordering::AcqRel),
            _ => limit,
        };
        let entry = self.contexts.get(index as usize);
        let Some(entry) = entry.filter(|_| index < limit) else {
            self.lose_context();
            return 0;
        };
        entry.kind.store(made.kind, Ordering::Relaxed);
        entry.name.put(made.name);
        entry.parent.store(made.parent, Ordering::Relaxed);
        entry.process.store(made.process, Ordering::Relaxed);
        entry.began.store(made.now, Ordering::Relaxed);
        entry.state.store(LIVE, Ordering::Release);
        index.wrapping_add(1)
    }

    /// A context, or a thread in one, is lost.
    pub fn lose_context(&self) {
        self.header.contexts_lost.fetch_add(1, Ordering::Relaxed);
    }

    /// The context with this number, 1 + its index, if it is complete.
    #[must_use]
    pub fn context(&self, number: u32) -> Option<&Context> {
        let entry = self.contexts.get(number.checked_sub(1)? as usize)?;
        entry.is_ready().then_some(entry)
    }
}

/// What [`CONTEXT_ENVIRONMENT`] says: the context of a process, in the region with this token.
///
/// The value is `TOKEN:NUMBER`, the token in hexadecimal without prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// Must be equal to [`Prefix::token`](crate::Prefix::token).
    pub token: u64,
    /// 1 + the index of the context.
    pub number: u32,
}

impl Assignment {
    /// Reads the variable's value.
    #[must_use]
    pub fn parse(value: &[u8]) -> Option<Self> {
        let (token, rest) = crate::parse_token(value)?;
        let digits = core::str::from_utf8(rest).ok()?;
        let number = digits.parse().ok()?;
        Some(Self { token, number })
    }
}

/// What [`MAKER_ENVIRONMENT`] says: the thread that has started a process, in the region with this token.
///
/// The value is `TOKEN:SERIAL`, as in an [`Assignment`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Maker {
    /// Must be equal to [`Prefix::token`](crate::Prefix::token).
    pub token: u64,
    /// The thread's [`Slot::serial`](crate::Slot::serial).
    pub serial: u64,
}

impl Maker {
    /// Reads the variable's value.
    #[must_use]
    pub fn parse(value: &[u8]) -> Option<Self> {
        let (token, rest) = crate::parse_token(value)?;
        let serial = core::str::from_utf8(rest).ok()?.parse().ok()?;
        Some(Self { token, serial })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::mem::size_of;

    #[test]
    fn a_context_is_48_bytes() {
        assert_eq!(size_of::<Context>(), 48);
    }

    #[test]
    fn an_end_is_seen_by_whoever_opens_later_and_counts_once() {
        // SAFETY: all atomics, for which zeros are a value.
        let context: Context = unsafe { core::mem::zeroed() };
        assert!(!context.is_ready());
        context.state.store(LIVE, Ordering::Relaxed);
        assert!(context.open());
        assert_eq!(context.ended(), None);
        assert!(context.end(7));
        assert!(!context.end(8));
        assert!(!context.open());
        context.close();
        assert_eq!(context.open.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn assignments() {
        let parse = |text: &'static str| Assignment::parse(text.as_bytes());
        let good = Assignment {
            token: 0x1f,
            number: 7,
        };
        assert_eq!(parse("1f:7"), Some(good));
        for bad in ["", ":", "1f", "1f:", "1f:x", "1f:-1", "1f:4294967296", ":7"] {
            assert_eq!(parse(bad), None, "{bad:?}");
        }
        let maker = Maker {
            token: 0x1f,
            serial: 1 << 40,
        };
        assert_eq!(Maker::parse(b"1f:1099511627776"), Some(maker));
        assert_eq!(Maker::parse(b"1f:18446744073709551616"), None);
    }
}
