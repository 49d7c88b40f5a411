// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a guest is to do, as the host writes it and the guest reads it, and the names of what the
//! guest answers.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// Where the guest finds its job.
pub const JOB: &str = "/job";
/// Where the guest finds the program that it starts with.
pub const INIT: &str = "/rkcov";

/// What the guest answers: entries of these names, in the order in which things happen.
pub mod answer {
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

/// A program to run in a guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// The program, by an absolute path, and its arguments.
    pub command: Vec<OsString>,
    /// Collect the kernel's coverage for the program, for its first task into a buffer of so many
    /// words.
    pub collect: Option<u32>,
}

impl Job {
    /// `WORDS\0PROGRAM\0ARGUMENT\0...`, where 0 words collect nothing.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = self.collect.unwrap_or(0).to_string().into_bytes();
        out.push(0);
        for argument in &self.command {
            out.extend_from_slice(argument.as_bytes());
            out.push(0);
        }
        out
    }

    /// The job that [`Job::encode`] wrote.
    pub(crate) fn decode(data: &[u8]) -> Option<Self> {
        let mut parts = data.strip_suffix(b"\0")?.split(|b| *b == 0);
        let words: u32 = std::str::from_utf8(parts.next()?).ok()?.parse().ok()?;
        let command = parts.map(|p| OsString::from_vec(p.to_vec())).collect();
        Some(Self {
            command,
            collect: (words > 0).then_some(words),
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
            };
            assert_eq!(Job::decode(&job.encode()), Some(job));
        }
        for bad in [&b""[..], b"1", b"x\0a\0"] {
            assert_eq!(Job::decode(bad), None);
        }
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
