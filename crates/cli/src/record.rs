// SPDX-License-Identifier: MIT OR Apache-2.0
//! Runs a program with a collector at its side, and writes what it recorded into a trace file.

use crate::collect::{self, Totals, Until};
use crate::each;
use crate::error::Error;
use crate::live::Server;
use clap::ValueEnum;
use rkcov::collector::{Bounds, Collector, Options, Process, Recording, MOST_BUFFER_WORDS};
use rkcov::program::{self, Outcome};
use rkcov_report::contexts::ended_early;
use rkcov_report::trace::{self, ContextKind, DropReason, Info, Writer};
use std::cell::RefCell;
use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, BufWriter};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::str::FromStr;
use std::time::Duration;

/// What to record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// Each PC once for each thread
    Unique,
    /// Every PC, in the order in which each thread ran it
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
    /// Words of 8 bytes in each thread's buffer; only used words take memory
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(2..=i64::from(MOST_BUFFER_WORDS)))]
    pub buffer_words: Option<u32>,
    /// Tell the tests of libtest apart: each thread's work is a test's.
    #[arg(skip)]
    pub per_test: bool,
    /// After the program has ended, wait up to SECONDS for its child processes; without a number, wait
    /// until all have ended [default: 1]
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, require_equals = true)]
    pub wait: Option<Option<u64>>,
    /// Table sizes, for tests: processes, images, modules, bytes of paths, of command lines, and perhaps contexts
    #[arg(long, value_name = "N,...", hide = true)]
    pub tables: Option<Tables>,
}

/// Bounds of the tables.
#[derive(Clone, Copy, Debug)]
pub struct Tables(Bounds);

impl FromStr for Tables {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let numbers: Result<Vec<u32>, _> = text.split(',').map(str::parse).collect();
        let mut numbers = numbers.map_err(|error| error.to_string())?;
        if numbers.len() == 5 {
            numbers.push(Bounds::ALL.contexts);
        }
        match numbers.as_slice() {
            &[processes, images, loaded, paths, lines, contexts] => Ok(Self(Bounds {
                processes,
                images,
                loaded,
                path_bytes: paths.into(),
                line_bytes: lines.into(),
                contexts,
            })),
            _ => Err("give five or six numbers".to_owned()),
        }
    }
}

/// A program that was run to its end, and its trace.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// How the program ended.
    pub outcome: Outcome,
    totals: Totals,
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

/// Runs `command`, which is shown as `typed`, and writes the trace file `output`. `directory` is what the paths
/// in reports are relative to. Of the `programs` all is in the report, although none of them may have run.
///
/// # Errors
/// The program cannot be started, or the trace cannot be written.
pub fn record(
    command: &mut Command,
    typed: Vec<OsString>,
    what: What,
    output: &Path,
    directory: PathBuf,
    programs: &[PathBuf],
) -> Result<Recorded, Error> {
    let work = Work {
        typed: Some(typed),
        ..Work::default()
    };
    record_work(command, &work, what, output, directory, programs)
}

/// How a program's work is named.
#[derive(Clone, Debug, Default)]
pub struct Work {
    /// All that is in no other context is in one of this name.
    pub context: Option<OsString>,
    /// What is shown as the command line, if it is another one.
    pub typed: Option<Vec<OsString>>,
    /// The program is run for each of these.
    pub inputs: Option<Vec<OsString>>,
}

/// [`record`], where the work has names.
///
/// # Errors
/// Those of [`record`].
pub fn record_work(
    command: &mut Command,
    work: &Work,
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
    info.command = work.typed.clone().unwrap_or_else(|| each::shown(command));
    info.directory = directory;
    let mut writer = Writer::create(output, &info).map_err(|source| match output.parent() {
        Some(folder) if source.kind() == io::ErrorKind::NotFound && !folder.exists() => {
            Error::NoFolder(folder.to_owned())
        }
        _ => failed(source),
    })?;

    let buffer_words = what.buffer_words.unwrap_or(what.mode.buffer_words());
    let mut options = Options::new(what.mode.recording(), buffer_words);
    if let Some(Tables(bounds)) = what.tables {
        options.bounds = bounds;
    }
    let mut collector = Collector::new(options).map_err(Error::Memory)?;
    collector.lend();
    let (name, value) = collector.environment();
    command.env(name, value);
    let named = match &work.context {
        Some(name) => collector
            .name_context(ContextKind::User.raw(), name.as_bytes())
            .map_err(Error::Memory)?,
        None => None,
    };
    if let Some(context) = named {
        collector.put_all_into(context);
    }
    let collector = RefCell::new(collector);
    let all = |run: &mut program::RunOne<'_>| match &work.inputs {
        Some(inputs) => each::run_all(command, inputs, &collector, run),
        None => run(command),
    };
    let mut server = Server::new(output);
    let mut tick = |collector: &mut Collector| {
        // A disk that is full may have room again the next time. It says nothing to the program's
        // user, in the middle of the program's output; nothing is lost by it.
        let _ = collector.relieve();
        server.tick(|to| write_snapshot(collector, &info, what.per_test, to));
    };
    let ended = program::run_all_apart(all, || tick(&mut collector.borrow_mut()))
        .map_err(|source| not_run(command.get_program(), source))?;
    let mut collector = collector.into_inner();
    let patience = match what.wait {
        None => Some(PATIENCE),
        Some(seconds) => seconds.map(Duration::from_secs),
    };
    let running = wait_for_all(&mut collector, patience, tick);
    collector.close();
    if let Some(context) = named {
        collector.end_context(context);
    }

    let lost = |source| Error::Lost {
        path: output.to_owned(),
        outcome: ended.1,
        source,
    };
    let until = Until::End {
        ended,
        running: &running,
    };
    let totals = collect::write(&collector, &mut writer, until, what.per_test).map_err(lost)?;
    for path in programs {
        collect::write_program(path, &mut writer).map_err(lost)?;
    }
    writer.save().map_err(lost)?;
    server.saved();
    Ok(Recorded {
        outcome: ended.1,
        totals,
    })
}

/// Writes what was recorded until now, for a report while the program runs.
fn write_snapshot(collector: &Collector, info: &Info, per_test: bool, to: &File) -> io::Result<()> {
    let mut info = info.clone();
    if info.mode == trace::Mode::Trace {
        // A report of lines needs each PC once.
        info.mode = trace::Mode::Unique;
    }
    let mut writer = Writer::new(BufWriter::new(to), &info)?;
    collect::write(collector, &mut writer, Until::Now, per_test)?;
    writer.finish().map(drop)
}

/// Why a program cannot be run, and what may be meant.
fn not_run(program: &OsStr, source: io::Error) -> Error {
    let name = program.as_bytes();
    let hint = if source.kind() != io::ErrorKind::NotFound {
        None
    } else if !name.contains(&b'/') && Path::new(program).is_file() {
        Some(format!("did you mean ./{}?", program.display()))
    } else if name.iter().any(|byte| b" |&;<>$".contains(byte)) {
        Some("a shell runs command lines: rkcov run -- sh -c 'COMMANDS'".to_owned())
    } else {
        None
    };
    let program = program.to_owned();
    match hint {
        Some(hint) => Error::NoProgram { program, hint },
        None => Error::Program { program, source },
    }
}

/// How long processes are waited for that the program leaves behind, if nobody says otherwise: most
/// are about to end.
const PATIENCE: Duration = Duration::from_secs(1);

/// Waits until all processes that record have ended, for `patience` if that is said; gives those that
/// have not.
fn wait_for_all(
    collector: &mut Collector,
    patience: Option<Duration>,
    mut tick: impl FnMut(&mut Collector),
) -> (Vec<Process>, usize) {
    let mut running = Default::default();
    program::wait_until(patience, || {
        tick(collector);
        running = collector.running();
        let (known, others) = &running;
        known.is_empty() && *others == 0
    });
    running
}

impl Recorded {
    /// Whether there is anything in the trace.
    #[must_use]
    pub fn found(&self) -> Found {
        match (self.totals.threads, self.totals.processes) {
            (1.., _) => Found::Coverage,
            _ if self.lost(DropReason::Stranger) => Found::Strangers,
            (0, 0) if self.lost(DropReason::Refused) => Found::Refused,
            (0, 0) => Found::NoInstrumentation,
            (0, _) => Found::NothingRan,
        }
    }

    /// What was recorded into the file `output`, and what was lost: lines for a person.
    #[must_use]
    pub fn summary(&self, output: &Path) -> String {
        let totals = &self.totals;
        let mut text = String::new();
        let mut line = |args: std::fmt::Arguments<'_>| {
            let _ = writeln!(text, "rkcov: {args}");
        };
        line(format_args!(
            "{} from {} of {} in {}",
            count(totals.records, "record", "records"),
            count(totals.threads as u64, "thread", "threads"),
            count(totals.processes as u64, "process", "processes"),
            output.display(),
        ));
        if let Some(tests) = totals.tests {
            line(format_args!(
                "of {}, each with what ran for it",
                count(tests as u64, "test", "tests"),
            ));
        }
        if totals.contexts > 0 {
            line(format_args!(
                "{}, each with what ran in it",
                count(totals.contexts as u64, "context", "contexts"),
            ));
        }
        if let Some(early) = ended_early(totals.ended_early as u64) {
            line(format_args!("{early}"));
        }
        if totals.dropped > 0 {
            line(format_args!(
                "{} lost: a thread's buffer was full; set a larger --buffer-words",
                count(totals.dropped, "record", "records")
            ));
        }
        for loss in &totals.losses {
            line(format_args!("{loss}"));
        }
        if totals.dropped > 0 || !totals.losses.is_empty() {
            line(format_args!(
                "reports show lines that may have run there as unknown (?)"
            ));
        }
        text
    }

    /// Whether nothing was recorded.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.totals.records == 0
    }

    fn lost(&self, reason: DropReason) -> bool {
        self.totals.losses.iter().any(|loss| loss.reason == reason)
    }
}

fn count(n: u64, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}
