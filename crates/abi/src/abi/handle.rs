// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Handles: they connect sections with the clients that listen to them.
//!
//! A handle is 64 bits: the subsystem in the top byte, the instance in the low 32 bits, zero in
//! between. The split was asked for in the review of the remote coverage patch (October 2019).

use core::num::NonZeroU64;

const SUBSYSTEM_SHIFT: u32 = 56;
/// The bits of a handle that contain the subsystem: `KCOV_SUBSYSTEM_MASK`.
pub const SUBSYSTEM_MASK: u64 = 0xff << SUBSYSTEM_SHIFT;
/// The bits of a handle that contain the instance: `KCOV_INSTANCE_MASK`.
pub const INSTANCE_MASK: u64 = 0xffff_ffff;

/// The owner of a range of handles, the top byte of a handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subsystem(u8);

impl Subsystem {
    /// Handles that a client chooses and its children inherit: `KCOV_SUBSYSTEM_COMMON`.
    pub const COMMON: Self = Self(0x00);
    /// USB; the instance is the number of the bus: `KCOV_SUBSYSTEM_USB`.
    pub const USB: Self = Self(0x01);
    /// The first subsystem for userspace programs. Linux refuses this one and all above.
    pub const USER_FIRST: Self = Self(0x80);

    /// A subsystem by its number, or `None` if the number is reserved (0x02 to 0x7f).
    #[must_use]
    pub const fn new(number: u8) -> Option<Self> {
        match number {
            0x00 | 0x01 | 0x80..=0xff => Some(Self(number)),
            _ => None,
        }
    }

    /// The number, the top byte of the handle.
    #[must_use]
    pub const fn number(self) -> u8 {
        self.0
    }

    /// Whether this is [`Subsystem::COMMON`].
    #[must_use]
    pub const fn is_common(self) -> bool {
        self.0 == Self::COMMON.0
    }

    /// Whether this is one of those that Linux leaves to userspace (0x80 to 0xff).
    #[must_use]
    pub const fn is_user(self) -> bool {
        self.0 >= Self::USER_FIRST.0
    }
}

/// A well-formed handle: its subsystem is not reserved, a common handle's instance is not 0, and the
/// bits between are 0. "No handle" is `Option::None`, which takes no space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Handle(NonZeroU64);

impl Handle {
    /// The handle of `subsystem` and `instance`. `None` for the common subsystem's instance 0,
    /// since handle 0 means "no handle".
    #[must_use]
    pub const fn new(subsystem: Subsystem, instance: u32) -> Option<Self> {
        let raw = ((subsystem.0 as u64) << SUBSYSTEM_SHIFT) | instance as u64;
        match NonZeroU64::new(raw) {
            Some(raw) => Some(Self(raw)),
            None => None,
        }
    }

    /// The handle with these 64 bits, or `None` for 0, for a reserved subsystem, and if bits between
    /// subsystem and instance are set.
    #[must_use]
    pub const fn from_raw(raw: u64) -> Option<Self> {
        if raw & !(SUBSYSTEM_MASK | INSTANCE_MASK) != 0 {
            return None;
        }
        match Subsystem::new((raw >> SUBSYSTEM_SHIFT) as u8) {
            Some(subsystem) => Self::new(subsystem, raw as u32),
            None => None,
        }
    }

    /// The 64 bits of the interface.
    #[must_use]
    pub const fn raw(self) -> u64 {
        self.0.get()
    }

    /// The subsystem.
    #[must_use]
    pub const fn subsystem(self) -> Subsystem {
        Subsystem((self.raw() >> SUBSYSTEM_SHIFT) as u8)
    }

    /// The instance within the subsystem.
    #[must_use]
    pub const fn instance(self) -> u32 {
        self.raw() as u32
    }
}

/// A handle of the common subsystem. A client's children inherit it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct CommonHandle(Handle);

impl CommonHandle {
    /// `handle` as a common handle, or `None` if it is of another subsystem.
    #[must_use]
    pub const fn new(handle: Handle) -> Option<Self> {
        if handle.subsystem().is_common() {
            Some(Self(handle))
        } else {
            None
        }
    }

    /// The handle.
    #[must_use]
    pub const fn handle(self) -> Handle {
        self.0
    }
}

impl From<CommonHandle> for Handle {
    fn from(common: CommonHandle) -> Self {
        common.0
    }
}

/// `kcov_remote_handle()`: combines subsystem bits and instance bits; 0 if either has bits outside its
/// mask. The result may be malformed as a [`Handle`], because the function checks only the masks.
#[must_use]
pub const fn remote_handle(subsystem_bits: u64, instance_bits: u64) -> u64 {
    if subsystem_bits & !SUBSYSTEM_MASK != 0 || instance_bits & !INSTANCE_MASK != 0 {
        0
    } else {
        subsystem_bits | instance_bits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_is_no_handle() {
        assert_eq!(Handle::from_raw(0), None);
        assert_eq!(Handle::new(Subsystem::COMMON, 0), None);
        assert_eq!(core::mem::size_of::<Option<Handle>>(), 8);
    }

    #[test]
    fn usb_bus_zero_is_a_handle() {
        let bus0 = Handle::new(Subsystem::USB, 0).unwrap();
        assert_eq!(bus0.raw(), 0x0100_0000_0000_0000);
        assert_eq!(CommonHandle::new(bus0), None);
    }

    #[test]
    fn subsystems_02_to_7f_are_reserved() {
        for number in 0..=0xff_u8 {
            let raw = (u64::from(number) << 56) | 7;
            let good = !(0x02..0x80).contains(&number);
            assert_eq!(Handle::from_raw(raw).is_some(), good, "{number:#x}");
            if let Some(handle) = Handle::from_raw(raw) {
                assert_eq!(
                    (handle.subsystem().number(), handle.instance()),
                    (number, 7)
                );
            }
        }
    }

    #[test]
    fn bits_between_subsystem_and_instance_are_refused() {
        for bit in 32..56 {
            assert_eq!(Handle::from_raw((1 << bit) | 1), None);
        }
    }

    #[test]
    fn remote_handle_checks_masks() {
        assert_eq!(remote_handle(1 << 56, 1), (1 << 56) | 1);
        assert_eq!(remote_handle(1, 1), 0);
        assert_eq!(remote_handle(0, 1 << 32), 0);
    }
}
