// SPDX-License-Identifier: MIT OR Apache-2.0
//! `rkcov report`: what trace files say, for people and for tools.

use crate::error::{say, Chain, CLOSED_PIPE};
use crate::since::{self, Changes};
use clap::ValueEnum;
use rkcov::program::limits_are_errors;
use rkcov_report::coverage::{
    Coverage, MixedModes, Named, Selection, StreamSummary, Thread, UnknownThread, View,
};
use rkcov_report::image::{Problem, Search};
use rkcov_report::render::{self, Detail, PcOptions, Style, TextOptions};
use rkcov_report::sources::{Filter, Pattern};
use rkcov_report::trace::{OpenError, Trace, TraceFile};
use std::fmt;
use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;

/// Columns of a report that does not go to a terminal.
const WIDTH: usize = 100;

/// What a report looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A table of files, functions and lines, for people
    Text,
    /// An lcov tracefile, for genhtml and editors
    Lcov,
    /// All of it, for programs; docs/report.schema.json says what stands where
    Json,
    /// The bare PCs, one a line
    Pcs,
    /// Pages for a browser: a folder, or one file if PATH ends with .html
    Html,
    /// Cobertura's XML, for CI services
    Cobertura,
    /// DynamoRIO's drcov, for plugins of disassemblers
    Drcov,
    /// Annotations for a workflow of GitHub, and its summary if there is a GITHUB_STEP_SUMMARY
    Github,
    /// Sums and a table of files, in Markdown
    Markdown,
    /// A picture of the share of lines that ran, in SVG
    Badge,
}

impl Format {
    /// Whether people read it, in the midst of what else a command prints.
    #[must_use]
    pub const fn is_for_people(self) -> bool {
        matches!(self, Self::Text)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Color {
    Auto,
    Always,
    Never,
}

/// The arguments of `rkcov report`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Trace files, reported as one
    #[arg(required = true, value_name = "FILE")]
    pub(super) files: Vec<PathBuf>,
    /// What the report looks like
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
    /// Write the report to this file
    #[arg(short, long, value_name = "PATH")]
    pub(super) output: Option<PathBuf>,
    /// Read the whole part of a trace that is cut or damaged
    #[arg(long)]
    salvage: bool,

    /// Say of each file only how many of its lines and functions ran
    #[arg(long, conflicts_with_all = ["functions", "source", "full", "uncovered"])]
    summary_only: bool,
    /// Fail, with exit status 1, if fewer of the lines ran: of 100, with two decimals at most
    #[arg(long, value_name = "PERCENT", conflicts_with = "exclusive")]
    fail_under_lines: Option<Percent>,
    /// The same of the lines that --since shows
    #[arg(long, value_name = "PERCENT", requires = "since")]
    #[arg(conflicts_with_all = ["exclusive", "fail_under_lines"])]
    fail_under_patch: Option<Percent>,

    /// Show only sources that match: a path, its end, a folder, a glob; or re:REGEX
    #[arg(long, value_name = "PATTERN", help_heading = "Sources")]
    pub(super) filter: Vec<Pattern>,
    /// Do not show sources that match
    #[arg(long, value_name = "PATTERN", help_heading = "Sources")]
    pub(super) exclude: Vec<Pattern>,
    /// Show system headers, Rust's own libraries and crates of others, too
    #[arg(long, visible_alias = "include-deps", help_heading = "Sources")]
    pub(super) all_sources: bool,
    /// Sources below this folder are of the project, too, wherever it lies
    #[arg(long, value_name = "DIR", help_heading = "Sources")]
    pub(super) project: Vec<PathBuf>,
    /// Folders that debug information has instead of those in which the sources are.
    #[arg(skip)]
    pub(super) moved: Vec<(PathBuf, PathBuf)>,
    /// Show only lines that changed since this revision of git, in the folder where this is called
    #[arg(
        long,
        value_name = "REV",
        help_heading = "Sources",
        conflicts_with = "summary_only"
    )]
    since: Option<String>,
    /// Look for executables and libraries that have moved in this folder
    #[arg(long, value_name = "DIR", help_heading = "Sources")]
    binaries: Vec<PathBuf>,
    /// Look for separate debug information in this folder, too
    #[arg(long, value_name = "DIR", help_heading = "Sources")]
    debug_dir: Vec<PathBuf>,

    /// Show what these threads ran: main, workers, a thread's id or name
    #[arg(long, value_name = "THREAD", help_heading = "Threads")]
    thread: Vec<Thread>,
    /// Show only what ran on no other thread
    #[arg(long, help_heading = "Threads")]
    exclusive: bool,
    /// One report for each thread (text and lcov)
    #[arg(long, help_heading = "Threads")]
    by_thread: bool,

    /// List the functions of each file
    #[arg(long, help_heading = "Text")]
    functions: bool,
    /// Print the lines with their text
    #[arg(long, help_heading = "Text")]
    source: bool,
    /// Print all line numbers, however many
    #[arg(long, help_heading = "Text")]
    full: bool,
    /// Print the lines that did not run instead of those that did
    #[arg(long, alias = "show-missing-lines", help_heading = "Text")]
    uncovered: bool,
    /// Colour; auto is colour on a terminal unless NO_COLOR is set
    #[arg(
        long,
        value_enum,
        value_name = "WHEN",
        default_value = "auto",
        help_heading = "Text"
    )]
    color: Color,
    /// PCs as they were recorded: in order, however often
    #[arg(long, help_heading = "PCs")]
    raw: bool,
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
    /// A thread that is not there.
    #[error(transparent)]
    Thread(#[from] UnknownThread),
    /// Fewer lines ran than should have.
    #[error("{ran} of {known} lines ran, {share}: --fail-under-lines asks for {least}")]
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
        why: &'static str,
    },
    /// Files that ran are not there.
    #[error(
        "the report is not whole: {} of what ran {} not there any more, see above",
        if *count == 1 { "1 file".to_owned() } else { format!("{count} files") },
        if *count == 1 { "is" } else { "are" }
    )]
    Absent {
        /// How many.
        count: usize,
    },
    /// What changed cannot be told.
    #[error(transparent)]
    Since(#[from] since::Error),
    /// The pages show whole files.
    #[error("--since is not for --format html, which shows whole files")]
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

/// Writes the report.
///
/// # Errors
/// A trace cannot be read, or the report cannot be written.
pub fn run(args: &Args) -> Result<ExitCode, Error> {
    let files = args
        .files
        .iter()
        .map(TraceFile::open)
        .collect::<Result<Vec<_>, _>>()?;
    let names: Vec<String> = files
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
    let named: Vec<Named<'_>> = names
        .iter()
        .zip(&traces)
        .map(|(name, trace)| Named { name, trace })
        .collect();

    if let Some(folder) = folder(args) {
        limits_are_errors();
        let report = report(args, &named, &Look::of(args, None), To::Folder(&folder))?;
        let page = folder.join("index.html");
        report.written.map_err(|source| Error::Write {
            path: folder,
            source,
        })?;
        warn(&page.display());
        report.judged?;
        return Ok(ExitCode::SUCCESS);
    }
    match &args.output {
        Some(path) => {
            let failed = |source| Error::Write {
                path: path.clone(),
                source,
            };
            limits_are_errors();
            let file = File::create(path).map_err(failed)?;
            let mut to = BufWriter::new(file);
            let look = Look::of(args, None);
            let report = report(args, &named, &look, To::Stream(&mut to))?;
            report.written.map_err(failed)?;
            to.flush().map_err(failed)?;
            report.judged?;
        }
        None => {
            let out = io::stdout();
            let look = Look::of(args, Some(&out));
            let mut to = BufWriter::new(out.lock());
            let report = report(args, &named, &look, To::Stream(&mut to))?;
            match report.written.and_then(|()| to.flush()) {
                Ok(()) => report.judged?,
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
    Ok(ExitCode::SUCCESS)
}

/// How wide and how coloured.
struct Look {
    width: usize,
    style: Style,
}

impl Look {
    /// `out` is where the report goes, unless that is a file.
    fn of(args: &Args, out: Option<&io::Stdout>) -> Self {
        let terminal = out.is_some_and(IsTerminal::is_terminal);
        let colour = match args.color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => {
                let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
                terminal
                    && set("NO_COLOR").is_none()
                    && set("TERM").is_some_and(|term| term != "dumb")
            }
        };
        let size = out
            .filter(|_| terminal)
            .and_then(terminal_size::terminal_size_of);
        Self {
            width: size.map_or(WIDTH, |(columns, _)| usize::from(columns.0)),
            style: Style { colour },
        }
    }
}

/// Where a report goes.
enum To<'a> {
    Stream(&'a mut dyn Write),
    Folder(&'a Path),
}

/// The folder that the report is, if it is one.
fn folder(args: &Args) -> Option<PathBuf> {
    if args.format != Format::Html {
        return None;
    }
    let is_page = |path: &Path| {
        let end = path.extension();
        end.is_some_and(|end| end.eq_ignore_ascii_case("html") || end.eq_ignore_ascii_case("htm"))
    };
    match &args.output {
        // A device or a pipe takes one file.
        Some(path) if is_page(path) || path.exists() && !path.is_dir() => None,
        Some(path) => Some(path.clone()),
        None => Some(PathBuf::from("rkcov-html")),
    }
}

/// What became of a report.
struct Report {
    written: io::Result<()>,
    /// What `--fail-under-lines` makes of it.
    judged: Result<(), Error>,
}

/// Writes the report to `to`.
fn report(args: &Args, traces: &[Named<'_>], look: &Look, to: To<'_>) -> Result<Report, Error> {
    let (to, folder): (&mut dyn Write, _) = match to {
        To::Stream(to) => (to, None),
        To::Folder(folder) => (&mut io::sink(), Some(folder)),
    };
    let mut search = Search::default();
    search.binaries.clone_from(&args.binaries);
    search.moved.clone_from(&args.moved);
    search
        .debug_dirs
        .splice(0..0, args.debug_dir.iter().cloned());
    if matches!(args.format, Format::Pcs | Format::Drcov) {
        let traces: Vec<&Trace<'_>> = traces.iter().map(|named| named.trace).collect();
        let options = PcOptions {
            threads: args.thread.clone(),
            exclusive: args.exclusive,
            raw: args.raw,
        };
        let written = match args.format {
            Format::Drcov => render::drcov(&traces, &options, &search, to),
            _ => render::pcs(&traces, &options, &search, to),
        };
        return Ok(Report {
            written,
            judged: match args.fail_under_lines {
                Some(least) => Err(Error::NotJudged {
                    least,
                    why: "PCs are not lines; use another format",
                }),
                None => Ok(()),
            },
        });
    }
    let changes = match (&args.since, args.format) {
        (Some(_), Format::Html) => return Err(Error::SinceHtml),
        (Some(rev), _) => Some(Changes::since(rev)?),
        (None, _) => None,
    };
    let coverage = Coverage::new(traces, &search)?;
    for problem in coverage.images.iter().flat_map(|image| &image.problems) {
        warn(problem);
    }
    let filter = Filter {
        only: args.filter.clone(),
        exclude: args.exclude.clone(),
        all: args.all_sources,
        project: coverage
            .runs
            .iter()
            .map(|run| run.info.directory.clone())
            .chain(args.project.iter().cloned())
            .collect(),
    };
    let selection = Selection::threads(&coverage, &args.thread, args.exclusive)?;
    let detail = if args.summary_only {
        Detail::Sums
    } else {
        Detail::Each
    };
    let options = TextOptions {
        width: look.width,
        style: look.style,
        detail,
        functions: args.functions,
        source: args.source,
        full: args.full,
        uncovered: args.uncovered,
    };
    let mut view = View::new(&coverage, selection, &filter);
    if let Some(changes) = &changes {
        changes.restrict(&mut view);
    }
    let threads: Vec<View<'_>> = if args.by_thread {
        view.by_thread(&filter)
    } else {
        Vec::new()
    };
    let written = match args.format {
        Format::Lcov if args.by_thread => {
            let mut threads = threads.iter();
            threads.try_for_each(|one| render::lcov(one, detail, to))
        }
        Format::Lcov => render::lcov(&view, detail, to),
        Format::Json => render::json(&view, detail, to),
        Format::Html => match folder {
            Some(folder) => render::html_folder(&view, &filter, folder),
            None => render::html(&view, &filter, to),
        },
        Format::Cobertura => render::cobertura(&view, detail, to),
        Format::Github => render::github(&view, to).and_then(|()| summary(&view)),
        Format::Markdown => render::markdown(&view, to),
        Format::Badge => render::badge(&view, to),
        Format::Text | Format::Pcs | Format::Drcov => render::text(&view, &threads, &options, to),
    };
    if changes.is_some() {
        let (ran, known) = (view.lines_ran(), view.lines_known());
        match Percent::of(ran, known) {
            Some(share) => warn(&format_args!("{ran} of {known} changed lines ran, {share}")),
            None => warn(&"no line with code changed"),
        }
    }
    warn_of_changes(&view);
    let absent = coverage.images.iter().filter(|image| {
        let mut problems = image.problems.iter();
        problems.any(Problem::is_absence)
    });
    let judged = match (
        absent.count(),
        args.fail_under_lines.or(args.fail_under_patch),
    ) {
        (0, None) => Ok(()),
        (0, Some(least)) => judge(&view, least),
        (count, _) => Err(Error::Absent { count }),
    };
    Ok(Report { written, judged })
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
        "{}{more} changed after what ran was built: lines may stand elsewhere now; build and \
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
    let not_judged = |why| Err(Error::NotJudged { least, why });
    if !view.is_complete() {
        return not_judged("what did not run is not known of all files");
    }
    let coverage = view.coverage;
    let lost = coverage
        .runs
        .iter()
        .any(|run| run.is_lossy() || !run.finished)
        || coverage.streams.iter().any(StreamSummary::is_lossy);
    if lost {
        return not_judged("records were lost, so what did not run is not known");
    }
    let (ran, known) = (view.lines_ran(), view.lines_known());
    match Percent::of(ran, known) {
        None => not_judged("there are no lines"),
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
    run(&Args {
        files: vec![trace.to_owned()],
        format,
        output,
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
        functions: false,
        source: false,
        full: false,
        uncovered: false,
        color: Color::Auto,
        raw: false,
    })
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
