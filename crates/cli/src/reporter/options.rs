// SPDX-License-Identifier: MIT OR Apache-2.0
//! The options that decide what a report shows, for each command that reports.

use super::percent::Percent;
use super::Error;
use clap::ValueEnum;
use rkcov_report::contexts::{self, Contexts, Name};
use rkcov_report::coverage::{Coverage, Selection, Thread};
use rkcov_report::sources::Pattern;
use std::path::PathBuf;
use std::str::FromStr;

/// Options that every command that reports has.
#[derive(Debug, Default, clap::Args)]
pub struct Options {
    /// Succeed even if a program or a library that ran is missing or was rebuilt
    #[arg(long)]
    pub allow_missing: bool,
    /// For each file, print only how many of its lines and functions ran
    #[arg(long, conflicts_with_all = ["functions", "source", "full", "uncovered"])]
    pub summary_only: bool,
    /// Exit with status 1 if line coverage is below PERCENT: 0 to 100, at most two decimals
    #[arg(long, value_name = "PERCENT", conflicts_with = "exclusive")]
    pub fail_under_lines: Option<Percent>,
    /// The same for the lines that --since shows
    #[arg(long, value_name = "PERCENT", requires = "since")]
    #[arg(conflicts_with_all = ["exclusive", "fail_under_lines"])]
    pub fail_under_patch: Option<Percent>,
    /// Show only sources that match: a path, the end of a path, a folder, a glob, or re:REGEX
    #[arg(long, value_name = "PATTERN", help_heading = "Sources")]
    pub filter: Vec<Pattern>,
    /// Also show system headers, Rust's standard libraries and other crates
    #[arg(long, visible_alias = "include-deps", help_heading = "Sources")]
    pub all_sources: bool,
    /// Replace the folder FROM by TO in source paths, for example after a run in a container
    #[arg(long, value_name = "FROM=TO", help_heading = "Sources")]
    pub remap: Vec<Remap>,
    /// Also count lines that marks in the sources exclude: LCOV_EXCL_LINE, LCOV_EXCL_START and
    /// LCOV_EXCL_STOP, the same with GCOV, GCOVR or GRCOV, and #[coverage(off)]
    #[arg(long, help_heading = "Sources")]
    pub no_exclusions: bool,
    /// Show only lines that changed since this git revision, in the current folder
    #[arg(
        long,
        value_name = "REV",
        help_heading = "Sources",
        conflicts_with = "summary_only"
    )]
    pub since: Option<String>,
    /// Also search this folder for separate debug information
    #[arg(long, value_name = "DIR", help_heading = "Sources")]
    pub debug_dir: Vec<PathBuf>,
    /// Show only the code that these threads ran: main, workers, a thread's id or name
    #[arg(long, value_name = "THREAD", help_heading = "Threads")]
    pub thread: Vec<Thread>,
    /// Show only code that no other threads ran; needs --thread or --by-thread
    #[arg(long, help_heading = "Threads")]
    pub exclusive: bool,
    /// Write one report for each thread (text and lcov)
    #[arg(long, help_heading = "Threads")]
    pub by_thread: bool,
    /// Which contexts.
    #[command(flatten)]
    pub contexts: Contextual,
    /// List the functions of each file
    #[arg(long, help_heading = "Text")]
    pub functions: bool,
    /// Print the source text of the lines
    #[arg(long, help_heading = "Text")]
    pub source: bool,
    /// List all files, even if nothing in them ran or they do not fit the screen
    #[arg(long, help_heading = "Text")]
    pub all_files: bool,
    /// Print all line numbers, even if there are many
    #[arg(long, help_heading = "Text")]
    pub full: bool,
    /// Print uncovered lines instead of covered ones
    #[arg(long, alias = "show-missing-lines", help_heading = "Text")]
    pub uncovered: bool,
    /// Print PCs as they were recorded: memory addresses, in order, with repetitions
    #[arg(long, help_heading = "PCs")]
    pub raw: bool,
    /// Report all traces as one run of this name [default: a run for each trace, by its path]
    #[arg(long, value_name = "NAME", help_heading = "Parquet")]
    pub run_name: Option<String>,
}

/// Which contexts a report is about.
#[derive(Debug, Default, clap::Args)]
#[command(next_help_heading = "Contexts")]
pub struct Contextual {
    /// Show what these contexts ran, such as tests: a name, one with * for any characters, or re:REGEX;
    /// with --thread, what these threads ran in them
    #[arg(long, value_name = "NAME", conflicts_with = "exclusive")]
    context: Vec<Name>,
    /// Show what only these contexts ran
    #[arg(long, value_name = "NAME", conflicts_with_all = ["context", "thread", "by_thread", "exclusive"])]
    only: Vec<Name>,
    /// A row for each context (text and json), a part for each with its name (lcov, teamscale), or rows of
    /// what each ran (parquet)
    #[arg(long, value_enum, value_name = "WHAT", conflicts_with_all = ["context", "only", "thread", "by_thread"])]
    pub(super) by: Option<By>,
}

/// What a report has a row for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum By {
    /// Each context
    Context,
}

impl Contextual {
    /// Whether they leave out some contexts.
    pub(super) fn chooses(&self) -> bool {
        !self.context.is_empty() || !self.only.is_empty()
    }

    /// The streams that a report is about, if these options choose any.
    pub(super) fn selection(
        &self,
        coverage: &Coverage,
    ) -> Result<Option<Selection>, contexts::Error> {
        let (names, only) = match (&self.context[..], &self.only[..]) {
            ([], []) => return Ok(None),
            (names, []) => (names, false),
            (_, names) => (names, true),
        };
        Contexts::selection(coverage, names, only).map(Some)
    }
}

/// The streams that a report is about: those of some threads, those of some contexts, or of these threads in
/// these contexts.
pub(crate) fn together(
    coverage: &Coverage,
    contexts: Option<Selection>,
    threads: &[Thread],
    exclusive: bool,
) -> Result<Selection, Error> {
    let threads_alone = || Selection::threads(coverage, threads, exclusive);
    let Some(contexts) = contexts else {
        return Ok(threads_alone()?);
    };
    if threads.is_empty() {
        return Ok(contexts);
    }
    let of_threads = threads_alone()?.streams;
    let streams = contexts.streams.both(&of_threads);
    if streams.is_empty() {
        return Err(Error::NotTogether);
    }
    Ok(Selection {
        streams,
        ..contexts
    })
}

/// Another name for a folder: `FROM=TO`.
#[derive(Clone, Debug)]
pub struct Remap {
    pub(super) from: PathBuf,
    pub(super) to: PathBuf,
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
