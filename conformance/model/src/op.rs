// SPDX-License-Identifier: MIT OR Apache-2.0
//! What can happen to a kcov.
//!
//! Names ([`Task`], [`File`], [`Map`]) are chosen by the history. A name that is in use cannot be
//! made again and one that is not in use cannot be used: both give [`Outcome::Absent`], on every
//! host, so that a history stays one when operations are taken out of it.
//!
//! [`Outcome::Absent`]: crate::Outcome::Absent

use std::collections::BTreeSet;

use rkcov_abi::{ioctl, Command, RemoteArg};

use crate::host::{Need, Outcome};

/// A task: `t0` is there from the beginning, in a process of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Task(pub u32);

/// An open file of the kcov device in one process: what C calls `fd`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct File(pub u32);

/// A mapping of a buffer in one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Map(pub u32);

impl From<u32> for Task {
    fn from(number: u32) -> Self {
        Self(number)
    }
}

impl From<u32> for File {
    fn from(number: u32) -> Self {
        Self(number)
    }
}

impl From<u32> for Map {
    fn from(number: u32) -> Self {
        Self(number)
    }
}

/// One operation of a history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// A task makes another one.
    Spawn {
        /// The parent.
        by: Task,
        /// In which process the child lives.
        how: Spawn,
        /// The child's name.
        child: Task,
    },
    /// A task ends by itself. A process whose last task ends, ends.
    End(Task),
    /// The task's process is killed, with all its tasks.
    Kill(Task),
    /// The task replaces its process's program; other tasks of the process end.
    Exec(Task),
    /// A task acts.
    Act(Task, Act),
    /// The task's next act meets an allocation failure: the `nth` allocation that the kcov makes
    /// for it, counted from 1, fails, if it makes so many.
    Fail {
        /// The task.
        task: Task,
        /// Which allocation.
        nth: u32,
    },
    /// The task starts to do all this, `rounds` times over, while the history goes on.
    Begin {
        /// The task. It takes no other operation until it is joined, ended or killed.
        task: Task,
        /// How often.
        rounds: u32,
        /// What it does in one round.
        acts: Vec<Act>,
    },
    /// Waits for what [`Op::Begin`] began. The outcome is the first one that failed, if any.
    Join(Task),
}

/// Where a new task lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spawn {
    /// In the parent's process, sharing its files and maps.
    Thread,
    /// In a process of its own, with copies of the parent's files and maps.
    Fork,
    /// In the kernel: a task without files that inherits nothing and only runs code.
    Kernel,
}

/// What a task can do by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// Opens the device.
    Open(File),
    /// Closes a file.
    Close(File),
    /// A call on a file.
    Ioctl(File, Call),
    /// The same from a 32-bit client.
    Ioctl32(File, Call),
    /// Maps the buffer.
    Map {
        /// Of which file.
        file: File,
        /// The mapping's name.
        map: Map,
        /// Length in bytes.
        len: u64,
        /// Offset in bytes.
        offset: u64,
        /// Whether the client may write to it.
        writable: bool,
    },
    /// Ends a mapping.
    Unmap(Map),
    /// Reads words of the buffer.
    Read {
        /// Through which mapping.
        map: Map,
        /// First word.
        first: u64,
        /// How many.
        count: u64,
    },
    /// Writes a word of the buffer, as any client may at any time.
    Poke {
        /// Through which mapping.
        map: Map,
        /// Which word.
        word: u64,
        /// What to write.
        value: u64,
    },
    /// Reads the count with acquire and looks at every PC below it: all must have been written.
    /// The outcome is the number of those that were not.
    Watch(Map),
    /// Runs code. If it asked for the common handle, the outcome is what it got, word by word.
    Run(Vec<Step>),
}

impl Op {
    /// What a host must have for this.
    #[must_use]
    pub fn needs(&self) -> BTreeSet<Need> {
        let mut needs = BTreeSet::new();
        match self {
            Self::Spawn { how, .. } => match how {
                Spawn::Thread => {}
                Spawn::Fork => drop(needs.insert(Need::Fork)),
                Spawn::Kernel => drop(needs.insert(Need::KernelThreads)),
            },
            Self::End(_) | Self::Join(_) => {}
            Self::Kill(_) => drop(needs.insert(Need::Kill)),
            Self::Exec(_) => drop(needs.insert(Need::Exec)),
            Self::Act(_, act) => act.needs(&mut needs),
            Self::Fail { .. } => drop(needs.insert(Need::Failures)),
            Self::Begin { acts, .. } => acts.iter().for_each(|act| act.needs(&mut needs)),
        }
        needs
    }
}

impl Act {
    fn needs(&self, needs: &mut BTreeSet<Need>) {
        match self {
            Self::Ioctl32(_, call) | Self::Ioctl(_, call) => {
                if matches!(self, Self::Ioctl32(..)) {
                    needs.insert(Need::Client32);
                }
                if let Call::Remote(call) = call {
                    if call.readable.is_some() {
                        needs.insert(Need::Faults);
                    }
                    if call.then.is_some() {
                        needs.insert(Need::Races);
                    }
                }
            }
            Self::Run(steps) => steps.iter().for_each(|step| step.needs(needs)),
            _ => {}
        }
    }

    /// Whether this outcome is a failure of the act, among [`Op::Begin`]'s rounds.
    #[must_use]
    pub fn failed(&self, outcome: &Outcome) -> bool {
        match self {
            Self::Watch(_) => *outcome != Outcome::Value(0),
            _ => matches!(outcome, Outcome::Failed(_) | Outcome::Absent),
        }
    }
}

/// A call on the device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// `KCOV_INIT_TRACE`: size in words.
    Init(u64),
    /// `KCOV_ENABLE`: mode.
    Enable(u64),
    /// `KCOV_DISABLE`: argument, 0 to be right.
    Disable(u64),
    /// `KCOV_REMOTE_ENABLE`.
    Remote(RemoteCall),
    /// `KCOV_UNIQUE_ENABLE`: words of the bitmap.
    Unique(u64),
    /// `KCOV_RESET_TRACE`: argument, 0 to be right.
    Reset(u64),
    /// Any number and argument. The argument is not a good pointer.
    Raw {
        /// The ioctl's number.
        number: u32,
        /// Its argument.
        arg: u64,
    },
}

impl Call {
    /// The command that this call is for; `None` for [`Call::Raw`], which may be any.
    #[must_use]
    pub const fn command(&self) -> Option<Command> {
        Some(match self {
            Self::Init(_) => Command::InitTrace,
            Self::Enable(_) => Command::Enable,
            Self::Disable(_) => Command::Disable,
            Self::Remote(_) => Command::RemoteEnable,
            Self::Unique(_) => Command::UniqueEnable,
            Self::Reset(_) => Command::ResetTrace,
            Self::Raw { .. } => return None,
        })
    }

    /// The number and the argument of the `ioctl()`, by a client of 32 bits or another. `remote` puts the argument
    /// of `KCOV_REMOTE_ENABLE` into memory, and answers where it is.
    pub fn request(&self, of_32_bits: bool, remote: impl FnOnce(&RemoteCall) -> u64) -> (u32, u64) {
        let argument = match self {
            Self::Raw { number, arg } => return (*number, *arg),
            Self::Remote(call) => remote(call),
            Self::Init(argument)
            | Self::Enable(argument)
            | Self::Disable(argument)
            | Self::Unique(argument)
            | Self::Reset(argument) => *argument,
        };
        let number = match self.command() {
            Some(Command::InitTrace) if of_32_bits => ioctl::KCOV_INIT_TRACE_32,
            command => command.map_or(0, Command::number),
        };
        (number, argument)
    }
}

/// The argument of `KCOV_REMOTE_ENABLE`, honest or not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RemoteCall {
    /// `trace_mode`.
    pub mode: u32,
    /// `area_size`, in words.
    pub area: u32,
    /// `common_handle`.
    pub common: u64,
    /// `handles[]` as they stand in memory.
    pub handles: Vec<u64>,
    /// `num_handles`, if it is not the number of handles that stand there.
    pub claim: Option<u32>,
    /// What `num_handles` changes to after it has been read once.
    pub then: Option<u32>,
    /// How many bytes of the argument can be read, if not all.
    pub readable: Option<u64>,
}

impl RemoteCall {
    /// `num_handles` as it is read first.
    #[must_use]
    pub fn num_handles(&self) -> u32 {
        self.claim
            .unwrap_or_else(|| u32::try_from(self.handles.len()).unwrap_or(u32::MAX))
    }

    /// The argument as it lies in the client's memory, all of it.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let head = RemoteArg {
            trace_mode: self.mode,
            area_size: self.area,
            num_handles: self.num_handles(),
            padding: 0,
            common_handle: self.common,
        };
        let words = head.words_with(self.handles.iter().copied());
        words.flat_map(u64::to_ne_bytes).collect()
    }

    /// Bytes of the argument that can be read.
    #[must_use]
    pub fn readable_bytes(&self) -> u64 {
        let whole = 24 + 8 * self.handles.len() as u64;
        self.readable.map_or(whole, |bytes| bytes.min(whole))
    }
}

/// A piece of code that a task runs.
///
/// Known code is made of *markers*: places that call a callback, numbered from 0. A host says
/// with [`Host::pc`](crate::Host::pc) which PC each of them records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// `kcov_remote_start(handle)`.
    Start(u64),
    /// `kcov_remote_stop()`.
    Stop,
    /// Runs `count` markers, from `first` on.
    Pcs {
        /// The first marker.
        first: u32,
        /// How many.
        count: u32,
    },
    /// A comparison.
    Compare {
        /// Operands have `1 << log2` bytes.
        log2: u8,
        /// Whether the first operand is a constant of the program.
        constant: bool,
        /// First operand.
        arg1: u64,
        /// Second operand.
        arg2: u64,
    },
    /// A switch.
    Switch {
        /// Bits of the value. 8, 16, 32 or 64 to be right.
        bits: u64,
        /// The value.
        value: u64,
        /// The cases.
        cases: Vec<u64>,
    },
    /// `kcov_common_handle()`.
    CommonHandle,
    /// An interrupt of this kind comes, runs this, and is over.
    Interrupt(Context, Vec<Step>),
}

impl Step {
    fn needs(&self, needs: &mut BTreeSet<Need>) {
        match self {
            Self::Start(_) | Self::Stop | Self::CommonHandle => needs.insert(Need::Sections),
            Self::Pcs { .. } => needs.insert(Need::Markers),
            Self::Compare { .. } | Self::Switch { .. } => needs.insert(Need::Comparisons),
            Self::Interrupt(context, steps) => {
                steps.iter().for_each(|step| step.needs(needs));
                needs.insert((*context).into())
            }
        };
    }
}

/// What may interrupt a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Context {
    /// A softirq, in the kernel.
    Softirq,
    /// A hardware interrupt, in the kernel.
    Hardirq,
    /// A signal handler, in userspace. To kcov it is the task itself.
    Signal,
}

impl Context {
    /// The word for it in scripts.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Softirq => "softirq",
            Self::Hardirq => "hardirq",
            Self::Signal => "signal",
        }
    }
}
