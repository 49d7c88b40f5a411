// SPDX-License-Identifier: MIT OR Apache-2.0
//! `rkcov run`: runs a program and records what it runs.

use crate::cmd::report::{self, Format};
use crate::collect::{self, Totals};
use crate::error::{self, Error};
use clap::ValueEnum;
use rkcov::collector::{Collector, Losses, Options, Recording, MOST_BUFFER_WORDS};
use rkcov::program;
use rkcov_report::trace::{Info, Writer};
use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::str::FromStr;

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

/// A report to write when the program has ended: `FORMAT` or `FORMAT=PATH`.
#[derive(Clone, Debug)]
struct Report {
    format: Format,
    path: Option<PathBuf>,
}

impl FromStr for Report {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (format, path) = match text.split_once('=') {
            Some((format, path)) => (format, Some(path.into())),
            None => (text, None),
        };
        let format = Format::from_str(format, false)?;
        Ok(Self { format, path })
    }
}

/// The arguments of `rkcov run`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What to record
    #[arg(long, value_enum, default_value = "unique")]
    mode: Mode,
    /// The trace file to write [default: the program's name with .rkcov, in this folder]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Report at the end, as `rkcov report` does: text, lcov or pcs, to PATH or to standard output
    #[arg(long, value_name = "FORMAT[=PATH]")]
    report: Vec<Report>,
    /// Words of 8 bytes in each thread's buffer; memory is taken as it fills
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(2..=i64::from(MOST_BUFFER_WORDS)))]
    buffer_words: Option<u32>,
    /// The program and its arguments
    #[arg(required = true, trailing_var_arg = true, value_name = "PROGRAM")]
    command: Vec<OsString>,
}

/// Runs the program and gives its exit status.
///
/// # Errors
/// The program cannot be started, or the trace cannot be written.
pub fn run(args: &Args) -> Result<ExitCode, Error> {
    let Some((program, arguments)) = args.command.split_first() else {
        return Ok(ExitCode::SUCCESS);
    };
    let output = match &args.output {
        Some(path) => path.clone(),
        None => default_output(program),
    };
    let failed = |source| Error::Trace {
        path: output.clone(),
        source,
    };
    let mut info = Info::new(collect::mode_of(args.mode.recording()));
    info.command.clone_from(&args.command);
    info.directory = std::env::current_dir().unwrap_or_default();
    let mut writer = Writer::create(&output, &info).map_err(failed)?;

    let mut collector = Collector::new(Options {
        recording: args.mode.recording(),
        buffer_words: args.buffer_words.unwrap_or(args.mode.buffer_words()),
    })
    .map_err(Error::Memory)?;
    let (name, value) = collector.environment();
    let mut command = Command::new(program);
    command.args(arguments).env(name, value);
    let mut relief = true;
    let ended = program::run(&mut command, || {
        if relief {
            // It says nothing to the program's user, in the middle of the program's output.
            relief = collector.relieve().is_ok();
        }
    })
    .map_err(|source| Error::Program {
        program: program.clone(),
        source,
    })?;
    collector.close();

    let totals = collect::write(&collector, &mut writer, ended).map_err(failed)?;
    writer.save().map_err(failed)?;
    eprint!("{}", summary(args, &output, totals, collector.losses()));
    drop(collector);

    let mut status = ExitCode::from(ended.1.shell_status());
    for Report { format, path } in &args.report {
        if let Err(error) = report::plain(&output, *format, path.clone()) {
            // What the program says of itself is worth more.
            if ended.1 == program::Outcome::Exited(0) {
                status = ExitCode::FAILURE;
            }
            eprintln!("rkcov: {}", error::Chain(&error));
        }
    }
    Ok(status)
}

fn default_output(program: &OsStr) -> PathBuf {
    let mut name = Path::new(program)
        .file_name()
        .unwrap_or(OsStr::new("program"))
        .to_owned();
    name.push(".rkcov");
    name.into()
}

/// What a person should know at the end.
fn summary(args: &Args, output: &Path, totals: Totals, losses: Losses) -> String {
    let mut text = String::new();
    let mut line = |args: std::fmt::Arguments<'_>| {
        let _ = writeln!(text, "rkcov: {args}");
    };
    let program = Path::new(args.command.first().map_or(OsStr::new(""), |p| p)).display();
    if let Some((processes, version)) = losses.strangers {
        line(format_args!(
            "{} not recorded: built with another version of rkcov (interface {version})",
            count(processes, "process", "processes")
        ));
    }
    if totals.processes == 0 && losses.strangers.is_none() {
        line(format_args!(
            "{program} is not instrumented, and neither is any program that it ran; \
             build it with CC=\"rkcov cc\""
        ));
    } else if totals.threads == 0 && losses.strangers.is_none() {
        line(format_args!(
            "{program} has the runtime, but ran no instrumented code"
        ));
    }
    let what = match args.mode {
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

fn count(n: u64, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}
