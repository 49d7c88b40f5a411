// SPDX-License-Identifier: MIT OR Apache-2.0
//! Questions to traces with contexts: `rkcov tests`, `affected`, `minimize` and `similar`.

use super::traces::{print, with_coverage};
use crate::affected::{self, Answer};
use crate::cache;
use crate::error::say;
use crate::reporter;
use clap::ValueEnum;
use rkcov_report::contexts::{self, Contexts};
use rkcov_report::coverage::{completed, Coverage};
use rkcov_report::sources::{Filter, Pattern};
use std::path::PathBuf;
use std::process::ExitCode;

/// What an answer looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people
    Text,
    /// For programs
    Json,
}

/// How to ask and to answer.
#[derive(Clone, Debug, clap::Args)]
pub struct How {
    /// What the answer looks like
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "text")]
    format: Format,
    /// Count only sources that match: a path, its end, a folder, a glob; or re:REGEX
    #[arg(long, value_name = "PATTERN")]
    filter: Vec<Pattern>,
    /// Do not count sources that match
    #[arg(long, value_name = "PATTERN")]
    exclude: Vec<Pattern>,
    /// Look for executables and libraries that have moved in this folder
    #[arg(long, value_name = "DIR")]
    binaries: Vec<PathBuf>,
    /// Folders that debug information has instead of those in which the sources are.
    #[arg(skip)]
    pub(super) moved: Vec<(PathBuf, PathBuf)>,
}

impl How {
    /// Of sources that match one of `filter`, if there is any, and none of `exclude`.
    pub(super) fn new(format: Format, filter: Vec<Pattern>, exclude: Vec<Pattern>) -> Self {
        Self {
            format,
            filter,
            exclude,
            binaries: Vec::new(),
            moved: Vec::new(),
        }
    }
}

/// What may be asked.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Question {
    /// Say which tests, or other contexts, ran a line or a function
    Tests {
        /// FILE:LINE, a FILE (the end of its path is enough), or the end of a function's name
        #[arg(value_name = "PLACE")]
        place: String,
        /// Trace files, taken as one
        #[arg(required = true, value_name = "TRACE")]
        files: Vec<PathBuf>,
        /// How to answer.
        #[command(flatten)]
        how: How,
    },
    /// Say which tests a change concerns, as arguments for cargo test or nextest
    Affected {
        /// Trace files, taken as one, of the sources before the change
        #[arg(required = true, value_name = "TRACE")]
        files: Vec<PathBuf>,
        /// What changed.
        #[command(flatten)]
        change: Change,
        /// How to answer.
        #[command(flatten)]
        how: How,
    },
    /// Find few tests, or other contexts, that run together all that all run
    Minimize {
        /// Trace files, taken as one
        #[arg(required = true, value_name = "TRACE")]
        files: Vec<PathBuf>,
        /// How to answer.
        #[command(flatten)]
        how: How,
    },
    /// List tests, or other contexts, that run the same lines
    Similar {
        /// Trace files, taken as one
        #[arg(required = true, value_name = "TRACE")]
        files: Vec<PathBuf>,
        /// How to answer.
        #[command(flatten)]
        how: How,
    },
}

/// What changed.
#[derive(Clone, Debug, clap::Args)]
pub struct Change {
    /// What changed since this revision of git, of which the traces are, in the folder where this is called
    #[arg(long, value_name = "REV", default_value = "HEAD")]
    since: String,
    /// Instead, code anywhere in this source
    #[arg(long, value_name = "FILE", conflicts_with = "since")]
    changed: Vec<PathBuf>,
    /// For which program the arguments are
    #[arg(
        long = "for",
        value_enum,
        value_name = "PROGRAM",
        default_value = "test"
    )]
    runner: affected::Runner,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The traces cannot be read, or the answer cannot be written.
    #[error(transparent)]
    Report(#[from] reporter::Error),
    /// The question does not fit the traces.
    #[error(transparent)]
    Question(#[from] contexts::Error),
    /// What changed cannot be told.
    #[error(transparent)]
    Since(#[from] crate::since::Error),
}

impl Question {
    fn parts(&self) -> (&[PathBuf], &How) {
        match self {
            Self::Tests { files, how, .. }
            | Self::Affected { files, how, .. }
            | Self::Minimize { files, how }
            | Self::Similar { files, how } => (files, how),
        }
    }
}

/// Answers.
///
/// # Errors
/// The traces cannot be read or have no contexts, or there is no such place.
pub fn run(question: &Question) -> Result<ExitCode, Error> {
    let (files, how) = question.parts();
    let mut search = cache::search(&how.binaries);
    search.moved.clone_from(&how.moved);
    with_coverage(files, &search, |coverage, _| {
        // What is missing was said; that no line is known follows from it.
        if coverage.nothing_remains() {
            return Ok(ExitCode::FAILURE);
        }
        answer(question, how, &coverage)
    })
}

/// Answers from what the traces say.
fn answer(question: &Question, how: &How, coverage: &Coverage) -> Result<ExitCode, Error> {
    let contexts = match question {
        Question::Tests { .. } | Question::Affected { .. } => Contexts::named(coverage)?,
        Question::Minimize { .. } | Question::Similar { .. } => {
            let filter = Filter {
                only: how.filter.clone(),
                exclude: how.exclude.clone(),
                ..Filter::default()
            };
            Contexts::of(coverage, &completed(filter, &[coverage]))?
        }
    };
    let printed = match question {
        Question::Tests { place, .. } => {
            let ran = contexts.ran(place)?;
            print(None, |to| match how.format {
                Format::Text => ran.text(to),
                Format::Json => ran.json(place, to),
            })
        }
        Question::Affected { change, .. } => {
            let changes = if change.changed.is_empty() {
                affected::since(&change.since)?
            } else {
                affected::whole(&change.changed)
            };
            let answer = Answer::of(&changes, &contexts, coverage);
            if how.format == Format::Text {
                for why in &answer.why {
                    say(format_args!("rkcov: {why}"));
                }
            }
            let examples = answer.examples();
            if change.runner == affected::Runner::Nextest && examples > 0 {
                say(format_args!(
                    "rkcov: {examples} of the tests are in documentation, which nextest does not run: \
                     cargo test --doc"
                ));
            }
            print(None, |to| match how.format {
                Format::Text => writeln!(to, "{}", answer.arguments(change.runner)),
                Format::Json => answer.json(change.runner, to),
            })
        }
        Question::Minimize { .. } => print(None, |to| match how.format {
            Format::Text => contexts.minimized_text(to),
            Format::Json => contexts.minimized_json(to),
        }),
        Question::Similar { .. } => print(None, |to| match how.format {
            Format::Text => contexts.similar_text(to),
            Format::Json => contexts.similar_json(to),
        }),
    };
    Ok(printed?)
}
