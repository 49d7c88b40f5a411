// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a guest is to do, as the host writes it and the guest reads it, and the names of what the
//! guest answers.

use crate::share::Share;
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// Where the guest finds its job.
pub const JOB: &str = "/job";
/// Where the guest finds the program that it starts with.
pub const INIT: &str = "/rkcov";

/// What the host tells a guest that runs: entries of these names.
pub mod told {
    /// A piece of the program's standard input.
    pub const INPUT: &str = "input";
    /// The input has no more.
    pub const END: &str = "end";
    /// The terminal has a new size: its rows and its columns, two bytes each, little-endian.
    pub const SIZE: &str = "size";
}

/// What the guest answers: entries of these names, in the order in which things happen.
pub mod answer {
    /// The first process runs. This comes first.
    pub const BEGUN: &str = "begun";
    /// The kernel's modules: [`Modules`](crate::Modules). If there is coverage, once before the program runs and once
    /// after its end.
    pub const MODULES: &str = "modules";
    /// The guest takes input from now on.
    pub const READY: &str = "ready";
    /// A piece of the program's standard output.
    pub const STDOUT: &str = "stdout";
    /// A piece of the program's standard error.
    pub const STDERR: &str = "stderr";
    /// What one task had recorded: a [`Coverage`](super::Coverage).
    pub const COVERAGE: &str = "coverage";
    /// How many tasks could not be recorded, in decimal.
    pub const MISSED: &str = "missed";
    /// The program's exit status in decimal; 128 more than the signal that killed it.
    pub const STATUS: &str = "status";
    /// Why the guest could not do its job.
    pub const ERROR: &str = "error";
}

/// What a program in a guest has for its standard input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Input {
    /// `/dev/null`.
    #[default]
    Nothing,
    /// A pipe, with what this process reads from its own.
    Pipe,
    /// A terminal, which is also its standard output and error. This process's standard input must be one too, and
    /// is in raw mode meanwhile.
    Terminal,
}

impl Input {
    const ALL: [Self; 3] = [Self::Nothing, Self::Pipe, Self::Terminal];

    fn name(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Pipe => "pipe",
            Self::Terminal => "terminal",
        }
    }
}

/// A program to run in a guest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Job {
    /// The program, by an absolute path, and its arguments.
    pub command: Vec<OsString>,
    /// Collect the kernel's coverage for the program, for its first task into a buffer of so many
    /// words.
    pub collect: Option<u32>,
    /// What it reads.
    pub input: Input,
    /// Variables for it, `NAME=VALUE`, besides those that every program in a guest has.
    pub environment: Vec<OsString>,
    /// Where it starts; `None` is the top folder.
    pub directory: Option<PathBuf>,
    /// The host's folders that the guest has.
    pub shares: Vec<Share>,
    /// Modules of the kernel that are loaded before, by their paths in the guest, in this order.
    pub modules: Vec<PathBuf>,
    /// The build id that the kernel must have, as digits.
    pub kernel: Option<OsString>,
}

impl Job {
    /// Strings, each with a 0 behind it: the words to collect (0 is nothing), the input, the folder (or nothing), the
    /// number of variables and the variables, the number of shares and three strings for each, the number of modules and
    /// the modules, the kernel (or nothing), the command.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let mut add = |part: &[u8]| {
            out.extend_from_slice(part);
            out.push(0);
        };
        add(self.collect.unwrap_or(0).to_string().as_bytes());
        add(self.input.name().as_bytes());
        let directory = self.directory.as_deref().unwrap_or(Path::new(""));
        add(directory.as_os_str().as_bytes());
        add(self.environment.len().to_string().as_bytes());
        self.environment.iter().for_each(|v| add(v.as_bytes()));
        add(self.shares.len().to_string().as_bytes());
        for share in &self.shares {
            add(share.folder.as_os_str().as_bytes());
            add(share.at.as_os_str().as_bytes());
            add(if share.read_only { b"ro" } else { b"rw" });
        }
        add(self.modules.len().to_string().as_bytes());
        let modules = self.modules.iter();
        modules.for_each(|module| add(module.as_os_str().as_bytes()));
        add(self.kernel.as_deref().unwrap_or_default().as_bytes());
        self.command.iter().for_each(|word| add(word.as_bytes()));
        out
    }

    /// The job that [`Job::encode`] wrote.
    pub(crate) fn decode(data: &[u8]) -> Option<Self> {
        let mut parts = data
            .strip_suffix(b"\0")?
            .split(|b| *b == 0)
            .map(|part| OsString::from_vec(part.to_vec()));
        let mut next = || parts.next();
        let number = |text: Option<OsString>| text?.to_str()?.parse::<u32>().ok();
        let words = number(next())?;
        let input = next()?;
        let input = Input::ALL.into_iter().find(|i| input == i.name())?;
        let directory = Some(next()?).filter(|folder| !folder.is_empty());
        let variables = number(next())?;
        let environment = (0..variables).map(|_| next()).collect::<Option<_>>()?;
        let shares = (0..number(next())?)
            .map(|_| {
                Some(Share {
                    folder: next()?.into(),
                    at: next()?.into(),
                    read_only: next()? == "ro",
                })
            })
            .collect::<Option<_>>()?;
        let modules = number(next())?;
        let modules = (0..modules).map(|_| next().map(PathBuf::from));
        let modules = modules.collect::<Option<_>>()?;
        let kernel = Some(next()?).filter(|id| !id.is_empty());
        Some(Self {
            command: parts.collect(),
            collect: (words > 0).then_some(words),
            input,
            environment,
            directory: directory.map(PathBuf::from),
            shares,
            modules,
            kernel,
        })
    }
}

/// What the kernel recorded of one task.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    /// The process.
    pub process: u32,
    /// The task.
    pub task: u32,
    /// Whether it is the program's first task.
    pub first: bool,
    /// Whether it had ended.
    pub finished: bool,
    /// Records for which there was room.
    pub capacity: u64,
    /// The buffer: the count word and the records.
    pub words: Vec<u64>,
}

impl Coverage {
    /// Numbers of eight bytes, little-endian.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let head = [
            self.process.into(),
            self.task.into(),
            self.first.into(),
            self.finished.into(),
            self.capacity,
        ];
        let numbers = head.iter().chain(&self.words);
        numbers.flat_map(|n| n.to_le_bytes()).collect()
    }

    /// What `encode()` wrote.
    #[must_use]
    pub fn decode(data: &[u8]) -> Option<Self> {
        let number = |bytes: &[u8]| bytes.try_into().map_or(0, u64::from_le_bytes);
        let mut numbers = data.chunks_exact(8).map(number);
        Some(Self {
            process: numbers.next()?.try_into().ok()?,
            task: numbers.next()?.try_into().ok()?,
            first: numbers.next()? != 0,
            finished: numbers.next()? != 0,
            capacity: numbers.next()?,
            words: numbers.collect(),
        })
    }

    /// The recorded PCs.
    #[must_use]
    pub fn records(&self) -> &[u64] {
        self.words.split_first().map_or(&[], |(_, records)| records)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_arrives_as_it_was_sent() {
        for collect in [None, Some(64)] {
            let job = Job {
                command: ["/bin/x", "", "a b\n"].map(OsString::from).into(),
                collect,
                ..Job::default()
            };
            assert_eq!(Job::decode(&job.encode()), Some(job));
        }
        let share = |at: &str, read_only| Share {
            folder: "/here".into(),
            at: at.into(),
            read_only,
        };
        for input in Input::ALL {
            let job = Job {
                command: vec!["/bin/x".into()],
                collect: None,
                input,
                environment: vec!["TERM=x y".into(), "A=".into()],
                directory: Some("/somewhere".into()),
                shares: vec![share("/there", true), share("/where", false)],
                modules: vec!["/a/b.ko".into(), "/c.ko".into()],
                kernel: Some("0a1b".into()),
            };
            assert_eq!(Job::decode(&job.encode()), Some(job));
        }
        // Of fields that a line has in words.
        for bad in [
            "",
            "1",
            "x pipe  0 0 0 ",
            "0 fire  0 0 0 ",
            "0 pipe  1 A=b 1 /a",
            "0 pipe  0 0 1",
            "0 pipe  0 0 0",
        ] {
            let mut bad = bad.replace(' ', "\0").into_bytes();
            bad.push(0);
            assert_eq!(Job::decode(&bad), None);
        }
        let job = b"0\0pipe\0\0";
        assert_eq!(Job::decode(job), None);
    }

    #[test]
    fn coverage_arrives_as_it_was_recorded() {
        let coverage = Coverage {
            process: 30,
            task: 31,
            first: false,
            finished: true,
            capacity: 511,
            words: vec![2, 0xffff_ffff_8100_0000, 7],
        };
        assert_eq!(coverage.records(), [0xffff_ffff_8100_0000, 7]);
        let data = coverage.encode();
        assert_eq!(Coverage::decode(&data), Some(coverage));
        assert_eq!(Coverage::decode(&data[..32]), None);
    }
}
