// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which kernel: for what machine, with which kcov, with which checks.

use object::Architecture;
use std::fmt;
use std::str::FromStr;

/// What the kernel runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arch {
    /// A PC, under QEMU.
    X86_64,
    /// A board with arm64 processors, emulated by QEMU.
    Arm64,
    /// A process: User Mode Linux.
    Uml,
}

/// Which kcov it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kcov {
    /// `kernel/rkcov`.
    Rust,
    /// `kernel/kcov.c`.
    C,
}

/// What checks the kernel does on itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checks {
    /// None, for speed and for comparisons.
    Plain,
    /// Memory accesses, and in x86-64 lock order and leaks.
    Kasan,
    /// Data races.
    Kcsan,
    /// None, with real-time preemption.
    Rt,
}

/// A kernel to build or boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flavor {
    /// What it runs on.
    pub arch: Arch,
    /// Which kcov it has.
    pub kcov: Kcov,
    /// What it checks.
    pub checks: Checks,
}

impl FromStr for Arch {
    type Err = &'static str;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match name {
            "x86-64" => Ok(Self::X86_64),
            "arm64" => Ok(Self::Arm64),
            "uml" => Ok(Self::Uml),
            _ => Err("x86-64, arm64 or uml"),
        }
    }
}

impl FromStr for Kcov {
    type Err = &'static str;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match name {
            "rust" => Ok(Self::Rust),
            "c" => Ok(Self::C),
            _ => Err("rust or c"),
        }
    }
}

impl FromStr for Checks {
    type Err = &'static str;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match name {
            "plain" => Ok(Self::Plain),
            "kasan" => Ok(Self::Kasan),
            "kcsan" => Ok(Self::Kcsan),
            "rt" => Ok(Self::Rt),
            _ => Err("plain, kasan, kcsan or rt"),
        }
    }
}

impl Arch {
    /// All there are.
    pub const ALL: [Self; 3] = [Self::X86_64, Self::Arm64, Self::Uml];

    /// Its name in commands.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::X86_64 => "x86-64",
            Self::Arm64 => "arm64",
            Self::Uml => "uml",
        }
    }

    /// What its kernel's files are for.
    pub(crate) const fn processor(self) -> Architecture {
        match self {
            Self::X86_64 | Self::Uml => Architecture::X86_64,
            Self::Arm64 => Architecture::Aarch64,
        }
    }

    /// The end of a command that is about it.
    #[must_use]
    pub fn option(self) -> &'static str {
        match self {
            // As commands take it by themselves.
            Self::X86_64 => "",
            Self::Arm64 => " --arch arm64",
            Self::Uml => " --arch uml",
        }
    }
}

impl Kcov {
    fn name(self) -> &'static str {
        match self {
            Self::Rust => "rust",
            Self::C => "c",
        }
    }

    fn config(self) -> &'static str {
        match self {
            Self::Rust => "CONFIG_KCOV_RUST=y\n",
            Self::C => "CONFIG_KCOV_C=y\n",
        }
    }
}

impl Flavor {
    /// All there are.
    pub fn all() -> impl Iterator<Item = Self> {
        let checks = [Checks::Plain, Checks::Kasan, Checks::Kcsan, Checks::Rt];
        Arch::ALL.into_iter().flat_map(move |arch| {
            checks.into_iter().flat_map(move |checks| {
                [Kcov::Rust, Kcov::C].map(|kcov| Self { arch, kcov, checks })
            })
        })
    }

    /// Why there is no such kernel, if there is none.
    pub(crate) fn impossible(self) -> Option<&'static str> {
        match (self.arch, self.checks) {
            (Arch::Uml, Checks::Kcsan) => {
                Some("User Mode Linux cannot look for data races (KCSAN)")
            }
            (Arch::Uml, Checks::Rt) => {
                Some("User Mode Linux has no real-time preemption (PREEMPT_RT)")
            }
            _ => None,
        }
    }

    /// The build folder's name: both kcovs share one, and switching rebuilds what differs.
    #[must_use]
    pub fn build_name(self) -> String {
        let arch = self.arch.name();
        match self.checks {
            Checks::Plain => arch.to_owned(),
            Checks::Kasan => format!("{arch}-kasan"),
            Checks::Kcsan => format!("{arch}-kcsan"),
            Checks::Rt => format!("{arch}-rt"),
        }
    }

    /// The options on top of `tinyconfig`.
    #[must_use]
    pub fn config(self) -> String {
        let arch = match self.arch {
            Arch::X86_64 => include_str!("../kernel/configs/x86-64.config"),
            Arch::Arm64 => include_str!("../kernel/configs/arm64.config"),
            Arch::Uml => include_str!("../kernel/configs/uml.config"),
        };
        let qemu = match self.arch {
            Arch::X86_64 | Arch::Arm64 => include_str!("../kernel/configs/qemu.config"),
            Arch::Uml => "",
        };
        let kasan = include_str!("../kernel/configs/kasan.config");
        let checks = match (self.checks, self.arch) {
            (Checks::Plain, _) => ["", ""],
            (Checks::Kasan, Arch::X86_64 | Arch::Arm64) => {
                [kasan, include_str!("../kernel/configs/lockdep.config")]
            }
            (Checks::Kasan, Arch::Uml) => [kasan, ""],
            (Checks::Kcsan, _) => [include_str!("../kernel/configs/kcsan.config"), ""],
            (Checks::Rt, _) => [include_str!("../kernel/configs/rt.config"), ""],
        };
        // Debugging kernels are large and slow to build as it is: they have neither debug information nor hardware.
        let debug_info = match self.checks {
            Checks::Plain | Checks::Rt => include_str!("../kernel/configs/debug-info.config"),
            Checks::Kasan | Checks::Kcsan => "",
        };
        // A kernel with C's kcov panics in this test if the task is preempted in it, as it is in 7.3.
        let selftest = match self.kcov {
            Kcov::Rust => include_str!("../kernel/configs/selftest.config"),
            Kcov::C => "",
        };
        let clock = include_str!("../kernel/configs/clock.config");
        let hardware = include_str!("../kernel/configs/hardware.config");
        let (clients, bus) = (
            include_str!("../kernel/configs/hardware-usb.config"),
            include_str!("../kernel/configs/hardware-uml.config"),
        );
        let more = match (self.arch, self.checks) {
            (Arch::X86_64 | Arch::Arm64, Checks::Plain | Checks::Rt) => {
                [selftest, hardware, clients]
            }
            (Arch::X86_64 | Arch::Arm64, _) => [selftest, "", ""],
            (Arch::Uml, Checks::Plain) => [clock, hardware, bus],
            (Arch::Uml, _) => [selftest, "", ""],
        };
        let common = include_str!("../kernel/configs/common.config");
        [
            common,
            arch,
            qemu,
            &more.concat(),
            debug_info,
            &checks.concat(),
        ]
        .concat()
            + self.kcov.config()
    }
}

impl fmt::Display for Flavor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.build_name(), self.kcov.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kcovs_share_a_build_folder_but_not_an_image() {
        let rust = Flavor {
            arch: Arch::Uml,
            kcov: Kcov::Rust,
            checks: Checks::Plain,
        };
        let c = Flavor {
            kcov: Kcov::C,
            ..rust
        };
        assert_eq!(rust.build_name(), c.build_name());
        assert_eq!(
            (rust.to_string(), c.to_string()),
            ("uml-rust".into(), "uml-c".into())
        );
    }

    #[test]
    fn what_cannot_be_built_is_said() {
        let flavors: Vec<Flavor> = Flavor::all().filter(|f| f.impossible().is_some()).collect();
        let names: Vec<String> = flavors.iter().map(Flavor::to_string).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let not = ["uml-kcsan-rust", "uml-kcsan-c", "uml-rt-rust", "uml-rt-c"];
        assert_eq!(names, not);
    }

    #[test]
    fn no_configuration_says_two_things_of_one_option() {
        for arch in Arch::ALL {
            for checks in [Checks::Plain, Checks::Kasan, Checks::Kcsan, Checks::Rt] {
                let config = Flavor {
                    arch,
                    kcov: Kcov::Rust,
                    checks,
                }
                .config();
                let mut names: Vec<&str> = config
                    .lines()
                    .filter_map(|l| l.trim_start_matches("# ").strip_prefix("CONFIG_"))
                    .filter_map(|l| l.split(['=', ' ']).next())
                    .collect();
                let all = names.len();
                names.sort_unstable();
                names.dedup();
                assert_eq!(names.len(), all, "{arch:?} {checks:?}");
            }
        }
    }
}
