// SPDX-License-Identifier: MIT OR Apache-2.0
//! Runs a program with a collector at its side, and writes what it recorded into a trace file.

use crate::collect::{self, Totals};
use crate::error::Error;
use clap::ValueEnum;
use rkcov::collector::{Collector, Losses, Options, Recording, MOST_BUFFER_WORDS};
use rkcov::program::{self, Outcome};
use rkcov_report::trace::{Info, Writer};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What to record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// Each PC once for each thread
    Unique,
    /// Every PC, in the order in which each thread ran them
    Trace,
    /// The operands of comparisons (for programs built with trace-cmp)
    Cmp,
}

impl Mode {
    fn recording(self) -> Recording {
        match self {
            Self::Unique => Recording::Unique,
            Self::Trace => Recording::Trace,
            Self::Cmp => Recording::Cmp,
        }
    }

    /// Words of a thread's buffer if nobody says otherwise: 32 MiB, or 256 MiB where the same
    /// place is recorded again and again.
    fn buffer_words(self) -> u32 {
        match self {
            Self::Unique => 1 << 22,
            Self::Trace | Self::Cmp => 1 << 25,
        }
    }
}

/// What to record, and how much of it.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct What {
    /// What to record
    #[arg(long, value_enum, default_value = "unique")]
    pub mode: Mode,
    /// Words of 8 bytes in each thread's buffer; memory is taken as it fills
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(2..=i64::from(MOST_BUFFER_WORDS)))]
    pub buffer_words: Option<u32>,
}

/// A program that was run to its end, and its trace.
#[derive(Clone, Copy, Debug)]
pub struct Recorded {
    /// How the program ended.
    pub outcome: Outcome,
    mode: Mode,
    totals: Totals,
    losses: Losses,
}

/// Whether there is anything in a trace, and if not, why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// Threads recorded.
    Coverage,
    /// No process has a runtime that could say so.
    NoInstrumentation,
    /// Only processes that could not map the memory to record into.
    Refused,
    /// A process has the runtime, but no thread of it ran instrumented code.
    NothingRan,
    /// Only processes with another version of the runtime.
    Strangers,
}

/// Runs `command` and writes the trace file `output`. `directory` is what the paths in reports are
/// relative to. Of the `programs` all is in the report, although none of them may have run.
///
/// # Errors
/// The program cannot be started, or the trace cannot be written.
pub fn record(
    command: &mut Command,
    what: What,
    output: &Path,
    directory: PathBuf,
    programs: &[PathBuf],
) -> Result<Recorded, Error> {
    program::limits_are_errors();
    let failed = |source| Error::Trace {
        path: output.to_owned(),
        source,
    };
    let mut info = Info::new(collect::mode_of(what.mode.recording()));
    info.command = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(Into::into)
        .collect();
    info.directory = directory;
    let mut writer = Writer::create(output, &info).map_err(failed)?;

    let mut collector = Collector::new(Options {
        recording: what.mode.recording(),
        buffer_words: what.buffer_words.unwrap_or(what.mode.buffer_words()),
    })
    .map_err(Error::Memory)?;
    let (name, value) = collector.environment();
    let mut relief = true;
    let ended = program::run(command.env(name, value), || {
        if relief {
            // It says nothing to the program's user, in the middle of the program's output.
            relief = collector.relieve().is_ok();
        }
    })
    .map_err(|source| Error::Program {
        program: command.get_program().to_owned(),
        source,
    })?;
    collector.close();

    let lost = |source| Error::Lost {
        path: output.to_owned(),
        outcome: ended.1,
        source,
    };
    let totals = collect::write(&collector, &mut writer, ended).map_err(lost)?;
    for path in programs {
        collect::write_program(path, &mut writer).map_err(lost)?;
    }
    writer.save().map_err(lost)?;
    Ok(Recorded {
        outcome: ended.1,
        mode: what.mode,
        totals,
        losses: collector.losses(),
    })
}

impl Recorded {
    /// Whether there is anything in the trace.
    #[must_use]
    pub fn found(&self) -> Found {
        match (self.totals.threads, self.totals.processes) {
            (1.., _) => Found::Coverage,
            _ if self.losses.strangers.is_some() => Found::Strangers,
            (0, 0) if self.losses.refused > 0 => Found::Refused,
            (0, 0) => Found::NoInstrumentation,
            (0, _) => Found::NothingRan,
        }
    }

    /// What was recorded into the file `output`, and what was lost: lines for a person.
    #[must_use]
    pub fn summary(&self, output: &Path) -> String {
        let Self { totals, losses, .. } = self;
        let mut text = String::new();
        let mut line = |args: std::fmt::Arguments<'_>| {
            let _ = writeln!(text, "rkcov: {args}");
        };
        if let Some((processes, version)) = losses.strangers {
            line(format_args!(
                "{} not recorded: built with another version of rkcov (interface {version}, \
                 this one has {}); build again with this one",
                count(processes, "process", "processes"),
                rkcov::collector::VERSION,
            ));
        }
        if losses.refused > 0 {
            line(format_args!(
                "{} not recorded: instrumented, but without room to map rkcov's memory (`ulimit -v`)",
                count(losses.refused.into(), "process", "processes"),
            ));
        }
        let what = match self.mode {
            Mode::Cmp => count(totals.records, "comparison", "comparisons"),
            Mode::Unique | Mode::Trace => count(totals.records, "PC", "PCs"),
        };
        line(format_args!(
            "{what} from {} of {} in {}",
            count(totals.threads as u64, "thread", "threads"),
            count(totals.processes as u64, "process", "processes"),
            output.display(),
        ));
        if totals.dropped > 0 {
            line(format_args!(
                "{} lost: a thread's buffer was full; more fit with --buffer-words",
                count(totals.dropped, "record", "records")
            ));
        }
        if losses.threads_without_slot > 0 {
            line(format_args!(
                "{} and {} lost: there was no room for more threads",
                count(losses.threads_without_slot.into(), "thread", "threads"),
                count(losses.records_without_slot, "record", "records"),
            ));
        }
        text
    }
}

fn count(n: u64, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}
