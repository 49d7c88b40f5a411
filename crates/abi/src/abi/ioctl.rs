// SPDX-License-Identifier: GPL-2.0 OR MIT
//! The ioctls of the device.

use core::mem::size_of;

/// Most entries that `handles[]` of a remote argument may have: `KCOV_REMOTE_MAX_HANDLES`.
pub const REMOTE_MAX_HANDLES: u32 = 0x100;

// The encoding of ioctl numbers on every architecture that kcov exists for, from
// `include/uapi/asm-generic/ioctl.h`: number, type, size of the argument, direction.
const WRITE: u32 = 1;
const READ: u32 = 2;

const fn number(direction: u32, nr: u32, size: usize) -> u32 {
    (direction << 30) | ((size as u32) << 16) | ((b'c' as u32) << 8) | nr
}

/// `_IOR('c', 1, unsigned long)` of a 64-bit client.
pub const KCOV_INIT_TRACE: u32 = number(READ, 1, 8);
/// `_IOR('c', 1, unsigned long)` of a 32-bit client. Linux 6.12 returns ENOTTY for it.
pub const KCOV_INIT_TRACE_32: u32 = number(READ, 1, 4);
/// `_IO('c', 100)`.
pub const KCOV_ENABLE: u32 = number(0, 100, 0);
/// `_IO('c', 101)`.
pub const KCOV_DISABLE: u32 = number(0, 101, 0);
/// `_IOW('c', 102, struct kcov_remote_arg)`.
pub const KCOV_REMOTE_ENABLE: u32 = number(WRITE, 102, size_of::<RemoteArg>());
/// `_IOW('c', 103, unsigned long)` of a 64-bit client.
pub const KCOV_UNIQUE_ENABLE: u32 = number(WRITE, 103, 8);
/// `_IO('c', 104)`.
pub const KCOV_RESET_TRACE: u32 = number(0, 104, 0);

/// `KCOV_TRACE_PC`, the argument of `KCOV_ENABLE` for PCs.
pub const KCOV_TRACE_PC: u32 = 0;
/// `KCOV_TRACE_CMP`, the argument of `KCOV_ENABLE` for comparisons.
pub const KCOV_TRACE_CMP: u32 = 1;

/// Makes the type, the list of all and both conversions from one table, so that a new command cannot
/// be missing from any of them.
macro_rules! commands {
    ($($(#[$doc:meta])* $name:ident = $number:ident,)*) => {
        /// A command of the device, known by its number.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Command {
            $($(#[$doc])* $name,)*
        }

        impl Command {
            /// All commands.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The command with this ioctl number. For `None` the device returns ENOTTY.
            #[must_use]
            pub const fn from_number(number: u32) -> Option<Self> {
                Some(match number {
                    $($number => Self::$name,)*
                    KCOV_INIT_TRACE_32 => Self::InitTrace,
                    _ => return None,
                })
            }

            /// The ioctl number that a 64-bit client uses.
            #[must_use]
            pub const fn number(self) -> u32 {
                match self {
                    $(Self::$name => $number,)*
                }
            }
        }
    };
}

commands! {
    /// [`KCOV_INIT_TRACE`] or [`KCOV_INIT_TRACE_32`]: allocate the buffer.
    InitTrace = KCOV_INIT_TRACE,
    /// [`KCOV_ENABLE`]: collect from the calling task.
    Enable = KCOV_ENABLE,
    /// [`KCOV_DISABLE`]: stop.
    Disable = KCOV_DISABLE,
    /// [`KCOV_REMOTE_ENABLE`]: collect from sections.
    RemoteEnable = KCOV_REMOTE_ENABLE,
    /// [`KCOV_UNIQUE_ENABLE`]: collect each PC once.
    UniqueEnable = KCOV_UNIQUE_ENABLE,
    /// [`KCOV_RESET_TRACE`]: empty the buffer.
    ResetTrace = KCOV_RESET_TRACE,
}

/// The kind of records: the values of `KCOV_ENABLE`'s argument and of `trace_mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TraceMode {
    /// [`KCOV_TRACE_PC`].
    Pc,
    /// [`KCOV_TRACE_CMP`].
    Cmp,
}

impl TraceMode {
    /// The mode with this number, or `None` (EINVAL).
    #[must_use]
    pub const fn from_raw(raw: u64) -> Option<Self> {
        match raw {
            0 => Some(Self::Pc),
            1 => Some(Self::Cmp),
            _ => None,
        }
    }

    /// The number in the interface.
    #[must_use]
    pub const fn raw(self) -> u32 {
        match self {
            Self::Pc => KCOV_TRACE_PC,
            Self::Cmp => KCOV_TRACE_CMP,
        }
    }

    /// Words of one record of this mode.
    #[must_use]
    pub const fn record_words(self) -> u32 {
        match self {
            Self::Pc => crate::abi::record::PC_WORDS,
            Self::Cmp => crate::abi::record::CMP_WORDS,
        }
    }
}

/// `struct kcov_remote_arg`, without its flexible array `handles[]`. The array follows directly:
/// `num_handles` words of 64 bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct RemoteArg {
    /// [`KCOV_TRACE_PC`] or [`KCOV_TRACE_CMP`].
    pub trace_mode: u32,
    /// Words of the private area that each section gets, the count word included: at least one
    /// record, at most `INT_MAX / 8`.
    pub area_size: u32,
    /// Entries of `handles[]`, at most [`REMOTE_MAX_HANDLES`]. 0 is allowed.
    pub num_handles: u32,
    /// Zero: C's padding, named so that every byte is initialized.
    pub padding: u32,
    /// A common handle, or 0 for none. The calling task, and the children that it creates from now
    /// on, carry it.
    pub common_handle: u64,
}

impl RemoteArg {
    /// The argument with these bytes in memory.
    #[must_use]
    pub const fn from_ne_bytes(bytes: [u8; size_of::<Self>()]) -> Self {
        // SAFETY: plain integers without gaps: every bit pattern is a value.
        unsafe { core::mem::transmute(bytes) }
    }

    /// The words of this in a client's memory, and of the handles that follow it there.
    pub fn words_with(self, handles: impl IntoIterator<Item = u64>) -> impl Iterator<Item = u64> {
        // SAFETY: plain integers without gaps, as many bytes as three words have.
        let head: [u64; size_of::<Self>() / 8] = unsafe { core::mem::transmute(self) };
        head.into_iter().chain(handles)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_commands_agree_both_ways() {
        for &command in Command::ALL {
            assert_eq!(Command::from_number(command.number()), Some(command));
        }
        assert_eq!(KCOV_INIT_TRACE_32, 0x8004_6301);
        assert_eq!(
            Command::from_number(KCOV_INIT_TRACE_32),
            Some(Command::InitTrace)
        );
        assert_eq!(Command::from_number(KCOV_INIT_TRACE ^ 1), None);
    }

    #[test]
    fn a_remote_argument_is_the_structure_and_then_its_handles() {
        let arg = RemoteArg {
            trace_mode: 1,
            area_size: 77,
            num_handles: 2,
            padding: 0,
            common_handle: 0x42,
        };
        let mut bytes = [0; size_of::<RemoteArg>() + 16];
        let words = arg.words_with([5, 1 << 56]);
        let places = bytes.chunks_exact_mut(8);
        for (place, word) in places.zip(words) {
            place.copy_from_slice(&word.to_ne_bytes());
        }
        let (head, handles) = bytes.split_at(size_of::<RemoteArg>());
        assert_eq!(RemoteArg::from_ne_bytes(head.try_into().unwrap()), arg);
        assert_eq!(handles[..8], 5u64.to_ne_bytes());
        assert_eq!(handles[8..], (1u64 << 56).to_ne_bytes());
    }

    #[test]
    fn modes_have_no_high_bits() {
        assert_eq!(TraceMode::from_raw(1 << 32), None);
        assert_eq!(TraceMode::from_raw(2), None);
        assert_eq!(TraceMode::from_raw(1), Some(TraceMode::Cmp));
    }
}
