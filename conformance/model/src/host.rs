// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a kcov must be able to do to be told a history.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use rkcov_abi::Errno;

use crate::op::{Context, File, Op, Task};

/// A kcov, with the tasks that use it, as a history sees it.
///
/// A new one is made for each history; it has the one task `t0`, without files.
pub trait Host {
    /// What kind of kcov this is.
    fn traits(&self) -> &Traits;

    /// Makes `op` happen.
    ///
    /// # Errors
    /// [`Trouble`], if it could not be made to happen. What the kcov itself refuses is an
    /// [`Outcome`].
    fn apply(&mut self, op: &Op) -> Result<Outcome, Trouble>;

    /// The PC that `site` records.
    fn pc(&self, site: Site) -> u64;

    /// What the descriptor of this file dropped so far. A host without a channel for that lacks
    /// [`Need::Drops`].
    ///
    /// # Errors
    /// As for [`Host::apply`].
    fn drops(&mut self, task: Task, file: File) -> Result<Drops, Trouble>;

    /// How many warnings the kcov gave so far, or [`Need::Warnings`].
    ///
    /// # Errors
    /// As for [`Host::apply`].
    fn warnings(&mut self) -> Result<u64, Trouble>;

    /// What the kcov holds in memory on behalf of clients, in a unit of the host's own, or
    /// [`Need::Memory`]. Equal before and after means that nothing leaked.
    ///
    /// # Errors
    /// As for [`Host::apply`].
    fn memory(&mut self) -> Result<u64, Trouble>;

    /// Whether the `nth` allocation of the last [`Op::Fail`] was reached, and failed.
    ///
    /// # Errors
    /// As for [`Host::apply`].
    fn failed(&mut self) -> Result<bool, Trouble>;
}

/// A place in known code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Site {
    /// The marker with this number.
    Marker(u32),
    /// The comparison of this size and constness.
    Compare {
        /// log2 of the size in bytes.
        log2: u8,
        /// Whether its first operand is constant.
        constant: bool,
    },
    /// The switch over this many bits.
    Switch {
        /// Bits of the value.
        bits: u64,
    },
}

impl Site {
    /// The PC that simulated hosts, the model among them, give to this site.
    #[must_use]
    pub fn simulated_pc(self) -> u64 {
        0x40_0000
            + match self {
                Self::Marker(n) => 0x1_0000 + 16 * u64::from(n),
                Self::Compare { log2, constant } => {
                    0x100 + 16 * (2 * u64::from(log2) + u64::from(constant))
                }
                Self::Switch { bits } => 0x200 + bits,
            }
    }
}

/// What happens when a section starts inside a section, or inside local collection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Nesting {
    /// The outer one is suspended until the inner one stops: userspace.
    Suspend,
    /// The inner one is refused, with a warning; but a softirq may interrupt: the kernel.
    Refuse,
}

/// What kind of kcov a host is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Traits {
    /// What it is called: `--host NAME`.
    pub name: String,
    /// How sections nest.
    pub nesting: Nesting,
    /// Whether comparisons are built in.
    pub comparisons: bool,
    /// Whether unique mode is built in.
    pub unique: bool,
    /// Whether only known code is recorded. In a kernel, local collection also records the system
    /// calls around it, so exact counts can be told from sections only.
    pub exact: bool,
    /// How many different markers there are.
    pub markers: u32,
    /// The index of the first marker in unique mode's bitmap; the others follow it.
    pub first_index: u64,
    /// Words of the area of a softirq's section.
    pub softirq_area: u32,
    /// How many softirqs can be in a section at once.
    pub softirq_areas: u32,
    /// How much [`Host::memory`] varies by itself.
    pub memory_noise: u64,
    /// How long a case may go on repeating itself, where that takes much longer than in a process.
    /// It still plays the least number of rounds that shows something, and says how many it played.
    pub patience: Option<Duration>,
    /// What this host does not have, and why.
    pub lacks: BTreeMap<Need, String>,
}

impl Traits {
    /// A host's traits, which has everything but these.
    #[must_use]
    pub fn lacking(mut self, needs: &[Need], why: &str) -> Self {
        for need in needs {
            self.lacks.insert(*need, why.into());
        }
        self
    }

    /// A simulated userspace process.
    #[must_use]
    pub fn userspace(name: &str) -> Self {
        Self {
            name: name.into(),
            nesting: Nesting::Suspend,
            comparisons: true,
            unique: true,
            exact: true,
            markers: 1 << 16,
            first_index: 0,
            softirq_area: 0,
            softirq_areas: 0,
            memory_noise: 0,
            patience: None,
            lacks: BTreeMap::new(),
        }
        .lacking(
            &Need::KERNEL,
            "a process has no interrupts and no kernel threads",
        )
        .lacking(&[Need::Refusal], "sections suspend each other")
        .lacking(&Need::REALITY, "tasks are played in one thread")
    }

    /// A simulated kernel.
    #[must_use]
    pub fn kernel(name: &str) -> Self {
        Self {
            name: name.into(),
            nesting: Nesting::Refuse,
            comparisons: true,
            unique: true,
            exact: true,
            markers: 1 << 16,
            first_index: 0,
            softirq_area: 0x40000,
            softirq_areas: 2,
            memory_noise: 0,
            patience: None,
            lacks: BTreeMap::new(),
        }
        .lacking(&[Need::Signal], "a signal is nothing to a kernel's kcov")
        .lacking(&[Need::Nesting], "sections in each other are refused")
        .lacking(&Need::REALITY, "tasks are played in one thread")
    }
}

/// What the kcov said to an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was done.
    Done,
    /// It failed with this error number.
    Failed(i32),
    /// A number came back.
    Value(u64),
    /// Words came back.
    Words(Vec<u64>),
    /// The history spoke of something that is not there, or made again something that is; nothing
    /// happened.
    Absent,
}

impl From<Errno> for Outcome {
    fn from(errno: Errno) -> Self {
        Self::Failed(errno.raw())
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done => f.write_str("ok"),
            Self::Failed(raw) => match Errno::from_raw(*raw) {
                Some(errno) => write!(f, "{errno}"),
                None => write!(f, "errno {raw}"),
            },
            Self::Value(value) => write!(f, "{value:#x}"),
            Self::Words(words) => {
                let words: Vec<String> = words.iter().map(|w| format!("{w:#x}")).collect();
                f.write_str(&words.join(" "))
            }
            Self::Absent => f.write_str("absent"),
        }
    }
}

/// Records that a descriptor lost, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drops {
    /// Records for which a buffer or an area had no room.
    pub full: u64,
    /// Records of sections whose descriptor was disabled, or enabled anew, before they stopped.
    pub stale: u64,
    /// Sections that got no area.
    pub no_area: u64,
}

/// What a history may ask for that not every host has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Need {
    /// Softirqs.
    Softirq,
    /// Hardware interrupts.
    Hardirq,
    /// Signal handlers.
    Signal,
    /// Annotated code that the history can run: `kcov_remote_start()` and what goes with it.
    Sections,
    /// Code that records known PCs.
    Markers,
    /// Code that makes known comparisons.
    Comparisons,
    /// Unique mode.
    Unique,
    /// New processes that share open files.
    Fork,
    /// One kcov for all processes, also for one that knew nothing of the buffer when it was forked.
    Strangers,
    /// Tasks of the kernel's own.
    KernelThreads,
    /// Another program in the same task.
    Exec,
    /// Killing a process.
    Kill,
    /// Calls as a 32-bit client makes them.
    Client32,
    /// Arguments that cannot be read.
    Faults,
    /// An argument that changes while it is read.
    Races,
    /// Allocation failures on demand.
    Failures,
    /// Tasks that really run at the same time.
    Parallel,
    /// Counters of dropped records.
    Drops,
    /// A count of warnings.
    Warnings,
    /// A measure of the memory in use.
    Memory,
    /// Read-only mappings that the machine enforces.
    ReadOnly,
    /// Local collection that records nothing but known code.
    Exact,
    /// Sections that nest.
    Nesting,
    /// Sections that are refused inside each other.
    Refusal,
    /// Real devices and buses.
    Hardware,
    /// The programs of the kernel's documentation, compiled.
    Programs,
}

impl Need {
    /// Every one.
    pub const ALL: [Self; 26] = [
        Self::Softirq,
        Self::Hardirq,
        Self::Signal,
        Self::Sections,
        Self::Markers,
        Self::Comparisons,
        Self::Unique,
        Self::Fork,
        Self::Strangers,
        Self::KernelThreads,
        Self::Exec,
        Self::Kill,
        Self::Client32,
        Self::Faults,
        Self::Races,
        Self::Failures,
        Self::Parallel,
        Self::Drops,
        Self::Warnings,
        Self::Memory,
        Self::ReadOnly,
        Self::Exact,
        Self::Nesting,
        Self::Refusal,
        Self::Hardware,
        Self::Programs,
    ];

    /// What only kernels have.
    pub const KERNEL: [Self; 3] = [Self::Softirq, Self::Hardirq, Self::KernelThreads];

    /// What only real machines have.
    pub const REALITY: [Self; 4] = [
        Self::Parallel,
        Self::ReadOnly,
        Self::Hardware,
        Self::Programs,
    ];

    /// Its name in reports.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Softirq => "softirq",
            Self::Hardirq => "hardirq",
            Self::Signal => "signal",
            Self::Sections => "sections",
            Self::Markers => "markers",
            Self::Comparisons => "comparisons",
            Self::Unique => "unique",
            Self::Fork => "fork",
            Self::Strangers => "strangers",
            Self::KernelThreads => "kernel-threads",
            Self::Exec => "exec",
            Self::Kill => "kill",
            Self::Client32 => "client32",
            Self::Faults => "faults",
            Self::Races => "races",
            Self::Failures => "failures",
            Self::Parallel => "parallel",
            Self::Drops => "drops",
            Self::Warnings => "warnings",
            Self::Memory => "memory",
            Self::ReadOnly => "read-only",
            Self::Exact => "exact",
            Self::Nesting => "nesting",
            Self::Refusal => "refusal",
            Self::Hardware => "hardware",
            Self::Programs => "programs",
        }
    }
}

impl From<Context> for Need {
    fn from(context: Context) -> Self {
        match context {
            Context::Softirq => Self::Softirq,
            Context::Hardirq => Self::Hardirq,
            Context::Signal => Self::Signal,
        }
    }
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// Why an operation could not be made to happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// This host does not have it. The sentence says why.
    Lacks(Need, String),
    /// The host failed: a task that died, a protocol that was broken.
    Broken(String),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lacks(need, why) => write!(f, "lacks {need}: {why}"),
            Self::Broken(why) => write!(f, "broken: {why}"),
        }
    }
}

impl std::error::Error for Trouble {}
