// SPDX-License-Identifier: MIT OR Apache-2.0
//! `rkcov report`: what trace files say, for people and for tools.

use crate::config::{self, Choice};
use crate::error::{say, Chain, CLOSED_PIPE};
use crate::look::{Color, Look};
use crate::since::{self, Changes};
use clap::ValueEnum;
use rkcov::program::limits_are_errors;
use rkcov_report::contexts::{self, Contexts, Name};
use rkcov_report::coverage::{
    Coverage, MixedModes, Named, Selection, StreamSummary, Thread, UnknownThread, View,
};
use rkcov_report::image::{self, ElfError, Problem, Search};
use rkcov_report::place::NoPlace;
use rkcov_report::render::{self, Detail, PcOptions, TextOptions};
use rkcov_report::sources::{Filter, Pattern};
use rkcov_report::trace::{
    Incompatible, Info, Mode, Module, OpenError, Process, StreamInfo, Trace, TraceFile, Writer,
};
use std::fmt;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;

/// The format of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A table of files, functions and lines, for people
    Text,
    /// An lcov tracefile, for genhtml and editors
    Lcov,
    /// JSON for programs; docs/report.schema.json describes it
    Json,
    /// The PCs only, one per line, as PATH+0xOFFSET
    Pcs,
    /// Pages for a browser: a folder, or one file if PATH ends with .html
    Html,
    /// Cobertura XML, for CI services
    Cobertura,
    /// DynamoRIO's drcov format, for disassembler plugins
    Drcov,
    /// Annotations for a GitHub workflow, and its summary if GITHUB_STEP_SUMMARY is set
    Github,
    /// Totals and a table of files, in Markdown
    Markdown,
    /// An SVG badge with the line coverage
    Badge,
}

/// One of the reports that are asked for: `FORMAT` or `FORMAT=PATH`.
#[derive(Clone, Debug)]
struct Wanted {
    format: Format,
    path: Option<PathBuf>,
}

impl From<Format> for Wanted {
    fn from(format: Format) -> Self {
        Self { format, path: None }
    }
}

impl FromStr for Wanted {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (format, path) = match text.split_once('=') {
            Some((_, "")) => return Err("there is no path after the =".to_owned()),
            Some((format, path)) => (format, Some(path.into())),
            None => (text, None),
        };
        let all: Vec<String> = Format::value_variants()
            .iter()
            .filter_map(ValueEnum::to_possible_value)
            .map(|value| value.get_name().to_owned())
            .collect();
        let format = Format::from_str(format, false)
            .map_err(|_| format!("the formats are {}", all.join(", ")))?;
        Ok(Self { format, path })
    }
}

/// Another name for a folder: `FROM=TO`.
#[derive(Clone, Debug)]
pub(crate) struct Remap {
    from: PathBuf,
    to: PathBuf,
}

impl FromStr for Remap {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('=') {
            Some((from, to)) if !from.is_empty() && !to.is_empty() => Ok(Self {
                from: from.into(),
                to: to.into(),
            }),
            _ => Err("give two folders, as FROM=TO"),
        }
    }
}

impl Format {
    /// Whether it is of what was recorded, not of lines.
    const fn is_of_pcs(self) -> bool {
        matches!(self, Self::Pcs | Self::Drcov)
    }

    /// Whether people read it, in the midst of what else a command prints.
    #[must_use]
    pub const fn is_for_people(self) -> bool {
        matches!(self, Self::Text)
    }
}

/// The arguments of `rkcov report`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Trace files; several give one report
    #[arg(required_unless_present = "pcs", value_name = "FILE")]
    pub(super) files: Vec<PathBuf>,
    /// The report's format: text, a table for people; lcov, a tracefile for genhtml and editors; json,
    /// everything, for programs (docs/report.schema.json); pcs, the PCs only, one per line, as
    /// PATH+0xOFFSET; html, pages for a browser: a folder, or one file if PATH ends with .html;
    /// cobertura, XML for CI services; drcov, for disassembler plugins; github, annotations for a GitHub
    /// workflow, and its summary if GITHUB_STEP_SUMMARY is set; markdown, totals and a table of files;
    /// badge, an SVG badge with the line coverage. With PATH, the report is written to PATH. May be
    /// repeated [default: text]
    #[arg(long, value_name = "FORMAT[=PATH]")]
    format: Vec<Wanted>,
    /// Write the report to this file; for the format without its own PATH
    #[arg(short, long, value_name = "PATH")]
    pub(super) output: Option<PathBuf>,
    /// Report a list of PCs instead of a trace: return addresses as kcov records them, in hexadecimal,
    /// separated by white space or commas
    #[arg(
        long,
        value_name = "LIST",
        conflicts_with = "files",
        requires = "image"
    )]
    pcs: Option<PathBuf>,
    /// The program or vmlinux that contains the PCs of --pcs
    #[arg(long, value_name = "ELF", requires = "pcs")]
    image: Option<PathBuf>,
    /// For --pcs: the image's load address minus its address in the file, in hexadecimal
    #[arg(long, value_name = "HEX", requires = "pcs", value_parser = hexadecimal)]
    load_offset: Option<u64>,
    /// Succeed even if a program or a library that ran is missing or was rebuilt
    #[arg(long)]
    pub(super) allow_missing: bool,
    /// Report the valid part of a truncated or damaged trace
    #[arg(long)]
    salvage: bool,

    /// For each file, print only how many of its lines and functions ran
    #[arg(long, conflicts_with_all = ["functions", "source", "full", "uncovered"])]
    summary_only: bool,
    /// Exit with status 1 if line coverage is below PERCENT: 0 to 100, at most two decimals
    #[arg(long, value_name = "PERCENT", conflicts_with = "exclusive")]
    fail_under_lines: Option<Percent>,
    /// The same for the lines that --since shows
    #[arg(long, value_name = "PERCENT", requires = "since")]
    #[arg(conflicts_with_all = ["exclusive", "fail_under_lines"])]
    fail_under_patch: Option<Percent>,

    /// Show only sources that match: a path, the end of a path, a folder, a glob, or re:REGEX
    #[arg(long, value_name = "PATTERN", help_heading = "Sources")]
    pub(super) filter: Vec<Pattern>,
    /// Do not show sources that match
    #[arg(long, value_name = "PATTERN", help_heading = "Sources")]
    pub(super) exclude: Vec<Pattern>,
    /// Also show system headers, Rust's standard libraries and other crates
    #[arg(long, visible_alias = "include-deps", help_heading = "Sources")]
    pub(super) all_sources: bool,
    /// Replace the folder FROM by TO in source paths, for example after a run in a container
    #[arg(long, value_name = "FROM=TO", help_heading = "Sources")]
    remap: Vec<Remap>,
    /// Treat sources below this folder as part of the project, too
    #[arg(long, value_name = "DIR", help_heading = "Sources")]
    pub(super) project: Vec<PathBuf>,
    /// Also count lines that marks in the sources exclude: LCOV_EXCL_LINE, LCOV_EXCL_START and
    /// LCOV_EXCL_STOP, the same with GCOV, GCOVR or GRCOV, and #[coverage(off)]
    #[arg(long, help_heading = "Sources")]
    no_exclusions: bool,
    /// Folders that debug information has instead of those in which the sources are.
    #[arg(skip)]
    pub(super) moved: Vec<(PathBuf, PathBuf)>,
    /// Show only lines that changed since this git revision, in the current folder
    #[arg(
        long,
        value_name = "REV",
        help_heading = "Sources",
        conflicts_with = "summary_only"
    )]
    since: Option<String>,
    /// Search this folder for executables and libraries that were moved
    #[arg(long, value_name = "DIR", help_heading = "Sources")]
    binaries: Vec<PathBuf>,
    /// Also search this folder for separate debug information
    #[arg(long, value_name = "DIR", help_heading = "Sources")]
    debug_dir: Vec<PathBuf>,

    /// Show only the code that these threads ran: main, workers, a thread's id or name
    #[arg(long, value_name = "THREAD", help_heading = "Threads")]
    thread: Vec<Thread>,
    /// Show only code that no other threads ran; needs --thread or --by-thread
    #[arg(long, help_heading = "Threads")]
    exclusive: bool,
    /// Write one report for each thread (text and lcov)
    #[arg(long, help_heading = "Threads")]
    by_thread: bool,
    #[command(flatten)]
    contexts: Contextual,

    /// List the functions of each file
    #[arg(long, help_heading = "Text")]
    functions: bool,
    /// Print the source text of the lines
    #[arg(long, help_heading = "Text")]
    source: bool,
    /// Print all line numbers, even if there are many
    #[arg(long, help_heading = "Text")]
    full: bool,
    /// Print uncovered lines instead of covered ones
    #[arg(long, alias = "show-missing-lines", help_heading = "Text")]
    uncovered: bool,
    /// When to use colours; auto: on a terminal, unless NO_COLOR is set
    #[arg(
        long,
        value_enum,
        value_name = "WHEN",
        default_value = "auto",
        help_heading = "Text"
    )]
    color: Color,
    /// Print PCs as they were recorded: memory addresses, in order, with repetitions
    #[arg(long, help_heading = "PCs")]
    raw: bool,
    #[command(flatten)]
    choice: Choice,
    /// The threshold is the configuration's.
    #[arg(skip)]
    configured: bool,
}

/// Which contexts a report is about.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Contexts")]
struct Contextual {
    /// Show what these contexts ran, such as tests: a name, one with * for any characters, or re:REGEX
    #[arg(long, value_name = "NAME", conflicts_with_all = ["thread", "by_thread", "exclusive"])]
    context: Vec<Name>,
    /// Show what only these contexts ran
    #[arg(long, value_name = "NAME", conflicts_with_all = ["context", "thread", "by_thread", "exclusive"])]
    only: Vec<Name>,
    /// A row for each context (text and json), or a part for each with its name (lcov)
    #[arg(long, value_enum, value_name = "WHAT", conflicts_with_all = ["context", "only", "thread", "by_thread"])]
    by: Option<By>,
}

/// What a report has a row for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum By {
    /// Each context
    Context,
}

impl Contextual {
    /// Whether they leave out some contexts.
    fn chooses(&self) -> bool {
        !self.context.is_empty() || !self.only.is_empty()
    }

    /// The streams that a report is about, if these options choose any.
    fn selection(&self, coverage: &Coverage) -> Result<Option<Selection>, contexts::Error> {
        let (names, only) = match (&self.context[..], &self.only[..]) {
            ([], []) => return Ok(None),
            (names, []) => (names, false),
            (_, names) => (names, true),
        };
        Contexts::selection(coverage, names, only).map(Some)
    }
}

/// A part of a hundred, in hundredths: as exact as it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Percent(u32);

impl Percent {
    const ALL: Self = Self(10_000);

    /// Rounded down: only all is 100. `None` if there is nothing that it could be a part of.
    fn of(part: usize, whole: usize) -> Option<Self> {
        let whole = u128::try_from(whole).ok().filter(|whole| *whole > 0)?;
        let hundredths = part as u128 * u128::from(Self::ALL.0) / whole;
        u32::try_from(hundredths).ok().map(Self)
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0 / 100, self.0 % 100) {
            (whole, 0) => write!(f, "{whole} %"),
            (whole, hundredths) => write!(f, "{whole}.{hundredths:02} %"),
        }
    }
}

impl FromStr for Percent {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (whole, decimals) = text.split_once('.').unwrap_or((text, "0"));
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let number = || {
            let scale = [10, 1].get(decimals.len() - 1)?;
            let hundredths = decimals.parse::<u32>().ok()? * scale;
            whole
                .parse::<u32>()
                .ok()?
                .checked_mul(100)?
                .checked_add(hundredths)
        };
        (digits(whole) && digits(decimals))
            .then(number)
            .flatten()
            .map(Self)
            .filter(|percent| *percent <= Self::ALL)
            .ok_or("a number from 0 to 100, with two decimals at most")
    }
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A trace that cannot be read.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Traces that do not go together.
    #[error(transparent)]
    Mixed(#[from] MixedModes),
    /// The traces have no contexts, or none of that name.
    #[error(transparent)]
    Contexts(#[from] contexts::Error),
    /// Traces that cannot be one.
    #[error(transparent)]
    Merge(Incompatible),
    /// There is no place of that name.
    #[error(transparent)]
    Place(#[from] NoPlace),
    /// There are no rows in such a report.
    #[error("--by context is for --format text, json and lcov")]
    ByContext,
    /// A thread that is not there.
    #[error(transparent)]
    Thread(#[from] UnknownThread),
    /// Fewer lines ran than should have.
    #[error("{ran} of {known} lines ran, {share}: --fail-under-lines requires {least}")]
    TooFew {
        /// Lines that ran.
        ran: usize,
        /// Lines that ran, and those that did not.
        known: usize,
        /// Those that ran, of a hundred.
        share: Percent,
        /// Those that should have.
        least: Percent,
    },
    /// Whether enough lines ran cannot be told.
    #[error("--fail-under-lines {least}: {why}")]
    NotJudged {
        /// How many should have.
        least: Percent,
        /// Why it cannot be told.
        why: String,
    },
    /// Several reports would go to one place.
    #[error("with several formats, all but one need a path, as in --format lcov=PATH")]
    OnePlace,
    /// There is no report that could go to the path.
    #[error("--output {}: all formats have a path already", .0.display())]
    NothingLeft(PathBuf),
    /// Nothing is exclusive to all threads.
    #[error("--exclusive needs --thread or --by-thread")]
    Exclusive,
    /// A list of PCs that is none.
    #[error("{}: {word:?} is not a hexadecimal number", path.display())]
    NoPc {
        /// The list.
        path: PathBuf,
        /// What stands there.
        word: String,
    },
    /// PCs that are not of the image.
    #[error(
        "none of the {pcs} PCs in {} is in the code of {}; say with --load-offset how far from \
         its addresses it lay", list.display(), image.display()
    )]
    OtherImage {
        /// The list.
        list: PathBuf,
        /// The image.
        image: PathBuf,
        /// How many there are.
        pcs: usize,
    },
    /// A file that cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The image of a list of PCs cannot be used.
    #[error("cannot use {}", path.display())]
    Image {
        /// The image.
        path: PathBuf,
        /// What is wrong with it.
        source: ElfError,
    },
    /// Files that ran are not there.
    #[error(
        "the report is incomplete: {} that ran {} missing, see above; --allow-missing accepts this",
        if *count == 1 { "1 file".to_owned() } else { format!("{count} files") },
        if *count == 1 { "is" } else { "are" }
    )]
    Absent {
        /// How many.
        count: usize,
    },
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] config::Error),
    /// What changed cannot be told.
    #[error(transparent)]
    Since(#[from] since::Error),
    /// The pages show whole files.
    #[error("--since does not work with --format html, which shows whole files")]
    SinceHtml,
    /// The report cannot be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// Where it should go.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

fn hexadecimal(text: &str) -> Result<u64, String> {
    let digits = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"));
    u64::from_str_radix(digits.unwrap_or(text), 16).map_err(|error| error.to_string())
}

/// A list of PCs as a trace of one thread that recorded them.
fn trace_of_list(list: &Path, image: &Path, offset: u64) -> Result<Vec<u8>, Error> {
    let read = |source| Error::Read {
        path: list.to_owned(),
        source,
    };
    let text = std::fs::read(list).map_err(read)?;
    let text = String::from_utf8_lossy(&text);
    let words = text.split(|c: char| c.is_whitespace() || c == ',');
    let pcs: Vec<u64> = words
        .filter(|word| !word.is_empty())
        .map(|word| {
            hexadecimal(word).map_err(|_| Error::NoPc {
                path: list.to_owned(),
                word: word.chars().take(40).collect(),
            })
        })
        .collect::<Result<_, _>>()?;
    let code = image::code_of(image).map_err(|source| Error::Image {
        path: image.to_owned(),
        source,
    })?;
    let moved = |address: u64| address.wrapping_add(offset);
    let text: Vec<Range<u64>> = code
        .text
        .iter()
        .map(|r| moved(r.start)..moved(r.end))
        .collect();
    let inside = |pc: &u64| text.iter().any(|range| range.contains(&pc.wrapping_sub(1)));
    if !pcs.is_empty() && !pcs.iter().any(inside) {
        return Err(Error::OtherImage {
            list: list.to_owned(),
            image: image.to_owned(),
            pcs: pcs.len(),
        });
    }
    let module = |process| Module {
        process: Some(process),
        path: std::path::absolute(image).unwrap_or_else(|_| image.to_owned()),
        build_id: code.build_id.clone(),
        bias: offset,
        range: text.iter().map(|r| r.start).min().unwrap_or(0)
            ..text.iter().map(|r| r.end).max().unwrap_or(0),
        text: text.clone(),
    };
    let written = || -> io::Result<Vec<u8>> {
        let mut writer = Writer::new(Vec::new(), &Info::new(Mode::Trace))?;
        let process = writer.process(&Process::default())?;
        writer.module(&module(process))?;
        let stream = StreamInfo {
            finished: true,
            main: true,
            count: pcs.len() as u64,
            ..StreamInfo::new(process)
        };
        writer.stream(&stream, pcs.iter().copied())?;
        writer.finish()
    };
    written().map_err(read)
}

impl Args {
    /// Completes them by what the configuration says. Options win over it. Its thresholds are for what it says
    /// itself: not for a part that options choose.
    fn complete(&mut self, config: config::Report) {
        let lines = |wanted: &Wanted| !wanted.format.is_of_pcs();
        let has_lines = self.format.is_empty() || self.format.iter().any(lines);
        let whole = has_lines
            && self.filter.is_empty()
            && self.exclude.is_empty()
            && self.thread.is_empty()
            && !self.exclusive
            && !self.contexts.chooses();
        if whole && self.fail_under_lines.or(self.fail_under_patch).is_none() {
            match self.since {
                None => self.fail_under_lines = config.fail_under_lines,
                Some(_) => self.fail_under_patch = config.fail_under_patch,
            }
            self.configured = true;
        }
        fn set<T>(option: &mut Vec<T>, config: Vec<T>) {
            if option.is_empty() {
                *option = config;
            }
        }
        set(&mut self.filter, config.filter);
        set(&mut self.exclude, config.exclude);
        set(&mut self.remap, config.remap);
        set(&mut self.project, config.project);
        set(&mut self.binaries, config.binaries);
        set(&mut self.debug_dir, config.debug_dir);
        self.all_sources |= config.all_sources;
        self.no_exclusions |= config.no_exclusions;
    }
}

/// Writes the reports, as the options say and, where they say nothing, the configuration.
///
/// # Errors
/// A trace cannot be read, or a report cannot be written.
pub fn run(args: &Args) -> Result<ExitCode, Error> {
    let mut args = args.clone();
    args.complete(args.choice.read()?.report);
    write(&args)
}

/// Writes the reports.
fn write(args: &Args) -> Result<ExitCode, Error> {
    if args.exclusive && args.thread.is_empty() && !args.by_thread {
        return Err(Error::Exclusive);
    }
    let wanted = places(args)?;
    if args.since.is_some() && wanted.iter().any(|one| one.format == Format::Html) {
        return Err(Error::SinceHtml);
    }
    let rows = |one: &Wanted| matches!(one.format, Format::Text | Format::Json | Format::Lcov);
    if args.contexts.by.is_some() && !wanted.iter().all(rows) {
        return Err(Error::ByContext);
    }
    let files = args
        .files
        .iter()
        .map(TraceFile::open)
        .collect::<Result<Vec<_>, _>>()?;
    let list = match (&args.pcs, &args.image) {
        (Some(list), Some(image)) => {
            let bytes = trace_of_list(list, image, args.load_offset.unwrap_or(0))?;
            Some((list.display().to_string(), bytes))
        }
        _ => None,
    };
    let mut names: Vec<String> = files
        .iter()
        .map(|f| f.path().display().to_string())
        .collect();
    let mut traces = Vec::new();
    for file in &files {
        traces.push(if args.salvage {
            let (trace, wrong) = file.salvage()?;
            if let Some(wrong) = wrong {
                warn(&Chain(&wrong));
            }
            trace
        } else {
            file.trace()?
        });
    }
    if let Some((name, bytes)) = &list {
        names.push(name.clone());
        traces.push(Trace::parse(bytes).map_err(|error| Error::Read {
            path: name.into(),
            source: io::Error::other(error),
        })?);
    }
    let named: Vec<Named<'_>> = names
        .iter()
        .zip(&traces)
        .map(|(name, trace)| Named { name, trace })
        .collect();
    let coverage = if wanted.iter().all(|wanted| wanted.format.is_of_pcs()) {
        None
    } else {
        Some(coverage(args, &named)?)
    };
    let reporter = Reporter::new(args, &named, coverage.as_ref())?;
    for Wanted { format, path } in &wanted {
        if let Some(folder) = folder(*format, path.as_deref()) {
            limits_are_errors();
            let page = folder.join("index.html");
            reporter
                .write_folder(&folder)
                .map_err(|source| Error::Write {
                    path: folder,
                    source,
                })?;
            warn(&page.display());
            continue;
        }
        match path {
            Some(path) => {
                let failed = |source| Error::Write {
                    path: path.clone(),
                    source,
                };
                limits_are_errors();
                let file = File::create(path).map_err(failed)?;
                let mut to = BufWriter::new(file);
                let look = Look::of(args.color, None);
                reporter.write(*format, &look, &mut to).map_err(failed)?;
                to.flush().map_err(failed)?;
            }
            None => {
                let out = io::stdout();
                let look = Look::of(args.color, Some(&out));
                let mut to = BufWriter::new(out.lock());
                let written = reporter.write(*format, &look, &mut to);
                match written.and_then(|()| to.flush()) {
                    Ok(()) => {}
                    // Whoever reads has seen enough.
                    Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                        return Ok(ExitCode::from(CLOSED_PIPE));
                    }
                    Err(source) => {
                        let path = "standard output".into();
                        return Err(Error::Write { path, source });
                    }
                }
            }
        }
    }
    reporter.judged()?;
    Ok(ExitCode::SUCCESS)
}

/// The reports that are wanted, and where each goes: at most one to standard output.
fn places(args: &Args) -> Result<Vec<Wanted>, Error> {
    let mut wanted = args.format.clone();
    if wanted.is_empty() {
        wanted.push(Format::Text.into());
    }
    let mut open = wanted.iter_mut().filter(|wanted| wanted.path.is_none());
    match (open.next(), open.next(), &args.output) {
        (_, Some(_), _) => return Err(Error::OnePlace),
        (Some(one), None, output) => one.path.clone_from(output),
        (None, None, Some(output)) => return Err(Error::NothingLeft(output.clone())),
        (None, None, None) => {}
    }
    Ok(wanted)
}

/// Where the files of modules may be.
fn search(args: &Args) -> Search {
    let mut search = Search::default();
    search.binaries.clone_from(&args.binaries);
    let named = args
        .remap
        .iter()
        .map(|remap| (remap.from.clone(), remap.to.clone()));
    search.moved.extend(named.chain(args.moved.iter().cloned()));
    search
        .debug_dirs
        .splice(0..0, args.debug_dir.iter().cloned());
    search
}

/// What the traces say of sources, under the names that the user gives them.
fn coverage(args: &Args, traces: &[Named<'_>]) -> Result<Coverage, Error> {
    let mut coverage = Coverage::new(traces, &search(args))?;
    for problem in coverage.images.iter().flat_map(|image| &image.problems) {
        warn(problem);
    }
    if !args.no_exclusions {
        coverage.exclude(&filter(args, &coverage));
    }
    for misplaced in &coverage.excluded.misplaced {
        warn(misplaced);
    }
    Ok(coverage)
}

/// Which sources are shown.
fn filter(args: &Args, coverage: &Coverage) -> Filter {
    let runs = coverage.runs.iter();
    let folders = runs.map(|run| run.info.directory.clone());
    Filter {
        only: args.filter.clone(),
        exclude: args.exclude.clone(),
        all: args.all_sources,
        project: folders.chain(args.project.iter().cloned()).collect(),
    }
}

/// The folder that a report is, if it is one.
fn folder(format: Format, path: Option<&Path>) -> Option<PathBuf> {
    if format != Format::Html {
        return None;
    }
    let is_page = |path: &Path| {
        let end = path.extension();
        end.is_some_and(|end| end.eq_ignore_ascii_case("html") || end.eq_ignore_ascii_case("htm"))
    };
    match path {
        // A device or a pipe takes one file.
        Some(path) if is_page(path) || path.exists() && !path.is_dir() => None,
        Some(path) => Some(path.to_owned()),
        None => Some(PathBuf::from("rkcov-html")),
    }
}

/// Writes reports of the same traces.
struct Reporter<'a> {
    args: &'a Args,
    traces: Vec<&'a Trace<'a>>,
    /// Nothing if only PCs are wanted.
    view: Option<View<'a>>,
    threads: Vec<View<'a>>,
    /// If there is to be a row for each.
    contexts: Option<Contexts<'a>>,
    filter: Filter,
}

impl<'a> Reporter<'a> {
    fn new(
        args: &'a Args,
        traces: &[Named<'a>],
        coverage: Option<&'a Coverage>,
    ) -> Result<Self, Error> {
        let mut reporter = Self {
            args,
            traces: traces.iter().map(|named| named.trace).collect(),
            view: None,
            threads: Vec::new(),
            contexts: None,
            filter: Filter::default(),
        };
        let Some(coverage) = coverage else {
            return Ok(reporter);
        };
        let filter = filter(args, coverage);
        let selection = match args.contexts.selection(coverage)? {
            Some(selection) => selection,
            None => Selection::threads(coverage, &args.thread, args.exclusive)?,
        };
        let mut view = View::new(coverage, selection, &filter);
        if let Some(rev) = &args.since {
            Changes::since(rev)?.restrict(&mut view);
        }
        if args.by_thread {
            reporter.threads = view.by_thread(&filter);
        }
        if args.contexts.by.is_some() {
            reporter.contexts = Some(Contexts::of(coverage, &filter)?);
        }
        reporter.view = Some(view);
        reporter.filter = filter;
        Ok(reporter)
    }

    fn write_folder(&self, folder: &Path) -> io::Result<()> {
        match &self.view {
            Some(view) => render::html_folder(view, &self.filter, folder),
            None => Ok(()),
        }
    }

    fn write(&self, format: Format, look: &Look, to: &mut dyn Write) -> io::Result<()> {
        let args = self.args;
        let detail = if args.summary_only {
            Detail::Sums
        } else {
            Detail::Each
        };
        let view = match &self.view {
            Some(view) if !format.is_of_pcs() => view,
            _ => {
                let options = PcOptions {
                    threads: args.thread.clone(),
                    exclusive: args.exclusive,
                    raw: args.raw,
                };
                let search = search(args);
                return match format {
                    Format::Drcov => render::drcov(&self.traces, &options, &search, to),
                    _ => render::pcs(&self.traces, &options, &search, to),
                };
            }
        };
        if let Some(contexts) = &self.contexts {
            return match format {
                Format::Lcov => render::lcov_by_context(view, contexts, &self.filter, detail, to),
                Format::Json => contexts.json(to),
                _ => contexts.text(to),
            };
        }
        match format {
            Format::Lcov if args.by_thread => {
                let mut threads = self.threads.iter();
                threads.try_for_each(|one| render::lcov(one, detail, to))
            }
            Format::Lcov => render::lcov(view, detail, to),
            Format::Json => render::json(view, detail, to),
            Format::Html => render::html(view, &self.filter, to),
            Format::Cobertura => render::cobertura(view, detail, to),
            Format::Github => render::github(view, to).and_then(|()| summary(view)),
            Format::Markdown => render::markdown(view, to),
            Format::Badge => render::badge(view, to),
            Format::Text | Format::Pcs | Format::Drcov => {
                let options = TextOptions {
                    width: look.width,
                    style: look.style,
                    detail,
                    functions: args.functions,
                    source: args.source,
                    full: args.full,
                    uncovered: args.uncovered,
                };
                render::text(view, &self.threads, &options, to)
            }
        }
    }

    /// What the user made a condition: enough lines, and that what ran is there.
    fn judged(&self) -> Result<(), Error> {
        let least = self.args.fail_under_lines.or(self.args.fail_under_patch);
        let Some(view) = &self.view else {
            return match least {
                Some(least) => Err(Error::NotJudged {
                    least,
                    why: "the format pcs has no lines; use another format".to_owned(),
                }),
                None => Ok(()),
            };
        };
        if self.args.since.is_some() {
            let (ran, all) = (view.lines_ran(), view.lines_all());
            match Percent::of(ran, all) {
                Some(share) => warn(&format_args!("{ran} of {all} changed lines ran, {share}")),
                None => warn(&"no changed line has code"),
            }
        }
        warn_of_changes(view);
        let absent = view.coverage.images.iter().filter(|image| {
            let mut problems = image.problems.iter();
            problems.any(Problem::is_absence)
        });
        let count = absent.count();
        if count > 0 && !self.args.allow_missing {
            return Err(Error::Absent { count });
        }
        match least {
            // One that is for all traces is for those that have such lines.
            Some(_) if self.args.configured && view.coverage.mode == Mode::Cmp => Ok(()),
            Some(least) => judge(view, least),
            None => Ok(()),
        }
    }
}

/// Says which sources were changed after they were compiled.
fn warn_of_changes(view: &View<'_>) {
    const NAMED: usize = 3;
    let changed = view.files.iter().filter(|file| {
        let source = view.coverage.file(file.path);
        source.is_some_and(|source| source.is_older_than(file.path))
    });
    let names: Vec<String> = changed
        .map(|file| file.path.display().to_string())
        .collect();
    let (named, more) = names.split_at(names.len().min(NAMED));
    if named.is_empty() {
        return;
    }
    let more = match more.len() {
        0 => String::new(),
        n => format!(" and {n} more"),
    };
    warn(&format_args!(
        "{}{more} changed after the program was built: line numbers may be wrong; rebuild and \
         record again",
        named.join(", ")
    ));
}

/// Adds to the summary of the workflow's step, if one is kept.
fn summary(view: &View<'_>) -> io::Result<()> {
    let Some(path) = std::env::var_os("GITHUB_STEP_SUMMARY").filter(|path| !path.is_empty()) else {
        return Ok(());
    };
    let file = File::options().append(true).create(true).open(path)?;
    let mut to = BufWriter::new(file);
    render::markdown(view, &mut to)?;
    to.flush()
}

/// Whether as many lines ran as should have.
fn judge(view: &View<'_>, least: Percent) -> Result<(), Error> {
    let not_judged = |why: String| Err(Error::NotJudged { least, why });
    if !view.is_complete() {
        return not_judged("uncovered lines cannot be determined for all files".to_owned());
    }
    let coverage = view.coverage;
    let losses = coverage.losses(&view.selection);
    let lost = !losses.is_empty()
        || coverage
            .runs
            .iter()
            .any(|run| run.is_lossy() || !run.finished)
        || coverage.streams.iter().any(StreamSummary::is_lossy);
    if lost {
        let why = losses
            .first()
            .map(|loss| format!(" ({loss})"))
            .unwrap_or_default();
        return not_judged(format!(
            "not all that ran was recorded{why}, so uncovered lines cannot be determined"
        ));
    }
    if coverage.mode == Mode::Cmp {
        return not_judged("a trace of comparisons has no uncovered lines".to_owned());
    }
    let (ran, known) = (view.lines_ran(), view.lines_all());
    match Percent::of(ran, known) {
        None => not_judged("there are no lines".to_owned()),
        Some(share) if share < least => Err(Error::TooFew {
            ran,
            known,
            share,
            least,
        }),
        Some(_) => Ok(()),
    }
}

fn warn(what: &dyn std::fmt::Display) {
    say(format_args!("rkcov: {what}"));
}

/// Reports one trace in the way that a user gets who says nothing more than a format.
///
/// # Errors
/// As [`run`].
pub fn plain(trace: &Path, format: Format, output: Option<PathBuf>) -> Result<ExitCode, Error> {
    let mut args = Args {
        files: vec![trace.to_owned()],
        format: vec![format.into()],
        output,
        pcs: None,
        image: None,
        load_offset: None,
        allow_missing: true,
        remap: Vec::new(),
        no_exclusions: false,
        salvage: false,
        summary_only: false,
        fail_under_lines: None,
        fail_under_patch: None,
        since: None,
        filter: Vec::new(),
        exclude: Vec::new(),
        all_sources: false,
        project: Vec::new(),
        moved: Vec::new(),
        binaries: Vec::new(),
        debug_dir: Vec::new(),
        thread: Vec::new(),
        exclusive: false,
        by_thread: false,
        contexts: Contextual::default(),
        functions: false,
        source: false,
        full: false,
        uncovered: false,
        color: Color::Auto,
        raw: false,
        choice: Choice::default(),
        configured: false,
    };
    args.complete(config::Report {
        // What a program did is not judged here.
        fail_under_lines: None,
        ..args.choice.read()?.report
    });
    write(&args)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages_are_as_exact_as_they_are_written() {
        for (text, hundredths) in [
            ("0", 0),
            ("80", 8000),
            ("33.3", 3330),
            ("33.03", 3303),
            ("100.00", 10_000),
        ] {
            assert_eq!(text.parse(), Ok(Percent(hundredths)), "{text}");
        }
        for text in [
            "",
            ".",
            "80.",
            ".5",
            "-1",
            "+1",
            "1e1",
            "100.01",
            "0.001",
            "80%",
            "4294967296",
        ] {
            assert!(text.parse::<Percent>().is_err(), "{text}");
        }
        let shown = [Percent(8000), Percent(3303)].map(|percent| percent.to_string());
        assert_eq!(shown, ["80 %", "33.03 %"]);
    }

    #[test]
    fn only_all_lines_are_a_hundred() {
        assert_eq!(Percent::of(333, 1000), "33.3".parse().ok());
        assert_eq!(Percent::of(99_999, 100_000), Some(Percent(9999)));
        assert_eq!(Percent::of(usize::MAX, usize::MAX), Some(Percent::ALL));
        assert_eq!(Percent::of(0, 0), None);
    }
}
