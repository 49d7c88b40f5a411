// SPDX-License-Identifier: GPL-2.0 OR MIT
//! The error numbers that a kcov returns.

use core::fmt;

/// An error of a kcov call.
///
/// Each variant is one Linux error number ([`Errno::raw`]). The errors of each call, and the order of
/// its checks, are part of the interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[repr(i32)]
pub enum Errno {
    /// No memory for the descriptor, its buffer or its handles.
    NoMem = 12,
    /// The argument cannot be read from the client's memory.
    Fault = 14,
    /// The buffer exists already, or the task has such a descriptor enabled already.
    Busy = 16,
    /// Another descriptor has this handle.
    Exist = 17,
    /// A bad argument, or a call that does not fit the descriptor's state.
    Inval = 22,
    /// No such command.
    NoTty = 25,
    /// This kcov was built without the requested feature. Linux's internal `ENOTSUPP`, which
    /// clients see as 524; libc has no name for it.
    NotSupp = 524,
}

impl Errno {
    /// The positive error number, as in `errno`.
    #[must_use]
    pub const fn raw(self) -> i32 {
        self as i32
    }

    /// The variant with this error number, if a kcov can return it.
    #[must_use]
    pub const fn from_raw(raw: i32) -> Option<Self> {
        Some(match raw {
            12 => Self::NoMem,
            14 => Self::Fault,
            16 => Self::Busy,
            17 => Self::Exist,
            22 => Self::Inval,
            25 => Self::NoTty,
            524 => Self::NotSupp,
            _ => return None,
        })
    }

    /// The name in C, such as `"EINVAL"`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NoMem => "ENOMEM",
            Self::Fault => "EFAULT",
            Self::Busy => "EBUSY",
            Self::Exist => "EEXIST",
            Self::Inval => "EINVAL",
            Self::NoTty => "ENOTTY",
            Self::NotSupp => "ENOTSUPP",
        }
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl core::error::Error for Errno {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_variants_agree_both_ways() {
        let known = (0..=600).filter_map(|raw| Some((raw, Errno::from_raw(raw)?)));
        let mut count = 0;
        for (raw, errno) in known {
            assert_eq!(errno.raw(), raw);
            assert!(errno.name().starts_with('E'));
            count += 1;
        }
        assert_eq!(count, 7);
    }
}
