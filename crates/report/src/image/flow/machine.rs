// SPDX-License-Identifier: MIT OR Apache-2.0
//! The processors whose code can be read.

use std::ops::Range;

use object::{Architecture, Object};

use super::branch::Scan;
use super::callees::Callees;
use super::{arm64, x86};

/// A processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Machine {
    X86_64,
    Arm64,
}

impl Machine {
    /// The one that an image is for, if its code can be read.
    pub(super) fn of(object: &object::File<'_>) -> Option<Self> {
        match object.architecture() {
            Architecture::X86_64 => Some(Self::X86_64),
            Architecture::Aarch64 if object.is_little_endian() => Some(Self::Arm64),
            _ => None,
        }
    }

    /// Reads the code of one function.
    pub(super) fn scan(self, callees: &Callees<'_>, range: &Range<u64>) -> Scan {
        match self {
            Self::X86_64 => x86::scan(callees, range),
            Self::Arm64 => arm64::scan(callees, range),
        }
    }

    /// Whether code does nothing and only fills space.
    pub(super) fn is_filler(self, code: &[u8]) -> bool {
        match self {
            Self::X86_64 => x86::is_filler(code),
            Self::Arm64 => arm64::is_filler(code),
        }
    }

    /// The word in memory through which a few instructions jump, as linkers put them for other
    /// modules' functions.
    pub(super) fn stub(self, code: &[u8], at: u64) -> Option<u64> {
        match self {
            Self::X86_64 => x86::stub(code, at),
            Self::Arm64 => arm64::stub(code, at),
        }
    }
}
